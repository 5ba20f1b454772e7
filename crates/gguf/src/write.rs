//! Writing a model: header first, then each tensor as its data is made.

use std::error::Error as StdError;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use troika_base::DType;

use crate::directory::Directory;
use crate::encode::{put_string, put_value};
use crate::parse;
use crate::source::Source;
use crate::temporary::Temporary;
use crate::tensor::checked_tensor_bytes;
use crate::{
    ALIGNMENT_DEFAULT, ALIGNMENT_KEY, Error, MAGIC, Metadata, Place, Problem, TensorInfo, VERSION,
};

/// Large enough that small writes of a callback cost nothing.
const BUFFER_BYTES: usize = 1 << 20;

/// What a tensor's callback returns. `?` takes any error into it.
pub type DataResult = Result<(), Box<dyn StdError + Send + Sync>>;

type Data<'a> = Box<dyn FnOnce(&mut dyn Write) -> DataResult + 'a>;

/// Collects a model's metadata and tensors and writes them as a GGUF file of version 3.
///
/// A tensor's data is asked for when its turn comes, so that no more than one tensor need be in memory:
///
/// ```
/// # use troika_base::DType;
/// # use troika_gguf::{Metadata, ModelFile, Writer};
/// let mut metadata = Metadata::default();
/// metadata.insert("general.architecture", "llama");
/// let mut writer = Writer::new(metadata);
/// writer.tensor("a", DType::F32, &[2, 3], |out| {
///     for i in 0..6 {
///         out.write_all(&(i as f32).to_le_bytes())?;
///     }
///     Ok(())
/// });
/// writer.tensor_bytes("b", DType::I8, &[4], &[1, 2, 3, 4]);
/// let mut bytes = Vec::new();
/// writer.write_to(&mut bytes)?;
///
/// let model = ModelFile::from_bytes("example", bytes)?;
/// assert_eq!(model.read_all(model.tensor("b").unwrap())?, [1, 2, 3, 4]);
/// # Ok::<(), troika_gguf::Error>(())
/// ```
pub struct Writer<'a> {
    metadata: Metadata,
    tensors: Vec<Pending<'a>>,
}

struct Pending<'a> {
    name: String,
    dtype: DType,
    shape: Vec<u64>,
    data: Data<'a>,
}

impl<'a> Writer<'a> {
    /// A model with this metadata and no tensors yet. `general.alignment` is honoured.
    pub fn new(metadata: Metadata) -> Self {
        Self {
            metadata,
            tensors: Vec::new(),
        }
    }

    /// Adds a tensor. `data` is called once, when its turn comes, and writes exactly the bytes that `dtype` and
    /// `shape` (GGUF's order, row length first) take.
    pub fn tensor(
        &mut self,
        name: impl Into<String>,
        dtype: DType,
        shape: &[u64],
        data: impl FnOnce(&mut dyn Write) -> DataResult + 'a,
    ) -> &mut Self {
        self.tensors.push(Pending {
            name: name.into(),
            dtype,
            shape: shape.to_vec(),
            data: Box::new(data),
        });
        self
    }

    /// Adds a tensor whose data is in memory.
    pub fn tensor_bytes(
        &mut self,
        name: impl Into<String>,
        dtype: DType,
        shape: &[u64],
        data: &'a [u8],
    ) -> &mut Self {
        self.tensor(name, dtype, shape, |out| Ok(out.write_all(data)?))
    }

    /// Writes the model to `path`: under another name in the same directory, synced to disk, then renamed. Whatever
    /// fails, what stood at `path` before still stands there.
    ///
    /// # Errors
    /// If the disk refuses, or as [`Writer::write_to`].
    pub fn write_file(self, path: &Path) -> Result<(), Error> {
        let file = path.display().to_string();
        let failed = |action| {
            let file = file.clone();
            move |source| Error::Io {
                action,
                file,
                source,
            }
        };
        let temporary =
            Temporary::create(path).map_err(failed("create a file beside the model"))?;
        // `write` ends with a flush, so that nothing is left for the buffer's drop.
        let mut out = BufWriter::with_capacity(BUFFER_BYTES, &temporary.file);
        self.write(&mut out, &file)?;
        drop(out);
        temporary
            .persist(path)
            .map_err(failed("sync and rename the model"))
    }

    /// Writes the model to `out`.
    ///
    /// # Errors
    /// If the reader would refuse what was to be written (nothing is written then), if a tensor's data fails or is
    /// not as long as its shape says, or if `out` fails.
    pub fn write_to(self, out: &mut impl Write) -> Result<(), Error> {
        self.write(out, "the model to write")
    }

    fn write(self, out: &mut impl Write, file: &str) -> Result<(), Error> {
        let layout = self.layout(file)?;
        let failed = write_failed(file);
        out.write_all(&layout.header).map_err(&failed)?;
        let mut offset = layout.header.len() as u64;
        for (pending, info) in self.tensors.into_iter().zip(layout.tensors) {
            write_zeros(out, info.offset - offset).map_err(&failed)?;
            write_data(out, pending, info.bytes, file)?;
            offset = info.offset + info.bytes;
        }
        write_zeros(out, layout.end - offset).map_err(&failed)?;
        out.flush().map_err(&failed)
    }

    /// The header's bytes, and where everything goes.
    fn layout(&self, file: &str) -> Result<Layout, Error> {
        let (header, data_bytes) = self.header(file)?;
        // The reader's own parser has the last word: what is written here can be read here.
        let header_bytes = header.len() as u64;
        let source = Source::Memory(header.clone().into());
        let mut parsed = parse::header(&source, file, header_bytes)?;
        let end = match self.tensors.len() {
            0 => header_bytes,
            _ => parsed.data_start().saturating_add(data_bytes),
        };
        let Directory { tensors, .. } = Directory::new(&mut parsed, file, end)?;
        Ok(Layout {
            header,
            tensors,
            end,
        })
    }

    /// The header's bytes, and the size of the data section.
    fn header(&self, file: &str) -> Result<(Vec<u8>, u64), Error> {
        let mut header = Vec::new();
        header.extend(MAGIC);
        header.extend(VERSION.to_le_bytes());
        header.extend((self.tensors.len() as u64).to_le_bytes());
        header.extend((self.metadata.len() as u64).to_le_bytes());
        for (key, value) in self.metadata.iter() {
            put_string(&mut header, key);
            header.extend(value.value_type().id().to_le_bytes());
            put_value(&mut header, value);
        }
        // One that is not fit is refused by the parser.
        let alignment = match self.metadata.opt_u64(ALIGNMENT_KEY) {
            Ok(Some(n)) if n.is_power_of_two() => n,
            _ => ALIGNMENT_DEFAULT,
        };
        let mut data_bytes = 0;
        for pending in &self.tensors {
            let at = header.len() as u64;
            let end = pending.end(data_bytes, alignment);
            pending.put_entry(&mut header, data_bytes);
            data_bytes = end.map_err(|problem| Error::Malformed {
                place: Place::Tensor(pending.name.clone()),
                offset: at,
                problem,
                file: file.to_owned(),
            })?;
        }
        Ok((header, data_bytes))
    }
}

impl Pending<'_> {
    /// Where the next tensor can start when this one starts at `start`.
    fn end(&self, start: u64, alignment: u64) -> Result<u64, Problem> {
        let bytes = checked_tensor_bytes(self.dtype, &self.shape)?;
        start
            .checked_add(bytes)
            .and_then(|end| end.checked_next_multiple_of(alignment))
            .ok_or_else(|| Problem::SizeOverflow {
                dtype: self.dtype,
                shape: self.shape.clone(),
            })
    }

    fn put_entry(&self, header: &mut Vec<u8>, data_offset: u64) {
        put_string(header, &self.name);
        header.extend((self.shape.len() as u32).to_le_bytes());
        header.extend(self.shape.iter().flat_map(|n| n.to_le_bytes()));
        header.extend(self.dtype.gguf_id().to_le_bytes());
        header.extend(data_offset.to_le_bytes());
    }
}

/// A header that was read back, and the places it gives.
struct Layout {
    header: Vec<u8>,
    tensors: Vec<TensorInfo>,
    /// The size of the whole file. The last tensor is padded like the others.
    end: u64,
}

fn write_failed(file: &str) -> impl Fn(io::Error) -> Error {
    |source| Error::Io {
        action: "write the model",
        file: file.to_owned(),
        source,
    }
}

fn write_zeros(out: &mut impl Write, count: u64) -> io::Result<()> {
    io::copy(&mut io::Read::take(io::repeat(0), count), out).map(drop)
}

/// Writes one tensor and checks its length.
fn write_data(
    out: &mut impl Write,
    pending: Pending<'_>,
    want: u64,
    file: &str,
) -> Result<(), Error> {
    let tensor = pending.name;
    let mut counted = Counted {
        out,
        want,
        have: 0,
        failed: None,
    };
    let made = (pending.data)(&mut counted);
    let have = counted.have;
    if let Some(error) = counted.failed {
        return Err(write_failed(file)(error));
    }
    match made {
        // Beyond the tensor's size it is our own refusal that the callback passes on.
        Err(source) if have <= want => Err(Error::Data { tensor, source }),
        _ if have != want => Err(Error::DataLength { tensor, want, have }),
        _ => Ok(()),
    }
}

/// Passes on what a callback writes, up to the size of its tensor.
struct Counted<'a, W> {
    out: &'a mut W,
    want: u64,
    /// Bytes given so far, those refused included.
    have: u64,
    /// What `out` said when it failed: the callback may have dressed it up or dropped it.
    failed: Option<io::Error>,
}

impl<W: Write> Write for Counted<'_, W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.have = self.have.saturating_add(buf.len() as u64);
        if self.have > self.want {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "more data than the tensor takes",
            ));
        }
        match self.out.write_all(buf) {
            Ok(()) => Ok(buf.len()),
            Err(error) => {
                let kind = error.kind();
                self.failed = Some(error);
                Err(kind.into())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
