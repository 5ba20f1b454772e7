//! A meter's table: a time and a power in every row, integrated to joules.
//!
//! Columns are found by their names, units in a name or a cell are understood, gaps are not bridged. What was left out is
//! told, row by row up to a limit: a number that nobody can check is not worth having.

mod rows;
mod time;

pub use self::rows::MeterRows;

use self::time::Clock;
use super::table::Table;
use super::{Conditions, Format, Import, ImportError, Measurement, Skipped, What};

/// A pause longer than this many usual intervals is a gap: nobody knows what was drawn in it.
const GAP_INTERVALS: f64 = 5.0;

/// But seconds as few as these are always bridged.
const GAP_S_MIN: f64 = 2.0;

/// No wall socket gives more; such a figure is in milliwatts, or nonsense.
const WATTS_MAX: f64 = 100_000.0;

/// How many rows that were left out are told one by one.
const TOLD_MAX: usize = 20;

/// A power at a time, in seconds from any beginning.
#[derive(Clone, Copy, Debug)]
struct Sample {
    seconds: f64,
    watts: f64,
    line: u64,
}

pub(super) fn read(table: Table) -> Result<Import, ImportError> {
    let columns = Columns::find(&table.names)?;
    let mut skipped = Skips::default();
    skipped.all.extend(table.skipped);
    let rows = table.rows.iter().map(|(line, row)| (*line, row));
    let clock = Clock::of(rows.clone().filter_map(|(_, row)| columns.time(row)));
    let Some(clock) = clock else {
        return Err(ImportError::Broken {
            place: "the column of times".to_owned(),
            why: "its entries are neither seconds, nor a date and a time, nor a time of day"
                .to_owned(),
        });
    };
    let mut samples: Vec<Sample> = Vec::new();
    for (line, row) in rows {
        let sample = columns.sample(line, row, &clock);
        let sample = sample.and_then(|sample| match samples.last() {
            Some(last) if sample.seconds <= last.seconds => {
                Err("its time is not after the row before it".to_owned())
            }
            _ => Ok(sample),
        });
        match sample {
            Ok(sample) => samples.push(sample),
            Err(why) => skipped.row(line, why),
        }
    }
    let Some(metered) = integrate(&samples, &mut skipped) else {
        skipped.all.push(Skipped::new(
            "the table",
            "there are not two rows in time with a power",
        ));
        return Err(ImportError::Nothing {
            skipped: skipped.end(),
        });
    };
    let started = clock.started(table.rows.first().and_then(|(_, row)| columns.time(row)));
    Ok(Import {
        format: Format::Meter,
        measurements: metered.measurements(&columns, started),
        skipped: skipped.end(),
    })
}

/// What a table comes to.
struct Metered {
    joules: f64,
    seconds: f64,
    watts_max: f64,
    watts_min: f64,
    samples: usize,
}

/// The joules below the line through the samples, without gaps; `None` where no two samples hang together.
fn integrate(samples: &[Sample], skipped: &mut Skips) -> Option<Metered> {
    let mut intervals: Vec<f64> = samples
        .windows(2)
        .map(|pair| pair[1].seconds - pair[0].seconds)
        .collect();
    intervals.sort_by(f64::total_cmp);
    let usual = *intervals.get(intervals.len() / 2)?;
    let gap = (usual * GAP_INTERVALS).max(GAP_S_MIN);
    let (mut joules, mut seconds) = (0.0, 0.0);
    for pair in samples.windows(2) {
        let pause = pair[1].seconds - pair[0].seconds;
        if pause > gap {
            let why = format!("a gap of {pause:.1} s before it, which is not counted");
            skipped.row(pair[1].line, why);
            continue;
        }
        joules += pause * f64::midpoint(pair[0].watts, pair[1].watts);
        seconds += pause;
    }
    let watts = samples.iter().map(|sample| sample.watts);
    (seconds > 0.0 && joules.is_finite()).then(|| Metered {
        joules,
        seconds,
        watts_max: watts.clone().fold(0.0, f64::max),
        watts_min: watts.fold(f64::INFINITY, f64::min),
        samples: samples.len(),
    })
}

impl Metered {
    fn measurements(&self, columns: &Columns, started: Option<String>) -> Vec<Measurement> {
        let measure = |what, value| {
            let mut measurement = Measurement::new("meter", what, value);
            measurement.when.clone_from(&started);
            measurement.conditions = Conditions {
                seconds: Some(self.seconds),
                more: [
                    ("samples".to_owned(), self.samples.to_string()),
                    ("column".to_owned(), columns.power_name.clone()),
                ]
                .into(),
                ..Conditions::default()
            };
            measurement
        };
        let mean = self.joules / self.seconds;
        vec![
            measure(What::EnergyJ, self.joules),
            measure(What::WattsMean, mean).between(Some(self.watts_min), Some(self.watts_max)),
            measure(What::WattsMax, self.watts_max),
        ]
    }
}

/// Where times and powers stand, and what a power is in.
struct Columns {
    time: usize,
    /// A date in a column of its own.
    date: Option<usize>,
    power: usize,
    power_name: String,
    /// Watts of one unit of the column.
    watts: f64,
}

impl Columns {
    fn find(names: &[String]) -> Result<Self, ImportError> {
        let lower: Vec<String> = names.iter().map(|name| name.to_lowercase()).collect();
        let words: Vec<Vec<&str>> = lower.iter().map(|name| words(name)).collect();
        let unknown = |what: &str| ImportError::Unknown {
            why: format!("no column of it is {what}; it has {}", names.join(", ")),
        };
        let (power, watts) = words
            .iter()
            .enumerate()
            .filter_map(|(i, words)| Some((i, power_of(words)?)))
            .min_by_key(|(_, (rank, _))| *rank)
            .map(|(i, (_, watts))| (i, watts))
            .ok_or_else(|| unknown("a power in watts"))?;
        let position = |wanted: &[&str]| {
            words
                .iter()
                .enumerate()
                .position(|(i, words)| i != power && words.iter().any(|word| wanted.contains(word)))
        };
        let moment = position(&["timestamp", "datetime", "unixtime", "epoch", "created"]);
        let date = position(&["date", "day"]);
        let time = moment
            .or_else(|| position(&["time", "elapsed", "seconds", "secs", "sec", "s", "t", "ms"]))
            .or(date)
            .ok_or_else(|| unknown("a time"))?;
        Ok(Self {
            time,
            // "date_time" is one column, and a timestamp needs no date.
            date: date.filter(|&date| date != time && moment.is_none()),
            power,
            power_name: names[power].chars().take(60).collect(),
            watts,
        })
    }

    /// The text of a row's time, with its date if that stands apart.
    fn time(&self, row: &csv::StringRecord) -> Option<String> {
        let time = row.get(self.time)?;
        match self.date.and_then(|date| row.get(date)) {
            Some(date) => Some(format!("{date} {time}")),
            None => Some(time.to_owned()),
        }
        .filter(|text| !text.is_empty())
    }

    fn sample(&self, line: u64, row: &csv::StringRecord, clock: &Clock) -> Result<Sample, String> {
        let time = self.time(row).ok_or("it has no time")?;
        let seconds = clock
            .seconds(&time)
            .ok_or_else(|| format!("{:?} is no time like the others", crop(&time)))?;
        let cell = row.get(self.power).unwrap_or_default();
        let watts = watts(cell, self.watts)
            .ok_or_else(|| format!("the power is no number: {:?}", crop(cell)))?;
        if !(0.0..=WATTS_MAX).contains(&watts) {
            return Err(format!("a power of {watts} W is not possible"));
        }
        Ok(Sample {
            seconds,
            watts,
            line,
        })
    }
}

/// The words of a column's name: what stands between signs.
fn words(name: &str) -> Vec<&str> {
    name.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .collect()
}

/// How well a column's name says that it is a power (0 is best), and what it is in. Apparent and reactive power heat nothing.
fn power_of(words: &[&str]) -> Option<(u8, f64)> {
    let has = |wanted: &[&str]| words.iter().any(|word| wanted.contains(word));
    if has(&[
        "va", "var", "kva", "apparent", "reactive", "factor", "limit", "cap", "kwh", "wh", "energy",
    ]) {
        return None;
    }
    let unit = if has(&["mw", "milliwatt", "milliwatts"]) {
        Some(1e-3)
    } else if has(&["kw", "kilowatt", "kilowatts"]) {
        Some(1e3)
    } else if has(&["w", "watt", "watts"]) {
        Some(1.0)
    } else {
        None
    };
    let is_named = has(&["power", "leistung", "draw", "load", "consumption"]);
    match (has(&["active", "real", "total"]), is_named, unit) {
        (true, _, Some(unit)) => Some((0, unit)),
        (_, true, Some(unit)) => Some((1, unit)),
        (_, false, Some(unit)) => Some((2, unit)),
        (_, true, None) => Some((3, 1.0)),
        (_, false, None) => None,
    }
}

/// A power with or without its unit, and with a decimal point or comma: `45.2`, `45,2 W`, `0.0452 kW`.
fn watts(cell: &str, column: f64) -> Option<f64> {
    let cell = cell.trim();
    let end = cell
        .find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | ',' | '-' | '+' | 'e' | 'E')))
        .unwrap_or(cell.len());
    let (number, unit) = cell.split_at(end);
    let factor = match &*unit.trim().to_lowercase() {
        "" => column,
        "w" | "watt" | "watts" => 1.0,
        "mw" => 1e-3,
        "kw" => 1e3,
        _ => return None,
    };
    let number = match (number.contains('.'), number.matches(',').count()) {
        (false, 1) => number.replace(',', "."),
        _ => number.to_owned(),
    };
    let value: f64 = number.parse().ok()?;
    value.is_finite().then_some(value * factor)
}

fn crop(text: &str) -> String {
    text.chars().take(40).collect()
}

/// What was left out, of which the first are told one by one.
#[derive(Default)]
struct Skips {
    all: Vec<Skipped>,
    rows: usize,
}

impl Skips {
    fn row(&mut self, line: u64, why: String) {
        self.rows += 1;
        if self.rows <= TOLD_MAX {
            self.all.push(Skipped::new(format!("line {line}"), why));
        }
    }

    fn end(mut self) -> Vec<Skipped> {
        if let Some(more) = self.rows.checked_sub(TOLD_MAX).filter(|&more| more > 0) {
            let why = format!("{more} more rows were left out for reasons like these");
            self.all.push(Skipped::new("further down", why));
        }
        self.all
    }
}
