//! Rotary embedding: frequencies and the ways to stretch them to longer contexts.

use std::f64::consts::PI;

use troika_base::ModelSpec;
use troika_device::{Error, Rope, RopePairs};

use super::hyperparameters::Keys;

/// The rotation that the metadata asks for. `factors`, if the file has them, divide the frequencies one by one
/// (Llama 3.1 and later).
pub(super) fn rope(
    keys: &Keys<'_>,
    spec: &ModelSpec,
    pairs: RopePairs,
    factors: Option<&[f32]>,
) -> Result<Rope, Error> {
    let n_rot = keys
        .opt_count("rope.dimension_count")?
        .unwrap_or(spec.head_dim);
    let fits = n_rot.is_multiple_of(2) && n_rot <= spec.head_dim;
    keys.expect(
        fits,
        "rope.dimension_count",
        n_rot,
        "expected an even number, a head's width at most",
    )?;
    let base = keys.opt_float("rope.freq_base")?.unwrap_or(10_000.0);
    let mut frequencies: Vec<f64> = (0..n_rot / 2)
        .map(|pair| base.powf(-2.0 * pair as f64 / n_rot as f64))
        .collect();
    if let Some(factors) = factors {
        let good = factors.len() == frequencies.len()
            && factors
                .iter()
                .all(|factor| factor.is_finite() && *factor > 0.0);
        keys.expect(
            good,
            "rope_freqs.weight",
            factors.len(),
            "expected a positive factor for each pair",
        )?;
        for (frequency, factor) in frequencies.iter_mut().zip(factors) {
            *frequency /= f64::from(*factor);
        }
    }
    let magnitude = scale(keys, spec, base, &mut frequencies)?;
    Ok(Rope {
        pairs,
        frequencies,
        magnitude,
    })
}

/// Stretches frequencies as `rope.scaling` says, and returns what the rotated values are multiplied with.
fn scale(
    keys: &Keys<'_>,
    spec: &ModelSpec,
    base: f64,
    frequencies: &mut [f64],
) -> Result<f64, Error> {
    let factor = match keys.opt_float("rope.scaling.factor")? {
        Some(factor) => factor,
        // Its name before scaling had types.
        None => keys.opt_float("rope.scale_linear")?.unwrap_or(1.0),
    };
    let kind = keys.opt_str("rope.scaling.type")?.unwrap_or("linear");
    match kind {
        "none" => Ok(1.0),
        "linear" => {
            frequencies
                .iter_mut()
                .for_each(|frequency| *frequency /= factor);
            Ok(1.0)
        }
        "yarn" => {
            let trained = keys
                .opt_count("rope.scaling.original_context_length")?
                .unwrap_or(spec.n_ctx);
            yarn(base, factor, trained as f64, frequencies);
            let attention = keys.opt_float("rope.scaling.attn_factor")?.unwrap_or(1.0);
            Ok(attention * (1.0 + 0.1 * factor.max(1.0).ln()))
        }
        other => {
            keys.expect(
                false,
                "rope.scaling.type",
                other,
                "expected none, linear or yarn",
            )?;
            Ok(1.0)
        }
    }
}

/// YaRN (Peng et al. 2023, section 3.2): pairs that turn often within the trained context keep their frequency, those
/// that never complete a turn are stretched by `factor`, and a ramp lies between.
fn yarn(base: f64, factor: f64, trained: f64, frequencies: &mut [f64]) {
    /// Turns within the trained context from which a pair is left alone, and up to which it is stretched whole.
    const MANY: f64 = 32.0;
    const FEW: f64 = 1.0;
    let n_rot = 2.0 * frequencies.len() as f64;
    let pair_with_turns =
        |turns: f64| n_rot * (trained / (turns * 2.0 * PI)).ln() / (2.0 * base.ln());
    let first = pair_with_turns(MANY).floor().max(0.0);
    let last = pair_with_turns(FEW).ceil().min(n_rot - 1.0);
    for (pair, frequency) in frequencies.iter_mut().enumerate() {
        let ramp = ((pair as f64 - first) / (last - first).max(0.001)).clamp(0.0, 1.0);
        *frequency = *frequency / factor * ramp + *frequency * (1.0 - ramp);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yarn_leaves_fast_pairs_and_stretches_slow_ones() {
        let base: f64 = 1e6;
        let plain: Vec<f64> = (0..64).map(|i| base.powf(-f64::from(i) / 64.0)).collect();
        let mut stretched = plain.clone();
        yarn(base, 4.0, 32_768.0, &mut stretched);
        assert_eq!(stretched[0], plain[0]);
        assert_eq!(stretched[63], plain[63] / 4.0);
        // The ramp falls without a step back.
        let ratios: Vec<f64> = stretched.iter().zip(&plain).map(|(s, p)| s / p).collect();
        assert!(ratios.is_sorted_by(|a, b| a >= b), "{ratios:?}");
        assert!(
            ratios.iter().filter(|&&r| r > 0.25 && r < 1.0).count() > 5,
            "{ratios:?}"
        );
    }
}
