//! `troika calc`: calculators that people know, exact.

mod egress;
mod memory;
mod power;
mod rate;

use std::fmt::Display;
use std::str::FromStr;

use clap::Subcommand;
use rust_decimal::{Decimal, RoundingStrategy};

use crate::output::Console;

const EXAMPLES: &str = "\
Examples:
  troika calc tops --macs 12288 --clock 1.95GHz
  troika calc tops-to-tflops 330.3 --format fp16 --sparse --to fp16
  troika calc memory llama-3.1-8b --quant Q4_K_M --ctx 8192
  troika calc power --watts 700 --hours 24 --days 30 --price 0.15
  troika calc egress --gb 5000 --free 100 --tiers 10240:0.09,51200:0.085,0.07";

/// Calculate rates, memory, power and the price of data out, exactly
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CalcArgs {
    #[command(subcommand)]
    command: CalcCommand,
}

#[derive(Debug, Subcommand)]
enum CalcCommand {
    Tops(rate::TopsArgs),
    TopsToTflops(rate::ConvertArgs),
    Memory(memory::MemoryArgs),
    Power(power::PowerArgs),
    Egress(egress::EgressArgs),
}

pub(crate) fn run(args: &CalcArgs, console: &Console) -> anyhow::Result<()> {
    match &args.command {
        CalcCommand::Tops(args) => rate::tops(args, console),
        CalcCommand::TopsToTflops(args) => rate::convert(args, console),
        CalcCommand::Memory(args) => memory::run(args, console),
        CalcCommand::Power(args) => power::run(args, console),
        CalcCommand::Egress(args) => egress::run(args, console),
    }
}

/// Parses an amount that is exact and not negative.
fn amount(text: &str) -> Result<Decimal, String> {
    let value = Decimal::from_str_exact(text).map_err(|_| {
        format!(
            "{text:?} is not a number of 28 digits at most; write it without an exponent, with a point for decimals"
        )
    })?;
    match value.is_sign_negative() && !value.is_zero() {
        true => Err("it cannot be below zero".to_owned()),
        false => Ok(value),
    }
}

/// Parses an amount above zero and no more than some maximum.
fn amount_up_to(text: &str, max: u32) -> Result<Decimal, String> {
    let value = amount(text)?;
    match !value.is_zero() && value <= Decimal::from(max) {
        true => Ok(value),
        false => Err(format!("expected a number above 0, up to {max}")),
    }
}

/// Parses a positive number, with K, M, B or T for its thousands.
fn count(text: &str) -> Result<f64, String> {
    let wrong =
        || format!("{text:?} is not a number above zero and below 1e16, such as 8.03B or 12288");
    let trimmed = text.trim();
    let (number, exponent) = match trimmed.char_indices().last() {
        Some((at, 'k' | 'K')) => (&trimmed[..at], "e3"),
        Some((at, 'm' | 'M')) => (&trimmed[..at], "e6"),
        Some((at, 'b' | 'B' | 'g' | 'G')) => (&trimmed[..at], "e9"),
        Some((at, 't' | 'T')) => (&trimmed[..at], "e12"),
        _ => (trimmed, ""),
    };
    // As one number, since 8.03 · 10⁹ in floating point is not 8030000000.
    let number = format!("{}{exponent}", number.trim());
    let value = f64::from_str(&number).map_err(|_| wrong())?;
    match value > 0.0 && value < 1e16 {
        true => Ok(value),
        false => Err(wrong()),
    }
}

/// Dollars and cents; fractions of a cent are rounded to the nearest.
fn dollars(usd: Decimal) -> impl Display {
    let cents = usd.round_dp_with_strategy(2, RoundingStrategy::MidpointAwayFromZero);
    format!("{cents:.2} USD")
}

/// Exact where it ends within three decimals.
fn short(value: Decimal) -> Decimal {
    value
        .round_dp_with_strategy(3, RoundingStrategy::MidpointAwayFromZero)
        .normalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_and_counts_are_checked() {
        for text in ["-1", "nan", "1e9999", "", "1,5", "0x10"] {
            assert!(amount(text).is_err(), "{text}");
        }
        assert_eq!(
            amount("0.085").map(|value| value.to_string()).as_deref(),
            Ok("0.085")
        );
        assert!(amount_up_to("0", 24).is_err() && amount_up_to("25", 24).is_err());
        for (text, want) in [
            ("8.03B", 8.03e9),
            ("12288", 12288.0),
            ("135M", 135e6),
            ("1 T", 1e12),
        ] {
            assert_eq!(count(text), Ok(want), "{text}");
        }
        for text in ["0", "-8B", "B", "", "infB", "nan", "8é"] {
            assert!(count(text).is_err(), "{text}");
        }
    }

    #[test]
    fn money_is_rounded_to_cents() {
        for (text, want) in [
            ("0.005", "0.01 USD"),
            ("912.6", "912.60 USD"),
            ("0", "0.00 USD"),
        ] {
            assert_eq!(dollars(amount(text).expect("is one")).to_string(), want);
        }
    }
}
