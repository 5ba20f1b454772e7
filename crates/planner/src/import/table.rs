//! Comma-separated values of any of the programs, told apart by their columns' names.

use csv::{ReaderBuilder, StringRecord, Trim};
use serde_json::{Map, Value};

use super::json::{Entry, entry_measurements, format_of, take};
use super::{Format, Import, ImportError, MEASUREMENTS_MAX, Skipped, meter};

/// A table: names, and rows with the line that each begins at. The rows may have more or fewer cells than names.
pub(super) struct Table {
    pub(super) names: Vec<String>,
    pub(super) rows: Vec<(u64, StringRecord)>,
    /// Rows that are none.
    pub(super) skipped: Vec<Skipped>,
}

pub(super) fn read(text: &str, format: Option<Format>) -> Result<Import, ImportError> {
    let table = Table::read(text);
    if table.names.len() < 2 {
        let line: String = text
            .lines()
            .next()
            .unwrap_or_default()
            .chars()
            .take(60)
            .collect();
        return Err(ImportError::Unknown {
            why: format!("it begins with {line:?}, which is neither JSON nor the names of columns"),
        });
    }
    let first: Map<String, Value> = table
        .names
        .iter()
        .map(|name| (name.clone(), Value::Null))
        .collect();
    let found = format_of(&Entry::row(String::new(), &first)).or(format);
    match found {
        Some(format @ (Format::LlamaBench | Format::TroikaBench)) => Ok(bench(table, format)),
        Some(Format::MlperfClient) => Err(ImportError::Unknown {
            why: "MLPerf Client's table has no conditions; give its results.json".to_owned(),
        }),
        _ => meter::read(table),
    }
}

/// Rows as the objects that the same program writes in JSON.
fn bench(table: Table, format: Format) -> Import {
    let mut import = Import {
        format,
        measurements: Vec::new(),
        skipped: table.skipped,
    };
    for (line, row) in table.rows {
        let place = format!("line {line}");
        if import.measurements.len() >= MEASUREMENTS_MAX {
            let why = "there are too many; this and what follows is left out";
            import.skipped.push(Skipped::new(place, why));
            break;
        }
        let fields: Map<String, Value> = table
            .names
            .iter()
            .zip(row.iter())
            .map(|(name, cell)| (name.clone(), Value::String(cell.to_owned())))
            .collect();
        take(
            entry_measurements(&Entry::row(place, &fields), format),
            &mut import,
        );
    }
    import
}

impl Table {
    /// Reads a table whose cells stand apart by whichever of comma, semicolon and tab the first line has most of.
    fn read(text: &str) -> Self {
        let (text, preamble) = without_preamble(text);
        let head = text.lines().next().unwrap_or_default();
        let delimiter = [b',', b';', b'\t']
            .into_iter()
            .max_by_key(|&delimiter| head.bytes().filter(|&byte| byte == delimiter).count())
            .unwrap_or(b',');
        let mut reader = ReaderBuilder::new()
            .delimiter(delimiter)
            .flexible(true)
            .trim(Trim::All)
            .from_reader(text.as_bytes());
        let names = reader.headers().map_or_else(
            |_| Vec::new(),
            |names| names.iter().map(str::to_owned).collect(),
        );
        let (mut rows, mut skipped) = (Vec::new(), Vec::new());
        for row in reader.records() {
            match row {
                Ok(row) => {
                    let line = row.position().map_or(0, csv::Position::line);
                    rows.push((line + preamble, row));
                }
                Err(error) => skipped.push(Skipped::new("a row", error.to_string())),
            }
        }
        Self {
            names,
            rows,
            skipped,
        }
    }
}

/// The text from the names of the columns on, and the lines before them: loggers begin with remarks.
fn without_preamble(text: &str) -> (&str, u64) {
    let mut rest = text;
    let mut lines = 0;
    while rest.starts_with('#') || rest.starts_with("//") || rest.starts_with("sep=") {
        let Some((_, after)) = rest.split_once('\n') else {
            break;
        };
        rest = after;
        lines += 1;
    }
    (rest, lines)
}
