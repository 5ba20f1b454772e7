//! Who is left, and in which order.
//!
//! A candidate that meets all wants still loses if another is at least as good in everything that counts and better in
//! something: model, money, speed, wait and watts. Those that are left differ in what they are good at, and `prefer`
//! puts them in order.

use std::cmp::Ordering;

use super::verdict::{Lost, Requirement, Verdict};
use super::workload::Prefer;

/// What a candidate is measured by; less is better in each.
fn measures(verdict: &Verdict) -> [f64; 5] {
    // What is not known counts as bad as can be: it can neither win nor be preferred by it.
    let worst = f64::INFINITY;
    [
        verdict.rank as f64,
        verdict.usd_month().map_or(worst, |usd| usd.value),
        verdict.tps().map_or(worst, |tps| -tps.value),
        verdict.ttft_s().map_or(worst, |s| s.value),
        verdict.watts().map_or(worst, |watts| watts.value),
    ]
}

/// Whether `a` is at least as good as `b` in everything, and better in something.
fn dominates(a: &[f64; 5], b: &[f64; 5]) -> bool {
    let no_worse = a.iter().zip(b).all(|(a, b)| a <= b);
    no_worse && a.iter().zip(b).any(|(a, b)| a < b)
}

/// Marks those that others are better than in everything, and puts all in order: the best first, losers last.
pub(super) fn rank(verdicts: &mut [Verdict], prefer: Prefer) {
    let standing: Vec<_> = verdicts.iter().map(measures).collect();
    let meets: Vec<bool> = verdicts.iter().map(|verdict| verdict.meets).collect();
    let alive = || (0..standing.len()).filter(|&i| meets[i]);
    let better: Vec<_> = (0..standing.len())
        .map(|b| {
            // The one to name is the one that the reader will find at the top.
            let winners = alive().filter(|&a| meets[b] && dominates(&standing[a], &standing[b]));
            winners.min_by(|&x, &y| by_preference(&standing[x], &standing[y], prefer))
        })
        .collect();
    for (b, a) in better.into_iter().enumerate() {
        if let Some(a) = a {
            let reason = compared(&verdicts[a], &verdicts[b]);
            verdicts[b].lost = Some(Lost {
                requirement: Requirement::Undominated,
                reason,
            });
        }
    }
    verdicts.sort_by(|a, b| {
        // Of losers, who came furthest stands first.
        let stage = |verdict: &Verdict| {
            verdict
                .lost
                .as_ref()
                .map(|lost| std::cmp::Reverse(lost.requirement))
        };
        let stages = stage(a).cmp(&stage(b));
        stages
            .then_with(|| by_preference(&measures(a), &measures(b), prefer))
            .then_with(|| a.name.cmp(&b.name))
    });
}

fn by_preference(a: &[f64; 5], b: &[f64; 5], prefer: Prefer) -> Ordering {
    let [model, money, speed, wait, watts] = [0, 1, 2, 3, 4];
    let order = match prefer {
        Prefer::Cost => [model, money, speed, wait, watts],
        Prefer::Speed => [model, speed, wait, money, watts],
        Prefer::Watts => [model, watts, money, speed, wait],
    };
    let compare = |&at: &usize| a[at].total_cmp(&b[at]);
    order
        .iter()
        .map(compare)
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal)
}

/// `nowhere better than NAME: 90 tok/s against 120, 15.00 USD a month against 12.00`.
fn compared(winner: &Verdict, loser: &Verdict) -> String {
    let mut parts = Vec::new();
    if winner.model != loser.model || winner.quantization != loser.quantization {
        parts.push(format!(
            "{} {} against {} {}",
            loser.model, loser.quantization, winner.model, winner.quantization
        ));
    }
    let mut pair = |a: Option<f64>, b: Option<f64>, unit: &str, decimals: usize| {
        if let (Some(a), Some(b)) = (a, b) {
            parts.push(format!("{b:.decimals$} {unit} against {a:.decimals$}"));
        }
    };
    let value = |estimate: Option<troika_base::Estimate>| estimate.map(|estimate| estimate.value);
    pair(value(winner.tps()), value(loser.tps()), "tok/s", 1);
    pair(
        value(winner.ttft_s()),
        value(loser.ttft_s()),
        "s to the first token",
        2,
    );
    pair(
        value(winner.usd_month()),
        value(loser.usd_month()),
        "USD a month",
        2,
    );
    pair(value(winner.watts()), value(loser.watts()), "W", 0);
    format!("nowhere better than {}: {}", winner.name, parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn to_dominate_is_to_be_better_in_something_and_worse_in_nothing() {
        let base = [0.0, 10.0, -50.0, 1.0, 100.0];
        assert!(!dominates(&base, &base));
        assert!(dominates(&[0.0, 9.0, -50.0, 1.0, 100.0], &base));
        assert!(!dominates(&[0.0, 9.0, -49.0, 1.0, 100.0], &base));
        let unknown = [0.0, f64::INFINITY, -90.0, 1.0, 100.0];
        assert!(!dominates(&unknown, &base) && !dominates(&base, &unknown));
    }

    #[test]
    fn preferences_differ() {
        let cheap = [0.0, 5.0, -10.0, 2.0, 200.0];
        let fast = [0.0, 50.0, -100.0, 0.5, 300.0];
        let frugal = [0.0, 20.0, -8.0, 3.0, 10.0];
        let first = |prefer| {
            let mut all = [("cheap", cheap), ("fast", fast), ("frugal", frugal)];
            all.sort_by(|(_, a), (_, b)| by_preference(a, b, prefer));
            all[0].0
        };
        assert_eq!(
            [Prefer::Cost, Prefer::Speed, Prefer::Watts].map(first),
            ["cheap", "fast", "frugal"]
        );
    }
}
