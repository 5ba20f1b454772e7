//! Four-bit integers: which scale loses least.

use half::f16;

/// What a code goes up to; it goes down to -8.
const CODE_MAX: f32 = 7.0;

/// Where the search begins: the largest weight's code if the scale were exact. Below -8.5 it is clipped, which often
/// serves the many small ones.
const CODES: [f32; 10] = [-6.0, -6.5, -7.0, -7.5, -8.0, -8.75, -9.5, -10.5, 7.0, 8.0];

/// Writes the codes, -8 to 7, of weights that share a scale, and returns the scale: one that an f16 holds, and of those
/// that were tried the one with the least squared error. NaN if a weight is no number or too large for an f16.
///
/// The scale is mostly such that the largest weight has the code for which there is room, -8, and so it may be negative.
/// OpenVINO's and ONNX Runtime's own quantizers do the same.
pub(in crate::lower) fn quantize(weights: &[f32], codes: &mut [i8]) -> f32 {
    let (least, most) = weights.iter().fold((0f32, 0f32), |(least, most), w| {
        (least.min(*w), most.max(*w))
    });
    // `min` and `max` pass NaN over.
    let sum: f32 = weights.iter().map(|w| w * 0.0).sum();
    if sum != 0.0 || most.max(-least) > f32::from(f16::MAX) {
        return f32::NAN;
    }
    let largest = if -least >= most { least } else { most };
    let mut best = (f32::INFINITY, 0.0);
    let keep = |best: (f32, f32), tried: &Attempt, scale| match tried.error < best.0 {
        true => (tried.error, scale),
        false => best,
    };
    for code in CODES {
        let Some(scale) = representable(largest / code) else {
            continue;
        };
        let tried = attempt(weights, scale);
        best = keep(best, &tried, scale);
        // The scale that suits these codes best.
        if let Some(fitted) = representable(tried.product / tried.square) {
            best = keep(best, &attempt(weights, fitted), fitted);
        }
    }
    let scale = best.1;
    let inverse = if scale == 0.0 { 0.0 } else { scale.recip() };
    for (code, weight) in codes.iter_mut().zip(weights) {
        *code = nearest(weight * inverse) as i8;
    }
    scale
}

/// As an f16, if it is more than nothing there.
fn representable(scale: f32) -> Option<f32> {
    let scale = f16::from_f32(scale).to_f32();
    (scale.is_finite() && scale != 0.0 && scale.recip().is_finite()).then_some(scale)
}

struct Attempt {
    /// Sum of squared differences.
    error: f32,
    /// Sum of weight times code.
    product: f32,
    /// Sum of squared codes.
    square: f32,
}

fn attempt(weights: &[f32], scale: f32) -> Attempt {
    /// Independent sums, so that they are made side by side.
    const LANES: usize = 16;
    let inverse = scale.recip();
    let (mut error, mut product, mut square) = ([0f32; LANES], [0f32; LANES], [0f32; LANES]);
    let mut add = |lane: usize, weight: f32| {
        let code = nearest(weight * inverse);
        let off = weight - code * scale;
        error[lane] += off * off;
        product[lane] += weight * code;
        square[lane] += code * code;
    };
    let (whole, rest) = weights.as_chunks::<LANES>();
    for chunk in whole {
        for (lane, weight) in chunk.iter().enumerate() {
            add(lane, *weight);
        }
    }
    for (lane, weight) in rest.iter().enumerate() {
        add(lane, *weight);
    }
    Attempt {
        error: error.iter().sum(),
        product: product.iter().sum(),
        square: square.iter().sum(),
    }
}

/// The nearest code. Adding and taking away 1.5 · 2²³ rounds, without a call that stands in the way of SIMD.
fn nearest(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0;
    (x.clamp(-CODE_MAX - 1.0, CODE_MAX) + ROUND) - ROUND
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(weights: &[f32], codes: &[i8], scale: f32) -> f32 {
        let off = |(w, c): (&f32, &i8)| (w - f32::from(*c) * scale).powi(2);
        weights.iter().zip(codes).map(off).sum()
    }

    /// Bell-shaped, as weights are.
    fn weights(n: usize) -> Vec<f32> {
        let uneven = |i: usize| ((i * 2_654_435_761) % 1000) as f32 / 1000.0 - 0.5;
        (0..n)
            .map(|i| (0..6).map(|k| uneven(i * 6 + k)).sum::<f32>() * 0.02)
            .collect()
    }

    #[test]
    fn the_scale_loses_less_than_the_largest_weights() {
        let weights = weights(4096);
        for n in [64, 128, 512] {
            let (mut ours, mut plain) = (0.0, [0.0; 2]);
            for group in weights.chunks(n) {
                let mut codes = vec![0; group.len()];
                let scale = quantize(group, &mut codes);
                assert_eq!(f16::from_f32(scale).to_f32(), scale);
                assert!(codes.iter().all(|code| (-8..=7).contains(code)));
                let have = error(group, &codes, scale);
                let largest = group.iter().fold(0f32, |most, w| most.max(w.abs()));
                for (plain, divisor) in plain.iter_mut().zip([7.0, 8.0]) {
                    let scale = representable(largest / divisor).unwrap();
                    let codes: Vec<i8> = group.iter().map(|w| nearest(w / scale) as i8).collect();
                    let lost = error(group, &codes, scale);
                    assert!(
                        have <= lost * 1.00001,
                        "{have} and {lost} of {n} by {divisor}"
                    );
                    *plain += lost;
                }
                ours += have;
            }
            assert!(ours < 0.9 * plain[0], "{n}: {ours} and {plain:?}");
            assert!(ours < plain[1], "{n}: {ours} and {plain:?}");
        }
    }

    /// Eight steps on one side, seven on the other: the largest weight is on the longer one, whatever its sign.
    #[test]
    fn the_whole_range_is_used() {
        for sign in [1.0, -1.0] {
            let weights: Vec<f32> = (0..64).map(|i| (i % 16 - 8) as f32 * 0.3 * sign).collect();
            let mut codes = vec![0; 64];
            let scale = quantize(&weights, &mut codes);
            assert_eq!(scale.signum(), sign);
            let extremes = (codes.iter().min(), codes.iter().max());
            assert_eq!(extremes, (Some(&-8), Some(&7)));
        }
    }

    #[test]
    fn what_is_exact_stays_so() {
        let weights: Vec<f32> = (0..32).map(|i| (i % 16 - 8) as f32 * 0.25).collect();
        let mut codes = vec![0; 32];
        let scale = quantize(&weights, &mut codes);
        assert_eq!(error(&weights, &codes, scale), 0.0);
    }

    #[test]
    fn extremes_are_told_or_vanish() {
        let mut codes = vec![1; 64];
        assert_eq!(quantize(&[0.0; 64], &mut codes), 0.0);
        assert_eq!(codes, [0; 64]);
        // Too small for any f16.
        assert_eq!(quantize(&[1e-12; 64], &mut codes), 0.0);
        let mut odd = [1.0; 64];
        for value in [f32::NAN, f32::INFINITY, -1e6] {
            odd[63] = value;
            assert!(quantize(&odd, &mut codes).is_nan(), "{value}");
        }
    }
}
