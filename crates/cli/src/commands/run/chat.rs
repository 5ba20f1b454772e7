//! A conversation on a terminal.
//!
//! The loop is written over [`Input`], [`Partner`] and writers, so that a test can be all of them.

mod command;
mod input;

use std::io::{self, IsTerminal as _, Write};

use anyhow::Context as _;
use troika_engine::chat::ChatMessage;
use troika_engine::{Finish, GenerateOptions};

use self::command::Command;
use self::input::{Input, Line, Terminal, read_message};
use super::stats;
use super::writer::{OnText, Writer};
use crate::exit::{self, Interrupted};
use crate::output::{self, Flow};

/// Chats until the user leaves.
pub(super) fn run(
    writer: Writer<'_>,
    system: Option<String>,
    is_built_in: bool,
) -> anyhow::Result<()> {
    let console = writer.console;
    if is_built_in {
        console.note(
            "This is the 7 MB demonstration model; `troika run model.gguf` chats with a real one.",
        );
    }
    console.note(if writer.chats() {
        "Say something. /help tells what else can be done, Ctrl-C stops an answer, Ctrl-D leaves."
    } else {
        "This model has no chat template: begin a text, and it goes on. /help, Ctrl-D leaves."
    });
    let mut input = Terminal::new()?;
    let (mut out, mut err) = (io::stdout().lock(), io::stderr().lock());
    let mut chat = Chat {
        cleans: out.is_terminal(),
        partner: writer,
        system,
        turns: Vec::new(),
        quiet: console.quiet,
    };
    chat.talk(&mut input, &mut out, &mut err)
}

/// Whom the user talks to.
trait Partner {
    /// Whether earlier turns matter. If not, each text is continued by itself.
    fn remembers(&self) -> bool;
    /// Tokens that the context holds.
    fn n_ctx(&self) -> usize;
    /// Tokens of a conversation.
    fn n_tok(&self, messages: &[ChatMessage]) -> anyhow::Result<usize>;
    fn answer(
        &mut self,
        messages: &[ChatMessage],
        on_text: &mut OnText<'_>,
    ) -> anyhow::Result<Reply>;
    fn options(&mut self) -> &mut GenerateOptions;
}

/// What the partner said.
struct Reply {
    text: String,
    finish: Finish,
    stats: String,
}

impl Partner for Writer<'_> {
    fn remembers(&self) -> bool {
        self.chats()
    }

    fn n_ctx(&self) -> usize {
        self.model().n_ctx()
    }

    fn n_tok(&self, messages: &[ChatMessage]) -> anyhow::Result<usize> {
        Ok(self.prompt(messages)?.1.len())
    }

    fn answer(
        &mut self,
        messages: &[ChatMessage],
        on_text: &mut OnText<'_>,
    ) -> anyhow::Result<Reply> {
        let answer = Writer::answer(self, messages, on_text)?;
        Ok(Reply {
            stats: stats::speeds(&answer.summary, self.model().n_ctx()),
            finish: answer.summary.finish,
            text: answer.text,
        })
    }

    fn options(&mut self) -> &mut GenerateOptions {
        &mut self.options
    }
}

struct Chat<P> {
    partner: P,
    system: Option<String>,
    /// The user's messages and the answers, in turn.
    turns: Vec<ChatMessage>,
    quiet: bool,
    /// Control characters in answers are not shown.
    cleans: bool,
}

/// Of the context, the part that is kept free for the next answer is one in this many.
const ANSWER_SHARE: usize = 8;

impl<P: Partner> Chat<P> {
    fn talk(
        &mut self,
        input: &mut dyn Input,
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> anyhow::Result<()> {
        let mut leaving = false;
        loop {
            let text = match read_message(input)? {
                Line::Text(text) => text,
                Line::End => return Ok(()),
                Line::Interrupted if leaving => return Err(Interrupted.into()),
                Line::Interrupted => {
                    leaving = true;
                    say(err, "Ctrl-C again leaves, and so do Ctrl-D and /bye.");
                    continue;
                }
            };
            leaving = false;
            if text.trim().is_empty() {
                continue;
            }
            match Command::parse(&text) {
                Some(Ok(Command::Bye)) => return Ok(()),
                Some(Ok(command)) => self.obey(&command, err),
                Some(Err(complaint)) => say(err, &complaint),
                None => self.turn(&text, out, err)?,
            }
        }
    }

    /// One message and its answer.
    fn turn(&mut self, text: &str, out: &mut dyn Write, err: &mut dyn Write) -> anyhow::Result<()> {
        let remembers = self.partner.remembers();
        // A text that is continued is shown whole.
        let opening = if remembers { "" } else { text };
        let mut flow = Flow::new(out, self.cleans, opening);
        if !remembers {
            self.turns.clear();
        }
        self.turns.push(ChatMessage::new("user", text));
        let answered = self.make_room(err).and_then(|()| {
            let messages = self.messages();
            let mut on_text = |text: &str| flow.show(text);
            self.partner.answer(&messages, &mut on_text)
        });
        let ended = match &answered {
            Ok(_) => flow.end(),
            Err(_) => flow.break_off(),
        };
        ended.context("cannot write the answer")?;
        match answered {
            Ok(reply) => {
                if !self.quiet {
                    say(err, &reply.stats);
                }
                if reply.finish == Finish::ContextFull {
                    say(
                        err,
                        "The answer ends here, because the context is full. The oldest turns go before the next one.",
                    );
                }
                // What was said before Ctrl-C stays said.
                self.turns.push(ChatMessage::new("assistant", reply.text));
                Ok(())
            }
            Err(error) if exit::is_broken_pipe(&error) => Err(error),
            Err(error) => {
                // As if the message had not been sent.
                self.turns.pop();
                output::error_to(err, &error);
                Ok(())
            }
        }
    }

    /// Drops the oldest turns if the conversation leaves no room for an answer, and says so.
    fn make_room(&mut self, err: &mut dyn Write) -> anyhow::Result<()> {
        let n_ctx = self.partner.n_ctx();
        let most = n_ctx - n_ctx / ANSWER_SHARE;
        if self.partner.n_tok(&self.messages())? <= most {
            return Ok(());
        }
        // Down to half, so that this is rare: what is left has to be read again.
        let mut dropped = 0;
        while dropped + 1 < self.turns.len()
            && self.partner.n_tok(&self.messages_from(dropped))? > n_ctx / 2
        {
            // A message and its answer.
            dropped += 2;
        }
        if dropped == 0 || self.partner.n_tok(&self.messages_from(dropped))? > n_ctx {
            // Nothing is gained; the message itself is too long, and the partner will say so.
            return Ok(());
        }
        self.turns.drain(..dropped);
        let turns = match dropped / 2 {
            1 => "oldest turn is".to_owned(),
            n => format!("{n} oldest turns are"),
        };
        say(
            err,
            &format!("The context of {n_ctx} tokens is full: the {turns} forgotten."),
        );
        Ok(())
    }

    fn messages(&self) -> Vec<ChatMessage> {
        self.messages_from(0)
    }

    /// The conversation without its first turns.
    fn messages_from(&self, first: usize) -> Vec<ChatMessage> {
        let system = self
            .system
            .iter()
            .map(|text| ChatMessage::new("system", text.as_str()));
        system.chain(self.turns[first..].iter().cloned()).collect()
    }

    /// Does what a line with a slash asks for.
    fn obey(&mut self, command: &Command, err: &mut dyn Write) {
        let said = match command {
            Command::Help => command::HELP.to_owned(),
            Command::Clear => {
                self.turns.clear();
                "The conversation begins anew.".to_owned()
            }
            Command::System(None) => match &self.system {
                Some(text) => format!("The system message is: {text}"),
                None => "There is no system message.".to_owned(),
            },
            Command::System(Some(_)) if !self.partner.remembers() => {
                "This model has no chat template, so it cannot be told anything beforehand."
                    .to_owned()
            }
            Command::System(Some(text)) => {
                self.system = Some(text.clone());
                "The system message is set.".to_owned()
            }
            Command::Settings => command::settings(self.partner.options()),
            Command::Set { name, value } => match command::set(self.partner.options(), name, value)
            {
                Ok(()) => format!("{name} is {value} from now on."),
                Err(complaint) => complaint,
            },
            Command::Save(path) => match command::save(path, &self.messages()) {
                Ok(()) => format!("Saved to {path}."),
                Err(error) => format!("Not saved: {error:#}"),
            },
            Command::Bye => return,
        };
        say(err, &said);
    }
}

fn say(err: &mut dyn Write, text: &str) {
    // There is nobody left to tell when stderr is gone.
    let _ = writeln!(err, "{text}");
}

#[cfg(test)]
mod tests;
