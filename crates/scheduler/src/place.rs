//! Which of several places is best for a job, by its class and the owner's policy.
//!
//! Pure arithmetic over forecasts; who makes them is `scheduler/offers.rs`.
//!
//! An endpoint beyond this machine costs money, which is weighed in the measure that holds by what it is [`Worth`] to the
//! owner: where seconds count, money is the seconds of waiting that it is worth; where joules count, the joules that it
//! buys; where watts count, these over the time that the job takes there. What an endpoint draws is nobody's concern here:
//! it is as thrifty as the thriftiest device, so that speed and price decide. And the needs of a class are those that this
//! machine can meet: that an endpoint is faster makes no device too slow.

use troika_base::DeviceKind;

use crate::decision::{Candidate, JobForecast, Lost};
use crate::facts::Heat;
use crate::job::DeviceId;
use crate::{Class, Goal, Policy, Worth};

/// A place where a job could go.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    pub(crate) prefill: DeviceId,
    pub(crate) decode: DeviceId,
    pub(crate) forecast: JobForecast,
    /// The kind of the device that does most of it; `None` for an endpoint beyond this machine.
    pub(crate) kind: Option<DeviceKind>,
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

impl Offer {
    /// Whether it is beyond this machine.
    pub(crate) fn is_away(&self) -> bool {
        self.kind.is_none()
    }

    /// Whether nobody knows what it costs.
    fn is_unpriced(&self) -> bool {
        self.is_away() && self.forecast.money.is_none()
    }
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
    /// What money is worth.
    pub(crate) worth: Worth,
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

    /// What people and programs wait at a place, and have others wait; `thriftiest` are the joules of an endpoint.
    fn seconds(&self, offer: &Offer, thriftiest: f64) -> f64 {
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
        let joules = match offer.is_away() {
            true => thriftiest,
            false => forecast.joules_compared(),
        };
        let seconds = seconds + self.worth.seconds(forecast.money.unwrap_or(0.0));
        // What it takes of a shared memory is taken from others.
        seconds * (1.0 + offer.crowd).powi(2) * joules.max(0.1).powf(thrift)
    }

    /// What a place costs by a measure; `thriftiest` are the joules of an endpoint.
    fn cost(&self, offer: &Offer, measure: Measure, thriftiest: f64) -> f64 {
        let forecast = &offer.forecast;
        let bought = || self.worth.joules(forecast.money.unwrap_or(0.0));
        let heat = match offer.heat {
            Heat::Normal => 1.0,
            Heat::Warm => WARM,
            Heat::Hot => HOT,
        };
        let cost = match (measure, self.class) {
            (Measure::Time, _) => self.seconds(offer, thriftiest),
            (Measure::Joules, _) if offer.is_away() => bought(),
            (Measure::Watts, _) if offer.is_away() => {
                bought() / (forecast.prefill_s + forecast.decode_s).max(1e-3)
            }
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

/// The joules of the thriftiest device among the offers that are open.
fn thriftiest<'o>(open: impl Iterator<Item = &'o Offer>) -> f64 {
    let devices = open.filter(|offer| !offer.is_away());
    let joules = devices.map(|offer| offer.forecast.joules_compared());
    joules.min_by(f64::total_cmp).unwrap_or(1.0)
}

/// Takes the best of the offers, and says of the others why they lost. Scores are set. `None` if none is in time.
pub(crate) fn choose(wish: &Wish, offers: &mut [Offer]) -> (Option<usize>, Vec<Option<Lost>>) {
    let mut lost = out_of_question(wish, offers);
    let measure = measure(wish, offers, &mut lost);
    let open = offers.iter().zip(&lost).filter(|(_, lost)| lost.is_none());
    let thriftiest = thriftiest(open.map(|(offer, _)| offer));
    for offer in offers.iter_mut() {
        offer.forecast.score = wish.cost(offer, measure, thriftiest);
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

/// Which offers come too late, or at a price that nobody knows while there is something else.
fn out_of_question(wish: &Wish, offers: &[Offer]) -> Vec<Option<Lost>> {
    let is_late = |offer: &Offer| {
        let left_s = wish.left_s;
        left_s.is_some_and(|left_s| offer.forecast.total_s() > left_s)
    };
    let is_sound = |offer: &Offer| !is_late(offer) && !offer.is_unpriced();
    let is_any_sound = offers.iter().any(is_sound);
    let lost = offers.iter().map(|offer| match is_late(offer) {
        true => Some(Lost::TooLate),
        false => (is_any_sound && offer.is_unpriced()).then_some(Lost::Unpriced),
    });
    lost.collect()
}

/// By what the open offers are measured, those left out that do not meet the needs or are of a sort that is not preferred.
fn measure(wish: &Wish, offers: &[Offer], lost: &mut [Option<Lost>]) -> Measure {
    let mut measure = wish.measure();
    if measure == Measure::Time && wish.policy.prefer.is_none() {
        return measure;
    }
    let open = offers.iter().zip(&*lost).filter(|(_, lost)| lost.is_none());
    let open: Vec<&Offer> = open.map(|(offer, _)| offer).collect();
    let here = || open.iter().filter(|offer| !offer.is_away());
    let fastest_s = |of: fn(&JobForecast) -> f64| {
        let times = here().map(|offer| of(&offer.forecast));
        times.fold(f64::INFINITY, f64::min)
    };
    let fastest_s = match wish.class {
        Class::Interactive => fastest_s(JobForecast::ttft_s),
        _ => fastest_s(JobForecast::total_s),
    };
    let is_met = |offer: &Offer| wish.is_met(offer, fastest_s);
    match here().any(|offer| is_met(offer)) {
        true => {
            for (offer, lost) in offers.iter().zip(&mut *lost) {
                if lost.is_none() && measure != Measure::Time && !is_met(offer) {
                    *lost = Some(Lost::TooSlow);
                }
            }
        }
        // Where nothing here is good enough, what is best is good enough, and an endpoint may be that at its price.
        false => measure = Measure::Time,
    }
    if let Some(kind) = wish.policy.prefer {
        let preferred = |offer: &Offer| offer.kind == Some(kind) && is_met(offer);
        let mut open = offers.iter().zip(&*lost).filter(|(_, lost)| lost.is_none());
        if open.any(|(offer, _)| preferred(offer)) {
            for (offer, lost) in offers.iter().zip(lost) {
                if lost.is_none() && !preferred(offer) {
                    *lost = Some(Lost::NotPreferred);
                }
            }
        }
    }
    measure
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
    let thriftiest = thriftiest([taken, other].into_iter());
    1.0 - wish.cost(other, measure, thriftiest) / wish.cost(taken, measure, thriftiest)
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
            kind: Some(kind),
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
            worth: Worth::default(),
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

    /// An endpoint that costs so much.
    fn away(ttft_s: f64, decode_s: f64, money: Option<f64>) -> Offer {
        Offer {
            kind: None,
            watts: 0.0,
            forecast: JobForecast {
                prefill_s: ttft_s,
                decode_s,
                money,
                ..JobForecast::default()
            },
            ..offer(9, DeviceKind::Gpu, ttft_s, decode_s, 0.0)
        }
    }

    /// Which of the three is chosen beside an endpoint; 3 is that.
    fn beside(wish: &Wish, away: Offer) -> Option<usize> {
        let mut offers = three().to_vec();
        offers.push(away);
        choose(wish, &mut offers).0
    }

    #[test]
    fn money_is_weighed_in_the_measure_that_holds() {
        use Class::{Agent, Background, Interactive};
        // A second is worth a tenth of a cent; a kilojoule costs 0.00008.
        for (class, policy, ttft_s, decode_s, money, best) in [
            // A person waits 2.6 s by the count of 0.2 s and 2.2 s, at the GPU.
            (Interactive, "balanced", 0.1, 1.0, 0.0005, 3),
            (Interactive, "balanced", 0.1, 1.0, 0.005, 1),
            (Interactive, "fastest", 0.1, 1.0, 0.0005, 3),
            (Interactive, "fastest", 0.1, 1.0, 0.005, 1),
            // A program that waits 2.2 s for 300 J here.
            (Agent, "balanced", 0.1, 0.5, 0.0005, 3),
            (Agent, "balanced", 0.1, 0.5, 0.01, 1),
            // 50 J cost 0.000004: hardly any price is worth that.
            (Background, "balanced", 0.5, 5.0, 0.000_003, 3),
            (Background, "balanced", 0.5, 5.0, 0.000_01, 2),
            (Interactive, "frugal", 0.1, 1.0, 0.000_01, 2),
            (Background, "battery", 0.5, 5.0, 0.000_01, 2),
            // Five watts over 5.5 s, against 27.5 J's worth of them.
            (Interactive, "cool", 0.5, 5.0, 0.000_002, 3),
            (Interactive, "cool", 0.5, 5.0, 0.000_01, 2),
            // What is free goes wherever it is good enough, and a preferred sort of device comes before it.
            (Background, "balanced", 0.5, 5.0, 0.0, 3),
            (Interactive, "frugal", 5.0, 5.0, 0.0, 2),
            (Background, "PREFER_CPU", 0.1, 0.1, 0.0, 0),
        ] {
            let away = away(ttft_s, decode_s, Some(money));
            let found = beside(&wish(class, policy), away);
            assert_eq!(found, Some(best), "{class} {policy} {money}");
        }
    }

    #[test]
    fn that_an_endpoint_is_fast_makes_no_device_too_slow() {
        let wish = wish(Class::Agent, "frugal");
        // A hundred times as fast as the GPU, and dear.
        assert_eq!(beside(&wish, away(0.01, 0.01, Some(1.0))), Some(1));
    }

    #[test]
    fn when_nothing_here_will_do_time_and_price_decide() {
        let mut full = three();
        for offer in &mut full {
            offer.backlog_s = 100.0;
        }
        let wish = wish(Class::Background, "balanced");
        for (money, is_away) in [(0.01, true), (10.0, false)] {
            let mut offers = full.to_vec();
            offers.push(away(1.0, 5.0, Some(money)));
            let best = choose(&wish, &mut offers).0.expect("one is taken");
            assert_eq!(best == 3, is_away, "for {money}");
        }
    }

    #[test]
    fn a_price_that_nobody_knows_is_paid_only_where_nothing_else_is_left() {
        let wish = wish(Class::Interactive, "balanced");
        let mut offers = three().to_vec();
        offers.push(away(0.001, 0.001, None));
        let (best, lost) = choose(&wish, &mut offers);
        assert_eq!((best, &lost[3]), (Some(1), &Some(Lost::Unpriced)));
        let mut alone = [away(1.0, 1.0, None)];
        assert_eq!(choose(&wish, &mut alone).0, Some(0));
        let mut late = wish;
        late.left_s = Some(0.1);
        let mut offers = three().to_vec();
        offers.push(away(0.001, 0.001, None));
        assert_eq!(choose(&late, &mut offers).0, Some(3), "all others are late");
    }
}
