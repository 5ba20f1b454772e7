//! A prompt to an answer: prefill, then sample, decode, detokenize, until something ends it.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use troika_base::TokenId;

use crate::constraint::{Constraint, Grammar};
use crate::sampler::{Sampled, Sampler, SamplingParams, top_logprobs};
use crate::stop::StopMatcher;
use crate::tokenizer::{Detokenizer, Tokenizer};
use crate::{Error, Session};

/// How an answer is written.
#[derive(Clone, Debug, Default)]
pub struct GenerateOptions {
    /// Tokens at most; `None` goes on to the end of the context.
    pub max_tokens: Option<usize>,
    /// How tokens are chosen.
    pub sampling: SamplingParams,
    /// Strings that end the answer; they are not part of it.
    pub stop: Vec<String>,
    /// The answer begins a text of its own (chat) rather than going on with the prompt's last word.
    pub from_start: bool,
    /// Report this many of the likeliest tokens with each one chosen.
    pub top_logprobs: usize,
    /// The form that the answer must have.
    pub grammar: Option<Grammar>,
}

/// What happens while an answer is written.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// Tokens of the prompt that are read.
    Prompt {
        /// So many.
        done: usize,
        /// Of so many.
        total: usize,
    },
    /// A token was chosen. Its text comes with this or a later [`Event::Text`].
    Token {
        /// The token and its log-probability.
        sampled: Sampled,
        /// The likeliest tokens at this place, if asked for.
        top: &'a [(TokenId, f32)],
    },
    /// More of the answer: whole characters, and never a part of a stop string.
    Text(&'a str),
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finish {
    /// The model ended it, or its grammar leaves nothing to say.
    EndOfText,
    /// A stop string came up.
    StopString,
    /// As many tokens as were asked for.
    MaxTokens,
    /// The context is full.
    ContextFull,
    /// The caller broke it off.
    Cancelled,
}

/// An answer's numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Why it ended.
    pub finish: Finish,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Of these, tokens that the session held already.
    pub cached_tokens: usize,
    /// Tokens that were written.
    pub generated_tokens: usize,
    /// Time to read the prompt.
    pub prefill: Duration,
    /// Time from the end of the prompt to the end of the answer.
    pub decode: Duration,
    /// The seed in use.
    pub seed: u64,
}

impl Summary {
    /// Tokens of the prompt read per second, those in the cache left out. `None` if there were none.
    pub fn prefill_tps(&self) -> Option<f64> {
        tps(self.prompt_tokens - self.cached_tokens, self.prefill)
    }

    /// Tokens written per second: the first one follows from the prompt and costs no step.
    pub fn decode_tps(&self) -> Option<f64> {
        tps(self.generated_tokens.saturating_sub(1), self.decode)
    }
}

fn tps(tokens: usize, time: Duration) -> Option<f64> {
    let seconds = time.as_secs_f64();
    (tokens > 0 && seconds > 0.0).then(|| tokens as f64 / seconds)
}

impl Session<'_> {
    /// Writes on from `prompt`, the whole conversation: what the session holds of its beginning is not computed again.
    /// `on` hears of progress and text, and may break it off; the session then holds what was read and written so far.
    ///
    /// # Errors
    /// If the prompt is empty or longer than the context, an option is out of range, the grammar is refused, or the
    /// model's scores are no numbers.
    pub fn generate(
        &mut self,
        prompt: &[TokenId],
        options: &GenerateOptions,
        on: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<Summary, Error> {
        let mut answer = Answer::new(Arc::clone(self.model().tokenizer()), prompt, options)?;
        if let Some(grammar) = &options.grammar {
            answer.constraint = Some(self.model().constraints()?.compile(grammar)?);
        }
        let cached = self.keep_common_prefix(prompt)?;
        let total = prompt.len();
        let start = Instant::now();
        let read = self.prefill(&prompt[cached..], &mut |done| {
            on(Event::Prompt {
                done: cached + done,
                total,
            })
        })?;
        let prefill = start.elapsed();
        let start = Instant::now();
        let finish = match read {
            None => Finish::Cancelled,
            Some(_) if options.max_tokens == Some(0) => Finish::MaxTokens,
            Some(logits) => {
                let first = answer.choose(logits)?;
                self.write(first, &mut answer, options.max_tokens, on)?
            }
        };
        Ok(Summary {
            finish,
            prompt_tokens: total,
            cached_tokens: cached,
            generated_tokens: answer.n_tok,
            prefill,
            decode: start.elapsed(),
            seed: answer.sampler.seed(),
        })
    }

    /// Truncates the session to what it has in common with `prompt`, less the last token, whose logits are needed.
    fn keep_common_prefix(&mut self, prompt: &[TokenId]) -> Result<usize, Error> {
        let last = prompt.len().checked_sub(1).ok_or(Error::EmptyPrompt)?;
        let common = self
            .tokens()
            .iter()
            .zip(&prompt[..last])
            .take_while(|(held, asked)| held == asked)
            .count();
        if prompt.len() > self.model().n_ctx() {
            return Err(Error::PromptTooLong {
                prompt: prompt.len(),
                context: self.model().n_ctx(),
            });
        }
        self.truncate(common);
        Ok(common)
    }

    /// Writes tokens until something ends the answer.
    fn write(
        &mut self,
        mut next: Sampled,
        answer: &mut Answer<'_>,
        max_tokens: Option<usize>,
        on: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<Finish, Error> {
        let finish = loop {
            if answer.tokenizer.is_end_of_generation(next.token) {
                break Finish::EndOfText;
            }
            if let Some(constraint) = &mut answer.constraint {
                constraint.accept(next.token)?;
            }
            if let Some(finish) = answer.accept(next, on) {
                break finish;
            }
            if answer
                .constraint
                .as_ref()
                .is_some_and(Constraint::is_finished)
            {
                break Finish::EndOfText;
            }
            if Some(answer.n_tok) == max_tokens {
                break Finish::MaxTokens;
            }
            if self.room() == 0 {
                break Finish::ContextFull;
            }
            next = answer.choose(self.decode(next.token)?)?;
        };
        answer.flush(finish, on);
        Ok(finish)
    }
}

/// An answer on its way from logits to text.
struct Answer<'o> {
    tokenizer: Arc<Tokenizer>,
    sampler: Sampler,
    constraint: Option<Constraint>,
    detokenizer: Detokenizer<Arc<Tokenizer>>,
    stop: StopMatcher,
    options: &'o GenerateOptions,
    top: Vec<(TokenId, f32)>,
    n_tok: usize,
}

impl<'o> Answer<'o> {
    fn new(
        tokenizer: Arc<Tokenizer>,
        prompt: &[TokenId],
        options: &'o GenerateOptions,
    ) -> Result<Self, Error> {
        let mut sampler = Sampler::new(options.sampling.clone(), tokenizer.n_vocab())?;
        sampler.observe(prompt);
        let detokenizer = match options.from_start {
            true => Detokenizer::new(Arc::clone(&tokenizer)),
            false => Detokenizer::continuing(Arc::clone(&tokenizer)),
        };
        Ok(Self {
            sampler,
            constraint: None,
            detokenizer,
            stop: StopMatcher::new(options.stop.clone())?,
            tokenizer,
            options,
            top: Vec::new(),
            n_tok: 0,
        })
    }

    fn choose(&mut self, logits: &[f32]) -> Result<Sampled, Error> {
        // The model's table may be padded beyond the vocabulary; rows there mean nothing.
        let logits = &logits[..self.tokenizer.n_vocab()];
        if self.options.top_logprobs > 0 {
            self.top = top_logprobs(logits, self.options.top_logprobs)?;
        }
        Ok(match &mut self.constraint {
            Some(constraint) => self.sampler.sample_masked(logits, constraint.mask()?)?,
            None => self.sampler.sample(logits)?,
        })
    }

    /// Makes a token part of the answer and hands out the text that is complete with it.
    fn accept(
        &mut self,
        sampled: Sampled,
        on: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Option<Finish> {
        self.sampler.accept(sampled.token);
        self.n_tok += 1;
        let mut broken_off = on(Event::Token {
            sampled,
            top: &self.top,
        })
        .is_break();
        let text = self.stop.push(self.detokenizer.push(sampled.token));
        if !text.emit.is_empty() {
            broken_off |= on(Event::Text(text.emit)).is_break();
        }
        if text.stopped.is_some() {
            return Some(Finish::StopString);
        }
        broken_off.then_some(Finish::Cancelled)
    }

    /// Hands out text that was held back because more could have come.
    fn flush(&mut self, finish: Finish, on: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>) {
        if finish == Finish::StopString {
            return;
        }
        let tail = self.detokenizer.finish();
        let matched = self.stop.push(tail);
        let mut rest = matched.emit.to_owned();
        if matched.stopped.is_none() {
            let stop = std::mem::replace(
                &mut self.stop,
                StopMatcher::new(Vec::new()).expect("no strings"),
            );
            rest.push_str(&stop.finish());
        }
        if !rest.is_empty() {
            // Nothing is left to break off.
            let _ = on(Event::Text(&rest));
        }
    }
}
