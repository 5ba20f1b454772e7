//! What all layers of a step need to know of its tokens: uploaded once.
//!
//! One buffer of words, so that kernels bind one: rotations, slots, pages, and who computes what.

use troika_device::{Batch, Error, KvShape, PAGE_TOKENS, Rope, RopePairs, Sequence};

use super::cache::slot;
use super::key::SIZE;
use crate::{Recorder, Scratch, ScratchBuffer};

/// A step's positions, rotations, slots and pages, on the GPU.
#[derive(Debug)]
pub struct Plan {
    pub(super) words: ScratchBuffer,
    pub(super) n_tok: usize,
    pub(super) shape: KvShape,
    /// As `rotate.wgsl` names them.
    pub(super) pairs: u32,
    /// Pairs of a head that turn.
    pub(super) half: u32,
    /// `[n_tok][half][cosine, sine]`, f32.
    pub(super) rotations: u32,
    /// `[n_tok]`: page times its tokens, plus the place in the page.
    pub(super) slots: u32,
    /// The step's sequences: all of them in one round, but for large steps over long pasts.
    pub(super) rounds: Vec<Round>,
}

/// Sequences that are computed at once.
#[derive(Debug)]
pub(super) struct Round {
    /// Tokens that are computed alone: `Task` of `attention_decode.wgsl`.
    pub(super) tasks: List,
    /// Sequences whose tokens are computed together: `Span` of `attention_prefill.wgsl`.
    pub(super) spans: List,
    /// Of each of those, tokens and ranges that their past is cut into.
    pub(super) together: Vec<(usize, usize)>,
    /// Tokens whose past several workgroups share: token, first part, parts.
    pub(super) joins: List,
    /// Parts of all of them.
    pub(super) n_part: usize,
}

/// A list in the buffer: where it begins, and its items.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct List {
    pub(super) at: u32,
    pub(super) len: u32,
}

/// Workgroups that share one token's past, for each head of keys. Enough to keep a large GPU busy with one sequence;
/// more would have more to join.
const MAX_SPLITS: usize = 64;

/// Tokens of a sequence in a step up to which each is computed alone, its past shared by several workgroups.
const MAX_ALONE: usize = 4;

/// Tokens times ranges of a sequence that are computed together, if its past is long: workgroups for a large GPU, too.
const MAX_SHARES: usize = 128;

/// Tokens of a range, at least, where tokens are computed together.
const MIN_RANGE: usize = 256;

/// Parts of a round, so that they take tens of megabytes at most; workgroups enough for any GPU.
const ROUND_PARTS: usize = 1024;

/// Parts of a sequence, at most.
const SEQUENCE_PARTS: usize = MAX_ALONE * MAX_SPLITS;
const _: () = assert!(MAX_SHARES <= SEQUENCE_PARTS && SEQUENCE_PARTS <= ROUND_PARTS);

/// What workgroups need to share for tokens to be computed together.
const MIN_WORKGROUP_MEMORY: u64 = 32 << 10;

/// Ranges that the past of each of `n_tok` tokens of a sequence is cut into, up to where the last sees `visible`: by the
/// sequence alone, so that no neighbour matters.
fn splits(n_tok: usize, visible: usize) -> usize {
    match n_tok <= MAX_ALONE {
        true => visible.div_ceil(SIZE as usize).min(MAX_SPLITS),
        false => visible.div_ceil(MIN_RANGE).min(MAX_SHARES / n_tok).max(1),
    }
}

impl Plan {
    /// Uploads what the batch's steps through all layers need.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    ///
    /// # Panics
    /// If a sequence lacks pages.
    pub fn new(
        recorder: &mut Recorder,
        scratch: &Scratch,
        batch: &Batch<'_>,
        rope: &Rope,
        shape: KvShape,
    ) -> Result<Self, Error> {
        // Rotations are the first words.
        let mut words = rotations(batch, rope);
        let slots = words.len() as u32;
        words.extend(batch.sequences.iter().flat_map(slots_of));
        let alone = match recorder.gpu().caps().workgroup_memory.0 < MIN_WORKGROUP_MEMORY {
            true => usize::MAX,
            false => MAX_ALONE,
        };
        let rounds = drafts(batch, alone, &mut words);
        let rounds = rounds
            .into_iter()
            .map(|round| round.listed(&mut words))
            .collect();
        let buffer = scratch.take(size_of_val(&words[..]))?;
        recorder.write(&buffer, 0, bytemuck::cast_slice(&words));
        Ok(Self {
            words: buffer,
            n_tok: batch.n_tok(),
            shape,
            pairs: match rope.pairs {
                RopePairs::Adjacent => 1,
                RopePairs::Halves => 2,
            },
            half: rope.frequencies.len() as u32,
            rotations: 0,
            slots,
            rounds,
        })
    }

    /// Tokens of the step.
    pub fn n_tok(&self) -> usize {
        self.n_tok
    }
}

impl List {
    fn push<const N: usize>(words: &mut Vec<u32>, items: &[[u32; N]]) -> Self {
        let at = words.len() as u32;
        words.extend(items.as_flattened());
        Self {
            at,
            len: items.len() as u32,
        }
    }
}

/// A cosine and a sine for each pair of every token, as the bits of f32.
///
/// Angles are computed in f64: in f32 a position of 100,000 would be off by a hundredth of a radian.
fn rotations(batch: &Batch<'_>, rope: &Rope) -> Vec<u32> {
    let of_pair = |position: usize, frequency: f64| {
        let (sine, cosine) = (position as f64 * frequency).sin_cos();
        [cosine, sine].map(|x| ((x * rope.magnitude) as f32).to_bits())
    };
    let of_token = |position: usize| {
        let frequencies = rope.frequencies.iter();
        frequencies.flat_map(move |&frequency| of_pair(position, frequency))
    };
    batch.positions().into_iter().flat_map(of_token).collect()
}

/// Where the tokens of a step lie.
fn slots_of<'a>(sequence: &Sequence<'a>) -> impl Iterator<Item = u32> + use<'a> {
    let pages = sequence.pages;
    let positions = sequence.position..sequence.position + sequence.tokens.len();
    positions.map(move |position| slot(pages, position))
}

/// Writes every sequence's pages to `words`, and says who computes what. Sequences of up to `alone` tokens are computed
/// token by token.
fn drafts(batch: &Batch<'_>, alone: usize, words: &mut Vec<u32>) -> Vec<Draft> {
    let mut rounds = vec![Draft::default()];
    let mut row = 0;
    for sequence in batch.sequences {
        let n_tok = sequence.tokens.len();
        let n_page = (sequence.position + n_tok).div_ceil(PAGE_TOKENS);
        let pages = words.len();
        words.extend(sequence.pages[..n_page].iter().map(|&page| page as u32));
        if rounds.last().is_some_and(Draft::is_full) {
            rounds.push(Draft::default());
        }
        if let Some(round) = rounds.last_mut() {
            match n_tok <= alone {
                true => round.alone(sequence, row, pages),
                false => round.together(sequence, row, pages),
            }
        }
        row += n_tok;
    }
    rounds
}

/// A round, before it is words.
#[derive(Debug, Default)]
struct Draft {
    tasks: Vec<[u32; 6]>,
    spans: Vec<[u32; 6]>,
    together: Vec<(usize, usize)>,
    joins: Vec<[u32; 3]>,
    n_part: usize,
}

impl Draft {
    fn is_full(&self) -> bool {
        self.n_part + SEQUENCE_PARTS > ROUND_PARTS
    }

    fn together(&mut self, sequence: &Sequence<'_>, row: usize, pages: usize) {
        let n_tok = sequence.tokens.len();
        let n_split = splits(n_tok, sequence.position + n_tok);
        let span = [row, n_tok, sequence.position, n_split, pages, self.n_part];
        self.spans.push(span.map(|n| n as u32));
        self.together.push((n_tok, n_split));
        (row..row + n_tok).for_each(|row| self.join(row, n_split));
    }

    fn alone(&mut self, sequence: &Sequence<'_>, row: usize, pages: usize) {
        let n_tok = sequence.tokens.len();
        for token in 0..n_tok {
            let visible = sequence.position + token + 1;
            let n_split = splits(n_tok, visible);
            let task = |split| [row + token, split, n_split, visible, pages, self.n_part];
            let tasks = (0..n_split).map(|split| task(split).map(|n| n as u32));
            self.tasks.extend(tasks);
            self.join(row + token, n_split);
        }
    }

    /// A row's parts, if there are several.
    fn join(&mut self, row: usize, n_split: usize) {
        if n_split > 1 {
            let join = [row, self.n_part, n_split];
            self.joins.push(join.map(|n| n as u32));
            self.n_part += n_split;
        }
    }

    fn listed(self, words: &mut Vec<u32>) -> Round {
        Round {
            tasks: List::push(words, &self.tasks),
            spans: List::push(words, &self.spans),
            joins: List::push(words, &self.joins),
            together: self.together,
            n_part: self.n_part,
        }
    }
}

#[cfg(test)]
mod tests {
    use troika_base::TokenId;
    use troika_device::Output;

    use super::*;

    /// Sequences of these `(position, n_tok)`, drafted.
    fn drafted(lengths: &[(usize, usize)], alone: usize) -> Vec<Draft> {
        let (tokens, pages) = ([TokenId(0); 64], [7; 1000]);
        let sequence = |&(position, n_tok): &(usize, usize)| Sequence {
            tokens: &tokens[..n_tok],
            position,
            pages: &pages,
            output: Output::Nothing,
        };
        let sequences: Vec<_> = lengths.iter().map(sequence).collect();
        let batch = Batch {
            sequences: &sequences,
        };
        drafts(&batch, alone, &mut Vec::new())
    }

    #[test]
    fn every_range_has_a_part_of_its_own() {
        let rounds = drafted(&[(0, 1), (128, 1), (1000, 20), (126, 4)], MAX_ALONE);
        let [round] = &rounds[..] else {
            panic!("{rounds:?}")
        };
        // One token alone, one in two ranges, and four of which the last two see a second tile.
        assert_eq!(round.tasks.len(), 1 + 2 + (1 + 1 + 2 + 2));
        assert_eq!(round.together, [(20, 4)]);
        let mut next = 0;
        for &[_, first, n_part] in &round.joins {
            assert_eq!(first, next);
            next += n_part;
        }
        assert_eq!(next as usize, round.n_part);
    }
    #[test]
    fn large_steps_go_in_rounds() {
        let rounds = drafted(&[(8191, 1); 50], MAX_ALONE);
        assert!(rounds.len() > 1 && rounds.iter().all(|round| round.n_part <= ROUND_PARTS));
        let tasks: usize = rounds.iter().map(|round| round.tasks.len()).sum();
        assert_eq!(tasks, 50 * MAX_SPLITS);
    }

    #[test]
    fn small_workgroups_compute_every_token_alone() {
        let rounds = drafted(&[(0, 60), (500, 9)], usize::MAX);
        assert!(rounds[0].spans.is_empty());
        let rows = rounds[0].tasks.iter().filter(|task| task[1] == 0);
        assert!(rows.map(|task| task[0]).eq(0..69));
    }
}
