//! A machine with a load, and what schedulers make of it.

use std::collections::BTreeSet;

use troika_scheduler::{ModelFacts, Settings};
use troika_simulator::{
    Against, Beyond, Figures, Log, Options, SchedulerKind, VirtualMachine, simulate,
};

use super::sources::{Jobs, Sources};
use crate::output;

/// Troika's scheduler, where it has endpoints and all jobs stay all the same.
const ALL_LOCAL: &str = "all-local";

/// A machine with a load.
pub(super) struct Cell {
    pub(super) machine: VirtualMachine,
    pub(super) load: Jobs,
    pub(super) settings: Settings,
    pub(super) options: Options,
    models: Vec<ModelFacts>,
    /// Simulations, Troika's first.
    pub(super) runs: Vec<Run>,
}

/// A simulation.
pub(super) struct Run {
    pub(super) figures: Figures,
    pub(super) log: Log,
}

impl Cell {
    pub(super) fn new(
        machine: &VirtualMachine,
        load: Jobs,
        sources: &Sources<'_>,
        settings: &Settings,
        options: Options,
    ) -> anyhow::Result<Self> {
        let names: BTreeSet<_> = load.arrivals.iter().map(|job| &*job.model).collect();
        Ok(Self {
            models: sources.models(machine, names)?,
            machine: machine.clone(),
            load,
            settings: settings.clone(),
            options,
            runs: Vec::new(),
        })
    }

    /// The schedulers to play: the real one, and those that are asked for or, where none is, that have devices here.
    pub(super) fn schedulers(&self, asked: &[Option<SchedulerKind>]) -> Vec<SchedulerKind> {
        let is_possible = |scheduler: &SchedulerKind| scheduler.is_possible(&self.machine);
        let others: Vec<_> = match asked {
            [] => SchedulerKind::ALL.into_iter().filter(is_possible).collect(),
            asked => asked.iter().copied().flatten().collect(),
        };
        let mut all = vec![SchedulerKind::Troika];
        for scheduler in others {
            if !all.contains(&scheduler) {
                all.push(scheduler);
            }
        }
        all
    }

    /// Plays it with a scheduler.
    pub(super) fn play(&mut self, kind: SchedulerKind) -> anyhow::Result<()> {
        let log = self.log(kind, &self.options)?;
        self.add(log);
        Ok(())
    }

    /// Plays it with Troika's scheduler where all jobs stay on the machine.
    pub(super) fn play_here(&mut self) -> anyhow::Result<()> {
        let options = Options {
            beyond: Beyond::default(),
            ..self.options.clone()
        };
        let mut log = self.log(SchedulerKind::Troika, &options)?;
        log.scheduler = ALL_LOCAL.to_owned();
        self.add(log);
        Ok(())
    }

    fn log(&self, kind: SchedulerKind, options: &Options) -> anyhow::Result<Log> {
        let arrivals = &self.load.arrivals;
        let log = simulate(
            &self.machine,
            &self.models,
            kind,
            &self.settings,
            arrivals,
            options,
        )?;
        Ok(log)
    }

    fn add(&mut self, log: Log) {
        let figures = Figures::of(&log, &self.load.arrivals);
        self.runs.push(Run { figures, log });
    }

    /// How Troika stands to each of the others.
    pub(super) fn against(&self) -> impl Iterator<Item = Against> {
        let (own, others) = match &self.runs[..] {
            [own, others @ ..] => (Some(own), others),
            [] => (None, &[][..]),
        };
        own.into_iter().flat_map(move |own| {
            others
                .iter()
                .map(|other| own.figures.against(&other.figures))
        })
    }

    /// What the load's own measure was multiplied by, for people.
    pub(super) fn scaled(&self) -> String {
        match self.load.scale {
            1.0 => String::new(),
            scale => format!(", background times {}", output::number(scale)),
        }
    }

    /// Minutes in which jobs come.
    pub(super) fn minutes(&self) -> f64 {
        let last = self.load.arrivals.last();
        last.map_or(0.0, |last| last.at.seconds() / 60.0)
    }
}

#[cfg(test)]
pub(super) mod example {
    //! A cell whose runs are written by hand, so that what is shown of it does not change with the scheduler.

    use troika_planner::catalogue::Catalogue;
    use troika_scheduler::{Account, Class, DeviceId, JobForecast, Phase, Span as Part, Time};
    use troika_simulator::{Load, Outcome, Span, SpanKind, State};

    use super::*;

    /// Jobs on a laptop, by Troika and by a slower one.
    pub(in super::super) fn cell() -> Cell {
        let machine = VirtualMachine::named("core-ultra-258v", Catalogue::builtin());
        let machine = machine.expect("is known");
        let load = Load::parse("office-day:minutes=5").expect("is known");
        let arrivals = load.arrivals(1);
        let mut cell = Cell {
            load: Jobs {
                name: "office-day".to_owned(),
                arrivals,
                scale: 1.0,
            },
            settings: Settings::default(),
            options: Options::default(),
            models: Vec::new(),
            runs: Vec::new(),
            machine,
        };
        for (name, slower) in [("troika", 1.0), ("static", 9.5)] {
            let log = log(name, slower, &cell);
            let figures = Figures::of(&log, &cell.load.arrivals);
            cell.runs.push(Run { figures, log });
        }
        cell
    }

    fn log(name: &str, slower: f64, cell: &Cell) -> Log {
        let outcomes = cell
            .load
            .arrivals
            .iter()
            .enumerate()
            .map(|(number, arrival)| {
                let at = arrival.at.seconds();
                let ttft_s = slower * (0.2 + (number % 20) as f64 / 20.0);
                let device = DeviceId(if arrival.class == Class::Interactive {
                    1
                } else {
                    2
                });
                let part = |phase, tokens| Part {
                    device,
                    phase,
                    tokens,
                    device_s: 0.5,
                    joules: Some(4.0),
                };
                let is_refused = number % 100 == 99;
                let account = Account {
                    spans: vec![
                        part(Phase::Prefill, arrival.prompt_tokens.into()),
                        part(Phase::Decode, 20),
                    ],
                    ttft_s: Some(ttft_s),
                    prefill_tokens: arrival.prompt_tokens.into(),
                    expected: Some(JobForecast {
                        prefill_s: 0.6,
                        decode_s: 1.0,
                        spread: 1.5,
                        ..JobForecast::default()
                    }),
                    ..Account::default()
                };
                Outcome {
                    at: arrival.at,
                    model: arrival.model.clone(),
                    class: arrival.class,
                    prompt_tokens: arrival.prompt_tokens,
                    state: match is_refused {
                        true => State::Refused(
                            "1024 jobs wait, and no more may; try again in 3 s".to_owned(),
                        ),
                        false => State::Done,
                    },
                    end: Time::from_seconds(at + ttft_s + 1.0),
                    ttft_s: (!is_refused).then_some(ttft_s),
                    gaps_s: vec![0.04; 19],
                    tokens: if is_refused { 0 } else { 20 },
                    account: (!is_refused).then_some(account),
                }
            });
        let span = |device, from, to, kind, class| Span {
            device,
            from: Time::from_seconds(from),
            to: Time::from_seconds(to),
            model: "llama-3.1-8b".to_owned(),
            kind,
            class,
            watts: 20.0,
        };
        Log {
            machine: cell.machine.name.clone(),
            scheduler: name.to_owned(),
            devices: cell
                .machine
                .devices
                .iter()
                .map(|device| device.name.clone())
                .collect(),
            outcomes: outcomes.collect(),
            spans: vec![
                span(1, 0.0, 3.0, SpanKind::Load, None),
                span(1, 3.0, 80.0, SpanKind::Read, Some(Class::Interactive)),
                span(2, 10.0, 250.0, SpanKind::Write, Some(Class::Background)),
                span(0, 100.0, 120.0, SpanKind::Lost, None),
            ],
            end: Time::from_seconds(300.0 + slower * 10.0),
            joules_busy: vec![0.0, 1600.0 * slower, 4800.0],
            joules_idle: vec![300.0, 400.0, 100.0],
            watts_rest: 3.0,
            remotes: Vec::new(),
            evictions: 1,
            moves: 4,
            replays: 0,
        }
    }
}
