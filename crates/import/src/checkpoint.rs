//! A checkpoint: what its directory holds, and the file that is made of it.

use std::cell::{Cell, RefCell};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use serde_json::Value;
use troika_base::DType;
use troika_gguf::{Metadata, Writer};

use crate::Error;
use crate::architecture::Family;
use crate::config::Config;
use crate::layout::{Layout, Made};
use crate::source::Source;
use crate::{pooling, tokenizer};

/// A configuration longer than any: a tokenizer's vocabulary is 30 MB.
const JSON_BYTES_MAX: u64 = 1 << 30;

/// How far a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of tensors that are written.
    pub done_bytes: u64,
    /// Bytes of all tensors.
    pub bytes: u64,
}

/// A model as its makers publish it, checked and ready to be written.
#[derive(Debug)]
pub struct Checkpoint {
    architecture: &'static str,
    metadata: Metadata,
    tensors: Vec<Made>,
}

impl Checkpoint {
    /// Reads a directory's configuration, tokenizer and headers. No weights are read.
    ///
    /// # Errors
    /// If something is missing, damaged or not known, or the weights are pickle.
    pub fn open(directory: &Path) -> Result<Self, Error> {
        let whole = opt_json(&directory.join("config.json"))?.ok_or_else(|| Error::Missing {
            path: directory.to_owned(),
            what: "config.json".to_owned(),
        })?;
        let family = Family::of(&whole)?;
        let source = Source::open(directory)?;
        let config = Config::new(whole.clone());
        let mut metadata = Metadata::default();
        metadata.insert("general.architecture", family.gguf);
        metadata.insert("general.type", "model");
        metadata.insert("general.name", name(directory, &whole));
        let factors = family.metadata(&config, &mut metadata)?;
        pooling::write(directory, family.gguf, &mut metadata)?;
        let mut layout = Layout::new(&source, family.table())?;
        for (name, values) in factors {
            layout.values(name, values);
        }
        family.tensors(&config, &mut layout)?;
        let tensors = layout.made;
        let table = tensors
            .iter()
            .find(|tensor| tensor.name == "token_embd.weight");
        let table = table.expect("every architecture has one. This is a bug.");
        let is_mxfp4 = tensors.iter().any(|tensor| tensor.dtype == DType::MXFP4);
        let mostly = if is_mxfp4 { DType::MXFP4 } else { table.dtype };
        metadata.insert("general.file_type", file_type(mostly));
        let n_vocab = table.shape.get(1).map_or(0, |&n| n as usize);
        tokenizer::write(directory, &whole, n_vocab, &mut metadata)?;
        Ok(Self {
            architecture: family.gguf,
            metadata,
            tensors,
        })
    }

    /// The architecture as GGUF names it.
    pub fn architecture(&self) -> &'static str {
        self.architecture
    }

    /// What the file will say of itself.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Tensors of the file.
    pub fn n_tensors(&self) -> usize {
        self.tensors.len()
    }

    /// Bytes of all tensors.
    pub fn bytes(&self) -> u64 {
        self.tensors.iter().map(Made::n_bytes).sum()
    }

    /// Writes the file: under another name beside `path`, then renamed, so that there is never half a model. `progress` is
    /// told of every piece, and may stop it.
    ///
    /// # Errors
    /// If a tensor cannot be read or the file not be written, or it was stopped. What stood at `path` is there still.
    pub fn write(
        &self,
        path: &Path,
        mut progress: impl FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let stopped = Cell::new(false);
        let mut now = Progress {
            done_bytes: 0,
            bytes: self.bytes(),
        };
        let tell = RefCell::new(|bytes: usize| {
            now.done_bytes += bytes as u64;
            stopped.set(progress(now).is_break());
            match stopped.get() {
                true => Err("stopped"),
                false => Ok(()),
            }
        });
        let tell = |bytes: usize| (tell.borrow_mut())(bytes);
        let written = writer(self.metadata.clone(), &self.tensors, &tell).write_file(path);
        match stopped.get() {
            true => Err(Error::Stopped),
            false => Ok(written?),
        }
    }
}

/// What writes these tensors. `tell` is told of every piece's bytes, and may stop it.
pub(crate) fn writer<'t>(
    metadata: Metadata,
    tensors: &'t [Made],
    tell: &'t dyn Fn(usize) -> Result<(), &'static str>,
) -> Writer<'t> {
    let mut writer = Writer::new(metadata);
    for tensor in tensors {
        writer.tensor(&tensor.name, tensor.dtype, &tensor.shape, move |out| {
            for piece in tensor.bytes() {
                let piece = piece?;
                out.write_all(&piece)?;
                tell(piece.len())?;
            }
            Ok(())
        });
    }
    writer
}

/// The model's own name, or its directory's.
fn name(directory: &Path, config: &Value) -> String {
    let own = config["_name_or_path"]
        .as_str()
        .filter(|name| !name.is_empty());
    let own = own.and_then(|name| name.rsplit('/').next());
    let of_directory = || {
        let full: PathBuf = directory.canonicalize().ok()?;
        Some(full.file_name()?.to_string_lossy().into_owned())
    };
    own.map(str::to_owned)
        .or_else(of_directory)
        .unwrap_or_else(|| "model".to_owned())
}

/// llama.cpp's number for a file whose matrices are mostly of a format.
fn file_type(dtype: DType) -> u32 {
    match dtype {
        DType::F16 => 1,
        DType::BF16 => 32,
        DType::MXFP4 => 38,
        _ => 0,
    }
}

/// A file of JSON, if it is there.
pub(crate) fn opt_json(path: &Path) -> Result<Option<Value>, Error> {
    let failed = |source| Error::Io {
        path: path.to_owned(),
        source,
    };
    let malformed = |problem: String| Error::Malformed {
        path: path.to_owned(),
        problem,
    };
    let size = match std::fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    if size > JSON_BYTES_MAX {
        return Err(malformed(format!("it has {size} bytes")));
    }
    let bytes = std::fs::read(path).map_err(failed)?;
    let value = serde_json::from_slice(&bytes).map_err(|error| malformed(error.to_string()))?;
    Ok(Some(value))
}
