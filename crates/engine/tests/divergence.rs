//! Divergence of whole models.

mod common;

use std::ops::ControlFlow;

use common::{cpu, stories};
use troika_base::{DType, KvType};
use troika_device::conformance::small_model;
use troika_device::{Device, LoadOptions, Resident};
use troika_engine::tokenizer::Tokenizer;
use troika_engine::{Divergence, Error, Predictions, Text, divergence};
use troika_gguf::ModelFile;

fn load_with(file: &ModelFile, device: &dyn Device, n_ctx: usize) -> Box<dyn Resident> {
    let loaded = device.load(file, LoadOptions::new(n_ctx), &mut |_| {
        ControlFlow::Continue(())
    });
    loaded.expect("loads")
}

fn load(file: &ModelFile, device: &dyn Device) -> Box<dyn Resident> {
    load_with(file, device, 512)
}

fn text() -> Text {
    let tokenizer = Tokenizer::from_metadata(stories().metadata());
    Text::calibration(&tokenizer.expect("has words"))
}

fn compare(reference: &mut dyn Resident, other: &mut dyn Resident) -> Result<Divergence, Error> {
    divergence(reference, other, &text(), &mut |_, _| {
        ControlFlow::Continue(())
    })
}

#[test]
fn a_model_does_not_diverge_from_itself() {
    let (mut one, mut other) = (load(&stories(), &cpu(1)), load(&stories(), &cpu(2)));
    let found = compare(&mut *one, &mut *other).expect("both run");
    assert!(found.kl_mean < 1e-9 && found.agreement == 1.0, "{found:?}");
    assert!((300..=512).contains(&found.tokens), "{found:?}");
}

#[test]
fn fewer_bits_diverge_more() {
    let mut reference = load(&stories(), &cpu(2));
    let mut last = 0.0;
    for format in [DType::Q6_K, DType::Q4_0] {
        let bytes = common::requantize::requantize(&stories(), format);
        let file = ModelFile::from_bytes("stories", bytes).expect("opens");
        let found = compare(&mut *reference, &mut *load(&file, &cpu(2))).expect("both run");
        assert!(
            found.kl_mean > last && found.kl_max >= found.kl_mean,
            "{format}: {found:?}"
        );
        assert!(found.agreement > 0.5, "{format}: {found:?}");
        last = found.kl_mean;
    }
    assert!(last > 1e-3, "{last} nats of four bits");
}

/// One tensor of the file with fewer bits, all others as they were.
#[test]
fn single_tensors_diverge_less_than_all() {
    let source = stories();
    let bytes = common::requantize::requantize(&source, DType::Q4_0);
    let rounded = ModelFile::from_bytes("rounded", bytes).expect("opens");
    let predictions = Predictions::of(&mut *load(&source, &cpu(2)), text()).expect("reads");
    let of = |file: &ModelFile| {
        let found = predictions.divergence_of(&mut *load(file, &cpu(2)));
        found.expect("runs").kl_mean
    };
    let (none, all) = (of(&source), of(&rounded));
    // As where both read side by side.
    let beside = compare(&mut *load(&source, &cpu(2)), &mut *load(&rounded, &cpu(2)));
    assert_eq!(all, beside.expect("both run").kl_mean);
    assert!(none < 1e-9, "{none}");
    for name in ["blk.0.ffn_down.weight", "blk.1.attn_v.weight"] {
        let mixed = source.with_tensor_of(&rounded, name).expect("both have it");
        let [have, want] = [&mixed, &rounded].map(|file| {
            let tensor = file.tensor(name).expect("is there");
            file.read_all(tensor).expect("is read")
        });
        assert_eq!(have, want);
        let one = of(&mixed);
        assert!(one > 1e-7 && one < all, "{name}: {one} of {all}");
    }
    assert!(source.with_tensor_of(&rounded, "nothing").is_none());
}

#[test]
fn a_cache_of_fewer_bits_diverges_more() {
    let mut reference = load(&stories(), &cpu(2));
    let compare_with = |reference: &mut dyn Resident, kv_type| {
        let options = LoadOptions::new(512).with_kv_type(kv_type);
        let mut progress = |_| ControlFlow::Continue(());
        let other = cpu(2).load(&stories(), options, &mut progress);
        compare(reference, &mut *other.expect("loads")).expect("both run")
    };
    let eight = compare_with(&mut *reference, KvType::Q8_0);
    let four = compare_with(&mut *reference, KvType::Q4_0);
    assert!((1e-9..1e-3).contains(&eight.kl_mean), "{eight:?}");
    assert!((eight.kl_mean..0.1).contains(&four.kl_mean), "{four:?}");
    assert!(
        eight.agreement > 0.98 && four.agreement > 0.8,
        "{eight:?} {four:?}"
    );
}

#[test]
fn a_short_context_compares_what_fits_and_it_can_be_broken_off() {
    let mut one = load_with(&stories(), &cpu(1), 128);
    let mut other = load(&stories(), &cpu(1));
    let found = compare(&mut *one, &mut *other).expect("both run");
    assert_eq!(found.tokens, 128);
    let broken = divergence(&mut *one, &mut *other, &text(), &mut |_, _| {
        ControlFlow::Break(())
    });
    assert_eq!(broken.expect("both run").tokens, 64);
    let nothing = divergence(&mut *one, &mut *other, &text().first(0), &mut |_, _| {
        ControlFlow::Continue(())
    });
    assert!(matches!(nothing, Err(Error::EmptyPrompt)));
}

#[test]
fn a_model_without_words_is_compared_on_numbers() {
    let file = small_model();
    let (mut one, mut other) = (load(&file, &cpu(1)), load(&file, &cpu(2)));
    let text = Text::without_words(one.spec().n_vocab);
    let mut told = 0;
    let found = divergence(&mut *one, &mut *other, &text, &mut |done, _| {
        told = done;
        ControlFlow::Continue(())
    });
    let found = found.expect("both run");
    assert!(found.kl_mean < 1e-6 && found.agreement == 1.0, "{found:?}");
    assert_eq!((found.tokens, told), (text.len(), text.len()));
    // More tokens than it has are no numbers of its.
    let wider = Text::without_words(one.spec().n_vocab + 1).first(1);
    let found = divergence(&mut *one, &mut *other, &wider, &mut |_, _| {
        ControlFlow::Continue(())
    });
    assert!(found.is_err(), "{found:?}");
}
