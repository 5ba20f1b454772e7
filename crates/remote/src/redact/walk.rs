//! Everything in a job that an endpoint would be sent, one text after the other.

use std::mem;

use serde_json::{Map, Value};
use troika_engine::chat::{ChatMessage, Content, ContentPart};
use troika_job::{ChatPrompt, EmbedJob, Format, Job, Prompt, ToolChoice};

use super::Unredactable;

/// Keywords of schemas whose strings are read by the model alone, or come back in its answer.
const SAID: [&str; 8] = [
    "description",
    "title",
    "enum",
    "const",
    "default",
    "examples",
    "example",
    "$comment",
];

/// Keywords whose objects have names for keys, which may be those of keywords.
const NAMED: [&str; 6] = [
    "properties",
    "patternProperties",
    "$defs",
    "definitions",
    "dependentSchemas",
    "dependencies",
];

/// Who is shown all texts.
pub(super) trait Editor {
    /// A text in which anything may be put in another's place; `key` is the key whose value it is.
    fn text(&mut self, text: &mut String, key: Option<&str>) -> Seen;

    /// A speaker's name, in which interfaces do not bear every sign.
    fn speaker(&mut self, name: &mut String) -> Seen;

    /// A text that has to stay as it is.
    fn fixed(&mut self, text: &str, place: &'static str) -> Seen;

    /// Texts that are read as one.
    fn joined(&mut self, parts: &[&str]) -> Seen;
}

type Seen = Result<(), Unredactable>;

/// Shows all texts of a job.
pub(super) fn job(job: &mut Job, editor: &mut dyn Editor) -> Seen {
    prompt(&mut job.prompt, editor)?;
    for stop in &mut job.stop {
        editor.text(stop, None)?;
    }
    match &mut job.format {
        Format::Text | Format::JsonObject => Ok(()),
        Format::JsonSchema(value) => schema(value, "a schema", editor),
        Format::Regex(text) | Format::Lark(text) => editor.fixed(text, "a grammar"),
    }
}

/// Shows all texts that are to be embedded.
pub(super) fn embed_job(job: &mut EmbedJob, editor: &mut dyn Editor) -> Seen {
    job.inputs
        .iter_mut()
        .try_for_each(|input| prompt(input, editor))
}

fn prompt(what: &mut Prompt, editor: &mut dyn Editor) -> Seen {
    match what {
        Prompt::Chat(chat) => conversation(chat, editor),
        Prompt::Text(text) | Prompt::Rendered(text) => editor.text(text, None),
        Prompt::Tokens(_) => Err(Unredactable::NoText("token ids")),
    }
}

fn conversation(chat: &mut ChatPrompt, editor: &mut dyn Editor) -> Seen {
    for turn in &mut chat.messages {
        message(turn, editor)?;
    }
    for tool in &mut chat.tools {
        schema(tool, "a tool's definition", editor)?;
    }
    if let ToolChoice::Function(name) = &chat.tool_choice {
        editor.fixed(name, "a tool's name")?;
    }
    if let Some(effort) = &chat.effort {
        editor.fixed(effort, "the effort")?;
    }
    for (key, value) in &mut chat.template_variables {
        editor.fixed(key, "a template's variable")?;
        data(value, Some(key), editor)?;
    }
    Ok(())
}

fn message(turn: &mut ChatMessage, editor: &mut dyn Editor) -> Seen {
    editor.fixed(&turn.role, "a role")?;
    match &mut turn.content {
        Content::Text(text) => editor.text(text, None)?,
        Content::Parts(parts) => content(parts, editor)?,
    }
    if let Some(text) = &mut turn.reasoning_content {
        editor.text(text, None)?;
    }
    match &mut turn.name {
        Some(name) if turn.role == "tool" => editor.fixed(name, "a tool's name")?,
        Some(name) => editor.speaker(name)?,
        None => {}
    }
    if let Some(id) = &turn.tool_call_id {
        editor.fixed(id, "a call's id")?;
    }
    for call in &mut turn.tool_calls {
        if let Some(id) = &call.id {
            editor.fixed(id, "a call's id")?;
        }
        editor.fixed(&call.function.name, "a tool's name")?;
        data(&mut call.function.arguments, None, editor)?;
    }
    Ok(())
}

fn content(parts: &mut [ContentPart], editor: &mut dyn Editor) -> Seen {
    let texts: Vec<_> = parts
        .iter()
        .filter_map(|part| part.text.as_deref())
        .collect();
    editor.joined(&texts)?;
    for part in parts {
        if part.kind != "text" {
            return Err(Unredactable::NoText("a part of a message that is no text"));
        }
        if let Some(text) = &mut part.text {
            editor.text(text, None)?;
        }
        object(&mut part.fields, editor)?;
    }
    Ok(())
}

/// Any JSON: strings and keys may change, and a number that has to becomes a string.
fn data(value: &mut Value, key: Option<&str>, editor: &mut dyn Editor) -> Seen {
    match value {
        Value::Null | Value::Bool(_) => Ok(()),
        Value::Number(number) => {
            let own = number.to_string();
            let mut text = own.clone();
            editor.text(&mut text, None)?;
            if text != own {
                *value = Value::String(text);
            }
            Ok(())
        }
        Value::String(text) => editor.text(text, key),
        Value::Array(values) => {
            let mut each = values.iter_mut();
            each.try_for_each(|value| data(value, key, editor))
        }
        Value::Object(fields) => object(fields, editor),
    }
}

fn object(fields: &mut Map<String, Value>, editor: &mut dyn Editor) -> Seen {
    for (mut key, mut value) in mem::take(fields) {
        data(&mut value, Some(&key), editor)?;
        editor.text(&mut key, None)?;
        fields.insert(key, value);
    }
    Ok(())
}

/// A schema, or a tool with one: what the model reads may change, and what names and rules things may not.
fn schema(value: &mut Value, place: &'static str, editor: &mut dyn Editor) -> Seen {
    match value {
        Value::Null | Value::Bool(_) => Ok(()),
        Value::Number(number) => editor.fixed(&number.to_string(), place),
        Value::String(text) => editor.fixed(text, place),
        Value::Array(values) => {
            let mut each = values.iter_mut();
            each.try_for_each(|value| schema(value, place, editor))
        }
        Value::Object(fields) => {
            for (key, value) in fields {
                editor.fixed(key, place)?;
                match (&**key, value) {
                    (key, value) if SAID.contains(&key) => data(value, None, editor)?,
                    (key, Value::Object(named)) if NAMED.contains(&key) => {
                        for (name, value) in named {
                            editor.fixed(name, place)?;
                            schema(value, place, editor)?;
                        }
                    }
                    (_, value) => schema(value, place, editor)?,
                }
            }
            Ok(())
        }
    }
}
