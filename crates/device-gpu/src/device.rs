//! A GPU that is offered for models: how it is opened, and what a model takes on it.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use troika_base::{Bytes, ModelSpec};
use troika_device::{Error, KvShape, ModelBytes};
use troika_gguf::{ModelFile, TensorInfo};

use crate::attention::{Cache, KvFormat};
use crate::matmul::selftest;
use crate::{Found, Gpu, GpuOps, Matrix, Memory, Options, tune};

/// Numbers of keys and values: those that other devices have, so that a sequence which moves loses nothing.
const KV_FORMAT: KvFormat = KvFormat::F16;

/// Time that finding the best kernels may take when a GPU is used first.
const TUNING: Duration = Duration::from_secs(4);

/// Sequences whose next tokens are scored in one step, as a rule.
const SCORED: usize = 64;

/// A GPU that models can be loaded on. It is opened when it is wanted first, and anew after it was lost.
#[derive(Debug)]
pub struct Offered {
    name: String,
    found: Found,
    open: Mutex<Option<Arc<Gpu>>>,
}

impl Offered {
    /// A GPU under its name in this program.
    pub fn new(name: String, found: Found) -> Self {
        Self {
            name,
            found,
            open: Mutex::default(),
        }
    }

    /// `gpu0`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// As it was found.
    pub fn found(&self) -> &Found {
        &self.found
    }

    /// One line for people.
    pub fn description(&self) -> String {
        let Found {
            name,
            driver,
            interface,
            ..
        } = &self.found;
        let software = match self.found.caps.software {
            true => ", a program on the CPU",
            false => "",
        };
        format!("{name}, {interface}, {driver}{software}")
    }

    /// The memory that its driver tells of.
    pub fn memory(&self) -> Option<Memory> {
        self.found.memory()
    }

    /// What a model's parts take on it, with a cache of `n_page` pages.
    ///
    /// # Errors
    /// [`Error::UnsupportedFormat`] if a matrix has numbers that it does not compute with.
    pub fn model_bytes(
        &self,
        file: &ModelFile,
        spec: &ModelSpec,
        n_page: usize,
    ) -> Result<ModelBytes, Error> {
        for tensor in file
            .tensors()
            .iter()
            .filter(|tensor| tensor.shape.len() > 1)
        {
            Matrix::computes(file, tensor)?;
        }
        let layer = KvShape {
            n_layer: 1,
            ..KvShape::of(spec)
        };
        let cache = Cache::page_bytes(layer, KV_FORMAT) * n_page;
        let bytes = |tensor: &TensorInfo| match Matrix::bytes_of(tensor) {
            Some(bytes) if tensor.shape.len() > 1 => bytes.0,
            _ => tensor.shape.iter().product::<u64>() * size_of::<f32>() as u64,
        };
        Ok(ModelBytes::of(file, spec.n_layer, cache as u64, bytes))
    }

    /// What a step of `n_tok` tokens takes beside the model: activations of the widest layer, and some scores.
    pub fn workspace(spec: &ModelSpec, n_tok: usize) -> Bytes {
        let (q, kv) = (spec.n_head * spec.head_dim, spec.n_head_kv * spec.head_dim);
        // The residual stream, its norm, queries, keys, values and what was attended to; then gate and up. Buffers are
        // used again, but those of one half may not fit those of the other.
        let widths = 3 * spec.n_embd + 2 * q + 2 * kv + 2 * spec.n_ff;
        let values = n_tok * widths + SCORED * spec.n_vocab;
        // Sizes go in quarters of powers of two, see `Scratch`.
        Bytes((values * size_of::<f32>() / 4 * 5) as u64)
    }

    /// It, open.
    ///
    /// # Errors
    /// [`Error::Failed`] if the driver refuses.
    pub fn gpu(&self) -> Result<Arc<Gpu>, Error> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        // One that failed stays failed, and its driver may have come back.
        if let Some(gpu) = open.as_ref().filter(|gpu| gpu.check().is_ok()) {
            return Ok(Arc::clone(gpu));
        }
        let gpu = self.found.open(&self.name, Options::default())?;
        Ok(Arc::clone(open.insert(gpu)))
    }

    /// Operations for a file's model, by the kernels that suit this GPU best: they are tried out, which takes
    /// seconds, unless the folder `cache` has an earlier answer. Cooperative kernels pass their tests here or are not
    /// used.
    ///
    /// # Errors
    /// As [`Self::gpu`], and [`Error::OutOfMemory`].
    pub fn ops(&self, file: &ModelFile, cache: Option<&Path>) -> Result<GpuOps, Error> {
        let gpu = self.gpu()?;
        let shapes = tune::shapes_of(file);
        let tuning = tune::tuning(&gpu, &shapes, cache, TUNING, &mut |_| {})?;
        selftest::try_all(&gpu, &tuning, file);
        Ok(GpuOps::new(gpu, tuning, KV_FORMAT))
    }
}
