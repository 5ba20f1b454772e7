//! Kernels on 256-bit registers, for CPUs without AVX-512: Intel from Haswell, AMD from Zen.
//!
//! A panel's 16 rows are two registers. There are two sets, which differ in how integers are multiplied (see [`dot`]):
//! [`int`] by `vpmaddubsw`, [`vnni`] by `vpdpbusd`, which Intel's client CPUs have since Alder Lake. Their loops are the
//! same code, written once over [`dot::Dot`] and [`format::Format`] and compiled with each set's features.

mod block;
mod dot;
pub(crate) mod float;
mod format;
mod gemm;
mod gemv;
mod lanes;
mod read;
mod rows;

/// Whether this CPU, and the operating system, offer every feature that [`int`] and [`float`] are compiled for.
pub(crate) fn available() -> bool {
    is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("f16c")
        && is_x86_feature_detected!("fma")
}

/// As [`available`], for [`vnni`].
pub(crate) fn vnni_available() -> bool {
    available() && is_x86_feature_detected!("avxvnni")
}

/// Defines the integer entry points of a kernel set: `int_kernels!(name, features, a format => its arithmetic, .., that of
/// all others)`.
macro_rules! int_kernels {
    (
        $(#[$doc:meta])* $name:ident, $features:literal,
        $q4_0:ty => $dot_q4_0:ty, $q8_0:ty => $dot_q8_0:ty, $q4_k:ty => $dot_q4_k:ty, $q6_k:ty => $dot_q6_k:ty, $others:ident $(,)?
    ) => {
        $(#[$doc])*
        pub(crate) mod $name {
            use troika_base::DType;

            use super::{dot, format, gemm as matrix, gemv as vector, read::$others};
            use crate::activations::QuantizedTile;
            use crate::panel::{PanelFormat, with_format};
            use crate::unpacked::{Unpacked, correction};

            /// [`Kernels::gemv`](crate::Kernels): picks the format's kernel.
            ///
            /// # Safety
            /// The CPU has the features; `panels` are `count` panels of `n_in` columns, `x` one token, `out`
            /// `count * 16`.
            #[target_feature(enable = $features)]
            pub(crate) unsafe fn gemv(
                dtype: DType, panels: &[u8], count: usize, n_in: usize, x: QuantizedTile<'_>, out: &mut [f32],
            ) {
                // SAFETY: forwarded from the caller.
                unsafe {
                    match dtype {
                        DType::Q4_0 => vector::gemv::<$q4_0, $dot_q4_0>(panels, count, n_in, x, out),
                        DType::Q8_0 => vector::gemv::<$q8_0, $dot_q8_0>(panels, count, n_in, x, out),
                        DType::Q4_K => vector::gemv::<$q4_k, $dot_q4_k>(panels, count, n_in, x, out),
                        DType::Q6_K => vector::gemv::<$q6_k, $dot_q6_k>(panels, count, n_in, x, out),
                        _ => with_format!(dtype, F => read_gemv::<F>(panels, count, n_in, x, out)),
                    }
                }
            }

            #[target_feature(enable = $features)]
            unsafe fn read_gemv<F: PanelFormat>(
                panels: &[u8], count: usize, n_in: usize, x: QuantizedTile<'_>, out: &mut [f32],
            ) {
                // SAFETY: forwarded from the caller.
                unsafe { $others::gemv::<F>(panels, count, n_in, x, out) }
            }

            /// [`Kernels::unpack`](crate::Kernels): picks the format's kernel.
            ///
            /// # Safety
            /// The CPU has the features; `panel` is a panel of `n_in` columns and `out` has room for it.
            #[target_feature(enable = $features)]
            pub(crate) unsafe fn unpack(dtype: DType, panel: &[u8], n_in: usize, out: &mut Unpacked) {
                // SAFETY: forwarded from the caller.
                unsafe {
                    match dtype {
                        DType::Q4_0 => matrix::unpack::<$q4_0, $dot_q4_0>(panel, n_in, out),
                        DType::Q8_0 => matrix::unpack::<$q8_0, $dot_q8_0>(panel, n_in, out),
                        DType::Q4_K => matrix::unpack::<$q4_k, $dot_q4_k>(panel, n_in, out),
                        DType::Q6_K => matrix::unpack::<$q6_k, $dot_q6_k>(panel, n_in, out),
                        _ => with_format!(dtype, F => read_unpack::<F>(panel, n_in, out)),
                    }
                }
            }

            #[target_feature(enable = $features)]
            unsafe fn read_unpack<F: PanelFormat>(panel: &[u8], n_in: usize, out: &mut Unpacked) {
                // SAFETY: forwarded from the caller.
                unsafe { $others::unpack::<F>(panel, n_in, out) }
            }

            /// Panels taken apart times a tile of tokens: `out` `[w.len()][x.len][16]`.
            ///
            /// # Safety
            /// The CPU has the features; `w` holds `n_in` columns, `x` a tile of `n_in` columns, `out` 16 values per
            /// token.
            #[target_feature(enable = $features)]
            pub(crate) unsafe fn gemm(
                dtype: DType, w: &[Unpacked], n_in: usize, x: QuantizedTile<'_>, out: &mut [f32],
            ) {
                for (w, out) in w.iter().zip(out.chunks_exact_mut(x.len * 16)) {
                    // SAFETY: forwarded from the caller.
                    unsafe {
                        match dtype {
                            DType::Q4_0 => matrix::gemm::<$q4_0, $dot_q4_0>(w, n_in, x, out),
                            DType::Q8_0 => matrix::gemm::<$q8_0, $dot_q8_0>(w, n_in, x, out),
                            DType::Q4_K => matrix::gemm::<$q4_k, $dot_q4_k>(w, n_in, x, out),
                            DType::Q6_K => matrix::gemm::<$q6_k, $dot_q6_k>(w, n_in, x, out),
                            _ => $others::gemm(correction(dtype), w, n_in, x, out),
                        }
                    }
                }
            }
        }
    };
}

int_kernels!(
    /// Integer products with AVX2 alone.
    int, "avx2,f16c,fma",
    format::Q4_0 => dot::Nibbles,
    format::Q8_0Words => dot::Words<1>,
    format::Q4_K => dot::Nibbles,
    format::Q6_K => dot::SixBits,
    plain,
);

int_kernels!(
    /// Integer products with AVX-VNNI.
    vnni, "avx2,avxvnni,f16c,fma",
    format::Q4_0 => dot::Quads,
    format::Q8_0 => dot::Quads,
    format::Q4_K => dot::Quads,
    format::Q6_K => dot::Quads,
    quads,
);
