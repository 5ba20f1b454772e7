//! Which tensor of a file gets which format.

use regex::Regex;
use troika_base::DType;
use troika_gguf::{Metadata, ModelFile, TensorInfo, checked_tensor_bytes};
use troika_kernels::quant::is_computed;

use crate::importance::Importance;
use crate::mix::Mix;
use crate::role::{Role, is_quantized, layer};
use crate::rules::{self, Matrix, Shape, fallback, needs_importance};
use crate::{Error, metadata};

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// The recipe.
    pub mix: Mix,
    /// Formats of tensors whose names these patterns find, before the recipe. The first that finds it counts.
    pub tensors: Vec<(Regex, DType)>,
    /// The format of what makes the logits, before the recipe.
    pub output: Option<DType>,
    /// Round what was rounded already.
    pub allow_requantize: bool,
}

/// A format for each of some tensors by name, chosen by something other than a recipe.
pub type Fixed<'a> = &'a dyn Fn(&TensorInfo) -> Option<DType>;

/// A tensor and its formats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// The name.
    pub name: String,
    /// GGUF's order, row length first.
    pub shape: Vec<u64>,
    /// The format in the source.
    pub from: DType,
    /// The format in what is written.
    pub to: DType,
    /// What the recipe says, where rows are not whole blocks of that.
    pub instead_of: Option<DType>,
    /// Bytes that will be written.
    pub bytes: u64,
}

impl Planned {
    /// The number of weights.
    pub fn n_elements(&self) -> u64 {
        self.shape.iter().product()
    }

    /// A tensor in a format.
    ///
    /// # Errors
    /// If its rows are not whole blocks.
    fn new(tensor: &TensorInfo, to: DType, instead_of: Option<DType>) -> Result<Self, Error> {
        let bytes = checked_tensor_bytes(to, &tensor.shape);
        Ok(Self {
            name: tensor.name.clone(),
            shape: tensor.shape.clone(),
            from: tensor.dtype,
            to,
            instead_of,
            bytes: bytes.map_err(|_| Error::PartialBlock {
                tensor: tensor.name.clone(),
                row_len: tensor.row_len(),
                dtype: to,
            })?,
        })
    }
}

/// What will be written.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The metadata.
    pub metadata: Metadata,
    /// The tensors, in the order of the source.
    pub tensors: Vec<Planned>,
}

impl Plan {
    /// The plan of a recipe for a file.
    ///
    /// # Errors
    /// If a format is not computed, needs an importance that is not there, or would round what was rounded already.
    pub fn new(
        file: &ModelFile,
        request: &Request,
        importance: Option<&Importance>,
    ) -> Result<Self, Error> {
        let shape = shape(file, importance.is_some())?;
        let indices = indices(file);
        let mut tensors = Vec::with_capacity(file.tensors().len());
        for (tensor, index) in file.tensors().iter().zip(indices) {
            let planned = match is_quantized(tensor) {
                true => planned(tensor, index, request, &shape)?,
                false => Planned::new(tensor, tensor.dtype, None)?,
            };
            if importance.is_none()
                && planned.from != planned.to
                && needs_importance(request.mix, Role::of(&tensor.name), planned.to)
            {
                return Err(Error::NeedsImportance {
                    tensor: planned.name,
                    dtype: planned.to,
                });
            }
            tensors.push(planned);
        }
        check(&tensors, request.allow_requantize)?;
        Ok(Self {
            metadata: metadata::quantized(file.metadata(), Some(request.mix), &tensors, importance),
            tensors,
        })
    }

    /// The plan that gives tensors the formats that were chosen for them, and leaves the others as they are.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn fixed(
        file: &ModelFile,
        dtypes: Fixed<'_>,
        importance: Option<&Importance>,
        allow_requantize: bool,
    ) -> Result<Self, Error> {
        let planned = |tensor: &TensorInfo| {
            Planned::new(tensor, dtypes(tensor).unwrap_or(tensor.dtype), None)
        };
        let tensors = file.tensors().iter().map(planned);
        let tensors: Vec<_> = tensors.collect::<Result<_, _>>()?;
        check(&tensors, allow_requantize)?;
        Ok(Self {
            metadata: metadata::quantized(file.metadata(), None, &tensors, importance),
            tensors,
        })
    }

    /// Bytes of all tensors.
    pub fn bytes(&self) -> u64 {
        self.tensors.iter().map(|tensor| tensor.bytes).sum()
    }

    /// Weights of all tensors.
    pub fn weights(&self) -> u64 {
        self.tensors.iter().map(Planned::n_elements).sum()
    }

    /// Bits that a weight takes, over all tensors.
    pub fn bits_per_weight(&self) -> f64 {
        self.bytes() as f64 * 8.0 / self.weights().max(1) as f64
    }
}

/// The format of a tensor that is to be quantized.
fn planned(
    tensor: &TensorInfo,
    index: usize,
    request: &Request,
    shape: &Shape,
) -> Result<Planned, Error> {
    let role = Role::of(&tensor.name);
    let is_output = role == Role::Output || shape.is_tied && role == Role::Embedding;
    if let Some(dtype) = request.output.filter(|_| is_output) {
        return Planned::new(tensor, dtype, None);
    }
    let named = |(pattern, _): &&(Regex, DType)| pattern.is_match(&tensor.name);
    if let Some((_, dtype)) = request.tensors.iter().find(named) {
        return Planned::new(tensor, *dtype, None);
    }
    let matrix = Matrix {
        role,
        index,
        row_len: tensor.row_len(),
        is_experts: tensor.shape.get(2).is_some_and(|&n| n > 1),
    };
    let wanted = rules::dtype(request.mix, shape, &matrix);
    let dtype = fallback(wanted, tensor.row_len());
    Planned::new(tensor, dtype, (dtype != wanted).then_some(wanted))
}

fn check(tensors: &[Planned], allow_requantize: bool) -> Result<(), Error> {
    let is_exact = |dtype| matches!(dtype, DType::F32 | DType::F16 | DType::BF16);
    for tensor in tensors.iter().filter(|tensor| tensor.from != tensor.to) {
        let not_computed = |dtype| Error::NotComputed {
            tensor: tensor.name.clone(),
            dtype,
        };
        if !is_computed(tensor.from) {
            return Err(not_computed(tensor.from));
        }
        if !is_computed(tensor.to) {
            return Err(not_computed(tensor.to));
        }
        if !is_exact(tensor.from) && !allow_requantize {
            return Err(Error::Requantized {
                tensor: tensor.name.clone(),
                from: tensor.from,
            });
        }
    }
    Ok(())
}

/// For each tensor, how many of its role come before it by layer.
///
/// Layers and not places in the file: writers put tensors in any order. Experts have one tensor a layer as well; where
/// some layers have none, as the first of some models, the layer counts and not the place.
fn indices(file: &ModelFile) -> Vec<usize> {
    let is_moe = expert_count(file) > 1;
    let of = |tensor: &TensorInfo| {
        let (role, own) = (Role::of(&tensor.name), layer(&tensor.name));
        let by_layer = matches!(role, Role::Down | Role::Gate | Role::Up);
        if is_moe && by_layer {
            return own.unwrap_or(0);
        }
        let before = |other: &&TensorInfo| {
            Role::of(&other.name) == role && (layer(&other.name), &other.name) < (own, &tensor.name)
        };
        file.tensors().iter().filter(before).count()
    };
    file.tensors().iter().map(of).collect()
}

fn expert_count(file: &ModelFile) -> usize {
    count(file, "expert_count").unwrap_or(0)
}

/// A number of the architecture's; the first of them where layers differ.
fn count(file: &ModelFile, key: &str) -> Option<usize> {
    let metadata = file.metadata();
    let architecture = metadata.str("general.architecture").ok()?;
    let key = format!("{architecture}.{key}");
    let one = metadata.u32(&key).ok();
    one.or_else(|| metadata.u32s(&key).ok()?.first().copied())
        .map(|n| n as usize)
}

pub(crate) fn shape(file: &ModelFile, has_importance: bool) -> Result<Shape, Error> {
    file.metadata().str("general.architecture")?;
    let n_head = count(file, "attention.head_count").unwrap_or(1);
    let n_head_kv = count(file, "attention.head_count_kv").unwrap_or(n_head);
    let of_role = |role| move |tensor: &&TensorInfo| Role::of(&tensor.name) == role;
    Ok(Shape {
        n_layer: count(file, "block_count").unwrap_or(0),
        n_gqa: n_head / n_head_kv.max(1),
        n_expert: expert_count(file),
        n_value: file.tensors().iter().filter(of_role(Role::Value)).count(),
        is_tied: file.tensor("output.weight").is_none(),
        has_importance,
    })
}
