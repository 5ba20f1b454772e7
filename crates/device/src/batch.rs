//! What one step computes: some tokens of some sequences.

use troika_base::TokenId;

/// Which tokens of a sequence the caller wants logits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogitsFor {
    /// None: the prompt goes on in a later step.
    Nothing,
    /// The last token: what comes next?
    Last,
    /// Every token: perplexity, verification of drafts.
    All,
}

/// Consecutive tokens of one sequence.
#[derive(Clone, Copy, Debug)]
pub struct Sequence<'a> {
    /// The tokens of this step, at least one.
    pub tokens: &'a [TokenId],
    /// Position of the first one: how many tokens of the sequence are in the cache already.
    pub position: usize,
    /// Pages of the KV cache, in order, up to the last token of this step.
    pub pages: &'a [usize],
    /// What to return.
    pub logits: LogitsFor,
}

/// The sequences of one step, each at most once.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// The sequences; logits are returned in their order.
    pub sequences: &'a [Sequence<'a>],
}

impl Batch<'_> {
    /// Tokens of all sequences.
    pub fn n_tok(&self) -> usize {
        self.sequences
            .iter()
            .map(|sequence| sequence.tokens.len())
            .sum()
    }

    /// Every token, sequence by sequence.
    pub fn tokens(&self) -> Vec<TokenId> {
        self.sequences
            .iter()
            .flat_map(|sequence| sequence.tokens)
            .copied()
            .collect()
    }

    /// The position of every token.
    pub fn positions(&self) -> Vec<usize> {
        self.sequences
            .iter()
            .flat_map(|sequence| sequence.position..sequence.position + sequence.tokens.len())
            .collect()
    }

    /// Rows of the tokens whose logits are wanted.
    pub fn output_rows(&self) -> Vec<usize> {
        let mut first = 0;
        let mut rows = Vec::new();
        for sequence in self.sequences {
            let end = first + sequence.tokens.len();
            match sequence.logits {
                LogitsFor::Nothing => {}
                LogitsFor::Last => rows.push(end - 1),
                LogitsFor::All => rows.extend(first..end),
            }
            first = end;
        }
        rows
    }
}
