//! What several answers are made of: times, sizes, names, a model's details.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::job::{LoadedModel, ModelInfo, TokenLogprob};

/// When a model is unloaded that stays for ever: late, and within every client's calendar.
const NEVER: &str = "2999-12-31T00:00:00Z";

/// What JSON can say in place of minus infinity.
const LOGPROB_MIN: f32 = -9999.0;

/// Now, as clients read it.
pub(super) fn now() -> String {
    Timestamp::now().to_string()
}

/// A time as clients read it.
pub(super) fn time(time: SystemTime) -> String {
    Timestamp::try_from(time).map_or_else(|_| NEVER.to_owned(), |time| time.to_string())
}

/// When a model will be unloaded.
pub(super) fn expires(model: &LoadedModel) -> String {
    model.expires.map_or_else(|| NEVER.to_owned(), time)
}

/// Nanoseconds, which all of this interface's durations are.
pub(super) fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A name with its tag: clients cut it off again.
pub(super) fn tagged(name: &str) -> String {
    if name.contains(':') {
        return name.to_owned();
    }
    format!("{name}:latest")
}

/// What lists say of a model.
pub(super) fn details(info: &ModelInfo, parent: &str) -> Value {
    json!({
        "parent_model": parent,
        "format": "gguf",
        "family": info.architecture,
        "families": [info.architecture],
        "parameter_size": parameter_size(info.n_parameter),
        "quantization_level": info.quantization,
    })
}

/// `1.2B`, `260K`.
fn parameter_size(n: u64) -> String {
    for (unit, name, digits) in [(1e9, "B", 1), (1e6, "M", 2), (1e3, "K", 0)] {
        let scaled = n as f64 / unit;
        if scaled >= 1.0 {
            let digits = if scaled.fract() == 0.0 { 0 } else { digits };
            return format!("{scaled:.digits$}{name}");
        }
    }
    n.to_string()
}

/// Tokens with their log-probabilities.
pub(super) fn logprobs(tokens: &[TokenLogprob]) -> Value {
    let with_top = |token: &TokenLogprob| {
        let mut value = logprob(token);
        value["top_logprobs"] = token.top.iter().map(logprob).collect();
        value
    };
    tokens.iter().map(with_top).collect()
}

fn logprob(token: &TokenLogprob) -> Value {
    json!({
        "token": token.text(),
        "logprob": short(token.logprob.max(LOGPROB_MIN)),
        "bytes": token.bytes,
    })
}

/// The number in as few digits as tell it from its neighbours in single precision.
fn short(x: f32) -> f64 {
    x.to_string().parse().unwrap_or(f64::from(x))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_names_are_written_as_clients_know_them() {
        for (n, want) in [
            (0, "0"),
            (999, "999"),
            (260_000, "260K"),
            (7_340_000, "7.34M"),
            (135_000_000, "135M"),
            (1_235_814_432, "1.2B"),
            (8_000_000_000, "8B"),
        ] {
            assert_eq!(parameter_size(n), want);
        }
        assert_eq!(tagged("tiny"), "tiny:latest");
        assert_eq!(tagged("acme/tiny:v1"), "acme/tiny:v1");
    }

    #[test]
    fn times_have_nanoseconds_and_a_zone() {
        let at = SystemTime::UNIX_EPOCH + Duration::new(1_700_000_000, 5);
        assert_eq!(time(at), "2023-11-14T22:13:20.000000005Z");
    }
}
