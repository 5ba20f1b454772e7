//! Normalisation, activation functions and quantization of rows.

use crate::lanes::{LANES, Lanes};

/// Quantizes groups of `group` values to 8 bits: `q = round(x * 127 / max|x|)`, ties to even. Never writes -128.
///
/// # Safety
/// The features of `L` are there; `x` and `q` have the same length, a multiple of `group`, itself one of 16.
#[inline(always)]
pub(crate) unsafe fn quantize<L: Lanes>(x: &[f32], group: usize, q: &mut [i8], scale: &mut [f32]) {
    for ((x, q), scale) in x
        .chunks_exact(group)
        .zip(q.chunks_exact_mut(group))
        .zip(scale)
    {
        // SAFETY: whole vectors, as the caller guarantees.
        unsafe {
            let (mut max, mut zero) = (L::splat(0.0), L::splat(0.0));
            for x in x.as_chunks::<LANES>().0 {
                let x = L::load(x.as_ptr());
                max = x.abs().max(max);
                // A maximum passes over NaN; 0 times it does not, nor 0 times infinity.
                zero = x.mul_add(L::splat(0.0), zero);
            }
            let max = max.max_lane();
            *scale = max / 127.0 + zero.sum();
            let inverse = L::splat(if max > 0.0 { 127.0 / max } else { 0.0 });
            // A subnormal maximum makes the inverse infinite; its quants saturate instead of wrapping.
            let (low, high) = (L::splat(-127.0), L::splat(127.0));
            for (x, q) in x
                .as_chunks::<LANES>()
                .0
                .iter()
                .zip(q.as_chunks_mut::<LANES>().0)
            {
                let rounded = L::load(x.as_ptr()).mul(inverse).round();
                rounded.max(low).min(high).store_i8(q.as_mut_ptr());
            }
        }
    }
}

/// One row: `y = x / sqrt(mean(x²) + eps) * weight`.
///
/// # Safety
/// The features of `L` are there; all slices have the same length.
#[inline(always)]
pub(crate) unsafe fn rms_norm<L: Lanes>(x: &[f32], weight: &[f32], eps: f32, y: &mut [f32]) {
    debug_assert!(x.len() == weight.len() && x.len() == y.len());
    // SAFETY: offsets stay inside the row.
    unsafe {
        let full = x.len() / LANES * LANES;
        let mut squares = L::splat(0.0);
        for at in (0..full).step_by(LANES) {
            let x = L::load(x.as_ptr().add(at));
            squares = x.mul_add(x, squares);
        }
        let mut tail = 0.0f32;
        for x in &x[full..] {
            tail = x.mul_add(*x, tail);
        }
        let mean = (squares.sum() + tail) / x.len() as f32;
        let factor = 1.0 / (mean + eps).sqrt();
        for at in (0..full).step_by(LANES) {
            let normed = L::load(x.as_ptr().add(at)).mul(L::splat(factor));
            let weight = L::load(weight.as_ptr().add(at));
            normed.mul(weight).store(y.as_mut_ptr().add(at));
        }
        for at in full..x.len() {
            y[at] = x[at] * factor * weight[at];
        }
    }
}

/// How a feed-forward layer's gate and its other half become one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Gating {
    /// `silu(gate) * up` with `silu(x) = x / (1 + e^-x)` (SwiGLU).
    Silu,
    /// `gelu(gate) * up` with the tanh form of GELU (GeGLU).
    Gelu,
    /// `gate / (1 + e^(-alpha * gate)) * (up + 1)`, the gate no larger than `limit`, the other no further from 0.
    ClampedSilu {
        /// How steep the gate is.
        alpha: f32,
        /// The largest gate.
        limit: f32,
    },
}

/// One kind of [`Gating`], of 16 values.
trait Gate: Copy {
    /// The gate and the other half, joined.
    unsafe fn join<L: Lanes>(self, gate: L, up: L) -> L;
}

#[derive(Clone, Copy)]
struct Silu;
#[derive(Clone, Copy)]
struct Gelu;
#[derive(Clone, Copy)]
struct ClampedSilu(f32, f32);

/// Joins `gate` and `up` into `gate`.
///
/// # Safety
/// The features of `L` are there; both slices have the same length.
#[inline(always)]
pub(crate) unsafe fn gate<L: Lanes>(gating: Gating, gate: &mut [f32], up: &[f32]) {
    // SAFETY: forwarded from the caller.
    unsafe {
        match gating {
            Gating::Silu => gated::<L, _>(Silu, gate, up),
            Gating::Gelu => gated::<L, _>(Gelu, gate, up),
            Gating::ClampedSilu { alpha, limit } => {
                gated::<L, _>(ClampedSilu(alpha, limit), gate, up);
            }
        }
    }
}

#[inline(always)]
unsafe fn gated<L: Lanes, G: Gate>(kind: G, gate: &mut [f32], up: &[f32]) {
    debug_assert!(gate.len() == up.len());
    let mut gates = gate.chunks_exact_mut(LANES);
    let mut ups = up.chunks_exact(LANES);
    for (g, u) in gates.by_ref().zip(ups.by_ref()) {
        // SAFETY: chunks of 16.
        unsafe {
            kind.join(L::load(g.as_ptr()), L::load(u.as_ptr()))
                .store(g.as_mut_ptr())
        }
    }
    let (rest, mut padded) = (gates.into_remainder(), [[0.0f32; LANES]; 2]);
    padded[0][..rest.len()].copy_from_slice(rest);
    padded[1][..rest.len()].copy_from_slice(ups.remainder());
    // SAFETY: arrays of 16.
    let values = unsafe {
        kind.join(L::load(padded[0].as_ptr()), L::load(padded[1].as_ptr()))
            .to_array()
    };
    rest.copy_from_slice(&values[..rest.len()]);
}

// Functions and not closures: a closure is compiled without the caller's features, and its intrinsics become calls.
impl Gate for Silu {
    #[inline(always)]
    unsafe fn join<L: Lanes>(self, gate: L, up: L) -> L {
        // SAFETY: forwarded from the caller.
        unsafe {
            let denominator = L::splat(0.0).sub(gate).exp().add(L::splat(1.0));
            gate.div(denominator).mul(up)
        }
    }
}

impl Gate for Gelu {
    #[inline(always)]
    unsafe fn join<L: Lanes>(self, gate: L, up: L) -> L {
        // (1 + tanh(u)) / 2 = 1 / (1 + e^-2u), with u = sqrt(2/pi) * (x + 0.044715 * x^3).
        const TWICE: f32 = -2.0 * 0.797_884_6;
        // SAFETY: forwarded from the caller.
        unsafe {
            let cubed = gate.mul(gate).mul(gate);
            let u = cubed.mul_add(L::splat(0.044_715), gate);
            let denominator = u.mul(L::splat(TWICE)).exp().add(L::splat(1.0));
            gate.div(denominator).mul(up)
        }
    }
}

impl Gate for ClampedSilu {
    #[inline(always)]
    unsafe fn join<L: Lanes>(self, gate: L, up: L) -> L {
        let Self(alpha, limit) = self;
        // SAFETY: forwarded from the caller.
        unsafe {
            let gate = gate.min(L::splat(limit));
            let up = up.min(L::splat(limit)).max(L::splat(-limit));
            let denominator = gate.mul(L::splat(-alpha)).exp().add(L::splat(1.0));
            gate.div(denominator).mul(up.add(L::splat(1.0)))
        }
    }
}

/// `x * Φ(x)` with the normal distribution's `Φ`, element by element, in place: GELU in its exact form.
///
/// Hendrycks and Gimpel 2016, arXiv:1606.08415.
///
/// # Safety
/// The features of `L` are there.
#[inline(always)]
pub(crate) unsafe fn gelu<L: Lanes>(x: &mut [f32]) {
    let (whole, rest) = x.as_chunks_mut::<LANES>();
    let mut padded = [0.0; LANES];
    padded[..rest.len()].copy_from_slice(rest);
    for x in whole.iter_mut().chain([&mut padded]) {
        // SAFETY: arrays of 16.
        unsafe { exact_gelu(L::load(x.as_ptr())).store(x.as_mut_ptr()) }
    }
    rest.copy_from_slice(&padded[..rest.len()]);
}

#[inline(always)]
unsafe fn exact_gelu<L: Lanes>(x: L) -> L {
    // What is missing to 1 of Φ(a), for a >= 0, is t * P(t) * e^(-a^2/2) with t = 1 / (1 + SLOPE * a): the approximation
    // of Hastings to the error function, within 1.5e-7 (Abramowitz and Stegun, 7.1.26), halved and with its argument over
    // the root of 2.
    const SLOPE: f32 = 0.327_591_1 * std::f32::consts::FRAC_1_SQRT_2;
    const TERMS: [f64; 5] = [
        1.061_405_429,
        -1.453_152_027,
        1.421_413_741,
        -0.284_496_736,
        0.254_829_592,
    ];
    // Beyond this nothing is missing that a float would show; infinities would give NaN. The least of two is the second
    // one where either is NaN, which stays NaN so.
    const FAR: f32 = 13.0;
    // SAFETY: forwarded from the caller.
    unsafe {
        let a = L::splat(FAR).min(x.abs());
        let t = L::splat(1.0).div(a.mul_add(L::splat(SLOPE), L::splat(1.0)));
        let mut sum = L::splat(0.0);
        for term in TERMS {
            sum = sum.mul_add(t, L::splat((0.5 * term) as f32));
        }
        let missing = a.mul(a).mul(L::splat(-0.5)).exp().mul(sum).mul(t);
        // On either side of 0: max(x, 0) less |x| times that.
        missing.neg_mul_add(a, L::splat(0.0).max(x))
    }
}
