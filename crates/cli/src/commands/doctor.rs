//! `troika doctor`: what commonly goes wrong, and how to mend it.
//!
//! One file per part of the machine stands under `doctor/`, each with a function that is given the [`Patient`] and returns
//! [`Check`]s. They find nothing in ways of their own: settings, models, rules, devices and limits are read by what the
//! other verbs read them with. Nothing is changed, and nothing is sent beyond this machine.

mod engine;
mod files;
mod home;
mod models;
mod port;
mod space;

mod catalogue;
mod clock;
mod gpu;
mod limits;
mod network;
mod npu;
mod processor;
mod rules;
mod settings;

mod patient;
#[cfg(test)]
mod tests;

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use serde::Serialize;
use troika_machine::probe::{self, Root};
use troika_server::Settings;

use self::patient::Patient;
use crate::exit::Told;
use crate::home::Home;
use crate::output::{self, Console};
use crate::serving::{self, Listener};
use crate::settings::ConfigArgs;

/// How long a server has to answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// Columns of the text.
const WIDTH: usize = 100;

const EXAMPLES: &str = "\
Examples:
  troika doctor                                    what is wrong here, and how to mend it
  troika doctor --json                             the same, for programs
  troika doctor --server                           only whether the server answers: for health checks

It changes nothing and sends nothing. Exit codes: 0 no fault, 1 a fault. NO_COLOR leaves out colours.";

/// Find what is wrong here, and how to mend it
///
/// Looks at settings, files, the port, models, devices, limits and the clock, and lets the model inside write three words.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DoctorArgs {
    /// Only ask whether a Troika answers at the configured address
    #[arg(long)]
    server: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    /// Something does not work.
    Fault,
    /// Something works worse than it could, or may fail soon.
    Warning,
    /// Good to know.
    Note,
    /// As it should be.
    Ok,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Self::Fault => "fault",
            Self::Warning => "warning",
            Self::Note => "note",
            Self::Ok => "ok",
        }
    }

    /// The colour in a terminal: what ANSI calls red, yellow, cyan and green.
    fn colour(self) -> u8 {
        match self {
            Self::Fault => 31,
            Self::Warning => 33,
            Self::Note => 36,
            Self::Ok => 32,
        }
    }
}

/// What was looked at, and how it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Check {
    /// What was looked at, in a word.
    name: &'static str,
    level: Level,
    /// How it is.
    what: String,
    /// How to mend it; empty where there is nothing to mend.
    mend: String,
}

impl Check {
    fn new(name: &'static str, level: Level, what: impl Into<String>) -> Self {
        Self {
            name,
            level,
            what: what.into(),
            mend: String::new(),
        }
    }

    fn ok(name: &'static str, what: impl Into<String>) -> Self {
        Self::new(name, Level::Ok, what)
    }

    fn note(name: &'static str, what: impl Into<String>) -> Self {
        Self::new(name, Level::Note, what)
    }

    fn warning(name: &'static str, what: impl Into<String>) -> Self {
        Self::new(name, Level::Warning, what)
    }

    fn fault(name: &'static str, what: impl Into<String>) -> Self {
        Self::new(name, Level::Fault, what)
    }

    fn mend(mut self, mend: impl Into<String>) -> Self {
        self.mend = mend.into();
        self
    }
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    version: &'static str,
    faults: usize,
    warnings: usize,
    checks: Vec<Check>,
}

pub(crate) fn run(args: &DoctorArgs, console: &Console) -> anyhow::Result<()> {
    let home = Home::from_env()?;
    let (settings, wrong) = match args.config.settings(&home, []) {
        Ok(settings) => (settings, None),
        Err(error) => (Settings::at(home.path()), Some(error.to_string())),
    };
    if args.server {
        return answers(&settings, console);
    }
    let machine = probe::read(&Root::real());
    let patient = Patient::here(home, settings, wrong, machine);
    let report = Report::of(all(&patient));
    match console.json {
        true => output::json(&report)?,
        false => output::answer(report.text(console.quiet, colours()))?,
    }
    match report.faults {
        0 => Ok(()),
        _ => Err(Told.into()),
    }
}

/// Whether the server answers.
fn answers(settings: &Settings, console: &Console) -> anyhow::Result<()> {
    let answers = serving::who(serving::address(settings), PATIENCE) == Listener::Troika;
    let page = serving::page(settings);
    match (console.json, answers) {
        (true, _) => output::json(&serde_json::json!({"page": page, "answers": answers}))?,
        (false, true) => console.note(format_args!("A Troika answers at {page}")),
        (false, false) => console.note(format_args!("No Troika answers at {page}")),
    }
    match answers {
        true => Ok(()),
        false => Err(Told.into()),
    }
}

/// Whether somebody sees colours, and wants to: <https://no-color.org>.
fn colours() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// All checks, in the order in which they matter. What may take a while runs beside the others.
fn all(patient: &Patient) -> Vec<Check> {
    std::thread::scope(|scope| {
        let engine = scope.spawn(engine::check);
        let gpu = gpu::Asked::ask(patient);
        let mut checks = vec![
            settings::check(patient),
            home::check(patient),
            files::check(patient),
            port::check(patient),
            space::check(patient),
        ];
        checks.extend(models::check(patient));
        checks.push(rules::check(patient));
        checks.push(engine.join().unwrap_or_else(|_| engine::panicked()));
        checks.push(processor::check(patient));
        checks.push(gpu.check(patient));
        checks.push(npu::check(patient));
        checks.extend(limits::check(patient));
        checks.push(clock::check(patient));
        checks.push(network::check(patient));
        checks.push(catalogue::check(patient));
        checks
    })
}

impl Report {
    /// The worst first; of what is as bad as another, in their own order.
    fn of(mut checks: Vec<Check>) -> Self {
        checks.sort_by_key(|check| check.level);
        let count = |level| checks.iter().filter(|check| check.level == level).count();
        Self {
            version: env!("CARGO_PKG_VERSION"),
            faults: count(Level::Fault),
            warnings: count(Level::Warning),
            checks,
        }
    }

    /// For people; `quiet` leaves out what is well.
    fn text(&self, quiet: bool, colours: bool) -> String {
        const NAME: usize = 12;
        const INDENT: usize = 9 + NAME;
        let mut text = String::new();
        for check in &self.checks {
            if quiet && check.level >= Level::Note {
                continue;
            }
            let level = format!("{:<9}", check.level.name());
            let level = match colours {
                true => format!("\u{1b}[{}m{level}\u{1b}[0m", check.level.colour()),
                false => level,
            };
            let what = output::wrapped(&check.what, INDENT, WIDTH);
            text.push_str(&format!("{level}{:<NAME$}{}", check.name, &what[INDENT..]));
            if !check.mend.is_empty() {
                text.push_str(&output::wrapped(&check.mend, INDENT + 2, WIDTH));
            }
        }
        let summary = match (self.faults, self.warnings) {
            (0, 0) => "All is well.".to_owned(),
            (faults, warnings) => {
                format!(
                    "{}, {}.",
                    counted(faults, "fault"),
                    counted(warnings, "warning")
                )
            }
        };
        if !quiet {
            text.push_str(&format!("\n{summary}\n"));
        }
        text
    }
}

/// `1 fault`, `no faults`, `3 faults`.
fn counted(count: usize, what: &str) -> String {
    match count {
        0 => format!("no {what}s"),
        1 => format!("1 {what}"),
        n => format!("{n} {what}s"),
    }
}
