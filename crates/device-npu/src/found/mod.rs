//! Which NPUs and which libraries there are, or what is missing and how to get it.
//!
//! Chips, drivers and their nodes are what [`troika_machine`] has read; nothing is probed twice. Libraries are looked for
//! in [`Environment`]'s folders, by their names alone: looking opens no device and loads nothing.

mod chip;
mod environment;
mod library;

#[cfg(test)]
mod tests;

pub use chip::{Chip, Maker, chips};
pub use environment::{Environment, Platform};
pub use library::{Finding, Libraries, Library, Origin};
