//! The CPU passes the suite that every device passes, on any number of threads.

mod common;

use common::cpu;
use troika_base::DType;
use troika_device::conformance::{Tolerance, agree, check};
use troika_engine::CpuDevice;

/// Every kernel set computes a token alike whatever stands beside it, but for the matrix unit. That takes over when a
/// batch has enough tokens, and rounds activations to bf16 where the other kernels take them as they are or round them
/// to eight bits. What is compared is the worst of thousands of logits,
/// after two layers of random weights.
fn tolerance(device: &CpuDevice) -> Tolerance {
    match device.kernels().name {
        "amx" => Tolerance(|dtype| match dtype {
            DType::F32 => 0.0,
            DType::BF16 => 0.03,
            _ => 0.1,
        }),
        _ => Tolerance::EXACT,
    }
}

fn passes(threads: usize) {
    let device = cpu(threads);
    if let Err(failure) = check(&device, tolerance(&device)) {
        panic!("{failure}");
    }
}

#[test]
fn one_thread_passes() {
    passes(1);
}

#[test]
fn two_threads_pass() {
    passes(2);
}

#[test]
fn three_threads_pass() {
    passes(3);
}

#[test]
fn threads_do_not_change_a_bit() {
    for threads in [2, 3] {
        if let Err(failure) = agree(&cpu(threads), &cpu(1), Tolerance::EXACT) {
            panic!("{failure}");
        }
    }
}
