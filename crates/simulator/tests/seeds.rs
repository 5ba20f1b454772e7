//! Histories that follow from seeds: whatever happens, no scheduler does what none may do.
//!
//! A seed that fails is printed; `cargo xtask seeds --from SEED --count 1 -v` plays it again, with all that is told and
//! wanted. How many are played here is bounded by time; `cargo xtask seeds` plays as many as one likes.

use std::time::{Duration, Instant};

use troika_scheduler::{Action, Cause, Event, Returned};
use troika_simulator::{SchedulerKind, Seen, Storm, storm};

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

#[test]
fn jobs_leave_devices_with_their_caches_and_without() {
    let (mut carried, mut read_again) = (0, 0);
    for seed in 2_000_000.. {
        let mut witness = |_, seen: Seen<'_>| {
            let Seen::Wants(actions) = seen else {
                return;
            };
            for action in actions {
                let Action::Place(decision) = action else {
                    carried += usize::from(matches!(action, Action::Move { .. }));
                    continue;
                };
                let goes = matches!(decision.cause, Cause::Gain | Cause::Home);
                let starts = |action: &Action| matches!(action, Action::Start { job, .. } if *job == decision.job);
                read_again += usize::from(goes && actions.iter().any(starts));
            }
        };
        let played = Storm::new(seed).play(SchedulerKind::Troika, &mut witness);
        played.expect("promises are kept");
        if carried > 0 && read_again > 0 {
            return;
        }
        assert!(
            seed < 2_000_200,
            "{carried} were carried, {read_again} read again"
        );
    }
}

#[test]
fn jobs_leave_the_machine_and_come_back_done_and_undone() {
    let (mut sent, mut done, mut undone, mut broken, mut called_back) = (0, 0, 0, 0, 0);
    for seed in 3_000_000.. {
        let mut witness = |_, seen: Seen<'_>| match seen {
            Seen::Wants(actions) => {
                let is_sent = |action: &&Action| matches!(action, Action::Send { .. });
                sent += actions.iter().filter(is_sent).count();
            }
            Seen::Told(events) => {
                for event in events {
                    match event {
                        Event::Back { outcome, .. } => match outcome {
                            Returned::Done { .. } => done += 1,
                            Returned::Failed { said: true, .. } => broken += 1,
                            Returned::Failed { .. } => undone += 1,
                        },
                        Event::Cancelled(_) => called_back += 1,
                        _ => {}
                    }
                }
            }
        };
        let played = Storm::new(seed).play(SchedulerKind::Troika, &mut witness);
        played.expect("promises are kept");
        let least = [done, undone, broken, called_back].into_iter().min();
        if least >= Some(5) {
            assert!(sent >= done + undone + broken, "each came back once");
            return;
        }
        assert!(
            seed < 3_000_100,
            "{sent} were sent: {done} done, {undone} undone, {broken} broken off"
        );
    }
}
