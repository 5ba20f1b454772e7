//! Small histories whose outcome is known.

use std::time::Duration;

use troika_planner::catalogue::Catalogue;
use troika_scheduler::{Class, ModelId};

use super::*;
use crate::log::{SpanKind, State};

fn arrival(at_s: f64, class: Class) -> Arrival {
    Arrival {
        at: Time::from_seconds(at_s),
        model: "llama-3.2-1b".to_owned(),
        class,
        owner: "somebody".to_owned(),
        prompt_tokens: 100,
        shared: 0,
        work: Work::Write {
            n: 1,
            max_tokens: 20,
        },
        deadline: None,
        leaves: None,
        device: None,
    }
}

fn play(
    kind: SchedulerKind,
    arrivals: &[Arrival],
    options: &Options,
) -> Result<Log, SimulationError> {
    let catalogue = Catalogue::builtin();
    let machine = VirtualMachine::named("core-ultra-258v", catalogue).expect("is known");
    let model = machine.model_facts(ModelId(0), "llama-3.2-1b", catalogue);
    let models = [model.expect("is known")];
    let settings = Settings::default();
    simulate(&machine, &models, kind, &settings, arrivals, options)
}

fn exact() -> Options {
    Options {
        noise: 0.0,
        hidden: 1.0,
        checks: true,
        ..Options::default()
    }
}

#[test]
fn one_job_takes_what_the_cost_model_says() {
    let log = play(
        SchedulerKind::GpuOnly,
        &[arrival(100.0, Class::Interactive)],
        &exact(),
    )
    .expect("nothing is wrong");
    let outcome = &log.outcomes[0];
    assert_eq!((&outcome.state, outcome.tokens), (&State::Done, 20));
    assert_eq!(outcome.gaps_s.len(), 19);
    let catalogue = Catalogue::builtin();
    let machine = VirtualMachine::named("core-ultra-258v", catalogue).expect("is known");
    let facts = machine.model_facts(ModelId(0), "llama-3.2-1b", catalogue);
    let facts = facts.expect("is known");
    let gpu = machine.device("gpu0").expect("is there");
    let form = &facts.forms[&gpu];
    let reads = form.gait.step_s(troika_scheduler::Load {
        tokens: 100,
        past: 0,
    });
    let ttft_s = outcome.ttft_s.expect("has one");
    assert!((ttft_s - form.load_s - reads).abs() < 1e-3, "{ttft_s}");
    let kinds: Vec<_> = log.spans.iter().map(|span| span.kind).collect();
    assert_eq!(kinds, [SpanKind::Load, SpanKind::Read, SpanKind::Write]);
    assert!(log.joules_busy[usize::from(gpu.0)] > 0.0);
    let idle = log.joules_idle[0];
    let all = machine.devices[0].watts_idle * log.end.seconds();
    assert!((idle - all).abs() < 1e-6, "the processor rested throughout");
}

#[test]
fn the_same_seed_makes_the_same_history() {
    let arrivals: Vec<_> = (0..50)
        .map(|at| arrival(f64::from(at) * 0.3, Class::Agent))
        .collect();
    let history = |seed| {
        let options = Options {
            seed,
            ..Options::default()
        };
        play(SchedulerKind::Static, &arrivals, &options).expect("nothing is wrong")
    };
    assert_eq!(history(7), history(7));
    assert_ne!(history(7).end, history(8).end);
}

#[test]
fn who_leaves_is_not_answered_and_who_cannot_be_served_is_refused() {
    let mut leaves = arrival(0.0, Class::Interactive);
    leaves.leaves = Some(Duration::from_millis(100));
    let mut elsewhere = arrival(1.0, Class::Interactive);
    elsewhere.device = Some("npu0".to_owned());
    let log = play(SchedulerKind::CpuOnly, &[leaves, elsewhere], &exact());
    let log = log.expect("nothing is wrong");
    assert_eq!(log.outcomes[0].state, State::Cancelled);
    let refused = &log.outcomes[1].state;
    assert!(
        matches!(refused, State::Refused(why) if why.contains("npu0 is required")),
        "{refused:?}"
    );
}

#[test]
fn what_is_not_there_is_named() {
    let mut other = arrival(0.0, Class::Batch);
    other.model = "llama-9".to_owned();
    let error = play(SchedulerKind::Static, &[other], &exact()).expect_err("no such model");
    assert_eq!(error.to_string(), "job 0: the model llama-9 is not known");
    let mut other = arrival(0.0, Class::Batch);
    other.device = Some("gpu7".to_owned());
    let error = play(SchedulerKind::Static, &[other], &exact()).expect_err("no such device");
    assert!(error.to_string().contains("cpu0, gpu0, npu0"), "{error}");
}

#[test]
fn who_comes_again_finds_what_was_left() {
    let first = arrival(100.0, Class::Interactive);
    let mut second = arrival(200.0, Class::Interactive);
    (second.prompt_tokens, second.shared) = (180, 120);
    let stranger = Arrival {
        owner: "somebody else".to_owned(),
        ..second.clone()
    };
    for kind in [SchedulerKind::Troika, SchedulerKind::Static] {
        let read = |later: &Arrival| {
            let log = play(kind, &[first.clone(), later.clone()], &exact());
            let log = log.expect("nothing is wrong");
            let account = log.outcomes[1].account.clone();
            account.expect("it is done").prefill_tokens
        };
        let pages = 120 / Settings::default().limits.page_tokens;
        let held = pages * Settings::default().limits.page_tokens;
        assert_eq!(read(&second), u64::from(180 - held), "{kind}");
        assert_eq!(read(&stranger), 180, "{kind}");
    }
}

#[test]
fn runtimes_of_today_take_the_gpu() {
    let catalogue = Catalogue::builtin();
    for (name, device) in [
        ("core-ultra-258v", "gpu0"),
        ("ryzen-ai-370+4090", "gpu1"),
        ("core-i9-13900k:32gb", "cpu0"),
    ] {
        let machine = VirtualMachine::named(name, catalogue).expect("is known");
        let model = machine.model_facts(ModelId(0), "llama-3.2-1b", catalogue);
        let models = [model.expect("is known")];
        let settings = Settings::default();
        let jobs = [arrival(1.0, Class::Interactive)];
        let log = simulate(
            &machine,
            &models,
            SchedulerKind::Static,
            &settings,
            &jobs,
            &exact(),
        );
        let log = log.expect("nothing is wrong");
        let account = log.outcomes[0].account.as_ref().expect("it is done");
        let on = &log.devices[usize::from(account.spans[0].device.0)];
        assert_eq!(on, device, "{name}");
        assert!(
            account.joules > Some(0.0) && account.spans.len() == 2,
            "{name}"
        );
    }
}
