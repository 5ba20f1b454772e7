//! HTTP: the interfaces that applications already speak, over the models on this machine.
//!
//! A request's way: an interface's module parses the wire type and makes a [`Job`](job::Job) of it; [`Backend::submit`]
//! renders, counts and queues it; what happens to it comes back as a stream of [`Event`](job::Event)s, and the interface
//! writes them as its clients expect. The only crate that knows a wire format.
#![forbid(unsafe_code)]

pub mod job;

mod anthropic;
mod app;
mod backend;
mod dialect;
mod error;
mod fields;
mod ids;
mod openai;
mod narrator;
mod responses;
mod wire;

#[cfg(test)]
mod testing;

pub use backend::{Answer, Backend, EventSender, ModelDetails};
pub use error::{ApiError, ErrorKind};
