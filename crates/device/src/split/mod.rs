//! Several devices as one: each layer's weights, and its keys and values, are on one of them.
//!
//! A step goes through the layers in order and so through the parts; at a border the activations are brought over by
//! the host. What is computed is what the parts compute: nothing here is a number of its own. Where the borders are is
//! whoever's who makes the parts.

mod erased;
mod fit;

use std::cell::OnceCell;
use std::ops::Range;

use half::f16;
use troika_base::TokenId;
use troika_gguf::{ModelFile, TensorInfo};

use crate::{
    Attending, Batch, Error, Feature, Gating, Hidden, KvShape, Logits, Mixture, Ops, Rope,
};
use erased::{AnyOps, Kept, Made};
pub use fit::ModelBytes;

/// Where in a model a tensor is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TensorPlace {
    /// Before the first layer: the embedding table.
    Input,
    /// In this layer.
    Layer(usize),
    /// Behind the last layer; also the embedding table of a model that reads its scores with it.
    Output,
}

impl TensorPlace {
    /// The place of a tensor of this file, which its name tells.
    pub fn of(file: &ModelFile, tensor: &TensorInfo) -> Self {
        let layer = tensor.name.strip_prefix("blk.");
        let layer = layer.and_then(|rest| rest.split('.').next()?.parse().ok());
        match layer {
            Some(layer) => Self::Layer(layer),
            None if &*tensor.name == "token_embd.weight"
                && file.tensor("output.weight").is_some() =>
            {
                Self::Input
            }
            None => Self::Output,
        }
    }
}

/// A device's share of a model.
pub struct Part {
    ops: Box<dyn AnyOps>,
    layers: Range<usize>,
}

impl Part {
    /// These layers on `ops`. The first part has the embedding table too, and the last one the output matrix.
    pub fn new(ops: impl Ops + Send + 'static, layers: Range<usize>) -> Self {
        Self {
            ops: Box::new(ops),
            layers,
        }
    }
}

/// Several devices as one.
pub struct Split {
    parts: Vec<Part>,
    /// The first thing that went wrong where activations were brought over, until somebody is told. What would follow
    /// from it is not computed.
    failure: Option<Error>,
}

/// Activations, on the parts where they are wanted; nowhere after a failure.
pub struct Activations(Box<[OnceCell<Made>]>);

/// A weight, and the part that has it.
pub struct Placed {
    part: usize,
    weight: Kept,
}

/// Keys and values of all layers; nothing for a part without layers.
pub struct SplitKv {
    shape: KvShape,
    parts: Vec<Option<Kept>>,
}

/// What a step needs in every part.
pub struct SplitStep(Vec<Made>);

impl Split {
    /// Devices that share a model's layers, in order.
    ///
    /// # Panics
    /// If there are no parts, or their layers do not follow each other from 0 on.
    pub fn new(parts: Vec<Part>) -> Self {
        let end = parts.iter().fold(0, |end, part| {
            assert_eq!(part.layers.start, end, "layers follow each other");
            part.layers.end
        });
        assert!(end > 0, "some part has layers");
        Self {
            parts,
            failure: None,
        }
    }

    /// The part that has a layer.
    fn part_of_layer(&self, layer: usize) -> usize {
        let part = self
            .parts
            .iter()
            .position(|part| part.layers.contains(&layer));
        part.expect("the parts have all layers of the model. This is a bug.")
    }

    fn place(&self, file: &ModelFile, tensor: &TensorInfo) -> Result<usize, Error> {
        let last = self.parts.len() - 1;
        Ok(match TensorPlace::of(file, tensor) {
            TensorPlace::Input => 0,
            TensorPlace::Output => last,
            // A layer that the model does not have is refused by whoever looks for unused tensors.
            TensorPlace::Layer(layer) if layer >= self.parts[last].layers.end => last,
            TensorPlace::Layer(layer) => self.part_of_layer(layer),
        })
    }

    fn made(&self, part: usize, made: Made) -> Activations {
        let on = Activations(self.parts.iter().map(|_| OnceCell::new()).collect());
        let _ = on.0[part].set(made);
        on
    }

    fn nothing(&self) -> Activations {
        Activations(Box::default())
    }

    /// Brings activations to a part, if they are not there. `None` after a failure.
    fn bring<'x>(&mut self, x: &'x Activations, part: usize) -> Option<&'x Made> {
        let home = x.home()?;
        if x.0[part].get().is_none() {
            let from = x.0[home].get().expect("it is at home there");
            match self.parts[home].ops.hidden(from) {
                Ok(values) => {
                    let _ = x.0[part].set(self.parts[part].ops.upload(&values));
                }
                Err(error) => self.fail(error),
            }
        }
        x.0[part].get()
    }

    /// Brings activations to a part that is about to change them.
    fn bring_mut<'x>(&mut self, x: &'x mut Activations, part: usize) -> Option<&'x mut Made> {
        self.bring(x, part)?;
        for (other, on) in x.0.iter_mut().enumerate() {
            if other != part {
                on.take();
            }
        }
        x.0[part].get_mut()
    }

    fn fail(&mut self, error: Error) {
        self.failure.get_or_insert(error);
    }

    /// What went wrong since somebody was told last.
    fn check(&mut self) -> Result<(), Error> {
        self.failure.take().map_or(Ok(()), Err)
    }
}

impl Activations {
    /// The last part that has them: layers go upwards.
    fn home(&self) -> Option<usize> {
        self.0.iter().rposition(|on| on.get().is_some())
    }

    /// Where they are, and they.
    fn at_home(&self) -> Option<(usize, &Made)> {
        let home = self.home()?;
        Some((home, self.0[home].get()?))
    }
}

impl SplitKv {
    /// Values that a token has in some layers.
    fn values(&self, layers: Range<usize>) -> usize {
        KvShape {
            n_layer: layers.len(),
            ..self.shape
        }
        .token_values()
    }
}

impl Ops for Split {
    type Tensor = Activations;
    type Matrix = Placed;
    type Vector = Placed;
    type Experts = Placed;
    type Kv = SplitKv;
    type Step = SplitStep;

    fn load_matrix(&self, file: &ModelFile, tensor: &TensorInfo) -> Result<Placed, Error> {
        let part = self.place(file, tensor)?;
        let weight = self.parts[part].ops.load_matrix(file, tensor)?;
        Ok(Placed { part, weight })
    }

    fn load_vector(&self, file: &ModelFile, tensor: &TensorInfo) -> Result<Placed, Error> {
        let part = self.place(file, tensor)?;
        let weight = self.parts[part].ops.load_vector(file, tensor)?;
        Ok(Placed { part, weight })
    }

    fn matrix_bytes(&self, matrix: &Placed) -> usize {
        self.parts[matrix.part].ops.matrix_bytes(&matrix.weight)
    }

    fn lacks(&self, feature: Feature) -> Option<String> {
        self.parts.iter().find_map(|part| part.ops.lacks(feature))
    }

    fn load_experts(&self, file: &ModelFile, tensor: &TensorInfo) -> Result<Placed, Error> {
        let part = self.place(file, tensor)?;
        let weight = self.parts[part].ops.load_experts(file, tensor)?;
        Ok(Placed { part, weight })
    }

    fn experts_bytes(&self, experts: &Placed) -> usize {
        self.parts[experts.part].ops.experts_bytes(&experts.weight)
    }

    fn new_kv(&self, shape: KvShape, n_page: usize) -> Result<SplitKv, Error> {
        let kv = |part: &Part| match part.layers.len() {
            0 => Ok(None),
            n_layer => part
                .ops
                .new_kv(KvShape { n_layer, ..shape }, n_page)
                .map(Some),
        };
        Ok(SplitKv {
            shape,
            parts: self.parts.iter().map(kv).collect::<Result<_, Error>>()?,
        })
    }

    fn copy_page(&mut self, kv: &mut SplitKv, from: usize, to: usize) {
        for (part, kv) in self.parts.iter_mut().zip(&mut kv.parts) {
            if let Some(kv) = kv {
                part.ops.copy_page(kv, from, to);
            }
        }
    }

    fn read_kv(
        &mut self,
        kv: &SplitKv,
        pages: &[usize],
        tokens: Range<usize>,
        out: &mut [f16],
    ) -> Result<(), Error> {
        let whole = kv.shape.token_values();
        for (part, of_part) in self.parts.iter_mut().zip(&kv.parts) {
            let Some(of_part) = of_part else { continue };
            let first = kv.values(0..part.layers.start);
            let own = kv.values(part.layers.clone());
            let mut values = vec![f16::ZERO; tokens.len() * own];
            part.ops
                .read_kv(of_part, pages, tokens.clone(), &mut values)?;
            for (token, values) in out.chunks_exact_mut(whole).zip(values.chunks_exact(own)) {
                token[first..][..own].copy_from_slice(values);
            }
        }
        Ok(())
    }

    fn write_kv(
        &mut self,
        kv: &mut SplitKv,
        pages: &[usize],
        tokens: Range<usize>,
        values: &[f16],
    ) -> Result<(), Error> {
        let whole = kv.shape.token_values();
        let borders: Vec<_> = self
            .parts
            .iter()
            .map(|part| kv.values(0..part.layers.end))
            .collect();
        let mut first = 0;
        for ((part, of_part), end) in self.parts.iter_mut().zip(&mut kv.parts).zip(borders) {
            if let Some(of_part) = of_part {
                let tokens_of_part = values.chunks_exact(whole).map(|token| &token[first..end]);
                let values = tokens_of_part.collect::<Vec<_>>().concat();
                part.ops.write_kv(of_part, pages, tokens.clone(), &values)?;
            }
            first = end;
        }
        Ok(())
    }

    fn begin(&mut self, batch: &Batch<'_>, rope: &Rope) -> Result<SplitStep, Error> {
        self.check()?;
        let steps = self
            .parts
            .iter_mut()
            .map(|part| part.ops.begin(batch, rope));
        Ok(SplitStep(steps.collect::<Result<_, Error>>()?))
    }

    fn embed(&mut self, table: &Placed, tokens: &[TokenId]) -> Activations {
        let made = self.parts[table.part].ops.embed(&table.weight, tokens);
        self.made(table.part, made)
    }

    fn rms_norm(&mut self, x: &Activations, weight: &Placed, eps: f32) -> Activations {
        let Some(x) = self.bring(x, weight.part) else {
            return self.nothing();
        };
        let made = self.parts[weight.part].ops.rms_norm(x, &weight.weight, eps);
        self.made(weight.part, made)
    }

    fn layer_norm(&mut self, x: &mut Activations, norm: [&Placed; 2], eps: f32) {
        let part = norm[0].part;
        if let Some(x) = self.bring_mut(x, part) {
            let norm = norm.map(|row| &row.weight);
            self.parts[part].ops.layer_norm(x, norm, eps);
        }
    }

    fn head_norm(&mut self, x: &mut Activations, weight: &Placed, eps: f32) {
        if let Some(x) = self.bring_mut(x, weight.part) {
            self.parts[weight.part]
                .ops
                .head_norm(x, &weight.weight, eps);
        }
    }

    fn matmul<const N: usize>(&mut self, x: &Activations, w: [&Placed; N]) -> [Activations; N] {
        let part = w[0].part;
        assert!(w.iter().all(|w| w.part == part), "of one layer");
        let Some(x) = self.bring(x, part) else {
            return w.map(|_| self.nothing());
        };
        let mut products = self.parts[part]
            .ops
            .matmul(x, &w.map(|w| &w.weight))
            .into_iter();
        w.map(|_| {
            let product = products
                .next()
                .expect("one for each matrix. This is a bug.");
            self.made(part, product)
        })
    }

    fn add_matmul(&mut self, residual: &mut Activations, x: &Activations, w: &Placed) {
        let (Some(residual), Some(x)) = (self.bring_mut(residual, w.part), self.bring(x, w.part))
        else {
            return;
        };
        self.parts[w.part].ops.add_matmul(residual, x, &w.weight);
    }

    fn add_bias(&mut self, x: &mut Activations, bias: &Placed) {
        if let Some(x) = self.bring_mut(x, bias.part) {
            self.parts[bias.part].ops.add_bias(x, &bias.weight);
        }
    }

    fn rope(&mut self, step: &SplitStep, x: &mut Activations, head_dim: usize) {
        let Some(home) = x.home() else { return };
        if let Some(x) = self.bring_mut(x, home) {
            self.parts[home].ops.rope(&step.0[home], x, head_dim);
        }
    }

    fn attention(
        &mut self,
        step: &SplitStep,
        kv: &mut SplitKv,
        attending: &Attending<'_, Placed>,
        qkv: [&Activations; 3],
    ) -> Activations {
        let part = self.part_of_layer(attending.layer);
        let [Some(q), Some(k), Some(v)] = qkv.map(|x| self.bring(x, part)) else {
            return self.nothing();
        };
        let kv = kv.parts[part].as_mut().expect("the part has layers");
        let Part { ops, layers } = &mut self.parts[part];
        let sinks = attending.sinks.map(|sinks| &sinks.weight);
        let attending = attending.with(attending.layer - layers.start, sinks);
        let made = ops.attention(&step.0[part], kv, &attending, [q, k, v]);
        self.made(part, made)
    }

    fn gelu(&mut self, x: &mut Activations) {
        let Some(home) = x.home() else { return };
        if let Some(x) = self.bring_mut(x, home) {
            self.parts[home].ops.gelu(x);
        }
    }

    fn gate(&mut self, gating: Gating, gate: Activations, up: &Activations) -> Activations {
        let Some(home) = gate.home() else {
            return self.nothing();
        };
        let (Some(up), Some(gate)) = (
            self.bring(up, home),
            gate.0.into_iter().nth(home).and_then(OnceCell::into_inner),
        ) else {
            return self.nothing();
        };
        let made = self.parts[home].ops.gate(gating, gate, up);
        self.made(home, made)
    }

    fn experts(
        &mut self,
        x: &Activations,
        scores: &Activations,
        mixture: &Mixture<'_, Placed, Placed>,
    ) -> Activations {
        let part = mixture.gate.part;
        let (Some(x), Some(scores)) = (self.bring(x, part), self.bring(scores, part)) else {
            return self.nothing();
        };
        let mixture = Mixture {
            n_used: mixture.n_used,
            gating: mixture.gating,
            gate: &mixture.gate.weight,
            up: &mixture.up.weight,
            down: &mixture.down.weight,
            biases: mixture.biases.map(|of| of.map(|bias| &bias.weight)),
        };
        let made = self.parts[part].ops.experts(x, scores, &mixture);
        self.made(part, made)
    }

    fn scale(&mut self, x: &mut Activations, factor: f32) {
        let Some(home) = x.home() else { return };
        if let Some(x) = self.bring_mut(x, home) {
            self.parts[home].ops.scale(x, factor);
        }
    }

    fn add(&mut self, x: &mut Activations, y: &Activations) {
        let Some(home) = y.home() else { return };
        let (Some(x), Some(y)) = (self.bring_mut(x, home), self.bring(y, home)) else {
            return;
        };
        self.parts[home].ops.add(x, y);
    }

    fn rows(&mut self, x: &Activations, rows: &[usize]) -> Activations {
        let Some((home, x)) = x.at_home() else {
            return self.nothing();
        };
        let made = self.parts[home].ops.rows(x, rows);
        self.made(home, made)
    }

    fn logits(&mut self, x: &Activations, output: &Placed) -> Result<Logits, Error> {
        let x = self.bring(x, output.part);
        self.check()?;
        let x = x.expect(LOST);
        self.parts[output.part].ops.logits(x, &output.weight)
    }

    fn hidden(&mut self, x: &Activations) -> Result<Hidden, Error> {
        self.check()?;
        let (home, x) = x.at_home().expect(LOST);
        self.parts[home].ops.hidden(x)
    }

    fn upload(&mut self, x: &Hidden) -> Activations {
        let made = self.parts[0].ops.upload(x);
        self.made(0, made)
    }

    fn finish(&mut self) -> Result<(), Error> {
        let mut outcome = self.check();
        for part in &mut self.parts {
            outcome = outcome.and(part.ops.finish());
        }
        outcome
    }
}

const LOST: &str = "activations are lost by a failure alone, and it is told first. This is a bug.";
