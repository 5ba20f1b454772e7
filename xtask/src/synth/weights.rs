//! Random weights in any number format, faster than they could be quantized one by one.
//!
//! A few thousand pieces of rows are drawn and quantized once per format and row length; each row is then a sequence
//! of pieces picked at random. The distribution stays normal, rows stay distinct (4096 pieces in eight places make
//! 2^96 rows), and an 8B model takes as long as its bytes take to write.

use std::collections::BTreeMap;
use std::io::{self, Write};

use anyhow::ensure;
use troika_base::DType;
use troika_kernels::quant::quantize_row;

use super::plan::{Fill, Tensor};
use super::random::Random;

/// Pieces in a pool; a power of two.
const PIECE_COUNT: usize = 4096;

/// The shortest piece, in weights; a format with longer blocks has pieces of one block.
const PIECE_LEN_MIN: usize = 32;

/// Rows are gathered to about this many bytes before they are written.
const WRITE_BYTES: usize = 1 << 20;

/// Quantized pieces for every format and row length of a model.
pub(crate) struct Pools {
    seed: u64,
    pools: BTreeMap<(DType, usize), Pool>,
}

/// Quantized pieces of rows of one format and one row length.
struct Pool {
    piece_bytes: usize,
    pieces_per_row: usize,
    /// `PIECE_COUNT` pieces of `piece_bytes`.
    bytes: Vec<u8>,
}

impl Pools {
    /// Draws and quantizes the pieces that these tensors need.
    pub(crate) fn new(tensors: &[Tensor], seed: u64) -> anyhow::Result<Self> {
        let mut pools = BTreeMap::new();
        for tensor in tensors {
            let key = (tensor.dtype, tensor.row_len());
            if matches!(tensor.fill, Fill::Weights) && !pools.contains_key(&key) {
                pools.insert(key, Pool::new(key.0, key.1, seed)?);
            }
        }
        Ok(Self { seed, pools })
    }

    /// Writes a tensor's bytes, and calls `wrote` with the number of bytes after each portion.
    pub(crate) fn write(
        &self,
        tensor: &Tensor,
        out: &mut dyn Write,
        mut wrote: impl FnMut(u64),
    ) -> io::Result<()> {
        let mut random = Random::labelled(self.seed, &tensor.name);
        match &tensor.fill {
            Fill::Weights => {
                let pool = &self.pools[&(tensor.dtype, tensor.row_len())];
                let n_rows = tensor.dims[1..].iter().product::<u64>() as usize;
                pool.write_rows(n_rows, &mut random, out, &mut wrote)
            }
            Fill::Near(mean) => {
                let draws = (0..tensor.n_elements()).map(|_| mean + 0.1 * random.normal());
                write_f32s(draws, out, &mut wrote)
            }
            Fill::Exact(values) => write_f32s(values.iter().copied(), out, &mut wrote),
        }
    }
}

impl Pool {
    fn new(dtype: DType, row_len: usize, seed: u64) -> anyhow::Result<Self> {
        let piece_len = dtype.block_len().max(PIECE_LEN_MIN);
        ensure!(
            row_len.is_multiple_of(piece_len),
            "rows of {row_len} weights are not whole pieces of {piece_len}"
        );
        let piece_bytes = dtype.row_bytes(piece_len).expect("a piece is whole blocks");
        let deviation = (row_len as f32).sqrt().recip();
        let mut random = Random::labelled(seed, &format!("{dtype} {row_len}"));
        let mut bytes = vec![0; PIECE_COUNT * piece_bytes];
        let mut piece = vec![0.0; piece_len];
        for bytes in bytes.chunks_exact_mut(piece_bytes) {
            piece.fill_with(|| deviation * random.normal());
            quantize_row(dtype, &piece, bytes)?;
        }
        Ok(Self {
            piece_bytes,
            pieces_per_row: row_len / piece_len,
            bytes,
        })
    }

    fn write_rows(
        &self,
        n_rows: usize,
        random: &mut Random,
        out: &mut dyn Write,
        wrote: &mut impl FnMut(u64),
    ) -> io::Result<()> {
        let mut portion = Vec::with_capacity(WRITE_BYTES + self.piece_bytes);
        for _ in 0..n_rows * self.pieces_per_row {
            let start = random.index(PIECE_COUNT) * self.piece_bytes;
            portion.extend_from_slice(&self.bytes[start..start + self.piece_bytes]);
            if portion.len() >= WRITE_BYTES {
                out.write_all(&portion)?;
                wrote(portion.len() as u64);
                portion.clear();
            }
        }
        out.write_all(&portion)?;
        wrote(portion.len() as u64);
        Ok(())
    }
}

fn write_f32s(
    values: impl Iterator<Item = f32>,
    out: &mut dyn Write,
    wrote: &mut impl FnMut(u64),
) -> io::Result<()> {
    let bytes: Vec<u8> = values.flat_map(f32::to_le_bytes).collect();
    out.write_all(&bytes)?;
    wrote(bytes.len() as u64);
    Ok(())
}

#[cfg(test)]
mod tests {
    use troika_kernels::quant::dequantize_row;

    use super::*;

    fn matrix(dtype: DType, n_in: usize, n_out: usize) -> Tensor {
        Tensor {
            name: "m".to_owned(),
            dtype,
            dims: vec![n_in as u64, n_out as u64],
            fill: Fill::Weights,
        }
    }

    fn weights(tensor: &Tensor, seed: u64) -> Vec<f32> {
        let pools = Pools::new(std::slice::from_ref(tensor), seed).expect("computed formats");
        let (mut bytes, mut total) = (Vec::new(), 0);
        pools
            .write(tensor, &mut bytes, |n| total += n)
            .expect("memory does not fail");
        assert_eq!(
            (bytes.len() as u64, total),
            (tensor.bytes(), tensor.bytes())
        );
        let mut out = vec![0.0; tensor.n_elements() as usize];
        dequantize_row(tensor.dtype, &bytes, &mut out).expect("computed formats");
        out
    }

    #[test]
    fn rows_have_unit_length_and_differ() {
        for (dtype, n_in) in [
            (DType::F32, 256),
            (DType::Q8_0, 896),
            (DType::Q4_0, 896),
            (DType::Q4_K, 2048),
            (DType::Q6_K, 2048),
        ] {
            let n_out = 64;
            let weights = weights(&matrix(dtype, n_in, n_out), 7);
            let power = weights.iter().map(|w| w * w).sum::<f32>() / n_out as f32;
            assert!((power - 1.0).abs() < 0.1, "{dtype}: {power}");
            let mut rows: Vec<&[f32]> = weights.chunks_exact(n_in).collect();
            rows.sort_by(|a, b| a.partial_cmp(b).expect("no NaN"));
            rows.dedup();
            assert_eq!(rows.len(), n_out, "{dtype}");
        }
    }

    #[test]
    fn seeds_matter_and_repeat() {
        let tensor = matrix(DType::Q4_0, 128, 8);
        assert_eq!(weights(&tensor, 1), weights(&tensor, 1));
        assert_ne!(weights(&tensor, 1), weights(&tensor, 2));
    }
}
