//! Always-on work on sound, pictures and texts.
#![forbid(unsafe_code)]

pub mod audio;

pub mod card;
pub mod vision;

pub mod embed;
