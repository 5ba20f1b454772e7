//! [`Ops`] without its types, so that devices of different kinds can stand in one list.

use std::any::Any;
use std::ops::Range;

use half::f16;
use troika_base::TokenId;
use troika_gguf::{ModelFile, TensorInfo};

use crate::{
    Attending, Batch, Error, Feature, Gating, Hidden, KvShape, Logits, Mixture, Ops, Rope,
};

/// Something that a part has made, and that it alone can read.
pub(super) type Made = Box<dyn Any>;
/// As [`Made`], where it stays with the model.
pub(super) type Kept = Box<dyn Any + Send>;

/// Operations on values whose types only the one behind it knows. See [`Ops`] for what each does.
pub(super) trait AnyOps: Send {
    fn load_matrix(&self, file: &ModelFile, tensor: &TensorInfo) -> Result<Kept, Error>;
    fn load_vector(&self, file: &ModelFile, tensor: &TensorInfo) -> Result<Kept, Error>;
    fn matrix_bytes(&self, matrix: &Kept) -> usize;
    fn lacks(&self, feature: Feature) -> Option<String>;
    fn load_experts(&self, file: &ModelFile, tensor: &TensorInfo) -> Result<Kept, Error>;
    fn experts_bytes(&self, experts: &Kept) -> usize;
    fn new_kv(&self, shape: KvShape, n_page: usize) -> Result<Kept, Error>;
    fn copy_page(&mut self, kv: &mut Kept, from: usize, to: usize);
    fn read_kv(
        &mut self,
        kv: &Kept,
        pages: &[usize],
        tokens: Range<usize>,
        out: &mut [f16],
    ) -> Result<(), Error>;
    fn write_kv(
        &mut self,
        kv: &mut Kept,
        pages: &[usize],
        tokens: Range<usize>,
        values: &[f16],
    ) -> Result<(), Error>;
    fn begin(&mut self, batch: &Batch<'_>, rope: &Rope) -> Result<Made, Error>;
    fn embed(&mut self, table: &Kept, tokens: &[TokenId]) -> Made;
    fn rms_norm(&mut self, x: &Made, weight: &Kept, eps: f32) -> Made;
    fn layer_norm(&mut self, x: &mut Made, norm: [&Kept; 2], eps: f32);
    fn head_norm(&mut self, x: &mut Made, weight: &Kept, eps: f32);
    fn matmul(&mut self, x: &Made, w: &[&Kept]) -> Vec<Made>;
    fn add_matmul(&mut self, residual: &mut Made, x: &Made, w: &Kept);
    fn add_bias(&mut self, x: &mut Made, bias: &Kept);
    fn rope(&mut self, step: &Made, x: &mut Made, head_dim: usize);
    fn attention(
        &mut self,
        step: &Made,
        kv: &mut Kept,
        attending: &Attending<'_, Kept>,
        qkv: [&Made; 3],
    ) -> Made;
    fn gelu(&mut self, x: &mut Made);
    fn gate(&mut self, gating: Gating, gate: Made, up: &Made) -> Made;
    fn experts(&mut self, x: &Made, scores: &Made, mixture: &Mixture<'_, Kept, Kept>) -> Made;
    fn scale(&mut self, x: &mut Made, factor: f32);
    fn add(&mut self, x: &mut Made, y: &Made);
    fn rows(&mut self, x: &Made, rows: &[usize]) -> Made;
    fn logits(&mut self, x: &Made, output: &Kept) -> Result<Logits, Error>;
    fn hidden(&mut self, x: &Made) -> Result<Hidden, Error>;
    fn upload(&mut self, x: &Hidden) -> Made;
    fn finish(&mut self) -> Result<(), Error>;
}

const FOREIGN: &str = "a value goes to the part that has made it. This is a bug.";

fn of<T: 'static>(made: &dyn Any) -> &T {
    made.downcast_ref().expect(FOREIGN)
}

fn of_mut<T: 'static>(made: &mut dyn Any) -> &mut T {
    made.downcast_mut().expect(FOREIGN)
}

impl<O: Ops + Send + 'static> AnyOps for O {
    fn load_matrix(&self, file: &ModelFile, tensor: &TensorInfo) -> Result<Kept, Error> {
        Ok(Box::new(O::load_matrix(self, file, tensor)?))
    }

    fn load_vector(&self, file: &ModelFile, tensor: &TensorInfo) -> Result<Kept, Error> {
        Ok(Box::new(O::load_vector(self, file, tensor)?))
    }

    fn matrix_bytes(&self, matrix: &Kept) -> usize {
        O::matrix_bytes(self, of(&**matrix))
    }

    fn lacks(&self, feature: Feature) -> Option<String> {
        O::lacks(self, feature)
    }

    fn load_experts(&self, file: &ModelFile, tensor: &TensorInfo) -> Result<Kept, Error> {
        Ok(Box::new(O::load_experts(self, file, tensor)?))
    }

    fn experts_bytes(&self, experts: &Kept) -> usize {
        O::experts_bytes(self, of(&**experts))
    }

    fn new_kv(&self, shape: KvShape, n_page: usize) -> Result<Kept, Error> {
        Ok(Box::new(O::new_kv(self, shape, n_page)?))
    }

    fn copy_page(&mut self, kv: &mut Kept, from: usize, to: usize) {
        O::copy_page(self, of_mut(&mut **kv), from, to);
    }

    fn read_kv(
        &mut self,
        kv: &Kept,
        pages: &[usize],
        tokens: Range<usize>,
        out: &mut [f16],
    ) -> Result<(), Error> {
        O::read_kv(self, of(&**kv), pages, tokens, out)
    }

    fn write_kv(
        &mut self,
        kv: &mut Kept,
        pages: &[usize],
        tokens: Range<usize>,
        values: &[f16],
    ) -> Result<(), Error> {
        O::write_kv(self, of_mut(&mut **kv), pages, tokens, values)
    }

    fn begin(&mut self, batch: &Batch<'_>, rope: &Rope) -> Result<Made, Error> {
        Ok(Box::new(O::begin(self, batch, rope)?))
    }

    fn embed(&mut self, table: &Kept, tokens: &[TokenId]) -> Made {
        Box::new(O::embed(self, of(&**table), tokens))
    }

    fn rms_norm(&mut self, x: &Made, weight: &Kept, eps: f32) -> Made {
        Box::new(O::rms_norm(self, of(&**x), of(&**weight), eps))
    }

    fn layer_norm(&mut self, x: &mut Made, norm: [&Kept; 2], eps: f32) {
        O::layer_norm(self, of_mut(&mut **x), norm.map(|row| of(&**row)), eps);
    }

    fn head_norm(&mut self, x: &mut Made, weight: &Kept, eps: f32) {
        O::head_norm(self, of_mut(&mut **x), of(&**weight), eps);
    }

    fn matmul(&mut self, x: &Made, w: &[&Kept]) -> Vec<Made> {
        // What shares `x` is queries, keys and values, or gate and up.
        match *w {
            [a, b, c] => matmul(self, x, [a, b, c]),
            [a, b] => matmul(self, x, [a, b]),
            _ => w.iter().flat_map(|&w| matmul(self, x, [w])).collect(),
        }
    }

    fn add_matmul(&mut self, residual: &mut Made, x: &Made, w: &Kept) {
        O::add_matmul(self, of_mut(&mut **residual), of(&**x), of(&**w));
    }

    fn add_bias(&mut self, x: &mut Made, bias: &Kept) {
        O::add_bias(self, of_mut(&mut **x), of(&**bias));
    }

    fn rope(&mut self, step: &Made, x: &mut Made, head_dim: usize) {
        O::rope(self, of(&**step), of_mut(&mut **x), head_dim);
    }

    fn attention(
        &mut self,
        step: &Made,
        kv: &mut Kept,
        attending: &Attending<'_, Kept>,
        qkv: [&Made; 3],
    ) -> Made {
        let (step, kv) = (of(&**step), of_mut(&mut **kv));
        let sinks = attending.sinks.map(|sinks| of(&**sinks));
        let attending = attending.with(attending.layer, sinks);
        Box::new(O::attention(
            self,
            step,
            kv,
            &attending,
            qkv.map(|x| of(&**x)),
        ))
    }

    fn gelu(&mut self, x: &mut Made) {
        O::gelu(self, of_mut(&mut **x));
    }

    fn gate(&mut self, gating: Gating, gate: Made, up: &Made) -> Made {
        let gate = *gate.downcast().expect(FOREIGN);
        Box::new(O::gate(self, gating, gate, of(&**up)))
    }

    fn experts(&mut self, x: &Made, scores: &Made, mixture: &Mixture<'_, Kept, Kept>) -> Made {
        let mixture = Mixture {
            n_used: mixture.n_used,
            gating: mixture.gating,
            gate: of(&**mixture.gate),
            up: of(&**mixture.up),
            down: of(&**mixture.down),
            biases: mixture.biases.map(|some| some.map(|bias| of(&**bias))),
        };
        Box::new(O::experts(self, of(&**x), of(&**scores), &mixture))
    }

    fn scale(&mut self, x: &mut Made, factor: f32) {
        O::scale(self, of_mut(&mut **x), factor);
    }

    fn add(&mut self, x: &mut Made, y: &Made) {
        O::add(self, of_mut(&mut **x), of(&**y));
    }

    fn rows(&mut self, x: &Made, rows: &[usize]) -> Made {
        Box::new(O::rows(self, of(&**x), rows))
    }

    fn logits(&mut self, x: &Made, output: &Kept) -> Result<Logits, Error> {
        O::logits(self, of(&**x), of(&**output))
    }

    fn hidden(&mut self, x: &Made) -> Result<Hidden, Error> {
        O::hidden(self, of(&**x))
    }

    fn upload(&mut self, x: &Hidden) -> Made {
        Box::new(O::upload(self, x))
    }

    fn finish(&mut self) -> Result<(), Error> {
        O::finish(self)
    }
}

fn matmul<O: Ops + 'static, const N: usize>(ops: &mut O, x: &Made, w: [&Kept; N]) -> Vec<Made> {
    let products = ops.matmul(of(&**x), w.map(|w| of(&**w)));
    products
        .into_iter()
        .map(|product| Box::new(product) as Made)
        .collect()
}
