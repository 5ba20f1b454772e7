//! Integer products on packed panels.

use half::f16;
use troika_base::DType;

use crate::activations::{BLOCK, QuantizedTile};
use crate::packed::{PANEL_ROWS, in_pairs};
use crate::panel::{self, ArrayRows, with_format};
use crate::unpacked::{Correction, Unpacked, correction};

/// Byte `i` of row `r` in `[..][16][4]` interleaved bytes.
fn byte(panel: &[u8], r: usize, i: usize) -> u8 {
    panel[(i / 4 * PANEL_ROWS + r) * 4 + i % 4]
}

fn half_float(panel: &[u8], r: usize) -> f32 {
    f16::from_le_bytes([panel[2 * r], panel[2 * r + 1]]).to_f32()
}

/// Takes a panel apart into `[n_in/4][16][4]` unsigned bytes and f32 scales.
pub(crate) fn unpack(dtype: DType, panel: &[u8], n_in: usize, out: &mut Unpacked) {
    if !matches!(dtype, DType::Q4_0 | DType::Q8_0 | DType::Q4_K | DType::Q6_K) {
        // SAFETY: arrays need no features; the dispatcher has checked the panel and the room for it.
        return with_format!(dtype, F => unsafe {
            panel::unpack::<F, ArrayRows>(panel, n_in, out)
        });
    }
    let blocks = n_in / BLOCK;
    let (scale, min) = (floats(&mut out.scale), floats(&mut out.min));
    for r in 0..PANEL_ROWS {
        for block in 0..blocks {
            for k in 0..BLOCK {
                let at = block * BLOCK + k;
                out.q[(at / 4 * PANEL_ROWS + r) * 4 + at % 4] = quant(dtype, panel, r, block, k);
            }
            let at = block * PANEL_ROWS + r;
            let (sb, sub) = (block / 8, block % 8);
            match dtype {
                DType::Q4_0 => scale[at] = half_float(&panel[in_pairs(block, 256).0..], r),
                DType::Q8_0 => scale[at] = half_float(&panel[in_pairs(block, 512).0..], r),
                DType::Q4_K => {
                    let start = &panel[sb * 2304..];
                    let (s, m) = q4_k_scale_min(&start[2048..], r, sub);
                    scale[at] = half_float(&start[2240..], r) * f32::from(s);
                    min[at] = half_float(&start[2272..], r) * f32::from(m);
                }
                _ => {
                    let d = half_float(&panel[in_pairs(sb, 3328).0..], r);
                    for half in 0..2 {
                        let s = byte(&panel[in_pairs(sb, 3328).1 + 3072..], r, sub * 2 + half)
                            .cast_signed();
                        scale[(block * 2 + half) * PANEL_ROWS + r] = d * f32::from(s);
                    }
                }
            }
        }
    }
}

/// Quant `k` of a block of 32, as the unsigned number that kernels multiply.
fn quant(dtype: DType, panel: &[u8], r: usize, block: usize, k: usize) -> u8 {
    let (sb, sub) = (block / 8, block % 8);
    let nibble = |byte: u8, high: bool| if high { byte >> 4 } else { byte & 15 };
    match dtype {
        DType::Q4_0 => nibble(byte(&panel[in_pairs(block, 256).1..], r, k % 16), k >= 16),
        DType::Q8_0 => byte(&panel[in_pairs(block, 512).1..], r, k),
        DType::Q4_K => nibble(byte(&panel[sb * 2304..], r, sub / 2 * 32 + k), sub % 2 == 1),
        _ => {
            let start = &panel[in_pairs(sb, 3328).1..];
            let (half, quarter) = (sub / 4, sub % 4);
            let low = nibble(
                byte(start, r, half * 64 + quarter % 2 * 32 + k),
                quarter >= 2,
            );
            let high = byte(&start[2048..], r, half * 32 + k) >> (2 * quarter) & 3;
            low | high << 4
        }
    }
}

/// The 6-bit scale and minimum of a sub-block from the 12 interleaved scale bytes; see docs/formats/q4_k.md.
fn q4_k_scale_min(scales: &[u8], r: usize, sub: usize) -> (u8, u8) {
    let s = |i| byte(scales, r, i);
    if sub < 4 {
        (s(sub) & 63, s(sub + 4) & 63)
    } else {
        (
            s(sub + 4) & 15 | s(sub - 4) >> 6 << 4,
            s(sub + 4) >> 4 | s(sub) >> 6 << 4,
        )
    }
}

/// Panels taken apart times a tile of tokens: `out` `[w.len()][x.len][16]`.
pub(crate) fn gemm(
    dtype: DType,
    w: &[Unpacked],
    n_in: usize,
    x: QuantizedTile<'_>,
    out: &mut [f32],
) {
    for (w, out) in w.iter().zip(out.chunks_exact_mut(x.len * PANEL_ROWS)) {
        gemm_panel(w, correction(dtype), n_in, x, out);
    }
}

fn gemm_panel(
    w: &Unpacked,
    correction: Correction,
    n_in: usize,
    x: QuantizedTile<'_>,
    out: &mut [f32],
) {
    let (scale, min): (&[f32], &[f32]) =
        (bytemuck::cast_slice(&w.scale), bytemuck::cast_slice(&w.min));
    for (t, out) in out.chunks_exact_mut(PANEL_ROWS).take(x.len).enumerate() {
        for (r, out) in out.iter_mut().enumerate() {
            let mut acc = 0.0f32;
            for block in 0..n_in / BLOCK {
                let at = block * x.len + t;
                let sum = |range: std::ops::Range<usize>, offset: i32| {
                    range
                        .map(|k| {
                            let weight =
                                i32::from(byte(&w.q[block * BLOCK * PANEL_ROWS..], r, k)) - offset;
                            weight * i32::from(x.q[at * BLOCK + k])
                        })
                        .sum::<i32>() as f32
                };
                let scale = |i: usize| scale[i * PANEL_ROWS + r] * x.scale[at];
                match correction {
                    Correction::Offset(offset) => {
                        acc = sum(0..BLOCK, offset).mul_add(scale(block), acc)
                    }
                    Correction::Offset32Half => {
                        acc = sum(0..16, 32).mul_add(scale(block * 2), acc);
                        acc = sum(16..BLOCK, 32).mul_add(scale(block * 2 + 1), acc);
                    }
                    Correction::Offset128Half => {
                        acc = sum(0..16, 128).mul_add(scale(block * 2), acc);
                        acc = sum(16..BLOCK, 128).mul_add(scale(block * 2 + 1), acc);
                    }
                    Correction::MinimumHalf => {
                        acc = sum(0..16, 0).mul_add(scale(block * 2), acc);
                        acc = sum(16..BLOCK, 0).mul_add(scale(block * 2 + 1), acc);
                        for half in 0..2 {
                            let min = min[(block * 2 + half) * PANEL_ROWS + r] * x.scale[at];
                            acc = (x.neg_sum[at][half] as f32).mul_add(min, acc);
                        }
                    }
                    Correction::Minimum => {
                        acc = sum(0..BLOCK, 0).mul_add(scale(block), acc);
                        acc = (-min[block * PANEL_ROWS + r]).mul_add(x.scaled_sum[at], acc);
                    }
                }
            }
            *out = acc;
        }
    }
}

/// `count` panels times one token: `out` `[count][16]`.
pub(crate) fn gemv(
    dtype: DType,
    panels: &[u8],
    count: usize,
    n_in: usize,
    x: QuantizedTile<'_>,
    out: &mut [f32],
) {
    let mut unpacked = Unpacked::new(n_in, 1);
    for (panel, out) in panels
        .chunks_exact(panels.len() / count)
        .zip(out.chunks_exact_mut(PANEL_ROWS))
    {
        unpack(dtype, panel, n_in, &mut unpacked);
        gemm_panel(&unpacked, correction(dtype), n_in, x, out);
    }
}

fn floats(bytes: &mut [u8]) -> &mut [f32] {
    bytemuck::cast_slice_mut(bytes)
}
