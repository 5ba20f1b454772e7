//! Where machines, loads and models come from: names, files, and this computer.

use std::fs::File;
use std::io::{BufReader, Read as _};
use std::path::Path;

use anyhow::{Context as _, anyhow};
use troika_base::{Bytes, DeviceProfile};
use troika_machine::Machine;
use troika_planner::catalogue::Catalogue;
use troika_scheduler::{ModelFacts, ModelId};
use troika_simulator::load::{JOBS_MAX, alone_s};
use troika_simulator::{Arrival, Load, LoadError, TraceReader, VirtualMachine};

use super::known;
use crate::commands::devices;
use crate::exit::WrongUse;
use crate::home::Home;
use crate::output::Console;

/// The name of this computer.
pub(super) const HERE: &str = "here";
/// A description of a machine has some hundred lines.
const MACHINE_BYTES_MAX: u64 = 4 << 20;

/// A model of a trace, and what it is in the catalogue.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Renamed {
    from: String,
    to: String,
}

/// Parses `NAME=MODEL`.
pub(super) fn renamed(text: &str) -> Result<Renamed, String> {
    match text.split_once('=') {
        Some((from, to)) if !from.is_empty() && !to.is_empty() => Ok(Renamed {
            from: from.to_owned(),
            to: to.to_owned(),
        }),
        _ => Err("write NAME=MODEL, such as mine=llama-3.1-8b:Q8_0".to_owned()),
    }
}

/// What is to come, before it is known to which machine.
#[derive(Clone, Debug)]
pub(super) struct Coming {
    name: String,
    from: From,
}

#[derive(Clone, Debug)]
enum From {
    Trace(Vec<Arrival>),
    Chance(Load),
}

/// Jobs that come to a machine.
#[derive(Clone, Debug)]
pub(super) struct Jobs {
    pub(super) name: String,
    pub(super) arrivals: Vec<Arrival>,
    /// How many times as much of what nobody waits for as the load has by itself.
    pub(super) scale: f64,
}

/// What names mean.
pub(super) struct Sources<'a> {
    pub(super) catalogue: &'a Catalogue,
    pub(super) home: &'a Home,
    pub(super) renamed: &'a [Renamed],
    pub(super) seed: u64,
    pub(super) hours: Option<f64>,
    pub(super) limit: Option<u64>,
}

impl Sources<'_> {
    /// A machine by name, by file, or this one.
    pub(super) fn machine(&self, name: &str, console: &Console) -> anyhow::Result<VirtualMachine> {
        let path = Path::new(name);
        if name == HERE {
            return self.measured(name, &devices::known(self.home, console));
        }
        if path.is_file() || is_path(name, ".json") {
            let machine = read_machine(path)?;
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            return self.measured(&stem, &machine);
        }
        VirtualMachine::named(name, self.catalogue).map_err(|error| {
            WrongUse(format!(
                "--machine {name}: {error}; there are {}",
                known::machines()
            ))
            .into()
        })
    }

    fn measured(&self, name: &str, machine: &Machine) -> anyhow::Result<VirtualMachine> {
        let usable = machine
            .processors
            .iter()
            .filter(|processor| processor.found == troika_machine::Found::Ready);
        let profiles: Vec<DeviceProfile> =
            usable.map(|processor| processor.profile.clone()).collect();
        let ram = Bytes(machine.memory.total_bytes);
        VirtualMachine::measured(name, profiles, ram, self.catalogue)
            .with_context(|| format!("cannot simulate {name}"))
    }

    /// A load by name or file.
    pub(super) fn load(&self, text: &str) -> anyhow::Result<Coming> {
        let path = Path::new(text);
        if path.is_file() || is_path(text, ".jsonl") {
            let name = path.file_name().unwrap_or_default();
            return Ok(Coming {
                name: name.to_string_lossy().into_owned(),
                from: From::Trace(self.trace(path)?),
            });
        }
        let load = Load::parse(text).map_err(|error| match error {
            LoadError::Unknown { name, .. } => WrongUse(format!(
                "there is no load {name:?}; there are {}, poisson:rate=…, and files of traces",
                known::loads()
            )),
            error => WrongUse(format!("--load {text}: {error}")),
        })?;
        for model in load.models() {
            self.is_known(model)
                .map_err(|why| WrongUse(format!("--load {text}: {why}")))?;
        }
        Ok(Coming {
            name: text.to_owned(),
            from: From::Chance(load),
        })
    }

    /// The jobs of a load; fitted to the machine if one is given.
    pub(super) fn jobs(
        &self,
        coming: &Coming,
        machine: Option<&VirtualMachine>,
    ) -> anyhow::Result<Jobs> {
        let (mut arrivals, scale) = match (&coming.from, machine) {
            (From::Trace(arrivals), _) => (arrivals.clone(), 1.0),
            (From::Chance(load), None) => (load.arrivals(self.seed), load.scale()),
            (From::Chance(load), Some(machine)) => {
                let models = self.models(machine, load.models())?;
                let load = load.fitted(self.seed, |arrival| alone_s(arrival, &models));
                (load.arrivals(self.seed), load.scale())
            }
        };
        if let Some(hours) = self.hours {
            arrivals.retain(|arrival| arrival.at.seconds() < hours * 3600.0);
        }
        if let Some(limit) = self.limit {
            arrivals.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        }
        if arrivals.is_empty() {
            let why = format!("--load {}: no job comes in that time", coming.name);
            return Err(WrongUse(why).into());
        }
        Ok(Jobs {
            name: coming.name.clone(),
            arrivals,
            scale,
        })
    }

    fn trace(&self, path: &Path) -> anyhow::Result<Vec<Arrival>> {
        let wrong = || format!("cannot use the trace {}", path.display());
        let file = File::open(path).with_context(wrong)?;
        let known = |model: &str| self.is_known(model);
        let reader = TraceReader::new(BufReader::new(file), known).with_context(wrong)?;
        let arrivals: Vec<_> = reader
            .take(JOBS_MAX + 1)
            .collect::<Result<_, _>>()
            .with_context(wrong)?;
        match arrivals.len() > JOBS_MAX {
            true => Err(anyhow!(
                "{} holds more than {JOBS_MAX} jobs; cut it",
                path.display()
            )),
            false => Ok(arrivals),
        }
    }

    /// What a model is in the catalogue.
    fn catalogue_name<'n>(&'n self, model: &'n str) -> &'n str {
        let renamed = self.renamed.iter().find(|renamed| renamed.from == model);
        renamed.map_or(model, |renamed| &renamed.to)
    }

    fn is_known(&self, model: &str) -> Result<(), String> {
        match self.catalogue.model(self.catalogue_name(model)) {
            Ok(_) => Ok(()),
            Err(error) => Err(format!(
                "{error}; say what it is with --models {model}=NAME"
            )),
        }
    }

    /// What models are on a machine, by the names that jobs have for them.
    pub(super) fn models<'n>(
        &self,
        machine: &VirtualMachine,
        names: impl IntoIterator<Item = &'n str>,
    ) -> anyhow::Result<Vec<ModelFacts>> {
        let facts = (0..).map(ModelId).zip(names).map(|(id, name)| {
            let facts = machine.model_facts(id, self.catalogue_name(name), self.catalogue);
            let facts = facts.map_err(|error| WrongUse(format!("{name}: {error}")))?;
            Ok(ModelFacts {
                name: name.to_owned(),
                ..facts
            })
        });
        facts.collect()
    }
}

/// Whether a text can only be meant as a file.
fn is_path(text: &str, ending: &str) -> bool {
    text.ends_with(ending) || text.contains(std::path::is_separator)
}

fn read_machine(path: &Path) -> anyhow::Result<Machine> {
    let cannot = || format!("cannot read the machine {}", path.display());
    let mut text = String::new();
    let file = File::open(path).with_context(cannot)?;
    // An endless file is not read to its end; what is cut off is no JSON.
    file.take(MACHINE_BYTES_MAX)
        .read_to_string(&mut text)
        .with_context(cannot)?;
    serde_json::from_str(&text).with_context(|| {
        format!(
            "{} is no machine as `troika devices --json` writes it",
            path.display()
        )
    })
}
