//! An answer on its way from logits to text, one token at a time.
//!
//! Whoever runs the steps owns the sequence and its cache; a [`Writer`] owns all the rest of an answer: which token
//! comes next, which text is complete with it, and whether the answer has ended.

use std::sync::Arc;

use troika_base::TokenId;

use crate::constraint::Constraint;
use crate::sampler::{Sampled, Sampler, top_logprobs};
use crate::stop::StopMatcher;
use crate::tokenizer::{Detokenizer, EncodeOptions, Tokenizer};
use crate::{Error, Finish, GenerateOptions};

/// Writes one answer.
#[derive(Debug)]
pub struct Writer {
    tokenizer: Arc<Tokenizer>,
    sampler: Sampler,
    constraint: Option<Constraint>,
    detokenizer: Detokenizer<Arc<Tokenizer>>,
    stop: StopMatcher,
    stopped: Option<usize>,
    max_tokens: Option<usize>,
    top_logprobs: usize,
    top: Vec<(TokenId, f32)>,
    text: String,
    n_tok: usize,
}

/// What one step added to an answer.
#[derive(Clone, Copy, Debug)]
pub struct Advance<'w> {
    /// The token to go on with; `None` if the model ended the answer.
    pub token: Option<Sampled>,
    /// The likeliest tokens at its place, if asked for.
    pub top: &'w [(TokenId, f32)],
    /// Text that is complete now: whole characters, and never a part of a stop string.
    pub text: &'w str,
    /// Why the answer ended, if it did; no text is held back then.
    pub finish: Option<Finish>,
}

impl Writer {
    /// Begins the answer to a prompt.
    ///
    /// # Errors
    /// If an option is out of range.
    pub fn new(
        tokenizer: &Arc<Tokenizer>,
        prompt: &[TokenId],
        options: &GenerateOptions,
    ) -> Result<Self, Error> {
        let mut sampling = options.sampling.clone();
        if options.ignore_end {
            let ends = tokenizer.ends_of_generation();
            sampling
                .logit_bias
                .retain(|(token, _)| !ends.contains(token));
            let never = ends.iter().map(|&token| (token, f32::NEG_INFINITY));
            sampling.logit_bias.extend(never);
        }
        let breakers = match sampling.dry.is_on() {
            true => tokens_with(tokenizer, &sampling.dry.breakers),
            false => Vec::new(),
        };
        let mut sampler = Sampler::new(sampling, tokenizer.n_vocab())?;
        sampler.break_at(breakers);
        sampler.observe(prompt);
        let tokenizer = Arc::clone(tokenizer);
        let detokenizer = match options.from_start {
            true => Detokenizer::new(Arc::clone(&tokenizer)),
            false => Detokenizer::continuing(Arc::clone(&tokenizer)),
        };
        let detokenizer = detokenizer.showing(Arc::clone(&options.show));
        Ok(Self {
            sampler,
            constraint: None,
            detokenizer,
            stop: StopMatcher::new(options.stop.clone())?,
            stopped: None,
            tokenizer,
            max_tokens: options.max_tokens,
            top_logprobs: options.top_logprobs,
            top: Vec::new(),
            text: String::new(),
            n_tok: 0,
        })
    }

    /// From here on, the answer has this form.
    pub fn constrain(&mut self, constraint: Constraint) {
        self.constraint = Some(constraint);
    }

    /// Tokens written so far.
    pub fn n_tok(&self) -> usize {
        self.n_tok
    }

    /// The seed in use.
    pub fn seed(&self) -> u64 {
        self.sampler.seed()
    }

    /// The stop string that ended the answer, by its place in the options.
    pub fn stopped(&self) -> Option<usize> {
        self.stopped
    }

    /// Whether the token after the next is wanted too, and the next will hardly be another than the likeliest: a device may
    /// [begin with it](crate::Model::step_ahead).
    pub fn goes_on_as_expected(&self) -> bool {
        let wanted = self.max_tokens.is_none_or(|most| self.n_tok + 2 <= most);
        wanted && self.constraint.is_none() && self.sampler.takes_the_likeliest()
    }

    /// Tokens that are still wanted at most.
    pub fn wanted(&self) -> usize {
        let left = |most: usize| most.saturating_sub(self.n_tok);
        self.max_tokens.map_or(usize::MAX, left)
    }

    /// Chooses the token that follows `logits`. `room`: whether the context has a place for it.
    ///
    /// # Errors
    /// If the logits are no numbers, or no token fits the form that the answer must have.
    ///
    /// # Panics
    /// If `logits` is shorter than the vocabulary.
    pub fn advance(&mut self, logits: &[f32], room: bool) -> Result<Advance<'_>, Error> {
        // The model's table may be padded beyond the vocabulary; rows there mean nothing.
        let logits = &logits[..self.tokenizer.n_vocab()];
        self.text.clear();
        self.top.clear();
        let sampled = match &mut self.constraint {
            Some(constraint) => self.sampler.sample_masked(logits, constraint.mask()?)?,
            None => self.sampler.sample(logits)?,
        };
        if self.tokenizer.is_end_of_generation(sampled.token) {
            self.text = self.held_back();
            return Ok(self.advanced(None, Some(Finish::EndOfText)));
        }
        if self.top_logprobs > 0 {
            self.top = top_logprobs(logits, self.top_logprobs)?;
        }
        let finish = self.accept(sampled.token, room)?;
        if finish.is_some_and(|finish| finish != Finish::StopString) {
            let rest = self.held_back();
            self.text.push_str(&rest);
        }
        Ok(self.advanced(Some(sampled), finish))
    }

    /// Makes a token part of the answer, and its text part of [`Advance::text`].
    fn accept(&mut self, token: TokenId, room: bool) -> Result<Option<Finish>, Error> {
        self.sampler.accept(token);
        self.n_tok += 1;
        let output = self.stop.push(self.detokenizer.push(token));
        self.text.push_str(output.emit);
        self.stopped = output.stopped;
        let mut is_complete = false;
        if let Some(constraint) = &mut self.constraint {
            constraint.accept(token)?;
            is_complete = constraint.is_finished();
        }
        Ok(if self.stopped.is_some() {
            Some(Finish::StopString)
        } else if is_complete {
            Some(Finish::EndOfText)
        } else if Some(self.n_tok) == self.max_tokens {
            Some(Finish::MaxTokens)
        } else if !room {
            Some(Finish::ContextFull)
        } else {
            None
        })
    }

    /// Text that was held back because more could have come. For an answer that is broken off.
    pub fn held_back(&mut self) -> String {
        let matched = self.stop.push(self.detokenizer.finish());
        let mut rest = matched.emit.to_owned();
        self.stopped = matched.stopped;
        if self.stopped.is_none() {
            let nothing = StopMatcher::new(Vec::new()).expect("no string is empty");
            rest.push_str(&std::mem::replace(&mut self.stop, nothing).finish());
        }
        rest
    }

    fn advanced(&self, token: Option<Sampled>, finish: Option<Finish>) -> Advance<'_> {
        Advance {
            token,
            top: &self.top,
            text: &self.text,
            finish,
        }
    }
}

/// The tokens that have one of these texts in them. A text that no token has whole stands for the last of its tokens.
fn tokens_with(tokenizer: &Tokenizer, texts: &[String]) -> Vec<TokenId> {
    let mut found = vec![false; texts.len()];
    let mut tokens = Vec::new();
    let mut bytes = Vec::new();
    for id in 0..tokenizer.n_vocab() as u32 {
        bytes.clear();
        tokenizer.token_bytes(TokenId(id), &mut bytes);
        let has = |text: &String| {
            let mut places = bytes.windows(text.len().max(1));
            places.any(|place| place == text.as_bytes())
        };
        let mut is_wanted = false;
        for (text, found) in texts.iter().zip(&mut found) {
            if has(text) {
                (is_wanted, *found) = (true, true);
            }
        }
        tokens.extend(is_wanted.then_some(TokenId(id)));
    }
    for (text, _) in texts.iter().zip(&found).filter(|(_, found)| !**found) {
        let encoded = tokenizer.encode(text, EncodeOptions::default());
        tokens.extend(encoded.last().copied());
    }
    tokens
}
