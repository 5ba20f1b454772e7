//! Which of several places is best for a job, by its class and the owner's policy.
//!
//! Pure arithmetic over forecasts; who makes them is `scheduler/placing.rs`.

use troika_base::DeviceKind;

use crate::decision::{Candidate, JobForecast, Lost};
use crate::facts::Heat;
use crate::job::DeviceId;
use crate::{Class, Goal, Policy};

/// A place where a job could go.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    pub(crate) prefill: DeviceId,
    pub(crate) decode: DeviceId,
    pub(crate) forecast: JobForecast,
    /// The kind of the device that does most of it.
    pub(crate) kind: DeviceKind,
    pub(crate) heat: Heat,
    /// Share of the device's time that more urgent classes took lately.
    pub(crate) above: f64,
    /// How busy devices are that use the same memory: they slow each other down.
    pub(crate) crowd: f64,
    /// Watts that those devices drew lately beyond their rest: while they wait for memory they draw them for nothing.
    pub(crate) crowd_watts: f64,
    /// Watts while it does the job.
    pub(crate) watts: f64,
    /// Seconds until the last job of its lane could begin there.
    pub(crate) backlog_s: f64,
    /// Tokens a second of its answers.
    pub(crate) tps: f64,
    /// What has to happen first.
    pub(crate) state: Ready,
}

/// What has to happen before a job can begin somewhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ready {
    /// Nothing.
    Now,
    /// Others have to end, or a load that is under way.
    Later,
    /// Its model has to be loaded.
    Load,
}

/// What is wanted of a place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish {
    pub(crate) class: Class,
    pub(crate) policy: Policy,
    /// Seconds until the deadline.
    pub(crate) left_s: Option<f64>,
    /// Seconds that it may still wait for the place that costs least.
    pub(crate) patience_s: f64,
}

/// People notice a wait of more seconds than this.
const TTFT_MAX_S: f64 = 2.5;
/// People read no faster than so many tokens a second.
const READING_TPS: f64 = 8.0;
/// A program waits so many times as long as it has to, at most.
const AGENT_STRETCH: f64 = 2.0;
/// Where seconds count, energy counts by this power: for a program, a place that takes ten times the joules has to be twice as
/// fast; for a person, a quarter faster.
const THRIFT: f64 = 0.3;
const THRIFT_INTERACTIVE: f64 = 0.1;
/// A device that is warm, or hot, is as good as one that costs so many times as much.
const WARM: f64 = 1.3;
const HOT: f64 = 4.0;

/// What is to be little.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Measure {
    Time,
    Joules,
    Watts,
}

impl Wish {
    fn measure(&self) -> Measure {
        match (self.policy.goal, self.class) {
            (Goal::Fastest, _) | (Goal::Balanced, Class::Interactive | Class::Agent) => {
                Measure::Time
            }
            (Goal::Balanced | Goal::Frugal | Goal::Battery, _) => Measure::Joules,
            (Goal::Cool, _) => Measure::Watts,
        }
    }

    /// Whether a place is good enough for the class, however little it costs.
    fn is_met(&self, offer: &Offer, fastest_s: f64) -> bool {
        let forecast = &offer.forecast;
        match self.class {
            Class::Interactive => {
                let is_soon = forecast.ttft_s() <= TTFT_MAX_S.max(fastest_s * AGENT_STRETCH);
                is_soon && (offer.tps >= READING_TPS || forecast.decode_s == 0.0)
            }
            Class::Agent => forecast.total_s() <= AGENT_STRETCH * fastest_s.max(0.5),
            Class::Background | Class::Batch => {
                forecast.wait_s + forecast.load_s + offer.backlog_s <= self.patience_s
            }
        }
    }

    /// What people and programs wait at a place, and have others wait.
    fn seconds(&self, offer: &Offer) -> f64 {
        let forecast = &offer.forecast;
        let seconds = match self.class {
            // What comes first is what people wait for.
            Class::Interactive => forecast.total_s() + 2.0 * forecast.ttft_s(),
            _ => forecast.total_s() + offer.backlog_s,
        };
        let thrift = match (self.policy.goal, self.class) {
            (Goal::Fastest, _) => 0.0,
            (_, Class::Interactive) => THRIFT_INTERACTIVE,
            _ => THRIFT,
        };
        // What it takes of a shared memory is taken from others.
        seconds * (1.0 + offer.crowd).powi(2) * forecast.joules_compared().max(0.1).powf(thrift)
    }

    /// What a place costs by a measure.
    fn cost(&self, offer: &Offer, measure: Measure) -> f64 {
        let forecast = &offer.forecast;
        let heat = match offer.heat {
            Heat::Normal => 1.0,
            Heat::Warm => WARM,
            Heat::Hot => HOT,
        };
        let cost = match (measure, self.class) {
            (Measure::Time, _) => self.seconds(offer),
            // Whoever shares a device with more urgent work slows that down.
            (Measure::Joules, _) => {
                let stalls = offer.crowd_watts * (forecast.prefill_s + forecast.decode_s);
                (forecast.joules_compared() + stalls) * (1.0 + offer.above)
            }
            (Measure::Watts, _) => offer.watts * (1.0 + offer.above),
        };
        cost.max(1e-9) * heat
    }
}

/// Takes the best of the offers, and says of the others why they lost. Scores are set. `None` if none is in time.
pub(crate) fn choose(wish: &Wish, offers: &mut [Offer]) -> (Option<usize>, Vec<Option<Lost>>) {
    let mut lost = vec![None; offers.len()];
    let is_late = |offer: &Offer| {
        let left_s = wish.left_s;
        left_s.is_some_and(|left_s| offer.forecast.total_s() > left_s)
    };
    for (offer, lost) in offers.iter().zip(&mut lost) {
        *lost = is_late(offer).then_some(Lost::TooLate);
    }
    let fastest_s = |of: fn(&JobForecast) -> f64| {
        let times = offers.iter().zip(&lost).filter(|(_, lost)| lost.is_none());
        times
            .map(|(offer, _)| of(&offer.forecast))
            .fold(f64::INFINITY, f64::min)
    };
    let fastest_s = match wish.class {
        Class::Interactive => fastest_s(JobForecast::ttft_s),
        _ => fastest_s(JobForecast::total_s),
    };
    let mut measure = wish.measure();
    let is_met = |offer: &Offer| wish.is_met(offer, fastest_s);
    if measure != Measure::Time || wish.policy.prefer.is_some() {
        let any = |offers: &[Offer]| {
            let open = offers.iter().zip(&lost).filter(|(_, lost)| lost.is_none());
            open.filter(|(offer, _)| is_met(offer)).count() > 0
        };
        match any(offers) {
            true => {
                for (offer, lost) in offers.iter().zip(&mut lost) {
                    if lost.is_none() && measure != Measure::Time && !is_met(offer) {
                        *lost = Some(Lost::TooSlow);
                    }
                }
            }
            // Where nothing is good enough, what is best is good enough.
            false => measure = Measure::Time,
        }
    }
    if let Some(kind) = wish.policy.prefer {
        let preferred = |offer: &Offer| offer.kind == kind && is_met(offer);
        let open = offers.iter().zip(&lost).filter(|(_, lost)| lost.is_none());
        if open.filter(|(offer, _)| preferred(offer)).count() > 0 {
            for (offer, lost) in offers.iter().zip(&mut lost) {
                if lost.is_none() && !preferred(offer) {
                    *lost = Some(Lost::NotPreferred);
                }
            }
        }
    }
    for offer in offers.iter_mut() {
        offer.forecast.score = wish.cost(offer, measure);
    }
    let open = (0..offers.len()).filter(|&at| lost[at].is_none());
    let score = |at: usize| offers[at].forecast.score;
    let best = open.min_by(|&a, &b| score(a).total_cmp(&score(b)));
    if let Some(best) = best {
        for at in (0..offers.len()).filter(|&at| at != best) {
            let factor = score(at) / score(best);
            lost[at].get_or_insert(Lost::Worse { factor });
        }
    }
    (best, lost)
}

/// Offers as those who ask are told of them: the winner first, the others by what they would cost.
pub(crate) fn candidates(offers: &[Offer], lost: Vec<Option<Lost>>) -> Vec<Candidate> {
    let mut order: Vec<_> = offers.iter().zip(lost).collect();
    order.sort_by(|(a, a_lost), (b, b_lost)| {
        let first = a_lost.is_some().cmp(&b_lost.is_some());
        first.then(a.forecast.score.total_cmp(&b.forecast.score))
    });
    let candidates = order.into_iter().map(|(offer, lost)| Candidate {
        prefill: offer.prefill,
        decode: offer.decode,
        forecast: Some(offer.forecast),
        lost,
    });
    candidates.collect()
}

/// By what share `other` would cost less than `taken`; negative if it would cost more.
pub(crate) fn gain(wish: &Wish, taken: &Offer, other: &Offer) -> f64 {
    let measure = wish.measure();
    1.0 - wish.cost(other, measure) / wish.cost(taken, measure)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(device: u16, kind: DeviceKind, ttft_s: f64, decode_s: f64, joules: f64) -> Offer {
        Offer {
            prefill: DeviceId(device),
            decode: DeviceId(device),
            forecast: JobForecast {
                prefill_s: ttft_s,
                decode_s,
                joules: Some(joules),
                ..JobForecast::default()
            },
            kind,
            heat: Heat::Normal,
            above: 0.0,
            crowd: 0.0,
            crowd_watts: 0.0,
            watts: joules / (ttft_s + decode_s),
            backlog_s: 0.0,
            tps: 100.0 / decode_s,
            state: Ready::Now,
        }
    }

    /// A fast GPU, a frugal NPU, a CPU that is neither.
    fn three() -> [Offer; 3] {
        [
            offer(0, DeviceKind::Cpu, 4.0, 20.0, 400.0),
            offer(1, DeviceKind::Gpu, 0.2, 2.0, 300.0),
            offer(2, DeviceKind::Npu, 1.0, 10.0, 50.0),
        ]
    }

    fn wish(class: Class, policy: &str) -> Wish {
        Wish {
            class,
            policy: policy.parse().expect("a policy"),
            left_s: None,
            patience_s: 30.0,
        }
    }

    fn chosen(wish: &Wish, mut offers: [Offer; 3]) -> Option<usize> {
        choose(wish, &mut offers).0
    }

    #[test]
    fn each_policy_has_its_own_best_place() {
        use Class::{Agent, Background, Interactive};
        for (class, policy, best) in [
            (Interactive, "fastest", 1),
            (Interactive, "balanced", 1),
            (Interactive, "frugal", 2),
            (Interactive, "cool", 2),
            (Background, "balanced", 2),
            (Background, "fastest", 1),
            (Agent, "balanced", 1),
            // Five times as long is too long for a program that somebody waits for.
            (Agent, "frugal", 1),
            (Interactive, "PREFER_NPU", 2),
            (Background, "PREFER_CPU", 0),
            // The processor makes people wait, so what they prefer does not count.
            (Interactive, "PREFER_CPU", 1),
        ] {
            let found = chosen(&wish(class, policy), three());
            assert_eq!(found, Some(best), "{class} {policy}");
        }
    }

    #[test]
    fn a_full_home_is_left_when_patience_ends() {
        let mut offers = three();
        offers[2].backlog_s = 100.0;
        assert_eq!(
            chosen(&wish(Class::Background, "balanced"), offers.clone()),
            Some(1)
        );
        offers[2].backlog_s = 10.0;
        assert_eq!(
            chosen(&wish(Class::Background, "balanced"), offers),
            Some(2)
        );
    }

    #[test]
    fn deadlines_and_heat_count() {
        let mut late = wish(Class::Background, "frugal");
        late.left_s = Some(5.0);
        assert_eq!(chosen(&late, three()), Some(1));
        late.left_s = Some(1.0);
        let mut offers = three();
        let (best, lost) = choose(&late, &mut offers);
        assert_eq!(best, None);
        assert!(lost.iter().all(|lost| *lost == Some(Lost::TooLate)));
        let mut offers = three();
        offers[1].heat = Heat::Hot;
        offers[2].forecast.decode_s = 3.0;
        assert_eq!(
            chosen(&wish(Class::Interactive, "fastest"), offers),
            Some(2)
        );
    }

    #[test]
    fn who_lost_is_told_why() {
        let mut offers = three();
        let (best, lost) = choose(&wish(Class::Background, "balanced"), &mut offers);
        assert_eq!((best, &lost[2]), (Some(2), &None));
        assert_eq!(lost[1], Some(Lost::Worse { factor: 6.0 }));
        let told = candidates(&offers, lost);
        let order = told.iter().map(|candidate| candidate.prefill.0);
        assert_eq!(order.collect::<Vec<_>>(), [2, 1, 0], "the winner first");
    }
}
