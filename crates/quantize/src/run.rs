//! Carrying a plan out: tensor by tensor, in slabs of rows that all threads share.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use troika_base::DType;
use troika_gguf::{ModelFile, TensorInfo, Writer};
use troika_kernels::quant::dequantize_row;
use troika_kernels::{Kernels, Pool};

use crate::Error;
use crate::importance::Importance;
use crate::plan::{Plan, Planned};

/// Bytes of a slab of what is written: what is in memory beside each thread's rows.
const SLAB_BYTES: usize = 16 << 20;

/// Weights that a thread takes at a time: as f32 they fit a core's own cache.
const TASK_WEIGHTS: usize = 64 << 10;

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress<'a> {
    /// Weights that are done.
    pub done: u64,
    /// Weights in all.
    pub total: u64,
    /// The tensor that it is at.
    pub tensor: &'a str,
}

/// The answer of a progress callback that ends the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cancelled;

/// What tensors are rounded with.
#[derive(Clone, Copy)]
struct Rounding<'a> {
    file: &'a ModelFile,
    importance: Option<&'a Importance>,
    kernels: &'a Kernels,
    pool: &'a Pool,
}

/// Writes a file's tensors as planned to `path`. What stood there stays until the new file is whole; `progress` may break
/// it off, and nothing changes then. The bytes do not depend on threads or kernels.
///
/// # Errors
/// If a file cannot be read or written, or a tensor holds no numbers; [`Error::Cancelled`] if it was broken off.
pub fn run(
    file: &ModelFile,
    plan: &Plan,
    importance: Option<&Importance>,
    (kernels, pool): (&Kernels, &Pool),
    path: &Path,
    progress: &mut dyn FnMut(Progress<'_>) -> ControlFlow<Cancelled>,
) -> Result<(), Error> {
    let rounding = Rounding {
        file,
        importance,
        kernels,
        pool,
    };
    // The writer's callbacks come one after the other, and each wants to tell.
    let shared = Mutex::new((0, progress));
    let total = plan.weights();
    let mut writer = Writer::new(plan.metadata.clone());
    for planned in &plan.tensors {
        let shared = &shared;
        writer.tensor(&planned.name, planned.to, &planned.shape, move |out| {
            let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
            let (done, progress) = &mut *shared;
            let mut tell = |weights: u64| {
                *done += weights;
                let told = progress(Progress {
                    done: *done,
                    total,
                    tensor: &planned.name,
                });
                match told {
                    ControlFlow::Continue(()) => Ok(()),
                    ControlFlow::Break(Cancelled) => Err(Error::Cancelled),
                }
            };
            Ok(rounding.write(planned, &mut tell, out)?)
        });
    }
    writer.write_file(path).map_err(|error| match error {
        // A callback's own error has come through the writer.
        troika_gguf::Error::Data { tensor, source } => match source.downcast::<Error>() {
            Ok(own) => *own,
            Err(source) => troika_gguf::Error::Data { tensor, source }.into(),
        },
        other => other.into(),
    })
}

impl Rounding<'_> {
    fn write(
        &self,
        planned: &Planned,
        tell: &mut dyn FnMut(u64) -> Result<(), Error>,
        out: &mut dyn std::io::Write,
    ) -> Result<(), Error> {
        let found = self.file.tensor(&planned.name);
        let tensor = found.expect("a plan is of its file. This is a bug.");
        let columns = match self.importance {
            Some(importance) => importance.of(tensor)?,
            None => None,
        };
        let matrix = Matrix::new(tensor, planned.to, columns.as_deref());
        let per_slab = (SLAB_BYTES / matrix.row_bytes.max(1)).max(1);
        let n_rows = tensor.n_rows() as usize;
        let mut slab = Vec::new();
        for first in (0..n_rows).step_by(per_slab) {
            let rows = per_slab.min(n_rows - first);
            slab.resize(rows * matrix.row_bytes, 0);
            self.fill(&matrix, first, &mut slab)?;
            out.write_all(&slab)
                .map_err(|source| troika_gguf::Error::Io {
                    action: "write the model",
                    file: planned.name.clone(),
                    source,
                })?;
            tell((rows * matrix.row_len) as u64)?;
        }
        Ok(())
    }

    /// Rounds rows from `first` on into `slab`.
    fn fill(&self, matrix: &Matrix<'_>, first: usize, slab: &mut [u8]) -> Result<(), Error> {
        let failed = Mutex::new(None);
        let rows = (TASK_WEIGHTS / matrix.row_len.max(1)).max(1);
        let task = |at: usize, out: &mut [u8]| {
            let rounded = matrix.round(self.file, self.kernels, first + at / matrix.row_bytes, out);
            if let Err(error) = rounded {
                let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                failed.get_or_insert(error);
            }
        };
        self.pool
            .for_each_chunk(slab, rows * matrix.row_bytes, task);
        match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

/// A tensor as rows of one length.
struct Matrix<'a> {
    tensor: &'a TensorInfo,
    to: DType,
    row_len: usize,
    /// Of a row in the source.
    source_bytes: usize,
    /// Of a row that is written.
    row_bytes: usize,
    /// Rows of each matrix of a stack.
    rows_of_matrix: usize,
    /// What columns count, `[n_matrix, n_in]`.
    columns: Option<&'a [f32]>,
}

impl<'a> Matrix<'a> {
    fn new(tensor: &'a TensorInfo, to: DType, columns: Option<&'a [f32]>) -> Self {
        let row_len = tensor.row_len() as usize;
        let bytes = |dtype: DType| {
            let bytes = dtype.row_bytes(row_len);
            bytes.expect("a plan's rows are whole blocks. This is a bug.")
        };
        Self {
            tensor,
            to,
            row_len,
            source_bytes: bytes(tensor.dtype),
            row_bytes: bytes(to),
            rows_of_matrix: tensor.shape.get(1).map_or(1, |&n| n as usize),
            columns,
        }
    }

    /// Reads the rows from `first` on that fill `out`, and rounds them.
    fn round(
        &self,
        file: &ModelFile,
        kernels: &Kernels,
        first: usize,
        out: &mut [u8],
    ) -> Result<(), Error> {
        let offset = (first * self.source_bytes) as u64;
        if self.to == self.tensor.dtype {
            return Ok(file.read(self.tensor, offset, out)?);
        }
        let n_rows = out.len() / self.row_bytes;
        let mut bytes = vec![0; n_rows * self.source_bytes];
        file.read(self.tensor, offset, &mut bytes)?;
        let mut x = vec![0.0; self.row_len];
        let rows = bytes.chunks_exact(self.source_bytes);
        for (row, (bytes, out)) in rows.zip(out.chunks_exact_mut(self.row_bytes)).enumerate() {
            let not_computed = |error: troika_kernels::quant::Unsupported| Error::NotComputed {
                tensor: self.tensor.name.clone(),
                dtype: error.dtype,
            };
            dequantize_row(self.tensor.dtype, bytes, &mut x).map_err(not_computed)?;
            if !x.iter().all(|x| x.is_finite()) {
                return Err(Error::NotFinite {
                    tensor: self.tensor.name.clone(),
                });
            }
            let columns = self.columns.map(|columns| {
                let matrix = (first + row) / self.rows_of_matrix;
                &columns[matrix * self.row_len..][..self.row_len]
            });
            kernels
                .quantize_row(self.to, &x, columns, out)
                .map_err(not_computed)?;
        }
        Ok(())
    }
}
