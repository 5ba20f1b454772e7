//! Sixteen f32 lanes, as each instruction set does them.
//!
//! Float kernels are written once over [`Lanes`] and compiled per instruction set: one 512-bit register, two of 256
//! bits, or an array. Every operation is IEEE arithmetic in a fixed order, multiply-add is fused everywhere, and sums
//! across lanes go by halves; so all sets agree to the bit.
//!
//! The functions are `unsafe` because their instructions may be missing: call them only from code that is compiled
//! with, and dispatched by, the same features.

/// Lanes of a vector.
pub(crate) const LANES: usize = 16;

/// A vector of sixteen f32.
///
/// # Safety
/// Of all functions: the CPU has the implementation's features; pointers are valid for 16 elements of their type.
#[allow(
    clippy::missing_safety_doc,
    reason = "stated once for all functions, above"
)]
pub trait Lanes: Copy {
    /// Queries that attention handles side by side: as many as the register file holds.
    const QUERIES: usize;
    /// Tokens that a product with float weights handles side by side, likewise: a power of two, at most 16.
    const TOKENS: usize;

    /// Asks for the cache line at `p`, which may be any address.
    unsafe fn prefetch(p: *const u8);
    unsafe fn splat(v: f32) -> Self;
    unsafe fn load(p: *const f32) -> Self;
    unsafe fn load_f16(p: *const u16) -> Self;
    unsafe fn load_bf16(p: *const u16) -> Self;
    unsafe fn load_i8(p: *const i8) -> Self;
    /// The lower and the upper halves of 16 bytes, less 8: -8..=7.
    unsafe fn load_nibbles(p: *const u8) -> (Self, Self);
    unsafe fn store(self, p: *mut f32);
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    unsafe fn div(self, other: Self) -> Self;
    unsafe fn max(self, other: Self) -> Self;
    unsafe fn min(self, other: Self) -> Self;
    unsafe fn abs(self) -> Self;
    /// `self * b + c`, rounded once.
    unsafe fn mul_add(self, b: Self, c: Self) -> Self;
    /// `c - self * b`, rounded once.
    unsafe fn neg_mul_add(self, b: Self, c: Self) -> Self;
    /// To the nearest whole number, ties to even.
    unsafe fn round(self) -> Self;
    /// 2 to the power of whole numbers in -126..=127.
    unsafe fn exp2_whole(self) -> Self;
    /// Whole numbers in -128..=127 as bytes.
    unsafe fn store_i8(self, p: *mut i8);

    /// The sum of all lanes, by halves.
    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        // SAFETY: forwarded from the caller.
        fold_halves(unsafe { self.to_array() }, |a, b| a + b)
    }

    /// The largest lane.
    #[inline(always)]
    unsafe fn max_lane(self) -> f32 {
        // SAFETY: forwarded from the caller.
        fold_halves(unsafe { self.to_array() }, f32::max)
    }

    #[inline(always)]
    unsafe fn to_array(self) -> [f32; LANES] {
        let mut out = [0.0; LANES];
        // SAFETY: 16 floats are there.
        unsafe { self.store(out.as_mut_ptr()) };
        out
    }

    /// `e^x` within 2 units in the last place; 0 far below, the largest powers of two far above.
    #[inline(always)]
    unsafe fn exp(self) -> Self {
        // e^x = 2^n * e^r with n = round(x / ln 2) and |r| <= ln 2 / 2; ln 2 in two parts keeps r exact.
        // The polynomial is the Taylor series to r^7/7!, whose remainder is below 2^-26 on that interval.
        const LN2_HIGH: f32 = 0.693_359_4;
        const LN2_LOW: f32 = -2.121_944_4e-4;
        const TERMS: [f32; 7] = [
            1.0 / 720.0,
            1.0 / 120.0,
            1.0 / 24.0,
            1.0 / 6.0,
            0.5,
            1.0,
            1.0,
        ];
        // SAFETY: forwarded from the caller.
        unsafe {
            let x = self.max(Self::splat(-87.0)).min(Self::splat(88.0));
            let n = x.mul(Self::splat(std::f32::consts::LOG2_E)).round();
            let r = n.neg_mul_add(Self::splat(LN2_HIGH), x);
            let r = n.neg_mul_add(Self::splat(LN2_LOW), r);
            let mut sum = Self::splat(1.0 / 5040.0);
            for term in TERMS {
                sum = sum.mul_add(r, Self::splat(term));
            }
            sum.mul(n.exp2_whole())
        }
    }
}

#[inline(always)]
fn fold_halves(mut v: [f32; LANES], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            v[i] = f(v[i], v[i + half]);
        }
        half /= 2;
    }
    v[0]
}

/// The reference: an array.
#[derive(Clone, Copy)]
pub(crate) struct ArrayLanes([f32; LANES]);

impl ArrayLanes {
    fn zip(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        Self(std::array::from_fn(|i| f(self.0[i], other.0[i])))
    }
}

impl Lanes for ArrayLanes {
    const QUERIES: usize = 2;
    const TOKENS: usize = 16;

    unsafe fn prefetch(_: *const u8) {}
    unsafe fn splat(v: f32) -> Self {
        Self([v; LANES])
    }
    unsafe fn load(p: *const f32) -> Self {
        // SAFETY: the caller guarantees 16 floats.
        Self(unsafe { p.cast::<[f32; LANES]>().read_unaligned() })
    }
    unsafe fn load_f16(p: *const u16) -> Self {
        // SAFETY: the caller guarantees 16 values.
        let bits = unsafe { p.cast::<[u16; LANES]>().read_unaligned() };
        Self(bits.map(|bits| half::f16::from_bits(bits).to_f32()))
    }
    unsafe fn load_bf16(p: *const u16) -> Self {
        // SAFETY: the caller guarantees 16 values.
        let bits = unsafe { p.cast::<[u16; LANES]>().read_unaligned() };
        Self(bits.map(|bits| f32::from_bits(u32::from(bits) << 16)))
    }
    unsafe fn load_i8(p: *const i8) -> Self {
        // SAFETY: the caller guarantees 16 bytes.
        Self(unsafe { p.cast::<[i8; LANES]>().read() }.map(f32::from))
    }
    unsafe fn load_nibbles(p: *const u8) -> (Self, Self) {
        // SAFETY: the caller guarantees 16 bytes.
        let bytes = unsafe { p.cast::<[u8; LANES]>().read() };
        (
            Self(bytes.map(|byte| f32::from(byte & 15) - 8.0)),
            Self(bytes.map(|byte| f32::from(byte >> 4) - 8.0)),
        )
    }
    unsafe fn store(self, p: *mut f32) {
        // SAFETY: the caller guarantees room for 16 floats.
        unsafe { p.cast::<[f32; LANES]>().write_unaligned(self.0) }
    }
    unsafe fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }
    unsafe fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }
    unsafe fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }
    unsafe fn div(self, other: Self) -> Self {
        self.zip(other, |a, b| a / b)
    }
    unsafe fn max(self, other: Self) -> Self {
        // As the instruction does: the second operand when either is NaN.
        self.zip(other, |a, b| if a > b { a } else { b })
    }
    unsafe fn min(self, other: Self) -> Self {
        self.zip(other, |a, b| if a < b { a } else { b })
    }
    unsafe fn abs(self) -> Self {
        Self(self.0.map(f32::abs))
    }
    unsafe fn mul_add(self, b: Self, c: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i].mul_add(b.0[i], c.0[i])))
    }
    unsafe fn neg_mul_add(self, b: Self, c: Self) -> Self {
        Self(std::array::from_fn(|i| {
            (-self.0[i]).mul_add(b.0[i], c.0[i])
        }))
    }
    unsafe fn round(self) -> Self {
        Self(self.0.map(f32::round_ties_even))
    }
    unsafe fn exp2_whole(self) -> Self {
        Self(
            self.0
                .map(|n| f32::from_bits(((n as i32 + 127) as u32) << 23)),
        )
    }
    unsafe fn store_i8(self, p: *mut i8) {
        // SAFETY: the caller guarantees room for 16 bytes.
        unsafe { p.cast::<[i8; LANES]>().write(self.0.map(|v| v as i8)) }
    }
}
