//! What this computer is.
//!
//! [`Machine`] is plain data: the processors, the memory, the power supply and the meters, as far as they can be known.
//! `probe` reads it from the system without asking anything of the devices; `measure` makes them work for half a minute and
//! fills in what they really do. `meter` and `watch` stay beside a server while it runs. What is not known is `None` beside the reason; nothing is invented.
#![forbid(unsafe_code)]

pub mod probe;

pub mod measure;
pub mod meter;
pub mod watch;

mod describe;
mod model;
mod store;

pub use model::{
    Battery, Cache, CoreKind, Cpu, Found, Machine, MemoryFacts, Meter, MeterKind, PowerSource,
    Processor, Unknown,
};
pub use store::StoreError;
