//! The header: fixed fields, metadata, tensor directory. Bytes to values, nothing assumed.

use std::collections::HashMap;

use troika_base::DType;

use crate::cursor::Cursor;
use crate::source::Source;
use crate::tensor::{DIMENSIONS_MAX, checked_tensor_bytes};
use crate::value::ValueType;
use crate::{
    ALIGNMENT_DEFAULT, ALIGNMENT_KEY, Array, Error, MAGIC, Metadata, Place, Problem, TensorInfo,
    Value,
};

/// Metadata entries that a file may have. Real ones have tens.
const KEYS_MAX: u64 = 1 << 16;

/// Bytes of a key, as the format limits them.
const KEY_BYTES_MAX: u64 = (1 << 16) - 1;

/// Bytes of a tensor's name, as the format limits them.
const NAME_BYTES_MAX: u64 = 64;

/// Arrays inside arrays. Models in use have none.
const ARRAY_DEPTH_MAX: usize = 8;

const ALIGNMENT_MIN: u64 = 8;
const ALIGNMENT_MAX: u64 = 64 << 10;

/// The fewest bytes of a metadata entry: an empty key's length, a type, a one-byte value.
const ENTRY_BYTES_MIN: u64 = 8 + 4 + 1;

/// The fewest bytes of a tensor's entry: an empty name's length, one dimension, type, offset.
const TENSOR_BYTES_MIN: u64 = 8 + 4 + 8 + 4 + 8;

/// What stands before the tensor data.
pub(crate) struct Header {
    pub(crate) version: u32,
    pub(crate) metadata: Metadata,
    /// In the order of the file; what they say of each other is not checked yet.
    pub(crate) entries: Vec<TensorEntry>,
    /// Where the header ends.
    end: u64,
    pub(crate) alignment: u64,
}

/// A tensor as the header has it.
pub(crate) struct TensorEntry {
    /// The offset still counts from the start of the data section.
    pub(crate) info: TensorInfo,
    /// Where in the file the entry stands.
    pub(crate) at: u64,
}

impl Header {
    /// Where tensor data starts: the first multiple of the alignment after the header.
    pub(crate) fn data_start(&self) -> u64 {
        self.end.next_multiple_of(self.alignment)
    }
}

/// Reads the header of a file of `file_bytes` bytes.
pub(crate) fn header(source: &Source, file: &str, file_bytes: u64) -> Result<Header, Error> {
    let mut parser = Parser {
        cursor: Cursor::new(source, file, file_bytes),
    };
    let version = parser.version(file)?;
    let cursor = &mut parser.cursor;
    let n_tensors = cursor.count("tensors", TENSOR_BYTES_MIN)?;
    let n_keys = cursor.count("metadata entries", ENTRY_BYTES_MIN)?;
    if n_keys as u64 > KEYS_MAX {
        let problem = Problem::TooMany {
            what: "metadata entries",
            count: n_keys as u64,
            most: KEYS_MAX,
        };
        return Err(cursor.malformed(16, problem));
    }
    let (metadata, alignment) = parser.metadata(n_keys)?;
    let entries = parser.tensors(n_tensors)?;
    Ok(Header {
        version,
        metadata,
        entries,
        end: parser.cursor.offset(),
        alignment,
    })
}

struct Parser<'a> {
    cursor: Cursor<'a>,
}

impl Parser<'_> {
    /// Magic and version.
    fn version(&mut self, file: &str) -> Result<u32, Error> {
        let file = || file.to_owned();
        let found = match usize::try_from(self.cursor.left()) {
            Ok(left @ 0..4) => self.cursor.numbers(left, u8::from_le_bytes)?,
            _ => self.cursor.take::<4>()?.to_vec(),
        };
        if found != MAGIC {
            return Err(Error::NotGguf {
                found,
                file: file(),
            });
        }
        match self.cursor.u32()? {
            version @ (2 | 3) => Ok(version),
            version if (1..=0xff).contains(&version.swap_bytes()) => Err(Error::BigEndian {
                version: version.swap_bytes(),
                file: file(),
            }),
            version => Err(Error::Version {
                version,
                file: file(),
            }),
        }
    }

    /// The metadata, and the alignment that it sets.
    fn metadata(&mut self, n_keys: usize) -> Result<(Metadata, u64), Error> {
        let mut metadata = Metadata::default();
        let mut alignment = ALIGNMENT_DEFAULT;
        let mut seen = HashMap::new();
        for index in 0..n_keys as u64 {
            self.cursor.place = Place::KeyIndex(index);
            let at = self.cursor.offset();
            let key = self.cursor.short_string("key", KEY_BYTES_MAX)?;
            self.cursor.place = Place::Key(key.clone());
            if let Some(first) = seen.insert(key.clone(), at) {
                return Err(self.cursor.malformed(at, Problem::Duplicate { first }));
            }
            let value_type = self.value_type()?;
            let value_at = self.cursor.offset();
            let value = self.value(value_type)?;
            if key == ALIGNMENT_KEY {
                alignment = checked_alignment(&value)
                    .map_err(|problem| self.cursor.malformed(value_at, problem))?;
            }
            // The entry, and the key's second copy in `seen`.
            self.cursor
                .spend_memory((size_of::<(String, Value)>() + 2 * key.len()) as u64)?;
            metadata.push_new(key, value);
        }
        Ok((metadata, alignment))
    }

    fn value_type(&mut self) -> Result<ValueType, Error> {
        let at = self.cursor.offset();
        let id = self.cursor.u32()?;
        ValueType::from_id(id).ok_or_else(|| self.cursor.malformed(at, Problem::ValueType { id }))
    }

    fn value(&mut self, value_type: ValueType) -> Result<Value, Error> {
        let cursor = &mut self.cursor;
        Ok(match value_type {
            ValueType::U8 => Value::U8(u8::from_le_bytes(cursor.take()?)),
            ValueType::I8 => Value::I8(i8::from_le_bytes(cursor.take()?)),
            ValueType::U16 => Value::U16(u16::from_le_bytes(cursor.take()?)),
            ValueType::I16 => Value::I16(i16::from_le_bytes(cursor.take()?)),
            ValueType::U32 => Value::U32(u32::from_le_bytes(cursor.take()?)),
            ValueType::I32 => Value::I32(i32::from_le_bytes(cursor.take()?)),
            ValueType::F32 => Value::F32(f32::from_le_bytes(cursor.take()?)),
            ValueType::U64 => Value::U64(u64::from_le_bytes(cursor.take()?)),
            ValueType::I64 => Value::I64(i64::from_le_bytes(cursor.take()?)),
            ValueType::F64 => Value::F64(f64::from_le_bytes(cursor.take()?)),
            ValueType::Bool => Value::Bool(self.bool()?),
            ValueType::String => Value::String(cursor.string()?),
            ValueType::Array => Value::Array(self.array(1)?),
        })
    }

    fn bool(&mut self) -> Result<bool, Error> {
        let at = self.cursor.offset();
        match self.cursor.take()? {
            [0] => Ok(false),
            [1] => Ok(true),
            [found] => Err(self.cursor.malformed(at, Problem::Bool { found })),
        }
    }

    /// An array, `depth` deep. The recursion ends at [`ARRAY_DEPTH_MAX`].
    fn array(&mut self, depth: usize) -> Result<Array, Error> {
        if depth > ARRAY_DEPTH_MAX {
            let problem = Problem::TooDeep {
                most: ARRAY_DEPTH_MAX,
            };
            return Err(self.cursor.malformed(self.cursor.offset(), problem));
        }
        let item_type = self.value_type()?;
        let cursor = &mut self.cursor;
        let count = cursor.count("array items", item_type.bytes_min())?;
        Ok(match item_type {
            ValueType::U8 => Array::U8(cursor.numbers(count, u8::from_le_bytes)?),
            ValueType::I8 => Array::I8(cursor.numbers(count, i8::from_le_bytes)?),
            ValueType::U16 => Array::U16(cursor.numbers(count, u16::from_le_bytes)?),
            ValueType::I16 => Array::I16(cursor.numbers(count, i16::from_le_bytes)?),
            ValueType::U32 => Array::U32(cursor.numbers(count, u32::from_le_bytes)?),
            ValueType::I32 => Array::I32(cursor.numbers(count, i32::from_le_bytes)?),
            ValueType::F32 => Array::F32(cursor.numbers(count, f32::from_le_bytes)?),
            ValueType::U64 => Array::U64(cursor.numbers(count, u64::from_le_bytes)?),
            ValueType::I64 => Array::I64(cursor.numbers(count, i64::from_le_bytes)?),
            ValueType::F64 => Array::F64(cursor.numbers(count, f64::from_le_bytes)?),
            ValueType::Bool => Array::Bool(self.items(count, Self::bool)?),
            ValueType::String => Array::String(self.items(count, |parser| parser.cursor.string())?),
            ValueType::Array => Array::Array(self.items(count, |parser| parser.array(depth + 1))?),
        })
    }

    fn items<T>(
        &mut self,
        count: usize,
        mut item: impl FnMut(&mut Self) -> Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        let mut items = self.cursor.vec(count)?;
        for _ in 0..count {
            items.push(item(self)?);
        }
        Ok(items)
    }

    fn tensors(&mut self, n_tensors: usize) -> Result<Vec<TensorEntry>, Error> {
        self.cursor.place = Place::Header;
        let mut entries = self.cursor.vec(n_tensors)?;
        for index in 0..n_tensors as u64 {
            self.cursor.place = Place::TensorIndex(index);
            entries.push(self.tensor()?);
        }
        Ok(entries)
    }

    fn tensor(&mut self) -> Result<TensorEntry, Error> {
        let at = self.cursor.offset();
        let name = self.cursor.short_string("tensor name", NAME_BYTES_MAX)?;
        self.cursor.place = Place::Tensor(name.clone());
        let cursor = &mut self.cursor;

        let n_dims_at = cursor.offset();
        let found = cursor.u32()?;
        let n_dims = found as usize;
        if !(1..=DIMENSIONS_MAX).contains(&n_dims) {
            let most = DIMENSIONS_MAX;
            return Err(cursor.malformed(n_dims_at, Problem::DimensionCount { found, most }));
        }
        let shape_at = cursor.offset();
        let shape = cursor.numbers(n_dims, u64::from_le_bytes)?;

        let dtype_at = cursor.offset();
        let id = cursor.u32()?;
        let dtype = DType::from_gguf_id(id)
            .ok_or_else(|| cursor.malformed(dtype_at, Problem::DType { id }))?;
        let bytes = checked_tensor_bytes(dtype, &shape)
            .map_err(|problem| cursor.malformed(shape_at, problem))?;
        let offset = cursor.u64()?;
        Ok(TensorEntry {
            info: TensorInfo {
                name,
                dtype,
                shape,
                offset,
                bytes,
            },
            at,
        })
    }
}

fn checked_alignment(value: &Value) -> Result<u64, Problem> {
    match value.integer().map(u64::try_from) {
        Some(Ok(n)) if n.is_power_of_two() && (ALIGNMENT_MIN..=ALIGNMENT_MAX).contains(&n) => Ok(n),
        _ => Err(Problem::Alignment {
            found: value.describe(),
            least: ALIGNMENT_MIN,
            most: ALIGNMENT_MAX,
        }),
    }
}
