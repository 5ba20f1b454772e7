//! A model's weights in fewer bits.
//!
//! A [`Mix`] is a recipe as people name it (`Q4_K_M`); with a file it becomes a [`Plan`], which says of every tensor in
//! which format it will stand; [`Losses`] make a plan for a size instead. [`run`] carries a plan out, row by row and on all
//! threads, into a file that appears whole or not at all. Nothing here decides what is shown, and no model runs: what counts how much comes as an [`Importance`],
//! which somebody has measured.
#![forbid(unsafe_code)]

mod allot;
mod error;
mod importance;
mod knapsack;
mod metadata;
mod mix;
mod plan;
mod role;
mod rules;
mod run;

pub use allot::{Allotment, Allotted, Budget, Harms, Losses};
pub use error::Error;
pub use importance::{Columns, Importance, Origin};
pub use mix::{Mix, UnknownMix};
pub use plan::{Fixed, Plan, Planned, Request};
pub use run::{Cancelled, Progress, run};
