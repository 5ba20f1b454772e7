//! What a device is to the rest of Troika, and the CPU's operations.
//!
//! Two contracts. [`Device`] is what placement sees: it loads a model and runs steps of it, and it fits an NPU, which
//! runs whole compiled graphs. [`Ops`] is what an architecture is written over: the operations of a transformer on
//! activations that never leave the device; the CPU and the GPU become devices through it (the engine joins the two).
//! [`Paced`] is a device that exists
//! in time alone. [`conformance`] is the suite that every device passes.
#![forbid(unsafe_code)]

mod around;
mod batch;
mod device;
mod error;
mod fingerprint;
mod kv;
mod layer;
mod ops;
mod paced;
mod split;

pub mod conformance;
pub mod cpu;
pub mod hyperparameters;

pub use around::Around;
pub use batch::{Batch, Output, Sequence};
pub use device::{
    Abilities, Cancelled, Device, ExpertsInFile, Hidden, Interrupt, LoadOptions, LoadProgress,
    Logits, Outputs, Preparation, Resident,
};
pub use error::Error;
pub use fingerprint::Fingerprint;
pub use half::f16;
pub use kv::check_kv;
pub use layer::{Attending, Feature, Mixture};
pub use ops::{Ahead, Arrival, Ops, Rope};
pub use paced::{Clock, Lag, Paced, StepShape, SystemClock};
pub use split::{ModelBytes, Part, Split, TensorPlace};
pub use troika_kernels::{Gating, KvShape, PAGE_TOKENS, RopePairs};
