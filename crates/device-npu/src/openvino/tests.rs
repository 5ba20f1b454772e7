//! Models on OpenVINO's CPU device and on its NPU plugin, against Troika's own CPU device, and the suite of all devices.
//!
//! The NPU's plugin runs here with its parts on the CPU: the graphs are partitioned, padded and called as for an NPU.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

use tempfile::TempDir;
use troika_base::DType;
use troika_device::conformance::{self, Tolerance};
use troika_device::{Abilities, Cancelled, Device, LoadOptions, LoadProgress, Resident, f16};
use troika_gguf::{ModelFile, TensorInfo, Writer};
use troika_kernels::quant;

use super::*;
use crate::testing::{crowd, least_cosine};
use crate::{Backend, CompileOptions, Error, Group, WeightFormat};

/// A backend as a device that compiles when it loads, and keeps what it has compiled as long as it lives.
struct Whole {
    backend: OpenVino,
    weights: WeightFormat,
    compiled: Mutex<HashMap<Vec<u8>, Arc<TempDir>>>,
}

impl Whole {
    fn new(backend: OpenVino, weights: WeightFormat) -> Self {
        Self {
            backend,
            weights,
            compiled: Mutex::default(),
        }
    }

    fn options(&self, n_ctx: usize) -> CompileOptions {
        CompileOptions {
            weights: self.weights,
            n_ctx,
            chunk: 64,
        }
    }

    /// Where the model is compiled to, which it is the first time.
    fn directory(
        &self,
        file: &ModelFile,
        options: &CompileOptions,
        progress: &mut dyn FnMut(LoadProgress) -> ControlFlow<Cancelled>,
    ) -> Result<Arc<TempDir>, Error> {
        let mut key = format!("{options:?}{:?}", file.metadata()).into_bytes();
        for tensor in file.tensors() {
            key.extend_from_slice(tensor.name.as_bytes());
            key.extend_from_slice(&file.read_all(tensor).map_err(troika_device::Error::from)?);
        }
        let mut all = self.compiled.lock().unwrap();
        if let Some(directory) = all.get(&key) {
            return Ok(Arc::clone(directory));
        }
        let directory = tempfile::tempdir().unwrap();
        let mut tell = |at: crate::CompileProgress| match at.phase {
            crate::Phase::Lower => progress(LoadProgress {
                done: troika_base::Bytes(at.done),
                total: troika_base::Bytes(at.total),
            }),
            _ => ControlFlow::Continue(()),
        };
        self.backend
            .compile(file, options, directory.path(), &mut tell)?;
        let directory = Arc::new(directory);
        all.insert(key, Arc::clone(&directory));
        Ok(directory)
    }
}

impl Device for Whole {
    fn name(&self) -> &str {
        "openvino"
    }

    fn description(&self) -> String {
        self.backend.description()
    }

    fn load(
        &self,
        file: &ModelFile,
        options: LoadOptions,
        progress: &mut dyn FnMut(LoadProgress) -> ControlFlow<Cancelled>,
    ) -> Result<Box<dyn Resident>, troika_device::Error> {
        let options = self.options(options.n_ctx);
        let mut last = None;
        let directory = self.directory(file, &options, &mut |at| {
            last = Some(at);
            progress(at)
        });
        let opened = directory.and_then(|directory| {
            if last.is_none() {
                // It was compiled before; the callback is asked all the same.
                let all = troika_base::Bytes(1);
                let at = LoadProgress {
                    done: all,
                    total: all,
                };
                if progress(at).is_break() {
                    return Err(Error::Cancelled);
                }
            }
            self.backend.open(file, &options, directory.path())
        });
        opened.map_err(|error| match error {
            Error::Device(error) => error,
            Error::Cancelled => troika_device::Error::Cancelled,
            Error::Unsupported { model, reason } => troika_device::Error::Unsupported {
                model,
                device: "openvino".to_owned(),
                reason,
            },
            other => troika_device::Error::Failed {
                device: "openvino".to_owned(),
                reason: other.to_string(),
            },
        })
    }
}

fn backend(target: Target, settings: Settings) -> Option<OpenVino> {
    let backend = OpenVino::new(&found_for_tests()?, target, settings);
    Some(backend.expect("a CPU is always there"))
}

fn exact() -> Settings {
    Settings {
        precision: Some(Precision::F32),
        kv_precision: Some(Precision::F32),
        threads: Some(2),
        slots: 2,
        ..Settings::default()
    }
}

fn on_plugin() -> Settings {
    Settings {
        precision: Some(Precision::F32),
        ..Settings::npu_plugin_on_cpu()
    }
}

/// The model in floats: Troika's CPU device then computes in floats too, and is what the others are measured against. Its
/// weights are such as the format holds exactly, so that nothing is lost where they are lowered.
fn in_floats(file: &ModelFile, weights: WeightFormat) -> ModelFile {
    let of_tensor = |tensor: &TensorInfo| {
        let bytes = file.read_all(tensor).unwrap();
        let mut values = vec![0.0; tensor.shape.iter().product::<u64>() as usize];
        quant::dequantize_row(tensor.dtype, &bytes, &mut values).unwrap();
        let row = tensor.shape[0] as usize;
        let (group, most) = match (weights, tensor.name.starts_with("blk.")) {
            (WeightFormat::Int4(_), true) => (128, 7.0),
            _ => (row, 127.0),
        };
        let is_whole = tensor.shape.len() == 1 || weights == WeightFormat::F16;
        for group in values.chunks_mut(group).filter(|_| !is_whole) {
            let largest = group.iter().fold(0f32, |most, w| most.max(w.abs()));
            let scale = f16::from_f32(largest / most).to_f32();
            group
                .iter_mut()
                .for_each(|w| *w = (*w / scale).round().clamp(-most, most) * scale);
        }
        values.iter().flat_map(|w| w.to_le_bytes()).collect()
    };
    let bytes: Vec<Vec<u8>> = file.tensors().iter().map(of_tensor).collect();
    let mut writer = Writer::new(file.metadata().clone());
    for (tensor, bytes) in file.tensors().iter().zip(&bytes) {
        writer.tensor_bytes(&tensor.name, DType::F32, &tensor.shape, bytes);
    }
    let mut bytes = Vec::new();
    writer.write_to(&mut bytes).unwrap();
    ModelFile::from_bytes("floats", bytes).unwrap()
}

/// `least` is what a step's logits must have of the CPU device's direction.
#[track_caller]
fn agrees(what: &str, backend: Option<OpenVino>, weights: WeightFormat, least: f64) {
    let Some(backend) = backend else { return };
    let start = std::time::Instant::now();
    let file = in_floats(&conformance::deep_model(6), weights);
    let found = least_cosine(&Whole::new(backend, weights), &file, 256, (12, 12 + 64));
    let took_s = start.elapsed().as_secs_f32();
    eprintln!("{what}, {weights}: cosine {found:.6} at least; {took_s:.1} s");
    assert!(found >= least, "{what}, {weights}: {found}");
}

const FORMATS: [WeightFormat; 3] = [
    WeightFormat::F16,
    WeightFormat::Int8,
    WeightFormat::Int4(Group::Of128),
];

/// Where OpenVINO chooses, it computes in bf16 and keeps keys and values in u8 on processors like this one. Attention with
/// random weights makes more of that than a model that was trained.
const LIKED: f64 = 0.99;

#[test]
fn steps_on_the_cpu_agree_with_troikas() {
    for weights in FORMATS {
        agrees("CPU in f32", backend(Target::Cpu, exact()), weights, 0.9999);
        let as_it_likes = backend(Target::Cpu, Settings::default());
        agrees("CPU as it likes", as_it_likes, weights, LIKED);
    }
}

#[test]
fn steps_through_the_npu_plugin_agree_with_troikas() {
    for weights in FORMATS {
        agrees(
            "NPU plugin in f32",
            backend(Target::Npu, on_plugin()),
            weights,
            0.9999,
        );
        let as_it_likes = backend(Target::Npu, Settings::npu_plugin_on_cpu());
        agrees("NPU plugin as it likes", as_it_likes, weights, LIKED);
    }
}

/// As many sequences as there are conversations, and one more: then one is read anew from its beginning. The NPU's plugin has
/// one conversation, however many are asked for.
#[test]
fn several_sequences_go_on_at_once() {
    let file = in_floats(&conformance::deep_model(6), WeightFormat::F16);
    for (target, base, slots, n_sequence) in [
        (Target::Cpu, exact(), 3, 3),
        (Target::Cpu, exact(), 2, 3),
        (Target::Npu, on_plugin(), 2, 2),
    ] {
        let Some(backend) = backend(target, Settings { slots, ..base }) else {
            return;
        };
        let held = if target == Target::Npu { 1 } else { slots };
        assert_eq!(backend.slots(), held);
        let device = Whole::new(backend, WeightFormat::F16);
        let least = crowd(&device, &file, 128, n_sequence);
        assert!(least > 0.9999, "{n_sequence} in {slots} slots: {least}");
    }
}

#[test]
fn the_cpu_passes_the_suite() {
    let Some(backend) = backend(Target::Cpu, exact()) else {
        return;
    };
    let device = Whole::new(backend, WeightFormat::F16);
    let resident = device.load(
        &conformance::small_model(),
        LoadOptions::new(256),
        &mut |_| ControlFlow::Continue(()),
    );
    let none = Abilities {
        kv: false,
        hidden: false,
        drafts: false,
    };
    assert_eq!(resident.expect("it loads").abilities(), none);
    conformance::check(&device, Tolerance(|_| 1e-3)).unwrap();
}

#[test]
fn the_npu_plugin_passes_the_suite() {
    let Some(backend) = backend(Target::Npu, on_plugin()) else {
        return;
    };
    let device = Whole::new(backend, WeightFormat::F16);
    conformance::check(&device, Tolerance(|_| 1e-2)).unwrap();
}
