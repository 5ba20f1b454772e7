//! The directory entry of a tensor, and the one place where its size is computed.

use troika_base::DType;

use crate::Problem;

/// Dimensions that a tensor may have.
pub(crate) const DIMENSIONS_MAX: usize = 4;

/// What the file says of one tensor: its name, number format, shape, and where its bytes stand.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TensorInfo {
    /// The name, such as `blk.0.attn_q.weight`.
    pub name: String,
    /// The number format.
    pub dtype: DType,
    /// The shape in GGUF's order, fastest first: `shape[0]` is the row length (`n_in` of a matrix), `shape[1]` the
    /// number of rows (`n_out`). One to four dimensions, none of them zero.
    pub shape: Vec<u64>,
    /// Where the data starts, in bytes from the start of the file; of a later part of a model, with all parts before it.
    pub offset: u64,
    /// The size of the data.
    pub bytes: u64,
}

impl TensorInfo {
    /// The number of weights.
    pub fn n_elements(&self) -> u64 {
        self.shape
            .iter()
            .fold(1, |product, &n| product.saturating_mul(n))
    }

    /// The weights in a row: `shape[0]`.
    pub fn row_len(&self) -> u64 {
        self.shape.first().copied().unwrap_or(1)
    }

    /// The number of rows: the product of all dimensions but the first.
    pub fn n_rows(&self) -> u64 {
        self.shape
            .iter()
            .skip(1)
            .fold(1, |product, &n| product.saturating_mul(n))
    }
}

/// The bytes that a tensor takes. Every size in this crate comes from here.
///
/// # Errors
/// If there are not one to four dimensions, one of them is zero, a row is not whole blocks, or the number of
/// weights or bytes does not fit 64 bits.
pub fn checked_tensor_bytes(dtype: DType, shape: &[u64]) -> Result<u64, Problem> {
    if shape.is_empty() || shape.len() > DIMENSIONS_MAX {
        return Err(Problem::DimensionCount {
            found: u32::try_from(shape.len()).unwrap_or(u32::MAX),
            most: DIMENSIONS_MAX,
        });
    }
    if let Some(index) = shape.iter().position(|&n| n == 0) {
        return Err(Problem::ZeroDimension { index });
    }
    let (row_len, block_len) = (shape[0], dtype.block_len() as u64);
    if !row_len.is_multiple_of(block_len) {
        return Err(Problem::PartialBlock {
            row_len,
            dtype,
            block_len,
        });
    }
    // The weights are whole blocks, since every row is.
    let weights = shape.iter().try_fold(1, |n: u64, &dim| n.checked_mul(dim));
    weights
        .and_then(|n| (n / block_len).checked_mul(dtype.block_bytes() as u64))
        .ok_or_else(|| Problem::SizeOverflow {
            dtype,
            shape: shape.to_vec(),
        })
}
