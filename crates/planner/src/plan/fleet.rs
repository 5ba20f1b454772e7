//! Many machines alike: what N devices cost, beside one place that serves them all.

use serde::Serialize;
use troika_base::Estimate;

use super::verdict::Verdict;
use super::workload::{Expenses, Workload};
use super::{Place, Plan, PlanError, Question, plan};

/// What a fleet is asked for.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Size {
    /// Devices.
    pub devices: u32,
    /// Share of them that ask at the same time, at most.
    pub at_once: f64,
}

/// A way to serve a fleet.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct FleetOption {
    /// The candidate.
    pub name: String,
    /// Whether every device has its own, or all share one place.
    pub is_central: bool,
    /// Machines.
    pub count: u32,
    /// The model and how it is stored.
    pub model: String,
    /// Answer tokens a second for one user.
    pub tps: Option<Estimate>,
    /// US dollars to spend before the first day.
    pub purchase_usd: Option<f64>,
    /// US dollars a month.
    pub usd_month: Option<Estimate>,
    /// Kilowatt-hours a month that the owner pays.
    pub kwh_month: Option<Estimate>,
}

/// What a fleet comes to.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Fleet {
    /// Devices.
    pub devices: u32,
    /// Users at once in one place.
    pub users_central: u32,
    /// The options: the cheapest first.
    pub options: Vec<FleetOption>,
    /// What a reader should know.
    pub notes: Vec<String>,
}

/// Options of each kind that are shown.
const EACH_MAX: usize = 5;

/// The fleet's options. The workload is that of one device; staff and training are the whole fleet's.
///
/// # Errors
/// As [`plan`].
pub fn fleet(question: &Question<'_>, size: Size) -> Result<Fleet, PlanError> {
    let n = f64::from(size.devices);
    let mut each = question.workload.clone();
    for whole in [
        &mut each.expenses.staff_hours_month,
        &mut each.expenses.training_usd,
    ] {
        *whole = whole.map(|whole| whole / n);
    }
    let own = plan(&Question {
        workload: &each,
        ..*question
    })?;
    let users_central = (n * size.at_once).ceil().max(1.0) as u32;
    let one = question.workload;
    let central = Workload {
        users: users_central.saturating_mul(one.users),
        requests_per_day: one.requests_per_day * n,
        budget_usd: one.budget_usd.map(|usd| usd * n),
        budget_usd_month: one.budget_usd_month.map(|usd| usd * n),
        expenses: Expenses {
            egress_gb_month: one.expenses.egress_gb_month.map(|gb| gb * n),
            ..one.expenses
        },
        ..one.clone()
    };
    let central = plan(&Question {
        workload: &central,
        // What one device is, a central place is not.
        here: None,
        ..*question
    });
    let mut notes = vec![format!(
        "in one place {users_central} of {} devices are served at once; budgets there are those of all devices together",
        size.devices
    )];
    let devices = own
        .winners()
        .filter(|verdict| matches!(verdict.place, Place::Buy | Place::Here));
    let mut options: Vec<_> = devices
        .take(EACH_MAX)
        .map(|verdict| option(verdict, size.devices, false))
        .collect();
    match &central {
        Ok(central) => {
            let shared = central
                .winners()
                .filter(|verdict| verdict.place != Place::Here);
            options.extend(
                shared
                    .take(EACH_MAX)
                    .map(|verdict| option(verdict, 1, true)),
            );
            notes.extend(nearest(central));
        }
        Err(why) => notes.push(format!("no central place was looked at: {why}")),
    }
    let usd = |option: &FleetOption| option.usd_month.map_or(f64::INFINITY, |usd| usd.value);
    options.sort_by(|a, b| usd(a).total_cmp(&usd(b)));
    Ok(Fleet {
        devices: size.devices,
        users_central,
        options,
        notes,
    })
}

/// Where no central place does it, why the nearest does not.
fn nearest(central: &Plan) -> Option<String> {
    if central.winners().next().is_some() {
        return None;
    }
    let (verdict, lost) = central.losers().next()?;
    Some(format!(
        "no single machine serves all: the nearest is {}, {}",
        verdict.name, lost.reason
    ))
}

fn option(verdict: &Verdict, count: u32, is_central: bool) -> FleetOption {
    let n = f64::from(count);
    let times = |estimate: Estimate| estimate.map(|value| value * n);
    FleetOption {
        name: verdict.name.clone(),
        is_central,
        count,
        model: format!("{} {}", verdict.model, verdict.quantization),
        tps: verdict.tps(),
        purchase_usd: match verdict.place {
            Place::Here => None,
            _ => verdict.purchase_usd().map(|usd| usd * n),
        },
        usd_month: verdict.usd_month().map(times),
        // None are billed where a rent includes them, or where watts are not known; that is not to say that none are used.
        kwh_month: verdict
            .bill
            .as_ref()
            .map(|bill| times(bill.kwh))
            .filter(|kwh| kwh.value > 0.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Form;
    use crate::plan::testing::{catalogue, thresholds, today};

    #[test]
    fn a_fleet_costs_as_often_as_it_has_devices() {
        let form: Form =
            toml::from_str("model = 'small-1b'\nrequests_per_day = 20.0").expect("parses");
        let workload = form.complete(&thresholds()).expect("makes sense");
        let catalogue = catalogue();
        let question = Question::new(&workload, &catalogue, today());
        let size = Size {
            devices: 50,
            at_once: 0.1,
        };
        let fleet = fleet(&question, size).expect("is a fleet");
        assert_eq!(fleet.users_central, 5);
        let one = plan(&question).expect("is a plan");
        let own = fleet
            .options
            .iter()
            .find(|option| !option.is_central)
            .expect("devices of their own");
        let verdict = one.find(&own.name).expect("is there");
        assert_eq!(
            own.purchase_usd,
            verdict.purchase_usd().map(|usd| usd * 50.0)
        );
        assert!(
            fleet.options.iter().any(|option| option.is_central),
            "{:#?}",
            fleet.notes
        );
    }
}
