//! Which tests there are: every combination of what was asked for.

use serde::Serialize;
use troika_device::PAGE_TOKENS;

/// One thing to measure. Either `n_prompt` or `n_gen` is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Test {
    /// Tokens that each sequence reads.
    pub(crate) n_prompt: usize,
    /// Tokens that each sequence writes.
    pub(crate) n_gen: usize,
    /// Tokens that each sequence holds before.
    pub(crate) depth: usize,
    /// Sequences side by side.
    pub(crate) batch: usize,
}

impl Test {
    /// As llama-bench names it.
    pub(super) fn name(&self) -> String {
        match self.n_prompt {
            0 => format!("tg{}", self.n_gen),
            n => format!("pp{n}"),
        }
    }

    /// Tokens that are read or written in one round, by all sequences.
    pub(super) fn n_tok(&self) -> usize {
        self.batch * (self.n_prompt + self.n_gen)
    }

    /// Tokens that the cache has to hold: each sequence has pages of its own.
    pub(super) fn n_ctx(&self) -> usize {
        let sequence = self.depth + self.n_prompt + self.n_gen;
        self.batch * sequence.next_multiple_of(PAGE_TOKENS)
    }
}

/// What was asked for.
pub(super) struct Matrix<'a> {
    pub(super) prompts: &'a [usize],
    pub(super) answers: &'a [usize],
    pub(super) depths: &'a [usize],
    pub(super) batches: &'a [usize],
}

impl Matrix<'_> {
    /// All combinations, reading before writing.
    pub(super) fn tests(&self) -> Vec<Test> {
        let mut tests = Vec::new();
        for &depth in self.depths {
            for &batch in self.batches {
                let prompts = self.prompts.iter().map(|&n_prompt| (n_prompt, 0));
                let answers = self.answers.iter().map(|&n_gen| (0, n_gen));
                for (n_prompt, n_gen) in prompts.chain(answers).filter(|&test| test != (0, 0)) {
                    tests.push(Test {
                        n_prompt,
                        n_gen,
                        depth,
                        batch,
                    });
                }
            }
        }
        tests
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_combinations_but_the_empty_ones() {
        let matrix = Matrix {
            prompts: &[512, 0],
            answers: &[0, 128],
            depths: &[0, 4096],
            batches: &[1, 3],
        };
        let tests = matrix.tests();
        let names: Vec<_> = tests
            .iter()
            .map(|test| (test.name(), test.depth, test.batch))
            .collect();
        assert_eq!(names.len(), 8);
        assert_eq!(names[0], ("pp512".to_owned(), 0, 1));
        assert_eq!(names[7], ("tg128".to_owned(), 4096, 3));
        assert_eq!((tests[2].n_tok(), tests[2].n_ctx()), (1536, 1536));
        let odd = Test {
            n_prompt: 0,
            n_gen: 1,
            depth: 32,
            batch: 2,
        };
        assert_eq!(odd.n_ctx(), 2 * 64, "each sequence begins a second page");
    }
}
