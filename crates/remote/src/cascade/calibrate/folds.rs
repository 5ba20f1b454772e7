//! Examples split into folds: what is said of a threshold is said by those that it was not found on.

use super::{Aim, Example, HeldOut, Pair, interval, share_interval, threshold};

/// Folds of many examples, and of few.
const FOLDS: usize = 10;
const FOLDS_OF_FEW: usize = 5;
const FEW: usize = 50;

/// Finds a threshold on all folds but one and tries it on that one, for each.
pub(super) fn held_out(examples: &[Example], aim: Aim, confidence: f64) -> HeldOut {
    let folds = if examples.len() < FEW {
        FOLDS_OF_FEW
    } else {
        FOLDS
    };
    let mut is_kept = vec![false; examples.len()];
    let mut without = 0;
    for fold in 0..folds {
        let others = examples.iter().enumerate();
        let others = others.filter(|(i, _)| fold_of(*i, folds) != fold);
        let others: Vec<Example> = others.map(|(_, example)| *example).collect();
        let Some(threshold) = threshold(&others, aim) else {
            without += 1;
            continue;
        };
        for (i, example) in examples.iter().enumerate() {
            if fold_of(i, folds) == fold {
                is_kept[i] = example.is_kept(threshold);
            }
        }
    }
    let pairs = examples.iter().zip(&is_kept);
    let pairs: Vec<Pair> = pairs.map(|(e, &kept)| e.pair(kept)).collect();
    let kept = is_kept.iter().filter(|kept| **kept).count();
    HeldOut {
        folds,
        without,
        kept: share_interval(kept, examples.len(), confidence),
        quality: interval(&pairs, confidence),
        is_kept,
    }
}

/// The fold of an example: mixed, for files are often in an order that means something, and the same each time.
fn fold_of(i: usize, folds: usize) -> usize {
    // SplitMix64, whose output is even over its bits.
    let mut z = (i as u64)
        .wrapping_add(1)
        .wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) % folds as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folds_are_about_equal() {
        let mut sizes = [0; FOLDS];
        for i in 0..1000 {
            sizes[fold_of(i, FOLDS)] += 1;
        }
        assert!(
            sizes.iter().all(|size| (70..130).contains(size)),
            "{sizes:?}"
        );
    }
}
