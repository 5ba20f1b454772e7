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
        elsewhere: Vec::new(),
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
        may_draft: false,
    }
}

fn finish(id: u64) -> Action {
    Action::Finish {
        job: JobId(id),
        account: Box::new(Account::default()),
    }
}

/// Plays what a scheduler is told and wants; jobs 0 and 1 came, the latter as batch.
fn check(wants: &[Action], says: &str) {
    check_where(wants, says, |_, _| ());
}

/// The same where the machine and its model are a little different.
fn check_where(
    wants: &[Action],
    says: &str,
    change: impl FnOnce(&mut VirtualMachine, &mut ModelFacts),
) {
    let catalogue = Catalogue::builtin();
    let mut machine = VirtualMachine::named("core-ultra-258v:16gb", catalogue).expect("is known");
    let facts = machine.model_facts(MODEL, "qwen3-8b", catalogue);
    let mut models = [facts.expect("is known")];
    change(&mut machine, &mut models[0]);
    let settings = Settings::default();
    let mut checker = Checker::new(&machine, &models, &settings, &[], true);
    let now = Time(1);
    let offered = Event::Probed {
        device: GPU,
        outcome: Ok(()),
    };
    let first = submitted(0, job(Class::Interactive));
    checker.told(now, &[first, submitted(1, job(Class::Batch)), offered]);
    if wants
        .iter()
        .any(|action| matches!(action, Action::Move { .. }))
    {
        let outcome = Ok(());
        checker.told(
            now,
            &[Event::Probed {
                device: CPU,
                outcome,
            }],
        );
    }
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
                    wrote: Vec::new(),
                    drafted: 0,
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

#[test]
fn a_cache_that_stays_is_not_moved_and_a_job_is_where_its_context_has_room() {
    let ready = [load(4096), place(0, GPU), start(0, GPU)];
    check_where(&ready, "which has room for 500", |_, model| {
        model.forms.get_mut(&GPU).expect("runs there").n_ctx = 500;
    });
    // On a machine that has two of them: the GPU's cache is to go to the CPU.
    let moves = Action::Move {
        job: JobId(0),
        model: MODEL,
        from: GPU,
        to: CPU,
        tokens: 10,
    };
    let both = |keeps: DeviceId| {
        move |machine: &mut VirtualMachine, _: &mut ModelFacts| {
            machine.devices[usize::from(keeps.0)].moves = false;
        }
    };
    let on_both = [
        Action::Load {
            device: CPU,
            model: MODEL,
            kv_tokens: 1024,
        },
        load(1024),
        place(0, GPU),
        start(0, GPU),
        place(0, CPU),
        moves,
    ];
    check_where(&on_both, "cpu0 keeps its caches", both(CPU));
    check_where(&on_both, "gpu0 keeps its caches", both(GPU));
}

/// Plays what is wanted of two jobs that may go to an endpoint with room for one, and of job 2, which stays. Jobs that are
/// sent come back undone where `is_back`.
fn check_away(wants: impl Fn(DeviceId) -> Vec<Action>, is_back: bool, says: &str) {
    let catalogue = Catalogue::builtin();
    let machine = VirtualMachine::named("core-ultra-258v:16gb", catalogue).expect("is known");
    let facts = machine.model_facts(MODEL, "qwen3-8b", catalogue);
    let models = [facts.expect("is known")];
    let settings = Settings::default();
    let far = DeviceId(machine.devices.len() as u16);
    let remote: VirtualRemote = "far:ttft=1,tps=10,input=0,output=0,concurrent=1"
        .parse()
        .expect("it is one");
    let remotes = [remote];
    let mut checker = Checker::new(&machine, &models, &settings, &remotes, true);
    let place = troika_scheduler::Elsewhere {
        device: far,
        ttft_s: 1.0,
        tps: 10.0,
        spread: 1.0,
        money: None,
    };
    let public = JobSpec {
        elsewhere: vec![place],
        ..job(Class::Batch)
    };
    let came = [
        submitted(0, public.clone()),
        submitted(1, public),
        submitted(2, job(Class::Batch)),
        Event::Probed {
            device: GPU,
            outcome: Ok(()),
        },
    ];
    checker.told(Time(1), &came);
    let mut last = Ok(());
    for action in wants(far) {
        assert_eq!(last, Ok(()), "all but the last are right");
        last = checker.wants(Time(1), &action);
        if let Action::Load { device, model, .. } = action {
            let (bytes, took) = (vec![Bytes(1)], std::time::Duration::ZERO);
            let loaded = Event::Loaded {
                device,
                model,
                bytes,
                pages: 100,
                took,
            };
            checker.told(Time(1), &[loaded]);
        }
        if let (Action::Send { job, to }, true) = (action, is_back) {
            let outcome = troika_scheduler::Returned::Failed {
                why: "503".to_owned(),
                said: false,
                is_down: false,
            };
            checker.told(
                Time(2),
                &[Event::Back {
                    job,
                    from: to,
                    outcome,
                }],
            );
        }
    }
    let message = match last {
        Ok(()) => checker.end(Time(3)).expect_err("jobs are open").to_string(),
        Err(violation) => violation.to_string(),
    };
    assert!(message.contains(says), "{message}, not {says}");
}

#[test]
fn what_may_not_leave_and_what_leaves_twice_is_caught() {
    let send = |job: u64, to| Action::Send {
        job: JobId(job),
        to,
    };
    let looked_at = |far| {
        let Action::Place(mut decision) = place(2, GPU) else {
            unreachable!("it is one")
        };
        decision.candidates.push(troika_scheduler::Candidate {
            prefill: far,
            decode: far,
            forecast: None,
            lost: None,
        });
        vec![Action::Place(decision)]
    };
    check_away(looked_at, false, "is looked at, and it may not go there");
    let stays = |far| vec![send(2, far)];
    check_away(stays, false, "job 2: it is sent to endpoint");
    let undecided = |far| vec![send(0, far)];
    check_away(undecided, false, "was decided to None");
    let both = |far| vec![place(0, far), send(0, far), place(1, far), send(1, far)];
    check_away(both, false, "and that takes no more");
    check_away(both, true, "it never ends");
    let twice = |far| vec![place(0, far), send(0, far), send(0, far)];
    check_away(twice, false, "and is Away");
    check_away(twice, true, "sent again to where it came back from");
    let started = |far| {
        let here = vec![load(4096), place(0, far), send(0, far), place(0, GPU)];
        let start = vec![start(0, GPU)];
        [here, start].concat()
    };
    check_away(started, false, "it is started on gpu0, and is Away");
    let called_back = |far| {
        let drop = Action::Drop {
            device: far,
            job: JobId(0),
        };
        vec![place(0, far), send(0, far), drop]
    };
    check_away(called_back, false, "somebody waits for it");
}
