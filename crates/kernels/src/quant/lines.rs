//! Codes for blocks of 32 weights with f16 scales of their own: Q4_1, Q5_0 and Q5_1.

use super::{F16Le, search};

/// Weights `d · code + m`.
pub(super) struct Line {
    pub(super) d: F16Le,
    pub(super) m: F16Le,
    pub(super) codes: [u8; 32],
}

impl Line {
    /// A block that cannot be quantized.
    const DAMAGED: Self = Self {
        d: F16Le::NAN,
        m: F16Le::NAN,
        codes: [0; 32],
    };

    /// With `d` and `m` as a file has them, and codes `0..=high` from `1 / scale` before that rounding.
    fn rounded(x: &[f32; 32], scale: f32, min: f32, high: u8) -> Self {
        let (d, m) = (F16Le::from_f32(scale), F16Le::from_f32(min));
        if !d.to_f32().is_finite() || !m.to_f32().is_finite() {
            return Self::DAMAGED;
        }
        let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
        let codes = x.map(|x| (((x - min) * inverse + 0.5) as u8).min(high));
        Self { d, m, codes }
    }
}

/// The smallest weight becomes code 0 and the largest `high`; as in ggml.
pub(super) fn extremes(x: &[f32; 32], high: u8) -> Line {
    if search::largest(x).is_none() {
        return Line::DAMAGED;
    }
    let min = x.iter().copied().fold(f32::INFINITY, f32::min);
    let max = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    Line::rounded(x, (max - min) / f32::from(high), min, high)
}

/// The line of the least weighted error among [`extremes`] and what narrower and wider ranges lead to; without
/// importance, [`extremes`].
pub(super) fn fit_line(x: &[f32; 32], importance: Option<&[f32; 32]>, high: u8) -> Line {
    const TURNS: usize = 2;
    let plain = extremes(x, high);
    let (Some(importance), true) = (importance, plain.d.to_f32() > 0.0) else {
        return plain;
    };
    let weights = weights(x, Some(importance));
    let (step, low) = (plain.d.to_f32(), plain.m.to_f32());
    let mut best = (error(x, &weights, &plain), plain);
    for wider in -4..=4 {
        let (mut scale, mut min) = (step * (1.0 + wider as f32 * 0.03), low);
        for _ in 0..TURNS {
            let line = Line::rounded(x, scale, min, high);
            let Some(fit) = least_squares(x, &weights, &line.codes) else {
                break;
            };
            (scale, min) = fit;
            let line = Line::rounded(x, scale, min, high);
            let error = error(x, &weights, &line);
            if error < best.0 {
                best = (error, line);
            }
        }
    }
    best.1
}

fn error(x: &[f32; 32], weights: &[f32; 32], line: &Line) -> f32 {
    let codes = line.codes.map(|code| code as i8);
    search::error(x, weights, &codes, line.d.to_f32(), -line.m.to_f32())
}

/// The scale, above 0, and the minimum that fit these codes best.
fn least_squares(x: &[f32; 32], weights: &[f32; 32], codes: &[u8; 32]) -> Option<(f32, f32)> {
    let (mut w, mut wx, mut wq, mut wqq, mut wxq) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for ((x, weight), code) in x.iter().zip(weights).zip(codes) {
        let q = f32::from(*code);
        w += weight;
        wx += weight * x;
        wq += weight * q;
        wqq += weight * q * q;
        wxq += weight * x * q;
    }
    let determinant = w * wqq - wq * wq;
    let scale = (w * wxq - wx * wq) / determinant;
    let is_line = determinant > 1e-5 * w * wqq && scale.is_normal() && scale > 0.0;
    is_line.then_some((scale, (wqq * wx - wq * wxq) / determinant))
}

/// The weight of largest magnitude becomes code 0, which is `-zero`; codes are `0 .. 2 zero`. As in ggml.
pub(super) fn largest_at(x: &[f32; 32], zero: u8) -> (F16Le, [u8; 32]) {
    match search::largest(x) {
        Some(largest) => scaled(x, largest / -f32::from(zero), zero),
        None => (F16Le::NAN, [zero; 32]),
    }
}

/// The scale of the least weighted error; without importance, [`largest_at`].
pub(super) fn fit_scale(
    x: &[f32; 32],
    importance: Option<&[f32; 32]>,
    zero: u8,
) -> (F16Le, [u8; 32]) {
    if importance.is_none() || search::largest(x).is_none() {
        return largest_at(x, zero);
    }
    let low = -(zero as i8);
    scaled(
        x,
        search::fit_scale(x, &weights(x, importance), low, -low - 1),
        zero,
    )
}

fn scaled(x: &[f32; 32], scale: f32, zero: u8) -> (F16Le, [u8; 32]) {
    let d = F16Le::from_f32(scale);
    if !d.to_f32().is_finite() {
        return (F16Le::NAN, [zero; 32]);
    }
    let inverse = if d.to_f32() == 0.0 { 0.0 } else { 1.0 / scale };
    let half_up = f32::from(zero) + 0.5;
    let codes = x.map(|x| ((x * inverse + half_up) as u8).min(2 * zero - 1));
    (d, codes)
}

/// How much each weight's squared error counts.
///
/// What is known of the activations, and more for large weights, as ggml does; see [`search::importance`] for what is
/// taken without it.
pub(super) fn weights<const N: usize>(x: &[f32; N], importance: Option<&[f32; N]>) -> [f32; N] {
    let Some(importance) = importance else {
        return search::importance(x);
    };
    let mean_square = x.iter().map(|x| x * x).sum::<f32>() / N as f32;
    std::array::from_fn(|i| importance[i] * (2.0 * mean_square + x[i] * x[i]).sqrt())
}
