//! The devices as they are now: what is on them, what they do, what they used.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use troika_base::Bytes;

use crate::batcher::{Batcher, Slice};
use crate::beside::Beside;
use crate::event::StepReport;
use crate::facts::{DeviceFacts, Heat};
use crate::gait::{Correction, Gait, Load};
use crate::job::{JobId, KeepAlive, ModelId};
use crate::{Class, JoulesSource, Time};

/// Whether a device is offered.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Health {
    /// It has not been asked yet.
    New,
    /// It is asked the question whose answer is known.
    Probing { since: Time, failures: u32 },
    /// It is offered.
    Ready,
    /// It failed, and is asked again at `retry`.
    Lost {
        why: String,
        failures: u32,
        retry: Time,
    },
}

/// Whether a model on a device is ready.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    /// It is being loaded.
    Loading { since: Time },
    /// It takes jobs.
    Ready,
    /// It ends the jobs that it has, and goes.
    Leaving,
    /// Its memory is being freed.
    Unloading,
}

/// A model on a device.
#[derive(Clone, Debug)]
pub(crate) struct Resident {
    pub(crate) stage: Stage,
    pub(crate) batcher: Batcher,
    /// How fast it goes by the estimate, how the steps stand to that, and what follows of both.
    gait: Gait,
    correction: Correction,
    true_gait: Gait,
    pub(crate) pages: u32,
    pub(crate) free_pages: u32,
    /// Jobs that are here, on their way here, or not gone yet.
    pub(crate) jobs: BTreeSet<JobId>,
    /// Tokens of jobs that are on their way here, by class: their pages are spoken for.
    pub(crate) coming: BTreeMap<JobId, (Class, u32)>,
    /// Of the jobs here, those that have given up the cache of an answer while others run on.
    pub(crate) parked: BTreeSet<JobId>,
    /// When a step of it ended last.
    pub(crate) served: Time,
    /// Whether a less urgent step came first since then, for those who had waited too long: that happens once.
    pub(crate) was_passed: bool,
    /// When a job of it ended last.
    pub(crate) used: Time,
    pub(crate) keep_alive: KeepAlive,
    pub(crate) bytes: Bytes,
    pub(crate) bytes_predicted: Bytes,
}

impl Resident {
    /// A model that is being loaded from now on, and will take so many bytes.
    pub(crate) fn loading(
        now: Time,
        batcher: Batcher,
        gait: Gait,
        keep_alive: KeepAlive,
        bytes: Bytes,
    ) -> Self {
        Self {
            stage: Stage::Loading { since: now },
            batcher,
            gait,
            correction: Correction::default(),
            true_gait: gait,
            pages: 0,
            free_pages: 0,
            jobs: BTreeSet::new(),
            coming: BTreeMap::new(),
            parked: BTreeSet::new(),
            served: now,
            was_passed: false,
            used: now,
            keep_alive,
            bytes,
            bytes_predicted: bytes,
        }
    }

    /// Learns from a step.
    pub(crate) fn learn(&mut self, load: Load, took: Duration) {
        self.batcher.observe(load.tokens as u32, took);
        self.correction.observe(&self.gait, load, took);
        self.true_gait = self.correction.apply(&self.gait);
    }

    /// The gait as steps have shown it.
    pub(crate) fn true_gait(&self) -> &Gait {
        &self.true_gait
    }

    /// How the steps stand to the estimate.
    pub(crate) fn correction(&self) -> &Correction {
        &self.correction
    }

    /// Pages that neither anybody has nor a job on its way here needs.
    pub(crate) fn pages_left(&self, page_tokens: u32) -> u32 {
        let coming = self.coming.values();
        let spoken_for: u32 = coming
            .map(|(_, known)| (known + 1).div_ceil(page_tokens))
            .sum();
        self.free_pages.saturating_sub(spoken_for)
    }

    /// Jobs of at least this class that are here or on their way.
    pub(crate) fn peers(&self, class: Class) -> usize {
        let coming = self.coming.values().filter(|(theirs, _)| *theirs >= class);
        self.batcher.n_running_from(class) + coming.count()
    }
}

/// A step that a device is at.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) model: ModelId,
    pub(crate) slices: Vec<Slice>,
    pub(crate) load: Load,
    pub(crate) since: Time,
    /// When it is taken to hang.
    pub(crate) hangs: Time,
    /// The most urgent class in it.
    pub(crate) class: Class,
}

impl Step {
    /// It has computed more than was planned: guesses, of which those that were right are tokens of the sequences.
    pub(crate) fn drafted(&mut self, report: &StepReport) {
        self.load.tokens += u64::from(report.drafted);
        for wrote in report.wrote.iter().filter(|wrote| wrote.n_tok > 1) {
            let mut slices = self.slices.iter_mut();
            if let Some(slice) = slices.find(|slice| slice.seq == wrote.seq) {
                slice.n_tok += wrote.n_tok - 1;
            }
        }
    }
}

/// Of the time before, a share of `1/e` counts after so long.
const MEMORY: Duration = Duration::from_secs(10);

/// How busy a device was lately, and what it used.
#[derive(Clone, Debug, Default)]
pub(crate) struct Usage {
    at: Time,
    /// Share of the time in which it worked, by class.
    busy: [f64; 4],
    watts: f64,
    /// Of these, what a meter told.
    watts_metered: f64,
    /// Share of the time of which nobody knows what it used.
    unknown: f64,
    pub(crate) joules_busy: f64,
    pub(crate) joules_idle: f64,
    pub(crate) prefill_tokens: u64,
    pub(crate) decode_tokens: u64,
}

impl Usage {
    /// Takes note of time in which it worked for a class, or rested; and how the joules of it were found.
    pub(crate) fn spent(
        &mut self,
        now: Time,
        took: Duration,
        class: Option<Class>,
        joules: f64,
        source: JoulesSource,
    ) {
        let took = took.as_secs_f64();
        if took <= 0.0 {
            return;
        }
        let keep = (-took / MEMORY.as_secs_f64()).exp();
        for busy in &mut self.busy {
            *busy *= keep;
        }
        let watts = joules / took * (1.0 - keep);
        self.watts = self.watts * keep + watts;
        let share_of = |is_so: bool, share: f64| if is_so { share } else { 0.0 };
        self.watts_metered =
            self.watts_metered * keep + share_of(source == JoulesSource::Measured, watts);
        self.unknown = self.unknown * keep + share_of(source == JoulesSource::Unknown, 1.0 - keep);
        match class {
            Some(class) => {
                self.busy[class.index()] += 1.0 - keep;
                self.joules_busy += joules;
            }
            None => self.joules_idle += joules,
        }
        self.at = now;
    }

    /// A meter told what was used in time that was taken note of without it.
    pub(crate) fn paid(&mut self, joules: f64) {
        let watts = joules / MEMORY.as_secs_f64();
        self.watts += watts;
        self.watts_metered += watts;
        self.joules_busy += joules;
    }

    /// Until when it was taken note of.
    pub(crate) fn until(&self) -> Time {
        self.at
    }

    /// Share of the time lately in which it worked for classes above this one.
    pub(crate) fn above(&self, class: Class) -> f64 {
        self.busy[class.index() + 1..].iter().sum::<f64>().min(1.0)
    }

    /// Share of the time lately in which it worked.
    pub(crate) fn busy(&self) -> f64 {
        self.busy.iter().sum::<f64>().min(1.0)
    }

    /// Watts lately.
    pub(crate) fn watts(&self) -> f64 {
        self.watts
    }

    /// Who told them. A hundredth is not worth a word.
    pub(crate) fn watts_source(&self) -> JoulesSource {
        if self.unknown > 0.01 {
            return JoulesSource::Unknown;
        }
        match self.watts_metered / self.watts {
            0.99.. => JoulesSource::Measured,
            0.01.. => JoulesSource::Mixed,
            _ => JoulesSource::Estimated,
        }
    }
}

/// A device as it is now.
#[derive(Clone, Debug)]
pub(crate) struct Device {
    pub(crate) facts: DeviceFacts,
    pub(crate) health: Health,
    pub(crate) heat: Heat,
    pub(crate) residents: BTreeMap<ModelId, Resident>,
    pub(crate) step: Option<Step>,
    /// What it does beside its steps.
    pub(crate) beside: Beside,
    pub(crate) usage: Usage,
    /// When it was last looked for jobs that are better off elsewhere.
    pub(crate) looked: Time,
}

impl Device {
    pub(crate) fn new(facts: DeviceFacts) -> Self {
        Self {
            facts,
            health: Health::New,
            heat: Heat::default(),
            residents: BTreeMap::new(),
            step: None,
            beside: Beside::default(),
            usage: Usage::default(),
            looked: Time::default(),
        }
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.health == Health::Ready
    }

    /// Whether somebody on it was passed over already for those who had waited too long.
    pub(crate) fn has_passed(&self) -> bool {
        let mut residents = self.residents.values();
        residents.any(|resident| resident.was_passed && resident.batcher.n_running() > 0)
    }

    /// Why it is not offered.
    pub(crate) fn why_not(&self) -> Option<String> {
        match &self.health {
            Health::Ready => None,
            Health::New | Health::Probing { .. } => Some("it is still being checked".to_owned()),
            Health::Lost { why, .. } => Some(why.clone()),
        }
    }

    /// Time until what it is at lets go of it, for a job of this class: the step under way, what runs beside, and prompts of its class and
    /// above that are not read yet.
    pub(crate) fn ahead_s(&self, class: Class, now: Time, chunk: u32) -> f64 {
        let step = self.step.as_ref().and_then(|step| {
            let resident = self.residents.get(&step.model)?;
            let left = resident.true_gait().step_s(step.load) - (now - step.since).as_secs_f64();
            Some(left.max(0.0))
        });
        let unread = self.residents.values().map(|resident| {
            let coming = resident
                .coming
                .values()
                .filter(|(theirs, _)| *theirs >= class);
            let coming: u32 = coming.map(|(_, known)| known).sum();
            match resident.batcher.unread_from(class) + coming {
                0 => 0.0,
                tokens => resident.true_gait().prefill_s(tokens, chunk),
            }
        });
        step.unwrap_or(0.0).max(self.beside.left_s(now)) + unread.sum::<f64>()
    }

    /// Seconds of a round in which every sequence of at least this class writes a token, `more` of `model` included.
    pub(crate) fn cycle_s(&self, class: Class, model: ModelId, gait: &Gait, more: Load) -> f64 {
        let mut total = 0.0;
        let mut is_counted = false;
        for (&id, resident) in &self.residents {
            let mut load = resident.batcher.cycle_from(class);
            if id == model {
                load.tokens += more.tokens;
                load.past += more.past;
                is_counted = true;
            }
            if load.tokens > 0 {
                total += resident.true_gait().step_s(load);
            }
        }
        if !is_counted {
            total += gait.step_s(more);
        }
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watts_say_who_told_them() {
        use JoulesSource::{Estimated, Measured, Mixed, Unknown};
        let source = |sources: [JoulesSource; 2]| {
            let mut usage = Usage::default();
            for (second, source) in sources.into_iter().enumerate() {
                let class = Some(Class::Interactive);
                let now = Time::from_seconds(second as f64 + 1.0);
                usage.spent(now, Duration::from_secs(1), class, 20.0, source);
            }
            usage.watts_source()
        };
        assert_eq!(source([Estimated, Estimated]), Estimated);
        assert_eq!(source([Measured, Estimated]), Mixed);
        assert_eq!(source([Measured, Measured]), Measured);
        assert_eq!(source([Measured, Unknown]), Unknown);
        let rested = Usage::default();
        assert_eq!(rested.watts_source(), JoulesSource::Estimated);
    }
}
