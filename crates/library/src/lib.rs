//! The models that a person has: names, files, settings.
#![forbid(unsafe_code)]

mod manifest;

pub use manifest::{Manifest, Parameters};
