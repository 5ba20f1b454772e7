//! A model behind a graph that keeps its own memory: a [`Resident`] whose cache holds tokens.
//!
//! OpenVINO's C interface shows nothing of what a stateful graph remembers. So a page of the cache holds the tokens that
//! were read into it, and each of a few *conversations* remembers keys and values of the text that it has read. A step
//! goes on with a conversation that has read what stands before it on the sequence's pages; where none has, the one that
//! was not used for longest begins anew with all of the text. Results are the same either way. What one step can hold
//! at the same time without reading anything twice is the number of conversations.
//!
//! Keys and values are not to be had, nor hidden states: [`Abilities`] say so.

use std::ops::Range;

use troika_base::{Bytes, ModelSpec, TokenId};
use troika_device::{
    Abilities, Batch, Error, Hidden, Interrupt, KvShape, Logits, Output, Outputs, PAGE_TOKENS,
    Resident, Sequence, f16,
};

use super::reading::{Manner, furthest};

/// A graph that can be talked to several times over.
pub(super) trait Graph: Send {
    /// What a conversation with it is.
    type Conversation: Conversation;

    /// How it reads.
    fn manner(&self) -> Manner;

    /// A conversation that has read nothing.
    fn begin(&self) -> Result<Self::Conversation, crate::Error>;
}

/// Remembers what it has read.
pub(super) trait Conversation: Send {
    /// Reads tokens that come behind those it has read, or, at position 0, the first ones. Adds the logits of the last
    /// one to `logits`, if they are wanted. Returns whether it came to the end, or heard `interrupt` and remembers nothing
    /// that can be used.
    fn read(
        &mut self,
        tokens: &[TokenId],
        position: usize,
        logits: Option<&mut Vec<f32>>,
        interrupt: &Interrupt,
    ) -> Result<bool, crate::Error>;
}

/// The C library shows no state, and the plugin takes no second output.
pub(super) const ABILITIES: Abilities = Abilities {
    kv: false,
    hidden: false,
    drafts: false,
};

/// On a page, where no token is.
const NOTHING: TokenId = TokenId(u32::MAX);

/// A conversation and the text that it has read.
struct Slot<C> {
    conversation: Option<C>,
    read: Vec<TokenId>,
    /// When it was, as the resident counts.
    used: u64,
}

/// A model on a device of OpenVINO's.
pub(super) struct GraphResident<G: Graph> {
    device: String,
    spec: ModelSpec,
    weights: Bytes,
    graph: G,
    pages: Vec<[TokenId; PAGE_TOKENS]>,
    slots: Vec<Slot<G::Conversation>>,
    clock: u64,
    interrupt: Interrupt,
}

impl<G: Graph> GraphResident<G> {
    /// A model with room for as many conversations of the graph's length as there are slots.
    pub(super) fn new(
        device: String,
        spec: ModelSpec,
        weights: Bytes,
        graph: G,
        n_slot: usize,
    ) -> Self {
        let n_page = n_slot * graph.manner().n_ctx.div_ceil(PAGE_TOKENS);
        let slot = || Slot {
            conversation: None,
            read: Vec::new(),
            used: 0,
        };
        Self {
            device,
            spec,
            weights,
            graph,
            pages: vec![[NOTHING; PAGE_TOKENS]; n_page],
            slots: std::iter::repeat_with(slot).take(n_slot).collect(),
            clock: 0,
            interrupt: Interrupt::default(),
        }
    }

    fn check(&self, batch: &Batch<'_>) -> Result<(), Error> {
        if batch.sequences.is_empty() {
            return refuse("it has no sequences".to_owned());
        }
        for (i, sequence) in batch.sequences.iter().enumerate() {
            self.check_sequence(i, sequence)?;
        }
        Ok(())
    }

    fn check_sequence(&self, i: usize, sequence: &Sequence<'_>) -> Result<(), Error> {
        if sequence.tokens.is_empty() {
            return refuse(format!("sequence {i} has no tokens"));
        }
        if matches!(sequence.output, Output::LastHidden | Output::AllHidden) {
            let device = &self.device;
            return refuse(format!(
                "sequence {i} asks for hidden states, and a graph on {device} gives logits alone; run embeddings on \
                 another device"
            ));
        }
        let n_vocab = self.spec.n_vocab;
        let beyond = |token: &&TokenId| token.index() >= n_vocab;
        if let Some(token) = sequence.tokens.iter().find(beyond) {
            return refuse(format!(
                "sequence {i} has token {token} of a vocabulary of {n_vocab}"
            ));
        }
        let end = sequence.position.saturating_add(sequence.tokens.len());
        let (have, need) = (sequence.pages.len(), end.div_ceil(PAGE_TOKENS));
        if have < need {
            return refuse(format!("sequence {i} has {have} pages and needs {need}"));
        }
        let n_page = self.pages.len();
        if let Some(page) = sequence.pages.iter().find(|&&page| page >= n_page) {
            return refuse(format!(
                "sequence {i} has page {page} of a cache of {n_page}"
            ));
        }
        let n_ctx = self.graph.manner().n_ctx;
        if end > n_ctx {
            return refuse(format!(
                "sequence {i} has {end} tokens, and the graph was compiled for {n_ctx}"
            ));
        }
        match self
            .text(sequence.pages, sequence.position)
            .iter()
            .position(|&token| token == NOTHING)
        {
            None => Ok(()),
            Some(at) => refuse(format!(
                "sequence {i} goes on at {}, and its token {at} was never read here",
                sequence.position
            )),
        }
    }

    /// The first tokens on some pages.
    fn text(&self, pages: &[usize], n_tok: usize) -> Vec<TokenId> {
        let pages = pages.iter().flat_map(|&page| self.pages[page]);
        pages.take(n_tok).collect()
    }

    fn note(&mut self, sequence: &Sequence<'_>) {
        for (position, &token) in (sequence.position..).zip(sequence.tokens) {
            self.pages[sequence.pages[position / PAGE_TOKENS]][position % PAGE_TOKENS] = token;
        }
    }

    /// Brings a conversation to the end of a sequence. Adds the logits that it asks for.
    fn read(&mut self, sequence: &Sequence<'_>, logits: &mut Vec<f32>) -> Result<(), Error> {
        let mut text = self.text(sequence.pages, sequence.position);
        let slot = furthest(self.slots.iter().map(|slot| &*slot.read), &text);
        let kept = slot.map_or(0, |slot| self.slots[slot].read.len());
        text.extend_from_slice(sequence.tokens);
        let rows = sequence.output.logits(sequence.tokens.len());
        let wanted = sequence.position
            + if rows.is_empty() {
                sequence.tokens.len()
            } else {
                rows.start
            };
        let runs = self.graph.manner().runs(kept, wanted, text.len());
        let slot = slot.unwrap_or_else(|| self.longest_unused());
        self.clock += 1;
        self.slots[slot].used = self.clock;
        for run in runs {
            let is_wanted = run.end > wanted;
            self.run(slot, &text, run, is_wanted.then_some(&mut *logits))?;
        }
        Ok(())
    }

    fn longest_unused(&self) -> usize {
        let slots = self.slots.iter().enumerate();
        let found = slots.min_by_key(|(_, slot)| slot.used);
        found.map_or(0, |(i, _)| i)
    }

    fn run(
        &mut self,
        slot: usize,
        text: &[TokenId],
        run: Range<usize>,
        logits: Option<&mut Vec<f32>>,
    ) -> Result<(), Error> {
        self.interrupt.check()?;
        let failed = |error: crate::Error| Error::Failed {
            device: self.device.clone(),
            reason: error.to_string(),
        };
        let restarts = self.graph.manner().restarts;
        let slot = &mut self.slots[slot];
        // Until the run has come to its end, nobody knows what the conversation remembers.
        slot.read.clear();
        if run.start == 0 && !(restarts && run.len() > 1) {
            slot.conversation = None;
        }
        let conversation = match slot.conversation.take() {
            Some(conversation) => conversation,
            None => self.graph.begin().map_err(failed)?,
        };
        let conversation = slot.conversation.insert(conversation);
        let tokens = &text[run.clone()];
        let done = conversation.read(tokens, run.start, logits, &self.interrupt);
        match done {
            Ok(true) => {
                slot.read.extend_from_slice(&text[..run.end]);
                Ok(())
            }
            Ok(false) => {
                slot.conversation = None;
                Err(Error::Interrupted)
            }
            Err(error) => {
                slot.conversation = None;
                Err(failed(error))
            }
        }
    }
}

fn refuse<T>(reason: String) -> Result<T, Error> {
    Err(Error::Batch { reason })
}

impl<G: Graph> Resident for GraphResident<G> {
    fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    fn n_page(&self) -> usize {
        self.pages.len()
    }

    fn weights_bytes(&self) -> Bytes {
        self.weights
    }

    fn kv_shape(&self) -> KvShape {
        KvShape::of(&self.spec)
    }

    fn step(&mut self, batch: &Batch<'_>) -> Result<Outputs, Error> {
        self.check(batch)?;
        self.interrupt.check()?;
        let n_vocab = self.spec.n_vocab;
        let mut values = Vec::with_capacity(batch.logit_rows().len() * n_vocab);
        let reads_at_once = self.graph.manner().prompt.is_some();
        for sequence in batch.sequences {
            self.note(sequence);
            // A graph that reads a prompt from its beginning reads it when all of it is known.
            if sequence.output == Output::Nothing && reads_at_once {
                continue;
            }
            self.read(sequence, &mut values)?;
        }
        Ok(Outputs {
            logits: Logits { n_vocab, values },
            hidden: Hidden::default(),
        })
    }

    fn copy_page(&mut self, from: usize, to: usize) {
        self.pages[to] = self.pages[from];
    }

    fn read_kv(&mut self, _: &[usize], _: Range<usize>, _: &mut [f16]) -> Result<(), Error> {
        Err(self.out_of_reach())
    }

    fn write_kv(&mut self, _: &[usize], _: Range<usize>, _: &[f16]) -> Result<(), Error> {
        Err(self.out_of_reach())
    }

    fn abilities(&self) -> Abilities {
        ABILITIES
    }

    fn interrupt(&self) -> Option<Interrupt> {
        Some(self.interrupt.clone())
    }
}

impl<G: Graph> GraphResident<G> {
    fn out_of_reach(&self) -> Error {
        let device = &self.device;
        Error::Cache {
            reason: format!(
                "a graph on {device} keeps keys and values to itself; what is to go on elsewhere is read anew from its \
                 tokens"
            ),
        }
    }
}

#[cfg(test)]
mod tests;
