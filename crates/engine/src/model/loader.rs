//! Brings a file's tensors to a device, each once, each with the shape that the model's hyperparameters ask for.

use std::cell::{Cell, RefCell};
use std::ops::ControlFlow;

use troika_base::{Bytes, ModelSpec};
use troika_device::hyperparameters::{Tensors, scale_name};
use troika_device::{Cancelled, Error, Feature, LoadProgress, Ops};
use troika_gguf::{ModelFile, TensorInfo};

/// The callback of a load.
pub(crate) type Progress<'p> = dyn FnMut(LoadProgress) -> ControlFlow<Cancelled> + 'p;

/// What an architecture loads its weights through.
pub(super) struct Loader<'l, O: Ops> {
    ops: &'l O,
    tensors: Tensors<'l>,
    pub(super) spec: &'l ModelSpec,
    /// Tokens that the cache will hold.
    pub(super) n_ctx: usize,
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
        n_ctx: usize,
        progress: &'l mut Progress<'l>,
    ) -> Self {
        Self {
            ops,
            tensors: Tensors::new(file, &spec.architecture),
            spec,
            n_ctx,
            progress: RefCell::new(progress),
            done: Cell::new(0),
            total: file.tensors().iter().map(|tensor| tensor.bytes).sum(),
            resident: Cell::new(0),
        }
    }

    /// The matrix `name` `[n_out, n_in]`.
    pub(super) fn matrix(&self, name: &str, n_out: usize, n_in: usize) -> Result<O::Matrix, Error> {
        let tensor = self.tensors.get(name, &[n_in, n_out])?;
        self.scale(name, 1)?;
        let matrix = self.ops.load_matrix(self.tensors.file(), tensor)?;
        self.add_resident(self.ops.matrix_bytes(&matrix));
        self.loaded(tensor)?;
        Ok(matrix)
    }

    /// The matrices `[n_out, n_in]` that are one tensor `name`, each behind the one before it.
    pub(super) fn matrices<const N: usize>(
        &self,
        name: &str,
        n_out: [usize; N],
        n_in: usize,
    ) -> Result<[O::Matrix; N], Error> {
        let whole = self.tensors.get(name, &[n_in, n_out.iter().sum()])?;
        self.scale(name, 1)?;
        let row_bytes = whole.bytes / whole.n_rows();
        let mut offset = whole.offset;
        let mut matrices = Vec::with_capacity(N);
        for n_out in n_out {
            let part = TensorInfo {
                shape: vec![n_in as u64, n_out as u64],
                offset,
                bytes: n_out as u64 * row_bytes,
                ..whole.clone()
            };
            offset += part.bytes;
            let matrix = self.ops.load_matrix(self.tensors.file(), &part)?;
            self.add_resident(self.ops.matrix_bytes(&matrix));
            self.loaded(&part)?;
            matrices.push(matrix);
        }
        let all = matrices.try_into().map_err(|_| ());
        Ok(all.expect("as many as were asked for. This is a bug."))
    }

    /// The matrices `name` `[n_expert, n_out, n_in]`.
    pub(super) fn experts(
        &self,
        name: &str,
        n_expert: usize,
        n_out: usize,
        n_in: usize,
    ) -> Result<O::Experts, Error> {
        let tensor = self.tensors.get(name, &[n_in, n_out, n_expert])?;
        self.scale(name, n_expert)?;
        let experts = self.ops.load_experts(self.tensors.file(), tensor)?;
        self.add_resident(self.ops.experts_bytes(&experts));
        self.loaded(tensor)?;
        Ok(experts)
    }

    /// Makes sure that the device multiplies a tensor by its `n` scales, if the file has some.
    fn scale(&self, tensor: &str, n: usize) -> Result<(), Error> {
        let Some(name) = scale_name(tensor).filter(|name| self.has(name)) else {
            return Ok(());
        };
        self.tensors.get(&name, &[n])?;
        self.need(Feature::TensorScale)
    }

    /// The rows `name` `[n_row, n]`.
    pub(super) fn vectors(&self, name: &str, n_row: usize, n: usize) -> Result<O::Vector, Error> {
        self.floats(self.tensors.get(name, &[n, n_row])?)
    }

    /// The row `name` `[n]`.
    pub(super) fn vector(&self, name: &str, n: usize) -> Result<O::Vector, Error> {
        self.floats(self.tensors.get(name, &[n])?)
    }

    /// The first row `[n]` of the rows `name`, of which there is at least one.
    pub(super) fn first_row(&self, name: &str, n: usize) -> Result<O::Vector, Error> {
        let n_row = self.tensors.find(name).map_or(1, TensorInfo::n_rows);
        let whole = self.tensors.get(name, &[n, n_row.max(1) as usize])?;
        self.floats(&TensorInfo {
            shape: vec![n as u64],
            bytes: whole.bytes / whole.n_rows(),
            ..whole.clone()
        })
    }

    fn floats(&self, tensor: &TensorInfo) -> Result<O::Vector, Error> {
        let vector = self.ops.load_vector(self.tensors.file(), tensor)?;
        self.add_resident(tensor.n_elements() as usize * size_of::<f32>());
        self.loaded(tensor)?;
        Ok(vector)
    }

    /// Makes sure that the device computes this.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if it does not.
    pub(super) fn need(&self, feature: Feature) -> Result<(), Error> {
        let Some(device) = self.ops.lacks(feature) else {
            return Ok(());
        };
        Err(Error::Unsupported {
            model: self.tensors.file().name().to_owned(),
            device,
            reason: format!(
                "architecture `{}` needs {feature}, which are not computed there",
                self.spec.architecture
            ),
        })
    }

    fn add_resident(&self, bytes: usize) {
        self.resident.set(self.resident.get() + bytes);
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
        let experts = self.ops.experts_kept().unwrap_or_default();
        Ok(Bytes(self.resident.get() as u64) + experts)
    }
}
