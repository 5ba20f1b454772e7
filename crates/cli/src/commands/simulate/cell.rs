//! A machine with a load, and what schedulers make of it.

use troika_base::DeviceKind;
use troika_scheduler::{ModelFacts, Settings};
use troika_simulator::{Against, Figures, Log, Options, SchedulerKind, VirtualMachine, simulate};

use super::sources::{Jobs, Sources};

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
        load: &Jobs,
        sources: &Sources<'_>,
        settings: &Settings,
        options: &Options,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            models: sources.models(machine, &load.arrivals)?,
            machine: machine.clone(),
            load: load.clone(),
            settings: settings.clone(),
            options: options.clone(),
            runs: Vec::new(),
        })
    }

    /// The schedulers to play: the real one, and those that are asked for or, where none is, that have devices here.
    pub(super) fn schedulers(&self, asked: &[Option<SchedulerKind>]) -> Vec<SchedulerKind> {
        let has = |kind| {
            self.machine
                .devices
                .iter()
                .any(|device| device.kind == kind)
        };
        let is_possible = |scheduler: &SchedulerKind| match scheduler {
            SchedulerKind::GpuOnly => has(DeviceKind::Gpu),
            SchedulerKind::NpuOnly => has(DeviceKind::Npu),
            _ => true,
        };
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
        let log = simulate(
            &self.machine,
            &self.models,
            kind,
            &self.settings,
            &self.load.arrivals,
            &self.options,
        )?;
        let figures = Figures::of(&log, &self.load.arrivals);
        self.runs.push(Run { figures, log });
        Ok(())
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

    /// Minutes in which jobs come.
    pub(super) fn minutes(&self) -> f64 {
        let last = self.load.arrivals.last();
        last.map_or(0.0, |last| last.at.seconds() / 60.0)
    }
}
