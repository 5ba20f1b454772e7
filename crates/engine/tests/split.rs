//! Several devices that share a model's layers compute what one of them computes alone, to the bit.

mod common;

use std::ops::Range;
use std::sync::Arc;

use common::{greedy, load, stories};
use troika_base::TokenId;
use troika_device::conformance::{Tolerance, agree, check};
use troika_device::cpu::CpuOps;
use troika_device::{Device, Part, Split};
use troika_engine::{CpuDevice, OpsDevice, Session, model_spec};

/// The CPU as several parts, whose borders `cut` says for a model of so many layers.
fn split(cut: fn(usize) -> Vec<Range<usize>>) -> impl Device {
    let cpu = Arc::new(CpuDevice::batch_invariant(2));
    let open = move |file: &_, _| {
        let ops = || CpuOps::new(cpu.kernels(), Arc::clone(cpu.pool()));
        let layers = cut(model_spec(file)?.n_layer);
        let parts = layers.into_iter().map(|layers| Part::new(ops(), layers));
        Ok((Split::new(parts.collect()), None))
    };
    OpsDevice::new("cpu0+cpu1".to_owned(), "the CPU in parts".to_owned(), open)
}

/// Layers of each part, of so many.
type Cut = fn(usize) -> Vec<Range<usize>>;

/// Every way to share two layers between two: the second part has the output matrix in any case.
const CUTS: [Cut; 3] = [
    |n| vec![0..n / 2, n / 2..n],
    |n| vec![0..0, 0..n],
    |n| vec![0..n, n..n],
];

#[test]
fn a_split_device_passes() {
    let device = split(CUTS[0]);
    if let Err(failure) = check(&device, Tolerance::EXACT) {
        panic!("{failure}");
    }
}

#[test]
fn parts_give_what_the_whole_gives() {
    let whole = CpuDevice::batch_invariant(2);
    for cut in CUTS {
        if let Err(failure) = agree(&split(cut), &whole, Tolerance::EXACT) {
            panic!("{failure}");
        }
    }
}

/// Borders are crossed in every step, more than one of them, and the embedding table is at the other end.
#[test]
fn each_layer_of_a_real_model_may_be_elsewhere() {
    let file = stories();
    let write = |device: &dyn Device| {
        let mut model = load(&file, device);
        let prompt = common::encode(&model, "Once upon a time");
        let mut session = Session::new(&mut model);
        common::generate(&mut session, &prompt, &greedy(20)).0
    };
    let want: Vec<TokenId> = write(&CpuDevice::batch_invariant(2));
    let have = write(&split(|n| (0..n).map(|layer| layer..layer + 1).collect()));
    assert_eq!(have, want);
}
