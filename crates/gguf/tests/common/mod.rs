//! What the tests of this crate share.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "every test binary compiles this file and uses a part of it"
)]

pub mod exercise;
pub mod raw;

use std::fs;
use std::path::PathBuf;

/// A new file of the test's own, in the directory that cargo keeps for tests.
pub fn scratch_file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = scratch_dir(name).join("model.gguf");
    fs::write(&path, bytes).expect("the scratch directory takes files");
    path
}

/// An empty directory of the test's own.
pub fn scratch_dir(name: &str) -> PathBuf {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).expect("cargo's directory for tests takes directories");
    dir
}
