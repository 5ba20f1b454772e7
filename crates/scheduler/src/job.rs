//! A job as the scheduler sees it: numbers of tokens, and what its owner wants.

use serde::{Deserialize, Serialize};

use crate::{Class, Elsewhere, Time};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);
    };
}

id! {
    /// Names a job.
    JobId(u64)
}
id! {
    /// Names a device: its place in the list that the scheduler was given. Greater numbers name endpoints beyond this machine.
    DeviceId(u16)
}
id! {
    /// Names a model.
    ModelId(u32)
}
id! {
    /// Names a pool of memory: its place in the list that the scheduler was given.
    PoolId(u16)
}
id! {
    /// Names who asks; among owners, a class is shared out fairly.
    OwnerId(u32)
}

/// Names a sequence: an answer of a job. The prompt is read by answer 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeqId {
    /// The job.
    pub job: JobId,
    /// Which answer, from 0.
    pub choice: u32,
}

/// What is done with a prompt.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Work {
    /// Answers are written.
    Write {
        /// How many.
        n: u32,
        /// Tokens of each at most.
        max_tokens: u32,
    },
    /// It becomes a vector.
    Embed,
    /// Nothing: its model is brought to where such jobs would go, and the job is done. It has one token, which is not read.
    Load,
}

/// A job.
#[derive(Clone, PartialEq, Debug)]
pub struct JobSpec {
    /// The model.
    pub model: ModelId,
    /// Who asks.
    pub owner: OwnerId,
    /// How urgent it is.
    pub class: Class,
    /// Tokens of its prompt, at least one.
    pub prompt_tokens: u32,
    /// What is done with it.
    pub work: Work,
    /// When its answers are worth nothing any more.
    pub deadline: Option<Time>,
    /// The one device that may do it, or endpoint if it is among those that it may go to.
    pub require_device: Option<DeviceId>,
    /// The endpoints that it may go to. Empty for all that stays on this machine: nothing beyond it is ever looked at, then.
    pub elsewhere: Vec<Elsewhere>,
    /// How long its model stays loaded afterwards; the scheduler's setting if absent.
    pub keep_alive: Option<KeepAlive>,
}

/// How long a model stays loaded after its last job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepAlive {
    /// This long; zero unloads it at once.
    For(std::time::Duration),
    /// Until memory is needed.
    Forever,
}
