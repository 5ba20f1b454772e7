//! Brings a file's tensors to a device, each once, each with the shape that the model's hyperparameters ask for.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::ops::ControlFlow;

use troika_base::{Bytes, ModelSpec};
use troika_device::{Cancelled, Error, LoadProgress, Ops};
use troika_gguf::{ModelFile, TensorInfo};

/// The callback of a load.
pub(crate) type Progress<'p> = dyn FnMut(LoadProgress) -> ControlFlow<Cancelled> + 'p;

/// What an architecture loads its weights through.
pub(super) struct Loader<'l, O: Ops> {
    ops: &'l O,
    file: &'l ModelFile,
    pub(super) spec: &'l ModelSpec,
    progress: RefCell<&'l mut Progress<'l>>,
    done: Cell<u64>,
    total: u64,
    resident: Cell<usize>,
    used: RefCell<BTreeSet<String>>,
}

/// Tensors that some converters leave in the file and that follow from the hyperparameters.
const DERIVED: &str = "rotary_emb.inv_freq";

impl<'l, O: Ops> Loader<'l, O> {
    pub(super) fn new(
        ops: &'l O,
        file: &'l ModelFile,
        spec: &'l ModelSpec,
        progress: &'l mut Progress<'l>,
    ) -> Self {
        Self {
            ops,
            file,
            spec,
            progress: RefCell::new(progress),
            done: Cell::new(0),
            total: file.tensors().iter().map(|tensor| tensor.bytes).sum(),
            resident: Cell::new(0),
            used: RefCell::default(),
        }
    }

    /// The matrix `name` `[n_out, n_in]`.
    pub(super) fn matrix(&self, name: &str, n_out: usize, n_in: usize) -> Result<O::Matrix, Error> {
        let tensor = self.tensor(name, &[n_in, n_out])?;
        let matrix = self.ops.load_matrix(self.file, tensor)?;
        self.resident
            .set(self.resident.get() + self.ops.matrix_bytes(&matrix));
        self.loaded(tensor)?;
        Ok(matrix)
    }

    /// The row `name` `[n]`.
    pub(super) fn vector(&self, name: &str, n: usize) -> Result<O::Vector, Error> {
        let tensor = self.tensor(name, &[n])?;
        let vector = self.ops.load_vector(self.file, tensor)?;
        self.resident
            .set(self.resident.get() + n * size_of::<f32>());
        self.loaded(tensor)?;
        Ok(vector)
    }

    /// Whether the file has this tensor.
    pub(super) fn has(&self, name: &str) -> bool {
        self.file.tensor(name).is_some()
    }

    /// A small tensor's values, for the host.
    pub(super) fn opt_values(&self, name: &str) -> Result<Option<Vec<f32>>, Error> {
        let Some(tensor) = self.file.tensor(name) else {
            return Ok(None);
        };
        let values = troika_device::cpu::read_floats(self.file, tensor)?;
        self.loaded(tensor)?;
        Ok(Some(values))
    }

    fn tensor(&self, name: &str, want: &[usize]) -> Result<&'l TensorInfo, Error> {
        let tensor = self.file.tensor(name).ok_or_else(|| Error::MissingTensor {
            model: self.file.name().to_owned(),
            tensor: name.to_owned(),
            architecture: self.spec.architecture.clone(),
        })?;
        // Trailing ones are optional in the file.
        let have = tensor.shape.iter().copied().chain(std::iter::repeat(1));
        let longest = tensor.shape.len().max(want.len());
        let wanted = want.iter().map(|&n| n as u64).chain(std::iter::repeat(1));
        if have.take(longest).eq(wanted.take(longest)) {
            return Ok(tensor);
        }
        Err(Error::TensorShape {
            model: self.file.name().to_owned(),
            tensor: name.to_owned(),
            want: want.to_vec(),
            have: tensor.shape.clone(),
        })
    }

    fn loaded(&self, tensor: &TensorInfo) -> Result<(), Error> {
        self.used.borrow_mut().insert(tensor.name.clone());
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

    /// Memory that the weights take on the device, once every tensor of the file was used. One that nobody asked for
    /// means that the model computes something which this architecture does not.
    pub(super) fn finish(self) -> Result<Bytes, Error> {
        let used = self.used.into_inner();
        let stray =
            |tensor: &&TensorInfo| !used.contains(&tensor.name) && !tensor.name.ends_with(DERIVED);
        match self.file.tensors().iter().find(stray) {
            None => Ok(Bytes(self.resident.get() as u64)),
            Some(tensor) => Err(Error::UnusedTensor {
                model: self.file.name().to_owned(),
                tensor: tensor.name.clone(),
                architecture: self.spec.architecture.clone(),
            }),
        }
    }
}
