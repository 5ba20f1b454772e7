//! Eight-bit integers, a scale for each row.

use half::f16;

/// Writes the codes, -127 to 127, of a row, and returns its scale: one that an f16 holds. NaN if a weight is no number
/// or too large for an f16.
pub(in crate::lower) fn quantize(weights: &[f32], codes: &mut [i8]) -> f32 {
    let largest = weights.iter().fold(0f32, |most, w| most.max(w.abs()));
    // `max` passes NaN over.
    let sum: f32 = weights.iter().map(|w| w * 0.0).sum();
    if sum != 0.0 || largest > f32::from(f16::MAX) {
        return f32::NAN;
    }
    let scale = f16::from_f32(largest / 127.0).to_f32();
    let inverse = if scale > 0.0 { scale.recip() } else { 0.0 };
    for (code, weight) in codes.iter_mut().zip(weights) {
        // The scale may have been rounded down.
        *code = (weight * inverse).round().clamp(-127.0, 127.0) as i8;
    }
    scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_within_half_a_step() {
        let weights: Vec<f32> = (0..200).map(|i| (i as f32 * 0.7).sin() * 0.03).collect();
        let mut codes = vec![0; 200];
        let scale = quantize(&weights, &mut codes);
        for (weight, code) in weights.iter().zip(&codes) {
            // Half a step, and what the scale's own rounding does to 127 steps.
            let off = (weight - f32::from(*code) * scale).abs();
            assert!(off <= 0.57 * scale, "{off} of {scale}");
        }
    }

    #[test]
    fn extremes_are_told_or_vanish() {
        let mut codes = [1; 2];
        assert_eq!((quantize(&[0.0; 2], &mut codes), codes), (0.0, [0; 2]));
        assert!(quantize(&[1.0, f32::NAN], &mut codes).is_nan());
        assert!(quantize(&[1.0, f32::NEG_INFINITY], &mut codes).is_nan());
    }
}
