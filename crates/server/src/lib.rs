//! HTTP: the interfaces that applications already speak, over the models on this machine.
//!
//! A request's way: an interface's module parses the wire type and makes a [`Job`](job::Job) of it; [`Backend::submit`]
//! renders, counts and queues it; what happens to it comes back as a stream of [`Event`](job::Event)s, and the interface
//! writes them as its clients expect. The only crate that knows a wire format.
#![forbid(unsafe_code)]

pub mod keys;
pub mod settings;

mod app;
mod guard;
mod limits;
mod listen;
mod metrics;
mod observe;
mod request_id;
mod status;
mod troika;
mod wishes;

mod media;

mod anthropic;
mod ollama;
mod openai;
mod responses;
mod web;

mod dialect;
mod fields;
mod ids;
mod narrator;
mod report;
mod wire;

mod backend;
mod beside;
mod chats;
mod host;
mod hybrid;
mod metered;
mod parse;
mod pulls;
mod receipts;
mod record;

#[cfg(test)]
mod testing;

pub use app::{Services, app};
pub use backend::{Backend, ModelDetails, Placement, State};
pub use beside::Beside;
pub use chats::Chats;
pub use host::{
    Around, Carried, Courier, Draft, Errand, Host, HostDevice, HostSettings, Offer, Outlook, ram,
    ram_shared,
};
pub use hybrid::{Hybrid, HybridError, HybridPaths, RemoteView};
pub use listen::{Drain, serve};
pub use media::Media;
pub use observe::report_panics_by_place;
pub use parse::parse_job;
pub use pulls::{Fit, Judge, Pulls, Verdict};
pub use receipts::Beyond;
pub use settings::Settings;
pub use troika_job as job;
pub use troika_job::{Answer, ApiError, ErrorKind, EventSender};
