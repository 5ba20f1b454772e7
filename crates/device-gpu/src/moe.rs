//! Mixtures of experts: each token's experts and weights, each expert's tokens, and the weighted sum of what the experts
//! made of them. The experts' own matrices are the business of `matmul`.
//!
//! An *assignment* is a token's i-th expert and has the number `token * n_used + i`: the experts' outputs are rows in
//! this order, and lists of rows hold these numbers.

use troika_device::Error;

use crate::buffer::ScratchBuffer;
use crate::kernels::Moe;
use crate::{Bind, Buffer, Key, Recorder, Scratch, Tensor};

/// How logits become scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scores {
    /// Over all experts.
    Softmax,
    /// Each for itself.
    Sigmoid,
}

/// How a model chooses among its experts.
#[derive(Clone, Copy, Debug)]
pub struct Routing<'b> {
    /// What is compared.
    pub scores: Scores,
    /// Experts that a token goes to.
    pub n_used: usize,
    /// Whether the weights of the chosen add up to one. A softmax over the logits of the chosen alone is the same as
    /// [`Scores::Softmax`] with this.
    pub normalised: bool,
    /// Multiplies the weights: 1 for most.
    pub scale: f32,
    /// Added to the scores where experts are chosen, `[n_expert]` f32; not to their weights.
    pub bias: Option<&'b Buffer>,
}

/// Experts of tokens.
#[derive(Debug)]
pub struct Routes {
    /// Which, `[n_tok, n_used]` u32, the best first.
    pub ids: ScratchBuffer,
    /// How much each counts, `[n_tok, n_used]` f32.
    pub weights: ScratchBuffer,
    /// Tokens.
    pub n_tok: usize,
    /// Experts of each.
    pub n_used: usize,
    /// Experts there are.
    pub n_expert: usize,
}

impl Routes {
    /// Tokens times experts of each.
    pub fn n_assignment(&self) -> usize {
        self.n_tok * self.n_used
    }
}

/// Chooses the experts of each token by its row of `logits` `[n_tok, n_expert]`; among equals, the lower number.
///
/// # Errors
/// [`Error::OutOfMemory`], and [`Error::Failed`] if the kernel does not compile.
///
/// # Panics
/// If there are more experts than [`Moe::EXPERTS`], or fewer than a token wants.
pub fn route(
    recorder: &mut Recorder,
    scratch: &Scratch,
    logits: &Tensor,
    routing: &Routing<'_>,
) -> Result<Routes, Error> {
    let (n_tok, n_expert, n_used) = (logits.n_tok(), logits.width(), routing.n_used);
    assert!(n_expert <= Moe::EXPERTS as usize, "{n_expert} experts");
    assert!((1..=n_expert).contains(&n_used), "{n_used} of {n_expert}");
    let words = n_tok * n_used * size_of::<u32>();
    let (ids, weights) = (scratch.take(words)?, scratch.take(words)?);
    let bias = routing.bias.map_or(logits.bind(), Bind::whole);
    let binds = [
        Bind::whole(&ids),
        Bind::whole(&weights),
        logits.bind(),
        bias,
    ];
    let params = [
        n_expert as u32,
        logits.width() as u32,
        n_used as u32,
        u32::from(routing.scores == Scores::Sigmoid),
        u32::from(routing.normalised),
        u32::from(routing.bias.is_some()),
        routing.scale.to_bits(),
    ];
    let grid = [n_tok as u32, 1, 1];
    recorder.dispatch(Key::Moe(Moe::Route), &binds, &params, grid)?;
    Ok(Routes {
        ids,
        weights,
        n_tok,
        n_used,
        n_expert,
    })
}

/// The assignments of each expert.
#[derive(Debug)]
pub struct Lists {
    /// Where each expert's list begins and the last one ends, `[n_expert + 1]` u32; then the lists,
    /// `[n_tok * n_used]` u32: assignments by expert, in their order.
    pub buffer: ScratchBuffer,
    /// Experts.
    pub n_expert: usize,
    /// Assignments.
    pub n_assignment: usize,
}

/// Sorts the assignments by expert.
///
/// # Errors
/// As [`route`].
pub fn lists(recorder: &mut Recorder, scratch: &Scratch, routes: &Routes) -> Result<Lists, Error> {
    let (n_expert, n_assignment) = (routes.n_expert, routes.n_assignment());
    let buffer = scratch.take((n_expert + 1 + n_assignment) * size_of::<u32>())?;
    let binds = [Bind::whole(&buffer), Bind::whole(&routes.ids)];
    let params = [n_assignment as u32, n_expert as u32];
    let grid = [n_expert as u32, 1, 1];
    recorder.dispatch(Key::Moe(Moe::Lists), &binds, &params, grid)?;
    Ok(Lists {
        buffer,
        n_expert,
        n_assignment,
    })
}

/// The lists in tiles of some rows each.
#[derive(Debug)]
pub struct Tiles {
    /// For each tile four u32: its expert, where in the lists (behind the beginnings) it begins, its rows, and 0. Tiles
    /// without rows are at the end.
    pub buffer: ScratchBuffer,
    /// Tiles, those without rows among them: how the experts share the rows is known to the GPU alone.
    pub n_tile: usize,
}

/// Cuts the lists into tiles of at most `height` rows, none with rows of two experts.
///
/// # Errors
/// As [`route`].
pub fn tiles(
    recorder: &mut Recorder,
    scratch: &Scratch,
    lists: &Lists,
    height: usize,
) -> Result<Tiles, Error> {
    // Each expert that has rows has one tile that is not full, at most.
    let n_tile = lists.n_assignment / height + lists.n_expert.min(lists.n_assignment);
    let buffer = scratch.take(n_tile * 4 * size_of::<u32>())?;
    let binds = [Bind::whole(&buffer), Bind::whole(&lists.buffer)];
    let params = [lists.n_expert, height, n_tile].map(|size| size as u32);
    recorder.dispatch(Key::Moe(Moe::Tiles), &binds, &params, [1, 1, 1])?;
    Ok(Tiles { buffer, n_tile })
}

/// `out[t] = Σ weights[t, i] * y[t * n_used + i]` over the experts of each token, or `out[t] +=` that much with `add`:
/// `y` is `[n_tok * n_used, width]`, `out` `[n_tok, width]`.
///
/// # Errors
/// As [`route`].
pub fn combine(
    recorder: &mut Recorder,
    y: &Tensor,
    routes: &Routes,
    out: &Tensor,
    add: bool,
) -> Result<(), Error> {
    assert_eq!(y.n_tok(), routes.n_assignment(), "a row per assignment");
    let shape = |tensor: &Tensor| (tensor.n_tok(), tensor.width());
    assert_eq!(shape(out), (routes.n_tok, y.width()), "a row per token");
    let n_vec = out.len() / 4;
    let params = [n_vec, y.width() / 4, routes.n_used, usize::from(add)].map(|n| n as u32);
    let binds = [out.bind(), y.bind(), Bind::whole(&routes.weights)];
    recorder.dispatch(
        Key::Moe(Moe::Combine),
        &binds,
        &params,
        Moe::combine_grid(n_vec),
    )
}
