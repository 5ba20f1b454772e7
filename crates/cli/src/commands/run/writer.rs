//! Messages in, an answer out: template, tokens, session.

use std::io;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use troika_base::TokenId;
use troika_engine::chat::{ChatInput, ChatMessage, ChatTemplate};
use troika_engine::tokenizer::EncodeOptions;
use troika_engine::{Event, GenerateOptions, Model, Session, Summary};
use troika_library::{Manifest, Turn};

use super::draft::Drafting;
use crate::interrupt::Interrupt;
use crate::output::{self, Console};
use crate::progress::{Progress, Unit};

/// One conversation with a model.
pub(super) struct Writer<'m> {
    session: Session<'m>,
    /// Whether messages go through the model's template; else the last one is continued as a text.
    chats: bool,
    /// The one that the model was created with, in place of its file's.
    template: Option<ChatTemplate>,
    /// Turns that the model was created with; they stand before every conversation.
    examples: Vec<ChatMessage>,
    pub(super) options: GenerateOptions,
    drafting: Option<Drafting<'m>>,
    pub(super) console: Console,
    interrupt: Interrupt,
}

/// What was written.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) text: String,
    pub(super) summary: Summary,
    /// From the beginning of the prompt to the first token; `None` if there was none.
    pub(super) ttft: Option<Duration>,
    /// Whether tokens were guessed ahead.
    pub(super) drafts: bool,
}

/// Takes an answer's text as it comes.
pub(super) type OnText<'a> = dyn FnMut(&str) -> io::Result<()> + 'a;

impl<'m> Writer<'m> {
    /// A conversation that has not begun.
    ///
    /// # Errors
    /// If the model's chat template is broken, and `raw` does not do without.
    pub(super) fn new(
        model: &'m mut Model,
        options: GenerateOptions,
        settings: &Manifest,
        raw: bool,
        console: Console,
        interrupt: Interrupt,
    ) -> anyhow::Result<Self> {
        let own = settings.template.as_deref().map(ChatTemplate::new);
        let (template, usable) = match (own, model.chat_template()) {
            _ if raw => (None, Ok(false)),
            (Some(Ok(template)), _) => (Some(template), Ok(true)),
            (Some(Err(error)), _) => (None, Err(error)),
            (None, Some(Ok(_))) => (None, Ok(true)),
            (None, Some(Err(error))) => (None, Err(error.clone())),
            (None, None) => (None, Ok(false)),
        };
        let chats = usable.context("cannot chat with this model")?;
        let example = |turn: &Turn| ChatMessage::new(&*turn.role, &*turn.content);
        Ok(Self {
            session: Session::new(model),
            chats,
            template,
            examples: settings.messages.iter().map(example).collect(),
            options: GenerateOptions {
                from_start: chats,
                ..options
            },
            drafting: None,
            console,
            interrupt,
        })
    }

    pub(super) fn with_drafts(self, drafting: Option<Drafting<'m>>) -> Self {
        Self { drafting, ..self }
    }

    pub(super) fn chats(&self) -> bool {
        self.chats
    }

    pub(super) fn model(&self) -> &Model {
        self.session.model()
    }

    /// A conversation as the model gets it: the text, and its tokens.
    ///
    /// # Errors
    /// If the template refuses it.
    pub(super) fn prompt(
        &self,
        messages: &[ChatMessage],
    ) -> anyhow::Result<(String, Vec<TokenId>)> {
        let tokenizer = self.model().tokenizer();
        let template = match (&self.template, self.model().chat_template()) {
            (Some(template), _) | (None, Some(Ok(template))) if self.chats => template,
            _ => {
                let last = messages.last();
                let text = last.and_then(|message| message.content.as_text());
                let text = text.unwrap_or_default();
                let options = EncodeOptions {
                    add_special: true,
                    parse_special: false,
                };
                let tokens = tokenizer.encode(&text, options);
                return Ok((text, tokens));
            }
        };
        let special = |id: Option<TokenId>| Some(tokenizer.token_text(id?)?.to_owned());
        let text = template.render(&ChatInput {
            messages: self.with_examples(messages),
            add_generation_prompt: true,
            bos_token: special(tokenizer.bos()),
            eos_token: special(tokenizer.eos()),
            ..ChatInput::default()
        })?;
        // The template writes what begins a text, where the model wants it.
        let options = EncodeOptions {
            add_special: false,
            parse_special: true,
        };
        let tokens = tokenizer.encode(&text, options);
        Ok((text, tokens))
    }

    /// The conversation with the examples in their place, after what the model is told beforehand.
    fn with_examples(&self, messages: &[ChatMessage]) -> Vec<ChatMessage> {
        let is_system = |message: &&ChatMessage| message.role == "system";
        let told = messages.iter().take_while(is_system).count();
        [&messages[..told], &self.examples, &messages[told..]].concat()
    }

    /// Answers a conversation. Ctrl-C ends the answer, and what was written until then is returned.
    ///
    /// # Errors
    /// If the prompt is too long, the text cannot be handed out, or the engine fails.
    pub(super) fn answer(
        &mut self,
        messages: &[ChatMessage],
        on_text: &mut OnText<'_>,
    ) -> anyhow::Result<Answer> {
        self.interrupt.clear();
        let (prompt_text, prompt) = self.prompt(messages)?;
        if self.console.verbose > 1 {
            output::say(format_args!(
                "--- the prompt as the model gets it\n{}\n--- {} tokens: {prompt:?}",
                output::printable(&prompt_text),
                prompt.len()
            ));
        }
        let mut bar = Progress::new(&self.console, "reading", Unit::Tokens);
        let (mut text, mut ttft, mut failed) = (String::new(), None, None);
        let started = Instant::now();
        let mut on_event = |event: Event<'_>| {
            match event {
                Event::Prompt { done, total } => bar.update(done as u64, total as u64),
                Event::Token { .. } if ttft.is_none() => {
                    ttft = Some(started.elapsed());
                    bar.clear();
                }
                Event::Text(piece) => {
                    text.push_str(piece);
                    if let Err(error) = on_text(piece) {
                        failed = Some(error);
                        return ControlFlow::Break(());
                    }
                }
                _ => {}
            }
            self.interrupt.flow(())
        };
        let result = match &mut self.drafting {
            None => self.session.generate(&prompt, &self.options, &mut on_event),
            Some(Drafting { drafter, most }) => self.session.generate_with_drafts(
                &prompt,
                &self.options,
                &mut **drafter,
                *most,
                &mut on_event,
            ),
        };
        bar.clear();
        if let Some(error) = failed {
            return Err(error).context("cannot write the answer");
        }
        Ok(Answer {
            summary: result?,
            text,
            ttft,
            drafts: self.drafting.is_some(),
        })
    }
}
