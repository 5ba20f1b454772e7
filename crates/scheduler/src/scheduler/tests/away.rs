//! Jobs that may leave the machine, and those that may not.

use std::time::Duration;

use crate::event::Action;
use crate::{
    Cause, Class, Decision, DeviceId, Elsewhere, Event, Goal, JobId, JobSpec, KeepAlive, Lost,
    ModelId, Policy, Power, Refusal, RemoteFacts, Settings, Work,
};

use super::bench::{Bench, CPU, GPU, NPU, job};

/// Endpoints: a cheap one, and a dear one that is faster.
const CHEAP: DeviceId = DeviceId(3);
const DEAR: DeviceId = DeviceId(4);

fn facts(device: DeviceId, name: &str) -> RemoteFacts {
    RemoteFacts {
        device,
        name: format!("remote:{name}"),
        concurrent: None,
        closed: None,
    }
}

/// A machine that knows two endpoints.
fn bench(settings: Settings) -> Bench {
    let mut bench = Bench::new(settings);
    bench.tell(Event::RemoteIs(facts(CHEAP, "cheap")));
    bench.tell(Event::RemoteIs(facts(DEAR, "dear")));
    bench.run_for(Duration::from_secs(1));
    bench
}

fn place(device: DeviceId, ttft_s: f64, money: f64) -> Elsewhere {
    Elsewhere {
        device,
        ttft_s,
        tps: 100.0,
        spread: 1.5,
        money: Some(money),
    }
}

/// It may go to the cheap one.
fn public(class: Class, prompt_tokens: u32, max_tokens: u32) -> JobSpec {
    JobSpec {
        elsewhere: vec![place(CHEAP, 0.5, 0.0005)],
        ..job(class, prompt_tokens, max_tokens)
    }
}

fn sent(bench: &Bench) -> Vec<(JobId, DeviceId)> {
    let sent = bench.log.iter().filter_map(|action| match action {
        Action::Send { job, to } => Some((*job, *to)),
        _ => None,
    });
    sent.collect()
}

fn lost(decision: &Decision, device: DeviceId) -> Option<Lost> {
    let found = decision.candidates.iter().find(|c| c.prefill == device);
    found.expect("it is a candidate").lost.clone()
}

/// The model is on the GPU from now on.
fn warm(bench: &mut Bench) {
    bench.submit(JobSpec {
        require_device: Some(GPU),
        ..job(Class::Interactive, 10, 5)
    });
    bench.run();
}

/// A machine of which all devices are gone.
fn without_devices(settings: Settings) -> Bench {
    let mut bench = bench(settings);
    for device in [CPU, GPU, NPU] {
        bench.lies.insert(device);
        bench.lose(device);
    }
    bench
}

#[test]
fn what_brings_no_endpoint_along_is_never_sent() {
    let mut bench = without_devices(Settings::default());
    let stays = bench.submit(job(Class::Interactive, 100, 20));
    let leaves = bench.submit(public(Class::Interactive, 100, 20));
    bench.run_for(Duration::from_secs(4));
    assert_eq!(sent(&bench), [(leaves, CHEAP)]);
    assert!(bench.finished.contains_key(&leaves) && !bench.finished.contains_key(&stays));
    bench.lies.clear();
    bench.run();
    assert!(!bench.devices_of(stays).contains(&CHEAP));
}

#[test]
fn what_is_best_off_here_stays_and_says_why() {
    let mut bench = bench(Settings::default());
    // The model is loaded, and the chip a hundred times as fast as anybody reads.
    warm(&mut bench);
    let chat = bench.submit(public(Class::Interactive, 100, 20));
    bench.run();
    assert_eq!(bench.devices_of(chat), [GPU]);
    assert_eq!(sent(&bench), []);
    let decision = bench.decision(chat);
    let away = decision.candidates.iter().find(|c| c.prefill == CHEAP);
    let away = away.expect("it competed").clone();
    assert_eq!(away.forecast.and_then(|f| f.money), Some(0.0005));
    assert!(matches!(away.lost, Some(Lost::Worse { factor }) if factor > 1.0));
}

#[test]
fn a_price_is_weighed_against_the_wait() {
    // Reading 8,000 tokens takes four seconds on the GPU; a second is worth a tenth of a cent.
    for (money, to) in [(0.0002, CHEAP), (0.2, GPU)] {
        let mut bench = bench(Settings::default());
        warm(&mut bench);
        let mut spec = public(Class::Interactive, 8000, 20);
        spec.elsewhere = vec![place(CHEAP, 0.5, money)];
        let chat = bench.submit(spec);
        bench.run();
        assert_eq!(bench.devices_of(chat), [to], "for {money}");
    }
}

#[test]
fn of_two_endpoints_the_one_is_taken_that_is_worth_it() {
    let mut bench = without_devices(Settings::default());
    let mut spec = public(Class::Interactive, 100, 20);
    spec.elsewhere = vec![place(CHEAP, 0.8, 0.0005), place(DEAR, 0.4, 0.05)];
    let chat = bench.submit(spec.clone());
    bench.tell(Event::WorthIs(crate::Worth {
        second: 1.0,
        kwh: 0.3,
    }));
    let hasty = bench.submit(spec.clone());
    // Nobody knows what the first one costs.
    spec.elsewhere[0].money = None;
    let priced = bench.submit(spec);
    bench.run();
    assert_eq!(sent(&bench), [(chat, CHEAP), (hasty, DEAR), (priced, DEAR)]);
    assert_eq!(lost(bench.decision(priced), CHEAP), Some(Lost::Unpriced));
    let account = &bench.finished[&chat];
    assert_eq!((account.prefill_tokens, account.decode_tokens), (100, 20));
    assert_eq!((account.ttft_s, account.joules), (Some(0.5), None));
}

#[test]
fn a_queue_that_is_too_long_leaves_the_machine() {
    let mut bench = bench(Settings::default());
    bench.set_patience(Duration::from_secs(20));
    let stay: Vec<_> = (0..40)
        .map(|_| bench.submit(job(Class::Background, 4000, 400)))
        .collect();
    let leave: Vec<_> = (0..40)
        .map(|_| bench.submit(public(Class::Background, 4000, 400)))
        .collect();
    bench.run();
    let sent = sent(&bench);
    assert!(sent.len() > 5, "{} were sent", sent.len());
    assert!(sent.iter().all(|(job, _)| leave.contains(job)));
    assert!(stay.iter().all(|job| bench.finished.contains_key(job)));
    assert_eq!(bench.decision(sent[0].0).cause, Cause::Spill);
}

#[test]
fn who_may_leave_waits_for_nobody_who_stays() {
    let mut bench = without_devices(Settings::default());
    for _ in 0..3 {
        bench.submit(job(Class::Interactive, 100, 20));
    }
    let leaves = bench.submit(public(Class::Interactive, 100, 20));
    assert_eq!(sent(&bench), [(leaves, CHEAP)]);
}

#[test]
fn what_no_device_can_do_leaves_rather_than_being_refused() {
    let mut bench = bench(Settings::default());
    let long = public(Class::Background, 9000, 20);
    let refused = bench.submit(JobSpec {
        elsewhere: Vec::new(),
        ..long.clone()
    });
    let leaves = bench.submit(long);
    // A model that runs nowhere here.
    let nowhere = ModelId(9);
    bench.tell(Event::ModelKnown(crate::ModelFacts {
        id: nowhere,
        name: "too large".to_owned(),
        forms: [].into(),
        impossible: [(CPU, "it needs 400 GiB".to_owned())].into(),
        kv_bytes_per_token: 1,
    }));
    let large = bench.submit(JobSpec {
        model: nowhere,
        ..public(Class::Interactive, 100, 20)
    });
    bench.fails.insert(CHEAP, false);
    let unlucky = bench.submit(JobSpec {
        model: nowhere,
        ..public(Class::Interactive, 100, 20)
    });
    bench.run_for(Duration::from_millis(900));
    bench.fails.clear();
    bench.run();
    let message = bench.refused[&refused].to_string();
    assert!(message.contains("9020 tokens are more"), "{message}");
    assert_eq!(sent(&bench).len(), 3);
    assert!(bench.finished.contains_key(&leaves) && bench.finished.contains_key(&large));
    assert!(bench.finished.contains_key(&unlucky));
}

#[test]
fn a_required_endpoint_is_for_those_that_may_go_there() {
    let mut bench = bench(Settings::default());
    warm(&mut bench);
    let require = |spec: JobSpec, device| JobSpec {
        require_device: Some(device),
        ..spec
    };
    let goes = bench.submit(require(public(Class::Interactive, 10, 5), CHEAP));
    let stays = bench.submit(require(public(Class::Interactive, 8000, 5), CPU));
    let private = bench.submit(require(job(Class::Interactive, 10, 5), CHEAP));
    let other = bench.submit(require(public(Class::Interactive, 10, 5), DEAR));
    bench.run();
    assert_eq!(bench.devices_of(goes), [CHEAP]);
    assert_eq!(bench.devices_of(stays), [CPU]);
    for refused in [private, other] {
        let message = bench.refused[&refused].to_string();
        assert!(
            message.starts_with("remote:") && message.contains("may not leave this machine"),
            "{message}"
        );
    }
}

#[test]
fn a_job_that_comes_back_undone_is_done_elsewhere_and_not_sent_there_again() {
    let mut bench = bench(Settings::default());
    bench.fails.insert(CHEAP, false);
    let chat = bench.submit(public(Class::Interactive, 8000, 20));
    bench.run();
    assert_eq!(sent(&bench), [(chat, CHEAP)]);
    assert_eq!(bench.devices_of(chat), [GPU]);
    assert_eq!(bench.finished[&chat].decode_tokens, 20);
    let decision = bench.decision(chat);
    assert_eq!(decision.cause, Cause::Replay);
    let why = lost(decision, CHEAP).map(|lost| lost.to_string());
    assert_eq!(why.as_deref(), Some("the job failed there: 503: busy"));
    // The next one finds it closed for a while.
    let next = bench.submit(public(Class::Interactive, 8000, 20));
    bench.run();
    assert_eq!(bench.devices_of(next), [GPU]);
}

#[test]
fn what_was_half_told_ends_there() {
    let mut bench = bench(Settings::default());
    bench.fails.insert(CHEAP, true);
    let chat = bench.submit(public(Class::Interactive, 8000, 20));
    bench.run();
    assert_eq!(sent(&bench).len(), 1);
    assert_eq!(
        bench.finished[&chat].spans,
        [],
        "nobody else went on with it"
    );
    assert_eq!(bench.snapshot().away[0].jobs, 0);
}

#[test]
fn a_job_that_has_begun_to_write_stays() {
    let mut bench = bench(Settings::default());
    warm(&mut bench);
    let chat = bench.submit(public(Class::Interactive, 10, 400));
    bench.run_for(Duration::from_secs(1));
    for device in [CPU, GPU, NPU] {
        bench.lies.insert(device);
        bench.lose(device);
    }
    bench.run_for(Duration::from_secs(1));
    bench.lies.clear();
    bench.run();
    assert_eq!(sent(&bench), []);
    assert_eq!(bench.finished[&chat].decode_tokens, 400);
}

#[test]
fn who_leaves_is_called_back() {
    let mut bench = without_devices(Settings::default());
    let chat = bench.submit(public(Class::Interactive, 100, 20));
    let state = bench.snapshot();
    assert_eq!(
        (&*state.away[0].name, state.away[0].jobs),
        ("remote:cheap", 1)
    );
    assert_eq!((state.jobs[0].job, state.jobs[0].device), (chat, CHEAP));
    let running: usize = state.queues.iter().map(|queue| queue.running).sum();
    assert_eq!(running, 0, "it is on no device");
    bench.tell(Event::Cancelled(chat));
    let called_back = Action::Drop {
        device: CHEAP,
        job: chat,
    };
    assert_eq!(bench.log.last(), Some(&called_back));
    assert_eq!(bench.snapshot().away[0].jobs, 0);
    // What comes back all the same is nobody's.
    bench.run_for(Duration::from_secs(10));
    assert!(bench.finished.is_empty() && bench.snapshot().jobs.is_empty());
    assert_eq!(bench.snapshot().away[0].jobs, 0);
}

#[test]
fn a_deadline_that_an_endpoint_meets_is_met() {
    let mut bench = bench(Settings::default());
    let soon = |bench: &Bench, seconds| Some(bench.now + Duration::from_secs_f64(seconds));
    let mut spec = public(Class::Interactive, 8000, 20);
    spec.deadline = soon(&bench, 1.5);
    let leaves = bench.submit(spec.clone());
    spec.deadline = soon(&bench, 0.3);
    let late = bench.submit(spec);
    bench.run();
    assert_eq!(sent(&bench), [(leaves, CHEAP)]);
    assert!(
        matches!(bench.refused[&late], Refusal::Deadline { expected_s, .. } if expected_s < 1.0)
    );
}

#[test]
fn what_waits_for_the_mains_goes_when_the_wait_is_worth_the_price() {
    let mut bench = bench(Settings {
        policy: Policy::of(Goal::Battery),
        ..Settings::default()
    });
    bench.set_patience(Duration::from_secs(10));
    bench.tell(Event::PowerIs(Power::Battery {
        percent: Some(80.0),
    }));
    let stays = bench.submit(job(Class::Background, 100, 20));
    // Worth half a second, and a minute.
    let cheap = bench.submit(public(Class::Background, 100, 20));
    let mut spec = public(Class::Background, 100, 20);
    spec.elsewhere = vec![place(DEAR, 0.5, 0.06)];
    let dear = bench.submit(spec);
    bench.run_for(Duration::from_secs(9));
    assert_eq!(sent(&bench), []);
    bench.run_for(Duration::from_secs(2));
    assert_eq!(sent(&bench), [(cheap, CHEAP)]);
    bench.run_for(Duration::from_secs(50));
    assert_eq!(sent(&bench), [(cheap, CHEAP), (dear, DEAR)]);
    assert!(!bench.finished.contains_key(&stays));
    bench.tell(Event::PowerIs(Power::Mains));
    bench.run();
    assert!(bench.finished.contains_key(&stays));
}

#[test]
fn a_full_queue_sends_whom_it_cannot_hold() {
    let mut bench = without_devices(Settings {
        queue: 2,
        ..Settings::default()
    });
    for _ in 0..2 {
        bench.submit(job(Class::Background, 100, 20));
    }
    let refused = bench.submit(job(Class::Background, 100, 20));
    let leaves = bench.submit(public(Class::Background, 100, 20));
    assert!(matches!(bench.refused[&refused], Refusal::QueueFull { .. }));
    assert_eq!(sent(&bench), [(leaves, CHEAP)]);
}

#[test]
fn an_endpoint_has_no_more_jobs_than_it_takes() {
    let mut bench = without_devices(Settings::default());
    bench.tell(Event::RemoteIs(RemoteFacts {
        concurrent: Some(2),
        ..facts(CHEAP, "cheap")
    }));
    let jobs: Vec<_> = (0..6)
        .map(|_| bench.submit(public(Class::Interactive, 100, 20)))
        .collect();
    let mut most = 0;
    for _ in 0..100 {
        bench.run_for(Duration::from_millis(50));
        most = most.max(bench.snapshot().away[0].jobs);
    }
    assert_eq!(most, 2);
    assert!(jobs.iter().all(|job| bench.finished.contains_key(job)));
}

#[test]
fn what_is_closed_takes_nothing_and_says_why() {
    let mut bench = bench(Settings::default());
    bench.tell(Event::RemoteIs(RemoteFacts {
        closed: Some("the month's budget is spent".to_owned()),
        ..facts(CHEAP, "cheap")
    }));
    let chat = bench.submit(public(Class::Interactive, 8000, 20));
    bench.run();
    assert_eq!(bench.devices_of(chat), [GPU]);
    let why = lost(bench.decision(chat), CHEAP).map(|lost| lost.to_string());
    assert_eq!(why.as_deref(), Some("the month's budget is spent"));
}

#[test]
fn a_load_is_not_sent_and_a_model_that_is_missed_is_loaded() {
    let mut bench = bench(Settings {
        keep_alive: KeepAlive::Forever,
        ..Settings::default()
    });
    let load = bench.submit(JobSpec {
        work: Work::Load,
        ..public(Class::Interactive, 1, 1)
    });
    bench.run();
    assert!(bench.finished.contains_key(&load) && sent(&bench).is_empty());
    // Each that leaves for want of the other model adds to the reasons to load it.
    for _ in 0..20 {
        let mut spec = public(Class::Interactive, 400, 50);
        spec.model = super::bench::TOO_BIG_FOR_NPU;
        spec.elsewhere = vec![place(CHEAP, 0.5, 0.0005)];
        bench.submit(spec);
        bench.run();
    }
    assert!(!sent(&bench).is_empty());
    let last = bench.finished.keys().max().expect("there are some");
    assert_eq!(bench.devices_of(*last), [GPU], "it is here by now");
}

#[test]
fn an_outlook_is_what_happens() {
    let mut bench = bench(Settings::default());
    warm(&mut bench);
    let spec = public(Class::Interactive, 4000, 20);
    let outlook = bench.outlook(&spec);
    let here = bench.submit(JobSpec {
        elsewhere: Vec::new(),
        ..spec
    });
    bench.run();
    let (told, truth) = (outlook.ttft_s, bench.finished[&here].ttft_s);
    let (told, truth) = (told.expect("it is known"), truth.expect("it began"));
    assert!((told / truth - 1.0).abs() < 0.2, "{told} and {truth}");
    let unknown = JobSpec {
        model: ModelId(77),
        ..job(Class::Interactive, 10, 5)
    };
    assert_eq!(bench.outlook(&unknown).ttft_s, None);
}
