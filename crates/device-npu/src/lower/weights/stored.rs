//! The file that a graph's weights are written to, beside the graph.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use half::f16;
use tempfile::NamedTempFile;

use super::{Coding, Dialect, Matrix};
use crate::Error;

/// Tensors begin at multiples of this many bytes, so that a mapped file can be used where it lies.
const ALIGNMENT: u64 = 64;

/// Bytes of a data file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::lower) struct Extent {
    pub(in crate::lower) offset: u64,
    pub(in crate::lower) len: u64,
}

/// A matrix that was written.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::lower) struct Stored {
    pub(in crate::lower) name: String,
    pub(in crate::lower) n_out: usize,
    pub(in crate::lower) n_in: usize,
    pub(in crate::lower) coding: Coding,
    /// Weights for which a scale is written.
    pub(in crate::lower) block: usize,
    pub(in crate::lower) codes: Extent,
    /// `[n_out, n_in / block]`; f16 weights have none.
    pub(in crate::lower) scales: Option<Extent>,
}

/// A file that appears whole under its name or not at all.
#[derive(Debug)]
pub(in crate::lower) struct DataFile {
    out: BufWriter<NamedTempFile>,
    len: u64,
    target: PathBuf,
}

impl DataFile {
    /// A file that will be `target`.
    pub(in crate::lower) fn create(target: &Path) -> Result<Self, Error> {
        let directory = target.parent().unwrap_or_else(|| Path::new("."));
        let file = NamedTempFile::new_in(directory).map_err(|source| failed(target, source))?;
        Ok(Self {
            out: BufWriter::with_capacity(1 << 20, file),
            len: 0,
            target: target.to_owned(),
        })
    }

    /// Appends a tensor.
    pub(in crate::lower) fn append(&mut self, bytes: &[u8]) -> Result<Extent, Error> {
        let offset = self.align()?;
        self.write(bytes)?;
        Ok(Extent {
            offset,
            len: bytes.len() as u64,
        })
    }

    /// Appends a matrix, and tells after every few rows how many bytes of the model's file were read for them.
    pub(in crate::lower) fn append_matrix(
        &mut self,
        matrix: &Matrix<'_>,
        coding: Coding,
        dialect: Dialect,
        progress: &mut dyn FnMut(u64) -> Result<(), Error>,
    ) -> Result<Stored, Error> {
        let offset = self.align()?;
        let block = dialect.block(coding, matrix.n_in);
        let repeated = coding.group(matrix.n_in) / block;
        let mut scales = Vec::new();
        let rows = matrix.chunk_rows();
        for first in (0..matrix.n_out).step_by(rows) {
            let n_row = rows.min(matrix.n_out - first);
            let written = matrix.write(first, n_row, coding, dialect)?;
            self.write(&written.codes)?;
            for scale in written.scales {
                for _ in 0..repeated {
                    match dialect.wide_scales {
                        true => scales.extend(scale.to_le_bytes()),
                        false => scales.extend(f16::from_f32(scale).to_le_bytes()),
                    }
                }
            }

            progress(matrix.bytes() / matrix.n_out as u64 * n_row as u64)?;
        }
        let len = self.len - offset;
        let scales = match coding {
            Coding::F16 => None,
            Coding::Int4 { .. } | Coding::Int8 => Some(self.append(&scales)?),
        };
        Ok(Stored {
            name: matrix.name.clone(),
            n_out: matrix.n_out,
            n_in: matrix.n_in,
            coding,
            block,
            codes: Extent { offset, len },
            scales,
        })
    }

    /// Brings the file to disk, then gives it its name.
    pub(in crate::lower) fn persist(self) -> Result<(), Error> {
        let Self { out, target, .. } = self;
        let file = out
            .into_inner()
            .map_err(|error| failed(&target, error.into_error()))?;
        file.as_file()
            .sync_all()
            .map_err(|source| failed(&target, source))?;
        file.persist(&target)
            .map_err(|error| failed(&target, error.error))?;
        sync_directory(&target)
    }

    fn align(&mut self) -> Result<u64, Error> {
        let padding = self.len.next_multiple_of(ALIGNMENT) - self.len;
        self.write(&[0; ALIGNMENT as usize][..padding as usize])?;
        Ok(self.len)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.out
            .write_all(bytes)
            .map_err(|source| failed(&self.target, source))?;
        self.len += bytes.len() as u64;
        Ok(())
    }
}

/// So that the name is on disk as well. Only Unix can do that, and elsewhere need not.
fn sync_directory(target: &Path) -> Result<(), Error> {
    if !cfg!(unix) {
        return Ok(());
    }
    let directory = target.parent().unwrap_or_else(|| Path::new("."));
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(|source| failed(directory, source))
}

fn failed(path: &Path, source: std::io::Error) -> Error {
    Error::Io {
        path: path.to_owned(),
        source,
    }
}
