//! Kernels for aarch64: for NEON, which every such CPU has, and for two extensions that multiply bytes.
//!
//! A panel's 16 rows are four registers of 128 bits: quarters, of four rows each. All formats are read by rows (see
//! [`panel`](crate::panel)), so that there is one set of loops, written once over [`dot::Dot`] and compiled for each way to
//! multiply bytes: [`neon`] widens them, [`dotprod`] (`sdot`, from Armv8.2 on) and [`i8mm`] (`smmla`, from Armv8.6 on) need
//! not. Tested by an emulator; see docs/adr/0024-aarch64.md.

mod block;
mod dot;
pub(crate) mod float;
mod gemm;
mod gemv;
mod lanes;
mod rows;

use std::arch::asm;

/// Whether this CPU offers what [`neon`] and [`float`] are compiled for.
pub(crate) fn available() -> bool {
    std::arch::is_aarch64_feature_detected!("neon")
}

/// As [`available`], for [`dotprod`].
pub(crate) fn dotprod_available() -> bool {
    available() && std::arch::is_aarch64_feature_detected!("dotprod")
}

/// As [`available`], for [`i8mm`].
pub(crate) fn i8mm_available() -> bool {
    dotprod_available() && std::arch::is_aarch64_feature_detected!("i8mm")
}

/// Asks for the cache line at `p`, which may be any address.
#[inline(always)]
pub(crate) fn prefetch(p: *const u8) {
    // SAFETY: a prefetch of any address is allowed. (The intrinsic is not stable.)
    unsafe {
        asm!("prfm pldl1keep, [{p}]", p = in(reg) p, options(readonly, nostack, preserves_flags));
    }
}

/// Defines the product of packed panels with one token: `vector_kernels!(features, arithmetic)`.
macro_rules! vector_kernels {
    ($features:literal, $dot:ty) => {
        /// [`Kernels::gemv`](crate::Kernels): picks the format's kernel.
        ///
        /// # Safety
        /// The CPU has the features; `panels` are `count` panels of `n_in` columns, `x` one token, `out` `count * 16`.
        pub(crate) unsafe fn gemv(
            dtype: DType, panels: &[u8], count: usize, n_in: usize, x: QuantizedTile<'_>, out: &mut [f32],
        ) {
            // SAFETY: forwarded from the caller.
            with_any_format!(dtype, F => unsafe { gemv_of::<F>(panels, count, n_in, x, out) });
        }

        #[target_feature(enable = $features)]
        unsafe fn gemv_of<F: PanelFormat>(
            panels: &[u8], count: usize, n_in: usize, x: QuantizedTile<'_>, out: &mut [f32],
        ) {
            // SAFETY: forwarded from the caller.
            unsafe { super::gemv::gemv::<F, $dot>(panels, count, n_in, x, out) }
        }
    };
}

/// Defines the product of panels taken apart with a tile of tokens: `matrix_kernels!(features, arithmetic)`.
macro_rules! matrix_kernels {
    ($features:literal, $dot:ty) => {
        /// [`Kernels::unpack`](crate::Kernels): picks the format's kernel.
        ///
        /// # Safety
        /// The CPU has the features; `panel` is a panel of `n_in` columns and `out` has room for it.
        pub(crate) unsafe fn unpack(dtype: DType, panel: &[u8], n_in: usize, out: &mut Unpacked) {
            // SAFETY: forwarded from the caller.
            with_any_format!(dtype, F => unsafe { unpack_of::<F>(panel, n_in, out) });
        }

        #[target_feature(enable = $features)]
        unsafe fn unpack_of<F: PanelFormat>(panel: &[u8], n_in: usize, out: &mut Unpacked) {
            // SAFETY: forwarded from the caller.
            unsafe { super::gemm::unpack::<F, $dot>(panel, n_in, out) }
        }

        /// Panels taken apart times a tile of tokens: `out` `[w.len()][x.len][16]`.
        ///
        /// # Safety
        /// The CPU has the features; `w` holds `n_in` columns, `x` a tile of `n_in` columns, `out` 16 values per token.
        pub(crate) unsafe fn gemm(
            dtype: DType, w: &[Unpacked], n_in: usize, x: QuantizedTile<'_>, out: &mut [f32],
        ) {
            for (w, out) in w.iter().zip(out.chunks_exact_mut(x.len * 16)) {
                with_any_format!(dtype, F => {
                    const SMALL: bool = super::gemm::are_small::<F>();
                    // SAFETY: forwarded from the caller.
                    unsafe { gemm_of::<SMALL, { F::HALVES }, { F::MIN }>(w, n_in, x, out) }
                });
            }
        }

        #[target_feature(enable = $features)]
        unsafe fn gemm_of<const SMALL: bool, const HALVES: bool, const MIN: bool>(
            w: &Unpacked, n_in: usize, x: QuantizedTile<'_>, out: &mut [f32],
        ) {
            // SAFETY: forwarded from the caller.
            unsafe { super::gemm::gemm::<SMALL, HALVES, MIN, $dot>(w, n_in, x, out) }
        }
    };
}

/// Integer products with NEON alone.
pub(crate) mod neon {
    use troika_base::DType;

    use super::dot::Widened;
    use crate::activations::QuantizedTile;
    use crate::panel::{PanelFormat, with_any_format};
    use crate::unpacked::Unpacked;

    vector_kernels!("neon", Widened);
    matrix_kernels!("neon", Widened);
}

/// Integer products with `sdot`.
pub(crate) mod dotprod {
    use troika_base::DType;

    use super::dot::Sdot;
    use crate::activations::QuantizedTile;
    use crate::panel::{PanelFormat, with_any_format};
    use crate::unpacked::Unpacked;

    vector_kernels!("neon,dotprod", Sdot);
    matrix_kernels!("neon,dotprod", Sdot);
}

/// Integer products with `smmla`, which multiplies two tokens at a time: for one there is [`dotprod`].
pub(crate) mod i8mm {
    use troika_base::DType;

    use super::dot::Smmla;
    use crate::activations::QuantizedTile;
    use crate::panel::{PanelFormat, with_any_format};
    use crate::unpacked::Unpacked;

    matrix_kernels!("neon,dotprod,i8mm", Smmla);
}
