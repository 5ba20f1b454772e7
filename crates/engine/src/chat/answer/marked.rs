//! Answers with marks around thoughts and calls.

use std::sync::Arc;

use super::call::calls;
use super::family::{Body, CallForm, Forms};
use super::scan::{Extent, Progress, Scanner, skip_space};
use super::search::{Beginning, Sighting, begins, first_mark};
use super::tools::Tools;
use super::{AnswerPart, Parts};

/// A call of more bytes than this is none.
const CALL_BYTES_MAX: usize = 1 << 20;

/// What may stand between one call and the next, or the mark that closes it.
const FILLERS: [&str; 4] = [";", ",", "```", "</function>"];

/// Takes an answer with marks apart.
#[derive(Clone, Debug)]
pub(super) struct Marked {
    forms: Arc<Forms>,
    tools: Tools,
    /// The marks that count within content.
    marks: Vec<(&'static str, Mark)>,
    /// A call with no mark may come where content begins.
    bare: Option<CallForm>,
    state: State,
    /// Text that has not gone out.
    buffer: String,
    /// What of it has been dealt with.
    at: usize,
    /// What of it is known to hold nothing of interest: within content, space that may belong to a mark.
    seen: usize,
    /// Space ahead belongs to a mark.
    trims: bool,
    /// Nothing has been said since the beginning, a thought, or a call.
    fresh: bool,
}

#[derive(Clone, Copy, Debug)]
enum Mark {
    Thought,
    Dropped,
    Call(CallForm),
}

#[derive(Clone, Debug)]
enum State {
    Content,
    Thought {
        close: &'static str,
    },
    /// A call whose body begins so many bytes behind `at`.
    Call {
        body: usize,
        form: CallForm,
        scanner: Box<Scanner>,
    },
    /// Behind a call, before what closes it.
    After {
        form: CallForm,
    },
}

/// Whether a step came to an end with the text there is.
#[derive(PartialEq, Eq)]
enum Step {
    Next,
    NeedsMore,
}

impl Marked {
    pub(super) fn new(forms: Arc<Forms>, prompt_tail: &str, tools: Tools) -> Self {
        let mut marks = Vec::new();
        marks.extend(
            forms
                .thinking
                .map(|thinking| (thinking.open, Mark::Thought)),
        );
        marks.extend(forms.dropped.iter().map(|mark| (*mark, Mark::Dropped)));
        let mut bare = None;
        if !tools.is_empty() {
            let dropped = forms.dropped_with_tools.iter();
            marks.extend(dropped.map(|mark| (*mark, Mark::Dropped)));
            for form in &forms.calls {
                match form.body {
                    Body::Bare => bare = Some(*form),
                    _ => marks.push((form.open, Mark::Call(*form))),
                }
            }
        }
        let open = forms
            .thinking
            .filter(|thinking| prompt_tail.trim_end().ends_with(thinking.open));
        Self {
            state: match open {
                Some(thinking) => State::Thought {
                    close: thinking.close,
                },
                None => State::Content,
            },
            trims: open.is_some(),
            forms,
            tools,
            marks,
            bare,
            buffer: String::new(),
            at: 0,
            seen: 0,
            fresh: true,
        }
    }

    pub(super) fn in_reasoning(&self) -> bool {
        matches!(self.state, State::Thought { .. })
    }

    pub(super) fn push(&mut self, text: &str, out: &mut Parts) {
        self.buffer.push_str(text);
        self.run(out);
        if self.at > 0 {
            self.buffer.drain(..self.at);
            self.seen -= self.at;
            self.at = 0;
        }
    }

    pub(super) fn finish(mut self, out: &mut Parts) {
        let rest = &self.buffer[self.at..];
        match self.state {
            State::Thought { .. } => out.reasoning(rest),
            State::Content | State::Call { .. } => out.content(rest),
            State::After { .. } => {
                self.state = State::Content;
                out.content(rest.trim_start());
            }
        }
    }

    fn run(&mut self, out: &mut Parts) {
        loop {
            if self.trims {
                skip_space(&self.buffer, &mut self.at);
                self.seen = self.seen.max(self.at);
                if self.at == self.buffer.len() {
                    return;
                }
                self.trims = false;
            }
            let step = match &self.state {
                State::Content => self.content(out),
                State::Thought { close } => self.thought(close, out),
                State::Call { .. } => self.call(out),
                State::After { form } => self.after(*form),
            };
            if step == Step::NeedsMore {
                return;
            }
        }
    }

    fn content(&mut self, out: &mut Parts) -> Step {
        if self.fresh
            && let Some(step) = self.beginning(out)
        {
            return step;
        }
        let said_marks = |mark: &&(&'static str, Mark)| !matches!(mark.1, Mark::Thought);
        let marks = self.marks.iter().filter(said_marks);
        let rest = &self.buffer[self.seen..];
        let (end, mark) = match first_mark(rest, marks.clone().map(|(mark, _)| *mark)) {
            Sighting::Mark(index, start) => (self.seen + start, marks.clone().nth(index).copied()),
            Sighting::Maybe(start) => (self.seen + start, None),
        };
        self.say(end, out);
        match mark {
            Some((mark, kind)) => self.meet(kind, end + mark.len()),
            None => Step::NeedsMore,
        }
    }

    /// Where nothing has been said, thoughts count as well, and calls with no mark.
    fn beginning(&mut self, out: &mut Parts) -> Option<Step> {
        skip_space(&self.buffer, &mut self.seen);
        let rest = &self.buffer[self.seen..];
        let Some(first) = rest.chars().next() else {
            return Some(Step::NeedsMore);
        };
        let mut may_come = false;
        for &(mark, kind) in &self.marks {
            match begins(rest, mark) {
                Beginning::Yes => return Some(self.meet(kind, self.seen + mark.len())),
                Beginning::Maybe => may_come = true,
                Beginning::No => {}
            }
        }
        if may_come {
            return Some(Step::NeedsMore);
        }
        if let (Some(form), '{' | '[' | '`') = (self.bare, first) {
            return Some(self.enter(form, self.seen));
        }
        self.fresh = false;
        out.content(&self.buffer[self.at..self.seen]);
        self.at = self.seen;
        None
    }

    /// Goes on behind a mark.
    fn meet(&mut self, mark: Mark, behind: usize) -> Step {
        match mark {
            Mark::Call(form) => return self.enter(form, behind),
            Mark::Thought => {
                self.state = State::Thought {
                    close: self.forms.thinking.map_or("", |thinking| thinking.close),
                };
                self.trims = true;
            }
            // Space around a mark belongs to it where nothing has been said.
            Mark::Dropped => self.trims = self.fresh,
        }
        self.pass(behind);
        Step::Next
    }

    /// Gives out content up to `end`, but for space that may belong to the mark of a call behind it.
    fn say(&mut self, end: usize, out: &mut Parts) {
        let new = &self.buffer[self.seen..end];
        let calls = self
            .marks
            .iter()
            .any(|(_, mark)| matches!(mark, Mark::Call(_)));
        let solid = if calls { new.trim_end() } else { new };
        if !solid.is_empty() {
            let said = self.seen + solid.len();
            out.content(&self.buffer[self.at..said]);
            self.at = said;
        }
        self.seen = end;
    }

    /// Goes on behind `to`, whatever is left before it.
    fn pass(&mut self, to: usize) {
        self.at = to;
        self.seen = to;
    }

    fn enter(&mut self, form: CallForm, body: usize) -> Step {
        self.state = State::Call {
            body: body - self.at,
            form,
            scanner: Box::new(Scanner::new(form)),
        };
        Step::Next
    }

    fn thought(&mut self, close: &'static str, out: &mut Parts) -> Step {
        // Where the prompt has opened the thought, some answers open it once more.
        if let (true, Some(thinking)) = (self.fresh, self.forms.thinking) {
            match begins(&self.buffer[self.seen..], thinking.open) {
                Beginning::Yes => {
                    self.pass(self.seen + thinking.open.len());
                    self.trims = true;
                    return Step::Next;
                }
                Beginning::Maybe => return Step::NeedsMore,
                Beginning::No => self.fresh = false,
            }
        }
        let rest = &self.buffer[self.seen..];
        let (end, closed) = match first_mark(rest, std::iter::once(close)) {
            Sighting::Mark(_, start) => (self.seen + start, true),
            Sighting::Maybe(start) => (self.seen + start, false),
        };
        let solid = self.buffer[self.seen..end].trim_end();
        if !solid.is_empty() {
            let thought = self.seen + solid.len();
            out.reasoning(&self.buffer[self.at..thought]);
            self.at = thought;
        }
        self.seen = end;
        if !closed {
            return Step::NeedsMore;
        }
        self.pass(end + close.len());
        self.state = State::Content;
        self.trims = true;
        self.fresh = true;
        Step::Next
    }

    fn call(&mut self, out: &mut Parts) -> Step {
        let State::Call {
            body,
            form,
            scanner,
        } = &mut self.state
        else {
            return Step::Next;
        };
        let (body, form) = (self.at + *body, *form);
        let text = &self.buffer[body..];
        let full = text.len() >= CALL_BYTES_MAX;
        let text = &text[..text.floor_char_boundary(CALL_BYTES_MAX)];
        match scanner.advance(text) {
            Progress::More if full => self.give_up(body + text.len(), out),
            Progress::More => return Step::NeedsMore,
            Progress::Broken(end) => self.give_up(body + end, out),
            Progress::Done(end, extent) => {
                let end = body + end;
                match self.read(body, &extent, form) {
                    Some(parts) => {
                        out.parts.extend(parts);
                        self.pass(end);
                        self.state = State::After { form };
                    }
                    None => self.give_up(end, out),
                }
            }
        }
        Step::Next
    }

    fn read(&self, body: usize, extent: &Extent, form: CallForm) -> Option<Vec<AnswerPart>> {
        let known_only = form.body == Body::Bare;
        let calls = calls(&self.buffer[body..], extent, &self.tools, known_only)?;
        Some(calls.into_iter().map(AnswerPart::ToolCall).collect())
    }

    /// What seemed to be a call is content after all. Space at its end may belong to the next mark.
    fn give_up(&mut self, end: usize, out: &mut Parts) {
        let text = &self.buffer[self.at..end];
        let solid = text.trim_end();
        out.content(solid);
        self.at += solid.len();
        self.seen = end;
        self.state = State::Content;
        self.fresh = false;
    }

    fn after(&mut self, form: CallForm) -> Step {
        skip_space(&self.buffer, &mut self.seen);
        let rest = &self.buffer[self.seen..];
        let closes = (!form.close.is_empty()).then_some(form.close);
        let expected = FILLERS.into_iter().chain(closes);
        let mut may_come = rest.is_empty();
        for mark in expected {
            match begins(rest, mark) {
                Beginning::Yes => {
                    self.pass(self.seen + mark.len());
                    if closes == Some(mark) {
                        self.state = State::Content;
                        self.trims = true;
                        self.fresh = true;
                    }
                    return Step::Next;
                }
                Beginning::Maybe => may_come = true,
                Beginning::No => {}
            }
        }
        if may_come {
            return Step::NeedsMore;
        }
        let more_of_it = matches!(form.body, Body::Tagged | Body::Json | Body::Bare);
        if more_of_it && rest.starts_with('{') {
            return self.enter(form, self.seen);
        }
        self.pass(self.seen);
        self.state = State::Content;
        self.fresh = true;
        Step::Next
    }
}
