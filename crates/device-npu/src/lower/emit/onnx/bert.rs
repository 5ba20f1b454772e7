//! BERT's encoder as ONNX: tokens in, one vector of length 1 for each text out.

use super::document::{Attribute, Axis, Document, Element};
use crate::lower::bert::{Lengths, Pooling};
use crate::lower::weights::Extent;

/// The least that a score may be so that an f16 holds it: a token that is only there to fill up is not seen.
const MASKED: f32 = -65504.0;

/// A matrix `[n_out, n_in]` in f16, and what is added to its products.
#[derive(Debug)]
pub(in crate::lower) struct Linear {
    pub(in crate::lower) name: String,
    pub(in crate::lower) shape: [usize; 2],
    pub(in crate::lower) weight: Extent,
    pub(in crate::lower) bias: Vec<f32>,
}

/// A layer norm.
#[derive(Debug)]
pub(in crate::lower) struct Norm {
    pub(in crate::lower) weight: Vec<f32>,
    pub(in crate::lower) bias: Vec<f32>,
}

#[derive(Debug)]
pub(in crate::lower) struct Layer {
    pub(in crate::lower) query: Linear,
    pub(in crate::lower) key: Linear,
    pub(in crate::lower) value: Linear,
    pub(in crate::lower) output: Linear,
    pub(in crate::lower) attention_norm: Norm,
    pub(in crate::lower) up: Linear,
    pub(in crate::lower) down: Linear,
    pub(in crate::lower) output_norm: Norm,
}

/// A network whose tables and matrices lie in a data file.
#[derive(Debug)]
pub(in crate::lower) struct Encoder {
    pub(in crate::lower) n_vocab: usize,
    pub(in crate::lower) n_ctx: usize,
    pub(in crate::lower) n_embd: usize,
    pub(in crate::lower) n_head: usize,
    pub(in crate::lower) eps: f32,
    pub(in crate::lower) pooling: Pooling,
    /// `[n_vocab, n_embd]` in f16.
    pub(in crate::lower) tokens: Extent,
    /// `[n_ctx, n_embd]` in f32, with what stands for a text's first part.
    pub(in crate::lower) positions: Extent,
    pub(in crate::lower) norm: Norm,
    pub(in crate::lower) layers: Vec<Layer>,
}

/// The bytes of a model whose tables and matrices lie in the file `data`.
pub(in crate::lower) fn model(encoder: &Encoder, lengths: Lengths, data: &str) -> Vec<u8> {
    let mut spelling = Spelling {
        encoder,
        out: Document::new(Element::F32, data),
    };
    spelling.encoder(lengths);
    spelling.out.finish("bert")
}

struct Spelling<'e> {
    encoder: &'e Encoder,
    out: Document<'e>,
}

impl Spelling<'_> {
    fn encoder(&mut self, lengths: Lengths) {
        let encoder = self.encoder;
        let axes = match lengths {
            Lengths::Any => [Axis::Any("texts"), Axis::Any("tokens")],
            Lengths::Fixed(n) => [Axis::Of(1), Axis::Of(n)],
        };
        for input in ["input_ids", "attention_mask"] {
            self.out.declare(input, Element::I64, &axes);
        }
        "embeddings".clone_into(&mut self.out.scope);
        let present = self.out.cast("attention_mask", Element::I64, Element::F32);
        let mask = self.mask(&present);
        let x = self.embed(lengths);
        let mut x = self.norm(&x, &encoder.norm); // [texts, n, n_embd]
        for (i, layer) in encoder.layers.iter().enumerate() {
            self.out.scope = format!("layer.{i}");
            let a = self.attention(&x, layer, &mask);
            let a = self.out.op("Add", &[&x, &a], &[]);
            x = self.norm(&a, &layer.attention_norm);
            let h = self.linear(&x, &layer.up);
            let h = self.gelu(&h);
            let h = self.linear(&h, &layer.down);
            let h = self.out.op("Add", &[&x, &h], &[]);
            x = self.norm(&h, &layer.output_norm);
        }
        "pooling".clone_into(&mut self.out.scope);
        let pooled = match encoder.pooling {
            Pooling::Mean => self.mean(&x, &present),
            Pooling::First => {
                let first = self.out.number(0);
                self.out
                    .op("Gather", &[&x, &first], &[Attribute::Int("axis", 1)])
            }
        };
        let unit = self.unit(&pooled);
        self.out.push("", "Identity", &[&unit], "embedding", &[]);
        let shape = [axes[0], Axis::Of(encoder.n_embd)];
        self.out.give("embedding", Element::F32, &shape);
    }

    /// What is added to scores: `[texts, 1, 1, n]`.
    fn mask(&mut self, present: &str) -> String {
        let one = self.out.floats(&[1.0]);
        let absent = self.out.op("Sub", &[&one, present], &[]);
        let masked = self.out.floats(&[MASKED]);
        let mask = self.out.op("Mul", &[&absent, &masked], &[]);
        let axes = self.out.ints(&[1, 2]);
        self.out.op("Unsqueeze", &[&mask, &axes], &[])
    }

    /// Of tokens and positions: `[texts, n, n_embd]`.
    fn embed(&mut self, lengths: Lengths) -> String {
        let (n_vocab, n_ctx, n_embd) = (
            self.encoder.n_vocab,
            self.encoder.n_ctx,
            self.encoder.n_embd,
        );
        let (tokens, positions) = (self.encoder.tokens, self.encoder.positions);
        let table = self
            .out
            .external("tokens", Element::F16, &[n_vocab, n_embd], tokens);
        let tokens = self.out.op("Gather", &[&table, "input_ids"], &[]);
        let tokens = self.out.cast(&tokens, Element::F16, Element::F32);
        let table = self
            .out
            .external("positions", Element::F32, &[n_ctx, n_embd], positions);
        let [from, axis, one] = [0, 0, 1].map(|n| self.out.ints(&[n]));
        let to = match lengths {
            Lengths::Fixed(n) => self.out.ints(&[n as i64]),
            Lengths::Any => {
                let shape = self.out.op("Shape", &["input_ids"], &[]);
                self.out.op("Gather", &[&shape, &one], &[])
            }
        };
        let positions = self.out.op("Slice", &[&table, &from, &to, &axis], &[]);
        self.out.op("Add", &[&tokens, &positions], &[])
    }

    fn attention(&mut self, x: &str, layer: &Layer, mask: &str) -> String {
        let (n_head, n_embd) = (self.encoder.n_head, self.encoder.n_embd);
        let head_dim = n_embd / n_head;
        let scale = self.out.floats(&[(head_dim as f32).sqrt().recip()]);
        let q = self.linear(x, &layer.query);
        let q = self.out.op("Mul", &[&q, &scale], &[]);
        let k = self.linear(x, &layer.key);
        let v = self.linear(x, &layer.value);
        // 0 leaves a length as it is.
        let mut heads = |x: &str, order: &[i64]| {
            let x = self.out.reshape(x, &[0, 0, n_head, head_dim]);
            self.out.transpose(&x, order)
        };
        let q = heads(&q, &[0, 2, 1, 3]); // [texts, n_head, n, head_dim]
        let k = heads(&k, &[0, 2, 3, 1]); // [texts, n_head, head_dim, n]
        let v = heads(&v, &[0, 2, 1, 3]);
        let scores = self.out.op("MatMul", &[&q, &k], &[]);
        let scores = self.out.op("Add", &[&scores, mask], &[]);
        let shares = self
            .out
            .op("Softmax", &[&scores], &[Attribute::Int("axis", -1)]);
        let read = self.out.op("MatMul", &[&shares, &v], &[]);
        let read = self.out.transpose(&read, &[0, 2, 1, 3]);
        let read = self.out.reshape(&read, &[0, 0, n_embd]);
        self.linear(&read, &layer.output)
    }

    fn linear(&mut self, x: &str, linear: &Linear) -> String {
        let weight = self
            .out
            .external(&linear.name, Element::F16, &linear.shape, linear.weight);
        let weight = self.out.cast(&weight, Element::F16, Element::F32);
        let product = self.out.product(x, &weight);
        let bias = self.out.floats(&linear.bias);
        self.out.op("Add", &[&product, &bias], &[])
    }

    fn norm(&mut self, x: &str, norm: &Norm) -> String {
        let weight = self.out.floats(&norm.weight);
        let bias = self.out.floats(&norm.bias);
        let attributes = [
            Attribute::Int("axis", -1),
            Attribute::Float("epsilon", self.encoder.eps),
        ];
        let inputs = [x, &weight, &bias];
        self.out.op("LayerNormalization", &inputs, &attributes)
    }

    /// `x / 2 · (1 + erf(x / √2))`: the form that executors know as one operation.
    fn gelu(&mut self, x: &str) -> String {
        let root = self.out.floats(&[std::f32::consts::SQRT_2]);
        let scaled = self.out.op("Div", &[x, &root], &[]);
        let erf = self.out.op("Erf", &[&scaled], &[]);
        let one = self.out.floats(&[1.0]);
        let share = self.out.op("Add", &[&erf, &one], &[]);
        let product = self.out.op("Mul", &[x, &share], &[]);
        let half = self.out.floats(&[0.5]);
        self.out.op("Mul", &[&product, &half], &[])
    }

    /// Of the tokens that are there: `[texts, n_embd]`.
    fn mean(&mut self, x: &str, present: &str) -> String {
        let [first, last] = [1, -1].map(|axis| self.out.ints(&[axis]));
        let weights = self.out.op("Unsqueeze", &[present, &last], &[]);
        let flat = [Attribute::Int("keepdims", 0)];
        let weighted = self.out.op("Mul", &[x, &weights], &[]);
        let sum = self.out.op("ReduceSum", &[&weighted, &first], &flat);
        let count = self.out.op("ReduceSum", &[&weights, &first], &flat);
        self.out.op("Div", &[&sum, &count], &[])
    }

    /// Of length 1.
    fn unit(&mut self, x: &str) -> String {
        let last = self.out.ints(&[-1]);
        let square = self.out.op("Mul", &[x, x], &[]);
        let kept = [Attribute::Int("keepdims", 1)];
        let sum = self.out.op("ReduceSum", &[&square, &last], &kept);
        let length = self.out.op("Sqrt", &[&sum], &[]);
        self.out.op("Div", &[x, &length], &[])
    }
}
