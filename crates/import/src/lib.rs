//! Checkpoints as their makers publish them to GGUF: a directory with `config.json`, weights in safetensors, and a
//! tokenizer becomes one file with the names and metadata that llama.cpp's converter gives, so that it reads it too.
//!
//! Numbers keep their format: F32, F16, BF16 and experts in MXFP4 stay what they are, but norms, biases, routers and vectors
//! of positions become F32. What is not known is refused, and so is what would be left out: a tensor that nobody asks for, a
//! flag that changes what is computed. Pickle files (`.bin`, `.pt`) are refused because opening them runs programs.
//!
//! Start at [`Checkpoint::open`]; `architecture.rs` is the table of what is known. [`adapter`] reads a LoRA adapter.
#![forbid(unsafe_code)]

mod adapter;
mod checkpoint;
mod error;

mod architecture;
mod config;
mod encoder;
mod layout;
mod mxfp4;
mod pooling;
mod rope;

mod source;

mod sentencepiece;
mod tokenizer;
mod wordpiece;

pub use adapter::{adapter, write_adapter};
pub use checkpoint::{Checkpoint, Progress};
pub use error::Error;
