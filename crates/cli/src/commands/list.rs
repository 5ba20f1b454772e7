//! `troika list`: the models that can be named without a path.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use serde::Serialize;
use troika_base::Bytes;
use troika_gguf::ModelFile;

use crate::home::{self, Home};
use crate::model::{BUILT_IN, Source};
use crate::output::{self, Align, Console};
use crate::weights::Formats;

/// List the models that can be named without a path
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {}

#[derive(Serialize)]
struct Entry {
    name: String,
    /// `None` for the model inside.
    path: Option<String>,
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
    let entries = entries(&home)?;
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

fn entries(home: &Home) -> anyhow::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for path in home.models()? {
        entries.push(entry_of_file(&path)?);
    }
    let built_in = Source::BuiltIn.open()?;
    entries.push(entry(BUILT_IN.to_owned(), &built_in));
    Ok(entries)
}

fn entry_of_file(path: &Path) -> anyhow::Result<Entry> {
    let about =
        std::fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
    let name = home::model_name(path);
    let entry = match ModelFile::open(path) {
        Ok(file) => entry(name, &file),
        // One damaged file is no reason to hide the others.
        Err(error) => Entry {
            name,
            path: None,
            architecture: None,
            parameters: None,
            bytes: about.len(),
            quantization: None,
            modified: None,
            error: Some(error.to_string()),
        },
    };
    let modified = about
        .modified()
        .ok()
        .and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    Ok(Entry {
        path: Some(path.display().to_string()),
        modified: modified.map(|since| since.as_secs()),
        ..entry
    })
}

fn entry(name: String, file: &ModelFile) -> Entry {
    let formats = Formats::of(file);
    Entry {
        name,
        path: None,
        architecture: file
            .metadata()
            .str("general.architecture")
            .ok()
            .map(str::to_owned),
        parameters: Some(formats.parameters()),
        bytes: file.bytes(),
        quantization: formats.main().map(|dtype| dtype.name().to_owned()),
        modified: None,
        error: None,
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
            (None, None) => "built in".to_owned(),
            (None, Some(_)) => dash(),
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
