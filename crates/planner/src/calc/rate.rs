//! Operations per second: from multipliers and clock, and from one way of quoting to another.

use serde::de::IntoDeserializer as _;
use serde::de::value::Error as WordError;
use serde::{Deserialize, Serialize};
use troika_base::NumberFormat;

/// 10¹² operations a second of so many multiply-accumulate units at a clock: `2 · MACs · Hz / 10¹²`, dense, in the format
/// that the units multiply.
pub fn tops(macs: u64, hz: f64) -> f64 {
    2.0 * macs as f64 * hz / 1e12
}

/// A clock with its unit: `1.95GHz`, `1950 MHz`, `1950000000`.
///
/// # Errors
/// If it is no positive number, its unit is none of Hz, kHz, MHz and GHz, or it has none and is too low to be meant in Hz.
pub fn parse_hz(text: &str) -> Result<f64, String> {
    let lower = text.trim().to_ascii_lowercase();
    let (number, factor) = [("ghz", 1e9), ("mhz", 1e6), ("khz", 1e3), ("hz", 1.0)]
        .into_iter()
        .find_map(|(unit, factor)| Some((lower.strip_suffix(unit)?, Some(factor))))
        .unwrap_or((&lower, None));
    let value: f64 = number
        .trim()
        .parse()
        .map_err(|_| format!("{text:?} is no clock; write it as 1.95GHz"))?;
    if !value.is_finite() || value <= 0.0 {
        return Err(format!("a clock is above zero, which {text:?} is not"));
    }
    match factor {
        Some(factor) => Ok(value * factor),
        None if value < 1e6 => Err(format!(
            "{text:?} is in Hz; did you mean {text}GHz or {text}MHz?"
        )),
        None => Ok(value),
    }
}

/// Whether a rate counts the multiplications with zeros that the hardware skips.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Density {
    /// Every operation is done.
    Dense,
    /// Half of the weights are zero, two in each four, and are counted as done.
    Sparse,
}

/// Why a rate cannot be told in another format.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "{} and {} are not comparable: {}. What can be converted is dense and sparse of one format",
    format_name(*.from), format_name(*.to), reason(*.from, *.to)
)]
pub struct Incomparable {
    /// What the rate is in.
    pub from: NumberFormat,
    /// What was asked for.
    pub to: NumberFormat,
}

/// A rate in another way of quoting it: the same number in the same format, twice it with 2:4 sparsity counted, half of it
/// without.
///
/// `TFLOPS` is what `TOPS` in a floating-point format are called; the number is the same.
///
/// # Errors
/// If the formats are unlike: how their rates relate is each chip's own.
pub fn convert(
    value: f64,
    from: (NumberFormat, Density),
    to: (NumberFormat, Density),
) -> Result<f64, Incomparable> {
    if from.0 != to.0 {
        return Err(Incomparable {
            from: from.0,
            to: to.0,
        });
    }
    Ok(match (from.1, to.1) {
        (Density::Dense, Density::Sparse) => value * 2.0,
        (Density::Sparse, Density::Dense) => value / 2.0,
        _ => value,
    })
}

fn reason(from: NumberFormat, to: NumberFormat) -> &'static str {
    match is_float(from) == is_float(to) {
        false => {
            "one counts operations on integers and the other on floating-point numbers, which different circuits do; \
             a chip may have both at any ratio, or one of them not at all"
        }
        true => {
            "their widths differ, and whether half the width is twice as fast, four times, or no faster is each chip's own"
        }
    }
}

fn is_float(format: NumberFormat) -> bool {
    use NumberFormat::{Binary, Int4, Int8};
    !matches!(format, Int8 | Int4 | Binary)
}

/// A number format by its name: `int8`, `FP16`.
///
/// # Errors
/// If there is none of this name; it names those that there are.
pub fn parse_format(text: &str) -> Result<NumberFormat, String> {
    let lower = text.trim().to_ascii_lowercase();
    let word: serde::de::value::StrDeserializer<'_, WordError> = lower.as_str().into_deserializer();
    NumberFormat::deserialize(word).map_err(|_| {
        format!("{text:?} is no number format; there are fp64 fp32 tf32 bf16 fp16 fp8 fp6 fp4 int8 int4 binary")
    })
}

/// The name of a number format, as in the catalogue.
pub fn format_name(format: NumberFormat) -> String {
    format!("{format:?}").to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// C082 of the checked claims: 12,288 MACs at 1.95 GHz are Lunar Lake's 48 TOPS.
    #[test]
    fn tops_of_known_npus() {
        for (macs, clock, want) in [
            (12_288, "1.95GHz", 47.9),
            (4_096, "1.4 GHz", 11.5),
            (1, "500MHz", 0.001),
        ] {
            let got = tops(macs, parse_hz(clock).expect("is a clock"));
            assert!((got - want).abs() < 0.05, "{got} is not {want}");
        }
    }

    #[test]
    fn clocks_have_units() {
        for text in [
            "1.95GHz",
            "1950 mhz",
            "1950000kHz",
            "1950000000",
            "1.95e9Hz",
        ] {
            let hz = parse_hz(text).unwrap_or_else(|error| panic!("{error}"));
            assert!((hz - 1.95e9).abs() < 1.0, "{text}");
        }
        for text in [
            "1.95", "", "GHz", "-1GHz", "0", "nanGHz", "infGHz", "1 THz", "2,4GHz",
        ] {
            assert!(parse_hz(text).is_err(), "{text}");
        }
    }

    #[test]
    fn only_like_is_compared_with_like() {
        use Density::{Dense, Sparse};
        use NumberFormat::{Fp8, Fp16, Int8};
        assert_eq!(convert(48.0, (Int8, Dense), (Int8, Sparse)), Ok(96.0));
        assert_eq!(convert(330.3, (Fp16, Sparse), (Fp16, Dense)), Ok(165.15));
        assert_eq!(convert(5.0, (Fp8, Dense), (Fp8, Dense)), Ok(5.0));
        let error = convert(48.0, (Int8, Dense), (Fp16, Dense)).expect_err("are unlike");
        assert!(
            error
                .to_string()
                .starts_with("int8 and fp16 are not comparable: one counts")
        );
        let error = convert(48.0, (Fp8, Dense), (Fp16, Dense)).expect_err("are unlike");
        assert!(error.to_string().contains("their widths differ"));
    }

    #[test]
    fn formats_are_found_by_name() {
        for name in [
            "fp64", "fp32", "tf32", "bf16", "fp16", "fp8", "fp6", "fp4", "int8", "int4", "binary",
        ] {
            assert_eq!(parse_format(name).map(format_name).as_deref(), Ok(name));
        }
        assert!(parse_format("int3").is_err());
    }
}
