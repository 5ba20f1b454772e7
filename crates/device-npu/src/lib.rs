//! Neural processors as devices, and graphs as what they run.
//!
//! An NPU runs whole compiled graphs. A GGUF model is *lowered* ([`lower`]) to a small graph description, which is
//! written as ONNX or as OpenVINO's IR; a *backend* ([`Backend`]) compiles it for a chip, in a process of its own
//! ([`compile`]), and opens what was compiled as a [`Resident`](troika_device::Resident). [`openvino`] is Intel's way,
//! [`onnx`] that of Qualcomm and AMD, and of plain Rust where nothing is installed. [`exec`] runs any ONNX model, for
//! always-on work. [`found`] says which NPUs and which libraries there are, or what is missing and how to get it.
//!
//! Nothing is linked: all makers' libraries are loaded when they are wanted.
#![deny(unsafe_code)]

mod backend;
mod backends;
mod device;
mod error;
#[cfg(test)]
mod testing;

pub mod compile;
pub mod exec;
pub mod found;
pub mod lower;
pub mod onnx;
pub mod openvino;

pub use backend::{Backend, CompileOptions, CompileProgress, Phase};
pub use backends::{Backends, Offer, Refused, StandIn, UnknownStandIn, backends};
pub use device::{Compiled, NpuDevice, NpuOptions};
pub use error::{Absent, Error};
pub use lower::{Group, WeightFormat};
