//! What OpenVINO is told: which of its devices, and how to compute there.

use super::reading::Manner;
use crate::CompileOptions;

/// A device of OpenVINO's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Intel's NPU.
    Npu,
    /// Intel's graphics.
    Gpu,
    /// Any x86-64 or Arm processor.
    Cpu,
}

impl Target {
    /// As OpenVINO calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Npu => "NPU",
            Self::Gpu => "GPU",
            Self::Cpu => "CPU",
        }
    }
}

/// Numbers that a device computes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// Four bytes. Activations are not quantized for products either.
    F32,
    /// Two bytes.
    F16,
    /// Two bytes with the range of four.
    Bf16,
    /// One byte, with a scale for each head's values; for keys and values alone.
    U8,
}

impl Precision {
    fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::U8 => "u8",
        }
    }
}

/// How a model is run. What is `None` is left to OpenVINO, which chooses by the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Numbers of the computation.
    pub precision: Option<Precision>,
    /// Numbers of keys and values. On the CPU and on graphics; the NPU's plugin has its own.
    pub kv_precision: Option<Precision>,
    /// Threads, on the CPU.
    pub threads: Option<usize>,
    /// Conversations that are held at the same time; an NPU holds one whatever stands here.
    pub slots: usize,
    /// Devices that the NPU's plugin may give parts of a graph to, in the order in which they are tried. The NPU alone,
    /// unless a slower one is better than none.
    pub npu_parts_run_on: Vec<Target>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            precision: None,
            kv_precision: None,
            threads: None,
            slots: 1,
            npu_parts_run_on: vec![Target::Npu],
        }
    }
}

impl Settings {
    /// The NPU's plugin without an NPU: it partitions and compiles all as it would for one, and runs it on the CPU.
    pub fn npu_plugin_on_cpu() -> Self {
        Self {
            npu_parts_run_on: vec![Target::Cpu],
            ..Self::default()
        }
    }

    /// Names and values as a device's plugin takes them.
    pub(super) fn properties(
        &self,
        target: Target,
        options: &CompileOptions,
    ) -> Vec<(String, String)> {
        let mut all = self.numbers(target);
        let mut add = |key: &str, value: String| all.push((key.to_owned(), value));
        match target {
            Target::Npu => self.npu_properties(options, &mut add),
            // One request at a time, as fast as it goes.
            Target::Gpu | Target::Cpu => add("PERFORMANCE_HINT", "LATENCY".to_owned()),
        }
        if let (Target::Cpu, Some(threads)) = (target, self.threads) {
            add("INFERENCE_NUM_THREADS", threads.to_string());
        }
        all
    }

    /// Those of the properties that say with which numbers a device computes.
    pub(super) fn numbers(&self, target: Target) -> Vec<(String, String)> {
        let mut all = Vec::new();
        let mut add = |key: &str, value: &str| all.push((key.to_owned(), value.to_owned()));
        if let Some(precision) = self.precision {
            add("INFERENCE_PRECISION_HINT", precision.name());
        }
        if target != Target::Npu {
            if let Some(precision) = self.kv_precision {
                add("KV_CACHE_PRECISION", precision.name());
            }
            if self.precision == Some(Precision::F32) {
                add("DYNAMIC_QUANTIZATION_GROUP_SIZE", "0");
            }
        }
        all
    }

    /// NPUW is the part of the plugin that makes a stateful graph of any shape two static ones, for prompts and for one
    /// token, with one set of weights.
    fn npu_properties(&self, options: &CompileOptions, add: &mut impl FnMut(&str, String)) {
        let yes = || "YES".to_owned();
        let manner = manner(Target::Npu, options);
        let devices = self.npu_parts_run_on.iter().map(|device| device.name());
        add("NPU_USE_NPUW", yes());
        add("NPUW_DEVICES", devices.collect::<Vec<_>>().join(","));
        add("NPUW_LLM", yes());
        let prompt = manner.prompt.unwrap_or(manner.n_ctx);
        add("NPUW_LLM_MAX_PROMPT_LEN", prompt.to_string());
        // Prompt and answer share the room; the plugin adds the two up.
        add("NPUW_LLM_MIN_RESPONSE_LEN", RESPONSE.to_string());
        add("NPUW_LLM_PREFILL_HINT", "DYNAMIC".to_owned());
        add("NPUW_LLM_PREFILL_CHUNK_SIZE", manner.chunk.to_string());
        // What is exported holds its weights: importing takes no other files.
        add("CACHE_MODE", "OPTIMIZE_SPEED".to_owned());
        // Minutes of compilation are spent once, in the background.
        add("NPUW_LLM_GENERATE_HINT", "BEST_PERF".to_owned());
    }
}

/// The least that the NPU's plugin reserves for an answer.
const RESPONSE: usize = 64;

/// How the graph reads that is compiled with these options.
pub(super) fn manner(target: Target, options: &CompileOptions) -> Manner {
    let chunk = options.chunk.max(1);
    match target {
        Target::Npu => {
            let chunk = chunk.next_multiple_of(RESPONSE);
            Manner {
                n_ctx: options.n_ctx,
                chunk,
                prompt: Some(options.n_ctx.next_multiple_of(chunk)),
                restarts: true,
            }
        }
        Target::Gpu | Target::Cpu => Manner {
            n_ctx: options.n_ctx,
            chunk,
            prompt: None,
            restarts: false,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Group, WeightFormat};

    #[test]
    fn a_npu_has_no_silent_substitute() {
        let options = CompileOptions {
            weights: WeightFormat::Int4(Group::Of128),
            n_ctx: 1000,
            chunk: 256,
        };
        let value = |settings: &Settings, target, key: &str| {
            let all = settings.properties(target, &options);
            let found = all.into_iter().find(|(name, _)| name == key);
            found.map(|(_, value)| value)
        };
        let settings = Settings::default();
        let npu = |key| value(&settings, Target::Npu, key);
        assert_eq!(npu("NPUW_DEVICES").as_deref(), Some("NPU"));
        assert_eq!(npu("NPUW_LLM_MAX_PROMPT_LEN").as_deref(), Some("1024"));
        assert_eq!(npu("NPUW_LLM_PREFILL_CHUNK_SIZE").as_deref(), Some("256"));
        let test = Settings::npu_plugin_on_cpu();
        assert_eq!(
            value(&test, Target::Npu, "NPUW_DEVICES").as_deref(),
            Some("CPU")
        );
        assert_eq!(value(&settings, Target::Cpu, "NPUW_DEVICES"), None);
    }
}
