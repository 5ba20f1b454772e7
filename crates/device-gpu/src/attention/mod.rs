//! The KV cache and attention.
//!
//! A step begins with a [`Plan`]: what all layers need to know of its tokens. Then every layer turns its queries and
//! keys ([`rotate`]), and [`attend`] stores keys and values in the [`Cache`] and attends to all that is there.

mod cache;
mod key;
mod plan;

pub use cache::{Cache, KvFormat};
pub use key::AttentionKey;
pub use plan::Plan;

use troika_device::Error;

use crate::kernels::{flat, groups};
use crate::{Bind, Buffer, Key, Recorder, Scratch, ScratchBuffer, Tensor};
use key::SIZE;
use plan::{List, Round};

/// What of its past a token attends to, beside being causal.
#[derive(Clone, Copy, Debug, Default)]
pub struct Window<'a> {
    /// The last so many tokens, itself included; all of them where it is `None`.
    pub sliding: Option<usize>,
    /// A logit for each query head, f32, that takes a share of the softmax and gives nothing.
    pub sinks: Option<&'a Buffer>,
}

/// Turns the heads of `x` `[n_tok, n_head * head_dim]` by their tokens' positions, in place. Where nothing is recorded
/// between this and [`attend`], that does it on its way.
///
/// # Errors
/// [`Error::Failed`] if the kernel does not compile.
///
/// # Panics
/// If a shape disagrees.
pub fn rotate(
    recorder: &mut Recorder,
    plan: &Plan,
    x: &Tensor,
    head_dim: usize,
) -> Result<(), Error> {
    assert_eq!(x.n_tok(), plan.n_tok, "the step's tokens");
    assert!(
        x.width().is_multiple_of(head_dim) && 2 * plan.half as usize <= head_dim,
        "whole heads, which have room for the rotation"
    );
    let n_head = x.width() / head_dim;
    let n = x.n_tok() * n_head * plan.half as usize;
    let params = [
        n as u32,
        n_head as u32,
        plan.half,
        plan.rotations,
        plan.pairs,
    ];
    let key = rotation(head_dim);
    let grid = flat(groups(n, SIZE));
    recorder.dispatch_later(key, &[x.buffer(), &plan.words], &params, grid)
}

fn rotation(head_dim: usize) -> Key {
    Key::Attention(AttentionKey::Rotate {
        head_dim: head_dim as u16,
    })
}

/// Stores `k` and `v` `[n_tok, n_head_kv * head_dim]` in a layer of the cache, and attends with `q`
/// `[n_tok, n_head * head_dim]`, scaled by `1/sqrt(head_dim)`, to what each token's sequence has there up to the token
/// itself. `out` is as `q`.
///
/// # Errors
/// [`Error::OutOfMemory`], or [`Error::Failed`] if a kernel does not compile.
///
/// # Panics
/// If a shape disagrees.
#[expect(
    clippy::too_many_arguments,
    reason = "as many as the operation has operands"
)]
pub fn attend(
    recorder: &mut Recorder,
    scratch: &Scratch,
    plan: &Plan,
    cache: &mut Cache,
    layer: usize,
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    out: &Tensor,
    window: Window<'_>,
) -> Result<(), Error> {
    let shape = cache.shape();
    assert_eq!(plan.shape, shape, "a plan for this cache");
    let row = shape.n_head_kv * shape.head_dim;
    let is = |x: &Tensor, width| (x.n_tok(), x.width()) == (plan.n_tok, width);
    assert!(is(k, row) && is(v, row), "keys and values of every token");
    assert!(is(q, out.width()) && is(out, q.width()), "out is as q");
    assert!(q.width().is_multiple_of(row), "heads share keys evenly");
    store(recorder, plan, cache, layer, [q, k, v])?;
    for round in &plan.rounds {
        let n_head = q.width() / shape.head_dim;
        let stats = round.n_part * n_head * shape.head_dim;
        let job = Job {
            plan,
            round,
            cache,
            layer,
            q,
            out,
            window,
            n_head,
            parts: scratch.take((stats + 2 * round.n_part * n_head) * size_of::<f32>())?,
            stats,
        };
        job.alone(recorder)?;
        job.together(recorder)?;
        job.join(recorder)?;
    }
    Ok(())
}

/// Stores keys and values of a step in a layer, and turns keys and queries on the way if that waits to be done.
fn store(
    recorder: &mut Recorder,
    plan: &Plan,
    cache: &Cache,
    layer: usize,
    [q, k, v]: [&Tensor; 3],
) -> Result<(), Error> {
    let shape = cache.shape();
    let mut waits = |x: &Tensor| {
        let buffers: [&Buffer; 2] = [x.buffer(), &plan.words];
        recorder.take_back(rotation(shape.head_dim), &buffers)
    };
    let (turn_queries, turn_keys) = (waits(q), waits(k));
    let n_query = match turn_queries {
        true => q.len() / shape.head_dim,
        false => 0,
    };
    let params = [
        plan.n_tok as u32,
        shape.n_head_kv as u32,
        plan.slots,
        plan.rotations,
        plan.half,
        plan.pairs,
        u32::from(turn_keys),
        n_query as u32,
        0,
        0,
    ];
    let [keys, values] = cache.layer(layer);
    let (k, v, q) = (k.buffer(), v.buffer(), q.buffer());
    let threads = cache.store_threads(plan.n_tok) + n_query * plan.half as usize;
    recorder.dispatch(
        Key::Attention(AttentionKey::Store {
            head_dim: shape.head_dim as u16,
            format: cache.format(),
        }),
        &[keys, values, &plan.words, k, v, q].map(Bind::whole),
        &params,
        flat(groups(threads, SIZE)),
    )
}

/// Attention of a round in one layer, once its keys and values are stored.
struct Job<'a> {
    plan: &'a Plan,
    round: &'a Round,
    cache: &'a Cache,
    layer: usize,
    q: &'a Tensor,
    out: &'a Tensor,
    window: Window<'a>,
    n_head: usize,
    /// What is to be joined: `[n_part][n_head][head_dim]` unfinished sums, then from `stats` on the largest score and
    /// the sum of weights of each.
    parts: ScratchBuffer,
    stats: usize,
}

impl Job<'_> {
    /// Tokens that are computed one by one.
    fn alone(&self, recorder: &mut Recorder) -> Result<(), Error> {
        let sharing = self.n_head / self.cache.shape().n_head_kv;
        let heads = AttentionKey::heads(sharing);
        let key = AttentionKey::Decode {
            head_dim: self.head_dim(),
            format: self.cache.format(),
            heads,
        };
        let tasks = self.round.tasks;
        let workgroups = sharing.div_ceil(usize::from(heads));
        self.attend(recorder, key, tasks, tasks.len, workgroups)
    }

    /// Sequences whose tokens are computed together.
    fn together(&self, recorder: &mut Recorder) -> Result<(), Error> {
        let shape = self.cache.shape();
        let sharing = self.n_head / shape.n_head_kv;
        let rows = AttentionKey::rows(shape.head_dim);
        let blocks =
            |&(n_tok, n_split): &(usize, usize)| (n_tok * sharing).div_ceil(rows) * n_split;
        let n_block: usize = self.round.together.iter().map(blocks).sum();
        let key = AttentionKey::Prefill {
            head_dim: self.head_dim(),
            format: self.cache.format(),
        };
        self.attend(recorder, key, self.round.spans, n_block as u32, 1)
    }

    /// `workgroups` for each head of keys, for each of `n` parts of the work.
    fn attend(
        &self,
        recorder: &mut Recorder,
        key: AttentionKey,
        work: List,
        n: u32,
        workgroups: usize,
    ) -> Result<(), Error> {
        let shape = self.cache.shape();
        let scale = 1.0 / (shape.head_dim as f32).sqrt();
        let params = [
            work.at,
            work.len,
            self.n_head as u32,
            shape.n_head_kv as u32,
            self.window.sliding.unwrap_or(0) as u32,
            u32::from(self.window.sinks.is_some()),
            self.stats as u32,
            scale.to_bits(),
        ];
        let [keys, values] = self.cache.layer(self.layer);
        let (plan, q, out) = (&self.plan.words, self.q.buffer(), self.out.buffer());
        let binds = [keys, values, plan, q, self.sinks(), &self.parts, out].map(Bind::whole);
        let mut grid = flat(n);
        grid[2] = (shape.n_head_kv * workgroups) as u32;
        recorder.dispatch(Key::Attention(key), &binds, &params, grid)
    }

    /// Tokens whose past several workgroups shared.
    fn join(&self, recorder: &mut Recorder) -> Result<(), Error> {
        let params = [
            self.round.joins.at,
            self.round.joins.len,
            self.n_head as u32,
            u32::from(self.window.sinks.is_some()),
            self.stats as u32,
        ];
        let (plan, out) = (&self.plan.words, self.out.buffer());
        let binds = [plan, &self.parts, self.sinks(), out].map(Bind::whole);
        let mut grid = flat(self.round.joins.len);
        grid[2] = self.n_head as u32;
        let key = AttentionKey::Join {
            head_dim: self.head_dim(),
        };
        recorder.dispatch(Key::Attention(key), &binds, &params, grid)
    }

    fn head_dim(&self) -> u16 {
        self.cache.shape().head_dim as u16
    }

    /// The sinks, or anything where there are none: kernels do not look then.
    fn sinks(&self) -> &Buffer {
        self.window.sinks.unwrap_or(&self.plan.words)
    }
}
