//! A checkpoint's tensors, in one or several safetensors files, read by position.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::Metadata as SafeMetadata;
use troika_base::DType;

use crate::Error;

/// The longest header that is read: that of the largest published checkpoint is a hundredth of this.
const HEADER_BYTES_MAX: u64 = 256 << 20;

/// Where a tensor lies.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    file: PathBuf,
    pub(crate) dtype: DType,
    /// Slowest first, as the file has it.
    pub(crate) shape: Vec<usize>,
    start: u64,
}

/// The tensors of a directory.
#[derive(Debug)]
pub(crate) struct Source {
    entries: BTreeMap<String, Entry>,
}

impl Source {
    /// Reads the headers of all safetensors files.
    pub(crate) fn open(directory: &Path) -> Result<Self, Error> {
        let mut weights = BTreeSet::new();
        let mut pickle = None;
        let entries = std::fs::read_dir(directory).map_err(|source| io(directory, source))?;
        for entry in entries {
            let path = entry.map_err(|source| io(directory, source))?.path();
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("safetensors") => drop(weights.insert(path)),
                Some("bin" | "pt" | "pth" | "pkl" | "ckpt") => pickle = Some(path),
                _ => {}
            }
        }
        match (weights.is_empty(), pickle) {
            (true, Some(path)) => return Err(Error::Pickle { path }),
            (true, None) => {
                return Err(Error::Missing {
                    path: directory.to_owned(),
                    what: "*.safetensors".to_owned(),
                });
            }
            _ => {}
        }
        let mut entries = BTreeMap::new();
        for path in weights {
            read_header(&path, &mut entries)?;
        }
        Ok(Self { entries })
    }

    /// A tensor.
    pub(crate) fn get(&self, name: &str) -> Option<&Entry> {
        self.entries.get(name)
    }

    /// All names, in order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }
}

impl Entry {
    /// Values per row, and rows.
    pub(crate) fn rows(&self) -> (usize, usize) {
        let row = self.shape.last().copied().unwrap_or(1);
        (row, self.shape.iter().product::<usize>() / row.max(1))
    }

    /// Some of its bytes, of which it has enough.
    pub(crate) fn read(&self, offset: u64, length: usize) -> std::io::Result<Vec<u8>> {
        let mut file = File::open(&self.file)?;
        file.seek(SeekFrom::Start(self.start + offset))?;
        let mut bytes = vec![0; length];
        file.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

fn read_header(path: &Path, entries: &mut BTreeMap<String, Entry>) -> Result<(), Error> {
    let failed = |source| io(path, source);
    let malformed = |problem: String| Error::Malformed {
        path: path.to_owned(),
        problem,
    };
    let mut file = File::open(path).map_err(failed)?;
    let size = file.metadata().map_err(failed)?.len();
    let mut length = [0; 8];
    file.read_exact(&mut length).map_err(failed)?;
    let length = u64::from_le_bytes(length);
    if length > HEADER_BYTES_MAX.min(size.saturating_sub(8)) {
        return Err(malformed(format!(
            "its header would take {length} bytes of {size}"
        )));
    }
    let mut header = vec![0; length as usize];
    file.read_exact(&mut header).map_err(failed)?;
    // Checked as it is read: offsets follow each other, and are as long as shapes say.
    let metadata: SafeMetadata =
        serde_json::from_slice(&header).map_err(|error| malformed(error.to_string()))?;
    for name in metadata.offset_keys() {
        let tensor = metadata.info(&name);
        let tensor = tensor.expect("the name is one of its own. This is a bug.");
        let dtype = match tensor.dtype {
            Dtype::F32 => DType::F32,
            Dtype::F16 => DType::F16,
            Dtype::BF16 => DType::BF16,
            // Codes and scales; whoever wants numbers refuses it.
            Dtype::U8 => DType::I8,
            // The numbers from 0 on, which encoders used to be saved with.
            Dtype::I64 if name.ends_with("embeddings.position_ids") => continue,
            other => {
                return Err(Error::Tensor {
                    tensor: name,
                    problem: format!("its format is {other:?}; F32, F16 and BF16 are read"),
                });
            }
        };
        let (start, end) = tensor.data_offsets;
        let start = 8 + length + start as u64;
        let bytes = (end - tensor.data_offsets.0) as u64;
        if start + bytes > size {
            return Err(malformed(format!("it ends before tensor `{name}` does")));
        }
        let entry = Entry {
            file: path.to_owned(),
            dtype,
            shape: tensor.shape.clone(),
            start,
        };
        if entries.insert(name.clone(), entry).is_some() {
            return Err(malformed(format!("tensor `{name}` is in another file too")));
        }
    }
    Ok(())
}

fn io(path: &Path, source: std::io::Error) -> Error {
    Error::Io {
        path: path.to_owned(),
        source,
    }
}
