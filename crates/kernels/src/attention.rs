//! Attention on all threads.

use crate::dispatch::Kernels;
use crate::float::attention::{Attend, State, padded};
use crate::kv::{KvPages, PAGE_TOKENS};
use crate::pool::{Disjoint, Pool};

/// Consecutive tokens of one sequence in a batch.
#[derive(Clone, Copy, Debug)]
pub struct Span<'a> {
    /// Row of the first token in the batch.
    pub row: usize,
    /// Number of tokens.
    pub n_tok: usize,
    /// Position of the first token in its sequence.
    pub position: usize,
    /// Where the tokens end that every token of the span sees. Where it is `None`, each sees up to itself.
    pub sees: Option<usize>,
    /// The sequence's pages, which hold keys and values up to the last token that is seen.
    pub pages: &'a [usize],
}

/// Tokens of a span that one task handles: enough queries to share each page that is read.
const TASK_TOKENS: usize = 16;

/// Tokens of the cache that are summed on their own before the sums are joined. Fixed, so that the result depends
/// neither on the number of threads nor on how a prompt was cut into batches.
const CHUNK_TOKENS: usize = 1024;

/// What attention needs to know about a layer's input.
#[derive(Clone, Copy, Debug)]
pub struct Attention<'a> {
    /// Which layer of the cache.
    pub layer: usize,
    /// Query heads; a multiple of the cache's KV heads.
    pub n_head: usize,
    /// Multiplies every score, usually `1/sqrt(head_dim)`.
    pub scale: f32,
    /// The last so many tokens are seen, itself included; all of them where it is `None`.
    pub window: Option<usize>,
    /// Bends scores to between minus and plus this: `cap * tanh(score / cap)`.
    pub soft_cap: Option<f32>,
    /// A score for each query head that takes a share of the softmax and gives nothing.
    pub sinks: Option<&'a [f32]>,
    /// The sequences of the batch.
    pub spans: &'a [Span<'a>],
}

/// Attention of `q` `[n_tok, n_head * head_dim]` over the cache, into `y` of the same shape.
///
/// # Panics
/// If a shape disagrees, or a span has too few pages.
pub fn attention(
    kernels: &Kernels,
    pool: &Pool,
    kv: &KvPages,
    attention: &Attention<'_>,
    q: &[f32],
    y: &mut [f32],
) {
    let shape = kv.shape();
    let row = attention.n_head * shape.head_dim;
    assert_eq!(q.len(), y.len(), "y is as q");
    assert!(
        attention.n_head.is_multiple_of(shape.n_head_kv),
        "query heads share KV heads evenly"
    );
    assert!(
        attention
            .sinks
            .is_none_or(|sinks| sinks.len() == attention.n_head),
        "a sink for each query head"
    );
    assert!(attention.window != Some(0), "a token sees itself");
    for span in attention.spans {
        assert!(
            (span.row + span.n_tok) * row <= q.len(),
            "spans lie in the batch"
        );
        assert!(
            span.end().div_ceil(PAGE_TOKENS) <= span.pages.len(),
            "spans have their pages"
        );
    }
    let tasks: Vec<(Span<'_>, usize)> = attention
        .spans
        .iter()
        .flat_map(|span| {
            (0..span.n_tok).step_by(TASK_TOKENS).map(|first| Span {
                row: span.row + first,
                n_tok: TASK_TOKENS.min(span.n_tok - first),
                position: span.position + first,
                sees: span.sees,
                pages: span.pages,
            })
        })
        .flat_map(|span| (0..shape.n_head_kv).map(move |head| (span, head)))
        .collect();
    let chunks = |span: &Span<'_>| {
        let end = span.end().div_ceil(CHUNK_TOKENS);
        attention.first_seen(span.position) / CHUNK_TOKENS..end
    };
    let most_chunks = tasks
        .iter()
        .map(|(span, _)| chunks(span).len())
        .max()
        .unwrap_or(0);
    let y = Disjoint::new(y);
    if tasks.len() >= 4 * pool.threads() || most_chunks <= 1 {
        let work: usize = tasks
            .iter()
            .map(|(span, _)| (span.end() - attention.first_seen(span.position)) * span.n_tok)
            .sum();
        let grain = if work < SMALL_WORK { tasks.len() } else { 1 };
        pool.for_each(tasks.len(), grain, |task| {
            let (span, head) = &tasks[task];
            let query = Query::gather(attention, kv, span, *head, q);
            let sums = chunks(span)
                .map(|chunk| query.chunk(kernels, kv, chunk))
                .reduce(Sums::join);
            query.finish(sums, &y);
        });
        return;
    }
    // Few queries over a long cache: threads share the chunks, then the sums are joined in the same order as above.
    let parts: Vec<(usize, usize)> = tasks
        .iter()
        .enumerate()
        .flat_map(|(task, (span, _))| chunks(span).map(move |chunk| (task, chunk)))
        .collect();
    let sums: Vec<std::sync::OnceLock<Sums>> =
        parts.iter().map(|_| std::sync::OnceLock::new()).collect();
    pool.for_each(parts.len(), 1, |part| {
        let (task, chunk) = parts[part];
        let (span, head) = &tasks[task];
        let done = Query::gather(attention, kv, span, *head, q).chunk(kernels, kv, chunk);
        sums[part].set(done).expect("each part is computed once");
    });
    let mut sums = sums
        .into_iter()
        .map(|sums| sums.into_inner().expect("every part was computed"));
    for (span, head) in &tasks {
        let joined = sums.by_ref().take(chunks(span).len()).reduce(Sums::join);
        Query::gather(attention, kv, span, *head, q).finish(joined, &y);
    }
}

impl Span<'_> {
    /// Where the tokens end that any token of it sees.
    fn end(&self) -> usize {
        self.sees.unwrap_or(self.position + self.n_tok)
    }
}

impl Attention<'_> {
    /// The first position that a token sees.
    fn first_seen(&self, position: usize) -> usize {
        self.window
            .map_or(0, |window| (position + 1).saturating_sub(window))
    }
}

/// Query-key pairs per KV head below which a task list stays on the calling thread.
const SMALL_WORK: usize = 256;

/// The queries of a few tokens that share a KV head, gathered.
struct Query<'a> {
    span: &'a Span<'a>,
    layer: usize,
    head: usize,
    /// Query heads per KV head.
    group: usize,
    head_dim: usize,
    row: usize,
    /// `[n_tok * group][head_dim]`, scaled.
    q: Vec<f32>,
    /// Per query, the tokens it sees: the first, and where they end.
    visible: Vec<(usize, usize)>,
    soft_cap: Option<f32>,
    /// Of the head's queries.
    sinks: Option<&'a [f32]>,
}

/// The softmax state of a [`Query`] over some chunk.
#[derive(Debug)]
struct Sums {
    max: Vec<f32>,
    sum: Vec<f32>,
    out: Vec<f32>,
}

impl<'a> Query<'a> {
    fn gather(
        attention: &Attention<'a>,
        kv: &KvPages,
        span: &'a Span<'a>,
        head: usize,
        q: &[f32],
    ) -> Self {
        let head_dim = kv.shape().head_dim;
        let group = attention.n_head / kv.shape().n_head_kv;
        let row = attention.n_head * head_dim;
        let mut queries = Vec::with_capacity(span.n_tok * group * head_dim);
        for token in 0..span.n_tok {
            let from = &q[(span.row + token) * row + head * group * head_dim..][..group * head_dim];
            queries.extend(from.iter().map(|v| v * attention.scale));
        }
        let visible = (0..span.n_tok * group)
            .map(|query| span.position + query / group)
            .map(|position| {
                let end = span.sees.unwrap_or(position + 1);
                (attention.first_seen(position), end)
            })
            .collect();
        Self {
            span,
            layer: attention.layer,
            head,
            group,
            head_dim,
            row,
            q: queries,
            visible,
            soft_cap: attention.soft_cap,
            sinks: attention.sinks.map(|sinks| &sinks[head * group..][..group]),
        }
    }

    /// The state over tokens `chunk * CHUNK_TOKENS ..` of the sequence.
    fn chunk(&self, kernels: &Kernels, kv: &KvPages, chunk: usize) -> Sums {
        const CHUNK_PAGES: usize = CHUNK_TOKENS / PAGE_TOKENS;
        let end = self.span.end().div_ceil(PAGE_TOKENS);
        let pages = &self.span.pages[chunk * CHUNK_PAGES..end.min((chunk + 1) * CHUNK_PAGES)];
        let n_query = self.visible.len();
        let mut sums = Sums {
            max: vec![f32::NEG_INFINITY; n_query],
            sum: vec![0.0; n_query],
            out: vec![0.0; n_query * padded(self.head_dim)],
        };
        let head = |&page: &usize| kv.head(page, self.layer, self.head);
        let pages: Vec<&[u8]> = pages.iter().map(head).collect();
        let job = Attend {
            q: &self.q,
            visible: &self.visible,
            soft_cap: self.soft_cap,
            layout: kv.shape().head(),
            pages: &pages,
            start: chunk * CHUNK_TOKENS,
        };
        let state = State {
            max: &mut sums.max,
            sum: &mut sums.sum,
            out: &mut sums.out,
        };
        kernels.attend(&job, state);
        sums
    }

    /// Divides by the softmax's sum and writes the outputs to their places in `y`.
    fn finish(&self, sums: Option<Sums>, y: &Disjoint<'_, f32>) {
        let sums = sums.expect("a span has at least one token");
        for (query, out) in sums.out.chunks_exact(padded(self.head_dim)).enumerate() {
            let (token, head) = (
                query / self.group,
                self.head * self.group + query % self.group,
            );
            let at = (self.span.row + token) * self.row + head * self.head_dim;
            // SAFETY: each head of each token is written by the one task that computed it.
            let y = unsafe { y.part(at, self.head_dim) };
            let sum = match self.sinks {
                None => sums.sum[query],
                // A sink far above all scores makes the sum infinite, and the head gives nothing, as it should.
                Some(sinks) => {
                    sums.sum[query] + (sinks[query % self.group] - sums.max[query]).exp()
                }
            };
            for (y, out) in y.iter_mut().zip(out) {
                *y = out / sum;
            }
        }
    }
}

impl Sums {
    /// The state over this chunk and a later one. A query sees something in one of the two: windows are without gaps, and
    /// the queries of a task are too near to each other for more than one chunk to lie between their ends.
    fn join(mut self, later: Self) -> Self {
        let width = self.out.len() / self.max.len();
        for query in 0..self.max.len() {
            let max = self.max[query].max(later.max[query]);
            let (a, b) = (
                (self.max[query] - max).exp(),
                (later.max[query] - max).exp(),
            );
            self.max[query] = max;
            self.sum[query] = self.sum[query] * a + later.sum[query] * b;
            let range = query * width..(query + 1) * width;
            for (out, later) in self.out[range.clone()].iter_mut().zip(&later.out[range]) {
                *out = *out * a + later * b;
            }
        }
        self
    }
}
