//! Loads replayed in virtual time on machines that nobody has to own.
//!
//! A load is a list of [`Arrival`]s; a machine ([`VirtualMachine`]) is what the catalogue or a measurement knows of it; a
//! scheduler ([`SchedulerKind`]) is the real one or one of those that it is compared with. What comes of the three
//! ([`simulate`]) is a [`Log`], from which every figure and plot is made.
#![forbid(unsafe_code)]

mod baseline;
mod beyond;
mod faults;
mod figures;
mod invariants;
pub mod load;
mod log;
mod machine;
mod storm;
mod trace;
mod world;

mod chance;

pub use baseline::SchedulerKind;
pub use beyond::{Beyond, RemoteError, RemoteFaults, VirtualRemote};
pub use faults::Faults;
pub use figures::{
    Against, ClassFigures, DeviceFigures, Ends, Figures, Foretold, Percentiles, Share,
};
pub use invariants::Violation;
pub use load::{Load, LoadError, Shape};
pub use log::{Arrival, Log, Outcome, RemoteLog, Span, SpanKind, State};
pub use machine::{Hardware, MachineError, QUANTIZATION, VirtualMachine};
pub use storm::{Storm, storm};
pub use trace::{
    ANSWERS_MAX, TOKENS_MAX, TRACE_VERSION, Ticket, TraceError, TraceFault, TraceReader,
    TraceWriter, write_trace,
};
pub use troika_scheduler::Time;
pub use world::{Options, Seen, SimulationError, simulate, watch};
