//! GGUF model files: bytes to metadata and a tensor directory, and back.
//!
//! The crate never trusts the file. Every count, length, offset and dimension is checked against the bytes that are
//! left before it is used, and an error names the key or tensor, the byte and what was expected. It never computes:
//! tensor bytes are handed out as they stand, and what they mean is the business of `troika-kernels`.
//!
//! Nothing is mapped. Tensors are read by positioned reads, so a file that shrinks gives an [`Error`] and never a
//! signal (docs/adr/0002-positioned-reads.md). The layout and the limits are in docs/formats/gguf.md.
//!
//! Start at [`ModelFile::open`]; the way back is [`Writer`].
#![forbid(unsafe_code)]

// What others see.
mod error;
mod metadata;
mod model_file;
mod tensor;
mod value;
mod write;

// From bytes to a checked directory.
mod cursor;
mod directory;
mod parse;
mod source;
mod split;

// And back.
mod encode;
mod temporary;

pub use error::{Error, Place, Problem};
pub use metadata::Metadata;
pub use model_file::{ModelFile, TensorReader};
pub use split::PartName;
pub use tensor::{TensorInfo, checked_tensor_bytes};
pub use value::{Array, Value};
pub use write::{DataResult, Writer};

/// The first four bytes of every GGUF file.
const MAGIC: [u8; 4] = *b"GGUF";

/// The version that is written. Version 2 has the same layout and is read as well.
const VERSION: u32 = 3;

/// The key that sets the alignment of tensor data.
const ALIGNMENT_KEY: &str = "general.alignment";

/// The alignment of tensor data where the file does not say.
const ALIGNMENT_DEFAULT: u64 = 32;
