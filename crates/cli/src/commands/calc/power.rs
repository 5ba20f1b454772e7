//! `troika calc power`.

use rust_decimal::Decimal;
use serde_json::json;
use troika_planner::calc::PowerUse;

use super::{amount, amount_up_to, dollars, short};
use crate::output::{self, Console};

/// Kilowatt-hours, money, and hours on a battery
#[derive(Debug, clap::Args)]
#[command(allow_negative_numbers = true)]
pub(super) struct PowerArgs {
    /// What it draws, in watts
    #[arg(long, value_name = "W", value_parser = amount)]
    watts: Decimal,
    /// Hours a day
    #[arg(long, value_name = "H", default_value = "24", value_parser = |text: &str| amount_up_to(text, 24))]
    hours: Decimal,
    /// Days a month [default: a twelfth of 365]
    #[arg(long, value_name = "N", value_parser = |text: &str| amount_up_to(text, 31))]
    days: Option<Decimal>,
    /// Price of a kilowatt-hour, in USD
    #[arg(long, value_name = "USD", value_parser = amount)]
    price: Option<Decimal>,
    /// What the battery holds, in watt-hours
    #[arg(long, value_name = "WH", value_parser = amount)]
    battery: Option<Decimal>,
}

pub(super) fn run(args: &PowerArgs, console: &Console) -> anyhow::Result<()> {
    let usage = PowerUse {
        watts: args.watts,
        hours_per_day: args.hours,
        days_per_month: args.days,
        usd_kwh: args.price,
        battery_wh: args.battery,
    };
    let cost = usage.cost()?;
    if console.json {
        return output::json(&json!(cost));
    }
    let (day, month, year) = (cost.kwh_day, cost.kwh_month, cost.kwh_year);
    let mut text = format!(
        "{} kWh a day, {} kWh a month, {} kWh a year\n",
        short(day),
        short(month),
        short(year)
    );
    if let (Some(month), Some(year)) = (cost.usd_month, cost.usd_year) {
        text.push_str(&format!(
            "{} a month, {} a year\n",
            dollars(month),
            dollars(year)
        ));
    }
    if let Some(hours) = cost.battery_hours {
        text.push_str(&format!(
            "{} hours on the battery, until it is empty\n",
            short(hours)
        ));
    }
    output::answer(text)
}
