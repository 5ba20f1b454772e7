//! A prompt to an answer: prefill, then sample, decode, detokenize, until something ends it.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use troika_base::TokenId;

use crate::constraint::Grammar;
use crate::draft::{Drafter, Reach};
use crate::sampler::{Sampled, SamplingParams};
use crate::{Error, Session, Writer};

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
    /// The model cannot end the answer: for measurements, where all answers shall be of one length.
    pub ignore_end: bool,
    /// Control tokens that are text in this answer, rather than no text at all: marks that a reader of the answer needs.
    pub show: Arc<[TokenId]>,
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
    /// Tokens that were drafted, and of these the ones that the answer went on with.
    pub drafted: (usize, usize),
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
        self.answer(prompt, options, None, on)
    }

    /// [`Self::generate`] with drafts of up to `most` tokens, which make it faster where they are right, and slower where they
    /// are not.
    ///
    /// # Errors
    /// As [`Self::generate`], and if the drafter's model fails.
    pub fn generate_with_drafts(
        &mut self,
        prompt: &[TokenId],
        options: &GenerateOptions,
        drafter: &mut dyn Drafter,
        most: usize,
        on: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<Summary, Error> {
        self.answer(prompt, options, Some(Drafts::new(drafter, most)), on)
    }

    fn answer(
        &mut self,
        prompt: &[TokenId],
        options: &GenerateOptions,
        mut drafts: Option<Drafts<'_>>,
        on: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<Summary, Error> {
        let mut writer = Writer::new(self.model().tokenizer(), prompt, options)?;
        if let Some(grammar) = &options.grammar {
            writer.constrain(self.model().constraints()?.compile(grammar)?);
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
            Some(_) => self.write(&mut writer, drafts.as_mut(), on)?,
        };
        Ok(Summary {
            finish,
            prompt_tokens: total,
            cached_tokens: cached,
            generated_tokens: writer.n_tok(),
            prefill,
            decode: start.elapsed(),
            seed: writer.seed(),
            drafted: drafts.map_or((0, 0), |drafts| drafts.count),
        })
    }

    /// Truncates the session to what it has in common with `prompt`, less the last token, whose logits are needed.
    pub(crate) fn keep_common_prefix(&mut self, prompt: &[TokenId]) -> Result<usize, Error> {
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
        writer: &mut Writer,
        mut drafts: Option<&mut Drafts<'_>>,
        on: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<Finish, Error> {
        loop {
            let room = self.room() > 0;
            let logits = self.last_logits().expect("the prompt was read");
            let advance = writer.advance(logits, room)?;
            let mut broken_off = false;
            if let Some(sampled) = advance.token {
                let top = advance.top;
                broken_off |= on(Event::Token { sampled, top }).is_break();
            }
            if !advance.text.is_empty() {
                broken_off |= on(Event::Text(advance.text)).is_break();
            }
            if let Some(finish) = advance.finish {
                return Ok(finish);
            }
            let token = advance.token.expect("an answer that goes on has a token");
            if broken_off {
                let rest = writer.held_back();
                if !rest.is_empty() {
                    // Nothing is left to break off.
                    let _ = on(Event::Text(&rest));
                }
                return Ok(Finish::Cancelled);
            }
            match &mut drafts {
                Some(drafts) => drafts.decode(self, token.token, writer.wanted())?,
                None if writer.goes_on_as_expected() => self.decode_ahead(token.token)?,
                None => drop(self.decode(token.token)?),
            }
        }
    }
}

/// The drafts of one answer.
struct Drafts<'d> {
    drafter: &'d mut dyn Drafter,
    reach: Reach,
    /// Tokens of the draft that is being read, and how many of them were right so far.
    of_draft: (usize, usize),
    /// The same of all drafts of the answer, this one's included.
    count: (usize, usize),
}

impl<'d> Drafts<'d> {
    fn new(drafter: &'d mut dyn Drafter, most: usize) -> Self {
        Self {
            drafter,
            reach: Reach::new(most),
            of_draft: (0, 0),
            count: (0, 0),
        }
    }

    /// Adds a token to the session, of whose answer `wanted` more are wanted at most.
    fn decode(
        &mut self,
        session: &mut Session<'_>,
        token: TokenId,
        wanted: usize,
    ) -> Result<(), Error> {
        if session.decode_drafted(token) {
            self.of_draft.1 += 1;
            self.count.1 += 1;
            return Ok(());
        }
        let (drafted, right) = self.of_draft;
        self.reach.learn(drafted, right);
        // The last token that is wanted is not read, and the one before it needs no draft.
        let most = self.reach.tokens().min(wanted.saturating_sub(1));
        let most = most.min(session.room().saturating_sub(1));
        let text = [session.tokens(), &[token]].concat();
        let mut draft = Vec::new();
        self.drafter.draft(&text, most, &mut draft)?;
        self.of_draft = (draft.len(), 0);
        self.count.0 += draft.len();
        session.decode_with_draft(token, &draft)
    }
}
