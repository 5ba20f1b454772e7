//! LoRA adapters: small changes that were trained for a model, computed beside its matrices.
//!
//! A matrix `W` `[n_out, n_in]` with adapters is `W + Σ scale · alpha / rank · B · A`. The sum is never made: quantized
//! weights stay as they are, and `x · Aᵀ · Bᵀ` is added to what they give. Several adapters of a matrix are one of the
//! sum of their ranks, with the factors in `B`, so that each costs two thin products and nothing else.
//!
//! [`with_adapters`] checks and joins, `ops.rs` computes. Not here: changes of norms, biases, the embedding table and of
//! experts' matrices, which are refused by name.

mod ops;

use std::collections::BTreeMap;
use std::io::Write;

use troika_base::DType;
use troika_gguf::{DataResult, Metadata, ModelFile, TensorInfo, Writer};
use troika_kernels::quant;

pub(crate) use ops::Adapted;

/// What the name of the first matrix of a pair ends with, `[rank, n_in]`.
const A: &str = ".lora_a";
/// And that of the second one, `[n_out, rank]`.
const B: &str = ".lora_b";

/// Ranks are filled up to whole fours with zeros, as all devices want rows to be.
const RANK_MULTIPLE: usize = 4;

/// An adapter, and how much of it is wanted.
#[derive(Debug)]
pub struct Adapter {
    /// A GGUF file of type `adapter`.
    pub file: ModelFile,
    /// Multiplies it: 1 as it was trained, 0 nothing of it.
    pub scale: f32,
}

/// Why an adapter is not applied.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdapterError {
    /// The file is something else.
    #[error("{adapter} is no LoRA adapter: {reason}")]
    NoAdapter {
        /// The file.
        adapter: String,
        /// What it is, or lacks.
        reason: String,
    },
    /// It was trained for another model.
    #[error("{adapter} is for architecture `{want}`, and {model} is of `{have}`")]
    OtherArchitecture {
        /// The adapter's file.
        adapter: String,
        /// Its architecture.
        want: String,
        /// The model's file.
        model: String,
        /// The model's architecture.
        have: String,
    },
    /// A tensor of it that does not go with the model, or is not computed.
    #[error("{adapter}: tensor `{tensor}` is not applied to {model}: {reason}")]
    Tensor {
        /// The adapter's file.
        adapter: String,
        /// The tensor.
        tensor: String,
        /// The model's file.
        model: String,
        /// Why.
        reason: String,
    },
    /// A file is damaged.
    #[error(transparent)]
    File(#[from] troika_gguf::Error),
}

/// One adapter's change of one matrix.
struct Pair<'a> {
    file: &'a ModelFile,
    a: &'a TensorInfo,
    b: &'a TensorInfo,
    /// Multiplies `b · a`.
    factor: f32,
}

/// A model's file with adapters, beside those that it has, which every device that computes operation by operation applies.
///
/// # Errors
/// If one of them is for another model, or changes what is not changed here.
pub fn with_adapters(model: ModelFile, adapters: &[Adapter]) -> Result<ModelFile, AdapterError> {
    if adapters.is_empty() {
        return Ok(model);
    }
    let joined = join(&model, adapters)?;
    Ok(model.with_adapter(joined))
}

/// One adapter of a model's own and these.
fn join(model: &ModelFile, adapters: &[Adapter]) -> Result<ModelFile, AdapterError> {
    let mut of_matrix: BTreeMap<&str, Vec<Pair<'_>>> = BTreeMap::new();
    if let Some(own) = model.adapter() {
        joined_pairs(own, &mut of_matrix);
    }
    for adapter in adapters {
        adapter.pairs(model, &mut of_matrix)?;
    }
    let mut joined = Metadata::default();
    joined.insert("general.architecture", architecture(model)?);
    let mut writer = Writer::new(joined);
    for (name, pairs) in &of_matrix {
        let rank: usize = pairs.iter().map(Pair::rank).sum();
        let filled = rank.next_multiple_of(RANK_MULTIPLE);
        let (n_in, n_out) = (pairs[0].a.shape[0], pairs[0].b.shape[1]);
        let shape = [n_in, filled as u64];
        writer.tensor(format!("{name}{A}"), DType::F32, &shape, move |out| {
            join_a(pairs, filled - rank, n_in as usize, out)
        });
        let shape = [filled as u64, n_out];
        writer.tensor(format!("{name}{B}"), DType::F32, &shape, move |out| {
            join_b(pairs, filled - rank, n_out as usize, out)
        });
    }
    let mut bytes = Vec::new();
    writer.write_to(&mut bytes)?;
    let own = model.adapter().map(ModelFile::name);
    let names = own.into_iter();
    let names: Vec<&str> = names
        .chain(adapters.iter().map(|adapter| adapter.file.name()))
        .collect();
    Ok(ModelFile::from_bytes(&names.join(" + "), bytes)?)
}

/// The pairs of a file that [`join`] has made.
fn joined_pairs<'a>(file: &'a ModelFile, of_matrix: &mut BTreeMap<&'a str, Vec<Pair<'a>>>) {
    for a in file.tensors() {
        let name = a.name.strip_suffix(A);
        let pair = name.and_then(|name| Some((name, file.tensor(&format!("{name}{B}"))?)));
        if let Some((name, b)) = pair {
            of_matrix.entry(name).or_default().push(Pair {
                file,
                a,
                b,
                factor: 1.0,
            });
        }
    }
}

impl Adapter {
    /// Adds its pairs to those of the model's matrices.
    fn pairs<'a>(
        &'a self,
        model: &ModelFile,
        of_matrix: &mut BTreeMap<&'a str, Vec<Pair<'a>>>,
    ) -> Result<(), AdapterError> {
        let alpha = self.alpha(model)?;
        let file = &self.file;
        for tensor in file.tensors() {
            let refuse = |reason: String| AdapterError::Tensor {
                adapter: file.name().to_owned(),
                tensor: tensor.name.clone(),
                model: model.name().to_owned(),
                reason,
            };
            let (name, other) = match (tensor.name.strip_suffix(A), tensor.name.strip_suffix(B)) {
                (Some(name), _) => (name, B),
                (_, Some(name)) => (name, A),
                _ => return Err(refuse(format!("it is no `{A}` and no `{B}`"))),
            };
            let partner = file.tensor(&format!("{name}{other}"));
            let partner = partner.ok_or_else(|| refuse(format!("`{name}{other}` is missing")))?;
            if !quant::is_computed(tensor.dtype) {
                return Err(refuse(format!("format {} is not read", tensor.dtype)));
            }
            if other == A {
                continue;
            }
            let (a, b) = (tensor, partner);
            check(model, name, a, b).map_err(refuse)?;
            of_matrix.entry(name).or_default().push(Pair {
                file,
                a,
                b,
                factor: match alpha {
                    Some(alpha) => self.scale * alpha / a.shape[1] as f32,
                    None => self.scale,
                },
            });
        }
        Ok(())
    }

    /// The adapter's own factor times the rank, if it has one; zero counts as none, as llama.cpp has it.
    fn alpha(&self, model: &ModelFile) -> Result<Option<f32>, AdapterError> {
        let (file, metadata) = (&self.file, self.file.metadata());
        let no_adapter = |reason: String| AdapterError::NoAdapter {
            adapter: file.name().to_owned(),
            reason,
        };
        for (key, want) in [("general.type", "adapter"), ("adapter.type", "lora")] {
            let have = metadata.opt_str(key)?.unwrap_or("nothing");
            if have != want {
                return Err(no_adapter(format!("`{key}` is {have:?}, not {want:?}")));
            }
        }
        if metadata.get("adapter.alora.invocation_tokens").is_some() {
            let reason = "it begins to act at certain tokens, which is not computed";
            return Err(no_adapter(reason.to_owned()));
        }
        let (want, have) = (architecture(file)?, architecture(model)?);
        if want != have {
            return Err(AdapterError::OtherArchitecture {
                adapter: file.name().to_owned(),
                want: want.to_owned(),
                model: model.name().to_owned(),
                have: have.to_owned(),
            });
        }
        if file.tensors().is_empty() {
            return Err(no_adapter("it has no tensors".to_owned()));
        }
        let alpha = metadata.opt_f32("adapter.lora.alpha")?;
        Ok(alpha.filter(|&alpha| alpha != 0.0))
    }
}

fn architecture(file: &ModelFile) -> Result<&str, troika_gguf::Error> {
    file.metadata().str("general.architecture")
}

/// Makes sure that a pair changes a matrix of the model, or says why it does not.
fn check(model: &ModelFile, name: &str, a: &TensorInfo, b: &TensorInfo) -> Result<(), String> {
    let matrix = model.tensor(name);
    let matrix = matrix.ok_or_else(|| format!("the model has no tensor `{name}`"))?;
    if name.contains("_exps.") {
        return Err("adapters of experts are not computed".to_owned());
    }
    if !(name.starts_with("blk.") || name == "output.weight") || matrix.shape.len() != 2 {
        return Err(format!("`{name}` is no matrix that adapters change here"));
    }
    match (&a.shape[..], &b.shape[..]) {
        (&[n_in, rank], &[same_rank, n_out])
            if rank == same_rank && [n_in, n_out] == matrix.shape[..] =>
        {
            Ok(())
        }
        (a, b) => Err(format!(
            "its pair has shapes {a:?} and {b:?}, and the model's matrix {:?}",
            matrix.shape
        )),
    }
}

impl Pair<'_> {
    fn rank(&self) -> usize {
        self.a.shape[1] as usize
    }

    fn values(&self, tensor: &TensorInfo) -> Result<Vec<f32>, troika_gguf::Error> {
        let bytes = self.file.read_all(tensor)?;
        let mut values = vec![0.0; tensor.n_elements() as usize];
        quant::dequantize_row(tensor.dtype, &bytes, &mut values)
            .expect("its format was checked. This is a bug.");
        Ok(values)
    }
}

/// The rows `[rank, n_in]` of all, and so many of zeros.
fn join_a(pairs: &[Pair<'_>], zeros: usize, n_in: usize, out: &mut dyn Write) -> DataResult {
    for pair in pairs {
        write(out, pair.values(pair.a)?.into_iter())?;
    }
    write(out, std::iter::repeat_n(0.0, zeros * n_in))
}

/// The columns `[n_out, rank]` of all with their factors, and so many of zeros.
fn join_b(pairs: &[Pair<'_>], zeros: usize, n_out: usize, out: &mut dyn Write) -> DataResult {
    let of_pairs = pairs.iter().map(|pair| pair.values(pair.b));
    let of_pairs = of_pairs.collect::<Result<Vec<_>, _>>()?;
    for row in 0..n_out {
        for (pair, values) in pairs.iter().zip(&of_pairs) {
            let columns = &values[row * pair.rank()..][..pair.rank()];
            write(out, columns.iter().map(|value| value * pair.factor))?;
        }
        write(out, std::iter::repeat_n(0.0, zeros))?;
    }
    Ok(())
}

fn write(out: &mut dyn Write, values: impl Iterator<Item = f32>) -> DataResult {
    let bytes: Vec<u8> = values.flat_map(f32::to_le_bytes).collect();
    Ok(out.write_all(&bytes)?)
}
