//! From a model's scores to labels.

use serde::Serialize;
use troika_device_npu::exec::{Data, Tensor};

use super::Error;
use crate::card::Activation;

/// A class, and how sure the model is of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Label {
    /// Its name; its number if it has none.
    pub label: String,
    /// Its number among the model's classes, from 0.
    pub index: usize,
    /// 0 to 1 if the model's card makes a probability of it.
    pub score: f32,
}

/// The numbers of an output, whatever their type.
pub(super) fn numbers(output: &str, tensor: Tensor) -> Result<Vec<f32>, Error> {
    match tensor.data {
        Data::F32(values) => Ok(values),
        Data::I64(values) => Ok(values.into_iter().map(|value| value as f32).collect()),
        Data::I32(values) => Ok(values.into_iter().map(|value| value as f32).collect()),
        Data::U8(values) => Ok(values.into_iter().map(f32::from).collect()),
        Data::Bool(_) => Err(Error::Output {
            output: output.to_owned(),
            reason: "is of truth values, and numbers are expected".to_owned(),
        }),
    }
}

/// Applies what the card says to the scores of one thing.
pub(super) fn activate(activation: Activation, scores: &mut [f32]) {
    match activation {
        Activation::None => {}
        Activation::Sigmoid => scores.iter_mut().for_each(|score| *score = sigmoid(*score)),
        Activation::Exp => scores.iter_mut().for_each(|score| *score = score.exp()),
        Activation::Softmax => {
            let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let mut sum = 0.0;
            for score in scores.iter_mut() {
                *score = (*score - max).exp();
                sum += *score;
            }
            scores.iter_mut().for_each(|score| *score /= sum);
        }
    }
}

pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// The name of a class.
pub(super) fn name(labels: &[String], index: usize) -> String {
    labels
        .get(index)
        .cloned()
        .unwrap_or_else(|| index.to_string())
}

/// Every class, the likeliest first. Of equal scores the first.
pub(super) fn ranked(
    output: &str,
    mut scores: Vec<f32>,
    activation: Activation,
    labels: &[String],
) -> Result<Vec<Label>, Error> {
    let wrong = |reason: String| Error::Output {
        output: output.to_owned(),
        reason,
    };
    if scores.is_empty() || (!labels.is_empty() && labels.len() != scores.len()) {
        return Err(wrong(format!(
            "has {} scores, and the card {} labels",
            scores.len(),
            labels.len()
        )));
    }
    activate(activation, &mut scores);
    if let Some(score) = scores.iter().find(|score| !score.is_finite()) {
        return Err(wrong(format!(
            "has a score of {score}; check the card's `scale`, `mean` and `std`"
        )));
    }
    let mut ranked: Vec<_> = scores
        .into_iter()
        .enumerate()
        .map(|(index, score)| Label {
            label: name(labels, index),
            index,
            score,
        })
        .collect();
    ranked.sort_by(|a, b| b.score.total_cmp(&a.score));
    Ok(ranked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_become_probabilities() {
        for (activation, want) in [
            (Activation::None, [1.0, -1.0, 3.0]),
            (
                Activation::Sigmoid,
                [0.731_058_6, 0.268_941_43, 0.952_574_1],
            ),
            (
                Activation::Softmax,
                [0.117_310_43, 0.015_876_24, 0.866_813_3],
            ),
            (Activation::Exp, [2.718_281_7, 0.367_879_44, 20.085_537]),
        ] {
            let mut scores = [1.0, -1.0, 3.0];
            activate(activation, &mut scores);
            for (have, want) in scores.iter().zip(want) {
                assert!((have - want).abs() < 1e-5, "{activation:?}: {scores:?}");
            }
        }
        // Large numbers do not overflow.
        let mut large = [1000.0, 0.0, 1000.0];
        activate(Activation::Softmax, &mut large);
        assert_eq!(large, [0.5, 0.0, 0.5]);
    }

    #[test]
    fn the_likeliest_comes_first_and_nonsense_is_told() {
        let labels = ["a", "b", "c"].map(str::to_owned);
        let ranked = |scores: &[f32]| ranked("out", scores.to_vec(), Activation::None, &labels);
        let names: Vec<_> = ranked(&[0.2, 0.5, 0.5])
            .expect("is fine")
            .into_iter()
            .map(|label| (label.label, label.index))
            .collect();
        assert_eq!(
            names,
            [("b", 1), ("c", 2), ("a", 0)].map(|(n, i)| (n.to_owned(), i))
        );
        for (scores, says) in [
            (&[0.5, 0.5][..], "2 scores, and the card 3 labels"),
            (&[], "has 0 scores"),
            (&[f32::NAN, 0.0, 0.0], "NaN"),
            (&[f32::INFINITY, 0.0, 0.0], "inf"),
        ] {
            let error = ranked(scores).expect_err("is refused").to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
