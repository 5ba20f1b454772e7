//! Quantized keys and values, made what attention reads.
//!
//! A page of one head is unpacked into the nearest cache just before it is read, once for all queries that share it;
//! memory is read in the quantized bytes.

use troika_base::KvType;

use super::attention::padded;
use crate::kv::{BLOCK, HeadLayout, PAGE_TOKENS};
use crate::lanes::{LANES, Lanes};

/// Unpacks a page of a head: `k` is `[head_dim][PAGE_TOKENS]` f16, `v` `[PAGE_TOKENS][padded(head_dim)]` f16.
///
/// # Safety
/// The features of `L` are there; page, `k` and `v` have the layout's sizes; the layout is a quantized one.
#[inline(always)]
pub(crate) unsafe fn unpack<L: Lanes>(
    layout: HeadLayout,
    page: &[u8],
    k: &mut [u16],
    v: &mut [u16],
) {
    let [keys, key_scales, values, value_scales] = layout.parts(page).map(<[u8]>::as_ptr);
    let (n_block, width) = (layout.n_block(), padded(layout.head_dim));
    let (key_scales, value_scales) = (key_scales.cast::<u16>(), value_scales.cast::<u16>());
    // SAFETY: rows and scales are inside their parts; the rest is forwarded from the caller.
    unsafe {
        for d in 0..layout.head_dim {
            let scale = key_scales.add(d / BLOCK * PAGE_TOKENS);
            let scale = (L::load_f16(scale), L::load_f16(scale.add(LANES)));
            let (low, high) = row::<L>(layout, keys, d);
            let to = k.as_mut_ptr().add(d * PAGE_TOKENS);
            low.mul(scale.0).store_f16(to);
            high.mul(scale.1).store_f16(to.add(LANES));
        }
        for token in 0..PAGE_TOKENS {
            for block in 0..n_block {
                let at = token * n_block + block;
                let scale = half::f16::from_bits(*value_scales.add(at)).to_f32();
                let scale = L::splat(scale);
                let (low, high) = row::<L>(layout, values, at);
                let to = v.as_mut_ptr().add(token * width + block * BLOCK);
                low.mul(scale).store_f16(to);
                if block * BLOCK + LANES < width {
                    high.mul(scale).store_f16(to.add(LANES));
                }
            }
        }
    }
}

/// The 32 whole numbers of a row.
#[inline(always)]
unsafe fn row<L: Lanes>(layout: HeadLayout, rows: *const u8, i: usize) -> (L, L) {
    // SAFETY: forwarded from the caller.
    unsafe {
        match layout.kv_type {
            KvType::Q4_0 => {
                let (low, high) = L::load_nibbles(rows.add(i * BLOCK / 2));
                let zero = L::splat(8.0);
                (low.sub(zero), high.sub(zero))
            }
            KvType::F16 | KvType::Q8_0 => {
                let row = rows.add(i * BLOCK).cast::<i8>();
                (L::load_i8(row), L::load_i8(row.add(LANES)))
            }
        }
    }
}
