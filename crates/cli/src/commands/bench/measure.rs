//! Runs a test: fills sequences to the depth, reads or writes, and looks at the clock.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use troika_base::{ModelSpec, TokenId};
use troika_device::Output;
use troika_engine::{Model, Sequence, Step};

use super::plan::Test;
use crate::exit::Interrupted;
use crate::interrupt::Interrupt;
use crate::output::{self, Console};

/// Tokens of all sequences that are read in one step, as sessions do.
const STEP_TOKENS: usize = 512;

/// Tokens of the prompt before the first token that is timed.
const SHORT_PROMPT: usize = 8;

/// Tokens written to warm up; reading warms up with the whole prompt.
const WARM_UP_TOKENS: usize = 8;

/// A model under test.
pub(super) struct Bench<'m> {
    model: &'m mut Model,
    console: Console,
    interrupt: Interrupt,
    tokens: RandomTokens,
}

impl<'m> Bench<'m> {
    pub(super) fn new(model: &'m mut Model, console: Console, interrupt: Interrupt) -> Self {
        let tokens = RandomTokens {
            state: 42,
            n_vocab: model.spec().n_vocab as u64,
        };
        Self {
            model,
            console,
            interrupt,
            tokens,
        }
    }

    pub(super) fn spec(&self) -> &ModelSpec {
        self.model.spec()
    }

    pub(super) fn model_name(&self) -> &str {
        self.model.name()
    }

    /// Reads a short prompt, which gives the first token.
    pub(super) fn first_token(&mut self) -> anyhow::Result<()> {
        let prompt = self.tokens.take(SHORT_PROMPT);
        let mut sequence = Sequence::default();
        self.read(
            std::slice::from_mut(&mut sequence),
            &[prompt],
            Output::LastLogits,
        )
    }

    /// Tokens per second of all sequences together, round by round, after a warm-up.
    ///
    /// # Errors
    /// [`Interrupted`], or what the engine has to say.
    pub(super) fn measure(&mut self, test: &Test, rounds: usize) -> anyhow::Result<Vec<f64>> {
        let bar = self.bar(test, rounds);
        let mut sequences: Vec<Sequence> = std::iter::repeat_with(Sequence::default)
            .take(test.batch)
            .collect();
        let context: Vec<_> = self.prompts(test.batch, test.depth);
        self.read(&mut sequences, &context, Output::Nothing)?;
        let warm_up = Test {
            n_gen: test.n_gen.min(WARM_UP_TOKENS),
            ..*test
        };
        self.round(&mut sequences, &warm_up)?;
        let mut tps = Vec::with_capacity(rounds);
        for _ in 0..rounds {
            bar.inc(1);
            let time = self.round(&mut sequences, test)?;
            tps.push(test.n_tok() as f64 / time.as_secs_f64().max(f64::MIN_POSITIVE));
        }
        bar.finish_and_clear();
        Ok(tps)
    }

    /// One round of a test, and the time that it took. The sequences are as before afterwards.
    fn round(&mut self, sequences: &mut [Sequence], test: &Test) -> anyhow::Result<Duration> {
        // What is drawn is drawn before the clock runs.
        let prompts = self.prompts(test.batch, test.n_prompt);
        let answers = self.prompts(test.batch, test.n_gen);
        let started = Instant::now();
        self.read(sequences, &prompts, Output::LastLogits)?;
        for index in 0..test.n_gen {
            let tokens: Vec<_> = answers
                .iter()
                .map(|answer| &answer[index..=index])
                .collect();
            self.step(sequences, &tokens, Output::LastLogits)?;
        }
        let time = started.elapsed();
        for sequence in sequences {
            sequence.truncate(test.depth);
        }
        Ok(time)
    }

    fn prompts(&mut self, count: usize, len: usize) -> Vec<Vec<TokenId>> {
        (0..count).map(|_| self.tokens.take(len)).collect()
    }

    /// Reads prompts of one length side by side, some of each in every step. The last step asks for `output`.
    fn read(
        &mut self,
        sequences: &mut [Sequence],
        prompts: &[Vec<TokenId>],
        output: Output,
    ) -> anyhow::Result<()> {
        let len = prompts.first().map_or(0, Vec::len);
        let per_step = (STEP_TOKENS / prompts.len().max(1)).max(1);
        for start in (0..len).step_by(per_step) {
            let end = len.min(start + per_step);
            let tokens: Vec<_> = prompts.iter().map(|prompt| &prompt[start..end]).collect();
            let wanted = if end == len { output } else { Output::Nothing };
            self.step(sequences, &tokens, wanted)?;
        }
        Ok(())
    }

    fn step(
        &mut self,
        sequences: &mut [Sequence],
        tokens: &[&[TokenId]],
        output: Output,
    ) -> anyhow::Result<()> {
        if self.interrupt.is_set() {
            return Err(Interrupted.into());
        }
        let mut steps: Vec<_> = sequences
            .iter_mut()
            .zip(tokens)
            .map(|(sequence, tokens)| Step {
                sequence,
                tokens,
                output,
            })
            .collect();
        std::hint::black_box(self.model.step(&mut steps)?);
        Ok(())
    }

    /// Tells a person who watches which test runs.
    fn bar(&self, test: &Test, rounds: usize) -> ProgressBar {
        let mut label = test.name();
        if test.depth > 0 {
            label.push_str(&format!(" at depth {}", test.depth));
        }
        if test.batch > 1 {
            label.push_str(&format!(", {} side by side", test.batch));
        }
        self.console.detail(&label);
        if self.console.quiet || self.console.verbose > 0 || !output::stderr_is_terminal() {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::new(rounds as u64);
        let style = ProgressStyle::with_template("{msg}: round {pos} of {len}");
        bar.set_style(style.expect("the template is valid. This is a bug."));
        bar.set_message(label);
        bar.tick();
        bar
    }
}

/// The same tokens in every run: SplitMix64.
struct RandomTokens {
    state: u64,
    n_vocab: u64,
}

impl RandomTokens {
    fn take(&mut self, len: usize) -> Vec<TokenId> {
        (0..len).map(|_| self.next()).collect()
    }

    fn next(&mut self) -> TokenId {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        // The vocabulary is counted in 32 bits.
        TokenId((z % self.n_vocab) as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_spread_over_the_vocabulary() {
        let mut tokens = RandomTokens {
            state: 42,
            n_vocab: 10,
        };
        let drawn = tokens.take(1000);
        for id in 0..10 {
            let count = drawn.iter().filter(|&&token| token == TokenId(id)).count();
            assert!((50..150).contains(&count), "{id}: {count}");
        }
    }
}
