//! A graph's matrices: where they lie in the model's file, and how they are written for a compiler.
//!
//! A matrix is read, written anew and forgotten some rows at a time; a model is never in memory whole.

pub(super) mod int4;
pub(super) mod int8;
mod stored;

use std::num::NonZero;
use std::sync::Arc;
use std::thread;

use half::f16;
use troika_gguf::{ModelFile, TensorInfo};
use troika_kernels::quant;

use super::{Group, WeightFormat};
use crate::Error;

pub(super) use stored::{DataFile, Extent, Stored};

/// Weights that are in memory at a time.
const CHUNK_WEIGHTS: usize = 1 << 22;

/// A matrix `[n_out, n_in]` in a model's file.
#[derive(Clone, Debug)]
pub(super) struct Matrix<'m> {
    /// The tensor's, without its ending.
    pub(super) name: String,
    pub(super) n_out: usize,
    pub(super) n_in: usize,
    file: &'m ModelFile,
    tensor: &'m TensorInfo,
    /// Rows are heads, and those of a head are put in this order.
    head_order: Option<Arc<[usize]>>,
}

/// How a matrix is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    /// `group` weights of a row share a scale.
    Int4 {
        group: usize,
    },
    Int8,
    F16,
}

impl Coding {
    /// For rows of `n_in` weights. Those that are not whole groups take eight bits, as other tools do it.
    pub(super) fn of(format: WeightFormat, n_in: usize) -> Self {
        let group = match format {
            WeightFormat::F16 => return Self::F16,
            WeightFormat::Int8 => return Self::Int8,
            WeightFormat::Int4(Group::Of64) => 64,
            WeightFormat::Int4(Group::Of128) => 128,
            WeightFormat::Int4(Group::Channel) => n_in,
        };
        // The least block of ONNX Runtime's operation has 16.
        match n_in.is_multiple_of(group) && n_in.is_multiple_of(16) {
            true => Self::Int4 { group },
            false => Self::Int8,
        }
    }

    /// Weights that share a scale.
    fn group(self, n_in: usize) -> usize {
        match self {
            Self::Int4 { group } => group,
            Self::Int8 | Self::F16 => n_in,
        }
    }

    /// Of a row.
    fn row_bytes(self, n_in: usize) -> usize {
        match self {
            Self::Int4 { .. } => n_in / 2,
            Self::Int8 => n_in,
            Self::F16 => 2 * n_in,
        }
    }
}

/// What differs between formats of graphs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dialect {
    /// Four-bit codes are written as code + 8, not in two's complement. The first of two lies in the low half of a byte
    /// in any case.
    pub(super) offset: bool,
    /// Scales are f32, not f16; their values are the same.
    pub(super) wide_scales: bool,
    /// A scale serves no more than this many weights, a power of two; one for more is written again and again.
    pub(super) block_max: usize,
}

impl Dialect {
    /// Weights for which a scale is written.
    pub(super) fn block(self, coding: Coding, n_in: usize) -> usize {
        let group = coding.group(n_in);
        match coding {
            Coding::Int4 { .. } if !group.is_power_of_two() || group > self.block_max => {
                (1usize << group.trailing_zeros()).min(self.block_max)
            }
            _ => group,
        }
    }
}

/// Rows as they are written.
struct Written {
    codes: Vec<u8>,
    scales: Vec<f32>,
}

impl<'m> Matrix<'m> {
    pub(super) fn new(file: &'m ModelFile, tensor: &'m TensorInfo) -> Self {
        let name = tensor.name.trim_end_matches(".weight").to_owned();
        Self {
            name,
            n_out: tensor.n_rows() as usize,
            n_in: tensor.row_len() as usize,
            file,
            tensor,
            head_order: None,
        }
    }

    /// With the rows of each head in this order.
    pub(super) fn reordered(self, head_order: Option<&[usize]>) -> Self {
        Self {
            head_order: head_order.map(Arc::from),
            ..self
        }
    }

    /// Bytes in the model's file.
    pub(super) fn bytes(&self) -> u64 {
        self.tensor.bytes
    }

    /// Rows that are read at a time: whole heads.
    fn chunk_rows(&self) -> usize {
        let rows = (CHUNK_WEIGHTS / self.n_in).max(1);
        match &self.head_order {
            Some(order) => rows.next_multiple_of(order.len()),
            None => rows,
        }
    }

    /// Some rows as they are written. The first is a head's first.
    fn write(
        &self,
        first: usize,
        n_row: usize,
        coding: Coding,
        dialect: Dialect,
    ) -> Result<Written, Error> {
        let row_bytes = self.row_bytes();
        let mut raw = vec![0; n_row * row_bytes];
        let offset = first as u64 * row_bytes as u64;
        self.file
            .read(self.tensor, offset, &mut raw)
            .map_err(troika_device::Error::from)?;
        let n_group = self.n_in / coding.group(self.n_in);
        let n_scale = if coding == Coding::F16 { 0 } else { n_group };
        let mut written = Written {
            codes: vec![0; n_row * coding.row_bytes(self.n_in)],
            scales: vec![0.0; n_row * n_scale],
        };
        let threads = thread::available_parallelism().map_or(1, NonZero::get);
        let rows = n_row.div_ceil(threads).max(1);
        let codes = written
            .codes
            .chunks_mut((rows * coding.row_bytes(self.n_in)).max(1));
        let mut scales = written.scales.chunks_mut((rows * n_scale).max(1));
        let good = thread::scope(|scope| {
            let tasks: Vec<_> = codes
                .enumerate()
                .map(|(part, codes)| {
                    let scales = scales.next().unwrap_or_default();
                    let raw = &raw;
                    scope.spawn(move || self.code(raw, part * rows, coding, dialect, codes, scales))
                })
                .collect();
            let mut good = true;
            for task in tasks {
                let part = task.join();
                good &= part.expect("quantizing does not panic. This is a bug.")?;
            }
            Ok::<_, Error>(good)
        })?;
        match good {
            true => Ok(written),
            false => Err(Error::Invalid {
                what: format!("{}, tensor `{}`", self.file.name(), self.tensor.name),
                reason: "it has weights that are no numbers, or too large for 16 bits".to_owned(),
            }),
        }
    }

    /// Codes rows from `first` of those in `raw` on. Whether all weights are numbers.
    fn code(
        &self,
        raw: &[u8],
        first: usize,
        coding: Coding,
        dialect: Dialect,
        codes: &mut [u8],
        scales: &mut [f32],
    ) -> Result<bool, Error> {
        let row_bytes = self.row_bytes();
        let (mut weights, mut row_codes) = (vec![0.0; self.n_in], vec![0i8; self.n_in]);
        let group = coding.group(self.n_in);
        let mut scales = scales.iter_mut();
        let mut good = true;
        for (i, out) in codes
            .chunks_exact_mut(coding.row_bytes(self.n_in))
            .enumerate()
        {
            let row = self.source(first + i);
            let bytes = &raw[row * row_bytes..][..row_bytes];
            self.dequantize(bytes, &mut weights)?;
            match coding {
                Coding::F16 => {
                    for (out, weight) in out.as_chunks_mut::<2>().0.iter_mut().zip(&weights) {
                        let weight = f16::from_f32(*weight);
                        good &= weight.is_finite();
                        *out = weight.to_le_bytes();
                    }
                    continue;
                }
                Coding::Int8 | Coding::Int4 { .. } => {}
            }
            for (weights, codes) in weights.chunks(group).zip(row_codes.chunks_mut(group)) {
                let scale = match coding {
                    Coding::Int4 { .. } => int4::quantize(weights, codes),
                    _ => int8::quantize(weights, codes),
                };
                good &= scale.is_finite();
                *scales
                    .next()
                    .expect("there is one for each group. This is a bug.") = scale;
            }
            match coding {
                Coding::Int4 { .. } => pack(&row_codes, dialect.offset, out),
                _ => {
                    for (out, code) in out.iter_mut().zip(&row_codes) {
                        *out = code.cast_unsigned();
                    }
                }
            }
        }
        Ok(good)
    }

    /// In the model's file.
    fn row_bytes(&self) -> usize {
        let row_bytes = self.tensor.dtype.row_bytes(self.n_in);
        row_bytes.expect("the directory was checked. This is a bug.")
    }

    /// The row of the file that is this one.
    fn source(&self, row: usize) -> usize {
        match &self.head_order {
            Some(order) => row / order.len() * order.len() + order[row % order.len()],
            None => row,
        }
    }

    fn dequantize(&self, bytes: &[u8], out: &mut [f32]) -> Result<(), Error> {
        quant::dequantize_row(self.tensor.dtype, bytes, out).map_err(|error| Error::Unsupported {
            model: self.file.name().to_owned(),
            reason: format!("tensor `{}`: {error}", self.tensor.name),
        })
    }
}

/// Two codes to a byte.
fn pack(codes: &[i8], offset: bool, out: &mut [u8]) {
    let nibble = |code: i8| match offset {
        true => (code + 8).cast_unsigned(),
        false => code.cast_unsigned() & 15,
    };
    for (out, pair) in out.iter_mut().zip(codes.as_chunks::<2>().0) {
        *out = nibble(pair[0]) | nibble(pair[1]) << 4;
    }
}
