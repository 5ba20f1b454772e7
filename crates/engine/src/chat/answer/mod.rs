//! The way back: from the text that a model writes to what it says, thinks, and calls.
//!
//! A chat template shows how its family writes these. [`AnswerFormat::of`] knows them by features of the template's
//! source, never by a model's name; [`AnswerFormat::parser`] takes an answer apart while it is written; and
//! [`AnswerFormat::tool_grammar`] writes down the family's form of a call, for a model that has to make one. Nothing
//! here runs a tool, or judges whether its arguments are right.

mod call;
mod family;
mod grammar;
mod harmony;
mod marked;
mod scan;
mod search;
mod tools;

use std::sync::Arc;

use serde_json::Value;
use troika_base::TokenId;

use super::message::ToolCall;
use family::{Family, Forms};
use harmony::Harmony;
use marked::Marked;
use tools::Tools;

/// How a model's family writes an answer.
#[derive(Clone, Debug)]
pub struct AnswerFormat {
    forms: Arc<Forms>,
}

/// A part of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum AnswerPart {
    /// What is said.
    Content(String),
    /// What is thought before it is said.
    Reasoning(String),
    /// A call of a tool, whole. It has no `id`, and its arguments are an object's JSON as text.
    ToolCall(ToolCall),
}

/// A call that an answer has to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequiredCall {
    /// Of one of the tools.
    OneOf,
    /// Of the tool with this name.
    Named(String),
}

/// What a grammar is made for.
#[derive(Clone, Copy)]
pub struct GrammarContext<'a> {
    /// The end of the rendered prompt, as in [`AnswerFormat::parser`].
    pub prompt_tail: &'a str,
    /// The id of the control or user-defined token with this text, if the vocabulary has one. Markers that are tokens
    /// are then written as such, and others letter by letter.
    pub token: &'a dyn Fn(&str) -> Option<TokenId>,
}

impl AnswerFormat {
    /// The format that a template's source shows.
    pub fn of(template_source: &str) -> Self {
        Self {
            forms: Arc::new(Forms::of(template_source)),
        }
    }

    /// Whether the template knows tools.
    pub fn knows_tools(&self) -> bool {
        self.forms.family != Family::None
    }

    /// Whether the template knows thinking.
    pub fn knows_thinking(&self) -> bool {
        self.forms.family == Family::Harmony || self.forms.thinking.is_some()
    }

    /// Texts of tokens that a parser must see, where the vocabulary has them as control tokens, which are no text
    /// otherwise.
    pub fn markers(&self) -> &[&'static str] {
        &self.forms.markers
    }

    /// Texts of tokens that end an answer in this format, beside the ones that the model's file names.
    pub fn ends(&self) -> &'static [&'static str] {
        self.forms.family.ends()
    }

    /// Takes one answer apart.
    ///
    /// `prompt_tail` is the end of the rendered prompt (some hundred bytes do, the whole does as well): it tells whether
    /// the answer begins within a thought. `tools` are the ones of the request: without any, the marks of calls are
    /// plain text.
    pub fn parser(&self, prompt_tail: &str, tools: &[Value]) -> AnswerParser {
        let tools = Tools::new(tools);
        AnswerParser {
            kind: match self.forms.family {
                Family::Harmony => Kind::Harmony(Harmony::new(prompt_tail, tools)),
                _ => Kind::Marked(Marked::new(Arc::clone(&self.forms), prompt_tail, tools)),
            },
        }
    }

    /// A grammar, in llguidance's form of Lark, of answers that call a tool: a thought if the model likes, where the
    /// format has them and the prompt has none; then one call, or several if `parallel`.
    ///
    /// Where the prompt has opened a thought, the grammar holds from its end on: once the parser is no longer
    /// [in reasoning](AnswerParser::in_reasoning).
    ///
    /// Arguments follow the tool's own schema. `None` if the format has no calls, or there is no such tool.
    pub fn tool_grammar(
        &self,
        tools: &[Value],
        choice: &RequiredCall,
        parallel: bool,
        context: GrammarContext<'_>,
    ) -> Option<String> {
        grammar::tool_grammar(&self.forms, &Tools::new(tools), choice, parallel, context)
    }

    /// A grammar of answers whose content has a given form, with a thought before it as in
    /// [`tool_grammar`](Self::tool_grammar).
    ///
    /// `content` is an expression of Lark: `%json {..}`, `/regex/`, or a grammar as `%lark {..}`, with the closing brace
    /// on a line of its own.
    pub fn content_grammar(&self, content: &str, context: GrammarContext<'_>) -> String {
        grammar::content_grammar(&self.forms, content, context)
    }
}

/// Takes an answer apart while it is written.
///
/// Text goes out as soon as it cannot be the beginning of a marker; a call goes out when it is complete. What comes out
/// in all does not depend on how the text was cut. A call that is broken or cut off comes out as content, as it was
/// written. Time is linear in the text.
#[derive(Clone, Debug)]
pub struct AnswerParser {
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Marked(Marked),
    Harmony(Harmony),
}

impl AnswerParser {
    /// The parts that are certain with this text.
    pub fn push(&mut self, text: &str) -> Vec<AnswerPart> {
        let mut out = Parts::default();
        match &mut self.kind {
            Kind::Marked(parser) => parser.push(text, &mut out),
            Kind::Harmony(parser) => parser.push(text, &mut out),
        }
        out.parts
    }

    /// What is left when no more text comes.
    pub fn finish(self) -> Vec<AnswerPart> {
        let mut out = Parts::default();
        match self.kind {
            Kind::Marked(parser) => parser.finish(&mut out),
            Kind::Harmony(parser) => parser.finish(&mut out),
        }
        out.parts
    }

    /// Whether the text at this point is thought.
    pub fn in_reasoning(&self) -> bool {
        match &self.kind {
            Kind::Marked(parser) => parser.in_reasoning(),
            Kind::Harmony(parser) => parser.in_reasoning(),
        }
    }
}

/// Collects parts; neighbours of a kind become one.
#[derive(Debug, Default)]
struct Parts {
    parts: Vec<AnswerPart>,
}

impl Parts {
    fn content(&mut self, text: &str) {
        match self.parts.last_mut() {
            _ if text.is_empty() => {}
            Some(AnswerPart::Content(last)) => last.push_str(text),
            _ => self.parts.push(AnswerPart::Content(text.to_owned())),
        }
    }

    fn reasoning(&mut self, text: &str) {
        match self.parts.last_mut() {
            _ if text.is_empty() => {}
            Some(AnswerPart::Reasoning(last)) => last.push_str(text),
            _ => self.parts.push(AnswerPart::Reasoning(text.to_owned())),
        }
    }

    fn calls(&mut self, calls: Vec<ToolCall>) {
        self.parts
            .extend(calls.into_iter().map(AnswerPart::ToolCall));
    }
}

#[cfg(test)]
mod tests;
