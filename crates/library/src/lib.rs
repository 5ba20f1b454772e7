//! The models that a person has: names, files, settings.
//!
//! A [`Library`] is a directory and the models that are part of the program. In the directory stand
//!
//! - `*.gguf`: each is a model, named as its file; those of a model in several files (`-00001-of-00003.gguf`) are one;
//! - `manifests/*.json`: models that were created: settings over one of the files, and adapters ([`Manifest`]);
//! - `blobs/sha256-*`: files that were uploaded. They have no name of their own and live as long as a manifest needs them.
//!
//! Names are looked up in what the directory lists; a path is made of a string in two places alone, [`ModelName`] and
//! [`Digest`], which admit nothing that could lead out of it.
#![forbid(unsafe_code)]

mod error;

// What a model is called and made of.
mod digest;
mod manifest;
mod name;

// What is known of it.
mod entry;
mod formats;
mod metadata;
mod summary;

// Where it is.
mod blobs;
mod disk;
mod files;
mod library;

pub use blobs::Upload;
pub use digest::Digest;
pub use entry::{AdapterFile, Entry, Source};
pub use error::Error;
pub use formats::{Format, Formats};
pub use library::{BuiltIn, Damaged, Library, Survey};
pub use manifest::{Lora, Manifest, Parameters, Turn};
pub use metadata::metadata_json;
pub use name::{ModelName, is_model_path};
pub use summary::Summary;
