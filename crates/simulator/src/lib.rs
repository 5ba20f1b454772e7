//! Loads replayed in virtual time on machines that nobody has to own.
//!
//! A load is a list of [`Arrival`]s; a machine is what the catalogue or a measurement knows of it; a scheduler is the real
//! one or one of those that it is compared with. What comes of the three is a [`Log`], from which every figure and plot is
//! made.
#![forbid(unsafe_code)]

mod log;

pub use log::{Arrival, Log, Outcome, Span, SpanKind, State};
