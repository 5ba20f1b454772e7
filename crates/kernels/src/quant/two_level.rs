//! The search for blocks of 256 weights whose sub-blocks have scales of a few bits: multiples of the block's `d`.
//!
//! Each sub-block of `L` weights gets the scale that fits it best, the largest of those says what `d` is, and then the
//! multiple next to each, or one beside it, with the codes of the least error.

use super::{F16Le, search};
use crate::lanes::Lanes;

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

/// With codes of any kind. Scales are `-half .. half`; `None` if the block cannot be quantized.
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

/// With codes that are the whole numbers `low..=high`. The scale of largest magnitude becomes `low_scale`, or less where
/// f16's steps are coarse; the others are up to `-low_scale - 1`. `None` if the block cannot be quantized.
///
/// # Safety
/// The CPU has the features of `V`.
#[inline(always)]
pub(super) unsafe fn whole<V: Lanes, const L: usize, const S: usize>(
    x: &[[f32; L]; S],
    weights: &[[f32; L]; S],
    (low, high): (i8, i8),
    low_scale: i8,
) -> Option<Scaled<L, S>> {
    search::largest(x.as_flattened())?;
    let block = search::Block::new(x, weights, low, high);
    // SAFETY: forwarded from the caller.
    let fits = unsafe { block.fit_scale::<V>() };
    let largest = fits.iter().fold(
        0.0f32,
        |max, &fit| if fit.abs() > max.abs() { fit } else { max },
    );
    let d = F16Le::from_f32_away(largest / f32::from(low_scale));
    let unit = d.to_f32();
    if !unit.is_finite() {
        return None;
    }
    let multiple = |fit: f32, beside: f32| {
        let scale = (fit / unit).round() + beside;
        // 0 / 0 is NaN, which becomes 0.
        scale.clamp(f32::from(low_scale), f32::from(-(low_scale + 1))) as i8
    };
    let around = [0.0, -1.0, 1.0].map(|beside| fits.map(|fit| multiple(fit, beside)));
    let pairs = around.map(|scales| (scales.map(|scale| unit * f32::from(scale)), [0.0; S]));
    // SAFETY: forwarded from the caller.
    let chosen = unsafe { block.choose::<V, 3>(&pairs) };
    let mut scales = [0; S];
    let mut codes = [[0; L]; S];
    for j in 0..S {
        scales[j] = around[chosen[j]][j];
        let inverse = search::inverse(unit * f32::from(scales[j]));
        codes[j] = search::codes(&x[j], inverse, 0.0, low, high);
    }
    Some(Scaled { d, scales, codes })
}

/// Sub-blocks with minima: `d · scale · code - dmin · min`.
pub(super) struct WithMinima<const L: usize, const S: usize> {
    pub(super) d: F16Le,
    pub(super) dmin: F16Le,
    pub(super) scale_mins: [(u8, u8); S],
    pub(super) codes: [[i8; L]; S],
}

/// Codes are `0..=high`, scales and minima `0..=top`; `None` if the block cannot be quantized.
///
/// # Safety
/// The CPU has the features of `V`.
#[inline(always)]
pub(super) unsafe fn with_minima<V: Lanes, const L: usize, const S: usize>(
    x: &[[f32; L]; S],
    weights: &[[f32; L]; S],
    high: i8,
    top: u8,
) -> Option<WithMinima<L, S>> {
    search::largest(x.as_flattened())?;
    let block = search::Block::new(x, weights, 0, high);
    // SAFETY: forwarded from the caller.
    let fits = unsafe { block.fit_scale_min::<V>() };
    let unit = |largest: f32| F16Le::from_f32_away(largest / f32::from(top));
    let d = unit(fits.iter().fold(0.0, |max, fit| fit.0.max(max)));
    let dmin = unit(fits.iter().fold(0.0, |max, fit| fit.1.max(max)));
    let (step, offset) = (d.to_f32(), dmin.to_f32());
    if !step.is_finite() || !offset.is_finite() {
        return None;
    }
    // Each with its neighbours: what is best for the one depends on the rounding of the other.
    let scales = fits.map(|fit| around(fit.0, step, top));
    let mins = fits.map(|fit| around(fit.1, offset, top));
    let mut pairs = [([0.0; S], [0.0; S]); 9];
    for (n, pair) in pairs.iter_mut().enumerate() {
        for j in 0..S {
            pair.0[j] = step * f32::from(scales[j][n % 3]);
            pair.1[j] = offset * f32::from(mins[j][n / 3]);
        }
    }
    // SAFETY: forwarded from the caller.
    let chosen = unsafe { block.choose::<V, 9>(&pairs) };
    let mut scale_mins = [(0, 0); S];
    let mut codes = [[0; L]; S];
    for j in 0..S {
        let (scale, min) = (scales[j][chosen[j] % 3], mins[j][chosen[j] / 3]);
        scale_mins[j] = (scale, min);
        let inverse = search::inverse(step * f32::from(scale));
        codes[j] = search::codes(&x[j], inverse, offset * f32::from(min), 0, high);
    }
    Some(WithMinima {
        d,
        dmin,
        scale_mins,
        codes,
    })
}

/// The multiple of `unit` next to `value`, the one before it and the one after it, at most `top` of them.
#[inline(always)]
fn around(value: f32, unit: f32, top: u8) -> [u8; 3] {
    // 0 / 0 is NaN, which becomes 0.
    let nearest = (value / unit + 0.5) as u8;
    [
        nearest,
        nearest.saturating_sub(1),
        nearest.saturating_add(1),
    ]
    .map(|n| n.min(top))
}
