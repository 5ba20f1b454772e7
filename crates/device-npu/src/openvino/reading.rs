//! Which runs of a graph bring a conversation to the end of a text. Arithmetic alone.

use std::ops::Range;

use troika_base::TokenId;

/// How a compiled graph reads text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Manner {
    /// Tokens that it remembers at most.
    pub(super) n_ctx: usize,
    /// Tokens of one run at most.
    pub(super) chunk: usize,
    /// Tokens that it reads at once from the beginning, where all that follow are read one at a time; `None` if runs of
    /// several tokens can go on from others.
    pub(super) prompt: Option<usize>,
    /// Whether a run of several tokens from the beginning forgets what was read, or another request is needed for that. A
    /// single token never does: the NPU's plugin (2026.4) would take it for an answer's, and see what it read before.
    pub(super) restarts: bool,
}

/// What a run of a whole chunk takes, in runs of one token. A chip that reads weights once for both takes little
/// longer for a chunk until it is short of arithmetic; where that is, depends on the chip. A guess that costs time, and
/// never a result, where it is wrong.
const CHUNK_COST: usize = 4;

impl Manner {
    /// Runs over a text of `n_tok` tokens of which a conversation has read `kept`, so that each token from `wanted` on is
    /// the last of one: a run gives logits of its last token. A run that begins at 0 forgets what was read.
    pub(super) fn runs(&self, kept: usize, wanted: usize, n_tok: usize) -> Vec<Range<usize>> {
        // The first token that is wanted may end a run of several.
        let singly = n_tok.min(wanted + 1);
        let mut runs = match self.prompt {
            None => pieces(kept..singly, self.chunk),
            Some(prompt) => self.prompt_or_one_by_one(kept, singly, prompt),
        };
        runs.extend(pieces(singly..n_tok, 1));
        runs
    }

    fn prompt_or_one_by_one(&self, kept: usize, end: usize, prompt: usize) -> Vec<Range<usize>> {
        let read = end.min(prompt);
        let anew = read.div_ceil(self.chunk) * CHUNK_COST + (end - read);
        // A run of one token is never a prompt, not even at the beginning.
        match read < 2 || read <= kept || (kept > 0 && end - kept <= anew) {
            true => pieces(kept..end, 1),
            false => {
                let prompt = std::iter::once(0..read);
                prompt.chain(pieces(read..end, 1)).collect()
            }
        }
    }
}

fn pieces(of: Range<usize>, most: usize) -> Vec<Range<usize>> {
    let end = of.end;
    of.step_by(most.max(1))
        .map(|start| start..end.min(start + most.max(1)))
        .collect()
}

/// Of conversations, given by what they have read, the one that has most of a text and nothing else.
pub(super) fn furthest<'t>(
    conversations: impl Iterator<Item = &'t [TokenId]>,
    text: &[TokenId],
) -> Option<usize> {
    let usable = conversations
        .enumerate()
        .filter(|(_, read)| !read.is_empty() && text.starts_with(read));
    usable.max_by_key(|(_, read)| read.len()).map(|(i, _)| i)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CPU: Manner = Manner {
        n_ctx: 256,
        chunk: 16,
        prompt: None,
        restarts: false,
    };
    const NPU: Manner = Manner {
        prompt: Some(64),
        restarts: true,
        ..CPU
    };

    #[test]
    fn a_graph_that_goes_on_reads_what_is_lacking_in_chunks() {
        assert_eq!(CPU.runs(0, 39, 40), [0..16, 16..32, 32..40]);
        assert_eq!(CPU.runs(10, 39, 40), [10..26, 26..40]);
        assert_eq!(CPU.runs(39, 39, 40), vec![39..40]);
        // Logits of the last row alone: those that are wanted end a run each.
        let last = Manner { ..CPU };
        assert_eq!(last.runs(0, 39, 40), [0..16, 16..32, 32..40]);
        assert_eq!(
            last.runs(0, 37, 40),
            [0..16, 16..32, 32..38, 38..39, 39..40]
        );
        assert_eq!(last.runs(0, 40, 40), [0..16, 16..32, 32..40]);
    }

    #[test]
    fn a_graph_of_prompts_reads_them_from_the_beginning() {
        assert_eq!(NPU.runs(0, 39, 40), vec![0..40]);
        assert_eq!(NPU.runs(39, 39, 40), vec![39..40]);
        assert_eq!(NPU.runs(0, 0, 1), vec![0..1]);
        assert_eq!(NPU.runs(0, 0, 3), [0..1, 1..2, 2..3]);
        // A few tokens one at a time, and many together with those before them.
        assert_eq!(NPU.runs(30, 32, 33), [30..31, 31..32, 32..33]);
        assert_eq!(NPU.runs(10, 39, 40), vec![0..40]);
        // What does not fit into a prompt comes behind it.
        assert_eq!(NPU.runs(0, 65, 66), [0..64, 64..65, 65..66]);
        assert_eq!(NPU.runs(64, 65, 66), [64..65, 65..66]);
        assert_eq!(NPU.runs(60, 99, 100)[0], 60..61);
    }

    #[test]
    fn every_token_is_read_once_and_in_turn() {
        for manner in [CPU, NPU] {
            for n_tok in 1..100 {
                for kept in 0..n_tok {
                    for wanted in [kept, (kept + n_tok) / 2, n_tok - 1, n_tok] {
                        let runs = manner.runs(kept, wanted.max(kept), n_tok);
                        let first = runs.first().expect("there is something to read").start;
                        assert!(first == kept || first == 0, "{kept} {n_tok} {runs:?}");
                        assert!(runs.windows(2).all(|two| two[0].end == two[1].start));
                        assert_eq!(runs.last().map(|run| run.end), Some(n_tok));
                        let ends: Vec<usize> = runs.iter().map(|run| run.end - 1).collect();
                        let mut wanted = wanted.max(kept)..n_tok;
                        assert!(wanted.all(|token| ends.contains(&token)));
                    }
                }
            }
        }
    }

    #[test]
    fn the_conversation_that_has_most_goes_on() {
        let text = |ids: &[u32]| ids.iter().map(|&id| TokenId(id)).collect::<Vec<_>>();
        let all = [text(&[]), text(&[1, 2]), text(&[1, 2, 3]), text(&[1, 2, 4])];
        let found = |history: &[u32]| furthest(all.iter().map(Vec::as_slice), &text(history));
        assert_eq!(found(&[1, 2, 3, 9]), Some(2));
        assert_eq!(found(&[1, 2, 3]), Some(2));
        assert_eq!(found(&[1, 2]), Some(1));
        assert_eq!(found(&[7]), None);
        assert_eq!(found(&[]), None);
    }
}
