//! One simulation against another of the same load on the same machine.

use serde::Serialize;
use troika_scheduler::Class;

use super::Figures;

/// How a simulation stands to another one. Every factor is the other's value over its own, and above 1 where its own is
/// better; `None` where one of them has no such value.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Against {
    /// The other scheduler.
    pub scheduler: String,
    /// Jobs that the other did, over its own.
    pub done: Option<f64>,
    /// Time to the first token that 95 of 100 jobs do not exceed, by class.
    pub ttft_p95: Vec<(Class, f64)>,
    /// Time between tokens that 95 of 100 do not exceed, by class.
    pub itl_p95: Vec<(Class, f64)>,
    /// Time until all was done.
    pub end: Option<f64>,
    /// Tokens of jobs that were done, in each second; its own over the other's.
    pub throughput: Option<f64>,
    /// Joules of all devices.
    pub energy: Option<f64>,
    /// Joules for each token.
    pub energy_per_token: Option<f64>,
}

impl Figures {
    /// How it stands to another simulation.
    pub fn against(&self, other: &Self) -> Against {
        let ratio = |above: f64, below: f64| (above > 0.0 && below > 0.0).then(|| above / below);
        let by_class = |value: fn(&super::ClassFigures) -> Option<super::Percentiles>| {
            let classes = self.classes.iter().filter_map(|own| {
                let theirs = value(other.class(own.class)?)?;
                Some((own.class, ratio(theirs.p95, value(own)?.p95)?))
            });
            classes.collect()
        };
        Against {
            scheduler: other.scheduler.clone(),
            done: ratio(other.jobs.done as f64, self.jobs.done as f64),
            ttft_p95: by_class(|class| class.ttft_s),
            itl_p95: by_class(|class| class.itl_s),
            end: ratio(other.end_s, self.end_s),
            throughput: ratio(self.done_tps, other.done_tps),
            energy: ratio(other.joules, self.joules),
            energy_per_token: ratio(
                other.joules_per_token.unwrap_or(0.0),
                self.joules_per_token.unwrap_or(0.0),
            ),
        }
    }
}

impl Against {
    /// The factor of a class's time to the first token.
    pub fn ttft(&self, class: Class) -> Option<f64> {
        let found = self.ttft_p95.iter().find(|(of, _)| *of == class);
        found.map(|&(_, factor)| factor)
    }
}
