//! What a score is worth: quality over the share that is kept, and how well it tells good answers from bad ones.

use serde::Serialize;

use super::{Example, Pair, ratio};

/// A threshold on the way from keeping nothing to keeping all.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Point {
    /// The threshold.
    pub threshold: f64,
    /// The share of the examples that it keeps here.
    pub kept: f64,
    /// The cascade's quality over the remote's.
    pub quality: f64,
    /// What is missing in the answers that are kept, over those of the remote: the risk of selective prediction.
    pub risk: f64,
}

/// The risk-coverage curve: a point for each score that occurs, the surest first. Answers without a score are never kept.
pub fn curve(examples: &[Example]) -> Vec<Point> {
    let mut scored: Vec<(f64, &Example)> = examples
        .iter()
        .filter_map(|example| Some((example.score?, example)))
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    let n = examples.len() as f64;
    let remote: f64 = examples.iter().map(|e| e.remote).sum();
    let (mut kept, mut lost) = (0.0, 0.0);
    let mut points: Vec<Point> = Vec::new();
    for (threshold, example) in scored {
        kept += 1.0;
        lost += example.remote - example.local;
        let point = Point {
            threshold,
            kept: kept / n,
            quality: if remote > 0.0 {
                (remote - lost) / remote
            } else {
                1.0
            },
            risk: lost / kept,
        };
        match points.last_mut() {
            // The same score is kept with its likes or not at all.
            Some(last) if last.threshold == threshold => *last = point,
            _ => points.push(point),
        }
    }
    points
}

/// How often the better of two local answers has the higher score, over all pairs of unequal quality; a tie counts half. For
/// answers that are right or wrong this is the area under the ROC curve. 0.5 is chance; `None` if all are alike.
pub fn auroc(examples: &[Example]) -> Option<f64> {
    let mut ranked: Vec<(f64, f64)> = examples
        .iter()
        .map(|example| (example.score.unwrap_or(f64::NEG_INFINITY), example.local))
        .collect();
    ranked.sort_by(|a, b| a.1.total_cmp(&b.1));
    let (mut pairs, mut won) = (0.0, 0.0);
    for (i, &(score, quality)) in ranked.iter().enumerate() {
        for &(other_score, other_quality) in &ranked[..i] {
            if other_quality < quality {
                pairs += 1.0;
                won += match score.total_cmp(&other_score) {
                    std::cmp::Ordering::Greater => 1.0,
                    std::cmp::Ordering::Equal => 0.5,
                    std::cmp::Ordering::Less => 0.0,
                };
            }
        }
    }
    (pairs > 0.0).then(|| won / pairs)
}

/// The quality of the remote's answers themselves, by the references.
pub fn always_remote(examples: &[Example]) -> f64 {
    let sum: f64 = examples.iter().map(|e| e.remote).sum();
    sum / examples.len().max(1) as f64
}

/// The quality of keeping everything here, over the remote's.
pub fn always_local(examples: &[Example]) -> f64 {
    let pairs: Vec<Pair> = examples.iter().map(|e| e.pair(true)).collect();
    ratio(&pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(score: impl Into<Option<f64>>, local: f64) -> Example {
        Example {
            score: score.into(),
            local,
            remote: 1.0,
        }
    }

    #[test]
    fn equal_scores_are_one_point() {
        let examples = [
            example(0.9, 1.0),
            example(0.5, 1.0),
            example(0.5, 0.0),
            example(None, 1.0),
        ];
        let points = curve(&examples);
        assert_eq!(points.len(), 2);
        assert_eq!(
            (points[0].kept, points[0].quality, points[0].risk),
            (0.25, 1.0, 0.0)
        );
        assert_eq!((points[1].kept, points[1].quality), (0.75, 0.75));
        assert!((points[1].risk - 1.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn a_score_that_tells_nothing_is_at_a_half() {
        let sorted = [example(0.9, 1.0), example(0.8, 1.0), example(0.1, 0.0)];
        assert_eq!(auroc(&sorted), Some(1.0));
        let ties = [example(0.5, 1.0), example(0.5, 0.0)];
        assert_eq!(auroc(&ties), Some(0.5));
        assert_eq!(auroc(&[example(0.1, 1.0), example(0.9, 1.0)]), None);
        assert_eq!(auroc(&[example(None, 1.0), example(0.1, 0.0)]), Some(0.0));
    }
}
