//! Models from elsewhere onto this machine: looked at, downloaded in parts, verified.
#![forbid(unsafe_code)]
