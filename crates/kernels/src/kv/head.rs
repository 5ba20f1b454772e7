//! Keys and values of one head in one page, as each [`KvType`] keeps them.
//!
//! All types take and give f16. What has been kept once and is given away comes back the same to the bit when it is kept
//! again, so that a conversation may leave a cache and return.
//!
//! A quantized page has four parts: keys `[head_dim][32 tokens]`, their scales `[block][32 tokens]`, values
//! `[32 tokens][block of 32]`, their scales `[block][32 tokens]`. A block is 32 values of one token, the last one of a
//! head may be shorter. Of four bits, the second half of a row lies in the upper halves of the first half's bytes.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use troika_base::KvType;

use super::PAGE_TOKENS;
use crate::float::attention::padded;

/// Values that share a scale.
pub(crate) const BLOCK: usize = 32;

/// Bytes of 32 values without their scales.
pub(crate) const fn row_bytes(kv_type: KvType) -> usize {
    match kv_type {
        KvType::F16 => 2 * BLOCK,
        KvType::Q8_0 => BLOCK,
        KvType::Q4_0 => BLOCK / 2,
    }
}

/// Where the parts of a head's page lie.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeadLayout {
    pub(crate) kv_type: KvType,
    pub(crate) head_dim: usize,
}

impl HeadLayout {
    /// Blocks of a token.
    pub(crate) fn n_block(self) -> usize {
        self.head_dim.div_ceil(BLOCK)
    }

    fn row_bytes(self) -> usize {
        row_bytes(self.kv_type)
    }

    fn scales_bytes(self) -> usize {
        match self.kv_type {
            KvType::F16 => 0,
            KvType::Q8_0 | KvType::Q4_0 => self.n_block() * PAGE_TOKENS * size_of::<f16>(),
        }
    }

    /// Bytes of the keys without their scales.
    fn keys_bytes(self) -> usize {
        self.head_dim * self.row_bytes()
    }

    /// Bytes of a token's values without their scales.
    pub(crate) fn value_row_bytes(self) -> usize {
        match self.kv_type {
            KvType::F16 => padded(self.head_dim) * size_of::<f16>(),
            KvType::Q8_0 | KvType::Q4_0 => self.n_block() * self.row_bytes(),
        }
    }

    /// Bytes of the page.
    pub(crate) fn bytes(self) -> usize {
        self.keys_bytes() + PAGE_TOKENS * self.value_row_bytes() + 2 * self.scales_bytes()
    }

    /// The four parts: keys, their scales, values, their scales.
    pub(crate) fn parts(self, page: &[u8]) -> [&[u8]; 4] {
        let (keys, rest) = page.split_at(self.keys_bytes());
        let (key_scales, rest) = rest.split_at(self.scales_bytes());
        let (values, value_scales) = rest.split_at(PAGE_TOKENS * self.value_row_bytes());
        [keys, key_scales, values, value_scales]
    }

    fn parts_mut(self, page: &mut [u8]) -> [&mut [u8]; 4] {
        let (keys, rest) = page.split_at_mut(self.keys_bytes());
        let (key_scales, rest) = rest.split_at_mut(self.scales_bytes());
        let (values, value_scales) = rest.split_at_mut(PAGE_TOKENS * self.value_row_bytes());
        [keys, key_scales, values, value_scales]
    }

    /// Keeps a token at `index`: its keys and values are `[head_dim]`.
    pub(crate) fn put(self, page: &mut [u8], index: usize, k: &[f16], v: &[f16]) {
        let [keys, key_scales, values, value_scales] = self.parts_mut(page);
        let values = &mut values[index * self.value_row_bytes()..][..self.value_row_bytes()];
        if self.kv_type == KvType::F16 {
            let column = halves_mut(keys)[index..].iter_mut().step_by(PAGE_TOKENS);
            column.zip(k).for_each(|(to, key)| *to = *key);
            halves_mut(values)[..self.head_dim].copy_from_slice(v);
            return;
        }
        let key_scales = halves_mut(key_scales)[index..]
            .iter_mut()
            .step_by(PAGE_TOKENS);
        let blocks = k
            .chunks(BLOCK)
            .zip(keys.chunks_mut(BLOCK * self.row_bytes()));
        for ((k, rows), scale) in blocks.zip(key_scales) {
            let block = Block::of(self.kv_type, k);
            *scale = block.scale;
            for (&q, row) in block.q.iter().zip(rows.chunks_exact_mut(self.row_bytes())) {
                self.put_one(row, index, q);
            }
        }
        let value_scales = halves_mut(value_scales)[index..]
            .iter_mut()
            .step_by(PAGE_TOKENS);
        let blocks = v
            .chunks(BLOCK)
            .zip(values.chunks_exact_mut(self.row_bytes()));
        for ((v, row), scale) in blocks.zip(value_scales) {
            let block = Block::of(self.kv_type, v);
            *scale = block.scale;
            for (i, &q) in block.q.iter().enumerate() {
                self.put_one(row, i, q);
            }
        }
    }

    /// Gives the token at `index` away.
    pub(crate) fn get(self, page: &[u8], index: usize, k: &mut [f16], v: &mut [f16]) {
        let [keys, key_scales, values, value_scales] = self.parts(page);
        let values = &values[index * self.value_row_bytes()..][..self.value_row_bytes()];
        if self.kv_type == KvType::F16 {
            let column = halves(keys)[index..].iter().step_by(PAGE_TOKENS);
            k.iter_mut().zip(column).for_each(|(to, key)| *to = *key);
            v.copy_from_slice(&halves(values)[..self.head_dim]);
            return;
        }
        let rows = keys.chunks_exact(self.row_bytes());
        for (d, (to, row)) in k.iter_mut().zip(rows).enumerate() {
            let scale = halves(key_scales)[d / BLOCK * PAGE_TOKENS + index];
            *to = product(self.one(row, index), scale);
        }
        for (i, to) in v.iter_mut().enumerate() {
            let row = &values[i / BLOCK * self.row_bytes()..];
            let scale = halves(value_scales)[i / BLOCK * PAGE_TOKENS + index];
            *to = product(self.one(row, i % BLOCK), scale);
        }
    }

    /// Writes a row's value `i` of 32.
    fn put_one(self, row: &mut [u8], i: usize, q: i8) {
        match self.kv_type {
            KvType::Q4_0 => {
                let (byte, shift) = (&mut row[i % (BLOCK / 2)], i / (BLOCK / 2) * 4);
                *byte = *byte & !(15 << shift) | ((q + 8) as u8) << shift;
            }
            KvType::F16 | KvType::Q8_0 => row[i] = q as u8,
        }
    }

    /// Reads a row's value `i` of 32.
    fn one(self, row: &[u8], i: usize) -> i8 {
        match self.kv_type {
            KvType::Q4_0 => (row[i % (BLOCK / 2)] >> (i / (BLOCK / 2) * 4) & 15) as i8 - 8,
            KvType::F16 | KvType::Q8_0 => row[i] as i8,
        }
    }
}

/// Up to 32 quantized values of a token.
struct Block {
    scale: f16,
    q: [i8; BLOCK],
}

impl Block {
    /// Quantizes `x`. The largest value comes back from f16 as such a multiple of the scale that it gives the same scale
    /// again: exactly, for -8 of four bits; for 127 of eight bits because three bits of the scale are left out. What is
    /// not finite spoils the block, and shows.
    fn of(kv_type: KvType, x: &[f16]) -> Self {
        let mut values = [0.0f32; BLOCK];
        x.convert_to_f32_slice(&mut values[..x.len()]);
        if values.iter().any(|v| !v.is_finite()) {
            let (scale, q) = (f16::NAN, [0; BLOCK]);
            return Self { scale, q };
        }
        let larger = |a: f32, b: f32| if b.abs() > a.abs() { b } else { a };
        let largest = values.into_iter().fold(0.0, larger);
        let (scale, low, high) = match kv_type {
            KvType::Q4_0 => (f16::from_f32(largest / -8.0), -8.0, 7.0),
            KvType::F16 | KvType::Q8_0 => (eight_bits(largest.abs() / 127.0), -127.0, 127.0),
        };
        // A zero of one sign only.
        let (scale, inverse) = match scale.to_f32() {
            0.0 => (f16::ZERO, 0.0),
            value => (scale, 1.0 / value),
        };
        let q = values.map(|v| (v * inverse).round_ties_even().clamp(low, high) as i8);
        Self { scale, q }
    }
}

/// To the nearest f16 of eight significant bits. Where f16 has fewer, up to a power of two.
fn eight_bits(scale: f32) -> f16 {
    if scale >= f16::MIN_POSITIVE.to_f32() || scale == 0.0 {
        // A bf16 has eight.
        return f16::from_f32(bf16::from_f32(scale).to_f32());
    }
    let units = (scale / f16::MIN_POSITIVE_SUBNORMAL.to_f32()).ceil() as u16;
    f16::from_bits(units.next_power_of_two())
}

fn product(q: i8, scale: f16) -> f16 {
    f16::from_f32(f32::from(q) * scale.to_f32())
}

pub(crate) fn halves(bytes: &[u8]) -> &[f16] {
    bytemuck::cast_slice(bytes)
}

fn halves_mut(bytes: &mut [u8]) -> &mut [f16] {
    bytemuck::cast_slice_mut(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const QUANTIZED: [KvType; 2] = [KvType::Q8_0, KvType::Q4_0];

    /// A token's keys and values.
    type Token = (Vec<f16>, Vec<f16>);

    /// Of every size that heads are given, the largest and the smallest as well.
    fn token(head_dim: usize) -> impl Strategy<Value = Token> {
        let size = prop::sample::select(vec![1e-7f32, 1e-4, 1.0, 60_000.0]);
        let value = (size, -1.0f32..=1.0).prop_map(|(size, v)| f16::from_f32(size * v));
        let row = prop::collection::vec(value, head_dim);
        (row.clone(), row)
    }

    fn tokens() -> impl Strategy<Value = (KvType, usize, Vec<(usize, Token)>)> {
        let layout = (prop::sample::select(QUANTIZED.to_vec()), 1usize..140);
        layout.prop_flat_map(|(kv_type, head_dim)| {
            let at = (0..PAGE_TOKENS, token(head_dim));
            (
                Just(kv_type),
                Just(head_dim),
                prop::collection::vec(at, 1..6),
            )
        })
    }

    fn get(layout: HeadLayout, page: &[u8], index: usize) -> Token {
        let row = vec![f16::NAN; layout.head_dim];
        let (mut k, mut v) = (row.clone(), row);
        layout.get(page, index, &mut k, &mut v);
        (k, v)
    }

    /// As far from the block's largest value as the type allows: half a step, and a whole one at +8 of four bits.
    fn check_block(kv_type: KvType, want: &[f16], have: &[f16]) -> Result<(), TestCaseError> {
        for (want, have) in want.chunks(BLOCK).zip(have.chunks(BLOCK)) {
            let largest = want.iter().fold(0.0f32, |a, v| a.max(v.to_f32().abs()));
            let steps = match kv_type {
                KvType::Q4_0 => 8.0,
                _ => 127.0 * 2.0 * 0.98,
            };
            // The smallest scales are powers of two.
            let steps = if largest / 127.0 < 2f32.powi(-14) {
                steps / 2.0
            } else {
                steps
            };
            let bound = largest * (1.01 / steps + 2f32.powi(-11)) + 2f32.powi(-21);
            for (want, have) in want.iter().zip(have) {
                let off = (want.to_f32() - have.to_f32()).abs();
                prop_assert!(off <= bound, "{kv_type}: {want} became {have}");
            }
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn what_is_kept_is_given_away_and_kept_again((kv_type, head_dim, tokens) in tokens()) {
            let layout = HeadLayout { kv_type, head_dim };
            let mut page = vec![0; layout.bytes()];
            for (index, (k, v)) in &tokens {
                layout.put(&mut page, *index, k, v);
                let (have_k, have_v) = get(layout, &page, *index);
                check_block(kv_type, k, &have_k)?;
                check_block(kv_type, v, &have_v)?;
            }
            let mut again = page.clone();
            for (index, _) in &tokens {
                let (k, v) = get(layout, &page, *index);
                layout.put(&mut again, *index, &k, &v);
            }
            prop_assert!(page == again, "another page");
        }
    }

    #[test]
    fn what_is_not_finite_shows() {
        for (kv_type, bad) in [(KvType::Q8_0, f16::INFINITY), (KvType::Q4_0, f16::NAN)] {
            let layout = HeadLayout {
                kv_type,
                head_dim: 40,
            };
            let mut page = vec![0; layout.bytes()];
            let mut k = [f16::ONE; 40];
            k[3] = bad;
            layout.put(&mut page, 7, &k, &[f16::ONE; 40]);
            let (k, v) = get(layout, &page, 7);
            assert!(k[..BLOCK].iter().all(|k| k.is_nan()));
            assert!(k[BLOCK..].iter().chain(&v).all(|k| !k.is_nan()));
        }
    }
}
