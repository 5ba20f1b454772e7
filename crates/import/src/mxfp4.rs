//! Experts that a checkpoint has in MXFP4 already, as gpt-oss is published: two tensors of bytes, codes and scales, become
//! GGUF's blocks bit by bit. Nothing is rounded.
//!
//! Both sides have 32 weights in a block and the same codes and scales. There, byte `j` of a block's 16 has weights `2j` and
//! `2j + 1`, and scales lie in a tensor of their own; here, byte `i` has weights `i` and `i + 16`, and the scale stands before
//! them (`docs/formats/fp4.md`).

use std::io;
use std::ops::Range;

use troika_base::DType;

use crate::source::Entry;

/// Weights of a block.
const BLOCK: usize = 32;

/// The bytes of a block's codes, on both sides.
const CODES: usize = BLOCK / 2;

/// The matrices `[n_expert, n_out, n_in]` of a layer's experts, or every other row of them.
#[derive(Debug)]
pub(crate) struct Mxfp4 {
    /// `[n_expert, rows, n_in / 32, 16]`
    codes: Entry,
    /// `[n_expert, rows, n_in / 32]`
    scales: Entry,
    /// The first row of an expert that is taken, and how far the next one is.
    rows: (usize, usize),
}

impl Mxfp4 {
    /// Of each expert, rows from `first` on, each `step` behind the one before it.
    ///
    /// # Errors
    /// What is wrong with the shapes.
    pub(crate) fn new(
        codes: Entry,
        scales: Entry,
        (first, step): (usize, usize),
    ) -> Result<Self, String> {
        let is_whole = codes.shape.len() == 4 && codes.shape[3] == CODES;
        let are_bytes = codes.dtype == DType::I8 && scales.dtype == DType::I8;
        if !is_whole || !are_bytes || codes.shape[..3] != scales.shape {
            return Err(format!(
                "codes {:?} and scales {:?} are not those of MXFP4",
                codes.shape, scales.shape
            ));
        }
        let made = Self {
            codes,
            scales,
            rows: (first, step),
        };
        match made.shape().contains(&0) {
            true => Err("it has no values".to_owned()),
            false => Ok(made),
        }
    }

    /// In GGUF's order: row length, rows, experts.
    pub(crate) fn shape(&self) -> [u64; 3] {
        let (first, step) = self.rows;
        let rows = self.codes.shape[1].saturating_sub(first).div_ceil(step);
        [self.codes.shape[2] * BLOCK, rows, self.codes.shape[0]].map(|n| n as u64)
    }

    /// The blocks of each expert in turn.
    pub(crate) fn bytes(&self) -> impl Iterator<Item = io::Result<Vec<u8>>> {
        let all = self.codes.shape[0];
        (0..all).map(|expert| self.expert(expert))
    }

    fn expert(&self, expert: usize) -> io::Result<Vec<u8>> {
        let (first, step) = self.rows;
        let [_, n_row, n_block, _] = self.codes.shape[..] else {
            unreachable!("the shape was checked. This is a bug.")
        };
        let of_expert = |entry: &Entry, row_bytes: usize| {
            let size = n_row * row_bytes;
            entry.read((expert * size) as u64, size)
        };
        let codes = of_expert(&self.codes, n_block * CODES)?;
        let scales = of_expert(&self.scales, n_block)?;
        let row = |n: usize, of_row: usize| -> Range<usize> { n * of_row..(n + 1) * of_row };
        let mut blocks = Vec::with_capacity(codes.len() + scales.len());
        for n in (first..n_row).step_by(step) {
            let codes = codes[row(n, n_block * CODES)].as_chunks::<CODES>().0;
            for (codes, &scale) in codes.iter().zip(&scales[row(n, n_block)]) {
                blocks.push(scale);
                blocks.extend(reordered(codes));
            }
        }
        Ok(blocks)
    }
}

/// A block's codes from neighbours to halves.
fn reordered(neighbours: &[u8; CODES]) -> [u8; CODES] {
    let code = |weight: usize| neighbours[weight / 2] >> (weight % 2 * 4) & 0xf;
    std::array::from_fn(|i| code(i) | code(i + CODES) << 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_keep_their_places() {
        // Weight i has the code i modulo 16.
        let neighbours = std::array::from_fn(|j| {
            let code = |weight: usize| (weight % 16) as u8;
            code(2 * j) | code(2 * j + 1) << 4
        });
        let halves = std::array::from_fn(|i| (i as u8) << 4 | i as u8);
        assert_eq!(reordered(&neighbours), halves);
    }
}
