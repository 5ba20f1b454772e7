//! Weights and activations rounded to bf16 tiles, with AVX-512: every CPU with AMX has it, and its bf16 conversions.
//!
//! Weights are the values that the format stands for, rounded once more to bf16 (to nearest even; subnormal numbers
//! become zero, as the matrix unit takes them anyway). For each pair of columns two registers of 16 f32 become one of
//! `[16 rows][2]` bf16: `vcvtne2ps2bf16` puts one behind the other, `vpermw` interleaves them. What comes before
//! differs by format, and avoids conversions from integers: the two execution ports are what limits this.

use std::arch::x86_64::*;

use troika_base::DType;

use crate::packed::in_pairs;
use crate::panel::{Panel, PanelFormat, with_format};
use crate::tiled::{Bf16Tile, Line, STEP};
use crate::x86_64::avx512::rows::ZmmRows;

/// Whether this CPU offers the features that the functions here are compiled for.
pub(super) fn available() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512bf16")
}

/// Rounds 32 columns of a packed panel, from column `32 * step` on.
///
/// # Safety
/// [`available`] said yes.
///
/// # Panics
/// If the panel ends before.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) fn weights(dtype: DType, panel: &[u8], step: usize, out: &mut Bf16Tile) {
    let rows = out.0.as_chunks_mut::<2>().0;
    match dtype {
        DType::Q4_0 => q4_0(panel, step, rows),
        DType::Q8_0 => q8_0(panel, step, rows),
        DType::Q4_K => q4_k(&panel[step / 8 * 2304..][..2304], step % 8, rows),
        DType::Q6_K => q6_k(panel, step, rows),
        DType::F16 => f16(&panel[step * 1024..][..1024], rows),
        DType::BF16 => bf16(&panel[step * 1024..][..1024], rows),
        _ => with_format!(dtype, F => {
            assert!(panel.len() >= (step + 1) * F::BLOCK_BYTES, "the panel has the step");
            // SAFETY: it has it, and the caller vouches for the features.
            unsafe { read::<F>(panel, step, rows) }
        }),
    }
}

/// Rounds one token's activations to lines of 32.
///
/// # Safety
/// [`available`] said yes.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) fn activations(x: &[f32], out: &mut [Line]) {
    for (out, x) in out.iter_mut().zip(x.as_chunks::<STEP>().0) {
        // SAFETY: 32 floats are there.
        let (low, high) = unsafe {
            (
                _mm512_loadu_ps(x.as_ptr()),
                _mm512_loadu_ps(x.as_ptr().add(16)),
            )
        };
        store(narrow(low, high), out);
    }
}

/// Two rows of a tile: four columns of a panel.
type FourColumns = [Line; 2];

/// Register `index` of bytes.
#[target_feature(enable = "avx512f")]
#[inline]
fn load(bytes: &[u8], index: usize) -> __m512i {
    let bytes = &bytes[index * 64..][..64];
    // SAFETY: 64 bytes are there.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

/// The first 16 f16 of bytes as f32.
#[target_feature(enable = "avx512f")]
#[inline]
fn load_f16(bytes: &[u8]) -> __m512 {
    let bytes = &bytes[..32];
    // SAFETY: 32 bytes are there.
    unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(bytes.as_ptr().cast())) }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn store(v: __m512i, line: &mut Line) {
    // SAFETY: a line is as long as a register.
    unsafe { _mm512_storeu_si512(line.as_mut_ptr().cast(), v) }
}

/// 32 bf16: `low`, then `high`.
#[target_feature(enable = "avx512f,avx512bf16")]
#[inline]
fn narrow(low: __m512, high: __m512) -> __m512i {
    // SAFETY: both are 512 bits without invalid values.
    unsafe { std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low)) }
}

/// `[2][16]` to `[16][2]` words.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn interleave(v: __m512i) -> __m512i {
    const FROM: Line = {
        let mut from = [0; STEP];
        let mut i = 0;
        while i < STEP {
            from[i] = (i / 2 + i % 2 * 16) as u16;
            i += 1;
        }
        from
    };
    // SAFETY: a line is as long as a register.
    let from = unsafe { _mm512_loadu_si512(FROM.as_ptr().cast()) };
    _mm512_permutexvar_epi16(from, v)
}

/// `columns * scale + bias`, rounded to bf16.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
#[inline]
fn emit(columns: [__m512; 4], scale: __m512, bias: __m512, out: &mut FourColumns) {
    let [a, b, c, d] = columns;
    let value = |column| _mm512_fmadd_ps(column, scale, bias);
    store(interleave(narrow(value(a), value(b))), &mut out[0]);
    store(interleave(narrow(value(c), value(d))), &mut out[1]);
}

/// The low (`half` 0) or high (1) nibbles of a register's bytes as f32, by byte of the lane: 0 to 15.
///
/// `vpermps` looks at the low four bits of each lane only, so it is mask and conversion in one.
#[target_feature(enable = "avx512f")]
#[inline]
fn nibbles(bytes: __m512i, half: usize) -> [__m512; 4] {
    const VALUES: [f32; 16] = [
        0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0,
    ];
    // SAFETY: 16 floats are there.
    let values = unsafe { _mm512_loadu_ps(VALUES.as_ptr()) };
    let bytes = _mm512_srlv_epi32(bytes, _mm512_set1_epi32(4 * half as i32));
    [
        bytes,
        _mm512_srli_epi32::<8>(bytes),
        _mm512_srli_epi32::<16>(bytes),
        _mm512_srli_epi32::<24>(bytes),
    ]
    .map(|index| _mm512_permutexvar_ps(index, values))
}

/// What [`biased_bytes`] adds to each byte.
const BYTE_BIAS: f32 = 256.0;

/// A register's bytes as f32, plus 256, by byte of the lane.
///
/// A byte at the top of the mantissa of 256.0 is added to it; one operation masks it and puts it there.
#[target_feature(enable = "avx512f")]
#[inline]
fn biased_bytes(bytes: __m512i) -> [__m512; 4] {
    const MASK_THEN_OR: i32 = 0xea;
    let mask = _mm512_set1_epi32(0xff << 15);
    let bias = _mm512_set1_epi32(BYTE_BIAS.to_bits() as i32);
    [
        _mm512_slli_epi32::<15>(bytes),
        _mm512_slli_epi32::<7>(bytes),
        _mm512_srli_epi32::<1>(bytes),
        _mm512_srli_epi32::<9>(bytes),
    ]
    .map(|v| _mm512_castsi512_ps(_mm512_ternarylogic_epi32::<MASK_THEN_OR>(v, mask, bias)))
}

/// Minus `offset` times the scale: exact, since offsets have few bits.
#[target_feature(enable = "avx512f")]
#[inline]
fn bias(scale: __m512, offset: f32) -> __m512 {
    _mm512_mul_ps(scale, _mm512_set1_ps(-offset))
}

/// Byte `index` of each lane.
#[target_feature(enable = "avx512f")]
#[inline]
fn byte(v: __m512i, index: usize) -> __m512i {
    let down = _mm512_srlv_epi32(v, _mm512_set1_epi32(8 * index as i32));
    _mm512_and_si512(down, _mm512_set1_epi32(0xff))
}

#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
#[inline]
fn q4_0(panel: &[u8], step: usize, out: &mut [FourColumns]) {
    let (scales, quants) = in_pairs(step, 256);
    let scale = load_f16(&panel[scales..]);
    let quants = &panel[quants..][..256];
    let bias = bias(scale, 8.0);
    let (low, high) = out.split_at_mut(4);
    for (i, (low, high)) in low.iter_mut().zip(high).enumerate() {
        let bytes = load(quants, i);
        emit(nibbles(bytes, 0), scale, bias, low);
        emit(nibbles(bytes, 1), scale, bias, high);
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
#[inline]
fn q8_0(panel: &[u8], step: usize, out: &mut [FourColumns]) {
    let (scales, quants) = in_pairs(step, 512);
    let scale = load_f16(&panel[scales..]);
    let quants = &panel[quants..][..512];
    let bias = bias(scale, 128.0 + BYTE_BIAS);
    for (i, out) in out.iter_mut().enumerate() {
        emit(biased_bytes(load(quants, i)), scale, bias, out);
    }
}

/// Sub-block `sub` of a super-block's panel.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
#[inline]
fn q4_k(start: &[u8], sub: usize, out: &mut [FourColumns]) {
    let (scale, min) = q4_k_scales(&start[2048..], sub);
    let scale = _mm512_mul_ps(load_f16(&start[2240..]), scale);
    let min = _mm512_mul_ps(load_f16(&start[2272..]), min);
    let bias = _mm512_sub_ps(_mm512_setzero_ps(), min);
    let quants = &start[sub / 2 * 512..][..512];
    for (i, out) in out.iter_mut().enumerate() {
        emit(nibbles(load(quants, i), sub % 2), scale, bias, out);
    }
}

/// The 6-bit scales and minima of sub-block `sub` for 16 rows; see docs/formats/q4_k.md.
#[target_feature(enable = "avx512f")]
#[inline]
fn q4_k_scales(bytes: &[u8], sub: usize) -> (__m512, __m512) {
    let index = sub % 4;
    let (a, b) = (byte(load(bytes, 0), index), byte(load(bytes, 1), index));
    let (scale, min) = if sub < 4 {
        let six = _mm512_set1_epi32(63);
        (_mm512_and_si512(a, six), _mm512_and_si512(b, six))
    } else {
        let c = byte(load(bytes, 2), index);
        let top = |v| _mm512_slli_epi32::<4>(_mm512_srli_epi32::<6>(v));
        (
            _mm512_or_si512(_mm512_and_si512(c, _mm512_set1_epi32(15)), top(a)),
            _mm512_or_si512(_mm512_srli_epi32::<4>(c), top(b)),
        )
    };
    (_mm512_cvtepi32_ps(scale), _mm512_cvtepi32_ps(min))
}

#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
#[inline]
fn q6_k(panel: &[u8], step: usize, out: &mut [FourColumns]) {
    let (d, start) = in_pairs(step / 8, 3328);
    let d = load_f16(&panel[d..]);
    let start = &panel[start..][..3328];
    let sub = step % 8;
    // Each half of 128 columns: low nibbles of 32 bytes, of 32 more, then the high ones; and 32 bytes with the two
    // high bits of all four.
    let (half, quarter) = (sub / 4, sub % 4);
    let low = &start[half * 1024 + quarter % 2 * 512..][..512];
    let high = &start[2048 + half * 512..][..512];
    let low_right = _mm512_set1_epi32(quarter as i32 / 2 * 4);
    // To the left, or by -2; what crosses from one byte to the next is masked.
    let high_left = _mm512_set1_epi32(4 - 2 * quarter as i32);
    let (four, two) = (_mm512_set1_epi8(0x0f), _mm512_set1_epi8(0x30));
    for (i, out) in out.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        // Signed bytes, one for 16 columns.
        let scale = byte(load(&start[3072..], sub / 2), sub % 2 * 2 + i);
        let scale = _mm512_srai_epi32::<24>(_mm512_slli_epi32::<24>(scale));
        let scale = _mm512_mul_ps(d, _mm512_cvtepi32_ps(scale));
        let bias = bias(scale, 32.0 + BYTE_BIAS);
        for (j, out) in out.iter_mut().enumerate() {
            let low = _mm512_srlv_epi32(load(low, i * 4 + j), low_right);
            let high = _mm512_rolv_epi32(load(high, i * 4 + j), high_left);
            let bytes = _mm512_or_si512(_mm512_and_si512(low, four), _mm512_and_si512(high, two));
            emit(biased_bytes(bytes), scale, bias, out);
        }
    }
}

/// A format that is read by rows.
///
/// # Safety
/// The panel has the step.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn read<F: PanelFormat>(panel: &[u8], step: usize, out: &mut [FourColumns]) {
    let panel = Panel {
        start: panel.as_ptr(),
        row: 0,
    };
    let parts = if F::HALVES { 2 } else { 1 };
    for (half, out) in out.chunks_exact_mut(8 / parts).enumerate() {
        // SAFETY: forwarded from the caller.
        let scale = unsafe { F::scale::<ZmmRows>(panel, step, half) };
        let bias = if F::MIN {
            // SAFETY: forwarded from the caller.
            let min = unsafe { F::min::<ZmmRows>(panel, step, half) };
            _mm512_sub_ps(_mm512_setzero_ps(), min)
        } else {
            bias(scale, F::OFFSET as f32 + BYTE_BIAS)
        };
        for (i, out) in out.iter_mut().enumerate() {
            // SAFETY: forwarded from the caller.
            let quants = unsafe { F::quants::<ZmmRows>(panel, step, half * 4 + i) };
            let columns = biased_bytes(quants.0);
            if F::MIN {
                // With the minimum, the bias of the bytes could not be taken off without rounding.
                let plain = columns.map(|column| _mm512_sub_ps(column, _mm512_set1_ps(BYTE_BIAS)));
                emit(plain, scale, bias, out);
            } else {
                emit(columns, scale, bias, out);
            }
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
#[inline]
fn f16(columns: &[u8], out: &mut [FourColumns]) {
    let columns = columns.as_chunks::<128>().0;
    for (columns, out) in columns.iter().zip(out) {
        for (pair, line) in columns.as_chunks::<64>().0.iter().zip(out) {
            let v = narrow(load_f16(pair), load_f16(&pair[32..]));
            store(interleave(v), line);
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn bf16(columns: &[u8], out: &mut [FourColumns]) {
    for (i, line) in out.as_flattened_mut().iter_mut().enumerate() {
        store(interleave(load(columns, i)), line);
    }
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable;
    use half::bf16;

    use super::*;
    use crate::packed::{PANEL_ROWS, PackedMatrix};
    use crate::pool::Pool;
    use crate::quant::dequantize_row;
    use crate::quant::tests::{integer_formats, put_scales};

    /// To nearest even, with subnormal numbers as zero.
    fn rounded(x: f32) -> f32 {
        if x.is_subnormal() {
            0.0
        } else {
            bf16::from_f32(x).to_f32()
        }
    }

    fn value(bits: u16) -> f32 {
        let x = bf16::from_bits(bits).to_f32();
        if x.is_subnormal() { 0.0 } else { x }
    }

    /// Bytes without pattern.
    fn noise(len: usize, seed: u64) -> Vec<u8> {
        let mut state = seed;
        let next = || {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (state >> 56) as u8
        };
        std::iter::repeat_with(next).take(len).collect()
    }

    fn check(dtype: DType, n_out: usize, n_in: usize, rows: &[u8]) {
        let packed = PackedMatrix::from_rows(&Pool::new(1), dtype, n_out, n_in, rows);
        let row_bytes = dtype.row_bytes(n_in).unwrap();
        let mut want = vec![0.0; n_in];
        let mut tile = Bf16Tile::zeroed();
        for (row, bytes) in rows.chunks_exact(row_bytes).enumerate() {
            dequantize_row(dtype, bytes, &mut want).unwrap();
            let panel = packed.panels(row / PANEL_ROWS, 1);
            for (step, want) in want.as_chunks::<STEP>().0.iter().enumerate() {
                // SAFETY: the caller has asked `available`.
                unsafe { weights(dtype, panel, step, &mut tile) };
                for (column, want) in want.iter().enumerate() {
                    let have = value(tile.0[column / 2][row % PANEL_ROWS * 2 + column % 2]);
                    let want = rounded(*want);
                    assert!(
                        have == want || have.is_nan() && want.is_nan(),
                        "{dtype} row {row} column {}: {have:e}, not {want:e}",
                        step * STEP + column
                    );
                }
            }
        }
    }

    #[test]
    fn weights_are_the_formats_values_rounded_once() {
        if !available() {
            println!("skipped: this CPU has no AVX-512 with bf16");
            return;
        }
        for dtype in [&[DType::F16, DType::BF16], &integer_formats()[..]].concat() {
            let n_in = if dtype.block_len() < 256 { 192 } else { 768 };
            for n_out in [1, 16, 37] {
                let len = dtype.row_bytes(n_in).unwrap() * n_out;
                // All quants and codes of scales, with scales of: noise, the largest, subnormal, zero, NaN. Infinite
                // ones are no one's: what they give is not said.
                let scales = [
                    None,
                    Some(0x7bff),
                    Some(0x0001),
                    Some(0x83ff),
                    Some(0),
                    Some(0x7e00),
                ];
                for (seed, scale) in scales.into_iter().enumerate() {
                    let mut rows = noise(len, seed as u64);
                    for block in rows.chunks_exact_mut(dtype.block_bytes()) {
                        if dtype.block_len() > 1 {
                            let noise = u16::from_le_bytes([block[0], block[1]]) & 0xbbff;
                            put_scales(dtype, block, || scale.unwrap_or(noise));
                        }
                    }
                    check(dtype, n_out, n_in, &rows);
                }
            }
            for byte in [0x00, 0x80, 0x7f, 0xff, 0x88] {
                let mut rows = vec![byte; dtype.row_bytes(n_in).unwrap() * 16];
                for block in rows.chunks_exact_mut(dtype.block_bytes()) {
                    if dtype.block_len() > 1 {
                        put_scales(dtype, block, || 0x2e66);
                    }
                }
                check(dtype, 16, n_in, &rows);
            }
        }
    }

    #[test]
    fn activations_are_rounded_to_nearest_even() {
        if !available() {
            println!("skipped: this CPU has no AVX-512 with bf16");
            return;
        }
        let ties = [
            0x3f80_8000,
            0x3f81_8000,
            0x3f80_7fff,
            0x3f80_8001,
            0xbf81_8000,
        ];
        let extremes = [
            0.0,
            -0.0,
            f32::MAX,
            f32::MIN_POSITIVE,
            -f32::MIN_POSITIVE / 2.0,
            f32::INFINITY,
            f32::NAN,
            1e-30,
        ];
        let x: Vec<f32> = ties
            .into_iter()
            .map(f32::from_bits)
            .chain(extremes)
            .collect();
        let x: Vec<f32> = x.iter().copied().cycle().take(96).collect();
        let mut out = [[0; STEP]; 3];
        // SAFETY: asked above.
        unsafe { activations(&x, &mut out) };
        for (x, have) in x.iter().zip(out.as_flattened()) {
            let (have, want) = (bf16::from_bits(*have).to_f32(), rounded(*x));
            assert!(
                have == want || have.is_nan() && x.is_nan(),
                "{x:e}: {have:e}"
            );
        }
    }
}
