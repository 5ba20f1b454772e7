//! What goes into a simulation and what comes out of it.

use std::time::Duration;

use serde::Serialize;
use troika_scheduler::{Account, Class, Time, Work};

/// A job that comes.
#[derive(Clone, PartialEq, Debug)]
pub struct Arrival {
    /// When.
    pub at: Time,
    /// The model's name, as the catalogue spells it.
    pub model: String,
    /// How urgent it is.
    pub class: Class,
    /// Who asks.
    pub owner: String,
    /// Tokens of its prompt, at least one.
    pub prompt_tokens: u32,
    /// Those of them, from the first on, that are as in what its owner's job before it with that model read and wrote: a
    /// conversation that goes on, or the same instructions.
    pub shared: u32,
    /// What is done with it. Of a job that writes, the tokens are those that it really writes.
    pub work: Work,
    /// Time until its end is worth nothing any more.
    pub deadline: Option<Duration>,
    /// Its client leaves after so long, whether it is done or not.
    pub leaves: Option<Duration>,
    /// The one device that may do it.
    pub device: Option<String>,
}

/// What became of a job.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Outcome {
    /// When it came.
    pub at: Time,
    /// Its model.
    pub model: String,
    /// Its class.
    pub class: Class,
    /// Tokens of its prompt.
    pub prompt_tokens: u32,
    /// How it ended.
    pub state: State,
    /// When it ended.
    pub end: Time,
    /// Time to its first token, in seconds; of a vector, to the vector.
    pub ttft_s: Option<f64>,
    /// Seconds between each token and the one before it, over all answers.
    #[serde(skip)]
    pub gaps_s: Vec<f32>,
    /// Tokens that were written.
    pub tokens: u32,
    /// What it took; absent if it never began.
    pub account: Option<Account>,
}

/// How a job ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should.
    Done,
    /// Its client left.
    Cancelled,
    /// It was refused, for this reason.
    Refused(String),
    /// The simulation ended first.
    Open,
}

/// What a device did, from when to when.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Span {
    /// The device's number.
    pub device: u16,
    /// From when.
    pub from: Time,
    /// To when.
    pub to: Time,
    /// The model's name.
    pub model: String,
    /// What.
    pub kind: SpanKind,
    /// The most urgent class in it.
    pub class: Option<Class>,
    /// Watts meanwhile.
    pub watts: f64,
}

/// What a device does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SpanKind {
    /// A step with a prompt in it.
    Read,
    /// A step without one.
    Write,
    /// A model is loaded.
    Load,
    /// A cache arrives from another device.
    Move,
    /// It is lost.
    Lost,
}

/// What an endpoint beyond the machine did.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct RemoteLog {
    /// `remote:NAME`.
    pub name: String,
    /// Jobs that were sent there.
    pub jobs: usize,
    /// Those of them that came back undone.
    pub undone: usize,
    /// What it cost.
    pub money: f64,
}

/// What happened in a simulation.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Log {
    /// The machine's name.
    pub machine: String,
    /// `troika`, `static`, ...
    pub scheduler: String,
    /// The devices' names by number.
    pub devices: Vec<String>,
    /// The endpoints, whose numbers follow those of the devices.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remotes: Vec<RemoteLog>,
    /// What became of each job, in the order of arrival.
    pub outcomes: Vec<Outcome>,
    /// What each device did, in order; neighbours of one kind are one span.
    pub spans: Vec<Span>,
    /// When the last job ended.
    pub end: Time,
    /// Joules of each device while it worked.
    pub joules_busy: Vec<f64>,
    /// Joules of each device while it rested.
    pub joules_idle: Vec<f64>,
    /// Watts of the rest of the machine, which no scheduler has a hand in.
    pub watts_rest: f64,
    /// Models that were put away for others.
    pub evictions: u32,
    /// Jobs that went from one device to another.
    pub moves: u32,
    /// Jobs that began again elsewhere after their device failed.
    pub replays: u32,
}
