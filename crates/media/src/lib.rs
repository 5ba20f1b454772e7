//! Always-on work on sound and pictures.
#![forbid(unsafe_code)]

pub mod audio;

pub mod card;
pub mod vision;
