//! A model behind a pair of static graphs: a [`Resident`] whose KV cache is the host's.
//!
//! One graph reads a chunk of a prompt, the other a token; both take the past as input, so sequences come one after the
//! other, each with what is staged of it. Keys and values that a run gives go to the cache as f16, and from there to later
//! runs: what a sequence computes does not depend on who had it before.

use std::ops::Range;

use half::f16;
use half::slice::HalfFloatSliceExt as _;
use troika_base::{Bytes, ModelSpec, TokenId};
use troika_device::{
    Abilities, Batch, Error, Hidden, Interrupt, KvShape, Logits, Output, Outputs, PAGE_TOKENS,
    Resident, Sequence,
};

use super::cache::Cache;
use super::graph::{Computed, Feed, Graph};
use super::staging::Staging;
use crate::lower::Host;

/// What a run of a whole chunk takes, in runs of one token. A chip that reads weights once for either is short of
/// arithmetic in a chunk; where that begins depends on the chip. A guess that costs time, and never a result, where it is
/// wrong.
const CHUNK_COST: usize = 8;

/// A model's pair of graphs, with what goes in and out.
pub(super) struct Pair {
    pub(super) prefill: Graph,
    pub(super) decode: Graph,
    /// Tokens of a sequence, at most.
    pub(super) n_ctx: usize,
}

/// A model on a device that ONNX graphs run on.
pub(super) struct GraphResident {
    device: String,
    host: Host,
    pair: Pair,
    weights: Bytes,
    cache: Cache,
    /// Most recently used last.
    staged: Vec<Staging>,
    interrupt: Interrupt,
}

impl GraphResident {
    /// A model with room for as many sequences of the pair's length as there are slots.
    pub(super) fn new(
        device: String,
        host: Host,
        pair: Pair,
        weights: Bytes,
        slots: usize,
    ) -> Self {
        let spec = host.spec();
        let shape = KvShape::of(spec);
        let staging = || Staging::new(shape, pair.n_ctx - 1);
        Self {
            cache: Cache::new(shape, slots * pair.n_ctx.div_ceil(PAGE_TOKENS)),
            staged: std::iter::repeat_with(staging).take(slots).collect(),
            device,
            host,
            pair,
            weights,
            interrupt: Interrupt::default(),
        }
    }

    fn check(&self, batch: &Batch<'_>) -> Result<(), Error> {
        if batch.sequences.is_empty() {
            return refuse("it has no sequences".to_owned());
        }
        for (i, sequence) in batch.sequences.iter().enumerate() {
            self.check_sequence(sequence)
                .or_else(|reason| refuse(format!("sequence {i} {reason}")))?;
        }
        Ok(())
    }

    fn check_sequence(&self, sequence: &Sequence<'_>) -> Result<(), String> {
        if sequence.tokens.is_empty() {
            return Err("has no tokens".to_owned());
        }
        let n_vocab = self.host.spec().n_vocab;
        let beyond = |token: &&TokenId| token.index() >= n_vocab;
        if let Some(token) = sequence.tokens.iter().find(beyond) {
            return Err(format!("has token {token} of a vocabulary of {n_vocab}"));
        }
        let end = sequence.position.saturating_add(sequence.tokens.len());
        let (have, need) = (sequence.pages.len(), end.div_ceil(PAGE_TOKENS));
        if have < need {
            return Err(format!("has {have} pages and needs {need}"));
        }
        let n_page = self.cache.n_page();
        if let Some(page) = sequence.pages.iter().find(|&&page| page >= n_page) {
            return Err(format!("has page {page} of a cache of {n_page}"));
        }
        match self.pair.n_ctx {
            n_ctx if end > n_ctx => Err(format!(
                "comes to {end} tokens, and the model was compiled for {n_ctx}"
            )),
            _ => Ok(()),
        }
    }

    /// Reads a sequence's tokens, and adds what it asks for.
    fn read(&mut self, sequence: &Sequence<'_>, outputs: &mut Outputs) -> Result<(), Error> {
        let n_tok = sequence.tokens.len();
        let (logits, hidden) = (sequence.output.logits(n_tok), sequence.output.hidden(n_tok));
        let most = match sequence.output {
            // A run gives logits of one token.
            Output::AllLogits => 1,
            _ => self.pair.prefill.n_new(),
        };
        let n_embd = self.host.spec().n_embd;
        for run in runs(n_tok, most) {
            self.interrupt.check()?;
            let computed = self.run(sequence, run.clone())?;
            if logits.contains(&(run.end - 1)) {
                outputs.logits.values.extend_from_slice(&computed.logits);
            }
            let wanted = run.start.max(hidden.start)..run.end.min(hidden.end);
            for token in wanted {
                let row = &computed.hidden[(token - run.start) * n_embd..][..n_embd];
                outputs.hidden.values.extend_from_slice(row);
            }
        }
        Ok(())
    }

    /// Computes some of a sequence's tokens, and writes their keys and values to the cache.
    fn run(&mut self, sequence: &Sequence<'_>, run: Range<usize>) -> Result<Computed, Error> {
        let position = sequence.position + run.start;
        let tokens = &sequence.tokens[run];
        self.stage(sequence.pages, position);
        let graph = match tokens.len() {
            1 => &mut self.pair.decode,
            _ => &mut self.pair.prefill,
        };
        let staged = self.staged.last().expect("there is a slot. This is a bug.");
        let feed = feed(&self.host, graph.n_new(), tokens, position);
        let computed = graph.run(feed, staged).map_err(|error| Error::Failed {
            device: self.device.clone(),
            reason: format!("{}: {error}", graph.library()),
        })?;
        let n_new = graph.n_new();
        for i in 0..tokens.len() {
            self.keep(sequence.pages, position + i, &computed, i, n_new);
        }
        Ok(computed)
    }

    /// Puts what a sequence has behind it at a position into the last of the slots.
    fn stage(&mut self, pages: &[usize], n_tok: usize) {
        // The one that has most of it; if each has something else, the one that was not used for longest.
        let slots = self.staged.iter().enumerate().rev();
        let best = slots.max_by_key(|(_, staged)| staged.holds_alone(pages));
        let best = best.map_or(0, |(slot, _)| slot);
        self.staged[best..].rotate_left(1);
        let staged = self
            .staged
            .last_mut()
            .expect("there is a slot. This is a bug.");
        let order = |from: &[f16], to: &mut [f16]| self.host.key_to_graph(from, to);
        staged.bring(&self.cache, pages, n_tok, order);
    }

    /// Writes keys and values of the token `i` of a run of `n_new`.
    fn keep(
        &mut self,
        pages: &[usize],
        position: usize,
        computed: &Computed,
        i: usize,
        n_new: usize,
    ) {
        let head_dim = self.cache.shape().head_dim;
        let mut narrow = vec![f16::ZERO; head_dim];
        let token = self.cache.token_mut(pages, position);
        let heads = computed.new.iter().enumerate().flat_map(|(part, values)| {
            let heads = values.chunks_exact(n_new * head_dim);
            heads.map(move |head| (part, &head[i * head_dim..][..head_dim]))
        });
        for ((part, from), to) in heads.zip(token.chunks_exact_mut(head_dim)) {
            match part % 2 {
                0 => {
                    narrow.convert_from_f32_slice(from);
                    self.host.key_from_graph(&narrow, to);
                }
                _ => to.convert_from_f32_slice(from),
            }
        }
        self.forget(pages[position / PAGE_TOKENS], position % PAGE_TOKENS);
    }

    fn forget(&mut self, page: usize, place: usize) {
        self.staged
            .iter_mut()
            .for_each(|staged| staged.forget(page, place));
    }
}

fn refuse<T>(reason: String) -> Result<T, Error> {
    Err(Error::Batch { reason })
}

/// Which runs compute some tokens, with at most so many in one: whole chunks, and for the rest what is less work, one
/// token at a time or a chunk that is not full.
fn runs(n_tok: usize, most: usize) -> Vec<Range<usize>> {
    let whole = n_tok / most * most;
    let chunks = (0..whole).step_by(most).map(|start| start..start + most);
    let mut runs: Vec<Range<usize>> = chunks.collect();
    match n_tok - whole {
        rest if rest <= CHUNK_COST => runs.extend((whole..n_tok).map(|token| token..token + 1)),
        _ => runs.push(whole..n_tok),
    }
    runs
}

/// What a graph for `n_new` tokens is fed for some, the first of them at this position. What is not filled comes behind,
/// where no other token sees it.
fn feed(host: &Host, n_new: usize, tokens: &[TokenId], position: usize) -> Feed {
    let (n_embd, head_dim) = (host.spec().n_embd, host.spec().head_dim);
    let mut feed = Feed {
        x: vec![0.0; n_new * n_embd],
        cos: vec![0.0; n_new * head_dim],
        sin: vec![0.0; n_new * head_dim],
        n_past: position,
        row: tokens.len() - 1,
    };
    let positions: Vec<usize> = (position..position + tokens.len()).collect();
    let filled = tokens.len() * head_dim;
    host.embed(tokens, &mut feed.x[..tokens.len() * n_embd]);
    host.rotations(&positions, &mut feed.cos[..filled], &mut feed.sin[..filled]);
    feed
}

impl Resident for GraphResident {
    /// A run gives logits of one token.
    fn abilities(&self) -> Abilities {
        Abilities {
            drafts: false,
            ..Abilities::ALL
        }
    }

    fn spec(&self) -> &ModelSpec {
        self.host.spec()
    }

    fn n_page(&self) -> usize {
        self.cache.n_page()
    }

    fn weights_bytes(&self) -> Bytes {
        self.weights
    }

    fn kv_shape(&self) -> KvShape {
        self.cache.shape()
    }

    fn step(&mut self, batch: &Batch<'_>) -> Result<Outputs, Error> {
        self.check(batch)?;
        let ModelSpec {
            n_vocab, n_embd, ..
        } = *self.host.spec();
        let mut outputs = Outputs {
            logits: Logits {
                n_vocab,
                values: Vec::with_capacity(batch.logit_rows().len() * n_vocab),
            },
            hidden: Hidden {
                n_embd,
                values: Vec::with_capacity(batch.hidden_rows().len() * n_embd),
            },
        };
        for sequence in batch.sequences {
            self.read(sequence, &mut outputs)?;
        }
        Ok(outputs)
    }

    fn copy_page(&mut self, from: usize, to: usize) {
        self.cache.copy_page(from, to);
        self.forget(to, 0);
    }

    fn read_kv(
        &mut self,
        pages: &[usize],
        tokens: Range<usize>,
        out: &mut [f16],
    ) -> Result<(), Error> {
        self.cache.read(pages, tokens, out)
    }

    fn write_kv(
        &mut self,
        pages: &[usize],
        tokens: Range<usize>,
        values: &[f16],
    ) -> Result<(), Error> {
        self.cache.write(pages, tokens.clone(), values)?;
        for position in tokens {
            self.forget(pages[position / PAGE_TOKENS], position % PAGE_TOKENS);
        }
        Ok(())
    }

    fn interrupt(&self) -> Option<Interrupt> {
        Some(self.interrupt.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_go_in_chunks_and_what_is_left_as_is_less_work() {
        assert_eq!(runs(1, 64), vec![0..1]);
        assert_eq!(runs(3, 1), [0..1, 1..2, 2..3]);
        assert_eq!(runs(64, 64), vec![0..64]);
        assert_eq!(runs(66, 64), [0..64, 64..65, 65..66]);
        assert_eq!(runs(140, 64), [0..64, 64..128, 128..140]);
        for (n_tok, most) in (1..200).flat_map(|n_tok| [1, 2, 7, 64].map(|most| (n_tok, most))) {
            let runs = runs(n_tok, most);
            assert_eq!(runs.first().map(|run| run.start), Some(0));
            assert_eq!(runs.last().map(|run| run.end), Some(n_tok));
            assert!(runs.windows(2).all(|two| two[0].end == two[1].start));
            assert!(runs.iter().all(|run| !run.is_empty() && run.len() <= most));
        }
    }
}
