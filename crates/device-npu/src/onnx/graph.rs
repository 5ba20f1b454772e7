//! A static graph that an executor runs: which of its inputs and outputs is what.

use troika_base::ModelSpec;

use super::staging::Staging;
use crate::Error;
use crate::exec::{Executor, Port, Tensor, invalid};
use crate::lower::StaticShape;

/// A graph for so many tokens at a time.
pub(super) struct Graph {
    executor: Box<dyn Executor>,
    shape: StaticShape,
    /// Names of the past's inputs, layer by layer, keys before values.
    past: Vec<String>,
    /// Where the outputs stand among the executor's.
    hidden: usize,
    logits: usize,
    new: Vec<usize>,
}

/// What a run is fed besides the past.
pub(super) struct Feed {
    /// `[1, new, n_embd]`
    pub(super) x: Vec<f32>,
    /// `[1, 1, new, head_dim]` each.
    pub(super) cos: Vec<f32>,
    pub(super) sin: Vec<f32>,
    /// Tokens of the past that there are.
    pub(super) n_past: usize,
    /// The token whose logits are wanted.
    pub(super) row: usize,
}

/// What a run gives.
pub(super) struct Computed {
    /// `[new, n_embd]`
    pub(super) hidden: Vec<f32>,
    /// `[n_vocab]`
    pub(super) logits: Vec<f32>,
    /// Keys and values of each layer, `[n_head_kv, new, head_dim]`.
    pub(super) new: Vec<Vec<f32>>,
}

impl Graph {
    /// A graph that [`lower::write_onnx`](crate::lower::write_onnx) has written for this model and shape.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it asks for something else, or gives something else.
    pub(super) fn new(
        executor: Box<dyn Executor>,
        shape: StaticShape,
        spec: &ModelSpec,
    ) -> Result<Self, Error> {
        let kv = |part: &str, layer: usize| format!("{part}.{layer}");
        let layers = (0..spec.n_layer).flat_map(|layer| [("k", layer), ("v", layer)]);
        let past: Vec<String> = layers
            .clone()
            .map(|(part, layer)| kv(&format!("past_{part}"), layer))
            .collect();

        let StaticShape { new, past: room } = shape;
        let heads = |n_tok| [1, spec.n_head_kv, n_tok, spec.head_dim];
        let inputs = executor.inputs();
        find(inputs, "x", &[1, new, spec.n_embd])?;
        for table in ["cos", "sin"] {
            find(inputs, table, &[1, 1, new, spec.head_dim])?;
        }
        find(inputs, "mask", &[1, 1, new, room + new])?;
        for name in &past {
            find(inputs, name, &heads(room))?;
        }
        let outputs = executor.outputs();
        let given = layers
            .map(|(part, layer)| find(outputs, &kv(&format!("new_{part}"), layer), &heads(new)));
        Ok(Self {
            hidden: find(outputs, "hidden", &[1, new, spec.n_embd])?,
            logits: find(outputs, "logits", &[1, 1, spec.n_vocab])?,
            new: given.collect::<Result<_, _>>()?,
            shape,
            past,
            executor,
        })
    }

    /// Tokens of a run.
    pub(super) fn n_new(&self) -> usize {
        self.shape.new
    }

    /// `ONNX Runtime 1.31.1`
    pub(super) fn library(&self) -> &str {
        self.executor.library()
    }

    pub(super) fn run(&mut self, feed: Feed, past: &Staging) -> Result<Computed, Error> {
        let StaticShape { new, past: room } = self.shape;
        let names = self.past.iter().map(String::as_str);
        let lent: Vec<(&str, &Tensor)> = names.zip(past.tensors()).collect();
        let (n_embd, head_dim) = (feed.x.len() / new, feed.cos.len() / new);
        let mut given = vec![
            ("x", Tensor::f32([1, new, n_embd], feed.x)),
            ("cos", Tensor::f32([1, 1, new, head_dim], feed.cos)),
            ("sin", Tensor::f32([1, 1, new, head_dim], feed.sin)),
            (
                "mask",
                Tensor::f32([1, 1, new, room + new], mask(self.shape, feed.n_past)),
            ),
        ];
        if new > 1 {
            given.push(("row", Tensor::i64([1], vec![feed.row as i64])));
        }
        let outputs = self.executor.run_with(&lent, given)?;
        let mut outputs: Vec<Option<Tensor>> = outputs.into_iter().map(Some).collect();
        let mut take = |at: usize| {
            let output = outputs.get_mut(at).and_then(Option::take);
            output
                .ok_or_else(|| invalid("a graph's output", "it did not come"))?
                .into_f32()
        };
        Ok(Computed {
            hidden: take(self.hidden)?,
            logits: take(self.logits)?,
            new: self
                .new
                .iter()
                .map(|&at| take(at))
                .collect::<Result<_, _>>()?,
        })
    }
}

/// Where a port of this name and shape stands.
fn find(ports: &[Port], name: &str, shape: &[usize]) -> Result<usize, Error> {
    let at = ports.iter().position(|port| port.name == name);
    let at = at.ok_or_else(|| invalid(name, "the graph has none of this name"))?;
    match ports[at].takes(shape) {
        true => Ok(at),
        false => Err(invalid(
            name,
            format!(
                "its shape is {:?}, and {shape:?} is expected",
                ports[at].shape
            ),
        )),
    }
}

/// What each of the new tokens sees: the past as far as it goes, itself, and those of the run before it.
/// `[new, past + new]`, 0 where it sees, and the least number of an f16 where it does not.
fn mask(shape: StaticShape, n_past: usize) -> Vec<f32> {
    const HIDDEN: f32 = -65504.0;
    let width = shape.past + shape.new;
    let mut mask = vec![HIDDEN; shape.new * width];
    for (i, row) in mask.chunks_exact_mut(width).enumerate() {
        row[..n_past].fill(0.0);
        row[shape.past..=shape.past + i].fill(0.0);
    }
    mask
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_see_what_is_before_them() {
        let seen = |new, past, n_past| -> Vec<String> {
            let mask = mask(StaticShape { new, past }, n_past);
            let row = |row: &[f32]| {
                let seen = row
                    .iter()
                    .map(|&value| if value == 0.0 { '1' } else { '.' });
                seen.collect()
            };
            mask.chunks_exact(past + new).map(row).collect()
        };
        assert_eq!(seen(3, 4, 2), ["11..1..", "11..11.", "11..111"]);
        assert_eq!(seen(1, 3, 0), ["...1"]);
        assert_eq!(seen(1, 3, 3), ["1111"]);
    }

    #[test]
    fn ports_are_found_by_name_and_shape() {
        let ports = [Port {
            name: "x".to_owned(),
            shape: vec![Some(1), None],
        }];
        let found = |name, shape: &[usize]| find(&ports, name, shape).map_err(|e| e.to_string());
        assert_eq!(found("x", &[1, 7]), Ok(0));
        assert_eq!(
            found("y", &[1, 7]),
            Err("y: the graph has none of this name".to_owned())
        );
        let other = "x: its shape is [Some(1), None], and [2, 7] is expected";
        assert_eq!(found("x", &[2, 7]), Err(other.to_owned()));
    }
}
