//! Which job runs next: a state machine without threads or clock.
#![forbid(unsafe_code)]
