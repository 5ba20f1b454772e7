//! IQ1, IQ2 and IQ3: weights whose magnitudes are points of a grid; 1.56 to 3.44 bits per weight.
//!
//! How blocks are read and written; [`grid_search`](super::grid_search) finds what to write.

use bytemuck::{Pod, Zeroable};
use troika_base::DType;

use super::grid_search::{Found, Group, Kind, Signs};
use super::{Block, F16Le, grids, search};

/// Defines a block's type: its format, bytes and fields, the weights of 32, the search, and the block with what that found.
macro_rules! grid_block {
    (
        $(#[$doc:meta])* $name:ident, $dtype:ident, $bytes:literal,
        { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* },
        |$self:ident, $b:ident| $weights:expr,
        $kind:expr,
        |$found:ident| $write:expr
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
        #[repr(C)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $type,)*
        }

        const _: () = assert!(size_of::<$name>() == $bytes && align_of::<$name>() == 1);

        impl Block<256> for $name {
            const DTYPE: DType = DType::$dtype;

            fn dequantize(&$self, out: &mut [f32; 256]) {
                for ($b, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
                    *out = $weights;
                }
            }

            fn quantize(x: &[f32; 256]) -> Self {
                Self::quantize_weighted(x, None)
            }

            /// By trying every point of the grid: thorough, and slow.
            fn quantize_weighted(x: &[f32; 256], importance: Option<&[f32; 256]>) -> Self {
                let kind: Kind = $kind;
                let $found = kind.search(x, &search::importance(x, importance)).unwrap_or(DAMAGED);
                $write
            }
        }
    };
}

/// A block that cannot be quantized.
const DAMAGED: Found = Found {
    d: F16Le::NAN,
    codes: [[0; 2]; 8],
    groups: [[Group {
        points: [0; 2],
        signs: 0,
        is_lowered: false,
    }; 4]; 8],
};

/// The signs of 32 weights, 7 of each 8, below a code of 4 bits.
fn signs_and_code(groups: &[Group; 4], code: u8) -> u32 {
    let signs = groups.iter().rev();
    let signs = signs.fold(0, |signs, group| signs << 7 | u32::from(group.signs & 0x7f));
    signs | u32::from(code) << 28
}

/// The nibble of a byte for the first or the second half of a block.
fn nibble(byte: u8, half: usize) -> u8 {
    byte >> (4 * half) & 0xf
}

/// Bit 7 makes the number of ones even.
fn even_signs(seven: u8) -> u8 {
    seven | (seven.count_ones() as u8 & 1) << 7
}

/// A block of 32 from its four groups of 8 magnitudes and signs, and a scale for each half.
fn signed(group: impl Fn(usize) -> ([u8; 8], u8), scale: impl Fn(usize) -> f32) -> [f32; 32] {
    let mut weights = [0.0; 32];
    for (g, weights) in weights.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let (magnitudes, signs) = group(g);
        for (i, (weight, magnitude)) in weights.iter_mut().zip(magnitudes).enumerate() {
            let sign = if signs >> i & 1 == 1 { -1.0 } else { 1.0 };
            *weight = scale(g / 2) * f32::from(magnitude) * sign;
        }
    }
    weights
}

/// Two neighbouring points of 4 weights.
fn pair(grid: &[u32], indices: [usize; 2]) -> [u8; 8] {
    let [a, b] = indices.map(|index| grid[index].to_le_bytes());
    std::array::from_fn(|i| if i < 4 { a[i] } else { b[i - 4] })
}

grid_block!(
    /// `d · (code + 1/2) / 4 · ±magnitude`, with a code for each 32.
    ///
    /// | bytes | content |
    /// |---|---|
    /// | 0..2 | `d`, f16 |
    /// | 2..66 | `qs`: for each 32 the indices of four points of 8, then a little-endian u32: four times 7 signs, and the code |
    ///
    /// Source: ggml `block_iq2_xxs`, docs/formats/iq.md.
    BlockIQ2_XXS, IQ2_XXS, 66,
    {
        /// The scale of the scales.
        d: F16Le,
        /// Indices, signs and codes of scales.
        qs: [[u8; 8]; 8],
    },
    |self, b| {
        let [points @ .., s0, s1, s2, s3] = self.qs[b];
        let signs = u32::from_le_bytes([s0, s1, s2, s3]);
        let scale = self.d.to_f32() * (0.5 + (signs >> 28) as f32) * 0.25;
        let group = |g: usize| {
            let seven = (signs >> (7 * g) & 0x7f) as u8;
            (grids::point(&grids::IQ2_XXS, points[g].into()), even_signs(seven))
        };
        signed(group, |_| scale)
    },
    Kind {
        grid: &grids::IQ2_XXS,
        point_len: 8,
        scale_len: 32,
        signs: Signs::Even,
        scale: (0.125, 0.25, 15),
    },
    |found| Self {
        d: found.d,
        qs: std::array::from_fn(|b| {
            let groups = &found.groups[b];
            let [s0, s1, s2, s3] = signs_and_code(groups, found.codes[b][0]).to_le_bytes();
            let [p0, p1, p2, p3] = groups.map(|group| group.points[0] as u8);
            [p0, p1, p2, p3, s0, s1, s2, s3]
        }),
    }
);

grid_block!(
    /// `d · (code + 1/2) / 4 · ±magnitude`, with a code for each 16.
    ///
    /// | bytes | content |
    /// |---|---|
    /// | 0..2 | `d`, f16 |
    /// | 2..66 | `qs`: for each 8 a little-endian u16: 9 bits of index, 7 signs |
    /// | 66..74 | `scales`: a code in each nibble |
    ///
    /// Source: ggml `block_iq2_xs`, docs/formats/iq.md.
    BlockIQ2_XS, IQ2_XS, 74,
    {
        /// The scale of the scales.
        d: F16Le,
        /// Indices and signs.
        qs: [[[u8; 2]; 4]; 8],
        /// Codes of scales.
        scales: [u8; 8],
    },
    |self, b| {
        let group = |g: usize| {
            let code = u16::from_le_bytes(self.qs[b][g]);
            let point = grids::point(&grids::IQ2_XS, usize::from(code & 511));
            (point, even_signs((code >> 9) as u8))
        };
        signed(group, |half| {
            self.d.to_f32() * (0.5 + f32::from(nibble(self.scales[b], half))) * 0.25
        })
    },
    Kind {
        grid: &grids::IQ2_XS,
        point_len: 8,
        scale_len: 16,
        signs: Signs::Even,
        scale: (0.125, 0.25, 15),
    },
    |found| Self {
        d: found.d,
        qs: (found.groups)
            .map(|b| b.map(|g| (g.points[0] | u16::from(g.signs & 0x7f) << 9).to_le_bytes())),
        scales: found.codes.map(|[low, high]| low | high << 4),
    }
);

grid_block!(
    /// `d · (code + 1/2) / 4 · ±magnitude`, with a code for each 16.
    ///
    /// | bytes | content |
    /// |---|---|
    /// | 0..2 | `d`, f16 |
    /// | 2..34 | `qs`: for each 8 the low bits of the index |
    /// | 34..66 | `signs`: for each 8 a byte |
    /// | 66..74 | `qh`: for each 32 four times the high 2 bits |
    /// | 74..82 | `scales`: a code in each nibble |
    ///
    /// Source: ggml `block_iq2_s`, docs/formats/iq.md.
    BlockIQ2_S, IQ2_S, 82,
    {
        /// The scale of the scales.
        d: F16Le,
        /// Low bits of indices.
        qs: [[u8; 4]; 8],
        /// Signs.
        signs: [[u8; 4]; 8],
        /// High bits of indices.
        qh: [u8; 8],
        /// Codes of scales.
        scales: [u8; 8],
    },
    |self, b| {
        let group = |g: usize| {
            let high = usize::from(self.qh[b] >> (2 * g) & 3);
            let index = usize::from(self.qs[b][g]) | high << 8;
            (grids::point(&grids::IQ2_S, index), self.signs[b][g])
        };
        signed(group, |half| {
            self.d.to_f32() * (0.5 + f32::from(nibble(self.scales[b], half))) * 0.25
        })
    },
    Kind {
        grid: &grids::IQ2_S,
        point_len: 8,
        scale_len: 16,
        signs: Signs::Free,
        scale: (0.125, 0.25, 15),
    },
    |found| Self {
        d: found.d,
        qs: found.groups.map(|b| b.map(|group| group.points[0] as u8)),
        signs: found.groups.map(|b| b.map(|group| group.signs)),
        qh: (found.groups)
            .map(|b| (0..4).fold(0, |bits, g| bits | ((b[g].points[0] >> 8) as u8) << (2 * g))),
        scales: found.codes.map(|[low, high]| low | high << 4),
    }
);

grid_block!(
    /// `d · (code + 1/2) / 2 · ±magnitude`, with a code for each 32.
    ///
    /// | bytes | content |
    /// |---|---|
    /// | 0..2 | `d`, f16 |
    /// | 2..66 | `qs`: for each 4 the index of a point |
    /// | 66..98 | `signs`: for each 32 a little-endian u32: four times 7 signs, and the code |
    ///
    /// Source: ggml `block_iq3_xxs`, docs/formats/iq.md.
    BlockIQ3_XXS, IQ3_XXS, 98,
    {
        /// The scale of the scales.
        d: F16Le,
        /// Indices.
        qs: [[u8; 8]; 8],
        /// Signs and codes of scales.
        signs: [[u8; 4]; 8],
    },
    |self, b| {
        let signs = u32::from_le_bytes(self.signs[b]);
        let scale = self.d.to_f32() * (0.5 + (signs >> 28) as f32) * 0.5;
        let group = |g: usize| {
            let points = [2 * g, 2 * g + 1].map(|i| self.qs[b][i].into());
            let seven = (signs >> (7 * g) & 0x7f) as u8;
            (pair(&grids::IQ3_XXS, points), even_signs(seven))
        };
        signed(group, |_| scale)
    },
    Kind {
        grid: &grids::IQ3_XXS,
        point_len: 4,
        scale_len: 32,
        signs: Signs::Even,
        scale: (0.25, 0.5, 15),
    },
    |found| Self {
        d: found.d,
        qs: (found.groups)
            .map(|b| std::array::from_fn(|i| b[i / 2].points[i % 2] as u8)),
        signs: std::array::from_fn(|b| {
            signs_and_code(&found.groups[b], found.codes[b][0]).to_le_bytes()
        }),
    }
);

grid_block!(
    /// `d · (2 code + 1) · ±magnitude`, with a code for each 32.
    ///
    /// | bytes | content |
    /// |---|---|
    /// | 0..2 | `d`, f16 |
    /// | 2..66 | `qs`: for each 4 the low bits of the index |
    /// | 66..74 | `qh`: for each 32 eight times the high bit |
    /// | 74..106 | `signs`: for each 8 a byte |
    /// | 106..110 | `scales`: a code in each nibble |
    ///
    /// Source: ggml `block_iq3_s`, docs/formats/iq.md.
    BlockIQ3_S, IQ3_S, 110,
    {
        /// The scale of the scales.
        d: F16Le,
        /// Low bits of indices.
        qs: [[u8; 8]; 8],
        /// High bits of indices.
        qh: [u8; 8],
        /// Signs.
        signs: [[u8; 4]; 8],
        /// Codes of scales.
        scales: [u8; 4],
    },
    |self, b| {
        let code = f32::from(nibble(self.scales[b / 2], b % 2));
        let scale = self.d.to_f32() * (1.0 + 2.0 * code);
        let group = |g: usize| {
            let points = [2 * g, 2 * g + 1].map(|i| {
                let high = usize::from(self.qh[b] >> i & 1);
                usize::from(self.qs[b][i]) | high << 8
            });
            (pair(&grids::IQ3_S, points), self.signs[b][g])
        };
        signed(group, |_| scale)
    },
    Kind {
        grid: &grids::IQ3_S,
        point_len: 4,
        scale_len: 32,
        signs: Signs::Free,
        scale: (1.0, 2.0, 15),
    },
    |found| Self {
        d: found.d,
        qs: (found.groups)
            .map(|b| std::array::from_fn(|i| b[i / 2].points[i % 2] as u8)),
        qh: (found.groups).map(|b| {
            (0..8).fold(0, |bits, i| bits | ((b[i / 2].points[i % 2] >> 8) as u8) << i)
        }),
        signs: found.groups.map(|b| b.map(|group| group.signs)),
        scales: std::array::from_fn(|i| found.codes[2 * i][0] | found.codes[2 * i + 1][0] << 4),
    }
);

/// What the weights of a group of IQ1 are moved by, up or down.
const SHIFT: f32 = 0.125;

/// A block of 32 from its four groups: a point, whether it is moved down, and a scale.
fn shifted(group: impl Fn(usize) -> (usize, bool, f32)) -> [f32; 32] {
    let mut weights = [0.0; 32];
    for (g, weights) in weights.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let (index, is_lowered, scale) = group(g);
        let shift = if is_lowered { -SHIFT } else { SHIFT };
        for (weight, level) in weights.iter_mut().zip(grids::point(&grids::IQ1, index)) {
            *weight = scale * (f32::from(level) / 8.0 - 1.0 + shift);
        }
    }
    weights
}

grid_block!(
    /// `d · (2 code + 1) · (digit ± 1/8)`, with digits -1, 0 and 1, and a code and a sign of 1/8 for each 32.
    ///
    /// | bytes | content |
    /// |---|---|
    /// | 0..2 | `d`, f16 |
    /// | 2..34 | `qs`: for each 8 the low bits of the index |
    /// | 34..50 | `qh`: for each 32 a little-endian u16: four times the high 3 bits, the code, and the sign |
    ///
    /// Source: ggml `block_iq1_s`, docs/formats/iq.md.
    BlockIQ1_S, IQ1_S, 50,
    {
        /// The scale of the scales.
        d: F16Le,
        /// Low bits of indices.
        qs: [[u8; 4]; 8],
        /// High bits of indices, codes of scales, signs.
        qh: [[u8; 2]; 8],
    },
    |self, b| {
        let high = u16::from_le_bytes(self.qh[b]);
        let scale = self.d.to_f32() * f32::from(2 * (high >> 12 & 7) + 1);
        shifted(|g| {
            let index = u16::from(self.qs[b][g]) | (high >> (3 * g) & 7) << 8;
            (index.into(), high >> 15 == 1, scale)
        })
    },
    Kind {
        grid: &grids::IQ1,
        point_len: 8,
        scale_len: 32,
        signs: Signs::ShiftOf32,
        scale: (1.0, 2.0, 7),
    },
    |found| Self {
        d: found.d,
        qs: found.groups.map(|b| b.map(|group| group.points[0] as u8)),
        qh: std::array::from_fn(|b| {
            let groups = &found.groups[b];
            let high = (0..4).fold(0, |bits, g| bits | (groups[g].points[0] >> 8) << (3 * g));
            let is_lowered = u16::from(groups[0].is_lowered);
            (high | u16::from(found.codes[b][0]) << 12 | is_lowered << 15).to_le_bytes()
        }),
    }
);

grid_block!(
    /// `d · (2 code + 1) · (digit ± 1/8)`, with digits -1, 0 and 1, a code for each 16 and a sign of 1/8 for each 8.
    ///
    /// | bytes | content |
    /// |---|---|
    /// | 0..32 | `qs`: for each 8 the low bits of the index |
    /// | 32..48 | `qh`: for each 8 a nibble: the high 3 bits, and the sign |
    /// | 48..56 | `scales`: four little-endian u16: four codes of 3 bits, and a nibble of `d`, an f16, its lowest first |
    ///
    /// Source: ggml `block_iq1_m`, docs/formats/iq.md.
    BlockIQ1_M, IQ1_M, 56,
    {
        /// Low bits of indices.
        qs: [[u8; 4]; 8],
        /// High bits of indices, signs.
        qh: [[u8; 2]; 8],
        /// Codes of scales and their scale.
        scales: [[u8; 2]; 4],
    },
    |self, b| {
        let scales = self.scales.map(u16::from_le_bytes);
        let d = (0..4).fold(0, |d, i| d | scales[i] >> 12 << (4 * i));
        let d = F16Le(d.to_le_bytes()).to_f32();
        shifted(|g| {
            let high = nibble(self.qh[b][g / 2], g % 2);
            let index = u16::from(self.qs[b][g]) | u16::from(high & 7) << 8;
            let at = 2 * b + g / 2;
            let code = scales[at / 4] >> (at % 4 * 3) & 7;
            (index.into(), high >> 3 == 1, d * f32::from(2 * code + 1))
        })
    },
    Kind {
        grid: &grids::IQ1,
        point_len: 8,
        scale_len: 16,
        signs: Signs::ShiftOf8,
        scale: (1.0, 2.0, 7),
    },
    |found| Self {
        qs: found.groups.map(|b| b.map(|group| group.points[0] as u8)),
        qh: (found.groups).map(|b| {
            let [p0, p1, p2, p3] =
                b.map(|g| (g.points[0] >> 8) as u8 | u8::from(g.is_lowered) << 3);
            [p0 | p1 << 4, p2 | p3 << 4]
        }),
        scales: std::array::from_fn(|i| {
            let d = u16::from_le_bytes(found.d.0) >> (4 * i) & 0xf;
            let codes = found.codes[2 * i..2 * i + 2].as_flattened().iter().rev();
            let codes = codes.fold(0, |codes, code| codes << 3 | u16::from(*code));
            (codes | d << 12).to_le_bytes()
        }),
    }
);
