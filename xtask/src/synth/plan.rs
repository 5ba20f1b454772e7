//! The tensors of a model of a given shape: name, format, dimensions, and what fills them.

use troika_base::DType;

use super::mix::{Mix, Role};
use super::shape::{Arch, Experts, Shape};

/// One tensor to be written.
#[derive(Debug)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) dtype: DType,
    /// GGUF's order: row length (`n_in`), then rows (`n_out`), then experts.
    pub(crate) dims: Vec<u64>,
    pub(crate) fill: Fill,
}

/// What a tensor holds.
#[derive(Debug)]
pub(crate) enum Fill {
    /// Normal around 0 with a variance of 1 / row length, so that a product keeps the size of what goes in.
    Weights,
    /// F32, normal with a deviation of 0.1: around 1 for norms, around 0 for biases.
    Near(f32),
    /// F32, exactly these.
    Exact(Vec<f32>),
}

/// All tensors of a model, in the order of the file.
pub(crate) fn tensors(shape: &Shape, mix: Mix) -> Vec<Tensor> {
    let mut plan = Plan {
        shape,
        mix,
        tensors: Vec::new(),
    };
    let Shape {
        n_embd, n_vocab, ..
    } = *shape;
    let embedding = Role::Embedding { tied: shape.tied };
    plan.matrix("token_embd.weight", embedding, n_embd, n_vocab);
    plan.vector("output_norm.weight", Fill::Near(1.0), n_embd);
    if !shape.tied {
        plan.matrix("output.weight", Role::Output, n_embd, n_vocab);
    }
    if let Some(freqs) = shape.rope_freqs() {
        let len = freqs.len();
        plan.vector("rope_freqs.weight", Fill::Exact(freqs), len);
    }
    for layer in 0..shape.n_layer {
        plan.layer(layer);
    }
    plan.tensors
}

struct Plan<'a> {
    shape: &'a Shape,
    mix: Mix,
    tensors: Vec<Tensor>,
}

impl Plan<'_> {
    fn layer(&mut self, layer: usize) {
        let Shape {
            arch,
            n_embd,
            n_ff,
            head_dim,
            ..
        } = *self.shape;
        let n_q = self.shape.n_head * head_dim;
        let n_kv = self.shape.n_head_kv * head_dim;
        let sensitive = Role::Sensitive { layer };
        let name = |tensor: &str| format!("blk.{layer}.{tensor}");

        self.vector(&name("attn_norm.weight"), Fill::Near(1.0), n_embd);
        self.matrix(&name("attn_q.weight"), Role::Matrix, n_embd, n_q);
        self.matrix(&name("attn_k.weight"), Role::Matrix, n_embd, n_kv);
        self.matrix(&name("attn_v.weight"), sensitive, n_embd, n_kv);
        match arch {
            Arch::Llama => {}
            Arch::Qwen2 => {
                self.vector(&name("attn_q.bias"), Fill::Near(0.0), n_q);
                self.vector(&name("attn_k.bias"), Fill::Near(0.0), n_kv);
                self.vector(&name("attn_v.bias"), Fill::Near(0.0), n_kv);
            }
            Arch::Qwen3 | Arch::Qwen3Moe => {
                self.vector(&name("attn_q_norm.weight"), Fill::Near(1.0), head_dim);
                self.vector(&name("attn_k_norm.weight"), Fill::Near(1.0), head_dim);
            }
        }
        self.matrix(&name("attn_output.weight"), Role::Matrix, n_q, n_embd);
        self.vector(&name("ffn_norm.weight"), Fill::Near(1.0), n_embd);
        if let Some(Experts { n, n_ff, .. }) = self.shape.experts {
            self.matrix(&name("ffn_gate_inp.weight"), Role::Router, n_embd, n);
            let mut experts = |part: &str, role, n_in: usize, n_out: usize| {
                let name = name(&format!("{part}_exps.weight"));
                self.tensor(&name, role, &[n_in, n_out, n], Fill::Weights);
            };
            experts("ffn_gate", Role::Matrix, n_embd, n_ff);
            experts("ffn_up", Role::Matrix, n_embd, n_ff);
            experts("ffn_down", sensitive, n_ff, n_embd);
            return;
        }
        self.matrix(&name("ffn_gate.weight"), Role::Matrix, n_embd, n_ff);
        self.matrix(&name("ffn_up.weight"), Role::Matrix, n_embd, n_ff);
        self.matrix(&name("ffn_down.weight"), sensitive, n_ff, n_embd);
    }

    fn matrix(&mut self, name: &str, role: Role, n_in: usize, n_out: usize) {
        self.tensor(name, role, &[n_in, n_out], Fill::Weights);
    }

    fn vector(&mut self, name: &str, fill: Fill, len: usize) {
        self.tensor(name, Role::Vector, &[len], fill);
    }

    /// Dimensions in GGUF's order.
    fn tensor(&mut self, name: &str, role: Role, dims: &[usize], fill: Fill) {
        self.tensors.push(Tensor {
            name: name.to_owned(),
            dtype: self.mix.dtype(role, dims[0], self.shape.n_layer),
            dims: dims.iter().map(|&dim| dim as u64).collect(),
            fill,
        });
    }
}

impl Tensor {
    pub(crate) fn n_elements(&self) -> u64 {
        self.dims.iter().product()
    }

    pub(crate) fn row_len(&self) -> usize {
        self.dims[0] as usize
    }

    /// The tensor's size in the file.
    pub(crate) fn bytes(&self) -> u64 {
        let row_bytes = self.dtype.row_bytes(self.row_len());
        let row_bytes = row_bytes.expect("the mix gives a format that divides the row");
        row_bytes as u64 * self.dims[1..].iter().product::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(name: &str) -> u64 {
        let shape = Shape::named(name).expect("a known shape");
        let tensors = tensors(&shape, Mix::F16);
        tensors
            .iter()
            .filter(|tensor| tensor.name != "rope_freqs.weight")
            .map(Tensor::n_elements)
            .sum()
    }

    /// The counts that the models' publishers state.
    #[test]
    fn parameters_are_as_published() {
        assert_eq!(parameters("llama-3.2-1b"), 1_235_814_400);
        assert_eq!(parameters("llama-3.1-8b"), 8_030_261_248);
        assert_eq!(parameters("qwen2.5-0.5b"), 494_032_768);
        assert_eq!(parameters("qwen3-0.6b"), 596_049_920);
        assert_eq!(parameters("qwen3-30b-a3b"), 30_532_122_624);
    }
}
