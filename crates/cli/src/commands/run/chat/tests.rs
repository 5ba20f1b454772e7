//! Conversations with a partner who repeats what was said.

use std::collections::VecDeque;

use super::*;

impl Input for VecDeque<Line> {
    fn read(&mut self, _: &str) -> anyhow::Result<Line> {
        Ok(self.pop_front().unwrap_or(Line::End))
    }
}

/// Answers with the number of messages and the last one. A word is a token.
struct Parrot {
    options: GenerateOptions,
    remembers: bool,
    n_ctx: usize,
    finish: Finish,
}

impl Partner for Parrot {
    fn remembers(&self) -> bool {
        self.remembers
    }

    fn n_ctx(&self) -> usize {
        self.n_ctx
    }

    fn n_tok(&self, messages: &[ChatMessage]) -> anyhow::Result<usize> {
        let words = |message: &ChatMessage| {
            let text = message.content.as_text().unwrap_or_default();
            text.split_whitespace().count()
        };
        Ok(messages.iter().map(words).sum())
    }

    fn answer(
        &mut self,
        messages: &[ChatMessage],
        on_text: &mut OnText<'_>,
    ) -> anyhow::Result<Reply> {
        anyhow::ensure!(
            self.n_tok(messages)? <= self.n_ctx,
            "the prompt is too long"
        );
        let last = messages
            .last()
            .and_then(|message| message.content.as_text());
        let text = format!("{}: {}", messages.len(), last.unwrap_or_default());
        on_text(&text)?;
        Ok(Reply {
            text,
            finish: self.finish,
            stats: "stats".to_owned(),
        })
    }

    fn options(&mut self) -> &mut GenerateOptions {
        &mut self.options
    }
}

fn chat() -> Chat<Parrot> {
    Chat {
        partner: Parrot {
            options: GenerateOptions::default(),
            remembers: true,
            n_ctx: 1000,
            finish: Finish::EndOfText,
        },
        system: None,
        turns: Vec::new(),
        quiet: true,
        cleans: true,
    }
}

/// Lines in; stdout, stderr and how it ended out.
fn talk(chat: &mut Chat<Parrot>, lines: &[&str]) -> (String, String, anyhow::Result<()>) {
    let mut input: VecDeque<Line> = lines
        .iter()
        .map(|&line| match line {
            "^C" => Line::Interrupted,
            text => Line::Text(text.to_owned()),
        })
        .collect();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let ended = chat.talk(&mut input, &mut out, &mut err);
    let text = |bytes| String::from_utf8(bytes).expect("is text");
    (text(out), text(err), ended)
}

#[test]
fn what_was_said_is_remembered() {
    let mut chat = chat();
    let (out, err, ended) = talk(&mut chat, &["one", "", "  ", "two", "/clear", "three"]);
    assert_eq!(out, "1: one\n3: two\n1: three\n");
    assert_eq!(err, "The conversation begins anew.\n");
    assert!(ended.is_ok());
}

#[test]
fn a_system_message_goes_first() {
    let mut chat = chat();
    let (out, err, _) = talk(&mut chat, &["/system Be brief.", "/system", "one"]);
    assert_eq!(out, "2: one\n");
    assert!(err.contains("is: Be brief."), "{err}");
    assert_eq!(chat.messages()[0], ChatMessage::new("system", "Be brief."));
}

#[test]
fn an_answer_that_was_stopped_stays() {
    let mut chat = chat();
    chat.partner.finish = Finish::Cancelled;
    let (out, _, ended) = talk(&mut chat, &["one", "two"]);
    assert_eq!(out, "1: one\n3: two\n");
    assert!(ended.is_ok());
    assert_eq!(chat.turns[1], ChatMessage::new("assistant", "1: one"));
}

#[test]
fn the_second_ctrl_c_leaves() {
    let (out, err, ended) = talk(&mut chat(), &["^C", "one", "^C", "^C", "two"]);
    assert_eq!(out, "1: one\n");
    assert_eq!(err.matches("Ctrl-C again").count(), 2);
    assert!(ended.expect_err("was interrupted").is::<Interrupted>());
}

#[test]
fn fences_hold_several_lines() {
    const FENCE: &str = "\"\"\"";
    let lines = [
        FENCE,
        "one",
        "",
        "/help",
        FENCE,
        "\"\"\"two\"\"\"",
        FENCE,
        "lost",
        "^C",
        "three",
        "/bye",
        "four",
    ];
    let (out, _, _) = talk(&mut chat(), &lines);
    assert_eq!(out, "1: one\n\n/help\n3: two\n5: three\n");
}

#[test]
fn the_oldest_turns_go_and_the_user_is_told() {
    let mut chat = chat();
    chat.partner.n_ctx = 40;
    let (out, err, ended) = talk(&mut chat, &["a b c d"; 8]);
    assert!(ended.is_ok());
    assert_eq!(out.lines().count(), 8, "every message was answered");
    let told = "The context of 40 tokens is full: the 3 oldest turns are forgotten.";
    assert!(err.contains(told), "{err}");
    assert_eq!(chat.turns.len() % 2, 0);
    assert_eq!(chat.turns[0].role, "user");
}

#[test]
fn a_message_that_does_not_fit_is_taken_back() {
    let mut chat = chat();
    chat.partner.n_ctx = 10;
    let long = "word ".repeat(20);
    let (out, err, ended) = talk(&mut chat, &["one", &long, "two"]);
    assert!(err.contains("too long"), "{err}");
    assert!(
        !err.contains("forgotten"),
        "nothing is gained by forgetting: {err}"
    );
    assert_eq!(out, "1: one\n3: two\n");
    assert!(ended.is_ok());
}

#[test]
fn texts_are_continued_one_by_one() {
    let mut chat = chat();
    chat.partner.remembers = false;
    let (out, err, _) = talk(&mut chat, &["one", "two", "/system x"]);
    assert_eq!(out, "one1: one\ntwo1: two\n");
    assert!(err.contains("no chat template"), "{err}");
}

#[test]
fn settings_change_from_now_on() {
    let mut chat = chat();
    let (_, err, _) = talk(&mut chat, &["/set temperature 0", "/set", "/nope"]);
    assert_eq!(chat.partner.options.sampling.temperature, 0.0);
    assert!(err.contains("temperature is 0 from now on."), "{err}");
    assert!(err.contains("There is no /nope"), "{err}");
}
