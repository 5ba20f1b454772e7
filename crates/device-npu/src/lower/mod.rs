//! From a GGUF model to a graph that an NPU's compiler takes.
//!
//! A decoder is read from the file into a graph of a dozen operations (`graph.rs`), which an emitter (`emit/`) spells
//! in a compiler's format. There are two forms of it:
//!
//! - **stateful** ([`write_ir`]), for OpenVINO: tokens in, logits out, keys and values inside, shapes free;
//! - **static** ([`write_onnx`]), for ONNX: a graph for each number of tokens, keys and values in and out, and what depends
//!   on positions computed by a [`Host`].
//!
//! Weights are written anew (`weights/`) as the chip wants them. No model is in memory whole, and no file is there before it
//! is complete.
//!
//! Encoders of texts are small and one form serves all: [`bert`].

pub mod bert;

mod decoder;
mod emit;
mod format;
mod graph;
mod host;
mod rotation;
mod weights;
mod write;

#[cfg(test)]
pub(crate) mod tests;

pub use format::{Group, UnknownFormat, WeightFormat};
pub use host::Host;
pub use write::{Activations, LogitRows, Progress, StaticGraph, StaticShape, write_ir, write_onnx};
