//! Brings a file's tensors to a device, each once, each with the shape that the model's hyperparameters ask for.

use std::cell::{Cell, RefCell};
use std::ops::ControlFlow;

use troika_base::{Bytes, ModelSpec};
use troika_device::hyperparameters::Tensors;
use troika_device::{Cancelled, Error, LoadProgress, Ops};
use troika_gguf::{ModelFile, TensorInfo};

/// The callback of a load.
pub(crate) type Progress<'p> = dyn FnMut(LoadProgress) -> ControlFlow<Cancelled> + 'p;

/// What an architecture loads its weights through.
pub(super) struct Loader<'l, O: Ops> {
    ops: &'l O,
    tensors: Tensors<'l>,
    pub(super) spec: &'l ModelSpec,
    progress: RefCell<&'l mut Progress<'l>>,
    done: Cell<u64>,
    total: u64,
    resident: Cell<usize>,
}

impl<'l, O: Ops> Loader<'l, O> {
    pub(super) fn new(
        ops: &'l O,
        file: &'l ModelFile,
        spec: &'l ModelSpec,
        progress: &'l mut Progress<'l>,
    ) -> Self {
        Self {
            ops,
            tensors: Tensors::new(file, &spec.architecture),
            spec,
            progress: RefCell::new(progress),
            done: Cell::new(0),
            total: file.tensors().iter().map(|tensor| tensor.bytes).sum(),
            resident: Cell::new(0),
        }
    }

    /// The matrix `name` `[n_out, n_in]`.
    pub(super) fn matrix(&self, name: &str, n_out: usize, n_in: usize) -> Result<O::Matrix, Error> {
        let tensor = self.tensors.get(name, &[n_in, n_out])?;
        let matrix = self.ops.load_matrix(self.tensors.file(), tensor)?;
        self.resident
            .set(self.resident.get() + self.ops.matrix_bytes(&matrix));
        self.loaded(tensor)?;
        Ok(matrix)
    }

    /// The row `name` `[n]`.
    pub(super) fn vector(&self, name: &str, n: usize) -> Result<O::Vector, Error> {
        let tensor = self.tensors.get(name, &[n])?;
        let vector = self.ops.load_vector(self.tensors.file(), tensor)?;
        self.resident
            .set(self.resident.get() + n * size_of::<f32>());
        self.loaded(tensor)?;
        Ok(vector)
    }

    /// Whether the file has this tensor.
    pub(super) fn has(&self, name: &str) -> bool {
        self.tensors.has(name)
    }

    /// A small tensor's values, for the host.
    pub(super) fn opt_values(&self, name: &str) -> Result<Option<Vec<f32>>, Error> {
        let Some(tensor) = self.tensors.find(name) else {
            return Ok(None);
        };
        let values = troika_device::cpu::read_floats(self.tensors.file(), tensor)?;
        self.loaded(tensor)?;
        Ok(Some(values))
    }

    fn loaded(&self, tensor: &TensorInfo) -> Result<(), Error> {
        self.done.set(self.done.get() + tensor.bytes);
        let progress = LoadProgress {
            done: Bytes(self.done.get()),
            total: Bytes(self.total),
        };
        match (self.progress.borrow_mut())(progress) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(cancelled) => Err(cancelled.into()),
        }
    }

    /// Memory that the weights take on the device, once every tensor of the file was used.
    pub(super) fn finish(self) -> Result<Bytes, Error> {
        self.tensors.finish()?;
        Ok(Bytes(self.resident.get() as u64))
    }
}
