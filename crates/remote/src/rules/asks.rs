//! What the judge reads of a job: every text of it that an endpoint would be sent.

use std::borrow::Cow;

use serde_json::Value;
use troika_engine::chat::{ChatMessage, Content};
use troika_job::{ChatPrompt, EmbedJob, Format, Job, Prompt, ToolChoice};

/// How deep JSON in texts of JSON is read as such: arguments of calls, results of tools that quote them.
const NESTING: usize = 4;

/// Something that may be asked of an endpoint.
pub trait Asks {
    /// Every text in it, whoever wrote it: system, user, tools, their results, schemas; keys of objects, too. What is said
    /// in several parts is also there as one.
    fn texts(&self) -> Vec<Cow<'_, str>>;

    /// Whether all of it is text. Numbers of tokens are not: nobody can tell what they say, here or there.
    fn is_text(&self) -> bool;

    /// Whether it has tools, or calls of them.
    fn has_tools(&self) -> bool;

    /// The model, as the client names it.
    fn model(&self) -> &str;

    /// Asks for another model; returns the one before.
    fn set_model(&mut self, model: &str) -> String;

    /// Whether it says of itself that it must not leave.
    fn local_only(&self) -> bool;

    /// The one device that may do it, if it names one: `npu0`, `remote:NAME`.
    fn device(&self) -> Option<&str>;

    /// How many answers it wants, each of which may be a request of its own.
    fn answers(&self) -> usize;

    /// Tokens of each answer at most; `None` if it sets no limit.
    fn answer_tokens(&self) -> Option<usize>;
}

impl Asks for Job {
    fn texts(&self) -> Vec<Cow<'_, str>> {
        let mut texts = Texts::default();
        texts.prompt(&self.prompt);
        texts.all(&self.stop);
        match &self.format {
            Format::Text | Format::JsonObject => {}
            Format::JsonSchema(schema) => texts.json(schema),
            Format::Regex(text) | Format::Lark(text) => texts.add(text),
        }
        texts.0
    }

    fn is_text(&self) -> bool {
        !matches!(self.prompt, Prompt::Tokens(_))
    }

    fn has_tools(&self) -> bool {
        match &self.prompt {
            Prompt::Chat(chat) => {
                let calls = |turn: &ChatMessage| !turn.tool_calls.is_empty() || turn.role == "tool";
                !chat.tools.is_empty() || chat.messages.iter().any(calls)
            }
            Prompt::Text(_) | Prompt::Rendered(_) | Prompt::Tokens(_) => false,
        }
    }

    fn model(&self) -> &str {
        &self.model
    }

    fn set_model(&mut self, model: &str) -> String {
        std::mem::replace(&mut self.model, model.to_owned())
    }

    fn local_only(&self) -> bool {
        self.wishes.local_only
    }

    fn device(&self) -> Option<&str> {
        self.wishes.device.as_deref()
    }

    fn answers(&self) -> usize {
        self.n.max(1)
    }

    fn answer_tokens(&self) -> Option<usize> {
        self.max_tokens
    }
}

impl Asks for EmbedJob {
    fn texts(&self) -> Vec<Cow<'_, str>> {
        let mut texts = Texts::default();
        for input in &self.inputs {
            texts.prompt(input);
        }
        texts.0
    }

    fn is_text(&self) -> bool {
        let tokens = |input: &Prompt| matches!(input, Prompt::Tokens(_));
        !self.inputs.iter().any(tokens)
    }

    fn has_tools(&self) -> bool {
        false
    }

    fn model(&self) -> &str {
        &self.model
    }

    fn set_model(&mut self, model: &str) -> String {
        std::mem::replace(&mut self.model, model.to_owned())
    }

    fn local_only(&self) -> bool {
        self.wishes.local_only
    }

    fn device(&self) -> Option<&str> {
        self.wishes.device.as_deref()
    }

    fn answers(&self) -> usize {
        1
    }

    fn answer_tokens(&self) -> Option<usize> {
        Some(0)
    }
}

/// Texts, as they are found.
#[derive(Default)]
struct Texts<'a>(Vec<Cow<'a, str>>);

impl<'a> Texts<'a> {
    fn add(&mut self, text: &'a str) {
        if text.is_empty() {
            return;
        }
        self.0.push(Cow::Borrowed(text));
        let mut found = Vec::new();
        inside(text, NESTING, &mut found);
        self.0.extend(found.into_iter().map(Cow::Owned));
    }

    fn all(&mut self, texts: impl IntoIterator<Item = &'a String>) {
        for text in texts {
            self.add(text);
        }
    }

    /// What is split may hide what it says: parts are read as one, too.
    fn joined(&mut self, parts: &[&str]) {
        if parts.len() > 1 {
            self.0.push(Cow::Owned(parts.concat()));
            self.0.push(Cow::Owned(parts.join("\n")));
        }
    }

    fn prompt(&mut self, prompt: &'a Prompt) {
        match prompt {
            Prompt::Chat(chat) => self.chat(chat),
            Prompt::Text(text) | Prompt::Rendered(text) => self.add(text),
            Prompt::Tokens(_) => {}
        }
    }

    fn chat(&mut self, chat: &'a ChatPrompt) {
        for turn in &chat.messages {
            self.turn(turn);
        }
        for tool in &chat.tools {
            self.json(tool);
        }
        if let ToolChoice::Function(name) = &chat.tool_choice {
            self.add(name);
        }
        self.all(&chat.effort);
        for (key, value) in &chat.template_variables {
            self.add(key);
            self.json(value);
        }
    }

    fn turn(&mut self, turn: &'a ChatMessage) {
        self.add(&turn.role);
        match &turn.content {
            Content::Text(text) => self.add(text),
            Content::Parts(parts) => {
                for part in parts {
                    self.all(&part.text);
                    for (key, value) in &part.fields {
                        self.add(key);
                        self.json(value);
                    }
                }
                let texts = parts.iter().filter_map(|part| part.text.as_deref());
                self.joined(&texts.collect::<Vec<_>>());
            }
        }
        self.all(&turn.reasoning_content);
        self.all(&turn.name);
        self.all(&turn.tool_call_id);
        for call in &turn.tool_calls {
            self.all(&call.id);
            self.add(&call.function.name);
            self.json(&call.function.arguments);
        }
    }

    /// Interfaces bound how deep JSON goes.
    fn json(&mut self, value: &'a Value) {
        each_text(value, &mut |text| match text {
            Cow::Borrowed(text) => self.add(text),
            // An account's number may stand there as a number.
            Cow::Owned(number) => self.0.push(Cow::Owned(number)),
        });
    }
}

/// Every text and number of a value, keys, too.
fn each_text<'a>(value: &'a Value, tell: &mut impl FnMut(Cow<'a, str>)) {
    match value {
        Value::Null | Value::Bool(_) => {}
        Value::Number(number) => tell(Cow::Owned(number.to_string())),
        Value::String(text) => tell(Cow::Borrowed(text)),
        Value::Array(values) => {
            for value in values {
                each_text(value, tell);
            }
        }
        Value::Object(fields) => {
            for (key, value) in fields {
                tell(Cow::Borrowed(key));
                each_text(value, tell);
            }
        }
    }
}

/// What a text says that is JSON itself: what is escaped there is not seen in the text.
fn inside(text: &str, depth: usize, found: &mut Vec<String>) {
    let may_be = text.trim_start().starts_with(['{', '[', '"']) && text.contains('\\');
    if depth == 0 || !may_be {
        return;
    }
    if let Ok(value) = serde_json::from_str::<Value>(text) {
        each_text(&value, &mut |text| {
            inside(&text, depth - 1, found);
            found.push(text.into_owned());
        });
    }
}
