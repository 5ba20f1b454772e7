//! Always-on work on sound and pictures.
#![forbid(unsafe_code)]
