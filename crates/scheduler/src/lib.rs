//! Which job runs next: a state machine without threads or clock.
//!
//! [`Batcher`] decides what the next step of one model computes: which sequences write a token, and how much of whose
//! prompt is read beside them. It knows numbers of tokens and pages, nothing of what they hold; a thin loop around it
//! asks for a [`Plan`], runs it, and tells what came of it. So everything that can happen can be played in a test.
#![forbid(unsafe_code)]

mod batcher;
mod pace;

pub use batcher::{Batcher, Limits, Plan, QueueFull, SeqId, Slice};
