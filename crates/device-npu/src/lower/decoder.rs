//! The decoders that are lowered: Llama, Qwen 2 and Qwen 3, from a file's tensors to a graph.
//!
//! What they compute is what the engine's architectures compute; where those say more than a line, they say it.

use troika_base::ModelSpec;
use troika_device::hyperparameters::{Keys, Tensors, rope};
use troika_device::{RopePairs, cpu};
use troika_gguf::{ModelFile, TensorInfo};
use troika_kernels::quant;

use super::graph::{Graph, Nodes, Op, Part, Value};
use super::rotation::Rotation;
use super::weights::Matrix;
use crate::Error;

/// The families that are lowered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    /// Some descendants have biases on queries, keys and values.
    Llama,
    /// Biases on queries, keys and values.
    Qwen2,
    /// Queries and keys are normed head by head.
    Qwen3,
}

/// As GGUF names them.
const KNOWN: [(&str, Family); 4] = [
    ("llama", Family::Llama),
    ("mistral", Family::Llama),
    ("qwen2", Family::Qwen2),
    ("qwen3", Family::Qwen3),
];

/// A model's shape and rotary embedding.
pub(super) struct Outline {
    pub(super) spec: ModelSpec,
    pub(super) rotation: Rotation,
    family: Family,
}

impl Outline {
    /// What the file's metadata say.
    pub(super) fn read(file: &ModelFile) -> Result<Self, Error> {
        let keys = Keys::new(file).map_err(|error| refusal(file, error))?;
        let named = |(name, _): &&(&str, Family)| *name == keys.architecture();
        let Some(&(_, family)) = KNOWN.iter().find(named) else {
            let known = KNOWN.map(|(name, _)| name).join(", ");
            return Err(Error::Device(
                troika_device::Error::UnsupportedArchitecture {
                    model: file.name().to_owned(),
                    architecture: keys.architecture().to_owned(),
                    known,
                },
            ));
        };
        let spec = keys.spec().map_err(|error| refusal(file, error))?;
        let lacking = [
            (spec.experts.is_some(), "mixtures of experts"),
            (spec.window.is_some(), "sliding windows of attention"),
        ];
        if let Some((_, what)) = lacking.iter().find(|(asks, _)| *asks) {
            return Err(Error::Unsupported {
                model: file.name().to_owned(),
                reason: format!(
                    "{what} are not lowered yet; its architecture is `{}`",
                    keys.architecture()
                ),
            });
        }
        let factors = match (family, file.tensor("rope_freqs.weight")) {
            (Family::Llama, Some(tensor)) => Some(cpu::read_floats(file, tensor)?),
            _ => None,
        };
        let pairs = match family {
            Family::Llama => RopePairs::Adjacent,
            Family::Qwen2 | Family::Qwen3 => RopePairs::Halves,
        };
        let rope =
            rope(&keys, &spec, pairs, factors.as_deref()).map_err(|error| refusal(file, error))?;
        Ok(Self {
            rotation: Rotation::new(&rope, spec.head_dim),
            spec,
            family,
        })
    }
}

/// The graph of a file's model.
pub(super) fn graph(file: &ModelFile) -> Result<Graph<'_>, Error> {
    let Outline {
        spec,
        rotation,
        family,
    } = Outline::read(file)?;
    let architecture = file.metadata().str("general.architecture");
    let mut builder = Builder {
        tensors: Tensors::new(file, architecture.map_err(troika_device::Error::from)?),
        spec: &spec,
        rotation: &rotation,
        family,
        nodes: Nodes::default(),
    };
    if family == Family::Llama {
        // Read with the outline.
        builder.tensors.find("rope_freqs.weight");
    }
    let table = builder.matrix("token_embd", spec.n_vocab, spec.n_embd)?;
    let mut x = builder.nodes.push("embed", Op::Embed, []);
    for layer in 0..spec.n_layer {
        x = builder.attention(layer, x)?;
        x = builder.feed_forward(layer, x)?;
    }
    let hidden = builder.norm("output_norm", x, spec.n_embd)?;
    let head = match builder.tensors.has("output.weight") {
        true => Some(builder.matrix("output", spec.n_vocab, spec.n_embd)?),
        false => None,
    };
    builder
        .tensors
        .finish()
        .map_err(|error| refusal(file, error))?;
    let nodes = builder.nodes.finish();
    Ok(Graph {
        spec,
        rotation,
        nodes,
        table,
        hidden,
        head,
    })
}

struct Builder<'m, 's> {
    tensors: Tensors<'m>,
    spec: &'s ModelSpec,
    rotation: &'s Rotation,
    family: Family,
    nodes: Nodes<'m>,
}

impl<'m> Builder<'m, '_> {
    /// The first half of a layer: the residual stream with what was attended to.
    fn attention(&mut self, layer: usize, x: Value) -> Result<Value, Error> {
        let spec = self.spec;
        let n_q = spec.n_head * spec.head_dim;
        let name = |part: &str| format!("blk.{layer}.{part}");
        let h = self.norm(&name("attn_norm"), x, spec.n_embd)?;
        let q = self.project(&name("attn_q"), h, spec.n_head, true)?;
        let k = self.project(&name("attn_k"), h, spec.n_head_kv, true)?;
        let v = self.project(&name("attn_v"), h, spec.n_head_kv, false)?;
        let mut remember =
            |part: Part, of: &str, x| self.nodes.push(name(of), Op::Remember { layer, part }, [x]);
        let k = remember(Part::Key, "keys", k);
        let v = remember(Part::Value, "values", v);
        let a = self.nodes.push(name("attend"), Op::Attend, [q, k, v]);
        let o = self.linear(&name("attn_output"), a, spec.n_embd, n_q)?;
        Ok(self.nodes.push(name("attended"), Op::Add, [x, o]))
    }

    /// Heads of queries, keys or values; the former two are turned.
    fn project(
        &mut self,
        name: &str,
        h: Value,
        n_head: usize,
        turned: bool,
    ) -> Result<Value, Error> {
        let (head_dim, n_embd) = (self.spec.head_dim, self.spec.n_embd);
        let order = self.rotation.order().filter(|_| turned);
        let weight = self
            .matrix(name, n_head * head_dim, n_embd)?
            .reordered(order);
        let bias = format!("{name}.bias");
        let biased = match self.family {
            Family::Llama => self.tensors.has(&bias),
            Family::Qwen2 => true,
            Family::Qwen3 => false,
        };
        let bias = match biased {
            true => Some(in_order(self.vector(&bias, n_head * head_dim)?, order)),
            false => None,
        };
        let x = self.nodes.push(name, Op::Linear { weight, bias }, [h]);
        let heads = Op::Heads { count: n_head };
        let mut x = self.nodes.push(format!("{name}.heads"), heads, [x]);
        if !turned {
            return Ok(x);
        }
        if self.family == Family::Qwen3 {
            let weight = self.vector(&format!("{name}_norm.weight"), head_dim)?;
            let op = Op::RmsNorm {
                weight: in_order(weight, order),
                eps: self.spec.norm_eps,
            };
            x = self.nodes.push(format!("{name}_norm"), op, [x]);
        }
        Ok(self.nodes.push(format!("{name}.turned"), Op::Rotate, [x]))
    }

    /// The second half of a layer.
    fn feed_forward(&mut self, layer: usize, x: Value) -> Result<Value, Error> {
        let (n_embd, n_ff) = (self.spec.n_embd, self.spec.n_ff);
        let name = |part: &str| format!("blk.{layer}.{part}");
        let h = self.norm(&name("ffn_norm"), x, n_embd)?;
        let gate = self.linear(&name("ffn_gate"), h, n_ff, n_embd)?;
        let up = self.linear(&name("ffn_up"), h, n_ff, n_embd)?;
        let h = self.nodes.push(name("swiglu"), Op::SwiGlu, [gate, up]);
        let down = self.linear(&name("ffn_down"), h, n_embd, n_ff)?;
        Ok(self.nodes.push(name("out"), Op::Add, [x, down]))
    }

    fn norm(&mut self, name: &str, x: Value, n: usize) -> Result<Value, Error> {
        let weight = self.vector(&format!("{name}.weight"), n)?;
        let eps = self.spec.norm_eps;
        Ok(self.nodes.push(name, Op::RmsNorm { weight, eps }, [x]))
    }

    fn linear(&mut self, name: &str, x: Value, n_out: usize, n_in: usize) -> Result<Value, Error> {
        let weight = self.matrix(name, n_out, n_in)?;
        let op = Op::Linear { weight, bias: None };
        Ok(self.nodes.push(name, op, [x]))
    }

    fn matrix(&self, name: &str, n_out: usize, n_in: usize) -> Result<Matrix<'m>, Error> {
        let tensor = self.tensor(&format!("{name}.weight"), &[n_in, n_out])?;
        let file = self.tensors.file();
        match quant::is_computed(tensor.dtype) {
            true => Ok(Matrix::new(file, tensor)),
            false => Err(Error::Unsupported {
                model: file.name().to_owned(),
                reason: format!(
                    "tensor `{}` is in format {}, which is not computed here",
                    tensor.name, tensor.dtype
                ),
            }),
        }
    }

    fn vector(&self, name: &str, n: usize) -> Result<Vec<f32>, Error> {
        let tensor = self.tensor(name, &[n])?;
        Ok(cpu::read_floats(self.tensors.file(), tensor)?)
    }

    fn tensor(&self, name: &str, shape: &[usize]) -> Result<&'m TensorInfo, Error> {
        let tensor = self.tensors.get(name, shape);
        tensor.map_err(|error| refusal(self.tensors.file(), error))
    }
}

/// Puts the values of every head in order.
fn in_order(values: Vec<f32>, order: Option<&[usize]>) -> Vec<f32> {
    let Some(order) = order else {
        return values;
    };
    let heads = values.chunks_exact(order.len());
    heads
        .flat_map(|head| order.iter().map(|&i| head[i]))
        .collect()
}

/// A sound model whose numbers are not to be had is unsupported; all else is what any device says of such a file.
fn refusal(file: &ModelFile, error: troika_device::Error) -> Error {
    match error {
        troika_device::Error::Hyperparameter {
            key,
            value,
            expected,
            ..
        } => Error::Unsupported {
            model: file.name().to_owned(),
            reason: format!("`{key}` is {value}: {expected}"),
        },
        other => Error::Device(other),
    }
}
