//! How this GPU multiplies fastest: tried out once, and kept.
//!
//! What suits a GPU follows from no data sheet: how many rows a workgroup should take, whether bytes are worth their
//! packing, from how many tokens on tiles win. So the products of a model are timed in a few ways each, on weights that
//! are nobody's, for a few seconds at most. [`search`] says which way wins, given times; [`Products`] takes them;
//! [`Store`] keeps the answer until the GPU, its driver or a kernel changes.
//!
//! Nothing here touches results but by rounding: every way computes the same product.

mod products;
mod search;
mod store;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use troika_device::Error;
use troika_gguf::{ModelFile, TensorInfo};

use crate::Gpu;
use crate::matmul::Tuning;
use crate::weights::Format;

pub use products::{Products, noise_matrix};
pub use search::{Progress, Stopwatch, Tuned, search};
pub use store::Store;

/// Products of one shape that a model's step makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Of the weights.
    pub format: Format,
    /// Rows of weights.
    pub n_out: usize,
    /// Weights of a row.
    pub n_in: usize,
    /// Matrices of this shape in the model.
    pub count: usize,
}

impl Shape {
    fn weights(&self) -> usize {
        self.n_out * self.n_in * self.count
    }
}

/// Shapes that are timed: a model's other matrices take next to no time.
const MOST_SHAPES: usize = 6;

/// The shapes on which a model spends its time, the heaviest first.
pub fn shapes_of(file: &ModelFile) -> Vec<Shape> {
    let mut shapes: Vec<Shape> = Vec::new();
    for shape in file.tensors().iter().filter_map(shape_of) {
        let alike = |other: &&mut Shape| {
            Shape {
                count: 1,
                ..**other
            } == shape
        };
        match shapes.iter_mut().find(alike) {
            Some(known) => known.count += 1,
            None => shapes.push(shape),
        }
    }
    // The order of the file where two weigh the same: the sort is stable.
    shapes.sort_by_key(|shape| std::cmp::Reverse(shape.weights()));
    shapes.truncate(MOST_SHAPES);
    shapes
}

/// `None` for what is not multiplied by as a whole: norms, biases, the table of embeddings, experts.
fn shape_of(tensor: &TensorInfo) -> Option<Shape> {
    let [n_in, n_out] = tensor.shape[..] else {
        return None;
    };
    let shape = Shape {
        format: Format::of(tensor.dtype)?,
        n_out: usize::try_from(n_out).ok()?,
        n_in: usize::try_from(n_in).ok()?,
        count: 1,
    };
    let whole = shape.n_in.is_multiple_of(4) && shape.n_out.is_multiple_of(4);
    (whole && tensor.name != "token_embd.weight").then_some(shape)
}

/// The tuning of this GPU for a model: what is kept of it, or what is found within `limit` and kept then. `progress` is
/// told before each thing that is tried.
///
/// A program that plays a GPU is not measured, and neither is a GPU whose tuning is for nothing, without shapes.
///
/// # Errors
/// [`Error::Failed`] if the GPU is lost, [`Error::OutOfMemory`] if it has no room for a single matrix.
pub fn tuning(
    gpu: &Arc<Gpu>,
    shapes: &[Shape],
    cache: Option<&Path>,
    limit: Duration,
    progress: &mut dyn FnMut(Progress),
) -> Result<Tuning, Error> {
    let start = Tuning::of(gpu);
    if gpu.caps().software || shapes.is_empty() {
        return Ok(start);
    }
    let store = cache.map(|folder| Store::new(folder, gpu.found()));
    let known = store.as_ref().and_then(Store::load);
    if let Some(known) = known.filter(|known| known.covers(shapes)) {
        return Ok(known.tuning);
    }
    let mut products = Products::new(gpu, shapes, limit)?;
    let tuned = search(&mut products, gpu.caps(), shapes, start, progress)?;
    tracing::info!(
        device = gpu.name(),
        gpu = gpu.found().name,
        seconds = products.spent().as_secs_f64(),
        tried = tuned.tried,
        complete = tuned.complete,
        tuning = ?tuned.tuning,
        "products were tuned"
    );
    if let Some(store) = store {
        store.save(&tuned);
    }
    Ok(tuned.tuning)
}
