//! What the scheduler does in a few situations, played on devices of round numbers.
//!
//! Thousands of seeds with every fault are played by `troika-simulator`; here stands what a reader wants to see said.

mod away;
mod bench;

use std::time::Duration;

use troika_base::{Bytes, Joules};

use crate::event::Action;
use crate::{
    Cause, Class, DeviceId, Event, Goal, JobId, JobSpec, KeepAlive, Lost, ModelId, Phase, Policy,
    Power, Refusal, Settings, Work,
};
use bench::{Bench, CPU, GPU, NPU, form, job};

#[test]
fn chat_goes_to_the_fast_device_and_background_to_the_frugal_one() {
    let mut bench = Bench::new(Settings::default());
    let chat = bench.submit(job(Class::Interactive, 100, 20));
    let index = bench.submit(job(Class::Background, 100, 20));
    bench.run();
    assert_eq!(bench.devices_of(chat), [GPU]);
    assert_eq!(bench.devices_of(index), [NPU]);
    let decision = bench.decision(index);
    assert_eq!(decision.cause, Cause::Arrival);
    let gpu = decision.candidates.iter().find(|c| c.decode == GPU);
    assert!(
        matches!(gpu.and_then(|gpu| gpu.lost.clone()), Some(Lost::Worse { factor }) if factor > 1.0)
    );
    let account = &bench.finished[&chat];
    assert_eq!((account.prefill_tokens, account.decode_tokens), (100, 20));
    let phases: Vec<_> = account.spans.iter().map(|span| span.phase).collect();
    assert_eq!(phases, [Phase::Prefill, Phase::Decode]);
    assert!(account.joules > Some(0.0) && account.ttft_s.is_some());
}

#[test]
fn tokens_that_were_guessed_are_counted_as_any_other() {
    let mut bench = Bench::only(GPU);
    let plain = bench.submit(job(Class::Interactive, 100, 20));
    bench.run();
    bench.drafts = 3;
    let drafted = bench.submit(job(Class::Interactive, 100, 20));
    bench.run();
    let steps_of = |id: JobId| {
        let steps = bench.log.iter().filter_map(|action| match action {
            Action::Step { slices, .. } => Some(slices),
            _ => None,
        });
        steps.filter(|slices| slices[0].seq.job == id).count()
    };
    // The prompt's last step writes one; 19 more are written one by one, or four at a time.
    assert_eq!(steps_of(plain) - steps_of(drafted), 19 - 5);
    let (plain, drafted) = (&bench.finished[&plain], &bench.finished[&drafted]);
    assert_eq!(drafted.decode_tokens, 20);
    let tokens = |account: &crate::Account| {
        let spans = account.spans.iter();
        spans
            .map(|span| (span.phase, span.tokens))
            .collect::<Vec<_>>()
    };
    assert_eq!(tokens(drafted), tokens(plain));
    assert!(drafted.decode_s < plain.decode_s / 3.0);
}

#[test]
fn the_policy_decides() {
    for (policy, device) in [("fastest", GPU), ("frugal", NPU), ("PREFER_NPU", NPU)] {
        let mut bench = Bench::new(Settings {
            policy: policy.parse().expect("a policy"),
            ..Settings::default()
        });
        let chat = bench.submit(job(Class::Interactive, 100, 20));
        bench.run();
        assert_eq!(bench.devices_of(chat), [device], "{policy}");
    }
}

#[test]
fn a_person_waits_for_one_step_of_background_work_at_most() {
    let mut bench = Bench::only(GPU);
    for _ in 0..8 {
        bench.submit(job(Class::Background, 4000, 2000));
    }
    bench.run_for(Duration::from_secs(10));
    let chat = bench.submit(job(Class::Interactive, 100, 20));
    bench.run_for(Duration::from_secs(5));
    let ttft_s = bench.finished[&chat].ttft_s.expect("it has begun");
    // A step of background work, reading 100 tokens, and the round trip of a start.
    assert!(ttft_s < 0.1 + 0.15, "{ttft_s}");
}

#[test]
fn a_queue_that_is_too_long_spills_over() {
    let mut bench = Bench::new(Settings::default());
    let jobs: Vec<_> = (0..60)
        .map(|_| bench.submit(job(Class::Background, 1000, 200)))
        .collect();
    bench.run();
    let on = |device| {
        jobs.iter()
            .filter(|&&job| bench.devices_of(job).contains(&device))
            .count()
    };
    assert!(on(NPU) > 2, "{} at home", on(NPU));
    assert!(on(GPU) > 10, "{} elsewhere", on(GPU));
    let causes: Vec<_> = jobs.iter().map(|&job| bench.decision(job).cause).collect();
    assert!(causes.contains(&Cause::Spill));
}

#[test]
fn each_job_is_counted_where_it_is_and_nowhere_else() {
    let mut bench = Bench::new(Settings::default());
    for _ in 0..40 {
        bench.submit(job(Class::Background, 1000, 200));
        bench.submit(job(Class::Agent, 2000, 300));
    }
    let mut moves = 0;
    for _ in 0..2000 {
        bench.run_for(Duration::from_millis(50));
        let state = bench.snapshot();
        for device in &state.devices {
            let told = state.jobs.iter().filter(|job| job.device == device.id);
            let counted: usize = device.models.iter().map(|model| model.jobs).sum();
            assert_eq!(counted, told.count(), "on {}", device.name);
        }
        moves = bench.finished.values().map(|account| account.moves).sum();
    }
    assert!(moves > 0, "none was on its way");
}

#[test]
fn a_job_survives_its_device() {
    let mut bench = Bench::new(Settings::default());
    let chat = bench.submit(job(Class::Interactive, 100, 400));
    bench.run_for(Duration::from_secs(3));
    assert_eq!(bench.running_on(chat), Some(GPU));
    bench.lose(GPU);
    bench.run();
    let account = &bench.finished[&chat];
    assert_eq!(account.decode_tokens, 400, "no token is written twice");
    assert_eq!(account.replays, 1);
    assert!(bench.devices_of(chat).len() == 2);
    assert_eq!(bench.decision(chat).cause, Cause::Replay);
}

#[test]
fn a_device_that_lies_is_not_offered_until_it_does_not() {
    let mut bench = Bench::new(Settings::default());
    bench.lies.insert(GPU);
    let first = bench.submit(job(Class::Interactive, 10, 5));
    bench.run();
    assert_ne!(bench.devices_of(first), [GPU]);
    let state = bench.snapshot().devices[usize::from(GPU.0)].state.clone();
    assert!(
        state.starts_with("lost: it answered a known question wrongly"),
        "{state}"
    );
    bench.lies.clear();
    bench.run_for(Duration::from_secs(60));
    let second = bench.submit(job(Class::Interactive, 4000, 5));
    bench.run();
    assert_eq!(bench.devices_of(second), [GPU]);
}

#[test]
fn a_required_device_is_never_replaced() {
    let mut bench = Bench::new(Settings::default());
    let mut spec = job(Class::Interactive, 10, 5);
    spec.require_device = Some(CPU);
    let here = bench.submit(spec.clone());
    spec.model = bench::TOO_BIG_FOR_NPU;
    spec.require_device = Some(NPU);
    let nowhere = bench.submit(spec);
    bench.run();
    assert_eq!(bench.devices_of(here), [CPU]);
    let refusal = bench.refused[&nowhere].to_string();
    assert!(
        refusal.contains("npu0 is required") && refusal.contains("needs"),
        "{refusal}"
    );
}

#[test]
fn a_deadline_that_cannot_be_met_is_refused_at_once_with_the_estimate() {
    let mut bench = Bench::new(Settings::default());
    bench.run_for(Duration::from_secs(1));
    let mut spec = job(Class::Interactive, 100, 1000);
    spec.deadline = Some(bench.now + Duration::from_secs(1));
    let late = bench.submit(spec.clone());
    spec.deadline = Some(bench.now + Duration::from_secs(300));
    let fine = bench.submit(spec);
    bench.run();
    assert!(matches!(
        bench.refused[&late],
        Refusal::Deadline { expected_s, .. } if expected_s > 1.0
    ));
    assert!(bench.finished.contains_key(&fine));
}

#[test]
fn models_share_the_memory_and_none_in_use_is_put_away() {
    let mut bench = Bench::only(GPU);
    let first = bench.submit(job(Class::Interactive, 100, 2000));
    bench.run_for(Duration::from_secs(3));
    let mut other = job(Class::Interactive, 10, 5);
    other.model = bench::TOO_BIG_FOR_NPU;
    let second = bench.submit(other);
    bench.run_for(Duration::from_secs(3));
    assert!(!bench.finished.contains_key(&second), "the first is in use");
    bench.run();
    assert!(bench.finished.contains_key(&first) && bench.finished.contains_key(&second));
    assert_eq!(bench.unloads, 1);
}

#[test]
fn on_the_battery_what_nobody_waits_for_waits() {
    let mut bench = Bench::new(Settings {
        policy: Policy::of(Goal::Battery),
        ..Settings::default()
    });
    bench.tell(Event::PowerIs(Power::Battery {
        percent: Some(80.0),
    }));
    let index = bench.submit(job(Class::Background, 100, 20));
    let chat = bench.submit(job(Class::Interactive, 100, 20));
    bench.run_for(Duration::from_secs(60));
    assert!(bench.finished.contains_key(&chat));
    assert!(!bench.finished.contains_key(&index));
    bench.tell(Event::PowerIs(Power::Mains));
    bench.run();
    assert!(bench.finished.contains_key(&index));
}

#[test]
fn background_goes_home_when_there_is_room() {
    let mut bench = Bench::new(Settings::default());
    let mut pinned = job(Class::Background, 10, 400);
    pinned.require_device = Some(NPU);
    // The NPU takes one at a time, and its memory no more than that.
    let blocker = bench.submit(pinned);
    bench.run_for(Duration::from_secs(3));
    let mut warm = job(Class::Interactive, 10, 5);
    warm.require_device = Some(GPU);
    bench.submit(warm);
    bench.run_for(Duration::from_secs(3));
    bench.set_patience(Duration::ZERO);
    let index = bench.submit(job(Class::Background, 100, 4000));
    bench.run_for(Duration::from_secs(5));
    assert_eq!(bench.running_on(index), Some(GPU), "it spilled over");
    bench.set_patience(Duration::from_secs(30));
    bench.run();
    assert!(bench.finished.contains_key(&blocker));
    assert_eq!(bench.devices_of(index), [GPU, NPU]);
    assert_eq!(bench.finished[&index].decode_tokens, 4000);
}

/// Plays a job of so many tokens, read and written, that begins on the NPU under `frugal` and goes on under `fastest`.
fn left_by_its_policy(mut bench: Bench, read: u32, write: u32) -> (Bench, JobId) {
    let there = JobSpec {
        require_device: Some(GPU),
        ..job(Class::Background, 10, 2000)
    };
    // So the model is on the GPU too, and answers are known to be long.
    bench.submit(there);
    bench.run();
    let id = bench.submit(job(Class::Background, read, write));
    bench.run_for(Duration::from_secs(20));
    assert_eq!(bench.running_on(id), Some(NPU));
    bench.tell(Event::PolicyIs(Policy::of(Goal::Fastest)));
    bench.run();
    (bench, id)
}

#[test]
fn a_job_whose_cache_stays_behind_is_read_again_where_that_pays() {
    let frugal = || Settings {
        policy: Policy::of(Goal::Frugal),
        ..Settings::default()
    };
    let bench = || Bench::whose_npu_keeps_caches(frugal());
    let (long, id) = left_by_its_policy(bench(), 1000, 2000);
    let account = &long.finished[&id];
    assert_eq!(long.devices_of(id), [NPU, GPU]);
    assert_eq!((account.moves, account.replays), (1, 1));
    assert_eq!(account.decode_tokens, 2000, "no token is written twice");
    let moved = |action: &Action| matches!(action, Action::Move { job, .. } if *job == id);
    assert!(!long.log.iter().any(moved), "nothing of it can be carried");
    let decision = long.decision(id);
    assert_eq!(decision.cause, Cause::Gain);
    let there = decision.candidates[0].forecast.expect("was forecast");
    // What it had read and written by then is read again.
    assert!(there.prefill_s > 0.5 && there.copy_s == 0.0, "{there:?}");

    // Of a long prompt with a short rest, the cache is worth the way, and reading it again is not.
    let (short, id) = left_by_its_policy(bench(), 6000, 200);
    assert_eq!(short.devices_of(id), [NPU]);
    let (carried, id) = left_by_its_policy(Bench::new(frugal()), 6000, 200);
    assert_eq!(carried.devices_of(id), [NPU, GPU]);
    assert_eq!(carried.finished[&id].replays, 0);
}

#[test]
fn no_job_moves_to_where_its_context_has_no_room() {
    let mut bench = Bench::new(Settings::default());
    let there = JobSpec {
        require_device: Some(NPU),
        ..job(Class::Background, 10, 2)
    };
    bench.submit(there);
    let id = bench.submit(job(Class::Interactive, 3000, 1200));
    bench.run_for(Duration::from_secs(4));
    assert_eq!(bench.running_on(id), Some(GPU));
    bench.shorten(NPU, 4096);
    bench.tell(Event::PolicyIs(Policy::of(Goal::Cool)));
    bench.run();
    assert_eq!(bench.devices_of(id), [GPU]);
}

#[test]
fn joules_that_nobody_knows_are_not_told() {
    let mut bench = Bench::new(Settings::default());
    bench.run_for(Duration::from_secs(1));
    bench.forget_watts(GPU);
    bench.set_watts(GPU, None, Some(250.0));
    let id = bench.submit(job(Class::Interactive, 100, 20));
    bench.run();
    let candidates = &bench.decision(id).candidates;
    assert_eq!(candidates.len(), 3);
    for candidate in candidates {
        let forecast = candidate.forecast.expect("each of them could do it");
        assert_eq!(forecast.joules.is_some(), candidate.decode != GPU);
        assert!(forecast.score > 0.0);
    }
    assert_eq!(bench.finished[&id].expected.expect("is told").joules, None);
}

#[test]
fn watts_that_nobody_knows_are_not_taken_for_none() {
    let placed = |assumed: [Option<f64>; 2], unknown: &[DeviceId]| {
        let mut bench = Bench::new(Settings {
            policy: Policy::of(Goal::Frugal),
            ..Settings::default()
        });
        bench.run_for(Duration::from_secs(1));
        bench.set_watts(GPU, None, assumed[0]);
        bench.set_watts(NPU, None, assumed[1]);
        for &device in unknown {
            bench.forget_watts(device);
        }
        let id = bench.submit(job(Class::Background, 100, 20));
        bench.run();
        let candidates = bench.decision(id).candidates.clone();
        for candidate in candidates {
            let forecast = candidate.forecast.expect("each of them could do it");
            let is_unknown = unknown.contains(&candidate.decode);
            assert_eq!(forecast.joules.is_none(), is_unknown);
            let assumed = assumed[usize::from(candidate.decode == NPU)];
            assert_eq!(
                forecast.joules_assumed.is_some(),
                is_unknown && assumed.is_some()
            );
        }
        bench.devices_of(id)
    };
    assert_eq!(
        placed([None, None], &[GPU]),
        [NPU],
        "what is known comes first"
    );
    assert_eq!(placed([Some(400.0), Some(15.0)], &[GPU, NPU]), [NPU]);
    // What its like draw at most is still less than what the GPU is known to draw.
    assert_eq!(placed([None, Some(15.0)], &[NPU]), [NPU]);
    assert_eq!(placed([None, None], &[NPU]), [GPU]);
    assert_eq!(placed([None, Some(150.0)], &[NPU]), [GPU]);
}

#[test]
fn what_runs_beside_is_in_the_accounts_and_in_the_way() {
    let mut bench = Bench::new(Settings {
        policy: Policy::of(Goal::Frugal),
        ..Settings::default()
    });
    bench.run_for(Duration::from_secs(1));
    bench.set_watts(NPU, Some(6.0), None);
    let account = |bench: &Bench| {
        let npu = bench.snapshot().devices.swap_remove(usize::from(NPU.0));
        (npu.joules_busy, npu.joules_idle, npu.busy, npu.beside)
    };
    let begin = |run, is_metered| Event::BesideBegan {
        device: NPU,
        run: JobId(run),
        class: Class::Interactive,
        is_metered,
    };
    let end = |run, joules: Option<f64>| Event::BesideEnded {
        device: NPU,
        run: JobId(run),
        joules: joules.map(Joules),
    };
    // A job takes some of the ten seconds, at the same watts: each second counts once.
    let load = JobSpec {
        require_device: Some(NPU),
        ..job(Class::Background, 100, 20)
    };
    let before = account(&bench);
    bench.tell(begin(1000, false));
    bench.submit(load.clone());
    bench.run_for(Duration::from_secs(10));
    assert_eq!(account(&bench).3, 1);
    bench.tell(end(1000, None));
    let after = account(&bench);
    assert!(
        (after.0 - before.0 - 60.0).abs() < 0.1,
        "{before:?} {after:?}"
    );
    assert!(
        after.1 - before.1 < 0.1 && after.2 > 0.6 && after.3 == 0,
        "{after:?}"
    );
    // A meter's joules are booked as they are, in the middle of a step as well.
    bench.tell(begin(1001, true));
    bench.submit(load);
    bench.tell(end(1001, Some(5.0)));
    assert!((account(&bench).0 - after.0 - 5.0).abs() < 1e-6);
    bench.run();
    // Such runs take seconds: who waits for an answer goes elsewhere while one is under way.
    let chat = || job(Class::Interactive, 100, 20);
    bench.run_for(Duration::from_secs(60));
    let alone = bench.submit(chat());
    bench.run();
    assert_eq!(bench.devices_of(alone), [NPU]);
    bench.tell(begin(1002, false));
    let beside = bench.submit(chat());
    bench.run();
    assert_ne!(bench.devices_of(beside), [NPU]);
    bench.tell(end(1002, None));
}

#[test]
fn an_answer_in_several_versions_reads_its_prompt_once() {
    let mut bench = Bench::only(GPU);
    let mut spec = job(Class::Interactive, 100, 20);
    spec.work = Work::Write {
        n: 3,
        max_tokens: 20,
    };
    let id = bench.submit(spec);
    bench.run();
    let account = &bench.finished[&id];
    assert_eq!((account.prefill_tokens, account.decode_tokens), (100, 60));
}

#[test]
fn a_model_goes_when_its_time_is_over_and_stays_if_it_may() {
    let mut bench = Bench::new(Settings::default());
    let mut spec = job(Class::Interactive, 10, 5);
    spec.keep_alive = Some(KeepAlive::For(Duration::from_secs(7)));
    bench.submit(spec.clone());
    bench.run();
    assert_eq!(bench.unloads, 0);
    bench.run_for(Duration::from_secs(8));
    assert_eq!(bench.unloads, 1);
    spec.work = Work::Load;
    spec.keep_alive = Some(KeepAlive::Forever);
    let load = bench.submit(spec);
    bench.run();
    assert!(bench.finished.contains_key(&load), "the model is there");
    bench.run_for(Duration::from_secs(100_000));
    assert_eq!(bench.unloads, 1);
    bench.tell(Event::Cool(ModelId(1)));
    bench.run_for(Duration::from_secs(1));
    assert_eq!(bench.unloads, 2);
}

#[test]
fn a_full_queue_refuses_and_leaves_room_for_people() {
    let mut bench = Bench::new(Settings {
        queue: 4,
        ..Settings::default()
    });
    bench.tell(Event::OthersUse {
        pool: crate::PoolId(0),
        bytes: Bytes(0),
    });
    let jobs: Vec<_> = (0..6)
        .map(|_| bench.push(job(Class::Batch, 10, 5)))
        .collect();
    let person = bench.push(job(Class::Interactive, 10, 5));
    bench.run();
    let refused = |id: &&JobId| bench.refused.contains_key(*id);
    assert_eq!(jobs.iter().filter(refused).count(), 2);
    assert!(matches!(
        bench.refused[&jobs[5]],
        Refusal::QueueFull { waiting: 4, .. }
    ));
    assert!(bench.finished.contains_key(&person));
}

#[test]
fn who_leaves_is_forgotten() {
    let mut bench = Bench::new(Settings::default());
    let id = bench.submit(job(Class::Interactive, 100, 5000));
    bench.run_for(Duration::from_secs(3));
    bench.tell(Event::Cancelled(id));
    bench.run();
    assert!(bench.snapshot().jobs.is_empty());
    let dropped =
        |action: &Action| matches!(action, Action::Drop { device: GPU, job } if *job == id);
    assert!(bench.log.iter().any(dropped));
    assert_eq!(bench.running_on(id), None::<DeviceId>);
}

#[test]
fn a_day_goes_on_where_it_was() {
    let mut bench = Bench::new(Settings {
        budget_wh: Some(0.01),
        spent_wh: 0.01,
        ..Settings::default()
    });
    assert!(bench.snapshot().budget.expect("is set").spent >= 0.01);
    let index = bench.submit(job(Class::Batch, 10, 5));
    bench.run_for(Duration::from_secs(100));
    assert!(!bench.finished.contains_key(&index));
    bench.tell(Event::Midnight);
    bench.run();
    assert!(bench.finished.contains_key(&index));
}

#[test]
fn energy_for_a_day_is_kept_to() {
    let mut bench = Bench::new(Settings {
        budget_wh: Some(0.01),
        ..Settings::default()
    });
    let chat = bench.submit(job(Class::Interactive, 1000, 500));
    bench.run();
    assert!(bench.finished[&chat].joules > Some(36.0));
    let index = bench.submit(job(Class::Batch, 10, 5));
    bench.run_for(Duration::from_secs(100));
    assert!(!bench.finished.contains_key(&index));
    bench.tell(Event::Midnight);
    bench.run();
    assert!(bench.finished.contains_key(&index));
}

#[test]
fn what_was_compiled_is_used_from_then_on() {
    let mut bench = Bench::new(Settings::default());
    let compiling = "it is being compiled".to_owned();
    let tell = |form| Event::FormIs {
        model: ModelId(1),
        device: NPU,
        form,
    };
    bench.tell(tell(Err(compiling.clone())));
    let early = bench.submit(job(Class::Background, 100, 20));
    bench.run();
    assert!(!bench.devices_of(early).contains(&NPU));
    let npu = bench
        .decision(early)
        .candidates
        .iter()
        .find(|c| c.decode == NPU);
    assert_eq!(
        npu.and_then(|npu| npu.lost.clone()),
        Some(Lost::Unsupported { because: compiling })
    );
    bench.tell(tell(Ok(form(NPU, 5))));
    let late = bench.submit(job(Class::Background, 100, 20));
    bench.run();
    assert_eq!(bench.devices_of(late), [NPU]);
}

#[test]
fn a_device_that_cannot_embed_is_not_asked_to() {
    let mut bench = Bench::whose_npu_only_writes();
    let mut spec = job(Class::Background, 100, 0);
    spec.work = Work::Embed;
    let vector = bench.submit(spec);
    let text = bench.submit(job(Class::Background, 100, 20));
    bench.run();
    assert!(!bench.devices_of(vector).contains(&NPU));
    assert_eq!(bench.devices_of(text), [NPU]);
}
