//! What can go wrong, and what to do about it.

use troika_base::DType;

/// Why a model was not quantized.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] troika_gguf::Error),

    /// The kernels do not read or write this format.
    #[error("tensor `{tensor}`: weights in {dtype} are not made here, or not read")]
    NotComputed {
        /// The tensor.
        tensor: String,
        /// The format that was wanted, or that the file has.
        dtype: DType,
    },

    /// What was rounded once is to be rounded again.
    #[error(
        "tensor `{tensor}` is in {from} already, and rounding twice loses more than rounding once; take the model in F16, BF16 or F32, or say --allow-requantize"
    )]
    Requantized {
        /// The tensor.
        tensor: String,
        /// Its format in the file.
        from: DType,
    },

    /// A format of so few bits that it is of no use without importance.
    #[error(
        "tensor `{tensor}` in {dtype} is of no use without knowing which weights matter; give --imatrix, which `troika imatrix` writes"
    )]
    NeedsImportance {
        /// The tensor.
        tensor: String,
        /// The format.
        dtype: DType,
    },

    /// The rows of a tensor are not whole blocks of the format that was asked for by name.
    #[error("tensor `{tensor}` has rows of {row_len} weights, and blocks of {dtype} have {block_len}", block_len = dtype.block_len())]
    PartialBlock {
        /// The tensor.
        tensor: String,
        /// Weights of a row.
        row_len: u64,
        /// The format.
        dtype: DType,
    },

    /// An importance of another model.
    #[error(
        "the importance of tensor `{tensor}` is that of {have} columns, and the tensor has {want}: it was measured with another model"
    )]
    OtherColumns {
        /// The tensor.
        tensor: String,
        /// Columns of the tensor, over all its matrices.
        want: u64,
        /// Columns that were measured.
        have: u64,
    },

    /// A file that holds no importance.
    #[error("{file} holds no importance of weights: {reason}")]
    NoImportance {
        /// The file.
        file: String,
        /// What is missing or wrong.
        reason: String,
    },

    /// The source holds what no weights are.
    #[error("tensor `{tensor}` holds NaN or infinity; the file is damaged")]
    NotFinite {
        /// The tensor.
        tensor: String,
    },

    /// No choice of formats is so small.
    #[error("{wanted} bits per weight cannot be had: with the smallest formats it is {least:.2}")]
    TooFewBits {
        /// Bits that were asked for.
        wanted: f64,
        /// Bits of the smallest choice.
        least: f64,
    },

    /// The caller has ended it.
    #[error("was broken off")]
    Cancelled,
}
