//! `troika plan import`: results of other programs become measurements.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser as _};
use serde_json::json;
use troika_planner::import::{self, Format, Import, Measurement, Skipped};

use super::measurements::table;
use crate::home::Home;
use crate::measurements::Measurements;
use crate::output::{self, Console, printable, say};

/// Import results that other programs measured
///
/// Read are llama-bench (-o json, jsonl or csv), MLPerf Client (results.json), UL Procyon (XML; its scores), a wall meter's CSV,
/// and `troika bench --json`. What each measurement is from is kept with it.
#[derive(Debug, clap::Args)]
pub(crate) struct ImportArgs {
    /// File of results; - is stdin
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Whose results they are [default: told from the contents]
    #[arg(long, value_name = "FORMAT", value_parser = format_parser())]
    format: Option<Format>,
    /// The chip, where the file names none or another than meant
    #[arg(long, value_name = "NAME")]
    device: Option<String>,
    /// The model, where the file names none
    #[arg(short, long, value_name = "NAME")]
    model: Option<String>,
    /// How its weights are stored, where the file does not tell
    #[arg(long, value_name = "FORMAT")]
    quant: Option<String>,
    /// Show what would be imported, and keep nothing
    #[arg(long)]
    dry_run: bool,
}

fn format_parser() -> impl clap::builder::TypedValueParser<Value = Format> {
    let names = Format::ALL.map(|format| PossibleValue::new(format.name()));
    PossibleValuesParser::new(names).map(|name| {
        let found = Format::ALL.into_iter().find(|format| format.name() == name);
        found.expect("only such names are let through. This is a bug.")
    })
}

pub(crate) fn run(args: &ImportArgs, console: &Console) -> anyhow::Result<()> {
    // All or nothing: what is wrong with the third file is found before the first is kept.
    let mut imports = args
        .files
        .iter()
        .map(|path| read(path, args.format))
        .collect::<anyhow::Result<Vec<_>>>()?;
    for measurement in imports
        .iter_mut()
        .flat_map(|import| &mut import.measurements)
    {
        args.describe(measurement);
    }
    for (path, import) in args.files.iter().zip(&imports) {
        told(path, &import.skipped, console);
    }
    let all: Vec<Measurement> = imports
        .iter()
        .flat_map(|import| import.measurements.clone())
        .collect();
    let store = Measurements::of(&Home::from_env()?);
    let added = match args.dry_run {
        true => 0,
        false => store.add(&all)?,
    };
    if console.json {
        return output::json(&json!({
            "added": added,
            "known_before": if args.dry_run { None } else { Some(all.len() - added) },
            "imports": imports,
        }));
    }
    output::answer(table(&all))?;
    match args.dry_run {
        true => console.note("Nothing was kept."),
        false => console.note(format_args!(
            "{added} of {} measurements are new, and kept in {}.",
            all.len(),
            store.path().display()
        )),
    }
    Ok(())
}

impl ImportArgs {
    /// Puts the user's word over the file's.
    fn describe(&self, measurement: &mut Measurement) {
        for (given, field) in [
            (&self.device, &mut measurement.device),
            (&self.model, &mut measurement.model),
            (&self.quant, &mut measurement.quant),
        ] {
            if given.is_some() {
                field.clone_from(given);
            }
        }
    }
}

fn read(path: &Path, format: Option<Format>) -> anyhow::Result<Import> {
    let cannot = || format!("cannot read {}", path.display());
    let bytes = bytes(path).with_context(cannot)?;
    import::read(&bytes, format).with_context(|| format!("cannot import {}", path.display()))
}

/// A file's bytes, one more at most than an import takes: an endless one is not read to its end.
fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = import::BYTES_MAX as u64 + 1;
    if path.as_os_str() == "-" {
        io::stdin().lock().take(limit).read_to_end(&mut bytes)?;
    } else {
        File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

fn told(path: &Path, skipped: &[Skipped], console: &Console) {
    if skipped.is_empty() || console.quiet {
        return;
    }
    say(format_args!("left out of {}:", path.display()));
    for Skipped { place, why } in skipped {
        say(format_args!("  {}: {}", printable(place), printable(why)));
    }
}
