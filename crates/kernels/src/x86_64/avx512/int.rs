//! Integer matrix products with AVX-512 VNNI.
//!
//! `vpdpbusd` multiplies unsigned by signed bytes and adds groups of four into 32-bit lanes, without saturation.
//! Weights are the unsigned side (nibbles as they are, Q8_0 stored as `q + 128`), activations the signed side; what
//! the offset adds is taken off by starting the sum from `offset * -sum(x)`, which is prepared with the activations.

use std::arch::x86_64::*;

use troika_base::DType;

use crate::activations::{BLOCK, QuantizedTile};
use crate::unpacked::{Correction, Unpacked};

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

/// Bytes ahead of the current block that are asked for: about what arrives while a block is multiplied.
const PREFETCH_BYTES: usize = 2048;

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

#[inline(always)]
unsafe fn store<const P: usize>(acc: [__m512; P], out: &mut [f32]) {
    for (acc, out) in acc.into_iter().zip(out.as_chunks_mut::<16>().0) {
        // SAFETY: 16 floats are there.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), acc) }
    }
}

/// Defines `gemv_<format>`: `count` panels times one token, four panels at a time so that four streams of memory are
/// read and each broadcast activation is used four times.
macro_rules! gemv {
    ($name:ident, $body:ident) => {
        /// # Safety
        /// The CPU has the features; `panels` are `count` panels of `n_in` columns, `x` one token, `out` `count * 16`.
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c,fma")]
        pub(crate) unsafe fn $name(
            panels: &[u8],
            count: usize,
            n_in: usize,
            x: QuantizedTile<'_>,
            out: &mut [f32],
        ) {
            let panel_bytes = panels.len() / count;
            let mut panel = 0;
            // SAFETY: forwarded from the caller; each call stays inside its panels.
            unsafe {
                while panel + 4 <= count {
                    $body::<4>(
                        &panels[panel * panel_bytes..],
                        panel_bytes,
                        n_in,
                        x,
                        &mut out[panel * 16..],
                    );
                    panel += 4;
                }
                while panel < count {
                    $body::<1>(
                        &panels[panel * panel_bytes..],
                        panel_bytes,
                        n_in,
                        x,
                        &mut out[panel * 16..],
                    );
                    panel += 1;
                }
            }
        }
    };
}

gemv!(gemv_q4_0, gemv_q4_0_panels);
gemv!(gemv_q8_0, gemv_q8_0_panels);
gemv!(gemv_q4_k, gemv_q4_k_panels);
gemv!(gemv_q6_k, gemv_q6_k_panels);

#[inline(always)]
unsafe fn gemv_q4_0_panels<const P: usize>(
    w: &[u8],
    panel_bytes: usize,
    n_in: usize,
    x: QuantizedTile<'_>,
    out: &mut [f32],
) {
    // SAFETY: `w` holds P panels; offsets follow the panel layout of `packed`.
    unsafe {
        let blocks = n_in / BLOCK;
        let low = _mm512_set1_epi8(15);
        let mut acc = [_mm512_setzero_ps(); P];
        for block in 0..blocks {
            let q = x.q.as_ptr().add(block * BLOCK);
            let xs: [__m512i; 8] = std::array::from_fn(|j| broadcast4(q, j));
            let [n0, n1] = *x.neg_sum.get_unchecked(block);
            let start = _mm512_set1_epi32((n0 + n1) * 8);
            for p in 0..P {
                let quants = w.as_ptr().add(p * panel_bytes + block * 256);
                prefetch(quants, 4);
                let mut even = start;
                let mut odd = _mm512_setzero_si512();
                for j in 0..4 {
                    let bytes = load(quants, j);
                    even = _mm512_dpbusd_epi32(even, _mm512_and_si512(bytes, low), xs[j]);
                    odd = _mm512_dpbusd_epi32(
                        odd,
                        _mm512_and_si512(_mm512_srli_epi16::<4>(bytes), low),
                        xs[j + 4],
                    );
                }
                let scales = load_f16(w.as_ptr().add(p * panel_bytes + blocks * 256 + block * 32));
                acc[p] = accumulate(
                    acc[p],
                    _mm512_add_epi32(even, odd),
                    scales,
                    *x.scale.get_unchecked(block),
                );
            }
        }
        store(acc, out);
    }
}

#[inline(always)]
unsafe fn gemv_q8_0_panels<const P: usize>(
    w: &[u8],
    panel_bytes: usize,
    n_in: usize,
    x: QuantizedTile<'_>,
    out: &mut [f32],
) {
    // SAFETY: as in `gemv_q4_0_panels`.
    unsafe {
        let blocks = n_in / BLOCK;
        let mut acc = [_mm512_setzero_ps(); P];
        for block in 0..blocks {
            let q = x.q.as_ptr().add(block * BLOCK);
            let xs: [__m512i; 8] = std::array::from_fn(|j| broadcast4(q, j));
            let [n0, n1] = *x.neg_sum.get_unchecked(block);
            let start = _mm512_set1_epi32((n0 + n1) * 128);
            for p in 0..P {
                let quants = w.as_ptr().add(p * panel_bytes + block * 512);
                prefetch(quants, 8);
                let mut even = start;
                let mut odd = _mm512_setzero_si512();
                for j in 0..4 {
                    even = _mm512_dpbusd_epi32(even, load(quants, j), xs[j]);
                    odd = _mm512_dpbusd_epi32(odd, load(quants, j + 4), xs[j + 4]);
                }
                let scales = load_f16(w.as_ptr().add(p * panel_bytes + blocks * 512 + block * 32));
                acc[p] = accumulate(
                    acc[p],
                    _mm512_add_epi32(even, odd),
                    scales,
                    *x.scale.get_unchecked(block),
                );
            }
        }
        store(acc, out);
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

#[inline(always)]
unsafe fn gemv_q4_k_panels<const P: usize>(
    w: &[u8],
    panel_bytes: usize,
    n_in: usize,
    x: QuantizedTile<'_>,
    out: &mut [f32],
) {
    // SAFETY: as in `gemv_q4_0_panels`.
    unsafe {
        let low = _mm512_set1_epi8(15);
        let mut acc = [_mm512_setzero_ps(); P];
        for sb in 0..n_in / 256 {
            let mut head = [(
                _mm512_setzero_ps(),
                _mm512_setzero_ps(),
                [_mm512_setzero_si512(); 2],
                [_mm512_setzero_si512(); 2],
            ); P];
            for (p, head) in head.iter_mut().enumerate() {
                let start = w.as_ptr().add(p * panel_bytes + sb * 2304);
                let (scales, mins) = q4_k_scales(start.add(2048));
                *head = (
                    load_f16(start.add(2240)),
                    load_f16(start.add(2272)),
                    scales,
                    mins,
                );
            }
            for chunk in 0..4 {
                let block = sb * 8 + chunk * 2;
                let q = x.q.as_ptr().add(block * BLOCK);
                let xl: [__m512i; 8] = std::array::from_fn(|j| broadcast4(q, j));
                let xh: [__m512i; 8] = std::array::from_fn(|j| broadcast4(q.add(BLOCK), j));
                for p in 0..P {
                    let quants = w.as_ptr().add(p * panel_bytes + sb * 2304 + chunk * 512);
                    prefetch(quants, 9);
                    let mut first = _mm512_setzero_si512();
                    let mut second = _mm512_setzero_si512();
                    for j in 0..8 {
                        let bytes = load(quants, j);
                        first = _mm512_dpbusd_epi32(first, _mm512_and_si512(bytes, low), xl[j]);
                        second = _mm512_dpbusd_epi32(
                            second,
                            _mm512_and_si512(_mm512_srli_epi16::<4>(bytes), low),
                            xh[j],
                        );
                    }
                    let (d, dmin, scales, mins) = head[p];
                    for (half, sum) in [first, second].into_iter().enumerate() {
                        let sub = chunk * 2 + half;
                        let scale = _mm512_mul_ps(d, byte_f32(scales[sub / 4], sub % 4));
                        let min = _mm512_mul_ps(dmin, byte_f32(mins[sub / 4], sub % 4));
                        acc[p] =
                            accumulate(acc[p], sum, scale, *x.scale.get_unchecked(block + half));
                        let scaled_sum = _mm512_set1_ps(*x.scaled_sum.get_unchecked(block + half));
                        acc[p] = _mm512_fnmadd_ps(min, scaled_sum, acc[p]);
                    }
                }
            }
        }
        store(acc, out);
    }
}

/// The 8 registers of unsigned 6-bit quants of 32-column block `block` (0..8) of a Q6_K super-block.
#[inline(always)]
unsafe fn q6_k_block(start: *const u8, block: usize) -> [__m512i; 8] {
    // SAFETY: the caller guarantees a super-block at `start`; features as in the callers.
    unsafe {
        // Each half of 128 has blocks: low nibbles of bytes 0..32, of 32..64, high nibbles of 0..32, of 32..64; the
        // two high bits of all four lie in the same 32 bytes.
        let (half, quarter) = (block / 4, block % 4);
        let low_bytes = start.add(half * 1024 + (quarter % 2) * 512);
        let high_bytes = start.add(2048 + half * 512);
        let nibble = _mm512_set1_epi8(15);
        let two = _mm512_set1_epi8(0x30);
        std::array::from_fn(|j| {
            let l = load(low_bytes, j);
            let h = load(high_bytes, j);
            let l = if quarter < 2 {
                l
            } else {
                _mm512_srli_epi16::<4>(l)
            };
            let h = match quarter {
                0 => _mm512_slli_epi16::<4>(h),
                1 => _mm512_slli_epi16::<2>(h),
                2 => h,
                _ => _mm512_srli_epi16::<2>(h),
            };
            _mm512_or_si512(_mm512_and_si512(l, nibble), _mm512_and_si512(h, two))
        })
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

#[inline(always)]
unsafe fn gemv_q6_k_panels<const P: usize>(
    w: &[u8],
    panel_bytes: usize,
    n_in: usize,
    x: QuantizedTile<'_>,
    out: &mut [f32],
) {
    // SAFETY: as in `gemv_q4_0_panels`.
    unsafe {
        let supers = n_in / 256;
        let mut acc = [_mm512_setzero_ps(); P];
        for sb in 0..supers {
            for block in 0..8 {
                let at = sb * 8 + block;
                let q = x.q.as_ptr().add(at * BLOCK);
                let xs: [__m512i; 8] = std::array::from_fn(|j| broadcast4(q, j));
                let neg_sum = *x.neg_sum.get_unchecked(at);
                for p in 0..P {
                    let start = w.as_ptr().add(p * panel_bytes + sb * 3328);
                    // 3360 bytes in eight steps.
                    prefetch(start.add(block * 448), 7);
                    let d = load_f16(w.as_ptr().add(p * panel_bytes + supers * 3328 + sb * 32));
                    let scales: [__m512i; 4] = std::array::from_fn(|i| load(start, 48 + i));
                    let weights = q6_k_block(start, block);
                    for half in 0..2 {
                        let mut sum = _mm512_set1_epi32(neg_sum[half] * 32);
                        for j in half * 4..half * 4 + 4 {
                            sum = _mm512_dpbusd_epi32(sum, weights[j], xs[j]);
                        }
                        let scale = _mm512_mul_ps(d, q6_k_scale(&scales, block * 2 + half));
                        acc[p] = accumulate(acc[p], sum, scale, *x.scale.get_unchecked(at));
                    }
                }
            }
        }
        store(acc, out);
    }
}

/// Takes a panel apart into unsigned bytes and f32 scales.
///
/// # Safety
/// The CPU has the features; `panel` is a panel of `n_in` columns of the format and `out` has room for it.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c,fma")]
pub(crate) unsafe fn unpack_q4_0(panel: &[u8], n_in: usize, out: &mut Unpacked) {
    // SAFETY: offsets follow the panel layout; `out` has room for `n_in` columns.
    unsafe {
        let blocks = n_in / BLOCK;
        let low = _mm512_set1_epi8(15);
        let (q, scale) = (out.q.as_mut_ptr(), out.scale.as_mut_ptr().cast::<f32>());
        for block in 0..blocks {
            let from = panel.as_ptr().add(block * 256);
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
            _mm512_storeu_ps(
                scale.add(block * 16),
                load_f16(panel.as_ptr().add(blocks * 256 + block * 32)),
            );
        }
    }
}

/// As [`unpack_q4_0`].
///
/// # Safety
/// As [`unpack_q4_0`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c,fma")]
pub(crate) unsafe fn unpack_q8_0(panel: &[u8], n_in: usize, out: &mut Unpacked) {
    let blocks = n_in / BLOCK;
    out.q[..blocks * 512].copy_from_slice(&panel[..blocks * 512]);
    let scale = out.scale.as_mut_ptr().cast::<f32>();
    for block in 0..blocks {
        // SAFETY: the scales follow the quants; `out` has room for `n_in` columns.
        unsafe {
            _mm512_storeu_ps(
                scale.add(block * 16),
                load_f16(panel.as_ptr().add(blocks * 512 + block * 32)),
            );
        }
    }
}

/// As [`unpack_q4_0`].
///
/// # Safety
/// As [`unpack_q4_0`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c,fma")]
pub(crate) unsafe fn unpack_q4_k(panel: &[u8], n_in: usize, out: &mut Unpacked) {
    // SAFETY: as in `unpack_q4_0`.
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

/// As [`unpack_q4_0`].
///
/// # Safety
/// As [`unpack_q4_0`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c,fma")]
pub(crate) unsafe fn unpack_q6_k(panel: &[u8], n_in: usize, out: &mut Unpacked) {
    // SAFETY: as in `unpack_q4_0`.
    unsafe {
        let supers = n_in / 256;
        let (q, scale) = (out.q.as_mut_ptr(), out.scale.as_mut_ptr().cast::<f32>());
        for sb in 0..supers {
            let start = panel.as_ptr().add(sb * 3328);
            let d = load_f16(panel.as_ptr().add(supers * 3328 + sb * 32));
            let scales: [__m512i; 4] = std::array::from_fn(|i| load(start, 48 + i));
            for block in 0..8 {
                prefetch(start.add(block * 448), 7);
                for (j, weights) in q6_k_block(start, block).into_iter().enumerate() {
                    _mm512_storeu_si512(q.add((sb * 8 + block) * 512 + j * 64).cast(), weights);
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

/// One panel taken apart times a tile of tokens: `out` `[len][16]`.
///
/// # Safety
/// The CPU has the features; `w` holds `n_in` columns, `x` a tile of `n_in` columns, `out` 16 values per token.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c,fma")]
pub(crate) unsafe fn gemm(
    w: &Unpacked,
    correction: Correction,
    n_in: usize,
    x: QuantizedTile<'_>,
    out: &mut [f32],
) {
    // SAFETY: forwarded from the caller.
    unsafe {
        match x.len {
            16 => gemm_tile::<16>(w, correction, n_in, x, out),
            8 => gemm_tile::<8>(w, correction, n_in, x, out),
            4 => gemm_tile::<4>(w, correction, n_in, x, out),
            2 => gemm_tile::<2>(w, correction, n_in, x, out),
            _ => gemm_tile::<1>(w, correction, n_in, x, out),
        }
    }
}

#[inline(always)]
unsafe fn gemm_tile<const T: usize>(
    w: &Unpacked,
    correction: Correction,
    n_in: usize,
    x: QuantizedTile<'_>,
    out: &mut [f32],
) {
    // SAFETY: forwarded from the caller.
    unsafe {
        match correction {
            Correction::Offset(8) => gemm_blocks::<T, 8, false, false>(w, n_in, x, out),
            Correction::Offset(_) => gemm_blocks::<T, 128, false, false>(w, n_in, x, out),
            Correction::Offset32Half => gemm_blocks::<T, 32, true, false>(w, n_in, x, out),
            Correction::Minimum => gemm_blocks::<T, 0, false, true>(w, n_in, x, out),
        }
    }
}

/// A block of weights stays in 8 registers while the tile's tokens pass by; each token's sum stays in one.
#[inline(always)]
unsafe fn gemm_blocks<const T: usize, const OFFSET: i32, const HALVES: bool, const MIN: bool>(
    w: &Unpacked,
    n_in: usize,
    x: QuantizedTile<'_>,
    out: &mut [f32],
) {
    debug_assert!(x.len == T && x.q.len() == T * n_in && out.len() >= T * 16);
    // SAFETY: sizes as the caller guarantees; block `b` of token `t` is at `b * T + t`.
    unsafe {
        let (wq, ws, wm) = (
            w.q.as_ptr(),
            w.scale.as_ptr().cast::<f32>(),
            w.min.as_ptr().cast::<f32>(),
        );
        let mut acc = [_mm512_setzero_ps(); T];
        for block in 0..n_in / BLOCK {
            let weights: [__m512i; 8] = std::array::from_fn(|j| load(wq.add(block * 512), j));
            for t in 0..T {
                let at = block * T + t;
                let q = x.q.as_ptr().add(at * BLOCK);
                let scale_x = *x.scale.get_unchecked(at);
                if HALVES {
                    for half in 0..2 {
                        let mut sum = _mm512_set1_epi32(OFFSET * x.neg_sum.get_unchecked(at)[half]);
                        for j in half * 4..half * 4 + 4 {
                            sum = _mm512_dpbusd_epi32(sum, weights[j], broadcast4(q, j));
                        }
                        let scale = _mm512_loadu_ps(ws.add((block * 2 + half) * 16));
                        acc[t] = accumulate(acc[t], sum, scale, scale_x);
                    }
                } else {
                    let mut sum = if OFFSET == 0 {
                        _mm512_setzero_si512()
                    } else {
                        let [n0, n1] = *x.neg_sum.get_unchecked(at);
                        _mm512_set1_epi32((n0 + n1) * OFFSET)
                    };
                    for j in 0..8 {
                        sum = _mm512_dpbusd_epi32(sum, weights[j], broadcast4(q, j));
                    }
                    acc[t] = accumulate(acc[t], sum, _mm512_loadu_ps(ws.add(block * 16)), scale_x);
                    if MIN {
                        let scaled_sum = _mm512_set1_ps(*x.scaled_sum.get_unchecked(at));
                        acc[t] = _mm512_fnmadd_ps(
                            _mm512_loadu_ps(wm.add(block * 16)),
                            scaled_sum,
                            acc[t],
                        );
                    }
                }
            }
        }
        store(acc, out);
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
            DType::Q4_0 => gemv_q4_0(panels, count, n_in, x, out),
            DType::Q8_0 => gemv_q8_0(panels, count, n_in, x, out),
            DType::Q4_K => gemv_q4_k(panels, count, n_in, x, out),
            _ => gemv_q6_k(panels, count, n_in, x, out),
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
            DType::Q4_0 => unpack_q4_0(panel, n_in, out),
            DType::Q8_0 => unpack_q8_0(panel, n_in, out),
            DType::Q4_K => unpack_q4_k(panel, n_in, out),
            _ => unpack_q6_k(panel, n_in, out),
        }
    }
}
