//! From the input as the wire has it to items.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Deserialize;

use super::super::item::{Item, Kind, Status, TextPart};
use super::super::store::Store;
use crate::ApiError;
use crate::fields::{TextOr, required};
use crate::ids::new_id;

/// An item of any type: the type decides which fields must be there. Not a tagged enum, which would forget the path of
/// what is wrong inside.
#[derive(Debug, Deserialize)]
pub(super) struct WireItem {
    #[serde(rename = "type")]
    kind: Option<String>,
    id: Option<String>,
    role: Option<String>,
    content: Option<TextOr<Vec<WirePart>>>,
    summary: Option<Vec<WirePart>>,
    call_id: Option<String>,
    name: Option<String>,
    arguments: Option<String>,
    output: Option<TextOr<Vec<WirePart>>>,
}

/// A part of an item's content.
#[derive(Debug, Deserialize)]
struct WirePart {
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
    refusal: Option<String>,
}

/// The items that a client sent; those that it only refers to are fetched. Whether one of these must not leave this machine.
///
/// # Errors
/// If one is not to be understood, or one that is referred to is not stored.
pub(super) fn items(
    input: TextOr<Vec<WireItem>>,
    store: &Store,
    owner: Option<&str>,
) -> Result<(Vec<Arc<Item>>, bool), ApiError> {
    let wire = match input {
        TextOr::Text(text) => {
            let role = "user".to_owned();
            let parts = vec![part(text)];
            let item = new_item(None, Kind::Message { role, parts });
            return Ok((vec![Arc::new(item)], false));
        }
        TextOr::Other(wire) => wire,
    };
    let wanted: BTreeSet<_> = wire.iter().filter_map(WireItem::refers_to).collect();
    let stored = match wanted.is_empty() {
        true => BTreeMap::new(),
        false => store.items(owner, &wanted),
    };
    let mut items = Vec::with_capacity(wire.len());
    let local_only = stored.values().any(|(_, local_only)| *local_only);
    for (i, wire) in wire.into_iter().enumerate() {
        let path = format!("input[{i}]");
        items.push(match wire.refers_to() {
            Some(id) => stored
                .get(id)
                .map(|(item, _)| Arc::clone(item))
                .ok_or_else(|| {
                    let message = format!("{path}: there is no stored item `{id}`; send it whole");
                    ApiError::invalid(message).at(format!("{path}.id"))
                })?,
            None => Arc::new(item(wire, &path)?),
        });
    }
    Ok((items, local_only))
}

impl WireItem {
    /// The id of the stored item that stands in its place. The reference's type may be left out.
    fn refers_to(&self) -> Option<&str> {
        match self.kind.as_deref() {
            Some("item_reference") => self.id.as_deref(),
            None if self.role.is_none() => self.id.as_deref(),
            _ => None,
        }
    }
}

fn part(text: String) -> TextPart {
    let logprobs = Vec::new();
    TextPart { text, logprobs }
}

fn new_item(id: Option<String>, kind: Kind) -> Item {
    Item {
        id: id.unwrap_or_else(|| new_id(kind.prefix())),
        status: Status::Completed,
        kind,
    }
}

fn item(wire: WireItem, path: &str) -> Result<Item, ApiError> {
    let at = |field: &str| format!("{path}.{field}");
    let kind = match wire.kind.as_deref().unwrap_or("message") {
        "message" => {
            let role = required(wire.role, &at("role"))?;
            if !matches!(&*role, "user" | "assistant" | "system" | "developer") {
                let message = format!(
                    "`{path}.role` is `{role}`; it must be `user`, `assistant`, `system` or `developer`"
                );
                return Err(ApiError::invalid(message).at(at("role")));
            }
            let content = required(wire.content, &at("content"))?;
            let parts = texts(
                content,
                &at("content"),
                &["input_text", "output_text", "text"],
            )?;
            let parts = parts.into_iter().map(part).collect();
            Kind::Message { role, parts }
        }
        "reasoning" => {
            let of = |parts, field, kind| texts(TextOr::Other(parts), &at(field), &[kind]);
            let content = match wire.content {
                Some(TextOr::Other(parts)) => parts,
                _ => Vec::new(),
            };
            let summary = wire.summary.unwrap_or_default();
            Kind::Reasoning {
                text: of(content, "content", "reasoning_text")?.join("\n"),
                summary: of(summary, "summary", "summary_text")?.join("\n"),
            }
        }
        "function_call" => Kind::FunctionCall {
            call_id: required(wire.call_id, &at("call_id"))?,
            name: required(wire.name, &at("name"))?,
            arguments: required(wire.arguments, &at("arguments"))?,
        },
        "function_call_output" => {
            let output = required(wire.output, &at("output"))?;
            Kind::FunctionCallOutput {
                call_id: required(wire.call_id, &at("call_id"))?,
                output: texts(output, &at("output"), &["input_text", "output_text"])?.join("\n"),
            }
        }
        "item_reference" => return Err(required::<Item>(None, &at("id")).expect_err("it is none")),
        other => {
            let message = format!(
                "{path}: items of type `{other}` cannot be read here; send messages, reasoning, function calls and their outputs"
            );
            return Err(ApiError::unsupported(message).at(at("type")));
        }
    };
    Ok(new_item(wire.id, kind))
}

/// The texts of content that can be nothing else.
fn texts(
    content: TextOr<Vec<WirePart>>,
    path: &str,
    known: &[&str],
) -> Result<Vec<String>, ApiError> {
    let parts = match content {
        TextOr::Text(text) => return Ok(vec![text]),
        TextOr::Other(parts) => parts,
    };
    let mut texts = Vec::with_capacity(parts.len());
    for (i, part) in parts.into_iter().enumerate() {
        let path = format!("{path}[{i}]");
        texts.push(match &*part.kind {
            "refusal" => required(part.refusal, &format!("{path}.refusal"))?,
            kind if known.contains(&kind) => required(part.text, &format!("{path}.text"))?,
            other => {
                let message = format!(
                    "{path}: parts of type `{other}` cannot be read here; send `{}`",
                    known[0]
                );
                return Err(ApiError::unsupported(message).at(path));
            }
        });
    }
    Ok(texts)
}
