//! Maxima, exponentials and their sums over a vocabulary.
//!
//! The exponential is written out rather than the platform's, so that every machine draws from the same weights; and
//! so that it runs on many logits at once.

use troika_base::TokenId;

use super::rank;
use super::{SampleError, rank::Candidate};

/// Logits that a loop takes at once: enough for the widest registers there are.
const LANES: usize = 16;

/// The largest logit.
///
/// # Errors
/// [`SampleError::BadLogit`] on NaN or plus infinity, [`SampleError::NoCandidate`] if all are minus infinity.
pub(super) fn checked_max(logits: &[f32]) -> Result<f32, SampleError> {
    let is_bad = |logit: f32| logit.is_nan() || logit == f32::INFINITY;
    // Without a way out, so that many are looked at together.
    let any_bad = logits.iter().fold(false, |bad, &logit| bad | is_bad(logit));
    if any_bad && let Some(at) = logits.iter().position(|&logit| is_bad(logit)) {
        return Err(SampleError::BadLogit {
            token: TokenId(at as u32),
            logit: logits[at],
        });
    }
    match max(logits) {
        f32::NEG_INFINITY => Err(SampleError::NoCandidate),
        max => Ok(max),
    }
}

/// The largest logit; none may be NaN.
pub(super) fn max(logits: &[f32]) -> f32 {
    let (chunks, rest) = logits.as_chunks::<LANES>();
    let mut best = [f32::NEG_INFINITY; LANES];
    for chunk in chunks {
        for (best, &logit) in best.iter_mut().zip(chunk) {
            *best = if logit > *best { logit } else { *best };
        }
    }
    best.iter()
        .chain(rest)
        .copied()
        .fold(f32::NEG_INFINITY, f32::max)
}

/// `e^x` for `x <= 0`, within 2e-7 relative; 0 below -87, where f32 ends.
pub(super) fn exp(x: f32) -> f32 {
    // x = k ln 2 + r, with k whole and |r| <= ln 2 / 2. Adding and subtracting 1.5 * 2^23 rounds to whole numbers;
    // ln 2 is in two parts, the first with so few bits that k times it is exact.
    const ROUND: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 0.693_145_75;
    const LN2_LOW: f32 = 1.428_606_8e-6;
    let clamped = if x > -87.0 { x } else { -87.0 };
    let rounded = clamped * std::f32::consts::LOG2_E + ROUND;
    let k = rounded - ROUND;
    let r = clamped - k * LN2_HIGH - k * LN2_LOW;
    let series = [
        1.0 / 5040.0,
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        0.5,
        1.0,
        1.0,
    ];
    let power = series.into_iter().fold(0.0, |sum, factor| sum * r + factor);
    // k stands in the low bits of `rounded`; moved to the exponent it is 2^k.
    let scale = f32::from_bits((rounded.to_bits() << 23).wrapping_add(1.0f32.to_bits()));
    if x > -87.0 { power * scale } else { 0.0 }
}

/// The natural logarithm of a finite number above 0, within 1e-12: the platform's would not be the same on every machine.
pub(super) fn ln(x: f64) -> f64 {
    // x = m 2^k with m around 1; ln m is a series in (m - 1) / (m + 1), which is 0.172 at most.
    const MANTISSA: u64 = (1 << 52) - 1;
    let above = f64::from_bits(x.to_bits() & MANTISSA | 1f64.to_bits());
    let (m, up) = if above > std::f64::consts::SQRT_2 {
        (above / 2.0, 1)
    } else {
        (above, 0)
    };
    let k = (x.to_bits() >> 52) as i32 - 1023 + up;
    let s = (m - 1.0) / (m + 1.0);
    let series = (0..8)
        .rev()
        .fold(0.0, |sum, i| sum * s * s + 1.0 / f64::from(2 * i + 1));
    f64::from(k) * std::f64::consts::LN_2 + 2.0 * s * series
}

/// The sum of `e^(logit - max)`.
pub(super) fn sum_exp(logits: &[f32], max: f32) -> f64 {
    // Short runs in f32, summed up in f64: exact enough for any vocabulary, and always in the same order.
    const RUN: usize = 64 * LANES;
    let run_sum = |run: &[f32]| {
        let (chunks, rest) = run.as_chunks::<LANES>();
        let mut sums = [0.0f32; LANES];
        for chunk in chunks {
            for (sum, &logit) in sums.iter_mut().zip(chunk) {
                *sum += exp(logit - max);
            }
        }
        let rest = rest.iter().map(|&logit| exp(logit - max));
        sums.into_iter().chain(rest).map(f64::from).sum::<f64>()
    };
    logits.chunks(RUN).map(run_sum).sum()
}

/// The logarithm of the sum of `e^logit`, given the largest logit.
pub(super) fn log_sum_exp(logits: &[f32], max: f32) -> f32 {
    max + sum_exp(logits, max).ln() as f32
}

/// The `n` likeliest tokens with the logarithms of their probabilities, likeliest first: of the softmax of the logits
/// as they come. Fewer if fewer are possible.
///
/// # Errors
/// [`SampleError::BadLogit`] on NaN or plus infinity, [`SampleError::NoCandidate`] if all are minus infinity.
pub fn top_logprobs(logits: &[f32], n: usize) -> Result<Vec<(TokenId, f32)>, SampleError> {
    let max = checked_max(logits)?;
    let total = log_sum_exp(logits, max);
    let mut candidates = Vec::new();
    let best = rank::best(logits, n, &mut candidates).iter();
    Ok(best
        .map(|&Candidate { token, logit }| (token, logit - total))
        .collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn exp_is_close_over_its_whole_range() {
        let mut worst: f64 = 0.0;
        for step in 0..=870_000 {
            let x = step as f32 * -1e-4;
            if x <= -87.0 {
                continue;
            }
            let exact = f64::from(x).exp();
            worst = worst.max((f64::from(exp(x)) - exact).abs() / exact);
        }
        assert!(worst < 2e-7, "{worst:e}");
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-87.0), 0.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
    }

    #[test]
    fn ln_is_close_over_its_whole_range() {
        for step in -4000..4000 {
            let x = (f64::from(step) * 0.01).exp();
            assert!((ln(x) - x.ln()).abs() < 1e-12, "{x}");
        }
        assert_eq!(ln(1.0), 0.0);
    }

    /// The bits are the same on every machine: these are from x86-64.
    #[test]
    fn exp_has_the_same_bits_everywhere() {
        let bits: Vec<_> = [-0.1f32, -1.0, -10.5, -80.25]
            .map(|x| exp(x).to_bits())
            .to_vec();
        assert_eq!(bits, EXP_BITS);
    }
    const EXP_BITS: [u32; 4] = [1_063_756_653, 1_052_531_378, 937_885_203, 93_681_819];

    proptest! {
        #[test]
        fn sums_are_those_of_f64(logits in prop::collection::vec(-50f32..50.0, 1..3000)) {
            let max = checked_max(&logits).expect("finite");
            let exact: f64 = logits.iter().map(|&logit| (f64::from(logit) - f64::from(max)).exp()).sum();
            prop_assert!((sum_exp(&logits, max) - exact).abs() < 1e-6 * exact);
        }

        #[test]
        fn best_logprobs_first(logits in prop::collection::vec(-20i8..20, 1..200), n in 0usize..20) {
            // Whole numbers, so that many are equal.
            let logits: Vec<_> = logits.into_iter().map(f32::from).collect();
            let total = logits.iter().map(|&logit| f64::from(logit).exp()).sum::<f64>().ln();
            let mut expect: Vec<_> = logits.iter().enumerate().map(|(id, &logit)| (logit, id)).collect();
            expect.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            expect.truncate(n);
            let top = top_logprobs(&logits, n).expect("finite");
            prop_assert_eq!(top.len(), expect.len());
            for ((token, logprob), (logit, id)) in top.into_iter().zip(expect) {
                prop_assert_eq!(token.index(), id);
                prop_assert!((f64::from(logprob) - (f64::from(logit) - total)).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn broken_logits_are_errors() {
        for (logits, error) in [
            (vec![0.0, f32::NAN, 1.0], "token 1"),
            (vec![0.0, 1.0, f32::INFINITY], "token 2"),
            (vec![f32::NEG_INFINITY; 3], "ruled out"),
            (vec![], "ruled out"),
        ] {
            let message = top_logprobs(&logits, 2).expect_err(error).to_string();
            assert!(message.contains(error), "{message}");
        }
        let top = top_logprobs(&[f32::NEG_INFINITY, 3.0], 5);
        assert_eq!(top, Ok(vec![(TokenId(1), 0.0)]));
    }
}
