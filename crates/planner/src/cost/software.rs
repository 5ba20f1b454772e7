//! Which constants apply: a device's generation and the software that drives it.

use std::borrow::Cow;

use troika_base::{DeviceKind, DeviceProfile, Estimate, NumberFormat, Unit};

use super::{Backend, Setup};
use crate::quantization::Numbers;

/// Bounds of an interval, as factors on a speed.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Spread {
    /// One measurement in ten is slower than this times the estimate.
    pub low: f64,
    /// One in ten is faster than this times the estimate.
    pub high: f64,
}

impl Spread {
    /// The interval around a speed.
    pub fn around(self, speed: f64) -> Estimate {
        Estimate {
            value: speed,
            low: speed * self.low,
            high: speed * self.high,
        }
    }

    /// The wider of two.
    #[must_use]
    pub fn or_wider(self, other: Self) -> Self {
        Self {
            low: self.low.min(other.low),
            high: self.high.max(other.high),
        }
    }

    /// The interval that is left once a measurement on the device has set the middle.
    ///
    /// Repeats of one test on one device differ by 5.7 % in the median of public measurements, and another model's speed
    /// follows the measured one less exactly than that.
    #[must_use]
    pub fn calibrated(self, factor: Option<f64>) -> Self {
        match factor {
            Some(_) => Self {
                low: self.low.max(0.88),
                high: self.high.min(1.12),
            },
            None => self,
        }
    }
}

/// Constants of a class of devices.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Class {
    /// `nvidia`, `apple`, ...
    pub name: &'static str,
    /// Share of the memory's peak bandwidth that reading weights reaches.
    pub bandwidth_share: f64,
    /// Microseconds that a layer takes beside reading: launches, norms, attention's fixed part.
    pub layer_us: f64,
    /// Share of the rate that multiplying quantized weights reaches in prefill.
    pub blocks_share: f64,
    /// Share of the rate that multiplying 16-bit weights reaches in prefill.
    pub half_share: f64,
    /// Interval of decode.
    pub decode: Spread,
    /// Interval of prefill.
    pub prefill: Spread,
    /// Rows that decode was fitted on; 0: set by likeness to other classes.
    pub rows: u32,
}

/// A generation, where it departs from its class.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Family {
    /// As the catalogue calls it.
    pub name: &'static str,
    /// Its class.
    pub class: &'static str,
    /// Factor on the class's share of bandwidth.
    pub bandwidth_factor: f64,
}

/// All that was fitted.
#[derive(Clone, PartialEq, Debug)]
pub struct Fit {
    /// When.
    pub date: Cow<'static, str>,
    /// Classes of devices.
    pub classes: Cow<'static, [Class]>,
    /// Generations.
    pub families: Cow<'static, [Family]>,
    /// Factor on [`Class::layer_us`] for layers of experts.
    pub expert_layer: f64,
    /// Factor on the bytes of experts: they are read in small pieces.
    pub expert_bytes: f64,
    /// Factor on [`Class::layer_us`] for layers that keep a state.
    pub state_layer: f64,
    /// Factor on [`Class::layer_us`] where layers have windows: such models have more norms.
    pub window_layer: f64,
    /// Microseconds a token that Ollama adds.
    pub ollama_us: f64,
    /// Factor on the share of the rate that experts reach in prefill.
    pub expert_prefill: f64,
}

/// The constants that apply to one device under one software.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Software {
    /// Its class's, with the factors of generation and back end in them.
    pub class: Class,
    /// The back end.
    pub backend: Backend,
}

impl Software {
    /// What applies to a device of the setup.
    pub fn of(fit: &Fit, setup: &Setup<'_>, device: &DeviceProfile) -> Self {
        let backend = match setup.backend {
            // A back end is for the first device; the processor that helps out runs its own kernels.
            Some(backend) if device.kind != DeviceKind::Cpu => backend,
            _ => best_backend(device),
        };
        let family = device.family.as_deref().unwrap_or_default();
        let known = fit.families.iter().find(|known| known.name == family);
        let name = class_name(device, known);
        let class = fit
            .classes
            .iter()
            .find(|class| class.name == name)
            .or_else(|| fit.classes.iter().find(|class| class.name == "unknown"))
            .expect("the fit has a class for what is unknown. This is a bug.");
        let mut class = *class;
        class.bandwidth_share *= known.map_or(1.0, |family| family.bandwidth_factor);
        let through = through(backend, device);
        class.bandwidth_share *= through.bandwidth;
        class.layer_us *= through.layer;
        class.blocks_share *= through.prefill;
        class.half_share *= through.prefill;
        if device.kind == DeviceKind::Cpu {
            class.bandwidth_share *= processor_engine(&setup.engine).bandwidth;
            class.blocks_share *= processor_engine(&setup.engine).prefill;
        }
        Self { class, backend }
    }

    /// The rate of multiplying in prefill, in 10¹² operations a second, and the name of the format that it is of.
    ///
    /// Quantized weights are multiplied as 8-bit integers where the device can, else as 16-bit floats, else as 32-bit ones.
    pub fn prefill_rate(
        &self,
        device: &DeviceProfile,
        numbers: Numbers,
    ) -> Option<(f64, &'static str)> {
        use NumberFormat::{Bf16, Fp4, Fp8, Fp16, Fp32, Int8};
        use Unit::{Matrix, Vector};
        let rate = |unit, format| device.dense_tops(unit, format);
        let share = match numbers {
            Numbers::Half | Numbers::Single => self.class.half_share,
            _ => self.class.blocks_share,
        };
        let half = rate(Matrix, Fp16).or_else(|| rate(Matrix, Bf16));
        // Some chips have 16-bit lanes for show: a few for each multiprocessor.
        let lanes = [rate(Vector, Fp16), rate(Vector, Fp32)];
        let wide = lanes.into_iter().flatten().reduce(f64::max);
        let blocks_as_integers =
            !matches!(device.vendor.as_str(), "apple" | "amd") || device.kind != DeviceKind::Gpu;
        let found = match numbers {
            Numbers::Blocks | Numbers::Float4 | Numbers::Float8 if blocks_as_integers => {
                // What 4-bit and 8-bit floats are worth where the chip multiplies them as such is beyond what llama.cpp uses.
                let floats = match numbers {
                    Numbers::Float4 if self.backend == Backend::Cuda => {
                        rate(Matrix, Fp4).map(|tops| (tops / 2.0, "fp4"))
                    }
                    Numbers::Float8 => rate(Matrix, Fp8).map(|tops| (tops, "fp8")),
                    _ => None,
                };
                floats
                    .or_else(|| rate(Matrix, Int8).map(|tops| (tops, "int8")))
                    // A chip of this class does eight-bit integers four times as fast as 16-bit floats with wide sums.
                    .or_else(|| half.map(|tops| (tops * 4.0, "fp16")))
                    .or_else(|| rate(Vector, Int8).map(|tops| (tops, "int8")))
            }
            _ => half.map(|tops| (tops, "fp16")),
        };
        found
            .or_else(|| wide.map(|tops| (tops, "fp32")))
            .map(|(tops, name)| (tops * share, name))
    }
}

/// The class of a device: by its generation, else by its maker and kind.
fn class_name(device: &DeviceProfile, family: Option<&Family>) -> &'static str {
    match device.kind {
        DeviceKind::Cpu => return "cpu",
        DeviceKind::Npu => return "npu",
        DeviceKind::Accelerator => return "accelerator",
        DeviceKind::Gpu => {}
    }
    match (family, device.vendor.as_str()) {
        (Some(family), _) => family.class,
        (None, "nvidia") => "nvidia",
        (None, "amd") => "amd",
        (None, "apple") => "apple",
        (None, "intel") => "intel",
        _ => "unknown",
    }
}

/// The software that suits a device best today.
fn best_backend(device: &DeviceProfile) -> Backend {
    match (device.kind, device.vendor.as_str()) {
        (DeviceKind::Cpu, _) => Backend::Cpu,
        (DeviceKind::Npu, "intel") => Backend::OpenVino,
        (DeviceKind::Npu, "amd") => Backend::VitisAi,
        (DeviceKind::Npu, "apple") => Backend::CoreMl,
        (DeviceKind::Npu, _) => Backend::Qnn,
        (_, "nvidia") => Backend::Cuda,
        (_, "apple") => Backend::Metal,
        (_, "amd") if device.class.as_deref() == Some("datacentre") => Backend::Rocm,
        _ => Backend::Vulkan,
    }
}

/// What a back end makes of a device, against the one that its class was fitted on.
struct Through {
    bandwidth: f64,
    layer: f64,
    prefill: f64,
}

/// Set by what is known of the back ends, not fitted: Vulkan on NVIDIA records each launch and has no tensor-core path as
/// tuned as CUDA's; on AMD it decodes as fast as ROCm.
fn through(backend: Backend, device: &DeviceProfile) -> Through {
    let [bandwidth, layer, prefill] = match (backend, device.vendor.as_str()) {
        (Backend::Vulkan, "nvidia") => [0.96, 1.15, 0.75],
        (Backend::Vulkan, "amd") => [1.0, 1.0, 0.9],
        (Backend::Rocm, "amd") => [0.97, 1.0, 1.0],
        (Backend::Sycl | Backend::OpenVino, "intel") if device.kind == DeviceKind::Gpu => {
            [1.05, 1.0, 1.2]
        }
        _ => [1.0, 1.0, 1.0],
    };
    Through {
        bandwidth,
        layer,
        prefill,
    }
}

/// On processors the class is fitted on Troika's own kernels; the others' shares are from docs/benchmarks.md.
fn processor_engine(engine: &str) -> Through {
    let [bandwidth, prefill] = match engine {
        "troika" => [1.0, 1.0],
        _ => [0.78, 0.55],
    };
    Through {
        bandwidth,
        layer: 1.0,
        prefill,
    }
}
