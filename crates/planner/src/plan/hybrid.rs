//! Buy and rent: own hardware for what is always there, rented hardware for the peaks.
//!
//! Outside the peak, half of the users come. A machine that serves those as well as is wanted, but not all of them at once, is
//! joined with the cheapest rented one that serves the others; that is paid for in the hours of the peak alone.

use super::candidate::Place;
use super::field::Field;
use super::judge::{self, Court};
use super::money::{self, Side};
use super::pick::{self, Pick};
use super::verdict::{Requirement, Verdict};
use super::workload::{Privacy, Workload};
use crate::plan::workload::Acquire;

/// Owned machines that are tried with a rented one.
const OWNED_MAX: usize = 3;

/// The hybrids that meet all wants. There are none where one machine suffices for one user, or nothing may be rented.
pub(super) fn hybrids(
    field: &Field<'_>,
    picks: &[Pick],
    judged: &[(Verdict, Option<Side>)],
    court: &Court<'_>,
) -> Vec<(Verdict, Option<Side>)> {
    let workload = court.workload;
    let alone = workload.users < 2
        || workload.acquire != Acquire::Any
        || workload.privacy == Privacy::LocalOnly;
    if alone {
        return Vec::new();
    }
    let base_users = workload.users.div_ceil(2);
    let peak_users = workload.users - base_users;
    let base = part(workload, base_users);
    let peak = part(workload, peak_users);
    let Some((rented, rent)) = cheapest_rent(judged, &peak) else {
        return Vec::new();
    };
    let too_slow = |verdict: &Verdict| {
        let stage = verdict.lost.as_ref().map(|lost| lost.requirement);
        matches!(stage, Some(Requirement::Speed | Requirement::Capacity))
    };
    let mut owned: Vec<_> = field
        .candidates
        .iter()
        .zip(judged)
        .filter(|(candidate, (verdict, _))| candidate.place != Place::Rent && too_slow(verdict))
        .filter_map(|(candidate, _)| {
            let rig = &field.rigs[candidate.rig];
            let before = &picks[candidate.rig];
            let pick = Pick {
                outcome: pick::forecast(
                    rig,
                    &court.models[before.model],
                    &court.quantizations[before.quantization],
                    &base.work(base_users),
                    &base,
                ),
                ..before.clone()
            };
            let (verdict, side) = judge::judge(candidate, rig, &pick, &with(court, &base));
            verdict.meets.then_some((verdict, side?))
        })
        .collect();
    owned.sort_by(|(a, _), (b, _)| cost(a).total_cmp(&cost(b)));
    owned.truncate(OWNED_MAX);
    owned
        .into_iter()
        .map(|owned| join(owned, (&rented, &rent), peak_users, workload))
        .collect()
}

/// The same workload for some of its users, with their part of the requests.
fn part(workload: &Workload, users: u32) -> Workload {
    let share = f64::from(users) / f64::from(workload.users);
    Workload {
        users,
        requests_per_day: workload.requests_per_day * share,
        ..workload.clone()
    }
}

fn with<'a>(court: &Court<'a>, workload: &'a Workload) -> Court<'a> {
    Court { workload, ..*court }
}

fn cost(verdict: &Verdict) -> f64 {
    verdict.usd_month().map_or(f64::INFINITY, |usd| usd.value)
}

/// The cheapest rented one, with what it costs for the hours of the peak.
///
/// Only those that serve all users are looked at, since they serve some of them too.
fn cheapest_rent(judged: &[(Verdict, Option<Side>)], peak: &Workload) -> Option<(Verdict, Side)> {
    let able = judged
        .iter()
        .filter(|(verdict, _)| verdict.place == Place::Rent && verdict.meets);
    let (verdict, side) = able.min_by(|(a, _), (b, _)| cost(a).total_cmp(&cost(b)))?;
    // The whole peak's requests come within its hours; the rented node is switched off in the others.
    let side = side.as_ref()?.part(
        peak.requests_per_day * peak.peak_hours / peak.hours_per_day,
        peak.peak_hours,
    );
    Some((verdict.clone(), side))
}

fn join(
    (owned, side): (Verdict, Side),
    (rented, rent): (&Verdict, &Side),
    peak_users: u32,
    workload: &Workload,
) -> (Verdict, Option<Side>) {
    let rent_bill = rent.bill();
    let bill = owned
        .bill
        .as_ref()
        .map(|bill| money::together(bill, &rent_bill, workload));
    let mut risks = owned.risks.clone();
    risks.extend(
        rented
            .risks
            .iter()
            .filter(|risk| !owned.risks.contains(risk))
            .cloned(),
    );
    let mut verdict = Verdict {
        name: format!(
            "{} + {} for {peak_users} users at the peak",
            owned.name, rented.name
        ),
        place: Place::BuyAndRent,
        lost: None,
        bill,
        risks,
        ..owned
    };
    verdict.lost = judge::affordable(&verdict, workload).err();
    verdict.meets = verdict.lost.is_none();
    (verdict, Some(side.with_rent(rent_bill.total)))
}
