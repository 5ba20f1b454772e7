//! What goes wrong on a GPU is told, and harms nothing else.

mod common;

use std::ops::ControlFlow;

use troika_base::{Bytes, TokenId};
use troika_device::conformance::small_model;
use troika_device::{
    Batch, Device, Error, LoadOptions, Output, Outputs, Resident, Sequence, TensorPlace,
};
use troika_device_gpu::{Offered, Options, find};
use troika_engine::{load_on, probe};

/// A step of three tokens.
fn step(resident: &mut dyn Resident, output: Output) -> Result<Outputs, Error> {
    let tokens = [3, 1, 4].map(TokenId);
    let sequence = Sequence {
        tokens: &tokens,
        position: 0,
        pages: &[0],
        output,
    };
    resident.step(&Batch {
        sequences: &[sequence],
    })
}

fn load(gpu: &Offered, n_ctx: usize) -> Result<Box<dyn Resident>, Error> {
    let (file, options) = (small_model(), LoadOptions::new(n_ctx));
    load_on(gpu.ops(&file, None)?, &file, options, &mut |_| {
        ControlFlow::Continue(())
    })
}

fn first() -> Option<Offered> {
    common::gpu()?;
    let found = find().into_iter().next()?;
    Some(Offered::new("gpu0".to_owned(), found))
}

/// Whether it brings something back or not, the step that the GPU is lost in fails, and so does every one after it. Who
/// opens the GPU anew has a new one.
#[test]
fn a_lost_gpu_is_told_and_may_come_back() {
    let Some(gpu) = first() else { return };
    for output in [Output::LastLogits, Output::AllHidden, Output::Nothing] {
        let mut model = load(&gpu, 64).expect("there is room");
        let before = step(&mut *model, Output::LastLogits).expect("all is well");
        gpu.gpu().expect("is open").lose();
        for _ in 0..2 {
            let lost = step(&mut *model, output).expect_err("it is gone");
            assert!(
                matches!(&lost, Error::Failed { device, .. } if device == "gpu0"),
                "{output:?}: {lost}"
            );
        }
        let mut kv = vec![troika_device::f16::ZERO; model.kv_shape().token_values()];
        assert!(model.read_kv(&[0], 0..1, &mut kv).is_err());
        let mut again = load(&gpu, 64).expect("it is opened anew");
        let after = step(&mut *again, Output::LastLogits).expect("all is well again");
        assert_eq!(before, after);
    }
}

#[test]
fn no_room_is_told_as_such_and_harms_nothing() {
    let Some(gpu) = first() else { return };
    let mut model = load(&gpu, 64).expect("there is room");
    let before = step(&mut *model, Output::LastLogits).expect("all is well");
    let Err(error) = load(&gpu, 1 << 30) else {
        panic!("a cache of a trillion bytes");
    };
    let Error::OutOfMemory {
        need,
        purpose,
        advice,
        ..
    } = &error
    else {
        panic!("{error}");
    };
    assert!(
        need.0 > 1 << 30 && purpose.contains("gpu0") && advice.contains("--ctx"),
        "{error}"
    );
    assert_eq!(
        step(&mut *model, Output::LastLogits).expect("as before"),
        before
    );
}

/// Matrices that a kernel cannot see at once are multiplied window by window, to the same bits.
#[test]
fn a_small_binding_changes_nothing() {
    let Some(whole) = common::device() else {
        return;
    };
    let mut found = find().into_iter().next().expect("there is one");
    // Less than most of its matrices of 256 x 256 take, and enough for its activations.
    found.caps.binding = Bytes(48 << 10);
    let gpu = found
        .open("gpu0", Options { checked: true })
        .expect("opens");
    let narrow = common::device_of(gpu);
    assert_eq!(common::logits(&narrow), common::logits(&whole));
}

/// What is said beforehand of a model's size is what it takes when it is there.
#[test]
fn a_models_size_is_known_beforehand() {
    let Some(gpu) = first() else { return };
    let file = small_model();
    let spec = troika_engine::model_spec(&file).expect("a good model");
    let bytes = gpu
        .model_bytes(&file, &spec, 0)
        .expect("it is computed there");
    let model = load(&gpu, 64).expect("there is room");
    assert_eq!(bytes.whole(), model.weights_bytes().0);
    assert_eq!(bytes.layers.len(), spec.n_layer);
    let with_cache = gpu.model_bytes(&file, &spec, 3).expect("as above");
    let shape = model.kv_shape();
    assert_eq!(
        with_cache.whole() - bytes.whole(),
        3 * shape.page_bytes() as u64
    );
    assert_eq!(
        TensorPlace::of(&file, &file.tensors()[0]),
        TensorPlace::Input
    );
}

#[test]
fn an_offered_gpu_answers_the_known_question() {
    let Some(gpu) = first() else { return };
    assert!(gpu.description().contains(&gpu.found().name));
    if let Some(memory) = gpu.memory() {
        assert!(memory.total.0 > 0 && memory.free.is_none_or(|free| free <= memory.total));
    }
    let device = common::device_of(gpu.gpu().expect("opens"));
    probe(&device).unwrap_or_else(|error| panic!("{}: {error}", device.description()));
}
