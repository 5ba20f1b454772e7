//! How values are written: `5m`, `8MiB`, `a,b`. What is printed can be read back.

use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error};
use serde::{Serialize, Serializer};

use crate::job::KeepAlive;

/// A number or a text, as TOML, variables and flags bring them.
#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Scalar {
    Integer(i64),
    Float(f64),
    Text(String),
}

/// A list, or one text with commas.
#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Listed {
    List(Vec<String>),
    Text(String),
}

/// Addresses; `localhost` is one of them.
pub(super) mod host {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    pub(crate) fn serialize<S: Serializer>(host: &IpAddr, to: S) -> Result<S::Ok, S::Error> {
        host.serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<IpAddr, D::Error> {
        let text = String::deserialize(from)?;
        if text == "localhost" {
            return Ok(Ipv4Addr::LOCALHOST.into());
        }
        text.parse().map_err(|_| {
            D::Error::custom(format!(
                "{text:?} is no address; write 127.0.0.1 for this machine alone, 0.0.0.0 for the network"
            ))
        })
    }
}

/// Times: seconds, or a number with `ms`, `s`, `m`, `h` or `d`.
pub(super) mod duration {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
        time_text(*time).serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let scalar = Scalar::deserialize(from)?;
        time(&scalar).ok_or_else(|| D::Error::custom("expected a time such as 30s, 5m or 1h"))
    }
}

/// A number, or `auto`, which is none.
pub(super) mod count_or_auto {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(
        count: &Option<usize>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match count {
            Some(count) => count.serialize(to),
            None => "auto".serialize(to),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<usize>, D::Error> {
        let count = match Scalar::deserialize(from)? {
            Scalar::Text(text) if text == "auto" => return Ok(None),
            Scalar::Integer(count) => usize::try_from(count).ok(),
            Scalar::Text(text) => text.parse().ok(),
            Scalar::Float(_) => None,
        };
        let refuse = || D::Error::custom("expected a number, or `auto`");
        count.map(Some).ok_or_else(refuse)
    }
}

/// Times, or `forever`, which may also be written as a negative number.
pub(super) mod keep_alive {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(keep: &KeepAlive, to: S) -> Result<S::Ok, S::Error> {
        match keep {
            KeepAlive::For(time) => time_text(*time).serialize(to),
            KeepAlive::Forever => "forever".serialize(to),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<KeepAlive, D::Error> {
        let scalar = Scalar::deserialize(from)?;
        match &scalar {
            Scalar::Integer(..0) => Ok(KeepAlive::Forever),
            Scalar::Text(text) if text == "forever" => Ok(KeepAlive::Forever),
            scalar => time(scalar)
                .map(KeepAlive::For)
                .ok_or_else(|| D::Error::custom("expected a time such as 5m, or `forever`")),
        }
    }
}

/// Sizes: bytes, or a number with `KiB`, `MiB`, `GiB` (or `KB`, `MB`, `GB`, by thousands).
pub(super) mod bytes {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(bytes: &u64, to: S) -> Result<S::Ok, S::Error> {
        size_text(*bytes).serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        let scalar = Scalar::deserialize(from)?;
        size(&scalar).ok_or_else(|| D::Error::custom("expected a size such as 8MiB or 24GiB"))
    }
}

/// Sizes that may be absent.
pub(super) mod bytes_option {
    use super::*;

    #[expect(clippy::ref_option, reason = "serde's signature")]
    pub(crate) fn serialize<S: Serializer>(bytes: &Option<u64>, to: S) -> Result<S::Ok, S::Error> {
        bytes.map(size_text).serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
        let Some(scalar) = Option::<Scalar>::deserialize(from)? else {
            return Ok(None);
        };
        let wrong = || D::Error::custom("expected a size such as 8MiB or 24GiB");
        size(&scalar).map(Some).ok_or_else(wrong)
    }
}

/// Numbers greater than 0 that may be absent.
pub(super) mod positive_option {
    use super::*;

    #[expect(clippy::ref_option, reason = "serde's signature")]
    pub(crate) fn serialize<S: Serializer>(number: &Option<f64>, to: S) -> Result<S::Ok, S::Error> {
        number.serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<f64>, D::Error> {
        let Some(scalar) = Option::<Scalar>::deserialize(from)? else {
            return Ok(None);
        };
        let number = match &scalar {
            Scalar::Integer(number) => Some(*number as f64),
            Scalar::Float(number) => Some(*number),
            Scalar::Text(text) => text.parse().ok(),
        };
        let number = number.filter(|number| number.is_finite() && *number > 0.0);
        let wrong = || D::Error::custom("expected a number greater than 0");
        number.map(Some).ok_or_else(wrong)
    }
}

/// Lists, which variables and flags separate by commas.
pub(super) mod list {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(list: &[String], to: S) -> Result<S::Ok, S::Error> {
        list.serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
        Ok(match Listed::deserialize(from)? {
            Listed::List(list) => list,
            Listed::Text(text) => text
                .split(',')
                .map(|item| item.trim().to_owned())
                .filter(|item| !item.is_empty())
                .collect(),
        })
    }
}

/// Splits `1.5GiB` into the number and its unit.
fn split(text: &str) -> Option<(f64, &str)> {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    Some((text[..end].parse().ok()?, text[end..].trim()))
}

fn time(scalar: &Scalar) -> Option<Duration> {
    let seconds = match scalar {
        Scalar::Integer(seconds) => *seconds as f64,
        Scalar::Float(seconds) => *seconds,
        Scalar::Text(text) => {
            let (number, unit) = split(text)?;
            let seconds = match unit {
                "ms" => 0.001,
                "" | "s" => 1.0,
                "m" | "min" => 60.0,
                "h" => 3600.0,
                "d" => 86400.0,
                _ => return None,
            };
            number * seconds
        }
    };
    // A century is longer than any timeout, and far from what clocks cannot add.
    let century = 100.0 * 365.25 * 86400.0;
    (0.0..=century)
        .contains(&seconds)
        .then(|| Duration::from_secs_f64(seconds))
}

fn time_text(time: Duration) -> String {
    let millis = time.as_millis();
    match millis {
        0 => "0s".to_owned(),
        _ if !millis.is_multiple_of(1000) => format!("{millis}ms"),
        _ if millis.is_multiple_of(3_600_000) => format!("{}h", millis / 3_600_000),
        _ if millis.is_multiple_of(60_000) => format!("{}m", millis / 60_000),
        _ => format!("{}s", millis / 1000),
    }
}

fn size(scalar: &Scalar) -> Option<u64> {
    let bytes = match scalar {
        Scalar::Integer(bytes) => return u64::try_from(*bytes).ok(),
        Scalar::Float(bytes) => *bytes,
        Scalar::Text(text) => {
            let (number, unit) = split(text)?;
            let bytes = match &*unit.to_ascii_lowercase() {
                "" | "b" => 1.0,
                "kb" => 1e3,
                "mb" => 1e6,
                "gb" => 1e9,
                "tb" => 1e12,
                "kib" | "k" => 1024.0,
                "mib" | "m" => 1024f64.powi(2),
                "gib" | "g" => 1024f64.powi(3),
                "tib" | "t" => 1024f64.powi(4),
                _ => return None,
            };
            number * bytes
        }
    };
    (0.0..=1e18).contains(&bytes).then_some(bytes as u64)
}

fn size_text(bytes: u64) -> String {
    let units = [(1u64 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units
        .iter()
        .find(|(size, _)| bytes > 0 && bytes.is_multiple_of(*size))
    {
        Some((size, unit)) => format!("{}{unit}", bytes / size),
        None => bytes.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_written() {
        for (text, millis) in [
            ("250ms", Some(250)),
            ("1.5s", Some(1500)),
            ("5m", Some(300_000)),
            ("30", Some(30_000)),
            ("0", Some(0)),
            ("2d", Some(172_800_000)),
            ("", None),
            ("m", None),
            ("-5s", None),
            ("5 parsecs", None),
            ("999999999999d", None),
            ("1.2.3s", None),
        ] {
            let read = time(&Scalar::Text(text.to_owned()));
            assert_eq!(read.map(|time| time.as_millis()), millis, "{text:?}");
            if let Some(read) = read {
                assert_eq!(time(&Scalar::Text(time_text(read))), Some(read));
            }
        }
        assert_eq!(time(&Scalar::Float(f64::NAN)), None);
    }

    #[test]
    fn sizes_are_read_and_written() {
        for (text, want) in [
            ("8MiB", Some(8 << 20)),
            ("1.5 GiB", Some(3 << 29)),
            ("2GB", Some(2_000_000_000)),
            ("17", Some(17)),
            ("1e3", None),
            ("lots", None),
            ("999999999TiB", None),
        ] {
            assert_eq!(size(&Scalar::Text(text.to_owned())), want, "{text:?}");
            if let Some(want) = want {
                assert_eq!(size(&Scalar::Text(size_text(want))), Some(want));
            }
        }
    }
}
