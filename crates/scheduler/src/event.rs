//! What the scheduler is told, and what it wants done.
//!
//! A driver carries actions out and tells what came of them. It need not answer in order, but it answers each
//! [`Action::Start`], [`Action::Step`], [`Action::Load`], [`Action::Unload`], [`Action::Move`], [`Action::Probe`] and
//! [`Action::Send`] once, with the event that is named there, or tells that the device is lost.

use std::time::Duration;

use troika_base::{Bytes, Joules};

use crate::account::Account;
use crate::away::{RemoteFacts, Returned, Worth};
use crate::batcher::Slice;
use crate::class::Class;
use crate::decision::Decision;
use crate::facts::{Form, Heat, ModelFacts, Power};
use crate::job::{DeviceId, JobId, JobSpec, ModelId, PoolId, SeqId};
use crate::policy::Policy;

/// What has happened.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A model can be asked for, or is another one now under the same number.
    ModelKnown(ModelFacts),
    /// A model has become something else for one device: it was compiled for it, or could not be.
    FormIs {
        /// The model.
        model: ModelId,
        /// The device.
        device: DeviceId,
        /// What the model is there, or why it does not run there.
        form: Result<Form, String>,
    },
    /// A model cannot be asked for any more. Its jobs are done to their ends.
    ModelForgotten(ModelId),
    /// Let a model go as soon as nobody uses it.
    Cool(ModelId),
    /// A job has come.
    Submitted {
        /// A number that no job had before.
        job: JobId,
        /// The job.
        spec: JobSpec,
    },
    /// Nobody waits for a job any more.
    Cancelled(JobId),
    /// A job is on a device, as [`Action::Start`] wanted.
    Started {
        /// Where.
        device: DeviceId,
        /// The job.
        job: JobId,
        /// Its first tokens that were in a cache there.
        held: u32,
        /// Pages of the cache that nobody needs.
        free_pages: u32,
    },
    /// A step is done.
    StepDone {
        /// Where.
        device: DeviceId,
        /// How it went.
        report: StepReport,
    },
    /// A step was not done, since pages were short; nothing has changed.
    OutOfPages {
        /// Where.
        device: DeviceId,
        /// Pages of the cache that nobody needs.
        free_pages: u32,
    },
    /// A device does something else beside its steps from now on: an always-on model runs, which nobody places. Its steps go
    /// on; but it counts as busy, and what it uses is in its accounts.
    BesideBegan {
        /// Where.
        device: DeviceId,
        /// A number that no job had before.
        run: JobId,
        /// How urgent it is.
        class: Class,
        /// Whether a meter will tell what it used.
        is_metered: bool,
    },
    /// What a device did beside its steps is done, or was given up.
    BesideEnded {
        /// Where.
        device: DeviceId,
        /// Its number.
        run: JobId,
        /// What it used, where a meter told it.
        joules: Option<Joules>,
    },
    /// A model is loaded.
    Loaded {
        /// Where.
        device: DeviceId,
        /// Which.
        model: ModelId,
        /// What it takes of each of the device's pools in truth, its cache included.
        bytes: Vec<Bytes>,
        /// Pages of its cache.
        pages: u32,
        /// How long that took.
        took: Duration,
    },
    /// A model was not loaded.
    LoadFailed {
        /// Where.
        device: DeviceId,
        /// Which.
        model: ModelId,
        /// Why, for people.
        why: String,
        /// Whether the model itself is at fault, so that it is the same on every other day.
        is_final: bool,
    },
    /// A model's memory is free.
    Unloaded {
        /// Where.
        device: DeviceId,
        /// Which.
        model: ModelId,
    },
    /// A job's cache is on another device.
    Moved {
        /// The job.
        job: JobId,
        /// Where it is now.
        to: DeviceId,
        /// Pages of the cache there that nobody needs.
        free_pages: u32,
    },
    /// A job's cache could not be moved; it is where it was.
    MoveFailed {
        /// The job.
        job: JobId,
        /// Why, for people.
        why: String,
    },
    /// A device has answered the question whose answer is known.
    Probed {
        /// Which.
        device: DeviceId,
        /// What was wrong, for people.
        outcome: Result<(), String>,
    },
    /// A device does not answer, answers nonsense or is gone. What it held is gone with it.
    Lost {
        /// Which.
        device: DeviceId,
        /// Why, for people.
        why: String,
    },
    /// An endpoint is known from now on, or something has changed about it. Told before a job may go there.
    RemoteIs(RemoteFacts),
    /// A job is back that was sent away, as [`Action::Send`] wanted. What was cancelled meanwhile need not be told.
    Back {
        /// The job.
        job: JobId,
        /// From where.
        from: DeviceId,
        /// What became of it.
        outcome: Returned,
    },
    /// What other programs take of a pool.
    OthersUse {
        /// The pool.
        pool: PoolId,
        /// How much.
        bytes: Bytes,
    },
    /// Where the power comes from now.
    PowerIs(Power),
    /// How warm a device is now.
    HeatIs {
        /// Which.
        device: DeviceId,
        /// How warm.
        heat: Heat,
    },
    /// The owner wants something else.
    PolicyIs(Policy),
    /// What money is worth to the owner now.
    WorthIs(Worth),
    /// A new day: the budget of energy begins anew.
    Midnight,
}

/// How a step went.
#[derive(Clone, PartialEq, Debug)]
pub struct StepReport {
    /// How long it took.
    pub took: Duration,
    /// What it used, where a meter told it; else it is estimated from the watts of the model's gait there, and unknown
    /// where these are.
    pub joules: Option<Joules>,
    /// What the sequences wrote whose slice was complete.
    pub wrote: Vec<Wrote>,
    /// Tokens that were computed beyond those of the slices: guesses at what the sequences write next, right and wrong.
    pub drafted: u32,
    /// Sequences that cannot go on, with nothing to blame on the device.
    pub failed: Vec<JobId>,
    /// Pages of the model's cache that nobody needs.
    pub free_pages: u32,
}

/// What a sequence wrote in a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wrote {
    /// The sequence.
    pub seq: SeqId,
    /// Tokens, one at least; more where [`Action::Step`] let some be drafted. All but the last are held by now. A vector is
    /// counted as one.
    pub n_tok: u32,
    /// Whether it has ended with the last of them. A vector always has.
    pub has_ended: bool,
}

/// What is to be done.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum Action {
    /// Answer a known question on a device. Answered by [`Event::Probed`].
    Probe(DeviceId),
    /// Have nothing more to do with a device, nor with what it still answers: it hangs, or answers nonsense. All that was on
    /// it is forgotten. Not answered; it may be probed again later.
    Abandon(DeviceId),
    /// Bring a model to a device. Answered by [`Event::Loaded`] or [`Event::LoadFailed`].
    Load {
        /// Where.
        device: DeviceId,
        /// Which.
        model: ModelId,
        /// Tokens of its cache.
        kv_tokens: u32,
    },
    /// Take a model off a device, and keep its cached prefixes elsewhere if that is worth it. Answered by
    /// [`Event::Unloaded`].
    Unload {
        /// Where.
        device: DeviceId,
        /// Which.
        model: ModelId,
        /// Whether its prefixes are kept.
        keep_prefixes: bool,
    },
    /// Look up what a job's tokens share with the cache of a device, and pin that. Answered by [`Event::Started`].
    Start {
        /// Where.
        device: DeviceId,
        /// The model.
        model: ModelId,
        /// The job.
        job: JobId,
    },
    /// Run a step. Answered by [`Event::StepDone`], [`Event::OutOfPages`] or [`Event::Lost`].
    Step {
        /// Where.
        device: DeviceId,
        /// The model.
        model: ModelId,
        /// Whose tokens.
        slices: Vec<Slice>,
        /// Whether it may last a little longer, for guesses at the tokens after those that are written in it.
        may_draft: bool,
    },
    /// Take the caches of all of a job's sequences to another device, where its model is. Answered by [`Event::Moved`] or
    /// [`Event::MoveFailed`].
    Move {
        /// The job.
        job: JobId,
        /// The model.
        model: ModelId,
        /// From where.
        from: DeviceId,
        /// To where.
        to: DeviceId,
        /// Tokens in its cache, over all sequences.
        tokens: u32,
    },
    /// Let go of a sequence's cache, while the job's other sequences go on: it is read again from its tokens later, in a
    /// step. Not answered; later free pages count it.
    Release {
        /// Where.
        device: DeviceId,
        /// The sequence.
        seq: SeqId,
    },
    /// Forget a job on a device: it was cancelled, waits again, or goes on elsewhere. Not answered; later free pages count
    /// what it had. Of an endpoint: call the job back, it was cancelled.
    Drop {
        /// Where.
        device: DeviceId,
        /// The job.
        job: JobId,
    },
    /// Send a job to an endpoint, one of those that it brought along. It has no other place until it is back: answered by
    /// [`Event::Back`], however long that takes.
    Send {
        /// The job.
        job: JobId,
        /// Where to.
        to: DeviceId,
    },
    /// A job will not be done.
    Refuse {
        /// The job.
        job: JobId,
        /// Why.
        refusal: Refusal,
    },
    /// A job is where it is for these reasons. Told whenever it is placed.
    Place(Box<Decision>),
    /// A job is done.
    Finish {
        /// The job.
        job: JobId,
        /// What it took.
        account: Box<Account>,
    },
}

/// Why a job is not done.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum Refusal {
    /// Too many wait.
    #[error("{waiting} jobs of class {class} wait already; try again in {retry_after:.0?}")]
    QueueFull {
        /// Its class.
        class: Class,
        /// How many wait.
        waiting: usize,
        /// When to come again.
        retry_after: Duration,
    },
    /// It would come too late.
    #[error(
        "the answer is expected in {expected_s:.1} s ({low_s:.1} to {high_s:.1} s), and the deadline is in {left_s:.1} s"
    )]
    Deadline {
        /// Seconds until its end, as estimated.
        expected_s: f64,
        /// At best.
        low_s: f64,
        /// At worst.
        high_s: f64,
        /// Seconds until the deadline.
        left_s: f64,
    },
    /// Its deadline passed while it waited.
    #[error("the deadline passed while the job waited")]
    DeadlinePassed,
    /// The device that it requires does not do it.
    #[error("{device} is required and cannot do it: {why}")]
    RequiredDevice {
        /// The device's name.
        device: String,
        /// What is in the way.
        why: String,
    },
    /// No device can do it.
    #[error("no device can run {model}: {why}")]
    NoDevice {
        /// The model's name.
        model: String,
        /// What is in the way, for each.
        why: String,
    },
    /// Memory is short, and will not be free in time.
    #[error(
        "{model} needs {needs}, and {free} is free; take a smaller model or a smaller context, or wait until others are done"
    )]
    Memory {
        /// The model's name.
        model: String,
        /// What it needs.
        needs: Bytes,
        /// What there is for it.
        free: Bytes,
    },
    /// The model does not load, or is not known.
    #[error("{why}")]
    Model {
        /// Why, for people.
        why: String,
    },
    /// It failed as often as jobs are tried.
    #[error("it was tried on {tries} devices and failed: {why}")]
    Failed {
        /// How often.
        tries: u32,
        /// The last reason.
        why: String,
    },
}
