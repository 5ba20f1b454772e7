//! Histories that follow from a seed alone: a machine, a load, and all that can go wrong.
//!
//! They are made to be hard rather than likely: small caches, short steps, many clients that leave. What a scheduler may
//! never do, it has many occasions to do here.

use std::sync::LazyLock;
use std::time::Duration;

use rand_pcg::Pcg64Mcg;
use troika_base::DeviceKind;
use troika_planner::catalogue::Catalogue;
use troika_scheduler::{
    Class, KeepAlive, Limits, ModelFacts, ModelId, Policy, Settings, Time, Work,
};

use crate::baseline::SchedulerKind;
use crate::beyond::Beyond;
use crate::chance::{Chance as _, chance};
use crate::faults::Faults;
use crate::log::{Arrival, Log};
use crate::machine::VirtualMachine;
use crate::world::{Options, Seen, SimulationError, watch};

/// What follows from a seed.
#[derive(Clone, PartialEq, Debug)]
pub struct Storm {
    /// The machine.
    pub machine: VirtualMachine,
    /// Its models.
    pub models: Vec<ModelFacts>,
    /// What the owner has set.
    pub settings: Settings,
    /// The jobs.
    pub arrivals: Vec<Arrival>,
    /// What goes wrong, and the rest.
    pub options: Options,
}

/// The machines, each with all that can be asked for.
static MACHINES: LazyLock<Vec<(VirtualMachine, Vec<ModelFacts>)>> = LazyLock::new(|| {
    let catalogue = Catalogue::builtin();
    let machine = |name: &&str| {
        let machine = VirtualMachine::named(name, catalogue)?;
        let models = (0u32..).zip(MODELS);
        let facts = models.map(|(id, model)| machine.model_facts(ModelId(id), model, catalogue));
        let facts = facts.collect::<Result<Vec<_>, _>>()?;
        Ok::<_, crate::MachineError>((machine, facts))
    };
    let machines = NAMES.iter().map(machine).collect::<Result<Vec<_>, _>>();
    machines.expect("the catalogue has what storms are made of. This is a bug.")
});

const NAMES: [&str; 6] = [
    "core-ultra-258v:32gb",
    "ryzen-ai-370+4090:32gb",
    "dual-3090:64gb",
    "ryzen-ai-max+-395:128gb",
    "core-i9-13900k:32gb",
    "ryzen-ai-370:16gb",
];

const MODELS: [&str; 6] = [
    "qwen3-8b",
    "llama-3.2-1b",
    "qwen3-4b",
    "nomic-embed-text-v1.5",
    "qwen3-14b",
    "llama-3.3-70b",
];

/// Once nothing goes wrong any more, all is done within so long.
const PATIENCE: Duration = Duration::from_secs(6 * 3600);

impl Storm {
    /// What follows from a seed.
    pub fn new(seed: u64) -> Self {
        let mut rng = chance(seed, 0);
        let (mut machine, mut models) = rng.pick(&MACHINES).clone();
        models.truncate(2 + rng.below(models.len() - 1));
        let seconds = 10.0 + 110.0 * rng.unit();
        let mut arrivals = arrivals(&machine, &models, seconds, &mut rng);
        tighten(&mut models, &mut rng);
        bind(&mut machine, &mut rng);
        let faults = match rng.happens(0.8) {
            true => Faults::storm(&mut rng, Time::from_seconds(seconds * 1.2)),
            false => Faults::default(),
        };
        // From a source of its own: what was hard without endpoints is so still.
        let beyond = Beyond::storm(&arrivals, &mut chance(seed, 3));
        require_endpoints(&mut arrivals, &beyond, &mut chance(seed, 5));
        let mut drafting = chance(seed, 6);
        let drafts = if drafting.happens(0.5) {
            1 + drafting.below(12) as u32
        } else {
            0
        };
        Self {
            settings: settings(&mut rng),
            options: Options {
                beyond,
                drafts,
                seed,
                noise: 0.05,
                hidden: 1.0 + rng.unit(),
                faults,
                checks: true,
                patience: PATIENCE,
                // Short, so that a budget that is spent does not hold jobs back for long.
                day: Duration::from_secs(600),
                ..Options::default()
            },
            machine,
            models,
            arrivals,
        }
    }

    /// Plays it, and somebody sees all that is told and wanted.
    ///
    /// # Errors
    /// If the scheduler does what none may do.
    pub fn play(
        &self,
        kind: SchedulerKind,
        witness: &mut dyn FnMut(Time, Seen<'_>),
    ) -> Result<Log, SimulationError> {
        watch(
            &self.machine,
            &self.models,
            kind,
            &self.settings,
            &self.arrivals,
            &self.options,
            witness,
        )
    }
}

/// Plays what follows from a seed.
///
/// # Errors
/// If the scheduler does what none may do.
pub fn storm(seed: u64, kind: SchedulerKind) -> Result<Log, SimulationError> {
    Storm::new(seed).play(kind, &mut |_, _| ())
}

/// Some jobs require an endpoint, most of them one that they may go to.
fn require_endpoints(arrivals: &mut [Arrival], beyond: &Beyond, rng: &mut Pcg64Mcg) {
    for (at, arrival) in arrivals.iter_mut().enumerate() {
        if beyond.remotes.is_empty() || !rng.happens(0.03) {
            continue;
        }
        let may_go = beyond.may_go.get(&at).filter(|_| rng.happens(0.8));
        let to = match may_go {
            Some(places) => *rng.pick(places),
            None => rng.below(beyond.remotes.len()),
        };
        arrival.device = Some(beyond.remotes[to].device_name());
    }
}

/// Caches that are short sometimes.
fn tighten(models: &mut [ModelFacts], rng: &mut Pcg64Mcg) {
    if !rng.happens(0.5) {
        return;
    }
    for form in models.iter_mut().flat_map(|model| model.forms.values_mut()) {
        let tokens = 2048.0 * 8f64.powf(rng.unit());
        form.kv_tokens = form.kv_tokens.min(tokens as u32);
        form.n_ctx = form.n_ctx.min(form.kv_tokens);
    }
}

/// Devices that keep what they have cached, so that jobs which leave are read again elsewhere: NPUs as often as not, others
/// seldom. And NPUs with room for some sequences rather than one.
fn bind(machine: &mut VirtualMachine, rng: &mut Pcg64Mcg) {
    for device in &mut machine.devices {
        let share = match device.kind {
            DeviceKind::Npu => 0.5,
            _ => 0.15,
        };
        device.moves = !rng.happens(share);
        if device.kind == DeviceKind::Npu {
            device.batch_max = *rng.pick(&[1, 1, 2, 4]);
        }
    }
}

fn settings(rng: &mut Pcg64Mcg) -> Settings {
    let names: Vec<&str> = Policy::names().collect();
    let policy = rng.pick(&names).parse().unwrap_or_default();
    let defaults = Settings::default();
    Settings {
        policy,
        limits: Limits {
            page_tokens: *rng.pick(&[16, 32, 64]),
            prefill_tokens: *rng.pick(&[64, 512, 2048]),
            running: *rng.pick(&[4, 64]),
            ..defaults.limits
        },
        queue: *rng.pick(&[16, 1024]),
        models_max: *rng.pick(&[2, 8]),
        keep_alive: *rng.pick(&[
            KeepAlive::For(Duration::ZERO),
            KeepAlive::For(Duration::from_secs(20)),
            KeepAlive::Forever,
        ]),
        budget_wh: rng.happens(0.1).then_some(2.0),
        ..defaults
    }
}

fn arrivals(
    machine: &VirtualMachine,
    models: &[ModelFacts],
    seconds: f64,
    rng: &mut Pcg64Mcg,
) -> Vec<Arrival> {
    let count = (20.0 * 15f64.powf(rng.unit())) as usize;
    let burst = rng.happens(0.3);
    let mut arrivals: Vec<Arrival> = (0..count)
        .map(|_| {
            let at = seconds
                * if burst {
                    rng.unit().powi(4)
                } else {
                    rng.unit()
                };
            arrival(Time::from_seconds(at), machine, models, rng)
        })
        .collect();
    arrivals.sort_by_key(|arrival| arrival.at);
    for arrival in &mut arrivals {
        if rng.happens(0.3) {
            arrival.shared = rng.below(arrival.prompt_tokens as usize + 1) as u32;
        }
    }
    arrivals
}

/// From 1 to `most`, small numbers more often than great ones.
fn size(most: f64, rng: &mut Pcg64Mcg) -> u32 {
    most.powf(rng.unit()).round().max(1.0) as u32
}

fn arrival(
    at: Time,
    machine: &VirtualMachine,
    models: &[ModelFacts],
    rng: &mut Pcg64Mcg,
) -> Arrival {
    let model = rng.pick(models);
    let vector = model.name.contains("embed");
    let device = rng
        .happens(0.1)
        .then(|| rng.pick(&machine.devices).name.clone());
    Arrival {
        at,
        model: model.name.clone(),
        class: *rng.pick(&Class::ALL),
        owner: format!("owner {}", rng.below(4)),
        prompt_tokens: size(2000.0, rng),
        shared: 0,
        work: match vector {
            true => Work::Embed,
            false => Work::Write {
                n: if rng.happens(0.1) {
                    1 + rng.below(4) as u32
                } else {
                    1
                },
                max_tokens: size(200.0, rng),
            },
        },
        deadline: rng
            .happens(0.1)
            .then(|| Duration::from_secs_f64(60.0 * rng.unit())),
        leaves: rng
            .happens(0.15)
            .then(|| Duration::from_secs_f64(30.0 * rng.unit())),
        device,
    }
}
