//! Taking a panel apart: unsigned bytes `[n_in/4][16][4]` and f32 scales.

use std::arch::x86_64::*;

use super::{byte_f32, load, load_f16, prefetch, q4_k_scales, q6_k_quants, q6_k_scale};
use crate::activations::BLOCK;
use crate::packed::in_pairs;
use crate::panel::{self, PanelFormat};
use crate::unpacked::Unpacked;
use crate::x86_64::avx512::rows::ZmmRows;

/// Takes a panel apart into unsigned bytes and f32 scales.
///
/// # Safety
/// The CPU has the features; `panel` is a panel of `n_in` columns of the format and `out` has room for it.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c,fma")]
pub(super) unsafe fn q4_0(panel: &[u8], n_in: usize, out: &mut Unpacked) {
    // SAFETY: offsets follow the panel layout; `out` has room for `n_in` columns.
    unsafe {
        let blocks = n_in / BLOCK;
        let low = _mm512_set1_epi8(15);
        let (q, scale) = (out.q.as_mut_ptr(), out.scale.as_mut_ptr().cast::<f32>());
        for block in 0..blocks {
            let (scales, quants) = in_pairs(block, 256);
            let from = panel.as_ptr().add(quants);
            prefetch(from, 4);
            for j in 0..4 {
                let bytes = load(from, j);
                let to = q.add(block * 512 + j * 64);
                _mm512_storeu_si512(to.cast(), _mm512_and_si512(bytes, low));
                _mm512_storeu_si512(
                    to.add(256).cast(),
                    _mm512_and_si512(_mm512_srli_epi16::<4>(bytes), low),
                );
            }
            _mm512_storeu_ps(scale.add(block * 16), load_f16(panel.as_ptr().add(scales)));
        }
    }
}

/// As [`q4_0`].
///
/// # Safety
/// As [`q4_0`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c,fma")]
pub(super) unsafe fn q8_0(panel: &[u8], n_in: usize, out: &mut Unpacked) {
    let scale = out.scale.as_mut_ptr().cast::<f32>();
    for block in 0..n_in / BLOCK {
        let (scales, quants) = in_pairs(block, 512);
        out.q[block * 512..][..512].copy_from_slice(&panel[quants..][..512]);
        // SAFETY: the panel has scales for the block; `out` has room for `n_in` columns.
        unsafe {
            prefetch(panel.as_ptr().add(quants), 9);
            _mm512_storeu_ps(scale.add(block * 16), load_f16(panel.as_ptr().add(scales)));
        }
    }
}

/// As [`q4_0`].
///
/// # Safety
/// As [`q4_0`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c,fma")]
pub(super) unsafe fn q4_k(panel: &[u8], n_in: usize, out: &mut Unpacked) {
    // SAFETY: as in `q4_0`.
    unsafe {
        let low = _mm512_set1_epi8(15);
        let q = out.q.as_mut_ptr();
        let (scale, min) = (
            out.scale.as_mut_ptr().cast::<f32>(),
            out.min.as_mut_ptr().cast::<f32>(),
        );
        for sb in 0..n_in / 256 {
            let start = panel.as_ptr().add(sb * 2304);
            let (scales, mins) = q4_k_scales(start.add(2048));
            let (d, dmin) = (load_f16(start.add(2240)), load_f16(start.add(2272)));
            for chunk in 0..4 {
                prefetch(start.add(chunk * 512), 9);
                for j in 0..8 {
                    let bytes = load(start, chunk * 8 + j);
                    let to = q.add((sb * 8 + chunk * 2) * 512 + j * 64);
                    _mm512_storeu_si512(to.cast(), _mm512_and_si512(bytes, low));
                    _mm512_storeu_si512(
                        to.add(512).cast(),
                        _mm512_and_si512(_mm512_srli_epi16::<4>(bytes), low),
                    );
                }
            }
            for sub in 0..8 {
                let to = (sb * 8 + sub) * 16;
                _mm512_storeu_ps(
                    scale.add(to),
                    _mm512_mul_ps(d, byte_f32(scales[sub / 4], sub % 4)),
                );
                _mm512_storeu_ps(
                    min.add(to),
                    _mm512_mul_ps(dmin, byte_f32(mins[sub / 4], sub % 4)),
                );
            }
        }
    }
}

/// As [`q4_0`].
///
/// # Safety
/// As [`q4_0`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c,fma")]
pub(super) unsafe fn q6_k(panel: &[u8], n_in: usize, out: &mut Unpacked) {
    // SAFETY: as in `q4_0`.
    unsafe {
        let (q, scale) = (out.q.as_mut_ptr(), out.scale.as_mut_ptr().cast::<f32>());
        for sb in 0..n_in / 256 {
            let (d, body) = in_pairs(sb, 3328);
            let (d, start) = (load_f16(panel.as_ptr().add(d)), panel.as_ptr().add(body));
            let scales: [__m512i; 4] = std::array::from_fn(|i| load(start, 48 + i));
            for half in 0..2 {
                for j in 0..8 {
                    prefetch(start.add(half * 1664 + j * 208), 4);
                    for (block, quants) in q6_k_quants(start, half, j).into_iter().enumerate() {
                        let to = q.add((sb * 8 + half * 4 + block) * 512 + j * 64);
                        _mm512_storeu_si512(to.cast(), quants);
                    }
                }
            }
            for i in 0..16 {
                _mm512_storeu_ps(
                    scale.add((sb * 16 + i) * 16),
                    _mm512_mul_ps(d, q6_k_scale(&scales, i)),
                );
            }
        }
    }
}

/// As [`q4_0`], of the formats that are read by rows.
///
/// # Safety
/// As [`q4_0`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c,fma")]
pub(super) unsafe fn read<F: PanelFormat>(panel: &[u8], n_in: usize, out: &mut Unpacked) {
    // SAFETY: forwarded from the caller.
    unsafe { panel::unpack::<F, ZmmRows>(panel, n_in, out) }
}
