//! Graphs in the formats that compilers read.

pub(super) mod ir;
pub(super) mod onnx;

mod protobuf;
mod xml;

use std::path::Path;

use super::weights::{Coding, DataFile, Dialect, Matrix, Stored};
use crate::Error;

/// Writes a small file that appears whole under its name or not at all.
pub(super) fn write_file(target: &Path, bytes: &[u8]) -> Result<(), Error> {
    let mut file = DataFile::create(target)?;
    file.append(bytes)?;
    file.persist()
}

/// Writes matrices one after the other.
pub(super) fn store<'g, 'm: 'g>(
    matrices: impl Iterator<Item = (&'g Matrix<'m>, Coding)>,
    dialect: Dialect,
    data: &mut DataFile,
    progress: &mut dyn FnMut(u64) -> Result<(), Error>,
) -> Result<Vec<Stored>, Error> {
    matrices
        .map(|(matrix, coding)| data.append_matrix(matrix, coding, dialect, progress))
        .collect()
}
