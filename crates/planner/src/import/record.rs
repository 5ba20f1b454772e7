//! The form in which measurements are kept: a JSON object to a line, each with the version of its form.
//!
//! Lines that cannot be read are told and passed over, so that one torn by a loss of power, or written by a later version,
//! costs nothing but itself.

use serde::{Deserialize, Serialize};

use super::{Measurement, Skipped};

/// The version of the form that this program writes, and the only one that it reads.
pub const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Line<M> {
    version: u32,
    #[serde(flatten)]
    measurement: M,
}

/// Any line that has a version.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

/// A measurement as a line, without its end.
pub fn write(measurement: &Measurement) -> String {
    let line = Line {
        version: VERSION,
        measurement,
    };
    serde_json::to_string(&line).expect("a measurement is plain values. This is a bug.")
}

/// The measurements of a file, and the lines that are none.
pub fn read(text: &str) -> (Vec<Measurement>, Vec<Skipped>) {
    let (mut measurements, mut skipped) = (Vec::new(), Vec::new());
    for (i, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        match read_line(line) {
            Ok(measurement) => measurements.push(measurement),
            Err(why) => skipped.push(Skipped::new(format!("line {}", i + 1), why)),
        }
    }
    (measurements, skipped)
}

fn read_line(line: &str) -> Result<Measurement, String> {
    let Versioned { version } = serde_json::from_str(line).map_err(|error| error.to_string())?;
    if version != VERSION {
        return Err(format!(
            "it is of version {version}, and this program reads version {VERSION}"
        ));
    }
    let line: Line<Measurement> = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let measurement = line.measurement;
    match measurement.value.is_finite() && measurement.value > 0.0 {
        true => Ok(measurement),
        false => Err(format!("its value {} is not above zero", measurement.value)),
    }
}
