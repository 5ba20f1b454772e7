//! Any bytes, opened as a model; what is accepted is read in full, written again and compared.
//!
//! The same checks run on the stable compiler as property tests: `tests/mutations.rs`.
#![no_main]

#[path = "../../tests/common/exercise.rs"]
mod exercise;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    exercise::exercise(bytes);
});
