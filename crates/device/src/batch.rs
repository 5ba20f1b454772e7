//! What one step computes: some tokens of some sequences.

use std::ops::Range;

use troika_base::TokenId;

/// What the caller wants to know of a sequence's tokens: scores of what comes next, or the hidden states that those are
/// computed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Nothing: the prompt goes on in a later step.
    Nothing,
    /// Logits of the last token: what comes next?
    LastLogits,
    /// Logits of every token: perplexity, verification of drafts.
    AllLogits,
    /// The last token's hidden state: an embedding of the text up to there.
    LastHidden,
    /// Every token's hidden state: embeddings that are a mean.
    AllHidden,
}

impl Output {
    /// Of `n_tok` tokens, those whose logits are returned.
    pub fn logits(self, n_tok: usize) -> Range<usize> {
        match self {
            Self::LastLogits => n_tok.saturating_sub(1)..n_tok,
            Self::AllLogits => 0..n_tok,
            Self::Nothing | Self::LastHidden | Self::AllHidden => 0..0,
        }
    }

    /// Of `n_tok` tokens, those whose hidden states are returned.
    pub fn hidden(self, n_tok: usize) -> Range<usize> {
        match self {
            Self::LastHidden => n_tok.saturating_sub(1)..n_tok,
            Self::AllHidden => 0..n_tok,
            Self::Nothing | Self::LastLogits | Self::AllLogits => 0..0,
        }
    }
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
    pub output: Output,
}

/// The sequences of one step, each at most once.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// The sequences; what they ask for is returned in their order.
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
    pub fn logit_rows(&self) -> Vec<usize> {
        self.rows(Output::logits)
    }

    /// Rows of the tokens whose hidden states are wanted.
    pub fn hidden_rows(&self) -> Vec<usize> {
        self.rows(Output::hidden)
    }

    fn rows(&self, wanted: fn(Output, usize) -> Range<usize>) -> Vec<usize> {
        let mut first = 0;
        let mut rows = Vec::new();
        for sequence in self.sequences {
            let n_tok = sequence.tokens.len();
            rows.extend(wanted(sequence.output, n_tok).map(|token| first + token));
            first += n_tok;
        }
        rows
    }
}
