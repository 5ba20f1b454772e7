//! Files that are small on disk or in numbers and want to be large in memory.
//!
//! One test in a process of its own, since it measures what the process takes.
#![cfg(target_os = "linux")]

mod common;

use std::fs::{self, OpenOptions};
use std::time::{Duration, Instant};

use common::raw::{ARRAY, F32, Raw, STRING, U8};
use common::scratch_file;
use troika_gguf::ModelFile;

/// The header's allowance, and what the allocator may add to it.
const GROWTH_BYTES_MAX: u64 = (256 + 64) << 20;

/// The most memory that this process has taken so far.
fn peak_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux has it");
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix("kB"))
        .and_then(|kib| kib.trim().parse::<u64>().ok())
        .expect("Linux states the peak");
    kib * 1024
}

#[test]
fn bombs_stay_within_the_allowance() {
    let array =
        |item_type: u32, count: u64| Raw::new(0, 1).key("bomb", ARRAY).u32(item_type).u64(count);
    // A hole of 64 GiB follows each header: every length in it is 0, every type U8.
    let bombs = [
        ("empty strings, more than fit", array(STRING, 1 << 33)),
        (
            "empty strings, few enough to start",
            array(STRING, 10 << 20),
        ),
        ("empty arrays", array(ARRAY, 1 << 32)),
        ("empty arrays, few enough to start", array(ARRAY, 8 << 20)),
        (
            "arrays of arrays of empty arrays",
            array(ARRAY, 1 << 20).u32(ARRAY).u64(1 << 20),
        ),
        ("bytes", array(U8, 60 << 30)),
        ("numbers", array(11, 1 << 32)),
        (
            "one string",
            Raw::new(0, 1).key("bomb", STRING).u64(60 << 30),
        ),
        (
            "a string of the allowance",
            Raw::new(0, 1).key("bomb", STRING).u64(256 << 20),
        ),
        ("numbers up to the allowance", array(11, 31 << 20)),
        ("metadata entries", Raw::new(0, 1 << 32)),
        ("tensors", Raw::new(1 << 30, 0)),
        (
            "a tensor as large as the hole",
            Raw::new(1, 0).tensor("w", &[1 << 34], F32, 0),
        ),
    ];
    let before = peak_bytes();
    for (name, raw) in bombs {
        let path = scratch_file("bomb", &raw.0);
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        if let Err(error) = file.set_len((64 << 30) + 4096) {
            println!("skipped: no sparse files here: {error}");
            return;
        }
        let start = Instant::now();
        let outcome = ModelFile::open(&path).map(|model| model.metadata().len());
        println!("{:?} {name}: {outcome:?}", start.elapsed());
        assert!(start.elapsed() < Duration::from_secs(10), "{name}");
        let growth = peak_bytes() - before;
        assert!(growth < GROWTH_BYTES_MAX, "{name}: {} MiB", growth >> 20);
        fs::remove_file(&path).unwrap();
    }
}
