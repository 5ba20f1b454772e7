//! Compiled models: made in a process of their own, and kept.
//!
//! A maker's compiler takes minutes and may crash, so a [`Worker`] runs it in a child process, whose side is [`serve`];
//! the two speak by JSON lines (`wire`). What was made goes to the [`Store`], a directory with a size limit, under a
//! [`Key`] of all that decides over it, with what the weights lost ([`Loss`]). Start with `NpuDevice` in `device.rs`, which
//! joins them.

mod key;
mod lock;
mod loss;
mod manifest;
mod process;
mod serve;
mod store;
mod wire;
mod worker;

#[cfg(test)]
mod tests;

pub use key::Key;
pub use loss::{Compare, LOSS_MAX, Loss};
pub use manifest::{FileEntry, Manifest};
pub use serve::serve;
pub use store::{Cleared, Draft, Entry, Facts, Listed, Slot, Store};
pub use wire::Request;
pub use worker::{Done, Worker};
