//! How many users one replica serves at once as is wanted.
//!
//! Users do not all ask in the same moment: each asks, waits, reads the answer as fast as is wanted, and asks again. From that follow how many prompts come in a second, and how many of them meet. Speeds are the cost
//! model's; here they are only shared out between reading prompts and writing answers, which take turns on the device.

use serde::Serialize;
use troika_base::Estimate;

use super::Count;
use crate::cost::{self, Backend, Forecast, Refusal, Term};
use crate::model::ModelShape;
use crate::plan::judge::{refused, spread};
use crate::plan::rig::Rig;
use crate::plan::verdict::{Lost, Requirement};
use crate::plan::workload::Workload;
use crate::quantization::Quantization;

/// Answers side by side that a server may be set to write for one model, at most.
pub const STREAMS_MAX: u32 = 4096;

/// Of so many waits, all but one in twenty are to be as short as is wanted; simulations and the server's metrics tell the same
/// percentile.
const MOST: f64 = 0.95;

/// What holds a replica from serving one user more.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bound {
    /// Seconds to the first token.
    Ttft,
    /// Tokens a second.
    Speed,
    /// Memory.
    Memory,
    /// There are no more, or the server takes no more.
    Users,
}

/// How requests come to one replica.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Arrivals {
    /// Seconds between two requests of one user.
    pub cycle_s: f64,
    /// Prompts that come within the time to the first token that is wanted, 95 times of 100 no more; 1 where none is wanted.
    pub meeting: u32,
    /// Share of the time that prompts are read in.
    pub reading: Estimate,
}

/// Users whom one replica serves at once.
#[derive(Clone, Debug)]
pub(super) struct Capacity {
    /// None of them is 0.
    pub(super) users: Count,
    pub(super) bound: Bound,
    pub(super) arrivals: Arrivals,
    /// With `users.low` of them.
    pub(super) forecast: Forecast,
}

/// An end of an interval, or its middle.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Worse,
    Middle,
    Better,
}

impl End {
    /// A speed at this end.
    fn of(self, speed: Estimate) -> f64 {
        match self {
            Self::Worse => speed.low,
            Self::Middle => speed.value,
            Self::Better => speed.high,
        }
    }
}

/// A replica that is asked how much it bears.
struct Trial<'a> {
    workload: &'a Workload,
    /// Prompt tokens a second of a prompt alone.
    prefill_tps: Estimate,
}

/// What a number of users would have at one end of the intervals.
struct Service {
    ttft_s: f64,
    tps: f64,
    reading: f64,
}

impl Trial<'_> {
    /// Seconds between two requests of a user who reads as fast as is wanted, or as fast as the answer comes.
    fn cycle_s(&self, forecast: &Forecast, end: End) -> f64 {
        let workload = self.workload;
        let tps = workload.tps.unwrap_or_else(|| end.of(forecast.decode_tps));
        workload.ttft_s.unwrap_or(0.0) + f64::from(workload.gen_tokens) / tps
    }

    /// Prompts that meet, the one that waits included.
    fn meeting(&self, forecast: &Forecast, users: u32, end: End) -> u32 {
        let Some(want) = self.workload.ttft_s else {
            return 1;
        };
        let mean = f64::from(users) * want / self.cycle_s(forecast, end);
        (1 + poisson_quantile(mean, MOST)).min(users)
    }

    fn service(&self, forecast: &Forecast, users: u32, end: End) -> Service {
        let workload = self.workload;
        let read_s = f64::from(workload.prompt_tokens) / end.of(self.prefill_tps);
        let decode_tps = end.of(forecast.decode_tps);
        let reading = f64::from(users) / self.cycle_s(forecast, end) * read_s;
        // What writing at the speed that is wanted leaves of the time. Where no speed is wanted, writing makes way.
        let left = 1.0 - workload.tps.map_or(0.0, |want| want / decode_tps);
        let prompts = f64::from(self.meeting(forecast, users, end));
        Service {
            ttft_s: match left > 0.0 {
                true => prompts * read_s / left + 1.0 / decode_tps,
                false => f64::INFINITY,
            },
            tps: decode_tps * (1.0 - reading).max(0.0),
            reading,
        }
    }

    /// Whether what is wanted is kept at this end of the intervals.
    fn holds(&self, forecast: &Forecast, users: u32, end: End) -> Result<(), Bound> {
        let service = self.service(forecast, users, end);
        // Without a want, too, what comes has to be read some time.
        if service.reading >= 1.0 || self.workload.tps.is_some_and(|want| service.tps < want) {
            return Err(Bound::Speed);
        }
        match self.workload.ttft_s {
            Some(want) if service.ttft_s > want => Err(Bound::Ttft),
            _ => Ok(()),
        }
    }

    /// The forecast as these users find it: the first token behind prompts that meet, the speed less what reading takes.
    fn found(&self, mut forecast: Forecast, users: u32) -> (Forecast, Arrivals) {
        let [worse, middle, better] =
            [End::Worse, End::Middle, End::Better].map(|end| self.service(&forecast, users, end));
        let arrivals = Arrivals {
            cycle_s: self.cycle_s(&forecast, End::Middle),
            meeting: self.meeting(&forecast, users, End::Worse),
            reading: Estimate {
                value: middle.reading,
                low: better.reading,
                high: worse.reading,
            },
        };
        forecast.ttft_s = Some(Estimate {
            value: middle.ttft_s,
            low: better.ttft_s,
            high: worse.ttft_s,
        });
        forecast.decode_tps = Estimate {
            value: middle.tps,
            low: worse.tps,
            high: better.tps,
        };
        (forecast, arrivals)
    }

    /// Why not even one user is served as is wanted.
    fn lost(&self, bound: Bound, one: &Forecast) -> Lost {
        let workload = self.workload;
        let (found, _) = self.found(one.clone(), 1);
        let (requirement, reason) = match (bound, found.ttft_s, workload.ttft_s) {
            (Bound::Ttft, Some(ttft), Some(want)) => {
                let wait = match ttft.value.is_finite() {
                    true => format!("first token after {} s for one user alone", spread(ttft)),
                    false => "no time left for reading".to_owned(),
                };
                (
                    Requirement::Ttft,
                    format!("{wait}, {want} s wanted of nine machines in ten"),
                )
            }
            _ => (
                Requirement::Speed,
                format!(
                    "{} tok/s for one user alone, {} wanted of nine machines in ten",
                    spread(found.decode_tps),
                    workload.tps.unwrap_or_default()
                ),
            ),
        };
        Lost {
            requirement,
            reason,
        }
    }
}

impl Capacity {
    /// The capacity of a rig.
    ///
    /// # Errors
    /// Why it does not serve even one.
    pub(super) fn of(
        rig: &Rig,
        backend: Option<Backend>,
        model: &ModelShape,
        quantization: &Quantization,
        workload: &Workload,
    ) -> Result<Self, Lost> {
        let setup = rig.setup(0..rig.members.len(), backend);
        let calibrated = rig.calibrated(0..rig.members.len());
        let factors = calibrated.map(|calibrated| &calibrated.factors);
        let with = |users: u32| {
            let work = workload.work(users);
            cost::outlook(&setup, model, quantization, &work, factors)
        };
        let one = with(1).map_err(|refusal| refused(&refusal))?;
        let prefill_tps = one.prefill_tps.ok_or_else(|| Lost {
            requirement: Requirement::Ttft,
            reason: "how fast it reads cannot be told: no rate is known".to_owned(),
        })?;
        let trial = Trial {
            workload,
            prefill_tps,
        };
        if let Err(bound) = trial.holds(&one, 1, End::Worse) {
            return Err(trial.lost(bound, &one));
        }
        let limit = workload.users.min(STREAMS_MAX);
        let holds = |users: u32, end: End| {
            with(users).is_ok_and(|forecast| trial.holds(&forecast, users, end).is_ok())
        };
        let at = |end: End| most(limit, |users| holds(users, end));
        let users = Count {
            low: at(End::Worse),
            value: at(End::Middle),
            high: at(End::Better),
        };
        let more = users.low + 1;
        let bound = match with(more) {
            _ if users.low == limit => Bound::Users,
            Ok(forecast) => trial
                .holds(&forecast, more, End::Worse)
                .err()
                .unwrap_or(Bound::Users),
            Err(Refusal::DoesNotFit { .. }) => Bound::Memory,
            Err(_) => Bound::Users,
        };
        let forecast = with(users.low).map_err(|refusal| refused(&refusal))?;
        let (forecast, arrivals) = trial.found(forecast, users.low);
        Ok(Self {
            users,
            bound,
            arrivals,
            forecast,
        })
    }
}

impl Arrivals {
    /// The terms of it, beside those of the cost model.
    pub(super) fn terms(&self, workload: &Workload) -> Vec<Term> {
        let source = "requests of users who read what they get";
        let term = |name: &str, formula: String, value: f64, unit| Term {
            name: name.to_owned(),
            formula,
            value,
            unit,
            source: source.to_owned(),
        };
        vec![
            term(
                "time between two requests of a user",
                format!(
                    "{} s to the first token + {} tokens of answer at the speed wanted",
                    workload.ttft_s.unwrap_or(0.0),
                    workload.gen_tokens
                ),
                self.cycle_s,
                "s",
            ),
            term(
                "prompts that meet",
                "95th percentile of those that come within the time to the first token".to_owned(),
                f64::from(self.meeting),
                "prompts",
            ),
            term(
                "share of the time for reading",
                "users / time between requests × seconds to read a prompt".to_owned(),
                100.0 * self.reading.value,
                "%",
            ),
        ]
    }
}

/// The least number that a Poisson variable of this mean exceeds with a chance of at most `1 - share`.
fn poisson_quantile(mean: f64, share: f64) -> u32 {
    // Beyond this the exponential is 0; the normal distribution is as good there, and this far from its middle.
    const EXACT_MAX: f64 = 600.0;
    const SIGMAS: f64 = 1.645;
    if mean > EXACT_MAX {
        return (mean + SIGMAS * mean.sqrt()).ceil() as u32;
    }
    let mut chance = (-mean).exp();
    let mut below = chance;
    let mut count = 0;
    while below < share {
        count += 1;
        chance *= mean / f64::from(count);
        below += chance;
    }
    count
}

/// The greatest number up to `limit` that holds, where all below one that holds do, too; at least 1.
fn most(limit: u32, holds: impl Fn(u32) -> bool) -> u32 {
    // Few serve hundreds: doubling asks about as often as what is found has bits.
    let mut good = 1;
    let mut bad = limit.saturating_add(1);
    while good < limit {
        let next = good.saturating_mul(2).min(limit);
        if !holds(next) {
            bad = next;
            break;
        }
        good = next;
    }
    while bad - good > 1 {
        let middle = good + (bad - good) / 2;
        match holds(middle) {
            true => good = middle,
            false => bad = middle,
        }
    }
    good
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_is_found_wherever_it_is() {
        for limit in 1..40 {
            for edge in 1..60 {
                assert_eq!(
                    most(limit, |n| n <= edge),
                    edge.min(limit),
                    "{limit} {edge}"
                );
            }
        }
    }

    #[test]
    fn quantiles_are_those_of_tables() {
        for (mean, want) in [
            (0.0, 0),
            (0.05, 0),
            (0.06, 1),
            (1.0, 3),
            (5.0, 9),
            (20.0, 28),
            (100.0, 117),
        ] {
            assert_eq!(poisson_quantile(mean, 0.95), want, "{mean}");
        }
        // Where one way to reckon ends and the other begins there is no step.
        assert!(poisson_quantile(600.1, 0.95).abs_diff(poisson_quantile(599.9, 0.95)) <= 2);
    }
}
