//! `keep_alive`: how long a model stays loaded, as Ollama's clients write it, and others by their example.

use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::job::KeepAlive;

/// Seconds as a number, or a duration as `"5m"`, `"1h30m"`. Below zero is for ever.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Stay(KeepAlive);

impl From<Stay> for KeepAlive {
    fn from(Stay(keep_alive): Stay) -> Self {
        keep_alive
    }
}

impl<'de> Deserialize<'de> for Stay {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "expected seconds, or a duration such as \"5m\"")]
        enum Wire {
            Seconds(f64),
            Text(String),
        }
        let seconds = match Wire::deserialize(deserializer)? {
            Wire::Seconds(seconds) => seconds,
            Wire::Text(text) => seconds(&text).ok_or_else(|| {
                let text: String = text.chars().take(40).collect();
                D::Error::custom(format_args!(
                    "{text:?} is no duration; write \"5m\", \"1h30m\", seconds as a number, or -1 for ever"
                ))
            })?,
        };
        // What does not fit is longer than any machine is up.
        let time = Duration::try_from_secs_f64(seconds);
        Ok(Self(time.map_or(KeepAlive::Forever, KeepAlive::For)))
    }
}

/// The seconds of a duration: a sign, then numbers with units. A number alone is seconds.
fn seconds(text: &str) -> Option<f64> {
    const UNITS: [(&str, f64); 8] = [
        ("ns", 1e-9),
        ("us", 1e-6),
        ("µs", 1e-6),
        ("μs", 1e-6),
        ("ms", 1e-3),
        ("s", 1.0),
        ("m", 60.0),
        ("h", 3600.0),
    ];
    let (sign, mut rest) = match text.strip_prefix(['-', '+']) {
        Some(rest) if text.starts_with('-') => (-1.0, rest),
        Some(rest) => (1.0, rest),
        None => (1.0, text),
    };
    if !rest.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    let is_number = |c: char| c.is_ascii_digit() || c == '.';
    if rest.chars().all(is_number) {
        return rest.parse::<f64>().ok().map(|seconds| sign * seconds);
    }
    let mut total = 0.0;
    while !rest.is_empty() {
        let (number, tail) = rest.split_at(rest.find(|c| !is_number(c))?);
        let (unit, tail) = tail.split_at(tail.find(is_number).unwrap_or(tail.len()));
        let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit)?;
        total += number.parse::<f64>().ok()? * scale;
        rest = tail;
    }
    Some(sign * total)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn keep_alive_is_seconds_or_a_duration() {
        let read = |value: Value| serde_json::from_value::<Stay>(value).map(KeepAlive::from);
        let lasts = |seconds: f64| KeepAlive::For(Duration::from_secs_f64(seconds));
        for (value, want) in [
            (json!(0), lasts(0.0)),
            (json!(300), lasts(300.0)),
            (json!(1.5), lasts(1.5)),
            (json!("0"), lasts(0.0)),
            (json!("5m"), lasts(300.0)),
            (json!("1h30m"), lasts(5400.0)),
            (json!("1.5h"), lasts(5400.0)),
            (json!("250ms"), lasts(0.25)),
            (json!("+2s"), lasts(2.0)),
            (json!(-1), KeepAlive::Forever),
            (json!("-1"), KeepAlive::Forever),
            (json!("-1m"), KeepAlive::Forever),
            (json!(1e300), KeepAlive::Forever),
        ] {
            assert_eq!(read(value.clone()).unwrap(), want, "{value}");
        }
        for value in [
            "", "m", "5x", "5m3", "--5m", "1.2.3s", ".", "-", "5 m", "NaN", "inf", "1e3s",
        ] {
            assert!(read(json!(value)).is_err(), "{value}");
        }
        assert!(read(json!(true)).is_err());
        assert!(read(json!({})).is_err());
    }
}
