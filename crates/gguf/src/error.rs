//! What can go wrong with a model file, and the words in which it is told.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use troika_base::{Bytes, DType};

/// Why a model file could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused.
    #[error("cannot {action}: {source} ({file})")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file's name.
        file: String,
        /// What the operating system said.
        source: io::Error,
    },

    /// A directory, pipe, socket or device stands under this name.
    #[error("expected a regular file, found {found} ({file})")]
    NotRegular {
        /// What stands there.
        found: &'static str,
        /// The file's name.
        file: String,
    },

    /// The file does not start with the four bytes `GGUF`.
    #[error("not a GGUF file: it starts with \"{}\", expected \"GGUF\" ({file})", found.escape_ascii())]
    NotGguf {
        /// The first bytes of the file, four at most.
        found: Vec<u8>,
        /// The file's name.
        file: String,
    },

    /// The file was written for a big-endian machine.
    #[error(
        "GGUF version {version} in big-endian byte order, only little-endian files are read; convert it again ({file})"
    )]
    BigEndian {
        /// The format's version.
        version: u32,
        /// The file's name.
        file: String,
    },

    /// A version of the format that is not read here.
    #[error(
        "GGUF version {version}, only versions 2 and 3 are read; convert the model again ({file})"
    )]
    Version {
        /// The format's version.
        version: u32,
        /// The file's name.
        file: String,
    },

    /// The header contradicts itself or the file's size.
    #[error("{place}, byte {offset}: {problem} ({file})")]
    Malformed {
        /// The key or tensor.
        place: Place,
        /// Where in the file the wrong bytes stand.
        offset: u64,
        /// What was expected and what was found.
        problem: Problem,
        /// The file's name.
        file: String,
    },

    /// A file that is named as a later part of a model is another part, or one of another model.
    #[error("expected part {want} of the model, its metadata says otherwise ({file})")]
    OtherPart {
        /// The part's number, from 1.
        want: usize,
        /// The file's name.
        file: String,
    },

    /// The file ends before the tensor does: it became shorter after it was opened.
    #[error("tensor `{tensor}`, byte {offset}: expected {want} bytes, the file ends before; it changed since it was opened ({file})", tensor = Shown(tensor))]
    ShortRead {
        /// The tensor's name.
        tensor: String,
        /// Where in the file the read started.
        offset: u64,
        /// The bytes asked for.
        want: u64,
        /// The file's name.
        file: String,
    },

    /// A read that reaches beyond its tensor.
    #[error("tensor `{tensor}` has {bytes} bytes, asked for {want} from {offset}", tensor = Shown(tensor))]
    OutsideTensor {
        /// The tensor's name.
        tensor: String,
        /// Where in the tensor the read was to start.
        offset: u64,
        /// The bytes asked for.
        want: u64,
        /// The tensor's size.
        bytes: u64,
    },

    /// The metadata has no such key.
    #[error("the model's metadata has no key `{key}`", key = Shown(key))]
    MissingKey {
        /// The key.
        key: String,
    },

    /// The key holds another type, or a number that does not fit.
    #[error("metadata key `{key}`: expected {want}, found {have}", key = Shown(key))]
    WrongType {
        /// The key.
        key: String,
        /// The type asked for.
        want: &'static str,
        /// The type that stands there, with the value where it is a number.
        have: String,
    },

    /// The caller of [`Writer`](crate::Writer) gave more or fewer bytes than the tensor's shape takes.
    #[error("tensor `{tensor}` takes {want} bytes, its data gave {have}", tensor = Shown(tensor))]
    DataLength {
        /// The tensor's name.
        tensor: String,
        /// The bytes that its number format and shape take.
        want: u64,
        /// The bytes given, counted up to the first write that was too much.
        have: u64,
    },

    /// The callback that gives a tensor's data failed.
    #[error("tensor `{tensor}`: its data could not be made", tensor = Shown(tensor))]
    Data {
        /// The tensor's name.
        tensor: String,
        /// What the callback said.
        source: Box<dyn StdError + Send + Sync>,
    },
}

/// The part of the header in which something is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Place {
    /// The fixed fields at the start.
    Header,
    /// The metadata entry with this index, whose key is not known yet.
    KeyIndex(u64),
    /// The metadata entry with this key.
    Key(String),
    /// The tensor with this index, whose name is not known yet.
    TensorIndex(u64),
    /// The tensor with this name.
    Tensor(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header => f.write_str("header"),
            Self::KeyIndex(index) => write!(f, "metadata entry {index}"),
            Self::Key(key) => write!(f, "metadata key `{}`", Shown(key)),
            Self::TensorIndex(index) => write!(f, "tensor {index}"),
            Self::Tensor(name) => write!(f, "tensor `{}`", Shown(name)),
        }
    }
}

/// What was expected of the file and what was found.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// A field reaches beyond the end of the file.
    #[error("expected {want} more bytes, {left} are left in the file")]
    Truncated {
        /// The bytes that the field takes.
        want: u64,
        /// The bytes between it and the end.
        left: u64,
    },
    /// A count that the rest of the file cannot hold.
    #[error("a count of {count} {what}, expected {most} at most")]
    TooMany {
        /// What is counted.
        what: &'static str,
        /// The count.
        count: u64,
        /// The most that the rest of the file, or the limit, allows.
        most: u64,
    },
    /// A key or name that is longer than the format allows.
    #[error("a {what} of {len} bytes, expected {most} at most")]
    TooLong {
        /// Key or name.
        what: &'static str,
        /// Its length.
        len: u64,
        /// The format's limit.
        most: u64,
    },
    /// The header would take more memory than any real model's.
    #[error("the header takes more than {} of memory", Bytes(*most))]
    TooMuchMemory {
        /// The limit.
        most: u64,
    },
    /// Arrays inside arrays beyond the limit.
    #[error("arrays nested more than {most} deep")]
    TooDeep {
        /// The limit.
        most: usize,
    },
    /// Text that is not UTF-8.
    #[error("expected UTF-8 text, the byte after the first {valid_bytes} is not")]
    NotUtf8 {
        /// The length of the part that is.
        valid_bytes: usize,
    },
    /// A type of value that the format does not have.
    #[error("value type {id}, expected 0 to 12")]
    ValueType {
        /// The type's number.
        id: u32,
    },
    /// A boolean that is neither.
    #[error("a boolean of {found}, expected 0 or 1")]
    Bool {
        /// The byte.
        found: u8,
    },
    /// A key or name that stands twice.
    #[error("stands twice, first at byte {first}")]
    Duplicate {
        /// Where the first one stands.
        first: u64,
    },
    /// An alignment of tensor data that is not usable.
    #[error("expected an integer, a power of two from {least} to {most}, found {found}")]
    Alignment {
        /// The value, with its type.
        found: String,
        /// The smallest alignment.
        least: u64,
        /// The largest alignment.
        most: u64,
    },
    /// A tensor without dimensions, or with too many.
    #[error("{found} dimensions, expected 1 to {most}")]
    DimensionCount {
        /// The count.
        found: u32,
        /// The limit.
        most: usize,
    },
    /// A dimension of length zero.
    #[error("dimension {index} is 0, expected 1 or more")]
    ZeroDimension {
        /// Which one, from 0.
        index: usize,
    },
    /// A number format that is not known.
    #[error("number format {id}, expected {}", KnownDTypes)]
    DType {
        /// The format's number.
        id: u32,
    },
    /// A row that is not whole blocks.
    #[error("rows of {row_len} weights, expected a multiple of {block_len} for {dtype}")]
    PartialBlock {
        /// The row's length.
        row_len: u64,
        /// The number format.
        dtype: DType,
        /// The format's block.
        block_len: u64,
    },
    /// A shape whose size in bytes does not fit 64 bits.
    #[error("{dtype} of shape {shape:?} has no size that fits 64 bits")]
    SizeOverflow {
        /// The number format.
        dtype: DType,
        /// The shape.
        shape: Vec<u64>,
    },
    /// Tensor data that starts off the grid.
    #[error("data at offset {data_offset}, expected a multiple of {alignment}")]
    Misaligned {
        /// The offset, counted from the start of the data section.
        data_offset: u64,
        /// The file's alignment.
        alignment: u64,
    },
    /// Tensor data that does not end inside the file.
    #[error("{bytes} bytes of data from byte {start}, the file has {file_bytes}")]
    OutsideFile {
        /// Where the data is said to start, saturating.
        start: u64,
        /// The data's size.
        bytes: u64,
        /// The file's size.
        file_bytes: u64,
    },
    /// Tensor data that shares bytes with another's.
    #[error("data from byte {start}, tensor `{other}` reaches to byte {other_end}", other = Shown(other))]
    Overlap {
        /// Where the data starts.
        start: u64,
        /// The tensor before it.
        other: String,
        /// Where that one ends.
        other_end: u64,
    },
}

/// A name from a file, made fit for a terminal: escaped, and cut when long.
struct Shown<'a>(&'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const CHARS_MAX: usize = 100;
        let mut chars = self.0.chars();
        for c in chars.by_ref().take(CHARS_MAX) {
            write!(f, "{}", c.escape_debug())?;
        }
        if chars.next().is_some() {
            write!(f, "… ({} bytes)", self.0.len())?;
        }
        Ok(())
    }
}

/// The number formats that are known, with their ids.
struct KnownDTypes;

impl fmt::Display for KnownDTypes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, dtype) in DType::ALL.iter().enumerate() {
            let separator = if i == 0 { "" } else { ", " };
            write!(f, "{separator}{} {dtype}", dtype.gguf_id())?;
        }
        Ok(())
    }
}
