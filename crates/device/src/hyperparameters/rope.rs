//! Rotary embedding: frequencies and the ways to stretch them to longer contexts.

use std::f64::consts::PI;

use troika_base::ModelSpec;
use troika_kernels::RopePairs;

use super::Keys;
use crate::{Error, Rope};

/// The rotation that the metadata asks for. `factors`, if the file has them, divide the frequencies one by one
/// (Llama 3.1 and later).
///
/// # Errors
/// If a key or a factor makes no sense, or the way of stretching is unknown.
pub fn rope(
    keys: &Keys<'_>,
    spec: &ModelSpec,
    pairs: RopePairs,
    factors: Option<&[f32]>,
) -> Result<Rope, Error> {
    let base = base(keys)?;
    let mut rope = rope_unscaled(keys, spec, pairs, base)?;
    if let Some(factors) = factors {
        stretch(keys, &mut rope, "rope_freqs.weight", factors)?;
    }
    rope.magnitude = scale(keys, spec, base, &mut rope.frequencies)?;
    Ok(rope)
}

/// A rotation of this base that nothing stretches, whatever the metadata say.
///
/// # Errors
/// If the number of rotated values makes no sense.
pub fn rope_unscaled(
    keys: &Keys<'_>,
    spec: &ModelSpec,
    pairs: RopePairs,
    base: f64,
) -> Result<Rope, Error> {
    let n_rot = keys
        .opt_count("rope.dimension_count")?
        .unwrap_or(spec.head_dim);
    let fits = n_rot.is_multiple_of(2) && n_rot <= spec.head_dim;
    keys.expect(
        fits,
        &keys.key("rope.dimension_count"),
        n_rot,
        "expected an even number, a head's width at most",
    )?;
    let frequencies = (0..n_rot / 2)
        .map(|pair| base.powf(-2.0 * pair as f64 / n_rot as f64))
        .collect();
    Ok(Rope {
        pairs,
        frequencies,
        magnitude: 1.0,
    })
}

/// LongRoPE (Ding et al. 2024): `factors` divide the frequencies one by one, the first ones for contexts that are longer
/// than the model was trained for at first, the others for shorter ones. `n_ctx` is what the cache will hold.
///
/// # Errors
/// If a key or a factor makes no sense.
pub fn longrope(
    keys: &Keys<'_>,
    spec: &ModelSpec,
    pairs: RopePairs,
    factors: Option<(&[f32], &[f32])>,
    n_ctx: usize,
) -> Result<Rope, Error> {
    let Some((long, short)) = factors else {
        return rope(keys, spec, pairs, None);
    };
    let trained = keys.opt_count("rope.scaling.original_context_length")?;
    let mut rope = rope_unscaled(keys, spec, pairs, base(keys)?)?;
    match n_ctx > trained.unwrap_or(spec.n_ctx) {
        true => stretch(keys, &mut rope, "rope_factors_long.weight", long)?,
        false => stretch(keys, &mut rope, "rope_factors_short.weight", short)?,
    }
    rope.magnitude = keys.opt_float("rope.scaling.attn_factor")?.unwrap_or(1.0);
    Ok(rope)
}

fn base(keys: &Keys<'_>) -> Result<f64, Error> {
    Ok(keys.opt_float("rope.freq_base")?.unwrap_or(10_000.0))
}

/// Divides the frequencies by `factors`, which are those of tensor `name`.
fn stretch(keys: &Keys<'_>, rope: &mut Rope, name: &str, factors: &[f32]) -> Result<(), Error> {
    let is_good = |factor: &f32| factor.is_finite() && *factor > 0.0;
    let good = factors.len() == rope.frequencies.len() && factors.iter().all(is_good);
    let expected = "expected a positive factor for each pair";
    keys.expect(good, name, factors.len(), expected)?;
    for (frequency, factor) in rope.frequencies.iter_mut().zip(factors) {
        *frequency /= f64::from(*factor);
    }
    Ok(())
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
            // Trained without rounding, as its configuration says; files have no key for it.
            let rounds = keys.architecture() != "gpt-oss";
            yarn(base, factor, trained as f64, rounds, frequencies);
            let attention = keys.opt_float("rope.scaling.attn_factor")?.unwrap_or(1.0);
            Ok(attention * (1.0 + 0.1 * factor.max(1.0).ln()))
        }
        other => {
            keys.expect(
                false,
                &keys.key("rope.scaling.type"),
                other,
                "expected none, linear or yarn",
            )?;
            Ok(1.0)
        }
    }
}

/// YaRN (Peng et al. 2023, section 3.2): pairs that turn often within the trained context keep their frequency, those
/// that never complete a turn are stretched by `factor`, and a ramp lies between, whose ends are whole pairs if it `rounds`.
fn yarn(base: f64, factor: f64, trained: f64, rounds: bool, frequencies: &mut [f64]) {
    /// Turns within the trained context from which a pair is left alone, and up to which it is stretched whole.
    const MANY: f64 = 32.0;
    const FEW: f64 = 1.0;
    let n_rot = 2.0 * frequencies.len() as f64;
    let pair_with_turns =
        |turns: f64| n_rot * (trained / (turns * 2.0 * PI)).ln() / (2.0 * base.ln());
    let (mut first, mut last) = (pair_with_turns(MANY), pair_with_turns(FEW));
    if rounds {
        (first, last) = (first.floor(), last.ceil());
    }
    let (first, last) = (first.max(0.0), last.min(n_rot - 1.0));
    for (pair, frequency) in frequencies.iter_mut().enumerate() {
        let ramp = ((pair as f64 - first) / (last - first).max(0.001)).clamp(0.0, 1.0);
        *frequency = *frequency / factor * ramp + *frequency * (1.0 - ramp);
    }
}

#[cfg(test)]
mod tests {
    use troika_gguf::{Metadata, ModelFile, Value, Writer};

    use super::*;

    /// The rotation of heads of `head_dim` values with these keys and factors.
    fn rotation(
        head_dim: usize,
        keys: &[(&str, Value)],
        factors: Option<&[f32]>,
    ) -> Result<Rope, Error> {
        let mut metadata = Metadata::default();
        metadata.insert("general.architecture", "llama");
        for (key, value) in keys {
            metadata.insert(format!("llama.rope.{key}"), value.clone());
        }
        let mut bytes = Vec::new();
        Writer::new(metadata).write_to(&mut bytes).unwrap();
        let file = ModelFile::from_bytes("rotation", bytes).unwrap();
        let spec = ModelSpec {
            architecture: "llama".to_owned(),
            name: None,
            n_layer: 1,
            n_embd: head_dim,
            n_head: 1,
            n_head_kv: 1,
            head_dim,
            n_ff: 1,
            n_vocab: 1,
            n_ctx: 8192,
            norm_eps: 1e-5,
            experts: None,
            window: None,
            is_causal: true,
        };
        let keys = Keys::new(&file).unwrap();
        rope(&keys, &spec, RopePairs::Adjacent, factors)
    }

    #[track_caller]
    fn check(keys: &[(&str, Value)], factors: Option<&[f32]>, want: &[f64]) {
        let rope = rotation(8, keys, factors).unwrap();
        assert_eq!((rope.magnitude, rope.frequencies.len()), (1.0, want.len()));
        for (have, want) in rope.frequencies.iter().zip(want) {
            assert!((have / want - 1.0).abs() < 1e-8, "{have} and not {want}");
        }
    }

    /// 10,000 to the power of 0, -1/4, -1/2 and -3/4.
    const PLAIN: [f64; 4] = [1.0, 0.1, 0.01, 0.001];

    #[test]
    fn frequencies_fall_by_powers_of_the_base() {
        check(&[], None, &PLAIN);
        check(
            &[("freq_base", 1e6f32.into())],
            None,
            &[1.0, 0.031_622_776_6, 1e-3, 3.162_277_66e-5],
        );
        // Of eight values four are rotated.
        check(&[("dimension_count", 4u32.into())], None, &[1.0, 0.01]);
    }

    #[test]
    fn linear_scaling_divides_every_frequency() {
        let quarter = PLAIN.map(|frequency| frequency / 4.0);
        let factor = |key| (key, Value::from(4f32));
        let kind = |name: &str| ("scaling.type", Value::from(name));
        check(&[kind("linear"), factor("scaling.factor")], None, &quarter);
        check(&[factor("scaling.factor")], None, &quarter);
        check(&[factor("scale_linear")], None, &quarter);
        check(&[kind("none"), factor("scaling.factor")], None, &PLAIN);
    }

    /// Llama 3.1 takes base 500,000 and brings a factor for each pair: 1 for those that turn often within 8192 tokens,
    /// 8 for those that turn seldom, and what lies between for those between.
    #[test]
    fn factors_divide_their_own_frequency() {
        let base = ("freq_base", Value::from(5e5f32));
        let factors = [1.0, 1.0, 2.5, 8.0];
        // 500,000^(-1/2) / 2.5, and so on.
        let want = [1.0, 0.037_606_030_931, 5.656_854_249_5e-4, 6.647_869_871e-6];
        check(std::slice::from_ref(&base), Some(&factors), &want);
        for bad in [&factors[..3], &[1.0, 1.0, 0.0, 8.0], &[f32::NAN; 4]] {
            assert!(rotation(8, &[], Some(bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn yarn_is_asked_for_by_name() {
        let kind = ("scaling.type", Value::from("yarn"));
        let factor = ("scaling.factor", Value::from(4f32));
        let trained = ("scaling.original_context_length", Value::from(2048u32));
        let keys = [kind, factor, trained];
        let rope = rotation(128, &keys, None).unwrap();
        assert!(
            (rope.magnitude - 1.138_629_436).abs() < 1e-8,
            "1 + ln(4) / 10"
        );
        // Within 2048 tokens pair 16.1 would turn 32 times and pair 40.2 once: the ramp has 25 steps, from 16 to 41.
        for (pair, want) in [
            (0, 1.0),
            (16, 1.0),
            (17, 0.97),
            (28, 0.64),
            (41, 0.25),
            (63, 0.25),
        ] {
            let plain = 1e4f64.powf(-f64::from(pair) / 64.0);
            let have = rope.frequencies[pair as usize] / plain;
            assert!(
                (have - want).abs() < 1e-12,
                "pair {pair}: {have} and not {want}"
            );
        }
    }

    #[test]
    fn yarn_leaves_fast_pairs_and_stretches_slow_ones() {
        let base: f64 = 1e6;
        let plain: Vec<f64> = (0..64).map(|i| base.powf(-f64::from(i) / 64.0)).collect();
        let mut stretched = plain.clone();
        yarn(base, 4.0, 32_768.0, true, &mut stretched);
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
