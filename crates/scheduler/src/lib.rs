//! Which job runs where and when: a state machine without threads or clock.
//!
//! [`Scheduler`] is told what happens ([`Event`]) and says what is to be done ([`Action`]). It knows numbers of tokens and
//! pages, nothing of what they hold; a driver carries its actions out, on real devices in the server and on none at all in
//! a simulation. So everything that can happen can be played in a test.
//!
//! One job's way: it is submitted and waits in its class's queue (`queue`); a device is chosen for it (`place`) by what
//! the gait of its model there predicts (`gait`), if the ledger has room for the model (`ledger`); from then on the
//! device's [`Batcher`] decides what each step computes of it.
#![forbid(unsafe_code)]

mod account;
mod away;
mod batcher;
mod beside;
mod class;
mod decision;
mod event;
mod facts;
mod fleet;
mod gait;
mod habit;
mod job;
mod ledger;
mod live;
mod pace;
mod place;
mod policy;
mod queue;
mod scheduler;
mod settings;
mod snapshot;
mod time;

pub use account::{Account, JoulesSource, Phase, Span};
pub use away::{Elsewhere, RemoteFacts, Returned, Worth};
pub use batcher::{Batcher, Limits, Plan, Slice};
pub use class::{Class, UnknownName};
pub use decision::{Candidate, Cause, Decision, JobForecast, Lost};
pub use event::{Action, Event, Refusal, StepReport, Wrote};
pub use facts::{DeviceFacts, Form, Heat, ModelFacts, PoolFacts, Power};
pub use gait::{Correction, Gait, Load};
pub use job::{DeviceId, JobId, JobSpec, KeepAlive, ModelId, OwnerId, PoolId, SeqId, Work};
pub use policy::{Goal, Policy};
pub use scheduler::{Outlook, Schedule, Scheduler};
pub use settings::Settings;
pub use snapshot::{
    AwayView, BudgetView, DeviceView, JobView, PoolView, QueueView, ResidentView, Snapshot,
};
pub use time::Time;
