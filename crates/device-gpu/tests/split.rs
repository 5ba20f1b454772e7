//! A model that lies partly on the GPU and partly on the CPU, or on several GPUs, is the same model.

mod common;

use std::ops::Range;
use std::sync::Arc;

use troika_base::DType;
use troika_device::conformance::{Tolerance, agree};
use troika_device::cpu::CpuOps;
use troika_device::{Device, Part, Split};
use troika_device_gpu::attention::KvFormat;
use troika_device_gpu::{Gpu, GpuOps, Tuning};
use troika_engine::{CpuDevice, OpsDevice};

fn on_gpu(gpu: &Arc<Gpu>, layers: Range<usize>) -> Part {
    let tuning = Tuning::default_for(gpu.caps());
    let ops = GpuOps::new(Arc::clone(gpu), tuning, KvFormat::F16);
    Part::new(ops, layers)
}

fn device(parts: impl Fn() -> Vec<Part> + Send + Sync) -> impl Device {
    let open = move |_: &_, _| Ok((Split::new(parts()), None));
    OpsDevice::new("gpu0+cpu0".to_owned(), "a split model".to_owned(), open)
}

/// As far as the GPU alone may be from the CPU, see `conformance.rs`.
const FROM_CPU: Tolerance = Tolerance(|dtype| match dtype {
    DType::F32 => 0.01,
    DType::BF16 => 0.03,
    _ => 0.2,
});

#[test]
fn layers_on_the_cpu_and_layers_on_the_gpu_are_one_model() {
    let Some(gpu) = common::gpu() else { return };
    let cpu = Arc::new(CpuDevice::batch_invariant(2));
    let on_cpu = {
        let cpu = Arc::clone(&cpu);
        move |layers| {
            let ops = CpuOps::new(cpu.kernels(), Arc::clone(cpu.pool()));
            Part::new(ops, layers)
        }
    };
    let split = device(move || vec![on_cpu(0..1), on_gpu(&gpu, 1..2)]);
    if let Err(failure) = agree(&split, &*cpu, FROM_CPU) {
        panic!("{failure}");
    }
}

/// Two of its kind: here the same one twice, with memory and commands of its own each.
#[test]
fn two_gpus_are_what_one_is_to_the_bit() {
    let Some(gpu) = common::gpu() else { return };
    let Some(whole) = common::device() else {
        return;
    };
    let split = device(move || vec![on_gpu(&gpu, 0..1), on_gpu(&gpu, 1..2)]);
    assert_eq!(common::logits(&split), common::logits(&whole));
}
