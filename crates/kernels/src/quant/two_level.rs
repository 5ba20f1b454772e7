//! The search for blocks of 256 weights whose sub-blocks have scales of a few bits: multiples of the block's `d`.
//!
//! Each sub-block of `L` weights gets the scale that fits it best, the largest of those says what `d` is, and then the
//! multiple next to each, or one beside it, with the codes of the least error.

use super::{F16Le, search};

/// Sub-blocks with codes around zero: `d · scale · code`.
pub(super) struct Scaled<const L: usize, const S: usize> {
    pub(super) d: F16Le,
    pub(super) scales: [i8; S],
    pub(super) codes: [[i8; L]; S],
}

/// The best scale and codes for a sub-block, however codes stand for weights.
pub(super) trait Codes<const L: usize> {
    /// The best scale, of either sign; 0 if all weights are.
    fn fit(&self, x: &[f32; L], weights: &[f32; L]) -> f32;
    /// The best codes for this scale, which is not 0, and their weighted squared error.
    fn choose(&self, x: &[f32; L], weights: &[f32; L], scale: f32) -> (f32, [i8; L]);
}

/// Codes that are the whole numbers `low..=high`.
pub(super) struct Whole {
    pub(super) low: i8,
    pub(super) high: i8,
}

impl<const L: usize> Codes<L> for Whole {
    fn fit(&self, x: &[f32; L], weights: &[f32; L]) -> f32 {
        search::fit_scale(x, weights, self.low, self.high)
    }
    fn choose(&self, x: &[f32; L], weights: &[f32; L], scale: f32) -> (f32, [i8; L]) {
        let codes = search::codes(x, 1.0 / scale, self.low, self.high);
        (search::error(x, weights, &codes, scale, 0.0), codes)
    }
}

/// Scales are `-half .. half`; `None` if the block cannot be quantized.
pub(super) fn scaled<const L: usize, const S: usize>(
    x: &[[f32; L]; S],
    weights: &[[f32; L]; S],
    codes: &impl Codes<L>,
    half: i8,
) -> Option<Scaled<L, S>> {
    search::largest(x.as_flattened())?;
    let fits: [f32; S] = std::array::from_fn(|j| codes.fit(&x[j], &weights[j]));
    let largest = fits.iter().fold(
        0.0f32,
        |max, &fit| if fit.abs() > max.abs() { fit } else { max },
    );
    let d = F16Le::from_f32_away(largest / -f32::from(half));
    let unit = d.to_f32();
    if !unit.is_finite() {
        return None;
    }
    let mut block = Scaled {
        d,
        scales: [0; S],
        codes: [[0; L]; S],
    };
    for j in 0..S {
        let zero = x[j].iter().zip(&weights[j]).map(|(x, w)| w * x * x).sum();
        let mut best: (f32, i8, Option<[i8; L]>) = (zero, 0, None);
        // 0 / 0 is NaN, which becomes 0.
        let nearest = (fits[j] / unit).round() as i32;
        for scale in nearest - 1..=nearest + 1 {
            let scale = scale.clamp(-i32::from(half), i32::from(half) - 1) as i8;
            let step = unit * f32::from(scale);
            if !(1.0 / step).is_finite() {
                continue;
            }
            let (error, codes) = codes.choose(&x[j], &weights[j], step);
            if error < best.0 {
                best = (error, scale, Some(codes));
            }
        }
        // With a scale of 0 all codes stand for zero.
        block.scales[j] = best.1;
        block.codes[j] = best.2.unwrap_or([0; L]);
    }
    Some(block)
}

/// Sub-blocks with minima: `d · scale · code - dmin · min`.
pub(super) struct WithMinima<const L: usize, const S: usize> {
    pub(super) d: F16Le,
    pub(super) dmin: F16Le,
    pub(super) scale_mins: [(u8, u8); S],
    pub(super) codes: [[i8; L]; S],
}

/// Codes are `0..=high`, scales and minima `0..=top`; `None` if the block cannot be quantized.
pub(super) fn with_minima<const L: usize, const S: usize>(
    x: &[[f32; L]; S],
    weights: &[[f32; L]; S],
    high: i8,
    top: u8,
) -> Option<WithMinima<L, S>> {
    search::largest(x.as_flattened())?;
    let fits: [(f32, f32); S] =
        std::array::from_fn(|j| search::fit_scale_min(&x[j], &weights[j], high));
    let unit = |largest: f32| F16Le::from_f32_away(largest / f32::from(top));
    let d = unit(fits.iter().fold(0.0, |max, fit| fit.0.max(max)));
    let dmin = unit(fits.iter().fold(0.0, |max, fit| fit.1.max(max)));
    if !d.to_f32().is_finite() || !dmin.to_f32().is_finite() {
        return None;
    }
    let mut block = WithMinima {
        d,
        dmin,
        scale_mins: [(0, 0); S],
        codes: [[0; L]; S],
    };
    for j in 0..S {
        let mut best = f32::INFINITY;
        for scale in around(fits[j].0, d.to_f32(), top) {
            for min in around(fits[j].1, dmin.to_f32(), top) {
                let (step, offset) = (
                    d.to_f32() * f32::from(scale),
                    dmin.to_f32() * f32::from(min),
                );
                let codes = match 1.0 / step {
                    inverse if inverse.is_finite() => {
                        search::codes(&x[j].map(|x| x + offset), inverse, 0, high)
                    }
                    _ => [0; L],
                };
                let error = search::error(&x[j], &weights[j], &codes, step, offset);
                if error < best {
                    best = error;
                    (block.scale_mins[j], block.codes[j]) = ((scale, min), codes);
                }
            }
        }
    }
    Some(block)
}

/// The multiples of `unit` next to `value`, at most `top` of them.
fn around(value: f32, unit: f32, top: u8) -> impl Iterator<Item = u8> {
    // 0 / 0 is NaN, which becomes 0.
    let nearest = (value / unit + 0.5) as u8;
    nearest.saturating_sub(1).min(top)..=nearest.saturating_add(1).min(top)
}
