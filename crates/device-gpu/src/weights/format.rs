//! Number formats of weights as kernels read them.

use troika_base::DType;

/// A number format that kernels read: a fragment of WGSL, and a layout of memory that goes with it.
///
/// Weights go in groups of [`GROUP`] along a row. Eight groups stand together, whatever rows they are of, and take so
/// many bytes in a plane of quants and a plane of scales; in the former they are interleaved, so that threads side by
/// side read side by side. `wgsl/weights/groups.wgsl` says what a fragment offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(
    non_camel_case_types,
    reason = "formats are spelt as GGUF spells them, so that a search finds them everywhere"
)]
#[expect(missing_docs, reason = "they are those of `DType`")]
pub enum Format {
    F32,
    F16,
    BF16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q4_K,
    Q5_K,
    Q6_K,
    IQ4_NL,
    MXFP4,
}

/// Weights that share a scale, or are treated as if they did.
pub const GROUP: usize = 32;

/// Groups that are interleaved.
pub(crate) const EIGHT: usize = 8;

/// Where the parts of a group are within its eight.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    /// Vectors of 16 bytes of each group in the plane of quants.
    pub(super) vectors: usize,
    /// Bytes of each group after the vectors of all eight.
    pub(super) tail: usize,
    /// Bytes of all eight in the plane of scales.
    pub(super) scales: usize,
}

impl Layout {
    /// Bytes of eight groups in the plane of quants.
    pub(super) const fn quants(self) -> usize {
        EIGHT * (16 * self.vectors + self.tail)
    }
}

impl Format {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self::F32,
        Self::F16,
        Self::BF16,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q4_K,
        Self::Q5_K,
        Self::Q6_K,
        Self::IQ4_NL,
        Self::MXFP4,
    ];

    /// How kernels read weights of this type; `None` if they do not.
    pub fn of(dtype: DType) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|format| format.dtype() == dtype)
    }

    /// As it is in files.
    pub const fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::F16 => DType::F16,
            Self::BF16 => DType::BF16,
            Self::Q4_0 => DType::Q4_0,
            Self::Q4_1 => DType::Q4_1,
            Self::Q5_0 => DType::Q5_0,
            Self::Q5_1 => DType::Q5_1,
            Self::Q8_0 => DType::Q8_0,
            Self::Q4_K => DType::Q4_K,
            Self::Q5_K => DType::Q5_K,
            Self::Q6_K => DType::Q6_K,
            Self::IQ4_NL => DType::IQ4_NL,
            Self::MXFP4 => DType::MXFP4,
        }
    }

    /// Whether the fragment has `integers` and `scale` beside `weights`.
    pub const fn has_integers(self) -> bool {
        !matches!(self, Self::F32 | Self::F16 | Self::BF16)
    }

    /// The WGSL that reads it: declares bindings 0 (quants) and 1 (scales), and gives `fn weights`, and `fn integers`
    /// and `fn scale` for formats that [have integers](Self::has_integers).
    pub fn fragments(self) -> Vec<&'static str> {
        macro_rules! wgsl {
            ($($name:literal)*) => {
                &[$(include_str!(concat!("../wgsl/weights/", $name, ".wgsl"))),*]
            };
        }
        let own: &[&str] = match self {
            Self::F32 => wgsl!("f32"),
            Self::F16 => wgsl!("f16"),
            Self::BF16 => wgsl!("bf16"),
            Self::Q4_0 => wgsl!("q4_0"),
            Self::Q4_1 => wgsl!("q4_1"),
            Self::Q5_0 => wgsl!("fifth" "q5_0"),
            Self::Q5_1 => wgsl!("fifth" "q5_1"),
            Self::Q8_0 => wgsl!("q8_0"),
            Self::Q4_K => wgsl!("k_scales" "q4_k"),
            Self::Q5_K => wgsl!("k_scales" "fifth"),
            Self::Q6_K => wgsl!("q6_k"),
            Self::IQ4_NL => wgsl!("iq4_nl"),
            Self::MXFP4 => wgsl!("mxfp4"),
        };
        let shared: &[&str] = match self.has_integers() {
            true => wgsl!("groups" "from_integers"),
            false => wgsl!("groups"),
        };
        [shared, own].concat()
    }

    pub(super) const fn layout(self) -> Layout {
        let (vectors, tail, scales) = match self {
            // Floats have no scales: the plane is there for the binding alone.
            Self::F32 => (8, 0, 0),
            Self::F16 | Self::BF16 => (4, 0, 0),
            Self::Q4_0 | Self::IQ4_NL => (1, 0, 16),
            Self::Q4_1 => (1, 0, 32),
            Self::Q5_0 => (1, 4, 16),
            Self::Q5_1 => (1, 4, 32),
            Self::Q8_0 => (2, 0, 16),
            Self::Q4_K => (1, 0, 16),
            Self::Q5_K => (1, 4, 16),
            // 16 signed bytes and a half-precision factor; two bytes are lost to whole words.
            Self::Q6_K => (1, 8, 20),
            Self::MXFP4 => (1, 0, 8),
        };
        Layout {
            vectors,
            tail,
            scales,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_take_no_more_than_files_do() {
        for format in Format::ALL {
            let (layout, dtype) = (format.layout(), format.dtype());
            let have = layout.quants() + layout.scales;
            let file = dtype.row_bytes(EIGHT * GROUP).expect("whole blocks");
            let spare = if *format == Format::Q6_K { 2 } else { 0 };
            assert_eq!(have, file + spare, "{dtype}");
        }
    }
}
