//! `troika calc egress`.

use rust_decimal::Decimal;
use serde_json::json;
use troika_planner::tco::Tariff;

use super::{amount, dollars};
use crate::exit::WrongUse;
use crate::output::{self, Console};

/// Price of a month's data out of a cloud, by its tiers
#[derive(Debug, clap::Args)]
pub(super) struct EgressArgs {
    /// Data in the month, in GB
    #[arg(long, value_name = "GB", value_parser = amount)]
    gb: Decimal,
    /// Ends and prices of the tiers, in GB and USD for each GB, the last without an end: 10240:0.09,0.05
    #[arg(long, value_name = "TIERS")]
    tiers: Tariff,
    /// GB of the month that are free, from the first tiers
    #[arg(long, value_name = "GB", default_value = "0", value_parser = amount)]
    free: Decimal,
}

pub(super) fn run(args: &EgressArgs, console: &Console) -> anyhow::Result<()> {
    let tariff = args.tiers.clone().with_free(args.free);
    let tariff = tariff.map_err(|error| WrongUse(error.to_string()))?;
    let too_long = || anyhow::anyhow!("the result has more than 28 digits");
    let usd = tariff.usd(args.gb).ok_or_else(too_long)?;
    let parts = tariff.parts(args.gb);
    if console.json {
        let parts: Vec<_> = parts
            .iter()
            .map(|(gb, usd_gb)| json!({ "gb": number(*gb), "usd_gb": number(*usd_gb) }))
            .collect();
        return output::json(&json!({
            "gb": number(args.gb),
            "free_gb": number(tariff.free_gb().min(args.gb)),
            "parts": parts,
            "usd": number(usd),
        }));
    }
    let free = tariff.free_gb().min(args.gb);
    let mut text = format!("{}\n", dollars(usd));
    if !free.is_zero() {
        text.push_str(&format!("  {} GB free\n", free.normalize()));
    }
    for (gb, usd_gb) in parts {
        text.push_str(&format!(
            "  {} GB × {} USD = {} USD\n",
            gb.normalize(),
            usd_gb.normalize(),
            (gb * usd_gb).normalize()
        ));
    }
    output::answer(text)
}

/// The nearest number of JSON, which has no decimals.
fn number(value: Decimal) -> Option<f64> {
    use rust_decimal::prelude::ToPrimitive as _;
    value.to_f64()
}
