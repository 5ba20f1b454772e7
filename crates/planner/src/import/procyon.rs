//! UL Procyon's AI Text Generation, exported as XML: the scores.
//!
//! A score is `√(C1 / TTFT · C2 · OTS)`, the geometric mean of two speeds, with constants for each model. From it neither the
//! time to the first token nor the output speed can be had again: many pairs of them give the same score. So it is kept as
//! what it is, points.

use super::{Format, Import, ImportError, Measurement, Skipped, What};

/// The end of the names of elements that hold a score.
const SCORE: &str = "OverallScore";

/// Text generation's own scores, by what stands in the element's name.
const MODELS: [(&str, &str); 4] = [
    ("Phi", "Phi-3.5-mini"),
    ("Mistral", "Mistral-7B"),
    ("Llama3", "Llama-3.1-8B"),
    ("Llama2", "Llama-2-13B"),
];

pub(super) fn read(text: &str) -> Result<Import, ImportError> {
    let mut import = Import {
        format: Format::Procyon,
        measurements: Vec::new(),
        skipped: Vec::new(),
    };
    for (line, name, value) in elements(text) {
        if !name.ends_with(SCORE) {
            continue;
        }
        let place = format!("line {line}, {name}");
        match value.trim().parse::<f64>() {
            Ok(score) if score.is_finite() && score > 0.0 => {
                import.measurements.push(measurement(name, score));
            }
            // A model that was not run has a score of 0.
            Ok(0.0) => import.skipped.push(Skipped::new(place, "was not run")),
            _ => {
                let why = format!("{:?} is no score", crop(value));
                import.skipped.push(Skipped::new(place, why));
            }
        }
        if import.measurements.len() >= super::MEASUREMENTS_MAX {
            break;
        }
    }
    if import.measurements.is_empty() && import.skipped.is_empty() {
        return Err(ImportError::Unknown {
            why: format!("it is XML without an element whose name ends in {SCORE}"),
        });
    }
    Ok(import)
}

fn measurement(name: &str, score: f64) -> Measurement {
    let mut measurement = Measurement::new("UL Procyon", What::Score, score);
    let test = name.trim_end_matches(SCORE);
    if let Some(rest) = test.strip_prefix("AiTextGeneration") {
        let model = MODELS.iter().find(|(part, _)| *part == rest);
        measurement.model = model.map(|(_, model)| (*model).to_owned());
    }
    let more = &mut measurement.conditions.more;
    more.insert("test".to_owned(), test.to_owned());
    measurement
}

/// Elements without children: line, name, text. Not a parser of XML: what is no such element is passed over.
fn elements(text: &str) -> impl Iterator<Item = (usize, &str, &str)> {
    let mut rest = text;
    let mut line = 1;
    std::iter::from_fn(move || {
        loop {
            let open = rest.find('<')?;
            let close = open + rest[open..].find('>')?;
            let tag = &rest[open + 1..close];
            let inner = &rest[close + 1..];
            let at = line + newlines(&rest[..open]);
            line = at + newlines(tag);
            rest = inner;
            let name = tag.split_whitespace().next().unwrap_or_default();
            let is_start =
                name.starts_with(|c: char| c.is_ascii_alphabetic()) && !tag.ends_with('/');
            let Some(end) = inner.find('<') else {
                continue;
            };
            let closes = inner[end..]
                .strip_prefix("</")
                .is_some_and(|tail| tail.starts_with(name));
            if is_start && closes {
                // A prefix of a namespace says nothing to us.
                let name = name.rsplit(':').next().unwrap_or(name);
                return Some((at, name, &inner[..end]));
            }
        }
    })
}

fn newlines(text: &str) -> usize {
    text.bytes().filter(|&byte| byte == b'\n').count()
}

fn crop(text: &str) -> String {
    text.trim().chars().take(40).collect()
}
