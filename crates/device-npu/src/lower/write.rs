//! Graphs of a model's file, written to a directory.

use std::ops::ControlFlow;
use std::path::Path;

use serde::{Deserialize, Serialize};
use troika_device::Cancelled;
use troika_gguf::ModelFile;

use super::WeightFormat;
use super::decoder;
use super::emit::{ir, onnx, store, write_file};
use super::graph::Graph;
use super::weights::{Coding, DataFile, Matrix};
use crate::{CompileProgress, Error, Phase};

/// Is told how far it is, and may end it.
pub type Progress<'p> = dyn FnMut(CompileProgress) -> ControlFlow<Cancelled> + 'p;

/// Which tokens a stateful graph gives logits of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogitRows {
    /// Of all: `[batch, tokens, n_vocab]`. OpenVINO's NPU plugin wants it so, and leaves out what is not needed.
    All,
    /// Of each sequence's last: `[batch, 1, n_vocab]`.
    Last,
}

/// Numbers that a static graph computes with. Its inputs and outputs are f32 in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activations {
    /// Single precision.
    F32,
    /// Half precision; norms are single.
    F16,
}

/// Lengths in a static graph, in tokens.
///
/// Inputs, all f32 but `row`: `x` `[1, new, n_embd]`, embedded tokens; `cos` and `sin` `[1, 1, new, head_dim]`, see
/// [`Host::rotations`](super::Host::rotations); `mask` `[1, 1, new, past + new]`, added to the scores, 0 or -65504;
/// `past_k.{layer}` and `past_v.{layer}` `[1, n_head_kv, past, head_dim]`, none if `past` is 0. If `new` is more than 1,
/// `row` `[1]`, i64: the token whose logits are wanted.
///
/// Outputs: `hidden` `[1, new, n_embd]`, behind the output norm; `logits` `[1, 1, n_vocab]`; `new_k.{layer}` and
/// `new_v.{layer}` `[1, n_head_kv, new, head_dim]`. Keys have their values in
/// [an order of the graph's own](super::Host::key_from_graph).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StaticShape {
    /// Tokens that a run computes.
    pub new: usize,
    /// Tokens before them that it sees, at most.
    pub past: usize,
}

/// One of several graphs over the same weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticGraph<'n> {
    /// `decode` becomes `decode.onnx`.
    pub name: &'n str,
    /// Its lengths.
    pub shape: StaticShape,
}

/// The file beside ONNX graphs that has their weights. Executors read no files with other endings than these.
pub(super) const ONNX_DATA: &str = "weights.onnx_data";

/// Writes a model in its stateful form, `model.xml` and `model.bin`.
///
/// Inputs: `input_ids`, `attention_mask` (past and new tokens) and `position_ids`, i64 `[batch, tokens]`; `beam_idx`, i32
/// `[batch]`, the sequence that each goes on from. Output: `logits`, f32. The state is in variables
/// `past_key_values.{layer}.keypresent.{layer}.key`, and `value` likewise.
///
/// The embedding table and the output matrix are in eight bits where the rest is in four: they decide over every token.
///
/// # Errors
/// If the model is not supported, a file cannot be read or written, or `progress` breaks.
pub fn write_ir(
    file: &ModelFile,
    weights: WeightFormat,
    rows: LogitRows,
    directory: &Path,
    progress: &mut Progress<'_>,
) -> Result<(), Error> {
    let graph = decoder::graph(file)?;
    let ends = match weights {
        WeightFormat::F16 => Coding::F16,
        WeightFormat::Int4(_) | WeightFormat::Int8 => Coding::Int8,
    };
    let of = |matrix: &Matrix<'_>| Coding::of(weights, matrix.n_in);
    let layers = graph.matrices().map(|matrix| (matrix, of(matrix)));
    let ends = [Some(&graph.table), graph.head.as_ref()]
        .into_iter()
        .flatten()
        .map(|matrix| (matrix, ends));
    let mut data = DataFile::create(&directory.join("model.bin"))?;
    let stored = store(
        layers.chain(ends),
        ir::DIALECT,
        &mut data,
        &mut counted(&graph, true, progress),
    )?;
    let document = ir::model(&graph, &stored, &mut data, rows)?;
    data.persist()?;
    write_file(&directory.join("model.xml"), document.as_bytes())
}

/// Writes a model in its static form: a `{name}.onnx` for each of `graphs`, and one file with weights for all of them.
///
/// # Errors
/// If the model is not supported, a file cannot be read or written, or `progress` breaks.
pub fn write_onnx(
    file: &ModelFile,
    weights: WeightFormat,
    activations: Activations,
    graphs: &[StaticGraph<'_>],
    directory: &Path,
    progress: &mut Progress<'_>,
) -> Result<(), Error> {
    let graph = decoder::graph(file)?;
    let head = graph.head.as_ref().unwrap_or(&graph.table);
    let matrices = graph.matrices().chain([head]);
    let mut data = DataFile::create(&directory.join(ONNX_DATA))?;
    let stored = store(
        matrices.map(|matrix| (matrix, Coding::of(weights, matrix.n_in))),
        onnx::dialect(activations),
        &mut data,
        &mut counted(&graph, graph.head.is_none(), progress),
    )?;
    data.persist()?;
    for StaticGraph { name, shape } in graphs {
        let model = onnx::model(&graph, *shape, activations, &stored, ONNX_DATA);
        write_file(&directory.join(format!("{name}.onnx")), &model)?;
    }
    Ok(())
}

/// Sums the bytes that were read, and asks whether to go on.
fn counted<'p>(
    graph: &Graph<'_>,
    with_table: bool,
    progress: &'p mut Progress<'_>,
) -> impl FnMut(u64) -> Result<(), Error> + 'p {
    let ends = [with_table.then_some(&graph.table), graph.head.as_ref()];
    let matrices = graph.matrices().chain(ends.into_iter().flatten());
    let total = matrices.map(Matrix::bytes).sum();
    let mut done = 0;
    move |bytes| {
        done += bytes;
        let phase = Phase::Lower;
        match progress(CompileProgress { phase, done, total }) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(Cancelled) => Err(Error::Cancelled),
        }
    }
}
