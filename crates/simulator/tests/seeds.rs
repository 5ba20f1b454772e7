//! Histories that follow from seeds: whatever happens, no scheduler does what none may do.
//!
//! A seed that fails is printed; `cargo xtask seeds --from SEED --count 1 -v` plays it again, with all that is told and
//! wanted. How many are played here is bounded by time; `cargo xtask seeds` plays as many as one likes.

use std::time::{Duration, Instant};

use troika_simulator::{SchedulerKind, storm};

/// Plays seeds until it has taken so long; at least a few in any case.
fn check(kind: SchedulerKind, from: u64, least: u64, budget: Duration) {
    let began = Instant::now();
    let mut failures = Vec::new();
    let mut played = 0;
    for seed in from.. {
        if played >= least && began.elapsed() > budget {
            break;
        }
        played += 1;
        if let Err(error) = storm(seed, kind) {
            failures.push(error.to_string());
        }
    }
    assert!(
        failures.is_empty(),
        "{kind}: {} of {played} seeds fail:\n{}",
        failures.len(),
        failures
            .iter()
            .take(20)
            .cloned()
            .collect::<Vec<_>>()
            .join("\n")
    );
}

#[test]
fn the_scheduler_keeps_its_promises() {
    check(SchedulerKind::Troika, 0, 20, Duration::from_secs(45));
}

#[test]
fn nothing_that_it_is_compared_with_cheats() {
    for kind in [SchedulerKind::Static, SchedulerKind::GpuOnly] {
        check(kind, 1_000_000, 10, Duration::from_secs(5));
    }
}
