//! The number formats of tensors, as GGUF names and numbers them.

use std::fmt;

macro_rules! dtypes {
    ($($(#[$doc:meta])* $name:ident = $id:literal, $block_len:literal, $block_bytes:literal;)*) => {
        /// A tensor's number format. Names and ids are GGUF's.
        ///
        /// Formats are stored in blocks: `block_len` weights take `block_bytes` bytes.
        /// Not every known format is computed; see `troika-kernels` for those that are.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[allow(non_camel_case_types, reason = "formats are spelt as GGUF spells them, so that a search finds them everywhere")]
        #[non_exhaustive]
        pub enum DType {
            $($(#[$doc])* $name,)*
        }

        impl DType {
            /// Every format that is recognised, in order of its GGUF id.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The format with this GGUF id (`ggml_type`).
            pub fn from_gguf_id(id: u32) -> Option<Self> {
                match id {
                    $($id => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// The id that GGUF writes for this format.
            pub fn gguf_id(self) -> u32 {
                match self { $(Self::$name => $id,)* }
            }

            /// GGUF's spelling.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// Weights per block. A row's length is a multiple of it.
            pub fn block_len(self) -> usize {
                match self { $(Self::$name => $block_len,)* }
            }

            /// Bytes per block.
            pub fn block_bytes(self) -> usize {
                match self { $(Self::$name => $block_bytes,)* }
            }
        }
    };
}

dtypes! {
    /// IEEE single precision.
    F32 = 0, 1, 4;
    /// IEEE half precision.
    F16 = 1, 1, 2;
    /// 4 bits, one f16 scale per 32.
    Q4_0 = 2, 32, 18;
    /// 4 bits, one f16 scale and minimum per 32.
    Q4_1 = 3, 32, 20;
    /// 5 bits, one f16 scale per 32.
    Q5_0 = 6, 32, 22;
    /// 5 bits, one f16 scale and minimum per 32.
    Q5_1 = 7, 32, 24;
    /// 8 bits, one f16 scale per 32.
    Q8_0 = 8, 32, 34;
    /// 8 bits with the block's sum; a form of activations.
    Q8_1 = 9, 32, 36;
    /// 2 bits in super-blocks of 256.
    Q2_K = 10, 256, 84;
    /// 3 bits in super-blocks of 256.
    Q3_K = 11, 256, 110;
    /// 4 bits in super-blocks of 256: 6-bit scales and minima per 32.
    Q4_K = 12, 256, 144;
    /// 5 bits in super-blocks of 256: 6-bit scales and minima per 32.
    Q5_K = 13, 256, 176;
    /// 6 bits in super-blocks of 256: 8-bit scales per 16.
    Q6_K = 14, 256, 210;
    /// 8 bits in super-blocks of 256; a form of activations.
    Q8_K = 15, 256, 292;
    /// Lattice codes, 2.06 bits per weight.
    IQ2_XXS = 16, 256, 66;
    /// Lattice codes, 2.31 bits per weight.
    IQ2_XS = 17, 256, 74;
    /// Lattice codes, 3.06 bits per weight.
    IQ3_XXS = 18, 256, 98;
    /// Lattice codes, 1.56 bits per weight.
    IQ1_S = 19, 256, 50;
    /// 4-bit codes into a non-linear table, one f16 scale per 32.
    IQ4_NL = 20, 32, 18;
    /// Lattice codes, 3.44 bits per weight.
    IQ3_S = 21, 256, 110;
    /// Lattice codes, 2.56 bits per weight.
    IQ2_S = 22, 256, 82;
    /// 4-bit codes into a non-linear table in super-blocks of 256.
    IQ4_XS = 23, 256, 136;
    /// Signed 8-bit integers.
    I8 = 24, 1, 1;
    /// Signed 16-bit integers.
    I16 = 25, 1, 2;
    /// Signed 32-bit integers.
    I32 = 26, 1, 4;
    /// Signed 64-bit integers.
    I64 = 27, 1, 8;
    /// IEEE double precision.
    F64 = 28, 1, 8;
    /// Lattice codes, 1.75 bits per weight.
    IQ1_M = 29, 256, 56;
    /// The upper half of an f32.
    BF16 = 30, 1, 2;
    /// Ternary, five to a byte.
    TQ1_0 = 34, 256, 54;
    /// Ternary, four to a byte.
    TQ2_0 = 35, 256, 66;
    /// OCP microscaling: E2M1 elements, one E8M0 scale per 32.
    MXFP4 = 39, 32, 17;
    /// E2M1 elements, one E4M3 scale per 16.
    NVFP4 = 40, 64, 36;
}

impl DType {
    /// The format with this GGUF spelling, upper or lower case.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|dtype| dtype.name().eq_ignore_ascii_case(name))
    }

    /// Bytes of a row of `n` weights; `None` when `n` is not whole blocks or the product overflows.
    pub fn row_bytes(self, n: usize) -> Option<usize> {
        if !n.is_multiple_of(self.block_len()) {
            return None;
        }
        (n / self.block_len()).checked_mul(self.block_bytes())
    }

    /// Average bits that a weight takes.
    pub fn bits_per_weight(self) -> f64 {
        self.block_bytes() as f64 * 8.0 / self.block_len() as f64
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_names_go_both_ways() {
        for &dtype in DType::ALL {
            assert_eq!(DType::from_gguf_id(dtype.gguf_id()), Some(dtype));
            assert_eq!(DType::from_name(&dtype.name().to_lowercase()), Some(dtype));
        }
        assert_eq!(DType::from_gguf_id(4), None, "Q4_2 was removed from GGUF");
    }

    #[test]
    fn rows_are_whole_blocks() {
        assert_eq!(DType::Q4_K.row_bytes(512), Some(288));
        assert_eq!(DType::Q4_K.row_bytes(511), None);
        assert_eq!(DType::F64.row_bytes(usize::MAX), None);
        assert_eq!(DType::Q6_K.bits_per_weight(), 6.5625);
    }
}
