//! One prompt, one answer.

use std::io::{self, IsTerminal as _};

use anyhow::Context as _;
use troika_engine::Finish;
use troika_engine::chat::ChatMessage;

use super::Origin;
use super::stats::{self, Report};
use super::writer::{Answer, Writer};
use crate::exit::Interrupted;
use crate::output::{self, Console, Flow};

pub(super) fn run(
    mut writer: Writer<'_>,
    prompt: &str,
    system: Option<&str>,
    origin: &Origin,
    is_built_in: bool,
) -> anyhow::Result<()> {
    let console = writer.console;
    let system = system.map(|text| ChatMessage::new("system", text));
    let messages: Vec<_> = system
        .into_iter()
        .chain([ChatMessage::new("user", prompt)])
        .collect();
    let answer = if console.json {
        let answer = writer.answer(&messages, &mut |_| Ok(()))?;
        output::json_line(&Report::new(origin, writer.model(), &answer))?;
        answer
    } else {
        // A text that is continued is shown whole.
        let echo = if writer.chats() { "" } else { prompt };
        write(&mut writer, &messages, echo)?
    };
    console.note(stats::line(origin, &answer, writer.model().n_ctx()));
    if is_built_in {
        note_on_demonstration(&console);
    }
    match answer.summary.finish {
        Finish::Cancelled => Err(Interrupted.into()),
        _ => Ok(()),
    }
}

/// Lets the answer flow to stdout, after `echo`, with a line break at the end.
fn write(writer: &mut Writer<'_>, messages: &[ChatMessage], echo: &str) -> anyhow::Result<Answer> {
    let mut out = io::stdout().lock();
    let is_terminal = out.is_terminal();
    let mut flow = Flow::new(&mut out, is_terminal, echo);
    let answer = writer.answer(messages, &mut |text| flow.show(text));
    let ended = match &answer {
        Ok(_) => flow.end(),
        Err(_) => flow.break_off(),
    };
    ended.context("cannot write the answer")?;
    answer
}

fn note_on_demonstration(console: &Console) {
    console.note(
        "note: this was the 7 MB demonstration model inside; `troika run model.gguf \"...\"` runs a real one",
    );
}
