//! A model file that was opened and checked: metadata, tensor directory, and reads of tensor bytes.

use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::directory::Directory;
use crate::parse;
use crate::source::Source;
use crate::split;
use crate::{Error, Metadata, Place, Problem, TensorInfo};

/// An open model. What it lists has been checked against the size of the file.
///
/// Tensor bytes stay in the file until they are asked for, and several threads may ask at once.
#[derive(Debug)]
pub struct ModelFile {
    name: String,
    path: Option<PathBuf>,
    source: Arc<Source>,
    bytes: u64,
    version: u32,
    metadata: Metadata,
    tensors: Vec<TensorInfo>,
    /// Indices into `tensors`, in order of the names.
    by_name: Vec<usize>,
    adapter: Option<Box<Self>>,
}

impl ModelFile {
    /// Opens a file and checks its header. No tensor is read.
    ///
    /// The first part of a model in several files, `NAME-00001-of-00003.gguf`, opens the others beside it, and lists the
    /// tensors of all. A later part opens as what it is, and has its own tensors only.
    ///
    /// # Errors
    /// If it is not a regular file, cannot be read, or its header is not GGUF version 2 or 3 without contradictions; or if
    /// that is so of a later part, or that is none.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let mut model = Self::open_one(path)?;
        let later = split::later_parts(path, &model.metadata)?;
        for (want, path) in (2..).zip(&later) {
            model.append(want, Self::open_one(path)?)?;
        }
        Ok(model)
    }

    /// Takes the tensors of the part that follows: part `number`, from 1, of as many as the first one says.
    ///
    /// # Errors
    /// If it is another part, or has a tensor that a part before it has.
    pub fn append(&mut self, number: usize, part: Self) -> Result<(), Error> {
        split::require_part(number, &self.metadata, &part.metadata, &part.name)?;
        let start = self.bytes;
        for mut tensor in part.tensors {
            if let Some(other) = self.tensor(&tensor.name) {
                return Err(Error::Malformed {
                    offset: tensor.offset,
                    problem: Problem::Duplicate {
                        first: other.offset,
                    },
                    place: Place::Tensor(tensor.name),
                    file: part.name,
                });
            }
            tensor.offset += start;
            let at = |index: &usize| self.tensors[*index].name < tensor.name;
            let at = self.by_name.partition_point(at);
            self.by_name.insert(at, self.tensors.len());
            self.tensors.push(tensor);
        }
        let unshared = "nobody reads a file that is being opened. This is a bug.";
        let source = Arc::into_inner(part.source).expect(unshared);
        let whole = Arc::get_mut(&mut self.source).expect(unshared);
        whole.append(start, source);
        self.bytes += part.bytes;
        Ok(())
    }

    /// A file for itself.
    fn open_one(path: &Path) -> Result<Self, Error> {
        let name = path.display().to_string();
        let (source, bytes) = Source::open(path, &name)?;
        let mut opened = Self::from_source(name, source, bytes)?;
        opened.path = Some(path.to_owned());
        Ok(opened)
    }

    /// Takes a model from memory, such as one that is part of the program. `name` stands for the path in messages.
    ///
    /// # Errors
    /// If the header is not GGUF version 2 or 3 without contradictions.
    pub fn from_bytes(name: &str, bytes: impl Into<Cow<'static, [u8]>>) -> Result<Self, Error> {
        let content = bytes.into();
        let bytes = content.len() as u64;
        Self::from_source(name.to_owned(), Source::Memory(content), bytes)
    }

    /// Takes the beginning of a file of `bytes` bytes whose rest is elsewhere: its header can be read, and no tensor beyond
    /// what is here. `None` if the header goes on after what is here, so that more of it is needed.
    ///
    /// # Errors
    /// As [`ModelFile::from_bytes`].
    pub fn from_beginning(
        name: &str,
        beginning: Vec<u8>,
        bytes: u64,
    ) -> Result<Option<Self>, Error> {
        let is_all = beginning.len() as u64 >= bytes;
        let source = Source::Memory(beginning.into());
        match Self::from_source(name.to_owned(), source, bytes) {
            // What the cursor says of bytes that the header has and the source has not.
            Err(Error::Malformed {
                problem: Problem::Truncated { left: 0, .. },
                ..
            }) if !is_all => Ok(None),
            other => other.map(Some),
        }
    }

    fn from_source(name: String, source: Source, bytes: u64) -> Result<Self, Error> {
        let mut header = parse::header(&source, &name, bytes)?;
        let Directory { tensors, by_name } = Directory::new(&mut header, &name, bytes)?;
        Ok(Self {
            version: header.version,
            metadata: header.metadata,
            name,
            path: None,
            source: Arc::new(source),
            bytes,
            tensors,
            by_name,
            adapter: None,
        })
    }

    /// The same model with changes of low rank: where `adapter` has `NAME.lora_a` `[rank, n_in]` and `NAME.lora_b`
    /// `[n_out, rank]`, both F32, matrix `NAME` of this file stands for itself plus `lora_b · lora_a`. Whoever computes with
    /// the file has to, or has to refuse it.
    #[must_use]
    pub fn with_adapter(mut self, adapter: Self) -> Self {
        self.adapter = Some(Box::new(adapter));
        self
    }

    /// The same model with one tensor as another file of it has it, in whatever format. No bytes are copied, and an adapter is
    /// left behind. `None` if a file lacks the tensor, or has it in another shape.
    pub fn with_tensor_of(&self, other: &Self, name: &str) -> Option<Self> {
        let taken = other.tensor(name)?;
        let mut tensors = self.tensors.clone();
        let place = tensors.iter_mut().find(|tensor| tensor.name == name)?;
        if place.shape != taken.shape {
            return None;
        }
        *place = TensorInfo {
            offset: taken.offset + self.bytes,
            ..taken.clone()
        };
        let mut source = Source::Shared(Arc::clone(&self.source));
        source.append(self.bytes, Source::Shared(Arc::clone(&other.source)));
        Some(Self {
            name: self.name.clone(),
            path: self.path.clone(),
            source: Arc::new(source),
            bytes: self.bytes + other.bytes,
            version: self.version,
            metadata: self.metadata.clone(),
            tensors,
            by_name: self.by_name.clone(),
            adapter: None,
        })
    }

    /// The changes, if there are some.
    pub fn adapter(&self) -> Option<&Self> {
        self.adapter.as_deref()
    }

    /// All that takes memory where the model runs: the tensors, and those of the adapter.
    pub fn resident_tensors(&self) -> impl Iterator<Item = &TensorInfo> {
        let adapter = self.adapter.iter().flat_map(|adapter| adapter.tensors());
        self.tensors.iter().chain(adapter)
    }

    /// The same model under a name that may be shown where its path may not.
    #[must_use]
    pub fn with_name(self, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..self
        }
    }

    /// The path as it was given, or the name of a model in memory.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The path as it was given; `None` for a model in memory.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// The format's version: 2 or 3.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The size of the file when it was opened, with that of its later parts.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The metadata.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The tensors in the order of the file.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// The tensor of this name.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        let found = self
            .by_name
            .binary_search_by_key(&name, |&index| self.tensors[index].name.as_str());
        found.ok().map(|i| &self.tensors[self.by_name[i]])
    }

    /// Fills `out` with the tensor's bytes from `offset` on, counted from the tensor's start.
    ///
    /// # Errors
    /// If the range is not inside the tensor, or the file cannot be read there any more.
    pub fn read(&self, tensor: &TensorInfo, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        read(&self.source, &self.name, tensor, offset, out)
    }

    /// What reads the tensor's bytes later on.
    pub fn reader(&self, tensor: &TensorInfo) -> TensorReader {
        TensorReader {
            name: self.name.clone(),
            source: Arc::clone(&self.source),
            tensor: tensor.clone(),
        }
    }

    /// All bytes of a tensor.
    ///
    /// # Errors
    /// If the file cannot be read there any more.
    pub fn read_all(&self, tensor: &TensorInfo) -> Result<Vec<u8>, Error> {
        // A tensor of this file is no larger than the file; one that is not must not size an allocation.
        let bytes = usize::try_from(tensor.bytes.min(self.bytes)).unwrap_or(usize::MAX);
        let mut out = vec![0; bytes];
        self.read(tensor, 0, &mut out)?;
        Ok(out)
    }
}

/// Reads one tensor, also when its [`ModelFile`] is gone: the file stays open, under whatever name.
#[derive(Clone, Debug)]
pub struct TensorReader {
    name: String,
    source: Arc<Source>,
    tensor: TensorInfo,
}

impl TensorReader {
    /// The tensor.
    pub fn tensor(&self) -> &TensorInfo {
        &self.tensor
    }

    /// As [`ModelFile::read`].
    ///
    /// # Errors
    /// As that.
    pub fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        read(&self.source, &self.name, &self.tensor, offset, out)
    }
}

/// Fills `out` with bytes of a tensor of the file `name`.
fn read(
    source: &Source,
    name: &str,
    tensor: &TensorInfo,
    offset: u64,
    out: &mut [u8],
) -> Result<(), Error> {
    let want = out.len() as u64;
    if offset
        .checked_add(want)
        .is_none_or(|end| end > tensor.bytes)
    {
        return Err(Error::OutsideTensor {
            tensor: tensor.name.clone(),
            offset,
            want,
            bytes: tensor.bytes,
        });
    }
    // Saturation reads beyond the end of any file, and so is an error like any other.
    let offset = tensor.offset.saturating_add(offset);
    source.read_exact_at(offset, out).map_err(|source| {
        if source.kind() == io::ErrorKind::UnexpectedEof {
            return Error::ShortRead {
                tensor: tensor.name.clone(),
                offset,
                want,
                file: name.to_owned(),
            };
        }
        Error::Io {
            action: "read a tensor",
            file: name.to_owned(),
            source,
        }
    })
}
