//! `troika npu status`: NPUs, drivers, libraries; what is missing, and how to get it.

use serde::Serialize;
use troika_device_npu::found::{Chip, Finding, Libraries, Origin, chips};
use troika_device_npu::{Backends, Offer, Refused};
use troika_machine::Machine;

use crate::commands::devices;
use crate::home::Home;
use crate::npu;
use crate::output::{self, Align, Console, line};

/// What can be seen without loading anything.
#[derive(Serialize)]
pub(crate) struct Seen {
    chips: Vec<Chip>,
    libraries: Libraries,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Status {
    #[serde(flatten)]
    seen: Seen,
    #[serde(flatten)]
    backends: Backends,
}

pub(super) fn run(home: &Home, console: &Console) -> anyhow::Result<()> {
    let machine = devices::described(home, console);
    let status = Status {
        seen: Seen::of(&machine, home),
        backends: npu::backends(home, &machine)?,
    };
    match console.json {
        true => output::json(&status),
        false => output::answer(status.page()),
    }
}

impl Seen {
    /// What is here.
    pub(crate) fn of(machine: &Machine, home: &Home) -> Self {
        Self {
            chips: chips(machine),
            libraries: npu::libraries(home),
        }
    }

    /// The names of the NPUs.
    pub(crate) fn chips(&self) -> Vec<String> {
        self.chips.iter().map(|chip| chip.id.clone()).collect()
    }

    /// What keeps NPUs from being used at all: the NPU's name, and what it is.
    pub(crate) fn blocked(&self) -> Vec<[String; 2]> {
        let blocked = self.chips.iter().filter_map(|chip| {
            let why = chip.absent.as_ref()?;
            Some([chip.id.clone(), advice(&why.to_string(), &chip.remedy)])
        });
        blocked.collect()
    }

    /// What NPUs lack beside a driver in the kernel: the NPU's name, and what it is.
    pub(crate) fn lacking(&self) -> Vec<[String; 2]> {
        let usable = self.chips.iter().filter(|chip| chip.absent.is_none());
        usable
            .flat_map(|chip| {
                let needs = self.libraries.needed_by(chip.maker).into_iter();
                needs.filter_map(|finding| Some([chip.id.clone(), lack(finding)?]))
            })
            .collect()
    }
}

/// What is the matter with a library, and what would help.
fn lack(finding: &Finding) -> Option<String> {
    let why = finding.outcome.as_ref().err()?;
    let remedy = finding.remedy().unwrap_or_default();
    Some(advice(&why.to_string(), &remedy))
}

fn advice(why: &str, remedy: &str) -> String {
    match remedy {
        "" => line(why, 200),
        remedy => line(&format!("{why}; {remedy}"), 260),
    }
}

fn dash() -> String {
    "-".to_owned()
}

impl Status {
    fn page(&self) -> String {
        format!(
            "{}\nways to run language models\n{}\nlibraries\n{}",
            self.chips(),
            self.ways(),
            self.libraries()
        )
    }

    fn chips(&self) -> String {
        let chips = &self.seen.chips;
        if chips.is_empty() {
            return "The system knows of no NPU in this computer.\n".to_owned();
        }
        let heading = ["npu", "name", "driver", "state"].map(str::to_owned);
        let rows = chips.iter().map(|chip| {
            let driver = chip.driver.as_deref();
            [
                chip.id.clone(),
                line(&chip.name, 44),
                driver.map_or_else(dash, |driver| line(driver, 20)),
                match &chip.absent {
                    None => "the system can use it".to_owned(),
                    Some(why) => advice(&why.to_string(), &chip.remedy),
                },
            ]
        });
        let rows: Vec<_> = std::iter::once(heading).chain(rows).collect();
        output::table([Align::Left; 4], &rows)
    }

    fn ways(&self) -> String {
        let open = self.backends.offers.iter().map(open);
        let closed = self.backends.refused.iter().map(closed);
        let rows: Vec<_> = open.chain(closed).collect();
        indented(&output::table([Align::Left; 3], &rows))
    }

    fn libraries(&self) -> String {
        let rows: Vec<_> = self.seen.libraries.all().into_iter().map(library).collect();
        indented(&output::table([Align::Left; 3], &rows))
    }
}

fn open(offer: &Offer) -> [String; 3] {
    [
        offer.npu.clone().unwrap_or_else(dash),
        offer.backend.name(),
        line(&offer.description(), 160),
    ]
}

fn closed(refused: &Refused) -> [String; 3] {
    let why = advice(&refused.why.to_string(), &refused.remedy);
    [
        refused.npu.clone().unwrap_or_else(dash),
        "no".to_owned(),
        format!("{}: {why}", refused.way),
    ]
}

fn library(finding: &Finding) -> [String; 3] {
    let name = finding.name.to_owned();
    let Ok(found) = &finding.outcome else {
        let lack = lack(finding).unwrap_or_default();
        return [
            name,
            "no".to_owned(),
            format!("{lack} ({})", finding.purpose),
        ];
    };
    let version = found.version.as_deref().unwrap_or("version unknown");
    let origin = match &found.origin {
        Origin::Variable(name) => format!(", by {name}"),
        Origin::Setup => ", by `troika npu setup`".to_owned(),
        Origin::System => String::new(),
    };
    let path = line(&found.path.display().to_string(), 200);
    [name, line(version, 24), format!("{path}{origin}")]
}

fn indented(table: &str) -> String {
    table.lines().map(|line| format!("  {line}\n")).collect()
}
