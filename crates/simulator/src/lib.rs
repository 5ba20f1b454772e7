//! Loads replayed in virtual time on machines that nobody has to own.
//!
//! A load is a list of [`Arrival`]s; a machine ([`VirtualMachine`]) is what the catalogue or a measurement knows of it; a
//! scheduler ([`SchedulerKind`]) is the real one or one of those that it is compared with. What comes of the three
//! ([`simulate`]) is a [`Log`], from which every figure and plot is made.
#![forbid(unsafe_code)]

mod baseline;
pub mod load;
mod log;
mod machine;
mod trace;
mod world;

pub use baseline::SchedulerKind;
pub use load::{Load, LoadError, Shape};
pub use log::{Arrival, Log, Outcome, Span, SpanKind, State};
pub use machine::{MachineError, QUANTIZATION, VirtualMachine};
pub use trace::{
    ANSWERS_MAX, TOKENS_MAX, TRACE_VERSION, Ticket, TraceError, TraceFault, TraceReader,
    TraceWriter, write_trace,
};
pub use world::{Options, SimulationError, simulate};
