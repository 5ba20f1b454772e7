//! How conversations are told, and what clients say of them.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use troika_chats::{
    Change, Chat, Finish, Listed, Message, New, Node, Params, Role, StoreError, Usage, render,
};

use crate::ApiError;
use crate::fields::{Integer, count, within};

/// Characters of a title at most.
const TITLE_MAX: usize = 200;

/// A conversation that begins.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct NewFields {
    title: Option<String>,
    model: Option<String>,
    params: Option<ParamFields>,
}

/// What is changed of one.
#[derive(Deserialize)]
pub(super) struct ChangeFields {
    title: Option<String>,
    model: Option<String>,
    params: Option<ParamFields>,
    leaf: Option<String>,
}

/// How answers are made.
#[derive(Deserialize)]
pub(super) struct ParamFields {
    system: Option<String>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    top_k: Option<Integer>,
    min_p: Option<f64>,
    seed: Option<Integer>,
    max_tokens: Option<Integer>,
    think: Option<bool>,
}

impl NewFields {
    pub(super) fn checked(self) -> Result<New, ApiError> {
        Ok(New {
            title: self
                .title
                .map(title)
                .transpose()?
                .filter(|title| !title.is_empty()),
            model: self.model.map(model).transpose()?,
            params: self
                .params
                .map_or(Ok(Params::default()), ParamFields::checked)?,
        })
    }
}

impl ChangeFields {
    pub(super) fn checked(self) -> Result<Change, ApiError> {
        Ok(Change {
            title: self.title.map(title).transpose()?,
            model: self.model.map(model).transpose()?,
            params: self.params.map(ParamFields::checked).transpose()?,
            leaf: self.leaf.map(|leaf| message_n(&leaf, "leaf")).transpose()?,
        })
    }
}

impl ParamFields {
    /// # Errors
    /// If a number is out of its range.
    pub(super) fn checked(self) -> Result<Params, ApiError> {
        within(self.temperature, 0.0..=2.0, "params.temperature")?;
        within(self.top_p, 0.0..=1.0, "params.top_p")?;
        within(self.min_p, 0.0..=1.0, "params.min_p")?;
        let top_k = self
            .top_k
            .map(|top_k| count(top_k, 0..=u32::MAX.into(), "params.top_k"));
        let seed = self
            .seed
            .map(|seed| count(seed, 0..=u64::MAX.into(), "params.seed"));
        let tokens = |tokens| count(tokens, 1..=u32::MAX.into(), "params.max_tokens");
        Ok(Params {
            system: self.system.filter(|system| !system.trim().is_empty()),
            temperature: self.temperature,
            top_p: self.top_p,
            top_k: top_k.transpose()?,
            min_p: self.min_p,
            seed: seed.transpose()?,
            max_tokens: self.max_tokens.map(tokens).transpose()?,
            think: self.think,
        })
    }
}

fn title(title: String) -> Result<String, ApiError> {
    let title: String = title
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    match title.chars().count() {
        0..=TITLE_MAX => Ok(title.trim().to_owned()),
        _ => {
            let message = format!("`title` has more than {TITLE_MAX} characters");
            Err(ApiError::invalid(message).at("title"))
        }
    }
}

/// A model's name, which need not be one that is there now.
pub(super) fn model(name: String) -> Result<String, ApiError> {
    match name.len() {
        1..=256 => Ok(name),
        _ => Err(ApiError::invalid("`model` is no model's name").at("model")),
    }
}

/// A message's number as it is told.
fn message_id(n: u64) -> String {
    format!("m{n}")
}

/// The number of a message that a client names.
pub(super) fn message_n(id: &str, param: &str) -> Result<u64, ApiError> {
    let n = id.strip_prefix('m').and_then(|n| n.parse().ok());
    n.ok_or_else(|| ApiError::invalid(format!("`{param}` names no message")).at(param))
}

/// A conversation as it is told, without what belongs to the file.
#[derive(Serialize)]
struct ChatTold<'a> {
    id: &'a str,
    title: &'a str,
    model: Option<&'a str>,
    params: &'a Params,
    created: u64,
    updated: u64,
    leaf: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    messages: Option<Vec<MessageTold<'a>>>,
}

/// A message as it is told.
#[derive(Serialize)]
struct MessageTold<'a> {
    id: String,
    parent: Option<String>,
    role: Role,
    content: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    reasoning: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'a str>,
    created: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    finish: Option<Finish>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttft_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens_per_second: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    blocks: Option<Vec<Node>>,
}

/// Whether a message is told with what is shown of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blocks {
    Told,
    Absent,
}

fn message_told(message: &Message, blocks: Blocks) -> MessageTold<'_> {
    let ending = message.ending.as_ref();
    MessageTold {
        id: message_id(message.n),
        parent: message.parent.map(message_id),
        role: message.role,
        content: &message.content,
        reasoning: &message.reasoning,
        model: message.model.as_deref(),
        created: message.created,
        finish: ending.map(|ending| ending.finish),
        error: ending.and_then(|ending| ending.error.as_deref()),
        usage: ending.and_then(|ending| ending.usage),
        ttft_s: ending.and_then(|ending| ending.ttft_s),
        tokens_per_second: ending.and_then(|ending| ending.tokens_per_second),
        blocks: (blocks == Blocks::Told).then(|| render(&message.content)),
    }
}

fn chat_told<'a>(chat: &'a Chat, messages: Option<Vec<MessageTold<'a>>>) -> ChatTold<'a> {
    ChatTold {
        id: &chat.id,
        title: chat.title.as_deref().unwrap_or_default(),
        model: chat.model.as_deref(),
        params: &chat.params,
        created: chat.created,
        updated: chat.updated,
        leaf: chat.leaf.map(message_id),
        messages,
    }
}

/// A conversation as JSON, without its messages.
pub(super) fn chat(chat: &Chat) -> Result<Vec<u8>, ApiError> {
    serde_json::to_vec(&chat_told(chat, None)).map_err(|_| ApiError::internal())
}

/// A conversation with its messages as JSON. Takes time: Markdown is read.
pub(super) fn chat_with(
    chat: &Chat,
    messages: &[Message],
    blocks: Blocks,
) -> Result<Vec<u8>, StoreError> {
    let messages = messages.iter().map(|message| message_told(message, blocks));
    Ok(serde_json::to_vec(&chat_told(
        chat,
        Some(messages.collect()),
    ))?)
}

/// A message as JSON.
pub(super) fn message(message: &Message, blocks: Blocks) -> Value {
    json!(message_told(message, blocks))
}

/// A part of the list.
pub(super) fn listed(listed: &Listed) -> Value {
    let chats = listed.chats.iter().map(|found| {
        let chat = &found.chat;
        let parts = found.snippet.as_ref().map(|parts| {
            let parts = parts.iter();
            let parts = parts.map(|part| json!({"text": part.text, "hit": part.is_hit}));
            parts.collect::<Vec<_>>()
        });
        json!({
            "id": chat.id,
            "title": chat.title.as_deref().unwrap_or_default(),
            "model": chat.model,
            "created": chat.created,
            "updated": chat.updated,
            "snippet": parts,
        })
    });
    json!({"chats": chats.collect::<Vec<_>>(), "next": listed.next})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_have_ranges() {
        let read = |value: Value| {
            let fields: ParamFields = serde_json::from_value(value).unwrap();
            fields
                .checked()
                .map_err(|error| error.param.unwrap_or_default())
        };
        let all = json!({"system": "Be brief.", "temperature": 0.5, "top_p": 1, "top_k": 40.0, "min_p": 0, "seed": 7, "max_tokens": 9, "think": true});
        let params = read(all).unwrap();
        assert_eq!((params.top_k, params.max_tokens), (Some(40), Some(9)));
        assert_eq!(
            read(json!({"system": " ", "seed": null})),
            Ok(Params::default())
        );
        for (field, value) in [
            ("temperature", json!(2.1)),
            ("top_p", json!(-0.1)),
            ("min_p", json!(7)),
            ("top_k", json!(-1)),
            ("seed", json!(-1)),
            ("max_tokens", json!(0)),
        ] {
            assert_eq!(read(json!({field: value})), Err(format!("params.{field}")));
        }
    }

    #[test]
    fn messages_have_names() {
        assert_eq!(message_n(&message_id(17), "parent"), Ok(17));
        for id in ["", "17", "m", "m-1", "mm1", "m1.0", "m99999999999999999999"] {
            let error = message_n(id, "parent").unwrap_err();
            assert_eq!(error.param.as_deref(), Some("parent"), "{id}");
        }
    }
}
