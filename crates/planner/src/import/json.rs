//! JSON of any of the programs: a list, an object, or an object to a line.

use serde_json::{Map, Value};

use super::{
    Format, Import, ImportError, MEASUREMENTS_MAX, Measurement, Skipped, llama_bench, mlperf,
    troika,
};

/// An object with what is needed to talk of it.
pub(super) struct Entry<'a> {
    /// `entry 3`, `line 3`.
    pub(super) place: String,
    fields: &'a Map<String, Value>,
}

impl Entry<'_> {
    /// A field that is there and is not null.
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.fields.get(name).filter(|value| !value.is_null())
    }

    /// A text; numbers are taken as such, and the empty one as none.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        let text = match self.get(name)? {
            Value::String(text) => text.trim().to_owned(),
            Value::Number(number) => number.to_string(),
            Value::Bool(flag) => flag.to_string(),
            _ => return None,
        };
        (!text.is_empty()).then_some(text)
    }

    /// A number, be it written as text; `None` if it is none, not finite or negative.
    pub(super) fn number(&self, name: &str) -> Option<f64> {
        let value = match self.get(name)? {
            Value::Number(number) => number.as_f64()?,
            Value::String(text) => text.trim().parse().ok()?,
            _ => return None,
        };
        (value.is_finite() && value >= 0.0).then_some(value)
    }

    /// A number that has to be there and to be above zero.
    pub(super) fn positive(&self, name: &str) -> Result<f64, Skipped> {
        let why = match (self.number(name), self.get(name)) {
            (Some(value), _) if value > 0.0 => return Ok(value),
            (_, None) => format!("there is no `{name}`"),
            (_, Some(value)) => format!("`{name}` is {}, not a number above zero", shown(value)),
        };
        Err(Skipped::new(&*self.place, why))
    }

    /// The fields of an object within.
    pub(super) fn object(&self, name: &str) -> Option<Entry<'_>> {
        Some(Entry {
            place: format!("{}, {name}", self.place),
            fields: self.get(name)?.as_object()?,
        })
    }

    /// The objects within, with their names.
    pub(super) fn objects(&self) -> impl Iterator<Item = (&str, Entry<'_>)> {
        self.fields.iter().filter_map(|(name, value)| {
            let entry = Entry {
                place: format!("{}, {name}", self.place),
                fields: value.as_object()?,
            };
            Some((name.as_str(), entry))
        })
    }

    /// Builds one from a row of a table.
    pub(super) fn row(place: String, fields: &Map<String, Value>) -> Entry<'_> {
        Entry { place, fields }
    }
}

/// A value for a message: the beginning of it.
pub(super) fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Reads one document, or else an object to a line.
pub(super) fn read(text: &str, format: Option<Format>) -> Result<Import, ImportError> {
    let whole: Result<Value, _> = serde_json::from_str(text);
    let (objects, unit) = match whole {
        Ok(Value::Array(values)) => (values.into_iter().map(Ok).collect::<Vec<_>>(), "entry"),
        Ok(value) => (vec![Ok(value)], "entry"),
        Err(error) => {
            let lines = text.lines().filter(|line| !line.trim().is_empty());
            let parsed: Vec<Result<Value, _>> = lines.map(serde_json::from_str).collect();
            // One document that is broken has no line that stands by itself.
            let is_lines = matches!(parsed.first(), Some(Ok(Value::Object(_))));
            if !is_lines {
                return Err(ImportError::Broken {
                    place: format!("line {}, column {}", error.line(), error.column()),
                    why: format!("this is not JSON: {error}"),
                });
            }
            (parsed, "line")
        }
    };
    let mut import: Option<Import> = None;
    let mut skipped = Vec::new();
    for (i, value) in objects.iter().enumerate() {
        let place = format!("{unit} {}", i + 1);
        let value = match value {
            Ok(value) => value,
            Err(error) => {
                skipped.push(Skipped::new(place, format!("this is not JSON: {error}")));
                continue;
            }
        };
        let Some(fields) = value.as_object() else {
            skipped.push(Skipped::new(
                place,
                format!("{} is no object", shown(value)),
            ));
            continue;
        };
        let entry = Entry { place, fields };
        // One that lacks the telling field is of the program of those before it, which says what it lacks.
        let before = import.as_ref().map(|import| import.format);
        let Some(found) = format_of(&entry).or(format).or(before) else {
            skipped.push(Skipped::new(
                entry.place,
                "its fields are of no known program",
            ));
            continue;
        };
        let import = import.get_or_insert_with(|| Import {
            format: found,
            measurements: Vec::new(),
            skipped: Vec::new(),
        });
        if import.measurements.len() >= MEASUREMENTS_MAX {
            skipped.push(Skipped::new(
                entry.place,
                "there are too many; this and what follows is left out",
            ));
            break;
        }
        take(entry_measurements(&entry, found), import);
    }
    let Some(mut import) = import else {
        return Err(ImportError::Unknown {
            why: skipped.first().map_or_else(
                || "it is JSON without entries".to_owned(),
                |first| format!("{}: {}", first.place, first.why),
            ),
        });
    };
    import.skipped.extend(skipped);
    Ok(import)
}

/// What an entry gives, or why nothing.
pub(super) fn entry_measurements(
    entry: &Entry<'_>,
    format: Format,
) -> Result<(Vec<Measurement>, Vec<Skipped>), Skipped> {
    match format {
        Format::LlamaBench => llama_bench::entry(entry),
        Format::MlperfClient => mlperf::entry(entry),
        Format::TroikaBench => troika::entry(entry),
        Format::Procyon | Format::Meter => Err(Skipped::new(
            &*entry.place,
            format!("{} results are not JSON", format.name()),
        )),
    }
}

/// Adds what an entry gave.
pub(super) fn take(entry: Result<(Vec<Measurement>, Vec<Skipped>), Skipped>, import: &mut Import) {
    match entry {
        Ok((measurements, skipped)) => {
            import.measurements.extend(measurements);
            import.skipped.extend(skipped);
        }
        Err(skipped) => import.skipped.push(skipped),
    }
}

/// Whose an object is, by a field that only one program writes.
pub(super) fn format_of(entry: &Entry<'_>) -> Option<Format> {
    let has = |name| entry.fields.contains_key(name);
    if has("avg_ts") || has("avg_ns") {
        Some(Format::LlamaBench)
    } else if has("tps_median") || entry.text("test").as_deref() == Some("roofline") {
        Some(Format::TroikaBench)
    } else if has("category_results") || has("Benchmark Success") {
        Some(Format::MlperfClient)
    } else {
        None
    }
}
