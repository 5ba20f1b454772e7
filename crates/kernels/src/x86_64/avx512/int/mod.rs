//! Integer matrix products with AVX-512 VNNI.
//!
//! `vpdpbusd` multiplies unsigned by signed bytes and adds groups of four into 32-bit lanes, without saturation.
//! Weights are the unsigned side (nibbles as they are, Q8_0 stored as `q + 128`), activations the signed side; what
//! the offset adds is taken off by starting the sum from `offset * -sum(x)`, which is prepared with the activations.

//!
//! [`gemv`] multiplies packed panels with one token, [`gemm_packed`] with a few; for many, [`unpack`] takes a panel apart
//! first for [`gemm`].

mod gemm;
mod gemv;
mod source;
mod unpack;

use std::arch::x86_64::*;

use troika_base::DType;

use crate::activations::QuantizedTile;
use crate::panel::with_format;
use crate::unpacked::Unpacked;

pub(crate) use gemm::gemm;

/// Four activations of column group `j`, in every lane.
#[inline(always)]
unsafe fn broadcast4(q: *const i8, j: usize) -> __m512i {
    // SAFETY: the caller's block has 32 values; unaligned reads are meant.
    unsafe { _mm512_set1_epi32(q.cast::<i32>().add(j).read_unaligned()) }
}

/// 16 f16 values as f32.
#[inline(always)]
unsafe fn load_f16(p: *const u8) -> __m512 {
    // SAFETY: the caller guarantees 32 readable bytes.
    unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(p.cast())) }
}

#[inline(always)]
unsafe fn load(p: *const u8, register: usize) -> __m512i {
    // SAFETY: the caller guarantees 64 readable bytes there.
    unsafe { _mm512_loadu_si512(p.add(register * 64).cast()) }
}

/// Bytes ahead of the current block that are asked for. Measured: with 2 KiB, formats that compute much for each byte wait
/// for memory; from 4 KiB on they do not, and past 8 KiB lines are evicted before they are used.
const PREFETCH_BYTES: usize = 4096;

#[inline(always)]
unsafe fn prefetch(p: *const u8, registers: usize) {
    for i in 0..registers {
        // SAFETY: a prefetch of any address is allowed.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.wrapping_add(PREFETCH_BYTES + i * 64).cast()) }
    }
}

/// `acc += sum * (scale_w * scale_x)`; the order is the same in every kernel set, so results agree to the bit.
#[inline(always)]
unsafe fn accumulate(acc: __m512, sum: __m512i, scale_w: __m512, scale_x: f32) -> __m512 {
    // SAFETY: only called from functions with these target features.
    unsafe {
        _mm512_fmadd_ps(
            _mm512_cvtepi32_ps(sum),
            _mm512_mul_ps(scale_w, _mm512_set1_ps(scale_x)),
            acc,
        )
    }
}

/// Takes the minima of both halves of a block off, each times the sum of the half's activations.
#[inline(always)]
unsafe fn subtract_halves(
    mut acc: __m512,
    min: [__m512; 2],
    neg_sum: [i32; 2],
    scale_x: f32,
) -> __m512 {
    for half in 0..2 {
        // SAFETY: as in `accumulate`.
        unsafe {
            let min = _mm512_mul_ps(min[half], _mm512_set1_ps(scale_x));
            acc = _mm512_fmadd_ps(_mm512_set1_ps(neg_sum[half] as f32), min, acc);
        }
    }
    acc
}

#[inline(always)]
unsafe fn store<const N: usize>(acc: [__m512; N], out: &mut [f32]) {
    for (acc, out) in acc.into_iter().zip(out.as_chunks_mut::<16>().0) {
        // SAFETY: 16 floats are there.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), acc) }
    }
}

/// The 6-bit scales and minima of a Q4_K super-block for 16 rows: byte `i % 4` of `[i / 4]` is that of sub-block `i`.
#[inline(always)]
unsafe fn q4_k_scales(p: *const u8) -> ([__m512i; 2], [__m512i; 2]) {
    // SAFETY: the caller guarantees three registers of scale bytes; features as in the callers.
    unsafe {
        let (a, b, c) = (load(p, 0), load(p, 1), load(p, 2));
        let six = _mm512_set1_epi8(0x3f);
        let four = _mm512_set1_epi8(0x0f);
        let two = _mm512_set1_epi8(0x30);
        let top = |v| _mm512_and_si512(_mm512_srli_epi16::<2>(v), two);
        (
            [
                _mm512_and_si512(a, six),
                _mm512_or_si512(_mm512_and_si512(c, four), top(a)),
            ],
            [
                _mm512_and_si512(b, six),
                _mm512_or_si512(_mm512_and_si512(_mm512_srli_epi16::<4>(c), four), top(b)),
            ],
        )
    }
}

/// Byte `i` of each lane (unsigned) as f32.
#[inline(always)]
unsafe fn byte_f32(v: __m512i, i: usize) -> __m512 {
    // SAFETY: features as in the callers.
    unsafe {
        let shifted = _mm512_srlv_epi32(v, _mm512_set1_epi32(8 * i as i32));
        _mm512_cvtepi32_ps(_mm512_and_si512(shifted, _mm512_set1_epi32(0xff)))
    }
}

/// Unsigned 6-bit quants of a Q6_K super-block: columns `4 j ..` of each of the four blocks of 32 that make up half
/// `half` of it. The blocks are the low nibbles of two rows of bytes, then the high ones; the two high bits of all four
/// lie in the same byte.
#[inline(always)]
unsafe fn q6_k_quants(start: *const u8, half: usize, j: usize) -> [__m512i; 4] {
    // SAFETY: the caller guarantees a super-block at `start`; features as in the callers.
    unsafe {
        let nibble = _mm512_set1_epi8(0x0f);
        let two = _mm512_set1_epi8(0x30);
        let (a, b) = (load(start, half * 16 + j), load(start, half * 16 + 8 + j));
        let top = load(start, 32 + half * 8 + j);
        let join =
            |low, high| _mm512_or_si512(_mm512_and_si512(low, nibble), _mm512_and_si512(high, two));
        [
            join(a, _mm512_slli_epi16::<4>(top)),
            join(b, _mm512_slli_epi16::<2>(top)),
            join(_mm512_srli_epi16::<4>(a), top),
            join(_mm512_srli_epi16::<4>(b), _mm512_srli_epi16::<2>(top)),
        ]
    }
}

/// Signed 8-bit scale `i` of each row as f32.
#[inline(always)]
unsafe fn q6_k_scale(scales: &[__m512i; 4], i: usize) -> __m512 {
    // SAFETY: features as in the callers.
    unsafe {
        let up = _mm512_sllv_epi32(scales[i / 4], _mm512_set1_epi32(24 - 8 * (i % 4) as i32));
        _mm512_cvtepi32_ps(_mm512_srai_epi32::<24>(up))
    }
}

/// [`Kernels::gemv`](crate::Kernels): picks the format's kernel.
///
/// # Safety
/// The CPU has the features; `panels` are `count` panels of `n_in` columns, `x` one token, `out` `count * 16`.
pub(crate) unsafe fn gemv(
    dtype: DType,
    panels: &[u8],
    count: usize,
    n_in: usize,
    x: QuantizedTile<'_>,
    out: &mut [f32],
) {
    // SAFETY: forwarded from the caller.
    unsafe {
        match dtype {
            DType::Q4_0 => gemv::q4_0(panels, count, n_in, x, out),
            DType::Q8_0 => gemv::q8_0(panels, count, n_in, x, out),
            DType::Q4_K => gemv::q4_k(panels, count, n_in, x, out),
            DType::Q6_K => gemv::q6_k(panels, count, n_in, x, out),
            _ => with_format!(dtype, F => gemv::read::<F>(panels, count, n_in, x, out)),
        }
    }
}

/// [`Kernels::gemm_packed`](crate::Kernels): picks the format's kernel.
///
/// # Safety
/// The CPU has the features; `panels` are `count` panels of `n_in` columns, `x` a tile, `out` 16 values per panel and token.
pub(crate) unsafe fn gemm_packed(
    dtype: DType,
    panels: &[u8],
    count: usize,
    n_in: usize,
    x: QuantizedTile<'_>,
    out: &mut [f32],
) {
    // SAFETY: forwarded from the caller.
    unsafe {
        match dtype {
            DType::Q4_0 => gemm::q4_0(panels, count, n_in, x, out),
            DType::Q8_0 => gemm::q8_0(panels, count, n_in, x, out),
            DType::Q4_K => gemm::q4_k(panels, count, n_in, x, out),
            DType::Q6_K => gemm::q6_k(panels, count, n_in, x, out),
            _ => with_format!(dtype, F => gemm::read::<F>(panels, count, n_in, x, out)),
        }
    }
}

/// [`Kernels::unpack`](crate::Kernels): picks the format's kernel.
///
/// # Safety
/// The CPU has the features; `panel` is a panel of `n_in` columns and `out` has room for it.
pub(crate) unsafe fn unpack(dtype: DType, panel: &[u8], n_in: usize, out: &mut Unpacked) {
    // SAFETY: forwarded from the caller.
    unsafe {
        match dtype {
            DType::Q4_0 => unpack::q4_0(panel, n_in, out),
            DType::Q8_0 => unpack::q8_0(panel, n_in, out),
            DType::Q4_K => unpack::q4_k(panel, n_in, out),
            DType::Q6_K => unpack::q6_k(panel, n_in, out),
            _ => with_format!(dtype, F => unpack::read::<F>(panel, n_in, out)),
        }
    }
}
