//! What a file's weights are made of.

use std::collections::BTreeMap;

use troika_base::{Bytes, DType};
use troika_gguf::ModelFile;

/// Tensors of one number format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Format {
    /// How many.
    pub tensors: usize,
    /// Their weights.
    pub parameters: u64,
    /// Their bytes in the file.
    pub bytes: u64,
}

/// A file's tensors by number format.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Formats(BTreeMap<DType, Format>);

impl Formats {
    /// Adds up the file's tensors.
    pub fn of(file: &ModelFile) -> Self {
        let mut formats = BTreeMap::<DType, Format>::new();
        for tensor in file.tensors() {
            let format = formats.entry(tensor.dtype).or_default();
            format.tensors += 1;
            format.parameters = format.parameters.saturating_add(tensor.n_elements());
            format.bytes = format.bytes.saturating_add(tensor.bytes);
        }
        Self(formats)
    }

    /// By format, most bytes first.
    pub fn by_bytes(&self) -> Vec<(DType, Format)> {
        let formats = self.0.iter();
        let mut formats: Vec<_> = formats.map(|(&dtype, &format)| (dtype, format)).collect();
        formats.sort_by_key(|(_, format)| std::cmp::Reverse(format.bytes));
        formats
    }

    /// The format that takes the most bytes.
    pub fn main(&self) -> Option<DType> {
        self.by_bytes().first().map(|&(dtype, _)| dtype)
    }

    /// How many weights there are.
    pub fn parameters(&self) -> u64 {
        self.sum(|format| format.parameters)
    }

    /// The weights' size.
    pub fn bytes(&self) -> Bytes {
        Bytes(self.sum(|format| format.bytes))
    }

    /// Bits of a weight, on average.
    pub fn bits_per_weight(&self) -> Option<f64> {
        let parameters = self.parameters();
        (parameters > 0).then(|| self.bytes().0 as f64 * 8.0 / parameters as f64)
    }

    fn sum(&self, of: impl Fn(&Format) -> u64) -> u64 {
        self.0
            .values()
            .fold(0, |sum, format| sum.saturating_add(of(format)))
    }
}
