//! Bits where they matter: a format for each tensor, so that a file takes what it may and loses least.
//!
//! The loss of a tensor is its relative error: that of its products, `Σ importance · (w - rounded)² / Σ importance · w²`
//! over its weights, with the importance of their columns where it was measured. To first order the losses of tensors add up
//! to what the model loses, each times what its role weighs (docs/adr/0019-bits.md); so what remains is a knapsack.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};

use troika_base::DType;
use troika_gguf::{ModelFile, TensorInfo, checked_tensor_bytes};
use troika_kernels::quant::dequantize_row;
use troika_kernels::{Kernels, Pool};

use crate::Error;
use crate::importance::Importance;
use crate::knapsack::{Choice, solve};
use crate::plan::{Plan, shape};
use crate::role::{Role, is_quantized};
use crate::rules::Shape;
use crate::run::{Cancelled, Progress};

/// Formats that tensors are offered, from few bits to many. Beside those in blocks of 256 the older ones are no better at
/// their size.
const OFFERED: [DType; 7] = [
    DType::Q2_K,
    DType::Q3_K,
    DType::IQ4_XS,
    DType::Q4_K,
    DType::Q5_K,
    DType::Q6_K,
    DType::Q8_0,
];

/// Those of tensors whose rows are no multiple of 256.
const OFFERED_NARROW: [DType; 6] = [
    DType::Q4_0,
    DType::IQ4_NL,
    DType::Q4_1,
    DType::Q5_0,
    DType::Q5_1,
    DType::Q8_0,
];

/// Weights of a tensor that its errors are measured on, as whole rows: enough for two digits.
const SAMPLE_WEIGHTS: usize = 32 << 10;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget {
    /// Bits that a weight of the file may take on average, over all tensors.
    pub bits_per_weight: f64,
    /// Round what was rounded already.
    pub allow_requantize: bool,
}

/// A tensor's format, and what it loses.
#[derive(Clone, Debug, PartialEq)]
pub struct Allotted {
    /// The name.
    pub name: String,
    /// The format.
    pub dtype: DType,
    /// The relative error of its products: the root of the relative squared one.
    pub error: f64,
}

/// A plan for a budget, and what it loses tensor by tensor.
#[derive(Clone, Debug)]
pub struct Allotment {
    /// What will be written.
    pub plan: Plan,
    /// The tensors that were given formats, in the order of the file.
    pub tensors: Vec<Allotted>,
}

impl Allotment {
    /// The root of the mean of the tensors' squared errors.
    pub fn error(&self) -> f64 {
        let squares: f64 = self.tensors.iter().map(|tensor| tensor.error.powi(2)).sum();
        (squares / self.tensors.len().max(1) as f64).sqrt()
    }
}

/// What each tensor of a file loses in each format that it could have, measured on a sample of its rows.
pub struct Losses<'f> {
    file: &'f ModelFile,
    importance: Option<&'f Importance>,
    tensors: Vec<Losing<'f>>,
}

struct Losing<'f> {
    tensor: &'f TensorInfo,
    offered: Vec<DType>,
    /// The relative squared error in each of them.
    errors: Vec<f64>,
    /// What its role weighs.
    weight: f64,
}

/// The KL divergence of the predictions with one tensor alone in the format it was allotted, in nats a token, by its name.
pub type Harms = BTreeMap<String, f64>;

impl<'f> Losses<'f> {
    /// Rounds a sample of each tensor to each format; `progress` is told how far that is, and may break it off.
    ///
    /// # Errors
    /// If the file cannot be read or a tensor holds no numbers; [`Error::Cancelled`] if it was broken off.
    pub fn measure(
        file: &'f ModelFile,
        importance: Option<&'f Importance>,
        (kernels, pool): (&Kernels, &Pool),
        progress: &mut dyn FnMut(Progress<'_>) -> ControlFlow<Cancelled>,
    ) -> Result<Self, Error> {
        let moved = || file.tensors().iter().filter(|tensor| is_quantized(tensor));
        let total: u64 = moved().map(TensorInfo::n_elements).sum();
        let shape = shape(file, importance.is_some())?;
        let mut tensors = Vec::new();
        let mut done = 0;
        for tensor in moved() {
            let offered = offered(tensor);
            let errors = measure(file, tensor, &offered, importance, (kernels, pool))?;
            tensors.push(Losing {
                tensor,
                offered,
                errors,
                weight: sensitivity(Role::of(&tensor.name), &shape),
            });
            done += tensor.n_elements();
            let told = progress(Progress {
                done,
                total,
                tensor: &tensor.name,
            });
            if told.is_break() {
                return Err(Error::Cancelled);
            }
        }
        Ok(Self {
            file,
            importance,
            tensors,
        })
    }

    /// Chooses formats for a budget, with what a tensor's role weighs as its weight.
    ///
    /// # Errors
    /// [`Error::TooFewBits`] if no choice is so small, or as [`Plan::new`].
    pub fn allot(&self, budget: Budget) -> Result<Allotment, Error> {
        let weights: Vec<f64> = self.tensors.iter().map(|losing| losing.weight).collect();
        self.solve(budget, &weights)
    }

    /// Chooses anew, with each tensor's harm in an earlier choice as its weight: so many nats for so much error. Tensors
    /// whose harm is unknown keep what their role weighs, brought to the same scale.
    ///
    /// # Errors
    /// As [`Self::allot`].
    pub fn allot_again(
        &self,
        budget: Budget,
        before: &Allotment,
        harms: &Harms,
    ) -> Result<Allotment, Error> {
        let measured = before.tensors.iter().map(|allotted| {
            let harm = harms.get(&allotted.name).copied()?;
            let error = allotted.error.powi(2);
            (error > 0.0 && harm > 0.0).then(|| harm / error)
        });
        let measured: Vec<Option<f64>> = measured.collect();
        let both = self.tensors.iter().zip(&measured);
        let ratios = both.filter_map(|(losing, measured)| Some((*measured)? / losing.weight));
        let scale = median(ratios.collect());
        let both = self.tensors.iter().zip(&measured);
        let weights = both.map(|(losing, measured)| measured.unwrap_or(losing.weight * scale));
        self.solve(budget, &weights.collect::<Vec<_>>())
    }

    fn solve(&self, budget: Budget, weights: &[f64]) -> Result<Allotment, Error> {
        let all = self.file.tensors().iter();
        let n_weights: u64 = all.map(TensorInfo::n_elements).sum();
        let kept = self.file.tensors().iter();
        let kept = kept.filter(|tensor| !is_quantized(tensor));
        let kept_bytes: u64 = kept.map(|tensor| tensor.bytes).sum();
        let may = (budget.bits_per_weight * n_weights as f64 / 8.0) as u64;

        let items = self.tensors.iter().zip(weights);
        let items = items.map(|(losing, &weight)| losing.choices(weight));
        let items: Vec<Vec<Choice>> = items.collect::<Result<_, _>>()?;
        let picks = may
            .checked_sub(kept_bytes)
            .and_then(|may| solve(&items, may));
        let picks = picks.ok_or_else(|| {
            let least = items
                .iter()
                .filter_map(|item| item.iter().map(|choice| choice.bytes).min());
            Error::TooFewBits {
                wanted: budget.bits_per_weight,
                least: (least.sum::<u64>() + kept_bytes) as f64 * 8.0 / n_weights.max(1) as f64,
            }
        })?;
        let tensors = self
            .tensors
            .iter()
            .zip(picks)
            .map(|(losing, pick)| Allotted {
                name: losing.tensor.name.clone(),
                dtype: losing.offered[pick],
                error: losing.errors[pick].sqrt(),
            });
        let tensors: Vec<_> = tensors.collect();
        let chosen = |tensor: &TensorInfo| {
            let found = tensors.iter().find(|allotted| allotted.name == tensor.name);
            found.map(|allotted| allotted.dtype)
        };
        let plan = Plan::fixed(self.file, &chosen, self.importance, budget.allow_requantize)?;
        Ok(Allotment { plan, tensors })
    }
}

impl Losing<'_> {
    fn choices(&self, weight: f64) -> Result<Vec<Choice>, Error> {
        let choice = |(&dtype, &error)| {
            let bytes = checked_tensor_bytes(dtype, &self.tensor.shape);
            Ok(Choice {
                bytes: bytes.map_err(|_| Error::PartialBlock {
                    tensor: self.tensor.name.clone(),
                    row_len: self.tensor.row_len(),
                    dtype,
                })?,
                error: error * weight,
            })
        };
        self.offered.iter().zip(&self.errors).map(choice).collect()
    }
}

/// The middle one, or the upper of two; one where there is nothing.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(1.0)
}

/// The formats that a tensor could have: those that are computed and divide its rows, and none larger than its own.
fn offered(tensor: &TensorInfo) -> Vec<DType> {
    let fits = |dtype: &DType| {
        tensor.row_len().is_multiple_of(dtype.block_len() as u64)
            && dtype.bits_per_weight() < tensor.dtype.bits_per_weight()
    };
    let known: &[DType] = match tensor.row_len().is_multiple_of(256) {
        true => &OFFERED,
        false => &OFFERED_NARROW,
    };
    let smaller = known.iter().copied().filter(fits);
    // Half the bits of F32 lose next to nothing.
    let half = Some(DType::F16).filter(|_| tensor.dtype == DType::F32);
    smaller.chain(half).chain([tensor.dtype]).collect()
}

/// How much a relative error harms the predictions, against that of a matrix of a feed-forward layer.
///
/// Measured on the embedded model, by the KL divergence when the matrices of one role alone are in three bits. What makes the
/// logits is not diluted by the residual stream, to which each layer adds its part; scores of attention stand a softmax.
fn sensitivity(role: Role, shape: &Shape) -> f64 {
    match role {
        Role::Output => 3.0 * shape.n_layer as f64,
        Role::Embedding if shape.is_tied => 3.0 * shape.n_layer as f64,
        Role::Query | Role::Key => 0.4,
        _ => 1.0,
    }
}

/// The relative squared error of a tensor's products in each format, from some of its rows.
fn measure(
    file: &ModelFile,
    tensor: &TensorInfo,
    dtypes: &[DType],
    importance: Option<&Importance>,
    (kernels, pool): (&Kernels, &Pool),
) -> Result<Vec<f64>, Error> {
    let columns = match importance {
        Some(importance) => importance.of(tensor)?,
        None => None,
    };
    let row_len = tensor.row_len() as usize;
    let n_rows = tensor.n_rows() as usize;
    let sampled = (SAMPLE_WEIGHTS / row_len.max(1)).clamp(1, n_rows);
    let rows_of_matrix = tensor.shape.get(1).map_or(1, |&n| n as usize);
    // One row of sums for each row of weights, so that they are added in the same order whoever computes them: what the
    // weights are, then what each format loses.
    let width = dtypes.len() + 1;
    let mut sums = vec![0.0; sampled * width];
    let failed = Mutex::new(None);
    pool.for_each_chunk(&mut sums, width, |first, sums| {
        let row = first / width * n_rows / sampled;
        let columns = columns.as_ref().map(|columns| {
            let matrix = row / rows_of_matrix;
            &columns[matrix * row_len..][..row_len]
        });
        if let Err(error) = measure_row(file, tensor, row, dtypes, columns, kernels, sums) {
            let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
            failed.get_or_insert(error);
        }
    });
    if let Some(error) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    let sum = |at: usize| sums.chunks_exact(width).map(|sums| sums[at]).sum::<f64>();
    let all = sum(0);
    // A tensor of zeros loses nothing.
    let relative = |at: usize| if all > 0.0 { sum(at) / all } else { 0.0 };
    Ok((1..width).map(relative).collect())
}

fn measure_row(
    file: &ModelFile,
    tensor: &TensorInfo,
    row: usize,
    dtypes: &[DType],
    columns: Option<&[f32]>,
    kernels: &Kernels,
    sums: &mut [f64],
) -> Result<(), Error> {
    let not_computed = |error: troika_kernels::quant::Unsupported| Error::NotComputed {
        tensor: tensor.name.clone(),
        dtype: error.dtype,
    };
    let row_len = tensor.row_len() as usize;
    let bytes_of = |dtype: DType| {
        let bytes = dtype.row_bytes(row_len);
        bytes.expect("only formats that divide rows are offered. This is a bug.")
    };
    let mut bytes = vec![0; bytes_of(tensor.dtype)];
    file.read(tensor, (row * bytes.len()) as u64, &mut bytes)?;
    let (mut x, mut back) = (vec![0.0; row_len], vec![0.0; row_len]);
    dequantize_row(tensor.dtype, &bytes, &mut x).map_err(not_computed)?;
    let weighted = |square: &dyn Fn(usize) -> f32| -> f64 {
        let counts = |i| columns.map_or(1.0, |columns| columns[i]);
        (0..row_len).map(|i| f64::from(counts(i) * square(i))).sum()
    };
    sums[0] = weighted(&|i| x[i] * x[i]);
    if !sums[0].is_finite() {
        return Err(Error::NotFinite {
            tensor: tensor.name.clone(),
        });
    }
    for (&dtype, sum) in dtypes.iter().zip(&mut sums[1..]) {
        if dtype == tensor.dtype {
            continue;
        }
        let mut rounded = vec![0; bytes_of(dtype)];
        let quantized = kernels.quantize_row(dtype, &x, columns, &mut rounded);
        quantized.map_err(not_computed)?;
        dequantize_row(dtype, &rounded, &mut back).map_err(not_computed)?;
        *sum = weighted(&|i| (x[i] - back[i]).powi(2));
    }
    Ok(())
}
