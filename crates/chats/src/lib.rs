//! Conversations that are kept: stored, searched, shown.
#![forbid(unsafe_code)]
