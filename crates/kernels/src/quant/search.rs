//! The search for scales with little error, which the formats of 256 weights share.
//!
//! A scale fixes the codes (the nearest ones), and codes fix the best scale (least squares). Taking turns walks down to
//! a minimum of the error, but only to the nearest one; so the walk starts from a grid of scales, and the best end wins.
//! Errors are weighted by [`importance`].

/// Beyond this magnitude no format's scale reaches, and squares of squares would overflow.
const REACH: f32 = 1e9;

/// Turns of codes and scale from each start. More than two change nothing but the last digits.
const TURNS: usize = 2;

/// The value of largest magnitude with its sign, the first of several; `None` if one is NaN or out of any format's
/// reach.
pub(super) fn largest(x: &[f32]) -> Option<f32> {
    let mut largest = 0.0f32;
    for &x in x {
        if x.is_nan() || x.abs() > REACH {
            return None;
        }
        if x.abs() > largest.abs() {
            largest = x;
        }
    }
    Some(largest)
}

/// How much each weight's squared error counts: more for large weights, since activations multiply what is there.
///
/// The block's root mean square keeps small weights from counting for nothing. ggml uses the same measure for its K
/// formats when it has no statistics of activations.
pub(super) fn importance<const N: usize>(x: &[f32; N]) -> [f32; N] {
    let rms = (x.iter().map(|x| x * x).sum::<f32>() / N as f32).sqrt();
    x.map(|x| rms + x.abs())
}

/// Codes `low..=high` for `x ≈ scale · code`, given `1 / scale`: the nearest ones, and of two the even one.
pub(super) fn codes<const N: usize>(x: &[f32; N], inverse: f32, low: i8, high: i8) -> [i8; N] {
    // Next to this number f32's steps are 1. So adding it rounds, and the integer stands in the low bits.
    const UNIT_STEPS: f32 = (3 << 22) as f32;
    let (low, high) = (f32::from(low), f32::from(high));
    x.map(|x| ((x * inverse).clamp(low, high) + UNIT_STEPS).to_bits() as i8)
}

/// The weighted squared error of `scale · code - min` against `x`.
pub(super) fn error<const N: usize>(
    x: &[f32; N],
    importance: &[f32; N],
    codes: &[i8; N],
    scale: f32,
    min: f32,
) -> f32 {
    sum::<N>(|i| {
        let diff = scale * f32::from(codes[i]) - min - x[i];
        importance[i] * diff * diff
    })
}

/// The scale of `x ≈ scale · code` with codes in `low..=high`, `low < 0 <= high`. Of either sign; 0 if all of `x` is.
pub(super) fn fit_scale<const N: usize>(
    x: &[f32; N],
    importance: &[f32; N],
    low: i8,
    high: i8,
) -> f32 {
    let Some(largest) = largest(x) else {
        return 0.0;
    };
    // A magnitude whose inverse overflows is zero in every format.
    if largest.abs() < f32::MIN_POSITIVE * 256.0 {
        return 0.0;
    }
    let mut best = (f32::INFINITY, 0.0);
    for step in -2..=2 {
        // The largest weight goes to `low`, the end of the longer side, give or take a code.
        let mut scale = largest / (f32::from(low) + step as f32 * 0.5);
        for _ in 0..TURNS {
            let codes = codes(x, 1.0 / scale, low, high);
            let q = codes.map(f32::from);
            let xq = sum::<N>(|i| importance[i] * x[i] * q[i]);
            let qq = sum::<N>(|i| importance[i] * q[i] * q[i]);
            // The largest weight has a code other than 0, so `qq > 0`; yet tiny weights may underflow.
            if !(xq / qq).is_normal() {
                break;
            }
            scale = xq / qq;
            let error = error(x, importance, &codes, scale, 0.0);
            if error < best.0 {
                best = (error, scale);
            }
        }
    }
    best.1
}

/// The scale and the minimum of `x ≈ scale · code - min` with codes in `0..=high`; both are at least 0.
pub(super) fn fit_scale_min<const N: usize>(
    x: &[f32; N],
    importance: &[f32; N],
    high: i8,
) -> (f32, f32) {
    let lowest = x.iter().copied().fold(0.0, f32::min);
    let range = x.iter().copied().fold(lowest, f32::max) - lowest;
    // All alike, or so small that the inverse overflows: the minimum alone.
    if range < f32::MIN_POSITIVE * 256.0 {
        return (0.0, -lowest);
    }
    let mut best = (f32::INFINITY, 0.0, -lowest);
    for step in -4..=4 {
        let (mut scale, mut min) = (range / (f32::from(high) + step as f32 * 0.25), -lowest);
        for _ in 0..TURNS {
            let codes = codes(&x.map(|x| x + min), 1.0 / scale, 0, high);
            let Some(fit) = least_squares(x, importance, &codes) else {
                break;
            };
            (scale, min) = fit;
            let error = error(x, importance, &codes, scale, min);
            if error < best.0 {
                best = (error, scale, min);
            }
        }
    }
    (best.1, best.2)
}

/// The scale and minimum, both at least 0, that fit these codes best; `None` if no positive scale does.
fn least_squares<const N: usize>(
    x: &[f32; N],
    importance: &[f32; N],
    codes: &[i8; N],
) -> Option<(f32, f32)> {
    let q = codes.map(f32::from);
    let w = sum::<N>(|i| importance[i]);
    let wx = sum::<N>(|i| importance[i] * x[i]);
    let wq = sum::<N>(|i| importance[i] * q[i]);
    let wqq = sum::<N>(|i| importance[i] * q[i] * q[i]);
    let wxq = sum::<N>(|i| importance[i] * x[i] * q[i]);
    let determinant = w * wqq - wq * wq;
    let (mut scale, mut min) = (
        (w * wxq - wx * wq) / determinant,
        (wq * wxq - wqq * wx) / determinant,
    );
    // Codes that are all alike fix no line; one that differs by 1 from 31 others at 15 gives 1e-4 here.
    let is_line = determinant > 1e-5 * w * wqq;
    // The minimum's code has no sign, so a fit that wants to lift the zero gets a line through the origin.
    if !is_line || min <= 0.0 {
        (scale, min) = (wxq / wqq, 0.0);
    }
    (scale.is_normal() && scale > 0.0).then_some((scale, min))
}

/// Sums `N` terms, `N` a multiple of 8, in eight lanes: a chain of additions would take most of the search's time.
fn sum<const N: usize>(term: impl Fn(usize) -> f32) -> f32 {
    let mut lanes = [0.0; 8];
    for i in (0..N).step_by(lanes.len()) {
        for (lane, sum) in lanes.iter_mut().enumerate() {
            *sum += term(i + lane);
        }
    }
    lanes.iter().sum()
}
