//! A request for text, whatever interface it came by, and what comes back.
//!
//! Every interface of the server converts its own wire types to a [`Job`], and what is answered, a stream of [`Event`]s, to
//! its own bodies; a remote endpoint's client does the same the other way round. Nothing here knows a wire format.
#![forbid(unsafe_code)]

mod answer;
mod error;
mod report;

pub use answer::{Answer, EventSender};
pub use error::{ApiError, ErrorKind, Failed};
pub use report::{Cost, Report, Sent, Usage, add};

use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};
use troika_base::ExtraSampling;
use troika_engine::chat::{ChatMessage, ToolCall};
use troika_scheduler::Class;

/// A request for text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Job {
    /// The model as the client names it.
    pub model: String,
    /// What the answer follows.
    pub prompt: Prompt,
    /// How many answers are wanted.
    pub n: usize,
    /// Tokens of each answer at most; the context's end if absent.
    pub max_tokens: Option<usize>,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Strings that end an answer; they are not part of it.
    pub stop: Vec<String>,
    /// The model cannot end an answer: each has `max_tokens` tokens.
    pub ignore_end: bool,
    /// Report each token's log-probability, and those of this many of the likeliest. `None` reports none.
    pub top_logprobs: Option<usize>,
    /// The form that the answer must have.
    pub format: Format,
    /// What to do with a prompt that is longer than the context.
    pub overflow: Overflow,
    /// How long the model stays loaded afterwards; the server's setting if absent.
    pub keep_alive: Option<KeepAlive>,
    /// Tokens of context that the model is loaded with, if it is not loaded yet; the server's setting if absent.
    pub n_ctx: Option<usize>,
    /// How it is to be placed.
    pub wishes: Wishes,
}

/// How a job is to be placed: what the request's headers and body say of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// The request's number, by which its placements are found afterwards.
    pub request_id: String,
    /// How urgent it is; the key's class, or else the endpoint's, if absent.
    pub class: Option<Class>,
    /// Time until the whole answer is worth nothing any more.
    pub deadline: Option<Duration>,
    /// The one device that may do it: `npu0`.
    pub device: Option<String>,
    /// It must not leave this machine.
    pub local_only: bool,
}

/// What an answer follows.
#[derive(Clone, Debug, PartialEq)]
pub enum Prompt {
    /// A conversation, rendered by the model's chat template.
    Chat(Box<ChatPrompt>),
    /// Text as it is; the answer goes on with it. Special tokens in it are text.
    Text(String),
    /// Text that has special tokens in it, as a template would have rendered it. The token that begins a text is put
    /// before it where the model wants one and it is not there.
    Rendered(String),
    /// Token ids.
    Tokens(Vec<u32>),
}

impl Default for Prompt {
    fn default() -> Self {
        Self::Text(String::new())
    }
}

/// A conversation and what the model may do in it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChatPrompt {
    /// The turns, oldest first. Contents are text: an interface refuses other parts by
    /// [`ApiError::unsupported`](crate::ApiError::unsupported).
    pub messages: Vec<ChatMessage>,
    /// Tools, as `{"type": "function", "function": {"name", "description", "parameters", "strict"}}`.
    pub tools: Vec<Value>,
    /// Whether the model calls one of them.
    pub tool_choice: ToolChoice,
    /// Whether it may call several in one answer.
    pub parallel_tool_calls: bool,
    /// Whether the model thinks before it answers, where its template leaves the choice.
    pub thinking: Option<bool>,
    /// How much it thinks: `low`, `medium`, `high`, or what else its template knows.
    pub effort: Option<String>,
    /// The answer goes on with the last message, which is the assistant's, rather than beginning a new one.
    pub continue_last: bool,
    /// Further variables for the template.
    pub template_variables: Map<String, Value>,
}

/// Whether a model calls tools.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ToolChoice {
    /// As it likes.
    #[default]
    Auto,
    /// It does not. The tools are not shown to it.
    Never,
    /// At least one.
    Required,
    /// This one.
    Function(String),
}

/// How tokens are chosen. What is absent is the model's own default, or else the engine's.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(missing_docs, reason = "as in `SamplingParams`")]
pub struct Sampling {
    pub temperature: Option<f32>,
    pub top_k: Option<u32>,
    pub top_p: Option<f32>,
    pub min_p: Option<f32>,
    pub repeat_penalty: Option<f32>,
    pub repeat_last_n: Option<u32>,
    pub presence_penalty: Option<f32>,
    pub frequency_penalty: Option<f32>,
    pub seed: Option<u64>,
    pub logit_bias: Vec<(u32, f32)>,
    pub extra: ExtraSampling,
}

/// The form that an answer must have.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Format {
    /// Any text.
    #[default]
    Text,
    /// Any JSON object.
    JsonObject,
    /// JSON that a schema describes.
    JsonSchema(Value),
    /// Text that a regular expression matches as a whole.
    Regex(String),
    /// A grammar in llguidance's form of Lark.
    Lark(String),
}

/// What to do with a prompt that is longer than the context.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// Refuse it, naming both numbers.
    #[default]
    Refuse,
    /// Leave out the oldest turns (of a text: its beginning) until it fits; the system message stays.
    Truncate,
}

/// How long a model stays loaded after its last job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepAlive {
    /// This long; zero unloads it at once.
    For(Duration),
    /// Until memory is needed.
    Forever,
}

/// What happens while a job is done. Every stream ends with [`Event::Finished`] for each answer, in any order, or with one
/// error; then comes [`Event::Done`].
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// It is known where the job will run. Comes first, and again if that changes.
    Placed(Placed),
    /// The prompt is read; from here on comes text.
    Started(Started),
    /// More of an answer.
    Delta(Delta),
    /// An answer is complete.
    Finished {
        /// Which answer.
        choice: usize,
        /// Why it ended.
        finish: FinishReason,
    },
    /// All answers are complete.
    Done(Usage),
}

/// Where a job runs, by the devices' names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placed {
    /// Where its prompt is read.
    pub prefill: String,
    /// Where its answers are written.
    pub decode: String,
}

/// What is known when the first token comes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Started {
    /// The tokens of the prompt.
    pub prompt_tokens: usize,
    /// Of these, tokens that were in the prefix cache.
    pub cached_tokens: usize,
}

/// More of an answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Delta {
    /// Which answer, from 0.
    pub choice: usize,
    /// Its parts, in order.
    pub parts: Vec<Part>,
    /// The tokens, if their log-probabilities were asked for.
    pub tokens: Vec<TokenLogprob>,
}

/// A part of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    /// What is said.
    Content(String),
    /// What is thought before it is said.
    Reasoning(String),
    /// A call of a tool, complete: `id` is set and `arguments` are JSON as text.
    ToolCall(ToolCall),
}

/// A token of an answer with its log-probability.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TokenLogprob {
    /// Its number.
    pub id: u32,
    /// Its bytes; a token may hold a part of a character.
    pub bytes: Vec<u8>,
    /// The natural logarithm of its probability.
    pub logprob: f32,
    /// The likeliest tokens at its place; their own `top` is empty.
    pub top: Vec<Self>,
}

impl TokenLogprob {
    /// Its text; bytes that are no character are shown as such.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// Why an answer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// The model ended it.
    EndOfText,
    /// This stop string came up.
    StopString(String),
    /// As many tokens as were asked for, or the context is full.
    Length,
    /// It calls tools.
    ToolCalls,
}

/// An answer as a whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// What is said.
    pub content: String,
    /// What was thought.
    pub reasoning: String,
    /// The calls.
    pub tool_calls: Vec<ToolCall>,
    /// The tokens, if their log-probabilities were asked for.
    pub tokens: Vec<TokenLogprob>,
    /// Why it ended.
    pub finish: FinishReason,
}

/// All answers of a job.
#[derive(Clone, Debug, PartialEq)]
pub struct Completed {
    /// The answers, as many as were asked for.
    pub choices: Vec<Choice>,
    /// The numbers.
    pub usage: Usage,
}

/// Texts to embed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EmbedJob {
    /// The model as the client names it.
    pub model: String,
    /// What is embedded: [`Prompt::Text`] or [`Prompt::Tokens`].
    pub inputs: Vec<Prompt>,
    /// What to do with an input that is longer than the context.
    pub overflow: Overflow,
    /// Shorter vectors than the model's own, scaled to length 1 again.
    pub dimensions: Option<usize>,
    /// How long the model stays loaded afterwards.
    pub keep_alive: Option<KeepAlive>,
    /// How it is to be placed.
    pub wishes: Wishes,
}

/// Vectors of length 1, one for each input.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Embedded {
    /// The vectors.
    pub vectors: Vec<Vec<f32>>,
    /// The numbers.
    pub usage: Usage,
}

/// Who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// The API key's name; `None` where no keys are in use. Prefixes are cached for each caller alone.
    pub key: Option<String>,
    /// The class of its jobs, where they name none.
    pub class: Option<Class>,
}

impl From<KeepAlive> for troika_scheduler::KeepAlive {
    fn from(keep_alive: KeepAlive) -> Self {
        match keep_alive {
            KeepAlive::For(time) => Self::For(time),
            KeepAlive::Forever => Self::Forever,
        }
    }
}

/// A model that is installed.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelInfo {
    /// Its name.
    pub name: String,
    /// When its file changed last.
    pub modified: SystemTime,
    /// The file's size.
    pub file_bytes: u64,
    /// Names this state of the model: 64 hexadecimal digits.
    pub digest: String,
    /// `llama`, `qwen3`, ...
    pub architecture: String,
    /// How many weights it has.
    pub n_parameter: u64,
    /// The format of most weights, as GGUF spells it.
    pub quantization: String,
    /// Tokens of context that it was trained for.
    pub n_ctx_train: usize,
    /// Length of its embeddings.
    pub n_embd: usize,
    /// What its chat template knows.
    pub capabilities: Capabilities,
}

/// What can be asked of a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// It has a chat template.
    pub chat: bool,
    /// The template knows tools.
    pub tools: bool,
    /// The template knows thinking.
    pub thinking: bool,
}

/// A model that is loaded.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadedModel {
    /// The model.
    pub info: ModelInfo,
    /// Memory that weights and KV cache take.
    pub memory_bytes: u64,
    /// Tokens of its context.
    pub n_ctx: usize,
    /// When it will be unloaded if nobody asks for it; `None` for never, or not while it is in use.
    pub expires: Option<SystemTime>,
}
