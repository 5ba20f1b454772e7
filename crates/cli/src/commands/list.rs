//! `troika list`: the models that can be named without a path.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use troika_base::Bytes;
use troika_library::{self as library, Damaged, Library, Summary};

use crate::home::Home;
use crate::model::Source;
use crate::output::{self, Align, Console};

/// List the models that can be named without a path
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {}

#[derive(Serialize)]
struct Entry {
    name: String,
    /// `None` for the model inside.
    path: Option<String>,
    /// Of a created model, whose settings over which file these are.
    #[serde(skip_serializing_if = "Option::is_none")]
    made_of: Option<String>,
    architecture: Option<String>,
    parameters: Option<u64>,
    bytes: u64,
    quantization: Option<String>,
    /// Seconds since 1970.
    modified: Option<u64>,
    /// Why the file is no model.
    error: Option<String>,
}

pub(crate) fn run(_: &ListArgs, console: &Console) -> anyhow::Result<()> {
    let home = Home::from_env()?;
    let entries = entries(&home.library())?;
    if console.json {
        return output::json(&entries);
    }
    output::answer(text(&entries))?;
    for entry in &entries {
        if let Some(error) = &entry.error {
            console.note(format_args!("{}: {}", entry.name, output::line(error, 200)));
        }
    }
    if entries.len() == 1 {
        console.note(format_args!(
            "files in {} are listed here",
            home.models_dir().display()
        ));
    }
    Ok(())
}

fn entries(library: &Library) -> anyhow::Result<Vec<Entry>> {
    let survey = library.survey()?;
    let mut entries: Vec<_> = survey.damaged.into_iter().map(damaged).collect();
    entries.extend(survey.entries.iter().map(entry));
    Ok(entries)
}

fn entry(model: &library::Entry) -> Entry {
    // One damaged file is no reason to hide the others.
    let (summary, error) = match model.open() {
        Ok(file) => (Summary::of(&file), None),
        Err(error) => (Summary::default(), Some(reason(error))),
    };
    let said = |text: String| (!text.is_empty()).then_some(text);
    let source = Source::from(model.clone());
    let path = source.path();
    let since = model.modified.duration_since(UNIX_EPOCH).ok();
    Entry {
        name: model.name.clone(),
        // The time of the program says nothing about the model in it.
        modified: since
            .filter(|_| path.is_some() || model.is_created)
            .map(|since| since.as_secs()),
        path: path.map(|path| path.display().to_string()),
        made_of: model.is_created.then(|| model.manifest.from.clone()),
        architecture: said(summary.architecture),
        parameters: error.is_none().then_some(summary.n_parameter),
        bytes: model.bytes(),
        quantization: said(summary.quantization),
        error,
    }
}

/// A created model that cannot be used any more.
fn damaged(model: Damaged) -> Entry {
    Entry {
        name: model.name,
        path: None,
        made_of: None,
        architecture: None,
        parameters: None,
        bytes: 0,
        quantization: None,
        modified: None,
        error: Some(model.reason),
    }
}

/// What is wrong with a file, in the words of whoever found it.
fn reason(error: library::Error) -> String {
    match error {
        library::Error::Model { source, .. } => source.to_string(),
        other => other.to_string(),
    }
}

fn text(entries: &[Entry]) -> String {
    let heading = [
        "name",
        "architecture",
        "parameters",
        "size",
        "quantization",
        "modified",
    ];
    let mut rows = vec![heading.map(str::to_owned)];
    let dash = || "-".to_owned();
    for entry in entries {
        let architecture = match (&entry.error, &entry.architecture) {
            (Some(_), _) => "damaged".to_owned(),
            (None, Some(name)) => output::line(name, 24),
            (None, None) => dash(),
        };
        let modified = match (entry.modified, &entry.path) {
            (Some(seconds), _) => ago(UNIX_EPOCH + Duration::from_secs(seconds)),
            (None, None) if entry.error.is_none() => "built in".to_owned(),
            (None, _) => dash(),
        };
        rows.push([
            output::line(&entry.name, 60),
            architecture,
            entry.parameters.map_or_else(dash, output::count),
            Bytes(entry.bytes).to_string(),
            entry.quantization.clone().unwrap_or_else(dash),
            modified,
        ]);
    }
    use Align::{Left, Right};
    output::table([Left, Left, Right, Right, Left, Left], &rows)
}

/// How long ago, in the largest unit that fits.
fn ago(time: SystemTime) -> String {
    const UNITS: [(u64, &str); 5] = [
        (365 * 86_400, "year"),
        (30 * 86_400, "month"),
        (86_400, "day"),
        (3_600, "hour"),
        (60, "minute"),
    ];
    let seconds = time.elapsed().map_or(0, |elapsed| elapsed.as_secs());
    for (unit_s, unit) in UNITS {
        match seconds / unit_s {
            0 => {}
            1 => return format!("1 {unit} ago"),
            n => return format!("{n} {unit}s ago"),
        }
    }
    "just now".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_one_unit() {
        for (seconds, want) in [
            (0, "just now"),
            (60, "1 minute ago"),
            (7_300, "2 hours ago"),
            (45 * 86_400, "1 month ago"),
            (800 * 86_400, "2 years ago"),
        ] {
            assert_eq!(ago(SystemTime::now() - Duration::from_secs(seconds)), want);
        }
        assert_eq!(ago(SystemTime::now() + Duration::from_secs(9)), "just now");
    }
}
