//! Language models as ONNX graphs with static shapes: Qualcomm's way and AMD's, and plain Rust's where nothing is
//! installed.
//!
//! [`Onnx`] is the back end. A model becomes two graphs over the same weights, one for a chunk of a prompt and one for a
//! token; what runs them is an [`Executor`](crate::exec::Executor). Keys and values are in the host's memory, so that
//! sequences may share them, move and come back.

mod backend;
mod cache;
mod graph;
mod resident;
mod staging;

#[cfg(test)]
mod tests;

pub use backend::{Htp, Onnx, Place};
