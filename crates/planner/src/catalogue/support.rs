//! Which software runs which job on which family of chips, and the numbers that decide.

use serde::{Deserialize, Serialize};

use super::source::Source;

/// What a runtime can do on some families of chips today.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Support {
    /// Families of GPUs (`family`) or NPUs (`npu_family`); `x86` and `arm` are the processors themselves.
    pub families: Vec<String>,
    /// `cuda`, `rocm`, `vulkan`, `metal`, `openvino`, `qnn`, `vitisai`, `coreml`, …
    pub runtime: String,
    /// What it does there.
    pub jobs: Jobs,
    /// Whether it lets an NPU of these families read the prompt for the GPU beside it, which then writes.
    #[serde(default)]
    pub phases: bool,
    /// Tokens of the longest context that it compiles for an NPU of these families, where its shapes are fixed and somebody says
    /// for how many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context_max: Option<u32>,
    /// What one has to know of it.
    pub note: Option<String>,
    /// Where this is from.
    pub source: Source,
}

/// How far each job is supported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Jobs {
    /// Language models.
    pub llm: State,
    /// Embeddings.
    pub embed: State,
    /// Speech to text.
    pub asr: State,
    /// Images and video.
    pub vision: State,
    /// Training and fine-tuning.
    pub train: State,
}

impl Jobs {
    /// The state of a job.
    pub fn of(&self, job: Job) -> State {
        match job {
            Job::Llm => self.llm,
            Job::Embed => self.embed,
            Job::Asr => self.asr,
            Job::Vision => self.vision,
            Job::Train => self.train,
        }
    }
}

/// What somebody wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Job {
    /// Language models.
    Llm,
    /// Embeddings.
    Embed,
    /// Speech to text.
    Asr,
    /// Images and video.
    Vision,
    /// Training and fine-tuning.
    Train,
}

/// How far something is supported, best last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Not at all.
    None,
    /// For those who like to try.
    Experimental,
    /// Some models or formats.
    Partial,
    /// As its vendor promises.
    Full,
}

/// The numbers that decide, from `thresholds.toml`; a user's file may change each.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Thresholds {
    /// Below this, a person does not notice the wait, in milliseconds: a cloud may be near enough.
    pub instant_ms: f64,
    /// What only a device at hand can keep, in milliseconds.
    pub at_hand_ms: f64,
    /// Tokens a second that nobody waits for.
    pub fluent_tps: f64,
    /// Tokens a second that are comfortable to read along with.
    pub comfortable_tps: f64,
    /// Tokens a second that are as fast as people read.
    pub readable_tps: f64,
    /// Seconds to the first token that a conversation bears.
    pub ttft_s: f64,
    /// Dense INT8 TOPS that the NPU of a Copilot+ PC has at least.
    pub copilot_npu_tops: f64,
    /// Memory of a Copilot+ PC, in GB.
    pub copilot_memory_gb: f64,
    /// Storage of a Copilot+ PC, in GB.
    pub copilot_storage_gb: f64,
    /// Age from which a price is warned of, in days.
    pub stale_price_days: f64,
    /// What cooling and losses add in a data centre, as a factor on watts: from.
    pub data_centre_low: f64,
    /// To.
    pub data_centre_high: f64,
    /// Share of a power supply's watts that a machine may take at work.
    pub supply_load: f64,
    /// Share of memory that is left to the system and other programs.
    pub memory_reserve: f64,
}
