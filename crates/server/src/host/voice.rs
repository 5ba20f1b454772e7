//! One answer on its way: tokens become text, text becomes parts of a message, parts become events.

use std::sync::Arc;

use troika_base::TokenId;
use troika_engine::chat::{AnswerParser, AnswerPart};
use troika_engine::constraint::Constraint;
use troika_engine::tokenizer::Tokenizer;
use troika_engine::{Error, Finish, GenerateOptions, Writer};

use super::guess::Guessing;
use crate::ids::new_id;
use crate::job::{Delta, FinishReason, Part, TokenLogprob};

/// How the answers of a job are written.
#[derive(Clone, Debug)]
pub(super) struct Style {
    pub(super) options: GenerateOptions,
    /// `None` where an answer is plain text.
    pub(super) parser: Option<AnswerParser>,
    /// Holds for what is said, and not for what is thought before.
    pub(super) constraint: Option<Constraint>,
    /// Whether tokens are reported with their log-probabilities.
    pub(super) logprobs: bool,
    /// How its next tokens are guessed.
    pub(super) guessing: Guessing,
}

/// Writes one answer.
pub(super) struct Voice {
    choice: usize,
    tokenizer: Arc<Tokenizer>,
    writer: Writer,
    parser: Option<AnswerParser>,
    /// Waits for the end of reasoning.
    constraint: Option<Constraint>,
    stop: Vec<String>,
    logprobs: bool,
    calls: usize,
    pub(super) reasoning_tokens: usize,
}

/// What one step added to an answer.
pub(super) struct Spoken {
    /// The token to go on with; `None` if the answer has ended without one.
    pub(super) token: Option<TokenId>,
    /// What the client hears of it.
    pub(super) delta: Delta,
    /// Why the answer ended, if it did.
    pub(super) finish: Option<FinishReason>,
}

impl Voice {
    /// The answer number `choice` to a prompt.
    ///
    /// # Errors
    /// If an option is out of range.
    pub(super) fn new(
        choice: usize,
        tokenizer: &Arc<Tokenizer>,
        prompt: &[TokenId],
        style: &Style,
    ) -> Result<Self, Error> {
        let mut options = style.options.clone();
        // Answers of one job differ, and are repeatable all the same.
        let seed = options.sampling.seed;
        options.sampling.seed = seed.map(|seed| seed.wrapping_add(choice as u64));
        Ok(Self {
            choice,
            tokenizer: Arc::clone(tokenizer),
            writer: Writer::new(tokenizer, prompt, &options)?,
            parser: style.parser.clone(),
            constraint: style.constraint.clone(),
            stop: options.stop,
            logprobs: style.logprobs,
            calls: 0,
            reasoning_tokens: 0,
        })
    }

    /// As [`Writer::goes_on_as_expected`].
    pub(super) fn goes_on_as_expected(&self) -> bool {
        self.constraint.is_none() && self.writer.goes_on_as_expected()
    }

    /// As [`Writer::wanted`].
    pub(super) fn wanted(&self) -> usize {
        self.writer.wanted()
    }

    /// Chooses the token that follows `logits`; `room` as in [`Writer::advance`].
    ///
    /// # Errors
    /// If the logits are no numbers, or no token fits the form that the answer must have.
    pub(super) fn speak(&mut self, logits: &[f32], room: bool) -> Result<Spoken, Error> {
        let thinks = self.parser.as_ref().is_some_and(AnswerParser::in_reasoning);
        if !thinks && let Some(constraint) = self.constraint.take() {
            self.writer.constrain(constraint);
        }
        let advance = self.writer.advance(logits, room)?;
        let tokens = match advance.token {
            Some(sampled) if self.logprobs => {
                let top = advance.top.iter();
                let top = top.map(|&(id, logprob)| token(&self.tokenizer, id, logprob));
                let mut chosen = token(&self.tokenizer, sampled.token, sampled.logprob);
                chosen.top = top.collect();
                vec![chosen]
            }
            _ => Vec::new(),
        };
        let next = advance.token.map(|sampled| sampled.token);
        let ended = advance.finish;
        let mut parts = match &mut self.parser {
            Some(parser) => parser.push(advance.text),
            None if advance.text.is_empty() => Vec::new(),
            None => vec![AnswerPart::Content(advance.text.to_owned())],
        };
        self.reasoning_tokens += usize::from(thinks && next.is_some());
        if ended.is_some()
            && let Some(parser) = self.parser.take()
        {
            parts.extend(parser.finish());
        }
        let parts = parts.into_iter().map(|part| self.part(part)).collect();
        Ok(Spoken {
            token: next,
            delta: Delta {
                choice: self.choice,
                parts,
                tokens,
            },
            finish: ended.map(|ended| self.reason(ended)),
        })
    }

    fn part(&mut self, part: AnswerPart) -> Part {
        match part {
            AnswerPart::Content(text) => Part::Content(text),
            AnswerPart::Reasoning(text) => Part::Reasoning(text),
            AnswerPart::ToolCall(mut call) => {
                self.calls += 1;
                call.id.get_or_insert_with(|| new_id("call_"));
                Part::ToolCall(call)
            }
        }
    }

    fn reason(&self, ended: Finish) -> FinishReason {
        match ended {
            Finish::MaxTokens | Finish::ContextFull => FinishReason::Length,
            _ if self.calls > 0 => FinishReason::ToolCalls,
            Finish::StopString => {
                let stop = self.writer.stopped().and_then(|i| self.stop.get(i));
                FinishReason::StopString(stop.cloned().unwrap_or_default())
            }
            _ => FinishReason::EndOfText,
        }
    }
}

fn token(tokenizer: &Tokenizer, id: TokenId, logprob: f32) -> TokenLogprob {
    let mut bytes = Vec::new();
    tokenizer.token_bytes(id, &mut bytes);
    if bytes.is_empty() {
        // Control tokens are no text, but have a name.
        bytes.extend(tokenizer.token_text(id).unwrap_or_default().bytes());
    }
    TokenLogprob {
        id: id.0,
        bytes,
        logprob,
        top: Vec::new(),
    }
}
