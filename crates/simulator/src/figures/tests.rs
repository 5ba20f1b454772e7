//! Figures of outcomes made up by hand.

use std::time::Duration;

use troika_scheduler::{DeviceId, JobForecast, Span as Part, Time, Work};

use super::*;
use crate::log::Span;

fn at(seconds: f64) -> Time {
    Time::from_seconds(seconds)
}

fn outcome(class: Class, state: State, device: u16, ttft_s: f64, tokens: u32) -> Outcome {
    let part = |phase, tokens| Part {
        device: DeviceId(device),
        phase,
        tokens,
        device_s: 1.0,
        joules: Some(5.0),
    };
    let account = Account {
        spans: vec![part(Phase::Prefill, 10), part(Phase::Decode, tokens.into())],
        ttft_s: Some(ttft_s),
        prefill_tokens: 10,
        decode_tokens: tokens.into(),
        expected: Some(JobForecast {
            prefill_s: 1.0,
            decode_s: 1.0,
            spread: 1.5,
            ..JobForecast::default()
        }),
        ..Account::default()
    };
    Outcome {
        at: at(0.0),
        model: "m".to_owned(),
        class,
        prompt_tokens: 10,
        state,
        end: at(ttft_s + 1.0),
        ttft_s: Some(ttft_s),
        gaps_s: vec![0.5; tokens as usize - 1],
        tokens,
        account: Some(account),
    }
}

fn arrival(class: Class, deadline: Option<f64>) -> Arrival {
    Arrival {
        at: at(0.0),
        model: "m".to_owned(),
        class,
        owner: String::new(),
        prompt_tokens: 10,
        shared: 0,
        work: Work::Write {
            n: 1,
            max_tokens: 3,
        },
        deadline: deadline.map(Duration::from_secs_f64),
        leaves: None,
        device: None,
    }
}

fn log() -> (Log, Vec<Arrival>) {
    let refused = Outcome {
        account: None,
        ttft_s: None,
        tokens: 0,
        gaps_s: Vec::new(),
        ..outcome(Class::Batch, State::Refused("full".to_owned()), 0, 1.0, 1)
    };
    let span = |device, from, to, kind| Span {
        device,
        from: at(from),
        to: at(to),
        model: "m".to_owned(),
        kind,
        class: None,
        watts: 10.0,
    };
    let log = Log {
        machine: "box".to_owned(),
        scheduler: "troika".to_owned(),
        devices: vec!["cpu0".to_owned(), "gpu0".to_owned()],
        remotes: Vec::new(),
        outcomes: vec![
            outcome(Class::Interactive, State::Done, 1, 1.0, 3),
            outcome(Class::Interactive, State::Done, 1, 2.0, 3),
            outcome(Class::Background, State::Done, 0, 8.0, 5),
            outcome(Class::Background, State::Cancelled, 1, 4.0, 2),
            refused,
        ],
        spans: vec![
            span(0, 0.0, 2.0, SpanKind::Load),
            span(0, 2.0, 7.0, SpanKind::Read),
            span(1, 0.0, 1.0, SpanKind::Write),
        ],
        end: at(10.0),
        joules_busy: vec![50.0, 10.0],
        joules_idle: vec![5.0, 15.0],
        watts_rest: 3.0,
        evictions: 1,
        moves: 2,
        replays: 3,
    };
    let arrivals = vec![
        arrival(Class::Interactive, Some(2.5)),
        arrival(Class::Interactive, Some(2.5)),
        arrival(Class::Background, None),
        arrival(Class::Background, None),
        arrival(Class::Batch, Some(60.0)),
    ];
    (log, arrivals)
}

#[test]
fn percentiles_are_values_that_there_are() {
    let of =
        |count: u32| Percentiles::of((1..=count).rev().map(f64::from).collect()).expect("some");
    let hundred = of(100);
    assert_eq!(
        (hundred.p50, hundred.p95, hundred.p99, hundred.max),
        (50.0, 95.0, 99.0, 100.0)
    );
    assert_eq!(hundred.mean, 50.5);
    let three = of(3);
    assert_eq!((three.p50, three.p95, three.p99), (2.0, 3.0, 3.0));
    assert_eq!(Percentiles::of(Vec::new()), None);
}

#[test]
fn a_log_comes_to_its_figures() {
    let (log, arrivals) = log();
    let figures = Figures::of(&log, &arrivals);
    assert_eq!(
        figures.jobs,
        Ends {
            count: 5,
            done: 3,
            cancelled: 1,
            refused: 1,
            open: 0
        }
    );
    assert_eq!((figures.tokens_read, figures.tokens_written), (40, 13));
    assert_eq!(figures.written_tps, 1.3);
    // Three prompts of 10 tokens, and 11 tokens written.
    assert_eq!(figures.done_tps, 4.1);
    assert_eq!(figures.jobs_per_hour, 1080.0);
    assert_eq!(
        (figures.joules, figures.joules_busy, figures.joules_idle),
        (80.0, 60.0, 20.0)
    );
    assert_eq!(figures.joules_per_token, Some(80.0 / 53.0));
    let classes: Vec<_> = figures.classes.iter().map(|class| class.class).collect();
    assert_eq!(
        classes,
        [Class::Interactive, Class::Background, Class::Batch]
    );
    let people = &figures.classes[0];
    assert_eq!(
        people.ttft_s.map(|ttft| (ttft.p50, ttft.p95)),
        Some((1.0, 2.0))
    );
    assert_eq!(people.itl_s.map(|itl| (itl.p50, itl.count)), Some((0.5, 4)));
    assert_eq!((people.with_deadline, people.missed), (2, 1));
    assert_eq!(
        (figures.classes[2].with_deadline, figures.classes[2].missed),
        (1, 1),
        "refused is missed"
    );
    assert_eq!(figures.classes[2].ttft_s, None);
    assert_eq!(figures.refusals.get("full"), Some(&1));
}

#[test]
fn devices_and_placements_are_told_apart() {
    let (log, arrivals) = log();
    let figures = Figures::of(&log, &arrivals);
    let [cpu, gpu] = &figures.devices[..] else {
        panic!("there are two");
    };
    assert_eq!(
        (cpu.busy, cpu.loads, cpu.tokens_read, cpu.tokens_written),
        (0.5, 1, 10, 5)
    );
    assert_eq!(
        (gpu.busy, gpu.tokens_read, gpu.joules_idle),
        (0.1, 30, 15.0)
    );
    let shares: Vec<_> = figures
        .placement
        .iter()
        .map(|share| (share.class, share.phase, &*share.device, share.share))
        .collect();
    assert_eq!(
        shares,
        [
            (Class::Interactive, Phase::Prefill, "gpu0", 1.0),
            (Class::Interactive, Phase::Decode, "gpu0", 1.0),
            (Class::Background, Phase::Prefill, "cpu0", 0.5),
            (Class::Background, Phase::Prefill, "gpu0", 0.5),
            (Class::Background, Phase::Decode, "cpu0", 5.0 / 7.0),
            (Class::Background, Phase::Decode, "gpu0", 2.0 / 7.0),
        ]
    );
}

#[test]
fn what_was_foretold_is_held_against_what_came() {
    let (log, arrivals) = log();
    let figures = Figures::of(&log, &arrivals);
    // Foretold were 1 s each, within 1.5 times; it took 1, 2, 8 and 4 s.
    let ttft = figures.ttft_foretold.expect("something was foretold");
    assert_eq!((ttft.count, ttft.inside, ttft.median_ratio), (4, 0.25, 2.0));
    assert_eq!(ttft.median_error, 0.5);
    // To the end 2 s were foretold, and it took 2, 3 and 9; the job whose client left does not count.
    let total = figures.total_foretold.expect("something was foretold");
    assert_eq!((total.count, total.median_ratio), (3, 1.5));
    assert!((total.inside - 2.0 / 3.0).abs() < 1e-9);
}

#[test]
fn nothing_makes_no_figures() {
    let figures = Figures::of(&Log::default(), &[]);
    assert_eq!((figures.written_tps, figures.joules_per_token), (0.0, None));
    assert_eq!((figures.ttft_foretold, figures.classes.len()), (None, 0));
}

#[test]
fn factors_above_one_are_better() {
    let (log, arrivals) = log();
    let own = Figures::of(&log, &arrivals);
    let mut slow = log.clone();
    slow.scheduler = "static".to_owned();
    slow.end = at(20.0);
    slow.joules_busy = vec![100.0, 40.0];
    slow.outcomes[1].ttft_s = Some(10.0);
    let against = own.against(&Figures::of(&slow, &arrivals));
    assert_eq!(against.ttft(Class::Interactive), Some(5.0));
    assert_eq!(
        (against.end, against.throughput, against.energy),
        (Some(2.0), Some(2.0), Some(2.0))
    );
    assert_eq!(against.ttft(Class::Agent), None);
}
