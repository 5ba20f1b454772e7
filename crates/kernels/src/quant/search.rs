//! The search for scales with little error, which the formats of 256 weights share.
//!
//! A scale fixes the codes (the nearest ones), and codes fix the best scale (least squares). Taking turns walks down to
//! a minimum of the error, but only to the nearest one; so the walk starts from a grid of scales, and the best end wins.
//! Errors are weighted by [`importance`].
//!
//! All walks of a block are alike, so they go side by side in the lanes of a vector: one for each sub-block, and where
//! there are fewer sub-blocks than lanes, several starts of each. No lane ever sees another. The loops over weights are
//! written over [`Lanes`] and inlined into the entry points of the kernel sets; all of them agree to the bit.

use crate::lanes::{LANES, Lanes};

/// Beyond this magnitude no format's scale reaches, and squares of squares would overflow.
const REACH: f32 = 1e9;

/// Turns of codes and scale from each start. More than two change nothing but the last digits.
const TURNS: usize = 2;

/// A number for each lane.
type Each = [f32; LANES];

/// Next to this number f32's steps are 1. So adding it rounds, to even where two are as near.
const UNIT_STEPS: f32 = (3 << 22) as f32;

/// The value of largest magnitude with its sign, the first of several; `None` if one is NaN or out of any format's
/// reach.
#[inline(always)]
pub(super) fn largest(x: &[f32]) -> Option<f32> {
    let mut largest = 0.0f32;
    let mut is_sound = true;
    for &x in x {
        // False for NaN too.
        is_sound &= x.abs() <= REACH;
        if x.abs() > largest.abs() {
            largest = x;
        }
    }
    is_sound.then_some(largest)
}

/// How much each weight's squared error counts: as much as it was `measured` to, times more for large weights.
///
/// The block's mean square keeps small weights from counting for nothing, more so where something was measured. ggml uses the
/// same measures for its K formats. What was measured is taken relative to the block's mean, so that its unit does not
/// matter; a block whose columns were never seen to do anything is rounded as if nothing had been measured.
#[inline(always)]
pub(super) fn importance<const N: usize>(x: &[f32; N], measured: Option<&[f32; N]>) -> [f32; N] {
    let mean_square = sum(|i| x[i] * x[i], x) / N as f32;
    let mut importance = [0.0; N];
    if let Some(measured) = measured {
        let mean = sum(|i| measured[i], measured) / N as f32;
        if mean.is_normal() {
            for i in 0..N {
                importance[i] = measured[i] / mean * (2.0 * mean_square + x[i] * x[i]).sqrt();
            }
            return importance;
        }
    }
    let rms = mean_square.sqrt();
    for (importance, x) in importance.iter_mut().zip(x) {
        *importance = rms + x.abs();
    }
    importance
}

/// Codes `low..=high` for `x ≈ scale · code - min`, given `1 / scale`: the nearest ones, and of two the even one.
#[inline(always)]
pub(super) fn codes<const N: usize>(
    x: &[f32; N],
    inverse: f32,
    min: f32,
    low: i8,
    high: i8,
) -> [i8; N] {
    let mut codes = [0; N];
    for (code, x) in codes.iter_mut().zip(x) {
        *code = nearest((x + min) * inverse, f32::from(low), f32::from(high)) as i8;
    }
    codes
}

/// The whole number in `low..=high` next to `t`, and of two the even one; `low` for NaN.
#[inline(always)]
fn nearest(t: f32, low: f32, high: f32) -> f32 {
    let t = if t > low { t } else { low };
    let t = if t < high { t } else { high };
    t + UNIT_STEPS - UNIT_STEPS
}

/// The weighted squared error of `scale · code - min` against `x`.
pub(super) fn error<const N: usize>(
    x: &[f32; N],
    importance: &[f32; N],
    codes: &[i8; N],
    scale: f32,
    min: f32,
) -> f32 {
    let term = |i: usize| {
        let diff = scale * f32::from(codes[i]) - min - x[i];
        importance[i] * diff * diff
    };
    sum(term, x)
}

/// What a finite number's inverse is, and 0 where it has none: all codes are 0 then.
#[inline(always)]
pub(super) fn inverse(scale: f32) -> f32 {
    let inverse = 1.0 / scale;
    if inverse.is_finite() { inverse } else { 0.0 }
}

/// The `S` sub-blocks of a block, `S` a divisor of [`LANES`], side by side: lane `j` has sub-block `j % S`.
///
/// # Safety
/// Of all functions that name [`Lanes`]: the CPU has their features.
#[allow(
    clippy::missing_safety_doc,
    reason = "stated once for all functions, above"
)]
pub(super) struct Block<const N: usize, const S: usize> {
    x: [Each; N],
    /// See [`importance`].
    importance: [Each; N],
    low: f32,
    high: f32,
}

impl<const N: usize, const S: usize> Block<N, S> {
    /// Lanes of each sub-block.
    const EACH: usize = LANES / S;

    /// Sub-blocks that are to get codes in `low..=high`.
    #[inline(always)]
    pub(super) fn new(x: &[[f32; N]; S], importance: &[[f32; N]; S], low: i8, high: i8) -> Self {
        let mut block = Self {
            x: [[0.0; LANES]; N],
            importance: [[0.0; LANES]; N],
            low: f32::from(low),
            high: f32::from(high),
        };
        for i in 0..N {
            for j in 0..S {
                block.x[i][j] = x[j][i];
                block.importance[i][j] = importance[j][i];
            }
            for lanes in (S..LANES).step_by(S) {
                block.x[i].copy_within(..S, lanes);
                block.importance[i].copy_within(..S, lanes);
            }
        }
        block
    }

    /// The scales of `x ≈ scale · code`, `low < 0 <= high`. Of either sign; 0 if all of `x` is.
    #[inline(always)]
    pub(super) unsafe fn fit_scale<L: Lanes>(&self) -> [f32; S] {
        /// Half codes by which the largest weight may miss `low`, the end of the longer side.
        const STEPS: [f32; 5] = [0.0, -1.0, 1.0, -2.0, 2.0];
        // SAFETY: forwarded from the caller.
        let [lowest, highest] = unsafe { self.range::<L>() };
        let mut largest = highest;
        for j in 0..LANES {
            largest[j] = if -lowest[j] > highest[j] {
                lowest[j]
            } else {
                highest[j]
            };
        }
        let mut best = Best::new([0.0; LANES], [0.0; LANES]);
        for round in 0..STEPS.len().div_ceil(Self::EACH) {
            let mut scale = [0.0; LANES];
            for (j, scale) in scale.iter_mut().enumerate() {
                let step = STEPS[(round * Self::EACH + j / S).min(STEPS.len() - 1)];
                *scale = largest[j] / (self.low + step * 0.5);
            }
            for _ in 0..TURNS {
                // SAFETY: forwarded from the caller.
                let (q, sums) = unsafe { self.code::<L>(&scale, &[0.0; LANES]) };
                scale = sums.scale(scale);
                // SAFETY: forwarded from the caller.
                let errors = unsafe { self.errors_of::<L>(&q, &scale, &[0.0; LANES]) };
                best.take(&errors, &scale, &[0.0; LANES]);
            }
        }
        let (scale, _) = best.of_sub_blocks::<S>();
        // A magnitude whose inverse overflows is zero in every format.
        std::array::from_fn(|j| match largest[j].abs() < f32::MIN_POSITIVE * 256.0 {
            true => 0.0,
            false => scale[j],
        })
    }

    /// The scales and minima of `x ≈ scale · code - min` with codes from 0 on; both are at least 0.
    #[inline(always)]
    pub(super) unsafe fn fit_scale_min<L: Lanes>(&self) -> [(f32, f32); S] {
        /// Quarters of a code by which the range may miss `high`.
        const STEPS: [f32; 10] = [0.0, -1.0, 1.0, -2.0, 2.0, -3.0, 3.0, -4.0, 4.0, 6.0];
        // SAFETY: forwarded from the caller.
        let [lowest, highest] = unsafe { self.range::<L>() };
        let mut lift = lowest;
        for lift in &mut lift {
            *lift = -*lift;
        }
        let mut best = Best::new([0.0; LANES], lift);
        for round in 0..STEPS.len().div_ceil(Self::EACH) {
            let (mut scale, mut min) = ([0.0; LANES], lift);
            for (j, scale) in scale.iter_mut().enumerate() {
                let step = STEPS[(round * Self::EACH + j / S).min(STEPS.len() - 1)];
                *scale = (highest[j] - lowest[j]) / (self.high + step * 0.25);
            }
            for _ in 0..TURNS {
                // SAFETY: forwarded from the caller.
                let (q, sums) = unsafe { self.code::<L>(&scale, &min) };
                (scale, min) = sums.line(scale, min);
                // SAFETY: forwarded from the caller.
                let errors = unsafe { self.errors_of::<L>(&q, &scale, &min) };
                best.take(&errors, &scale, &min);
            }
        }
        let (scale, min) = best.of_sub_blocks::<S>();
        // All alike, or so small that the inverse overflows: the minimum alone.
        std::array::from_fn(
            |j| match highest[j] - lowest[j] < f32::MIN_POSITIVE * 256.0 {
                true => (0.0, lift[j]),
                false => (scale[j], min[j]),
            },
        )
    }

    /// Of each sub-block, the number of the pair of scale and minimum with the least error.
    #[inline(always)]
    pub(super) unsafe fn choose<L: Lanes, const C: usize>(
        &self,
        pairs: &[([f32; S], [f32; S]); C],
    ) -> [usize; S] {
        let mut best = Best::new([0.0; LANES], [0.0; LANES]);
        for round in 0..C.div_ceil(Self::EACH) {
            let (mut scale, mut min, mut number) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
            for each in 0..Self::EACH {
                let n = (round * Self::EACH + each).min(C - 1);
                let lanes = each * S..(each + 1) * S;
                scale[lanes.clone()].copy_from_slice(&pairs[n].0);
                min[lanes.clone()].copy_from_slice(&pairs[n].1);
                number[lanes].fill(n as f32);
            }
            // SAFETY: forwarded from the caller.
            let errors = unsafe { self.errors_with::<L>(&scale, &min) };
            best.take(&errors, &number, &[0.0; LANES]);
        }
        best.of_sub_blocks::<S>().0.map(|number| number as usize)
    }

    /// The smallest and the largest weight; 0 is always between them.
    #[inline(always)]
    unsafe fn range<L: Lanes>(&self) -> [Each; 2] {
        // SAFETY: forwarded from the caller; a row of `x` is 16 floats.
        unsafe {
            let (mut lowest, mut highest) = (L::splat(0.0), L::splat(0.0));
            for x in &self.x {
                let x = L::load(x.as_ptr());
                (lowest, highest) = (x.min(lowest), x.max(highest));
            }
            [lowest.to_array(), highest.to_array()]
        }
    }

    /// The nearest codes, and what their best scales are computed from.
    #[inline(always)]
    unsafe fn code<L: Lanes>(&self, scale: &Each, min: &Each) -> ([Each; N], Sums) {
        let inverse = inverses(scale);
        let mut q = [[0.0; LANES]; N];
        // SAFETY: forwarded from the caller; all rows are 16 floats.
        unsafe {
            let (low, high) = (L::splat(self.low), L::splat(self.high));
            let unit = L::splat(UNIT_STEPS);
            let (inverse, min) = (L::load(inverse.as_ptr()), L::load(min.as_ptr()));
            let zero = L::splat(0.0);
            let (mut w, mut wx, mut wq, mut wqq, mut wxq) = (zero, zero, zero, zero, zero);
            for (q, (x, importance)) in q.iter_mut().zip(self.x.iter().zip(&self.importance)) {
                let x = L::load(x.as_ptr());
                let importance = L::load(importance.as_ptr());
                let code = x
                    .add(min)
                    .mul(inverse)
                    .max(low)
                    .min(high)
                    .add(unit)
                    .sub(unit);
                code.store(q.as_mut_ptr());
                let weighted = importance.mul(code);
                w = w.add(importance);
                wx = wx.add(importance.mul(x));
                wq = wq.add(weighted);
                wqq = wqq.add(weighted.mul(code));
                wxq = wxq.add(weighted.mul(x));
            }
            let sums = Sums {
                w: w.to_array(),
                wx: wx.to_array(),
                wq: wq.to_array(),
                wqq: wqq.to_array(),
                wxq: wxq.to_array(),
            };
            (q, sums)
        }
    }

    /// The weighted squared errors of `scale · q - min`.
    #[inline(always)]
    unsafe fn errors_of<L: Lanes>(&self, q: &[Each; N], scale: &Each, min: &Each) -> Each {
        // SAFETY: forwarded from the caller; all rows are 16 floats.
        unsafe {
            let (scale, min) = (L::load(scale.as_ptr()), L::load(min.as_ptr()));
            let mut errors = L::splat(0.0);
            for (q, (x, importance)) in q.iter().zip(self.x.iter().zip(&self.importance)) {
                let x = L::load(x.as_ptr());
                let diff = L::load(q.as_ptr()).mul(scale).sub(min).sub(x);
                let importance = L::load(importance.as_ptr());
                errors = errors.add(diff.mul(diff).mul(importance));
            }
            errors.to_array()
        }
    }

    /// The weighted squared errors of the nearest codes.
    #[inline(always)]
    unsafe fn errors_with<L: Lanes>(&self, scale: &Each, min: &Each) -> Each {
        let inverse = inverses(scale);
        // SAFETY: forwarded from the caller; all rows are 16 floats.
        unsafe {
            let (low, high) = (L::splat(self.low), L::splat(self.high));
            let unit = L::splat(UNIT_STEPS);
            let (inverse, min) = (L::load(inverse.as_ptr()), L::load(min.as_ptr()));
            let scale = L::load(scale.as_ptr());
            let mut errors = L::splat(0.0);
            for i in 0..N {
                let x = L::load(self.x[i].as_ptr());
                let code = x
                    .add(min)
                    .mul(inverse)
                    .max(low)
                    .min(high)
                    .add(unit)
                    .sub(unit);
                let diff = code.mul(scale).sub(min).sub(x);
                let importance = L::load(self.importance[i].as_ptr());
                errors = errors.add(diff.mul(diff).mul(importance));
            }
            errors.to_array()
        }
    }
}

#[inline(always)]
fn inverses(scale: &Each) -> Each {
    let mut inverses = [0.0; LANES];
    for (each, scale) in inverses.iter_mut().zip(scale) {
        *each = inverse(*scale);
    }
    inverses
}

/// Sums over the weights of each sub-block, by importance `w`, weight `x` and code `q`.
struct Sums {
    w: Each,
    wx: Each,
    wq: Each,
    wqq: Each,
    wxq: Each,
}

impl Sums {
    /// The scales that fit the codes best; the same again where none does.
    #[inline(always)]
    fn scale(&self, scale: Each) -> Each {
        let mut fit = scale;
        for (j, fit) in fit.iter_mut().enumerate() {
            let best = self.wxq[j] / self.wqq[j];
            // The largest weight has a code other than 0, so `wqq > 0`; yet tiny weights may underflow.
            *fit = if is_normal(best.abs()) { best } else { *fit };
        }
        fit
    }

    /// The scales and minima, both at least 0, that fit the codes best; the same again where no positive scale does.
    #[inline(always)]
    fn line(&self, scale: Each, min: Each) -> (Each, Each) {
        let Self {
            w,
            wx,
            wq,
            wqq,
            wxq,
        } = self;
        let (mut fit_scale, mut fit_min) = (scale, min);
        for j in 0..LANES {
            let determinant = w[j] * wqq[j] - wq[j] * wq[j];
            let line_scale = (w[j] * wxq[j] - wx[j] * wq[j]) / determinant;
            let line_min = (wq[j] * wxq[j] - wqq[j] * wx[j]) / determinant;
            // Codes that are all alike fix no line; one that differs by 1 from 31 others at 15 gives 1e-4 here.
            // The minimum's code has no sign, so a fit that wants to lift the zero gets a line through the origin.
            let is_line = (determinant > 1e-5 * w[j] * wqq[j]) & (line_min > 0.0);
            let best_scale = if is_line { line_scale } else { wxq[j] / wqq[j] };
            let best_min = if is_line { line_min } else { 0.0 };
            let is_fit = is_normal(best_scale);
            fit_scale[j] = if is_fit { best_scale } else { scale[j] };
            fit_min[j] = if is_fit { best_min } else { min[j] };
        }
        (fit_scale, fit_min)
    }
}

/// The best ends of the walks so far.
struct Best {
    error: Each,
    scale: Each,
    min: Each,
}

impl Best {
    /// What is left if no walk comes to an end.
    #[inline(always)]
    fn new(scale: Each, min: Each) -> Self {
        Self {
            error: [f32::INFINITY; LANES],
            scale,
            min,
        }
    }

    #[inline(always)]
    fn take(&mut self, error: &Each, scale: &Each, min: &Each) {
        for j in 0..LANES {
            let is_better = error[j] < self.error[j];
            self.error[j] = if is_better { error[j] } else { self.error[j] };
            self.scale[j] = if is_better { scale[j] } else { self.scale[j] };
            self.min[j] = if is_better { min[j] } else { self.min[j] };
        }
    }

    /// Of each of `S` sub-blocks, the best of its lanes.
    #[inline(always)]
    fn of_sub_blocks<const S: usize>(&self) -> ([f32; S], [f32; S]) {
        let (mut scale, mut min) = ([0.0; S], [0.0; S]);
        for j in 0..S {
            let mut best = j;
            for lane in (j + S..LANES).step_by(S) {
                if self.error[lane] < self.error[best] {
                    best = lane;
                }
            }
            (scale[j], min[j]) = (self.scale[best], self.min[best]);
        }
        (scale, min)
    }
}

/// Positive, and neither subnormal, infinite nor NaN. As a comparison, since lanes have no branches.
#[inline(always)]
#[expect(clippy::manual_range_contains, reason = "it would have a branch")]
fn is_normal(x: f32) -> bool {
    (x >= f32::MIN_POSITIVE) & (x < f32::INFINITY)
}

/// Sums a term for each of `N` values, a multiple of 8, in eight lanes: a chain of additions would take its time.
#[inline(always)]
fn sum<const N: usize>(term: impl Fn(usize) -> f32, _: &[f32; N]) -> f32 {
    let mut lanes = [0.0; 8];
    for i in (0..N).step_by(lanes.len()) {
        for (lane, sum) in lanes.iter_mut().enumerate() {
            *sum += term(i + lane);
        }
    }
    lanes.iter().sum()
}
