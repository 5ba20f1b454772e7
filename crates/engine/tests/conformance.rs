//! The CPU passes the suite that every device passes, on any number of threads.

mod common;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::cpu;
use troika_base::{Bytes, DType};
use troika_device::conformance::{Mixtures, Tolerance, agree, check, mixtures};
use troika_device::{Clock, Device, Paced, StepShape};
use troika_engine::{CpuDevice, ExpertMemory};
use troika_kernels::{Kernels, Pool};

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

/// Time that passes when somebody sleeps, and stands still while somebody computes.
#[derive(Default)]
struct FastClock(Mutex<Duration>);

impl Clock for FastClock {
    fn now(&self) -> Duration {
        *self.0.lock().expect("nobody panics with it")
    }

    fn sleep(&self, time: Duration) {
        *self.0.lock().expect("nobody panics with it") += time;
    }
}

#[test]
fn a_paced_device_passes() {
    let cpu = Arc::new(CpuDevice::batch_invariant(2));
    let clock = Arc::new(FastClock::default());
    let step = |shape: StepShape| Duration::from_micros(50 * (shape.tokens + shape.past) as u64);
    let device = Paced::new(Arc::clone(&cpu) as Arc<dyn Device>, "npu0", "made up", step)
        .with_load(|bytes| Duration::from_nanos(bytes.0))
        .with_copy(|bytes| Duration::from_nanos(bytes.0))
        .with_memory(Bytes(64 << 20))
        .with_clock(Arc::clone(&clock) as Arc<dyn Clock>);
    let passed =
        check(&device, tolerance(&cpu)).and_then(|()| agree(&device, &*cpu, Tolerance::EXACT));
    if let Err(failure) = passed {
        panic!("{failure}");
    }
    assert_eq!(device.used(), Bytes(0), "residents have gone");
    let lag = device.lag();
    assert!(lag.steps > 1000 && lag.late == 0, "{lag:?}");
    assert!(clock.now() > Duration::from_secs(1));
}

/// Mixtures of experts, all in memory or all but a few in the file.
#[test]
fn experts_are_the_same_wherever_they_are() {
    let sets: &'static [Kernels] = Box::leak(Kernels::all().into_boxed_slice());
    let reference = CpuDevice::with(&sets[0], Arc::new(Pool::new(1)));
    let device = CpuDevice::batch_invariant(2);
    let allowed = Tolerance(|dtype| match dtype {
        DType::F32 => 1e-4,
        _ => 0.02,
    });
    let passed = mixtures(&device, &reference, allowed);
    assert_eq!(
        passed.unwrap_or_else(|failure| panic!("{failure}")),
        Mixtures::Agree
    );
    // Room for one expert's matrices and no more.
    let streaming =
        CpuDevice::batch_invariant(2).with_expert_memory(ExpertMemory::AtMost(Bytes(1)));
    let passed = mixtures(&streaming, &device, Tolerance::EXACT);
    assert_eq!(
        passed.unwrap_or_else(|failure| panic!("{failure}")),
        Mixtures::Agree
    );
}

#[test]
fn threads_do_not_change_a_bit() {
    // What moves goes on in a smaller batch than it was read in.
    let one = CpuDevice::batch_invariant(1);
    for threads in [2, 3] {
        let several = CpuDevice::batch_invariant(threads);
        if let Err(failure) = agree(&several, &one, Tolerance::EXACT) {
            panic!("{failure}");
        }
    }
}
