//! GPUs pass the suite that every device passes, and compute what the CPU does.

mod common;

use troika_base::DType;
use troika_device::Device;
use troika_device::conformance::{Mixtures, Tolerance, agree, check, mixtures};
use troika_engine::{CpuDevice, probe};

/// How far logits of the same tokens may be apart in batches of different shape. Products of few rows take activations
/// as bytes where weights are integers and the GPU multiplies such; products of many are computed in tiles, as floats or
/// as halves where there are cooperative matrices. What is compared is the worst of thousands of logits, after two layers
/// of random weights; the CPU's matrix unit is allowed as much for the same reason.
const AMONG_SHAPES: Tolerance = Tolerance(|dtype| match dtype {
    DType::F32 => 0.01,
    DType::BF16 => 0.03,
    _ => 0.1,
});

/// How far logits may be from the CPU's: each of the two rounds activations to bytes in its own way, and each is within a
/// tenth of what is right, as the known question asks of every device. That nothing but this rounding is between them, the
/// trained model's test without it shows.
const FROM_CPU: Tolerance = Tolerance(|dtype| match dtype {
    DType::F32 => 0.01,
    DType::BF16 => 0.03,
    _ => 0.2,
});

#[test]
fn it_passes() {
    let Some(gpu) = common::device() else { return };
    if let Err(failure) = check(&gpu, AMONG_SHAPES) {
        panic!("{failure}");
    }
}

#[test]
fn it_computes_what_the_cpu_does() {
    let Some(gpu) = common::device() else { return };
    let cpu = CpuDevice::batch_invariant(2);
    if let Err(failure) = agree(&gpu, &cpu, FROM_CPU) {
        panic!("{failure}");
    }
}

#[test]
fn it_mixes_experts_or_says_why_not() {
    let Some(gpu) = common::device() else { return };
    let cpu = CpuDevice::batch_invariant(2);
    match mixtures(&gpu, &cpu, FROM_CPU) {
        Ok(Mixtures::Agree) => {}
        Ok(Mixtures::Refused(reason)) => eprintln!("skipped: {reason}"),
        Err(failure) => panic!("{failure}"),
    }
}

#[test]
fn it_knows_the_known_answer() {
    let Some(gpu) = common::device() else { return };
    probe(&gpu).unwrap_or_else(|error| panic!("{}: {error}", gpu.description()));
}
