//! The choice that costs least within a budget: one option for each item.

/// An option of an item.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Choice {
    /// What it takes of the budget.
    pub(crate) bytes: u64,
    /// What it costs.
    pub(crate) error: f64,
}

/// Parts that a budget is counted in. An item takes up to one part more than its bytes, so that of `n` items at most
/// `n / PARTS` of the budget is left over before it is filled up.
const PARTS: u64 = 1 << 16;

/// Which option of each item, so that the sum of errors is least while the sum of bytes stays within `budget`; `None` if
/// even the smallest options go beyond it. Every item has an option.
///
/// Dynamic programming over the budget: after each item, the least error for every number of parts that was spent. A
/// Lagrangian would be quicker and misses budgets between the corners of the convex hull, which are far apart where few
/// tensors hold most weights.
pub(crate) fn solve(items: &[Vec<Choice>], budget: u64) -> Option<Vec<usize>> {
    let smallest = |item: &Vec<Choice>| item.iter().map(|choice| choice.bytes).min();
    let least: u64 = items.iter().filter_map(smallest).sum();
    let spare = budget.checked_sub(least)?;
    // Only what goes beyond the smallest options is counted, in parts of what is left for it.
    let part = spare.div_ceil(PARTS).max(1);
    let n_part = (spare / part) as usize;
    let mut best = vec![0.0; n_part + 1];
    let mut chosen = Vec::with_capacity(items.len());
    for item in items {
        let base = smallest(item)?;
        let mut next = vec![f64::INFINITY; n_part + 1];
        let mut choices = vec![0u8; n_part + 1];
        for (index, choice) in item.iter().enumerate() {
            let parts = (choice.bytes - base).div_ceil(part) as usize;
            for spent in parts..=n_part {
                let error = best[spent - parts] + choice.error;
                if error < next[spent] {
                    next[spent] = error;
                    choices[spent] = index as u8;
                }
            }
        }
        best = next;
        chosen.push(choices);
    }
    let mut spent = n_part;
    let mut picks = vec![0; items.len()];
    for (item, pick) in (0..items.len()).zip(&mut picks).rev() {
        *pick = usize::from(chosen[item][spent]);
        let base = smallest(&items[item])?;
        spent -= (items[item][*pick].bytes - base).div_ceil(part) as usize;
    }
    fill(items, budget, &mut picks);
    Some(picks)
}

/// Spends what rounding to parts has left over: the step that saves most error for its bytes, again and again.
fn fill(items: &[Vec<Choice>], budget: u64, picks: &mut [usize]) {
    loop {
        let spent: u64 = items
            .iter()
            .zip(&*picks)
            .map(|(item, &pick)| item[pick].bytes)
            .sum();
        let left = budget - spent;
        let mut best: Option<(f64, usize, usize)> = None;
        for (i, item) in items.iter().enumerate() {
            let now = item[picks[i]];
            for (option, choice) in item.iter().enumerate() {
                let more = choice.bytes.saturating_sub(now.bytes);
                if choice.error < now.error && more <= left {
                    let gain = (now.error - choice.error) / more.max(1) as f64;
                    if best.is_none_or(|(most, ..)| gain > most) {
                        best = Some((gain, i, option));
                    }
                }
            }
        }
        match best {
            Some((_, item, option)) => picks[item] = option,
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every combination.
    fn by_force(items: &[Vec<Choice>], budget: u64) -> f64 {
        match items {
            [] => 0.0,
            [item, rest @ ..] => item
                .iter()
                .filter(|choice| choice.bytes <= budget)
                .map(|choice| choice.error + by_force(rest, budget - choice.bytes))
                .fold(f64::INFINITY, f64::min),
        }
    }

    fn items(seed: u64) -> Vec<Vec<Choice>> {
        let mut state = seed;
        let mut next = move || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            state >> 40
        };
        let item = |next: &mut dyn FnMut() -> u64| {
            let choice = |_| Choice {
                bytes: 1 + next() % 500,
                error: (next() % 1000) as f64,
            };
            (0..4).map(choice).collect()
        };
        (0..6).map(|_| item(&mut next)).collect()
    }

    #[test]
    fn nothing_better_is_found_by_force() {
        for seed in 0..40 {
            let items = items(seed);
            for budget in [400, 900, 1500, 4000] {
                let want = by_force(&items, budget);
                match solve(&items, budget) {
                    None => assert!(want.is_infinite(), "{seed} {budget}"),
                    Some(picks) => {
                        let picked = items.iter().zip(&picks).map(|(item, &pick)| item[pick]);
                        let bytes: u64 = picked.clone().map(|choice| choice.bytes).sum();
                        let error: f64 = picked.map(|choice| choice.error).sum();
                        assert!(bytes <= budget, "{seed}: {bytes} of {budget}");
                        assert_eq!(error, want, "{seed} {budget}");
                    }
                }
            }
        }
    }
}
