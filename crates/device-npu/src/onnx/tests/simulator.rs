//! T3: Qualcomm's simulator of its NPU. It takes most of a second for a step of a tiny model, so texts are short.

use std::path::Path;

use troika_device::Outputs;

use super::*;
use crate::Group;
use crate::exec::onnxruntime::tests::found;
use crate::onnx::{Htp, Place};

const TINY: Shape = Shape {
    n_layer: 2,
    ..SMALL
};

fn qualcomm(htp: Htp, place: Place) -> Option<Onnx> {
    let runtime = onnxruntime::tests::runtime()?;
    let qnn = found(|libraries| libraries.qnn)?;
    Some(Onnx::qualcomm(runtime, &qnn, htp, place))
}

/// Names and lengths of a directory's files.
fn files(directory: &Path) -> Vec<(String, u64)> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    let mut files: Vec<_> = entries
        .map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            (name, entry.metadata().unwrap().len())
        })
        .collect();
    files.sort();
    files
}

/// Compiled to the chip's own form, opened from there, and nothing on the CPU.
fn compiles_and_runs(htp: Htp) {
    let Some(backend) = qualcomm(htp, Place::Simulator) else {
        return;
    };
    let weights = WeightFormat::Int4(Group::Of64);
    let device = Direct::new(backend, weights, 4);
    let file = small(TINY, DType::F32);
    let tokens = text(1, 7, TINY.n_vocab);
    let run = |device: &dyn Device| {
        let mut resident = load(device, &file, PAGE_TOKENS);
        let mut outputs = vec![step(&mut *resident, &tokens[..5], 0, Output::LastLogits)];
        for at in 5..tokens.len() {
            outputs.push(step(
                &mut *resident,
                &tokens[at..=at],
                at,
                Output::LastLogits,
            ));
        }
        outputs
    };
    let have = run(&device);
    let want = run(&Direct::new(Onnx::rten(), weights, 4));
    let rows = have.iter().zip(&want).map(|(have, want)| {
        let row = |outputs: &Outputs| outputs.logits.last().expect("it was asked for").to_vec();
        cosine(&row(have), &row(want))
    });
    let least = rows.fold(f64::INFINITY, f64::min);
    let directories = device.directories.lock().unwrap();
    let files = files(&directories[0].path().join("kept"));
    println!(
        "ran {} tokens on {}: cosine at least {least:.6}; {files:?}",
        tokens.len(),
        device.description()
    );
    assert!(least >= 0.999);
}

#[test]
fn t3_v73_compiles_and_runs() {
    compiles_and_runs(Htp::V73);
}

#[test]
fn t3_v81_compiles_and_runs() {
    compiles_and_runs(Htp::V81);
}

/// What the chip gets: one copy of the weights for both graphs. The simulator does not load it.
#[test]
fn t3_graphs_for_chips_share_their_weights() {
    let compiled = |place| -> Option<Vec<(String, u64)>> {
        let backend = qualcomm(Htp::V73, place)?;
        let options = CompileOptions {
            weights: WeightFormat::Int4(Group::Of64),
            n_ctx: PAGE_TOKENS,
            chunk: 4,
        };
        let directory = tempfile::tempdir().unwrap();
        let file = small(TINY, DType::F32);
        let mut goes_on = |_| ControlFlow::Continue(());
        backend
            .compile(&file, &options, directory.path(), &mut goes_on)
            .unwrap();
        if place == Place::Elsewhere {
            let opened = backend.open(&file, &options, directory.path());
            assert!(matches!(opened, Err(crate::Error::Absent(_))));
        }
        Some(files(directory.path()))
    };
    let Some(shared) = compiled(Place::Elsewhere) else {
        return;
    };
    let Some(apart) = compiled(Place::Simulator) else {
        return;
    };
    println!("ran the compiler: {shared:?} shared, {apart:?} apart");
    let bytes = |files: &[(String, u64)]| -> u64 { files.iter().map(|(_, len)| len).sum() };
    assert!(bytes(&shared) * 3 < bytes(&apart) * 2);
}
