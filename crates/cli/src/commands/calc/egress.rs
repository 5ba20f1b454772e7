//! `troika calc egress`.

use anyhow::bail;
use rust_decimal::Decimal;
use serde_json::json;
use troika_planner::catalogue::{Catalogue, Destination, Source};
use troika_planner::tco::Tariff;

use super::{amount, dollars};
use crate::exit::WrongUse;
use crate::home::Home;
use crate::output::{self, Console};

/// Price of a month's data out of a cloud, by its tiers
#[derive(Debug, clap::Args)]
#[command(allow_negative_numbers = true)]
pub(super) struct EgressArgs {
    /// Data in the month, in GB
    #[arg(long, value_name = "GB", value_parser = amount)]
    gb: Decimal,
    /// Whose cloud, by its name in the catalogue: aws, gcp, ...
    #[arg(long, value_name = "NAME", conflicts_with_all = ["tiers", "free"], required_unless_present = "tiers")]
    provider: Option<String>,
    /// Where the data goes
    #[arg(long, value_enum, default_value = "internet", conflicts_with = "tiers")]
    to: DestinationArg,
    /// Ends and prices of the tiers, in GB and USD for each GB, the last without an end: 10240:0.09,0.05
    #[arg(long, value_name = "TIERS")]
    tiers: Option<Tariff>,
    /// GB of the month that are free, from the first tiers
    #[arg(long, value_name = "GB", default_value = "0", value_parser = amount)]
    free: Decimal,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum DestinationArg {
    /// Out of the cloud
    Internet,
    /// To another region of it
    Region,
    /// To another zone of the region
    Zone,
}

impl From<DestinationArg> for Destination {
    fn from(to: DestinationArg) -> Self {
        match to {
            DestinationArg::Internet => Self::Internet,
            DestinationArg::Region => Self::Region,
            DestinationArg::Zone => Self::Zone,
        }
    }
}

impl EgressArgs {
    /// The tariff, and where it is from if it is not the user's own.
    fn tariff(&self) -> anyhow::Result<(Tariff, Option<Source>)> {
        if let Some(tiers) = &self.tiers {
            let tariff = tiers.clone().with_free(self.free);
            return Ok((tariff.map_err(|error| WrongUse(error.to_string()))?, None));
        }
        let provider = self.provider.as_deref().unwrap_or_default().to_lowercase();
        let home = Home::from_env()?;
        let catalogue = Catalogue::with_user_rows(&home.path().join("catalogue"))?;
        let to = Destination::from(self.to);
        let Some(row) = catalogue.egress_of(&provider, to) else {
            let rows = catalogue.egress().iter();
            let mut known: Vec<_> = rows
                .filter(|row| row.destination == to)
                .map(|row| &*row.provider)
                .collect();
            known.sort_unstable();
            known.dedup();
            let known = match known.is_empty() {
                true => "no such prices".to_owned(),
                false => format!("those of {}", known.join(", ")),
            };
            let to = match to {
                Destination::Internet => "to the internet",
                Destination::Region => "to another region",
                Destination::Zone => "to another zone",
            };
            bail!(
                "what data out of {provider:?} {to} costs is not known; the catalogue has {known}. \
                 Give your own with --tiers"
            );
        };
        Ok((Tariff::try_from(row)?, Some(row.source.clone())))
    }
}

pub(super) fn run(args: &EgressArgs, console: &Console) -> anyhow::Result<()> {
    let (tariff, source) = args.tariff()?;
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
            "source": source,
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
    if let Some(source) = source {
        text.push_str(&format!("as of {}, {}\n", source.date, source.url));
    }
    output::answer(text)
}

/// The nearest number of JSON, which has no decimals.
fn number(value: Decimal) -> Option<f64> {
    use rust_decimal::prelude::ToPrimitive as _;
    value.to_f64()
}
