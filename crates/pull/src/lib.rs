//! Models from elsewhere onto this machine: looked at, downloaded in parts, verified.
//!
//! [`Puller::look`] says what a [`Reference`] names, how large it is and under which licence, and reads the head of the
//! file; [`Puller::pull`] fetches it. Nothing here renders, plans or serves: whether a model fits is told by whoever gives
//! the head to the planner.
//!
//! A file's way: `hub`, `registry` or `direct` find its address, length and digest; `download` has four connections fetch
//! runs of pieces, which `store` writes at their places and notes down with a check of their bytes; `trail` reads them
//! again in order, holds each against its check and sums the digest; when that is right, the library takes the file by
//! one change of names. What is not whole stands in a hidden directory that no list shows.
#![forbid(unsafe_code)]

// What others see.
mod error;
mod progress;
mod puller;
mod reference;
mod sites;

// Where a file is, and what is known of it.
mod direct;
mod found;
mod header;
mod hub;
mod part;
mod registry;

// How it gets here.
mod check;
mod client;
mod download;
mod space;
mod store;
mod trail;

pub use error::Error;
pub use found::Choice;
pub use progress::{Progress, Stage};
pub use puller::{Look, Puller, Wish};
pub use reference::Reference;
pub use sites::{Patience, Sites};
