//! What a candidate costs a month: from its price, its watts and its rent to the bill of `tco`.

use troika_base::Estimate;

use super::candidate::{Candidate, Place};
use super::judge::Court;
use super::workload::{Expenses, Workload};
use crate::catalogue::{Billing, Catalogue, Country};
use crate::cost::Forecast;
use crate::tco::{
    self, Bill, BillingUnit, Costs, DAYS_PER_MONTH, Egress, Once, Power, Purchase, Rent, Staff,
    Tariff, Use,
};

/// Share of the work that is lost when a provider takes a node back, and is done again.
const SPOT_REDONE: f64 = 0.05;

/// One side of a bill: what it costs, for which use.
#[derive(Clone, Debug)]
pub(super) struct Side {
    pub(super) costs: Costs,
    pub(super) usage: Use,
}

impl Side {
    /// A candidate's costs; `None` where neither a price nor a rent of it is known.
    pub(super) fn of(
        candidate: &Candidate<'_>,
        forecast: &Forecast,
        court: &Court<'_>,
    ) -> Option<Self> {
        let Court {
            workload, country, ..
        } = *court;
        let expenses = &workload.expenses;
        let mut costs = Costs::free(candidate.name.clone());
        match candidate.place {
            Place::Here => {}
            Place::Rent => {
                costs.rent = Some(rent(candidate)?);
                costs
                    .egress
                    .extend(egress(candidate, expenses, court.catalogue));
            }
            Place::Buy | Place::BuyAndRent => {
                let outlay = candidate.outlay.as_ref()?;
                costs.purchase = Some(Purchase {
                    usd: Estimate {
                        value: outlay.usd,
                        low: outlay.low_usd,
                        high: outlay.high_usd,
                    },
                    lifetime_months: workload.lifetime_months,
                    residual: workload.residual,
                    source: format!("prices of {} and later", outlay.oldest),
                });
            }
        }
        if candidate.place != Place::Rent {
            let host_w = candidate
                .outlay
                .as_ref()
                .and_then(|outlay| outlay.host_idle_w);
            let overhead = expenses.pue.unwrap_or(1.0) - 1.0;
            costs.power = power(forecast, host_w.unwrap_or(0.0), overhead, country);
            costs.staff = expenses.staff_usd_hour.map(|usd_hour| Staff {
                hours_month: expenses.staff_hours_month.unwrap_or(0.0),
                hours_month_each: 0.0,
                usd_hour,
            });
        }
        costs.once.extend(expenses.training_usd.map(|usd| Once {
            name: "training".to_owned(),
            usd: Estimate::exact(usd),
            serves_months: expenses.training_months.unwrap_or(f64::INFINITY),
        }));
        let usage = usage(
            forecast,
            workload,
            workload.requests_per_day,
            workload.hours_per_day,
        );
        Some(Self { costs, usage })
    }

    /// The same for a part of the requests, in a part of the day.
    ///
    /// Data out goes with the requests. The training is paid for once, by whoever the part belongs to.
    pub(super) fn part(&self, requests_per_day: f64, hours_per_day: f64) -> Self {
        let share = requests_per_day / self.usage.requests_per_day;
        let mut costs = self.costs.clone();
        costs.once.clear();
        for egress in &mut costs.egress {
            egress.gb_month = egress.gb_month.map(|gb| gb * share);
        }
        Self {
            costs,
            usage: Use {
                requests_per_day,
                hours_per_day,
                ..self.usage.clone()
            },
        }
    }

    /// When this one has cost no more than another.
    pub(super) fn break_even(&self, other: &Self) -> tco::BreakEven {
        tco::break_even(&self.costs, &self.usage, &other.costs, &other.usage)
    }

    /// What would make another one the cheaper one of the two, or the dearer.
    pub(super) fn sensitivity(&self, other: &Self) -> Vec<tco::Flip> {
        tco::sensitivity(&self.costs, &self.usage, &other.costs, &other.usage)
    }

    /// The same as one that also pays so much rent a month.
    pub(super) fn with_rent(&self, month: Estimate) -> Self {
        // As a rent by the second, for each hour of this side's own use.
        let hours = self.usage.hours_per_day * self.usage.days_per_month;
        let mut with = self.clone();
        with.costs.rent = Some(Rent {
            node_usd_hour: month.map(|usd| usd / hours),
            unit: BillingUnit::Second,
            minimum_s: 0.0,
            redone: 0.0,
            source: "rented for the peaks".to_owned(),
        });
        with
    }

    /// The bill of a month.
    pub(super) fn bill(&self) -> Bill {
        tco::monthly(&self.costs, &self.usage)
    }
}

/// The work of a day, as seconds of the machine.
///
/// Requests side by side share the machine, so each takes its tokens over the speed of all together.
pub(super) fn usage(
    forecast: &Forecast,
    workload: &Workload,
    requests_per_day: f64,
    hours_per_day: f64,
) -> Use {
    let seconds = |tokens: u32, tps: Estimate| tps.map_inverse(|tps| f64::from(tokens) / tps);
    // Where no rate is known, reading is left out, and the verdict says so.
    let prefill_s = forecast
        .prefill_tps
        .map(|tps| seconds(workload.prompt_tokens, tps));
    let writes = workload.task.writes();
    Use {
        requests_per_day,
        prompt_tokens: f64::from(workload.prompt_tokens),
        answer_tokens: if writes {
            f64::from(workload.gen_tokens)
        } else {
            0.0
        },
        prefill_s: prefill_s.unwrap_or(Estimate::exact(0.0)),
        decode_s: match writes {
            true => seconds(workload.gen_tokens, forecast.decode_tps_all),
            false => Estimate::exact(0.0),
        },
        hours_per_day,
        starts_per_day: 1.0,
        days_per_month: DAYS_PER_MONTH,
    }
}

fn rent(candidate: &Candidate<'_>) -> Option<Rent> {
    let offer = candidate.offer?;
    let usd = match candidate.is_spot {
        true => offer.spot_usd_hour?,
        false => offer.node_usd_hour,
    };
    Some(Rent {
        node_usd_hour: Estimate::exact(usd),
        unit: match offer.billing {
            Billing::Second => BillingUnit::Second,
            Billing::Minute => BillingUnit::Minute,
            Billing::Hour => BillingUnit::Hour,
            Billing::Month => BillingUnit::Month,
        },
        minimum_s: offer.minimum_s.unwrap_or(0.0),
        redone: if candidate.is_spot { SPOT_REDONE } else { 0.0 },
        source: format!("{}, {}", offer.provider, offer.source.date),
    })
}

/// Data that leaves a rented node's cloud; `None` where none does, or no price of it is known, which is a risk of its own.
fn egress(candidate: &Candidate<'_>, expenses: &Expenses, catalogue: &Catalogue) -> Option<Egress> {
    let gb_month = expenses.egress_gb_month?;
    let offer = candidate.offer?;
    let row = catalogue.egress_of(&offer.provider, expenses.egress_to.unwrap_or_default())?;
    Some(Egress {
        destination: format!("{:?}", row.destination).to_lowercase(),
        tariff: Tariff::try_from(row).ok()?,
        gb_month: Estimate::exact(gb_month),
        source: format!("{}, {}", row.provider, row.source.date),
    })
}

/// Watts by phase, with those of what stands around the devices; `None` where no watts are known.
fn power(forecast: &Forecast, host_w: f64, overhead: f64, country: &Country) -> Option<Power> {
    let with_host = |watts: Estimate| watts.map(|watts| watts + host_w);
    let decode = forecast.watts_decode?;
    Some(Power {
        idle_w: with_host(forecast.watts_idle.unwrap_or(Estimate::exact(0.0))),
        prefill_w: with_host(forecast.watts_prefill.unwrap_or(decode)),
        decode_w: with_host(decode),
        overhead,
        usd_kwh: Estimate::exact(country.usd_kwh),
        source: format!(
            "forecast; electricity of {}, {}",
            country.name, country.source.date
        ),
    })
}

/// Both bills in one, with the cost of a million tokens of their work together.
pub(super) fn together(a: &Bill, b: &Bill, workload: &Workload) -> Bill {
    let total = a.total.plus(b.total);
    let per_million = |tokens: u32| {
        let millions = f64::from(tokens) * workload.requests_per_day * DAYS_PER_MONTH / 1e6;
        total.map(|usd| usd / millions)
    };
    Bill {
        capital: a.capital.plus(b.capital),
        electricity: a.electricity.plus(b.electricity),
        rent: a.rent.plus(b.rent),
        egress: a.egress.plus(b.egress),
        staff: a.staff.plus(b.staff),
        total,
        kwh: a.kwh.plus(b.kwh),
        per_million_tokens: Some(per_million(
            workload.prompt_tokens.saturating_add(workload.gen_tokens),
        )),
        per_million_answer_tokens: workload
            .task
            .writes()
            .then(|| per_million(workload.gen_tokens)),
        lines: a.lines.iter().chain(&b.lines).cloned().collect(),
    }
}
