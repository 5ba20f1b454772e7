//! What the sets are fed with: ordinary numbers, and the ones that go wrong.

use half::f16;
use troika_base::DType;

use crate::activations::{BLOCK, QuantizedTile};
use crate::buffer::AlignedBuf;
use crate::kv::{HeadLayout, PAGE_TOKENS};
use crate::quant::tests::put_scales;

/// Formats that are multiplied as floats.
pub(super) const FLOAT: [DType; 3] = [DType::F32, DType::F16, DType::BF16];

/// The same numbers for the same seed, without pattern (SplitMix64).
pub(super) struct Noise(u64);

impl Noise {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn bits(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits >> 32) as u32
    }

    /// In -1..1.
    pub(super) fn unit(&mut self) -> f32 {
        self.bits().cast_signed() as f32 / 2f32.powi(31)
    }

    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.bits() as usize % from.len()]
    }
}

/// Where floats come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Floats {
    /// Between -1 and 1.
    Usual,
    /// One value in four is huge, tiny, or a zero of either sign.
    Rough,
    /// Any bits: infinities and NaN too.
    Any,
}

impl Floats {
    pub(super) const ALL: [Self; 3] = [Self::Usual, Self::Rough, Self::Any];

    pub(super) fn one(self, noise: &mut Noise) -> f32 {
        const ROUGH: [f32; 8] = [1e30, -1e30, 1e-38, -1e-38, 1e-42, 0.0, -0.0, 3e38];
        match self {
            Self::Rough if noise.bits().is_multiple_of(4) => noise.pick(&ROUGH),
            Self::Any => f32::from_bits(noise.bits()),
            _ => noise.unit(),
        }
    }

    pub(super) fn many(self, len: usize, noise: &mut Noise) -> Vec<f32> {
        (0..len).map(|_| self.one(noise)).collect()
    }

    /// As a finite f16: a later token's infinity times its weight of zero would be seen or not, as queries are grouped.
    fn half(self, noise: &mut Noise) -> u16 {
        let value = f16::from_f32(self.one(noise));
        let finite = value.max(f16::MIN).min(f16::MAX);
        if finite.is_nan() { 0 } else { finite.to_bits() }
    }
}

/// Quants of weights or activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bytes {
    All(u8),
    Random,
    /// The lowest and the highest number in turn, as signed bytes.
    Ends,
}

impl Bytes {
    fn one(self, index: usize, noise: &mut Noise) -> u8 {
        match self {
            Self::All(byte) => byte,
            Self::Random => noise.bits() as u8,
            Self::Ends => [0x80, 0x7f][index % 2],
        }
    }
}

/// The f16 scales of weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scales {
    Usual,
    /// Zero, subnormal, the largest of either sign, and usual ones, block by block.
    Extreme,
    /// Any bits: infinities and NaN too.
    Any,
}

impl Scales {
    fn one(self, noise: &mut Noise) -> u16 {
        let usual = f16::from_f32(noise.unit() / 16.0).to_bits();
        match self {
            Self::Usual => usual,
            Self::Extreme => noise.pick(&[0, 0x8000, 0x0001, 0x8001, 0x7bff, 0xfbff, usual, usual]),
            Self::Any => noise.bits() as u16,
        }
    }
}

/// Rows of an integer format as in a file, with any quants, also those that a quantizer never writes.
pub(super) fn rows(
    dtype: DType,
    n_out: usize,
    n_in: usize,
    (quants, scales): (Bytes, Scales),
    noise: &mut Noise,
) -> Vec<u8> {
    let mut rows = vec![0; n_out * dtype.row_bytes(n_in).expect("whole blocks")];
    for block in rows.chunks_exact_mut(dtype.block_bytes()) {
        for (index, byte) in block.iter_mut().enumerate() {
            *byte = quants.one(index, noise);
        }
        put_scales(dtype, block, || scales.one(noise));
    }
    rows
}

/// Rows of a float format as in a file.
pub(super) fn float_rows(
    dtype: DType,
    n_out: usize,
    n_in: usize,
    floats: Floats,
    noise: &mut Noise,
) -> Vec<u8> {
    let values = (0..n_out * n_in).map(|_| floats.one(noise));
    match dtype {
        DType::F32 => values.flat_map(f32::to_le_bytes).collect(),
        DType::F16 => values
            .flat_map(|x| f16::from_f32(x).to_le_bytes())
            .collect(),
        _ => values
            .flat_map(|x| half::bf16::from_f32(x).to_le_bytes())
            .collect(),
    }
}

/// A tile of quantized activations that owns what [`QuantizedTile`] borrows.
pub(super) struct Tokens {
    pub(super) len: usize,
    /// `[block][token][32]`
    pub(super) q: Vec<i8>,
    /// `[block][token]`
    pub(super) scale: Vec<f32>,
    neg_sum: Vec<[i32; 2]>,
    scaled_sum: Vec<f32>,
}

impl Tokens {
    /// Any quants, -128 too, with the sums that belong to them.
    pub(super) fn new(
        len: usize,
        n_in: usize,
        quants: Bytes,
        scales: Floats,
        noise: &mut Noise,
    ) -> Self {
        let blocks = len * n_in / BLOCK;
        let q: Vec<i8> = (0..blocks * BLOCK)
            .map(|index| quants.one(index, noise).cast_signed())
            .collect();
        let scale = scales.many(blocks, noise);
        let neg_sum: Vec<[i32; 2]> = q
            .as_chunks::<BLOCK>()
            .0
            .iter()
            .map(|block| {
                let sum = |half: &[i8]| half.iter().map(|&q| i32::from(q)).sum::<i32>();
                [-sum(&block[..16]), -sum(&block[16..])]
            })
            .collect();
        let scaled_sum = scale
            .iter()
            .zip(&neg_sum)
            .map(|(scale, [low, high])| scale * -(low + high) as f32)
            .collect();
        Self {
            len,
            q,
            scale,
            neg_sum,
            scaled_sum,
        }
    }

    pub(super) fn tile(&self) -> QuantizedTile<'_> {
        QuantizedTile {
            len: self.len,
            q: &self.q,
            scale: &self.scale,
            neg_sum: &self.neg_sum,
            scaled_sum: &self.scaled_sum,
        }
    }
}

/// Some pages of a head.
pub(super) fn pages(
    count: usize,
    layout: HeadLayout,
    floats: Floats,
    noise: &mut Noise,
) -> Vec<AlignedBuf> {
    let mut token = || -> Vec<f16> {
        let value = |_| f16::from_bits(floats.half(noise));
        (0..layout.head_dim).map(value).collect()
    };
    let mut page = || {
        let mut page = AlignedBuf::zeroed(layout.bytes());
        for index in 0..PAGE_TOKENS {
            layout.put(&mut page, index, &token(), &token());
        }
        page
    };
    (0..count).map(|_| page()).collect()
}
