//! Where a model's bytes come from: a file read by position, or memory. The crate's only platform code.

use std::borrow::Cow;
use std::fs::{self, File, FileType};
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::Error;

/// Bytes that can be read at any offset by several threads at once.
#[derive(Debug)]
pub(crate) enum Source {
    File(File),
    Memory(Cow<'static, [u8]>),
    /// Another model's, too.
    Shared(Arc<Self>),
    /// One after the other, each with where it starts.
    Parts(Vec<(u64, Self)>),
}

impl Source {
    /// Opens a regular file and gives its size.
    pub(crate) fn open(path: &Path, name: &str) -> Result<(Self, u64), Error> {
        let failed = |source| Error::Io {
            action: "open the model",
            file: name.to_owned(),
            source,
        };
        // Asked before opening, since opening a pipe waits for its writer; and again of what was opened, since the
        // name may have been given to something else in between.
        require_regular(fs::metadata(path).map_err(failed)?.file_type(), name)?;
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        require_regular(metadata.file_type(), name)?;
        Ok((Self::File(file), metadata.len()))
    }

    /// Fills `out` from `offset` on. `UnexpectedEof` when the bytes end before.
    pub(crate) fn read_exact_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        match self {
            Self::File(file) => read_file_exact_at(file, offset, out),
            Self::Memory(bytes) => {
                let from = usize::try_from(offset)
                    .ok()
                    .and_then(|start| bytes.get(start..));
                let found = from.and_then(|tail| tail.get(..out.len()));
                out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
                Ok(())
            }
            Self::Shared(source) => source.read_exact_at(offset, out),
            Self::Parts(parts) => {
                // The first starts at 0. No tensor reaches from one part to the next.
                let index = parts.partition_point(|(start, _)| *start <= offset) - 1;
                let (start, part) = &parts[index];
                part.read_exact_at(offset - start, out)
            }
        }
    }

    /// Lets another follow, which starts at `start`.
    pub(crate) fn append(&mut self, start: u64, part: Self) {
        if let Self::Parts(parts) = self {
            parts.push((start, part));
        } else {
            let first = std::mem::replace(self, Self::Parts(Vec::new()));
            *self = Self::Parts(vec![(0, first), (start, part)]);
        }
    }
}

fn require_regular(file_type: FileType, name: &str) -> Result<(), Error> {
    if file_type.is_file() {
        return Ok(());
    }
    let found = if file_type.is_dir() {
        "a directory"
    } else {
        "a device, pipe or socket"
    };
    Err(Error::NotRegular {
        found,
        file: name.to_owned(),
    })
}

#[cfg(unix)]
fn read_file_exact_at(file: &File, offset: u64, out: &mut [u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, out, offset)
}

#[cfg(windows)]
fn read_file_exact_at(file: &File, mut offset: u64, mut out: &mut [u8]) -> io::Result<()> {
    while !out.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, out, offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => {
                out = &mut out[n..];
                offset += n as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Makes a rename in this directory survive a loss of power, where the platform has a way to ask for it.
#[cfg(unix)]
pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(not(unix))]
pub(crate) fn sync_directory(_: &Path) -> io::Result<()> {
    Ok(())
}
