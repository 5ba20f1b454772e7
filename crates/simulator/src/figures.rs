//! What a simulation comes to, in numbers: made from its log, without a look at how it was done.

mod compare;

#[cfg(test)]
mod tests;

pub use compare::Against;

use std::collections::BTreeMap;

use serde::Serialize;
use troika_scheduler::{Account, Class, Phase};

use crate::log::{Arrival, Log, Outcome, RemoteLog, SpanKind, State};

/// The figures of a simulation.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Figures {
    /// The machine.
    pub machine: String,
    /// The scheduler.
    pub scheduler: String,
    /// Seconds until the last job had ended.
    pub end_s: f64,
    /// All jobs.
    pub jobs: Ends,
    /// Each class that there were jobs of, the most urgent first.
    pub classes: Vec<ClassFigures>,
    /// Tokens of prompts that were read, again and again if a cache was lost.
    pub tokens_read: u64,
    /// Tokens that were written.
    pub tokens_written: u64,
    /// Tokens written in each second until the end.
    pub written_tps: f64,
    /// Tokens of prompts of jobs that were done, and those written, in each second until the end.
    pub done_tps: f64,
    /// Jobs that were done in each hour until the end.
    pub jobs_per_hour: f64,
    /// Joules of all devices.
    pub joules: f64,
    /// Those while they worked.
    pub joules_busy: f64,
    /// Those while they rested.
    pub joules_idle: f64,
    /// Joules of the rest of the machine until the end, at [`VirtualMachine::watts_rest`](crate::VirtualMachine); in no other
    /// figure.
    pub joules_rest: f64,
    /// Joules for each token read or written, those at rest included; absent if there was none.
    pub joules_per_token: Option<f64>,
    /// Each device.
    pub devices: Vec<DeviceFigures>,
    /// Which device did how much of each class.
    pub placement: Vec<Share>,
    /// Each endpoint beyond the machine.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remotes: Vec<RemoteLog>,
    /// Models that were put away for others.
    pub evictions: u32,
    /// Jobs that went from one device to another.
    pub moves: u32,
    /// Jobs that began again elsewhere after their device failed.
    pub replays: u32,
    /// Why jobs were refused, and how many.
    pub refusals: BTreeMap<String, usize>,
    /// How well the time to the first token was foretold; absent where nothing was.
    pub ttft_foretold: Option<Foretold>,
    /// How well the time to the end was foretold.
    pub total_foretold: Option<Foretold>,
}

/// How jobs ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Ends {
    /// All of them.
    pub count: usize,
    /// As they should.
    pub done: usize,
    /// Their clients left.
    pub cancelled: usize,
    /// They were refused.
    pub refused: usize,
    /// The simulation ended first.
    pub open: usize,
}

/// The figures of a class.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct ClassFigures {
    /// Which.
    pub class: Class,
    /// How its jobs ended.
    pub jobs: Ends,
    /// Seconds to the first token, or to the vector; absent if no job got so far.
    pub ttft_s: Option<Percentiles>,
    /// Seconds between tokens.
    pub itl_s: Option<Percentiles>,
    /// Seconds from arrival to end, of jobs that were done.
    pub total_s: Option<Percentiles>,
    /// Jobs with a deadline.
    pub with_deadline: usize,
    /// Those of them that were not done by then, refused ones included.
    pub missed: usize,
}

/// What a share of values does not exceed.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Percentiles {
    /// Half of them.
    pub p50: f64,
    /// 95 of 100.
    pub p95: f64,
    /// 99 of 100.
    pub p99: f64,
    /// The mean.
    pub mean: f64,
    /// The greatest.
    pub max: f64,
    /// How many values there are.
    pub count: usize,
}

impl Percentiles {
    /// Of these values; `None` if there are none. Each percentile is one of the values: the least one that so many do not
    /// exceed.
    pub fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let max = *values.last()?;
        let rank = |percent: usize| values[(values.len() * percent).div_ceil(100).max(1) - 1];
        Some(Self {
            p50: rank(50),
            p95: rank(95),
            p99: rank(99),
            mean: values.iter().sum::<f64>() / values.len() as f64,
            max,
            count: values.len(),
        })
    }
}

/// The figures of a device.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct DeviceFigures {
    /// Its name.
    pub name: String,
    /// Share of the time until the end in which it computed.
    pub busy: f64,
    /// Joules while it worked.
    pub joules_busy: f64,
    /// Joules while it rested.
    pub joules_idle: f64,
    /// Models that were loaded.
    pub loads: usize,
    /// Tokens that were read on it.
    pub tokens_read: u64,
    /// Tokens that were written on it.
    pub tokens_written: u64,
}

/// A device's share in a phase of a class's jobs.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Share {
    /// The class.
    pub class: Class,
    /// The phase.
    pub phase: Phase,
    /// The device.
    pub device: String,
    /// Tokens of it there.
    pub tokens: u64,
    /// Their share of the class's tokens in this phase.
    pub share: f64,
}

/// What was foretold when jobs were placed first, against what became of them.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Foretold {
    /// Jobs of which something was foretold and that got so far.
    pub count: usize,
    /// Half of them were further off than this share of what they really took.
    pub median_error: f64,
    /// Half of them took more than what was foretold times this: above 1, it was too hopeful.
    pub median_ratio: f64,
    /// Share of them that lay within the interval.
    pub inside: f64,
}

impl Figures {
    /// The figures of a log. `arrivals` are those that it was made from.
    pub fn of(log: &Log, arrivals: &[Arrival]) -> Self {
        let end_s = log.end.seconds();
        let per_second = |count: f64| if end_s > 0.0 { count / end_s } else { 0.0 };
        let accounts = || {
            log.outcomes
                .iter()
                .filter_map(|outcome| outcome.account.as_ref())
        };
        let tokens_read = accounts().map(|account| account.prefill_tokens).sum();
        let tokens_written = log
            .outcomes
            .iter()
            .map(|outcome| u64::from(outcome.tokens))
            .sum();
        let done = log
            .outcomes
            .iter()
            .filter(|outcome| outcome.state == State::Done);
        let done_tokens: u64 = done
            .map(|outcome| u64::from(outcome.prompt_tokens) + u64::from(outcome.tokens))
            .sum();
        let jobs = Ends::of(log.outcomes.iter());
        // From zero, since the sum of nothing is its negative.
        let sum = |values: &[f64]| values.iter().fold(0.0, |sum, value| sum + value);
        let joules_busy = sum(&log.joules_busy);
        let joules_idle = sum(&log.joules_idle);
        let joules = joules_busy + joules_idle;
        let tokens = tokens_read + tokens_written;
        Self {
            machine: log.machine.clone(),
            scheduler: log.scheduler.clone(),
            end_s,
            jobs,
            classes: classes(log, arrivals),
            tokens_read,
            tokens_written,
            written_tps: per_second(tokens_written as f64),
            done_tps: per_second(done_tokens as f64),
            jobs_per_hour: per_second(jobs.done as f64) * 3600.0,
            joules,
            joules_busy,
            joules_idle,
            joules_rest: log.watts_rest * end_s,
            joules_per_token: (tokens > 0).then(|| joules / tokens as f64),
            devices: devices(log),
            placement: placement(log),
            remotes: log.remotes.clone(),
            evictions: log.evictions,
            moves: log.moves,
            replays: log.replays,
            refusals: refusals(log),
            ttft_foretold: foretold(accounts().filter_map(|account| {
                Some((account, account.expected?.ttft_s(), account.ttft_s?))
            })),
            total_foretold: foretold(log.outcomes.iter().filter_map(|outcome| {
                let account = outcome.account.as_ref()?;
                let took = outcome.end.since(outcome.at).as_secs_f64();
                let is_done = outcome.state == State::Done;
                is_done.then_some((account, account.expected?.total_s(), took))
            })),
        }
    }

    /// The figures of a class, if there were jobs of it.
    pub fn class(&self, class: Class) -> Option<&ClassFigures> {
        self.classes.iter().find(|figures| figures.class == class)
    }
}

impl Ends {
    fn of<'o>(outcomes: impl Iterator<Item = &'o Outcome>) -> Self {
        let mut ends = Self::default();
        for outcome in outcomes {
            ends.count += 1;
            *match outcome.state {
                State::Done => &mut ends.done,
                State::Cancelled => &mut ends.cancelled,
                State::Refused(_) => &mut ends.refused,
                State::Open => &mut ends.open,
            } += 1;
        }
        ends
    }
}

fn classes(log: &Log, arrivals: &[Arrival]) -> Vec<ClassFigures> {
    let figures = Class::ALL.into_iter().map(|class| {
        let of_class = || {
            log.outcomes
                .iter()
                .filter(move |outcome| outcome.class == class)
        };
        let gaps = of_class().flat_map(|outcome| &outcome.gaps_s);
        let done = of_class().filter(|outcome| outcome.state == State::Done);
        // Outcomes stand in the order of arrivals.
        let deadlines = log.outcomes.iter().zip(arrivals);
        let deadlines: Vec<_> = deadlines
            .filter(|(outcome, _)| outcome.class == class)
            .filter_map(|(outcome, arrival)| Some((outcome, arrival.deadline?)))
            .collect();
        let is_missed = |outcome: &Outcome, deadline| {
            outcome.state != State::Done || outcome.end.since(outcome.at) > deadline
        };
        ClassFigures {
            class,
            jobs: Ends::of(of_class()),
            ttft_s: Percentiles::of(of_class().filter_map(|outcome| outcome.ttft_s).collect()),
            itl_s: Percentiles::of(gaps.map(|&gap| f64::from(gap)).collect()),
            total_s: Percentiles::of(
                done.map(|outcome| outcome.end.since(outcome.at).as_secs_f64())
                    .collect(),
            ),
            with_deadline: deadlines.len(),
            missed: deadlines
                .iter()
                .filter(|(outcome, deadline)| is_missed(outcome, *deadline))
                .count(),
        }
    });
    figures.filter(|figures| figures.jobs.count > 0).collect()
}

fn devices(log: &Log) -> Vec<DeviceFigures> {
    let spans_of = |number: usize| {
        log.spans
            .iter()
            .filter(move |span| usize::from(span.device) == number)
    };
    let parts_of = |number: usize, phase| {
        let accounts = log
            .outcomes
            .iter()
            .filter_map(|outcome| outcome.account.as_ref());
        accounts
            .flat_map(|account| &account.spans)
            .filter(|part| usize::from(part.device.0) == number && part.phase == phase)
            .map(|part| part.tokens)
            .sum()
    };
    let figures = log.devices.iter().enumerate().map(|(number, name)| {
        let works = |kind| matches!(kind, SpanKind::Read | SpanKind::Write);
        let busy_s = spans_of(number)
            .filter(|span| works(span.kind))
            .map(|span| span.to.since(span.from).as_secs_f64())
            .fold(0.0, |sum, seconds| sum + seconds);
        let joules = |of: &[f64]| of.get(number).copied().unwrap_or(0.0);
        DeviceFigures {
            name: name.clone(),
            busy: if log.end.0 > 0 {
                busy_s / log.end.seconds()
            } else {
                0.0
            },
            joules_busy: joules(&log.joules_busy),
            joules_idle: joules(&log.joules_idle),
            loads: spans_of(number)
                .filter(|span| span.kind == SpanKind::Load)
                .count(),
            tokens_read: parts_of(number, Phase::Prefill),
            tokens_written: parts_of(number, Phase::Decode),
        }
    });
    figures.collect()
}

fn placement(log: &Log) -> Vec<Share> {
    let mut tokens: BTreeMap<(std::cmp::Reverse<Class>, bool, u16), u64> = BTreeMap::new();
    for outcome in &log.outcomes {
        for part in outcome.account.iter().flat_map(|account| &account.spans) {
            let is_decode = part.phase == Phase::Decode;
            let key = (std::cmp::Reverse(outcome.class), is_decode, part.device.0);
            *tokens.entry(key).or_default() += part.tokens;
        }
    }
    let all = |class, is_decode| {
        let of_phase = tokens
            .iter()
            .filter(move |((c, d, _), _)| (*c, *d) == (class, is_decode));
        of_phase.map(|(_, tokens)| tokens).sum::<u64>()
    };
    let shares = tokens.iter().filter(|(_, tokens)| **tokens > 0).map(
        |(&(class, is_decode, device), &tokens)| Share {
            class: class.0,
            phase: if is_decode {
                Phase::Decode
            } else {
                Phase::Prefill
            },
            device: name(log, device),
            tokens,
            share: tokens as f64 / all(class, is_decode) as f64,
        },
    );
    shares.collect()
}

/// A device's name, or an endpoint's.
fn name(log: &Log, device: u16) -> String {
    let remotes = log.remotes.iter().map(|remote| &remote.name);
    let mut names = log.devices.iter().chain(remotes);
    let name = names.nth(usize::from(device)).cloned();
    name.unwrap_or_else(|| format!("device {device}"))
}

fn refusals(log: &Log) -> BTreeMap<String, usize> {
    let mut reasons = BTreeMap::new();
    for outcome in &log.outcomes {
        if let State::Refused(reason) = &outcome.state {
            *reasons.entry(reason.clone()).or_default() += 1;
        }
    }
    reasons
}

/// Of accounts, each with what was foretold and what it took, in seconds.
fn foretold<'a>(jobs: impl Iterator<Item = (&'a Account, f64, f64)>) -> Option<Foretold> {
    let jobs: Vec<_> = jobs
        .filter(|&(_, told, took)| told > 0.0 && took > 0.0)
        .collect();
    let inside = jobs.iter().filter(|(account, told, took)| {
        let spread = account
            .expected
            .map_or(1.0, |expected| expected.spread.max(1.0));
        (told / spread..=told * spread).contains(took)
    });
    let inside = inside.count() as f64 / jobs.len() as f64;
    let median = |values: Vec<f64>| Percentiles::of(values).map(|values| values.p50);
    Some(Foretold {
        count: jobs.len(),
        median_error: median(
            jobs.iter()
                .map(|(_, told, took)| (told / took - 1.0).abs())
                .collect(),
        )?,
        median_ratio: median(jobs.iter().map(|(_, told, took)| took / told).collect())?,
        inside,
    })
}
