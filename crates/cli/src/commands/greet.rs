//! `troika` alone: the machine, what is installed, what to type next.
//!
//! It has to be there at once, so it opens no device and asks no driver: what the system's files tell is shown.

use std::time::Duration;

use serde::Serialize;
use troika_base::{Bytes, DeviceKind};
use troika_device::Device as _;
use troika_library::Entry;
use troika_machine::probe::{self, Root};
use troika_machine::{Battery, Found, Machine, PowerSource};
use troika_server::Settings;

use crate::home::Home;
use crate::output::{self, Align, Console};
use crate::serving::{self, Listener};
use crate::settings::SettingsArgs;
use crate::{load, machine};

/// Models that are named one by one.
const MODELS_MAX: usize = 8;
/// How long the greeting waits for a server. One that has much to do is told by `troika doctor`, too.
const PATIENCE: Duration = Duration::from_millis(60);

/// What `--json` prints.
#[derive(Serialize)]
struct Greeting {
    version: &'static str,
    device: String,
    processor: String,
    kernels: &'static str,
    threads: usize,
    gpus: Vec<Part>,
    npus: Vec<Part>,
    memory_bytes: Option<u64>,
    memory_bytes_available: Option<u64>,
    power_source: Option<PowerSource>,
    batteries: Vec<Battery>,
    models_dir: String,
    /// Those that were installed, by name.
    models: Vec<Model>,
    /// Where the server's page is, or would be.
    page: String,
    /// Whether a Troika serves there.
    serving: bool,
    /// Why the settings are not those of the configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// A GPU or an NPU.
#[derive(Serialize)]
struct Part {
    id: String,
    name: String,
    /// Why it cannot be used, as far as can be told without asking it.
    #[serde(skip_serializing_if = "Option::is_none")]
    blocked: Option<String>,
}

#[derive(Serialize)]
struct Model {
    name: String,
    bytes: u64,
}

pub(crate) fn run(console: &Console) -> anyhow::Result<()> {
    let home = Home::from_env()?;
    let (settings, error) = match SettingsArgs::default().resolve(&home) {
        Ok(resolved) => (resolved.settings, None),
        // Whoever asks for nothing in particular is greeted all the same.
        Err(error) => (Settings::at(home.path()), Some(error.to_string())),
    };
    let greeting = greeting(&settings, error)?;
    if console.json {
        return output::json(&greeting);
    }
    output::answer(text(&greeting))
}

fn greeting(settings: &Settings, error: Option<String>) -> anyhow::Result<Greeting> {
    let device = load::cpu(settings.threads)?;
    let memory = machine::memory();
    let Machine {
        processors,
        power_source,
        batteries,
        ..
    } = probe::read(&Root::real());
    let parts = |kind| {
        let of_kind = processors.iter().filter(|part| part.profile.kind == kind);
        let parts = of_kind.map(|part| Part {
            id: part.id.clone(),
            name: part.profile.name.clone(),
            blocked: match &part.found {
                Found::Ready => None,
                Found::Blocked { why, .. } => Some(why.clone()),
            },
        });
        parts.collect()
    };
    let listener = serving::who(serving::address(settings), PATIENCE);
    let library = Home::library_in(settings.models_dir.clone());
    let models = library.list()?.into_iter().filter(is_installed);
    Ok(Greeting {
        version: env!("CARGO_PKG_VERSION"),
        device: device.name().to_owned(),
        processor: device.description(),
        kernels: device.kernels().name,
        threads: device.threads(),
        gpus: parts(DeviceKind::Gpu),
        npus: parts(DeviceKind::Npu),
        memory_bytes: memory.map(|memory| memory.total.0),
        memory_bytes_available: memory.map(|memory| memory.available.0),
        power_source,
        batteries,
        models_dir: settings.models_dir.display().to_string(),
        models: models
            .map(|entry| Model {
                name: entry.name,
                bytes: entry.file_bytes,
            })
            .collect(),
        page: serving::page(settings),
        serving: listener == Listener::Troika,
        error,
    })
}

/// Whether it is more than the model inside.
fn is_installed(entry: &Entry) -> bool {
    entry.is_created || !matches!(entry.source, troika_library::Source::BuiltIn(_))
}

fn text(greeting: &Greeting) -> String {
    let mut text = format!(
        "Troika {}: language models on the computer you own.\n\n\
         machine  {}; {}; {}\n\
         memory   {}\n\
         power    {}\n\n\
         {}\n\
         Type next:\n{}",
        greeting.version,
        output::line(&greeting.processor, 100),
        parts("GPU", &greeting.gpus),
        parts("NPU", &greeting.npus),
        memory(greeting),
        power(greeting.power_source, &greeting.batteries),
        models(greeting),
        next(greeting),
    );
    if let Some(error) = &greeting.error {
        let error = output::line(error, 400);
        text.push_str(&format!(
            "\nThe configuration has a mistake, and nothing of it is used here: {error}\n"
        ));
    }
    text
}

fn parts(what: &str, parts: &[Part]) -> String {
    if parts.is_empty() {
        return format!("no {what}");
    }
    let named = parts.iter().map(|part| {
        let name = output::line(&part.name, 60);
        match part.blocked {
            None => name,
            Some(_) => format!("{name} (not ready: `troika doctor`)"),
        }
    });
    format!("{what} {}", named.collect::<Vec<_>>().join(", "))
}

fn memory(greeting: &Greeting) -> String {
    match (greeting.memory_bytes, greeting.memory_bytes_available) {
        (Some(total), Some(available)) => {
            format!("{} free of {}", Bytes(available), Bytes(total))
        }
        _ => "the system does not tell".to_owned(),
    }
}

/// Where the power comes from, and how much a battery has left.
fn power(source: Option<PowerSource>, batteries: &[Battery]) -> String {
    let charges = batteries
        .iter()
        .filter_map(|battery| battery.charge_percent);
    let charges: Vec<f64> = charges.collect();
    let charge = match charges.len() {
        0 => String::new(),
        n => format!(", {:.0} % charged", charges.iter().sum::<f64>() / n as f64),
    };
    match source {
        Some(PowerSource::Mains) if batteries.is_empty() => "mains".to_owned(),
        Some(PowerSource::Mains) => format!("mains; the battery is there{charge}"),
        Some(PowerSource::Battery) => format!("battery{charge}"),
        None => "mains, as far as the system tells".to_owned(),
    }
}

fn models(greeting: &Greeting) -> String {
    let models = &greeting.models;
    if models.is_empty() {
        let dir = output::printable(&greeting.models_dir);
        return format!(
            "No model is installed yet, but a small one inside tells stories. Yours go to {dir}.\n"
        );
    }
    let rows = models
        .iter()
        .take(MODELS_MAX)
        .enumerate()
        .map(|(row, model)| {
            let heading = if row == 0 { "models" } else { "" };
            let name = output::ends(&model.name, 60);
            [
                format!("{heading:<7}"),
                name,
                Bytes(model.bytes).to_string(),
            ]
        });
    let rows: Vec<_> = rows.collect();
    let mut text = output::table([Align::Left, Align::Left, Align::Right], &rows);
    if let Some(more) = models
        .len()
        .checked_sub(MODELS_MAX)
        .filter(|&more| more > 0)
    {
        text.push_str(&format!("         and {more} more: troika list\n"));
    }
    text
}

/// What to type, depending on what there is.
fn next(greeting: &Greeting) -> String {
    let page = &greeting.page;
    let mut rows = Vec::new();
    let mut row = |command: String, what: String| rows.push([format!("  {command}"), what]);
    match greeting.models.first() {
        None => {
            row(
                "troika run \"Once upon a time\"".to_owned(),
                "a story by the model inside".to_owned(),
            );
            row(
                "troika pull hf:owner/repo:Q4_K_M".to_owned(),
                "get a model; a look at its size and licence first".to_owned(),
            );
        }
        Some(first) => {
            let name = quoted(&first.name);
            row(format!("troika run {name}"), "chat with it here".to_owned());
        }
    }
    match greeting.serving {
        true => row(
            page.clone(),
            "open it in a browser: a Troika serves there".to_owned(),
        ),
        false => row(
            "troika serve".to_owned(),
            format!("then open {page} in a browser"),
        ),
    }
    row(
        "troika doctor".to_owned(),
        "whether all is well, and how to mend it".to_owned(),
    );
    row("troika help".to_owned(), "the rest".to_owned());
    output::table([Align::Left; 2], &rows)
}

/// A name as a shell takes it for one word.
fn quoted(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:/+@".contains(c);
    match name.chars().all(plain) {
        true => name.to_owned(),
        false => format!("'{}'", output::line(name, 200).replace('\'', "'\\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn greeting(models: &[&str], serving: bool) -> Greeting {
        let model = |name: &&str| Model {
            name: (*name).to_owned(),
            bytes: 3 << 30,
        };
        Greeting {
            version: "1.2.3",
            device: "cpu0".to_owned(),
            processor: "Some CPU, avx2, 8 threads".to_owned(),
            kernels: "avx2",
            threads: 8,
            gpus: vec![Part {
                id: "gpu0".to_owned(),
                name: "Some GPU".to_owned(),
                blocked: Some("no driver".to_owned()),
            }],
            npus: Vec::new(),
            memory_bytes: Some(16 << 30),
            memory_bytes_available: Some(9 << 30),
            power_source: Some(PowerSource::Battery),
            batteries: vec![Battery {
                name: "BAT0".to_owned(),
                status: "discharging".to_owned(),
                charge_percent: Some(63.0),
                capacity_wh: None,
                watts: None,
            }],
            models_dir: "/srv/models".to_owned(),
            models: models.iter().map(model).collect(),
            page: "http://127.0.0.1:11435/".to_owned(),
            serving,
            error: None,
        }
    }

    #[test]
    fn who_has_nothing_is_told_how_to_get_it() {
        insta::assert_snapshot!(text(&greeting(&[], false)));
    }

    #[test]
    fn who_has_models_is_told_how_to_use_them() {
        let names: Vec<String> = (0..11).map(|n| format!("model {n}")).collect();
        let names: Vec<&str> = names.iter().map(|name| &**name).collect();
        insta::assert_snapshot!(text(&greeting(&names, false)));
    }

    #[test]
    fn a_server_that_runs_is_named_by_its_page() {
        let text = text(&greeting(&["llama"], true));
        assert!(text.contains("http://127.0.0.1:11435/  open it"), "{text}");
        assert!(!text.contains("troika serve"), "{text}");
    }

    #[test]
    fn a_mistake_in_the_configuration_is_told_and_no_more() {
        let mut greeting = greeting(&[], false);
        greeting.error = Some("config.toml: \u{1b}[31m".to_owned());
        let text = text(&greeting);
        assert!(text.contains("config.toml: \u{fffd}[31m"), "{text}");
    }
}
