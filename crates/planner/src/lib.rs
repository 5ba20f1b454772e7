//! Plans: what fits on which machine, how fast it is, how many watts it takes, and what it costs.
#![forbid(unsafe_code)]

pub mod catalogue;
