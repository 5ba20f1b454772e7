//! Products by cooperative matrices: they pass their test where the GPU has them, and wrong ones are found out.

#![expect(clippy::print_stdout, reason = "a test that skips says why")]

mod common;

use std::ops::ControlFlow;
use std::sync::Arc;

use common::gpu;
use troika_base::TokenId;
use troika_device::conformance::small_model;
use troika_device::{Batch, Device, LoadOptions, Output, Sequence};
use troika_device_gpu::matmul::Tuning;
use troika_device_gpu::matmul::coop::{Coop, Kind};
use troika_device_gpu::matmul::selftest::{Verdict, try_all, try_out};
use troika_device_gpu::matmul::tiles::{Cut, Sizes};
use troika_device_gpu::weights::Format;
use troika_device_gpu::{Gpu, Key, Offered, find};
use troika_engine::OpsDevice;

fn kind(gpu: &Gpu) -> Option<Kind> {
    let tile = Tuning::default_for(gpu.caps()).coop?;
    Kind::of(gpu, tile)
}

fn with_matrices() -> Option<(Arc<Gpu>, Kind)> {
    let gpu = gpu()?;
    let kind = kind(&gpu);
    if kind.is_none() {
        println!("skipped: this GPU has no cooperative matrices");
    }
    Some((gpu, kind?))
}

fn coop(format: Format, kind: Kind) -> Coop {
    Coop {
        format,
        kind,
        large: false,
        experts: false,
    }
}

#[test]
fn every_kernel_for_this_gpu_passes() {
    let Some((gpu, kind)) = with_matrices() else {
        return;
    };
    for coop in Coop::all() {
        // Of one format every form, of the others what is used most.
        let here = (coop.kind.size, coop.kind.subgroup) == (kind.size, kind.subgroup);
        if here && (coop.kind == kind || coop.format == Format::Q4_K) {
            let verdict = try_out(&gpu, coop);
            assert!(verdict.passed(), "{coop:?}: {verdict:?}");
        }
    }
}

#[test]
fn a_kernel_for_subgroups_of_another_size_is_found_out() {
    let Some((gpu, kind)) = with_matrices() else {
        return;
    };
    let kind = Kind {
        subgroup: kind.subgroup / 2,
        ..kind
    };
    // Half of its matrices have no subgroup then.
    let coop = Coop {
        large: true,
        ..coop(Format::Q8_0, kind)
    };
    let verdict = try_out(&gpu, coop);
    assert!(matches!(verdict, Verdict::Differs(_)), "{verdict:?}");
    assert!(!verdict.passed(), "{verdict:?}");
}

#[test]
fn a_kernel_that_does_not_compile_is_found_out_and_the_gpu_lives_on() {
    let Some(gpu) = gpu() else { return };
    if kind(&gpu).is_some() {
        return;
    }
    let verdict = try_out(&gpu, coop(Format::Q4_0, Kind::ALL[0]));
    assert!(matches!(verdict, Verdict::Fails(_)), "{verdict:?}");
    assert!(!verdict.passed());
    gpu.check().expect("nothing else happened");
}

#[test]
fn cooperative_kernels_are_chosen_where_they_pass_and_never_elsewhere() {
    let Some(gpu) = gpu() else { return };
    let tuning = Tuning::default_for(gpu.caps());
    let sizes = Sizes {
        n_list: 1,
        n_tok: 100,
        n_out: 100,
    };
    let choose = |tuning| Cut::choose(&gpu, tuning, Format::Q8_0, sizes, false).key;
    let has = kind(&gpu).is_some();
    assert_eq!(matches!(choose(&tuning), Key::Coop(_)), has);
    let without = Tuning {
        coop: None,
        ..tuning
    };
    assert!(matches!(choose(&without), Key::Registers(_)));
}

/// No prompt pays for a test: when a model is ready, its kernels are known.
#[test]
fn what_a_model_needs_is_tested_when_it_is_loaded() {
    let Some(found) = find().into_iter().next() else {
        return;
    };
    if with_matrices().is_none() {
        return;
    }
    // A GPU that nothing is known of yet.
    let offered = Arc::new(Offered::new("gpu0".to_owned(), found));
    let file = small_model();
    let device = OpsDevice::new("gpu0".to_owned(), String::new(), {
        let offered = Arc::clone(&offered);
        move |file: &_, _| Ok((offered.ops(file, None)?, None))
    });
    let options = LoadOptions::new(128);
    let loaded = device.load(&file, options, &mut |_| ControlFlow::Continue(()));
    let mut resident = loaded.expect("a good model");
    let gpu = offered.gpu().expect("it is open");
    let known = || {
        try_all(
            &gpu,
            &Tuning {
                coop: None,
                ..Tuning::of(&gpu)
            },
            &file,
        )
    };
    let before = known();
    assert!(before > 0);
    let tokens = [TokenId(1); 100];
    let sequence = Sequence {
        tokens: &tokens,
        position: 0,
        pages: &[0, 1, 2, 3],
        output: Output::LastLogits,
    };
    let batch = Batch {
        sequences: &[sequence],
    };
    resident.step(&batch).expect("a good batch");
    assert_eq!(known(), before);
}
