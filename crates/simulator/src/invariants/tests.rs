//! Schedulers that do what none may do are caught.

use troika_planner::catalogue::Catalogue;
use troika_scheduler::{Account, Decision, Event, JobSpec, OwnerId, Policy, StepReport};

use super::*;

const CPU: DeviceId = DeviceId(0);
const GPU: DeviceId = DeviceId(1);
const MODEL: ModelId = ModelId(0);

fn job(class: Class) -> JobSpec {
    JobSpec {
        model: MODEL,
        owner: OwnerId(0),
        class,
        prompt_tokens: 10,
        work: Work::Write {
            n: 1,
            max_tokens: 512,
        },
        deadline: None,
        require_device: None,
        keep_alive: None,
    }
}

fn submitted(id: u64, spec: JobSpec) -> Event {
    Event::Submitted {
        job: JobId(id),
        spec,
    }
}

fn place(id: u64, device: DeviceId) -> Action {
    Action::Place(Box::new(Decision {
        job: JobId(id),
        at: Time(0),
        class: Class::Interactive,
        policy: Policy::default(),
        cause: troika_scheduler::Cause::Arrival,
        prefill: device,
        decode: device,
        candidates: Vec::new(),
    }))
}

fn start(id: u64, device: DeviceId) -> Action {
    Action::Start {
        device,
        model: MODEL,
        job: JobId(id),
    }
}

fn load(kv_tokens: u32) -> Action {
    Action::Load {
        device: GPU,
        model: MODEL,
        kv_tokens,
    }
}

fn step(id: u64, n_tok: u32, complete: bool) -> Action {
    Action::Step {
        device: GPU,
        model: MODEL,
        slices: vec![Slice {
            seq: SeqId {
                job: JobId(id),
                choice: 0,
            },
            n_tok,
            complete,
        }],
    }
}

fn finish(id: u64) -> Action {
    Action::Finish {
        job: JobId(id),
        account: Box::new(Account::default()),
    }
}

/// Plays what a scheduler is told and wants; jobs 0 and 1 came, the latter as batch, and the model is ready on the GPU.
fn check(wants: &[Action], says: &str) {
    let catalogue = Catalogue::builtin();
    let machine = VirtualMachine::named("core-ultra-258v:16gb", catalogue).expect("is known");
    let facts = machine.model_facts(MODEL, "qwen3-8b", catalogue);
    let models = [facts.expect("is known")];
    let settings = Settings::default();
    let mut checker = Checker::new(&machine, &models, &settings, true);
    let now = Time(1);
    let offered = Event::Probed {
        device: GPU,
        outcome: Ok(()),
    };
    let first = submitted(0, job(Class::Interactive));
    checker.told(now, &[first, submitted(1, job(Class::Batch)), offered]);
    let mut last = Ok(());
    for action in wants {
        assert_eq!(last, Ok(()), "all but the last are right");
        last = checker.wants(now, action);
        match action {
            Action::Load { device, model, .. } => checker.told(
                now,
                &[Event::Loaded {
                    device: *device,
                    model: *model,
                    bytes: vec![Bytes(1)],
                    pages: 100,
                    took: std::time::Duration::ZERO,
                }],
            ),
            Action::Start { device, job, .. } => checker.told(
                now,
                &[Event::Started {
                    device: *device,
                    job: *job,
                    held: 0,
                    free_pages: 100,
                }],
            ),
            Action::Step { device, slices, .. } if slices[0].seq.job == JobId(1) => {
                let report = StepReport {
                    took: std::time::Duration::ZERO,
                    joules: None,
                    ended: Vec::new(),
                    failed: Vec::new(),
                    free_pages: 100,
                };
                let device = *device;
                checker.told(now, &[Event::StepDone { device, report }]);
            }
            _ => {}
        }
    }
    let message = match last {
        Ok(()) => checker.end(now).expect_err("jobs are open").to_string(),
        Err(violation) => violation.to_string(),
    };
    assert!(message.contains(says), "{message}, not {says}");
}

#[test]
fn what_no_scheduler_may_do_is_caught() {
    let ready = || vec![load(4096), place(0, GPU), start(0, GPU)];
    let and = |mut actions: Vec<Action>, more: Vec<Action>| {
        actions.extend(more);
        actions
    };
    check(&ready(), "it never ends");
    check(
        &[place(0, CPU), start(0, CPU)],
        "on cpu0, which is not offered",
    );
    check(
        &[place(0, GPU), start(0, GPU)],
        "is used on gpu0, where it is None",
    );
    check(&[load(4096), start(0, GPU)], "was decided to None");
    check(
        &[load(4096), place(0, CPU), start(0, GPU)],
        "was decided to",
    );
    check(&[load(100_000)], "a load makes ram");
    check(&[load(4096), load(4096)], "is loaded to gpu0 twice");
    check(&and(ready(), vec![start(0, GPU)]), "and is On");
    check(
        &and(ready(), vec![step(0, 11, true)]),
        "11 tokens are computed of 10",
    );
    check(&and(ready(), vec![step(0, 5, true)]), "5 of 10 tokens");
    check(&and(ready(), vec![step(1, 5, false)]), "and is Waiting");
    let twice = vec![step(0, 5, false), step(0, 5, true)];
    check(&and(ready(), twice), "while gpu0 works");
    check(
        &and(ready(), vec![finish(0)]),
        "before its answers have ended",
    );
    let refuse = || Action::Refuse {
        job: JobId(0),
        refusal: troika_scheduler::Refusal::DeadlinePassed,
    };
    check(&[refuse(), refuse()], "answered twice");
    let unload = Action::Unload {
        device: GPU,
        model: MODEL,
        keep_prefixes: false,
    };
    check(&and(ready(), vec![unload]), "unloaded under it");
    let both = and(ready(), vec![place(1, GPU), start(1, GPU)]);
    let passed = vec![step(1, 5, false), step(1, 3, false)];
    check(&and(both, passed), "2 steps of lower classes");
}
