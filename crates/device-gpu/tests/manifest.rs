//! The tiers test what they say: the GPU is the one that was asked for, and the list of skips names tests that are.

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// `cargo xtask gpu-tiers` asks lavapipe for subgroups of a size. A driver that took no notice would be tested thrice the
/// same way.
#[test]
fn subgroups_have_the_size_that_was_asked_for() {
    let Some(want) = std::env::var_os("TROIKA_GPU_TEST_SUBGROUP") else {
        return;
    };
    let gpu = common::gpu().expect("a tier runs where there is a GPU");
    let want: u32 = want.to_str().and_then(|s| s.parse().ok()).expect("a size");
    assert!(gpu.caps().software, "{} is no program", gpu.found().name);
    assert_eq!(gpu.caps().subgroup, Some((want, want)));
}

#[test]
fn what_may_be_skipped_is_a_test() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let list = std::fs::read_to_string(here.join("tests/skips.txt")).expect("is there");
    let mut files = Vec::new();
    for folder in ["tests", "src"] {
        rust_files(&here.join(folder), &mut files);
    }
    let text: String = files
        .iter()
        .map(|file| std::fs::read_to_string(file).expect("is there"))
        .collect();
    let tests: BTreeSet<&str> = text
        .split("#[test]")
        .skip(1)
        .filter_map(|rest| rest.split_once("fn ")?.1.split('(').next())
        .collect();
    for line in list.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let Some(test) = line.split_whitespace().nth(1) else {
            continue;
        };
        let name = test.rsplit("::").next().unwrap_or(test);
        assert!(tests.contains(name), "no test is called {test}");
    }
}

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("is a folder") {
        let path = entry.expect("is there").path();
        if path.is_dir() {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|name| name == "rs") {
            files.push(path);
        }
    }
}
