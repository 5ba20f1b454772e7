//! A GPU to test on, if this machine has one or a program that plays one.

#![allow(dead_code, reason = "each test file uses a part of it")]
#![expect(clippy::print_stdout, reason = "a test that skips says why")]

pub(crate) mod blocks;

use std::sync::{Arc, OnceLock};

use troika_device_gpu::attention::KvFormat;
use troika_device_gpu::{Gpu, GpuOps, Options, Tuning, find};

/// The first GPU, with every index checked, unless `TROIKA_GPU_TEST_UNCHECKED` is set; `None`, and a line that says why,
/// where there is none.
pub(crate) fn gpu() -> Option<Arc<Gpu>> {
    static GPU: OnceLock<Option<Arc<Gpu>>> = OnceLock::new();
    let gpu = GPU.get_or_init(|| {
        let found = find().into_iter().next()?;
        let checked = std::env::var_os("TROIKA_GPU_TEST_UNCHECKED").is_none();
        let gpu = found
            .open("gpu0", Options { checked })
            .expect("a GPU that was found opens");
        println!("on {}, {}, {:?}", found.name, found.driver, found.caps);
        Some(gpu)
    });
    if gpu.is_none() {
        println!(
            "skipped: no Vulkan, Metal or DX12 driver here (`cargo xtask gpu-tiers` brings one)"
        );
    }
    gpu.clone()
}

/// Numbers between -1 and 1, the same on every machine.
pub(crate) fn noise(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    std::iter::repeat_with(next).take(n).collect()
}

/// Root of the mean square of the differences, as a share of that of `want`.
pub(crate) fn error(want: &[f32], have: &[f32]) -> f64 {
    assert_eq!(want.len(), have.len());
    let square = |x: f32| f64::from(x) * f64::from(x);
    let apart: f64 = want.iter().zip(have).map(|(w, h)| square(w - h)).sum();
    let whole: f64 = want.iter().map(|&w| square(w)).sum();
    match have.iter().all(|x| x.is_finite()) {
        true => (apart / whole.max(f64::MIN_POSITIVE)).sqrt(),
        false => f64::INFINITY,
    }
}

/// The GPU as a device that loads models.
pub(crate) fn device() -> Option<impl troika_device::Device> {
    gpu().map(device_of)
}

/// An open GPU as a device that loads models.
pub(crate) fn device_of(gpu: Arc<Gpu>) -> impl troika_device::Device {
    let tuning = Tuning::default_for(gpu.caps());
    device_with(gpu, tuning)
}

/// As [`device_of`], with kernels that are chosen so.
pub(crate) fn device_with(gpu: Arc<Gpu>, tuning: Tuning) -> impl troika_device::Device {
    let ops = move |_: &_, _| Ok((GpuOps::new(Arc::clone(&gpu), tuning, KvFormat::F16), None));
    troika_engine::OpsDevice::new("gpu0".to_owned(), "the GPU under test".to_owned(), ops)
}

/// Logits of a short batch and of a long one, by the small model of the conformance suite.
pub(crate) fn logits(device: &dyn troika_device::Device) -> Vec<Vec<f32>> {
    use troika_device::{Batch, LoadOptions, Output, Sequence, conformance::small_model};
    let options = LoadOptions::new(128);
    let loaded = device.load(&small_model(), options, &mut |_| {
        std::ops::ControlFlow::Continue(())
    });
    let mut resident = loaded.expect("a good model");
    let step = |n_tok: u32| {
        let tokens: Vec<_> = (0..n_tok).map(troika_base::TokenId).collect();
        let sequence = Sequence {
            tokens: &tokens,
            position: 0,
            pages: &[2, 0],
            output: Output::AllLogits,
        };
        let outputs = resident.step(&Batch {
            sequences: &[sequence],
        });
        outputs.expect("a good batch").logits.values
    };
    [3, 40].map(step).into()
}
