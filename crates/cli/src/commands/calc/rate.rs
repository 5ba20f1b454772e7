//! `troika calc tops` and `tops-to-tflops`.

use serde_json::json;
use troika_base::NumberFormat;
use troika_planner::calc::{self, Density, format_name, parse_format, parse_hz};

use super::count;
use crate::exit::WrongUse;
use crate::output::{self, Console};

/// Peak operations per second of so many multiply-accumulate units at a clock
#[derive(Debug, clap::Args)]
#[command(allow_negative_numbers = true)]
pub(super) struct TopsArgs {
    /// Multiply-accumulate units that work at once
    #[arg(long, value_name = "N", value_parser = whole)]
    macs: u64,
    /// Their clock: 1.95GHz, 850MHz
    #[arg(long, value_name = "HZ", value_parser = parse_hz)]
    clock: f64,
}

fn whole(text: &str) -> Result<u64, String> {
    let value = count(text)?;
    match value.fract() == 0.0 && value < 9e15 {
        true => Ok(value as u64),
        false => Err(format!("{text:?} is no whole number of units")),
    }
}

pub(super) fn tops(args: &TopsArgs, console: &Console) -> anyhow::Result<()> {
    let tops = calc::tops(args.macs, args.clock);
    if console.json {
        return output::json(&json!({ "macs": args.macs, "clock_hz": args.clock, "tops": tops }));
    }
    output::answer(format_args!(
        "{tops:.1} TOPS\n2 × {} × {} GHz / 1000; dense, in the format that the units multiply\n",
        args.macs,
        args.clock / 1e9
    ))
}

/// Tell a rate in another way of quoting it, where that can be done
///
/// Dense and sparse rates of one format can be converted. Those of unlike formats cannot: how they relate is each chip's own,
/// and `troika catalogue show CHIP` has both.
#[derive(Debug, clap::Args)]
#[command(allow_negative_numbers = true)]
pub(super) struct ConvertArgs {
    /// The rate, in TOPS or TFLOPS
    #[arg(value_name = "RATE", value_parser = count)]
    rate: f64,
    /// The format that it is for: int8, int4, fp16, bf16, fp8, fp4, ...
    #[arg(long, value_name = "FORMAT", value_parser = parse_format)]
    format: Option<NumberFormat>,
    /// It counts the zeros of 2:4 sparsity
    #[arg(long)]
    sparse: bool,
    /// The format to tell it in
    #[arg(long, value_name = "FORMAT", value_parser = parse_format)]
    to: NumberFormat,
    /// Tell the sparse rate, not the dense one
    #[arg(long)]
    to_sparse: bool,
}

pub(super) fn convert(args: &ConvertArgs, console: &Console) -> anyhow::Result<()> {
    let Some(from) = args.format else {
        return Err(WrongUse(format!(
            "{} of what? Vendors quote int8, int4 and fp4, dense and sparse, all as TOPS; say --format, and --sparse if it is",
            args.rate
        ))
        .into());
    };
    let density = |is_sparse| match is_sparse {
        true => Density::Sparse,
        false => Density::Dense,
    };
    let (dense_from, dense_to) = (density(args.sparse), density(args.to_sparse));
    let rate = calc::convert(args.rate, (from, dense_from), (args.to, dense_to))
        .map_err(|error| WrongUse(error.to_string()))?;
    if console.json {
        return output::json(&json!({
            "from": { "rate": args.rate, "format": from, "density": dense_from },
            "to": { "rate": rate, "format": args.to, "density": dense_to },
        }));
    }
    let word = |density| match density {
        Density::Dense => "dense",
        Density::Sparse => "sparse",
    };
    let unit = match args.to {
        NumberFormat::Int8 | NumberFormat::Int4 | NumberFormat::Binary => "TOPS",
        _ => "TFLOPS",
    };
    let name = format_name(args.to);
    output::answer(format_args!(
        "{rate} {unit} {name} {}\nfrom {} {}; 2:4 sparsity counts every operation twice\n",
        word(dense_to),
        args.rate,
        word(dense_from)
    ))
}
