//! The words that all rooms share: token ids, number formats, units, device profiles and estimates.
//!
//! Plain values without I/O and without policy. A type belongs here when two rooms that do not know each other
//! have to agree on it; everything else lives with its owner.
#![forbid(unsafe_code)]

mod dtype;
mod estimate;
mod kv_type;
mod model_spec;
mod profile;
mod sampling;
mod token;
mod units;

pub use dtype::DType;
pub use estimate::Estimate;
pub use kv_type::{KvType, UnknownKvType};
pub use model_spec::{ExpertShape, ModelSpec};
pub use profile::{Basis, DeviceKind, DeviceProfile, MemoryPool, NumberFormat, Rate, Unit};
pub use sampling::ExtraSampling;
pub use token::TokenId;
pub use units::{Bytes, Joules, Micros};
