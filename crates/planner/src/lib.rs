//! What fits, how fast, how many watts, what it costs.
//!
//! Pure: facts in, answers out. Nothing here reads a clock, a file or a device, but for [`catalogue`], which reads a user's own
//! rows, and [`model`], which reads the head of a model file; `troika-machine` measures, and the program hands over what it
//! found. [`cost`] is the one cost model of the project: whatever estimates asks it.
#![forbid(unsafe_code)]

pub mod calc;
pub mod catalogue;
pub mod cost;
pub mod emit;
pub mod import;
pub mod model;
pub mod plan;
pub mod predict;
pub mod quantization;
pub mod tco;
