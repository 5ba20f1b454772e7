//! What a model reads: conversations rendered, text encoded, and all of it made to fit.

use serde_json::{Value, json};
use troika_base::TokenId;
use troika_engine::chat::{ChatInput, ChatMessage};
use troika_engine::tokenizer::EncodeOptions;
use troika_scheduler::ModelId;

use super::models::Handle;
use crate::job::{ChatPrompt, Overflow, Prompt, ToolChoice};
use crate::{ApiError, ErrorKind};

/// A prompt as a model reads it.
#[derive(Debug)]
pub(super) struct Encoded {
    pub(super) tokens: Vec<TokenId>,
    /// The end of the rendered text, which tells whether the model is thinking already.
    pub(super) tail: String,
}

/// A prompt that was encoded before its job was queued.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) model: ModelId,
    pub(super) whole: Encoded,
}

/// How much of a rendered conversation's end is looked at for an open thought.
const TAIL_BYTES: usize = 256;

/// Tokens that a prompt which was shortened leaves for the answer, at least: one part in this many of the context.
const ANSWER_SHARE: usize = 4;

/// Encodes a prompt so that an answer of `n_answer` tokens fits behind it.
///
/// # Errors
/// If it is empty, does not fit, or the template refuses it.
pub(super) fn encode(
    handle: &Handle,
    prompt: &Prompt,
    overflow: Overflow,
    n_ctx: usize,
    n_answer: Option<usize>,
) -> Result<Encoded, ApiError> {
    fit(
        handle,
        prompt,
        encode_whole(handle, prompt)?,
        overflow,
        n_ctx,
        n_answer,
    )
}

/// A prompt that is encoded already, so that an answer of `n_answer` tokens fits behind it.
///
/// # Errors
/// As [`encode`].
pub(super) fn fit(
    handle: &Handle,
    prompt: &Prompt,
    whole: Encoded,
    overflow: Overflow,
    n_ctx: usize,
    n_answer: Option<usize>,
) -> Result<Encoded, ApiError> {
    if whole.tokens.is_empty() {
        return Err(ApiError::invalid(
            "the prompt is empty, and this model has no token that begins a text; give it some words",
        ));
    }
    if whole.tokens.len() < n_ctx {
        return Ok(whole);
    }
    match overflow {
        Overflow::Refuse => Err(too_long(whole.tokens.len(), n_ctx)),
        Overflow::Truncate => {
            let answer = n_answer.unwrap_or(n_ctx).min(n_ctx / ANSWER_SHARE);
            let room = (n_ctx - 1).min(n_ctx - answer.max(1));
            shorten(handle, prompt, whole, room, n_ctx)
        }
    }
}

/// Encodes a prompt, whatever its length.
///
/// # Errors
/// If the template refuses it, or an id is not in the vocabulary.
pub(super) fn encode_whole(handle: &Handle, prompt: &Prompt) -> Result<Encoded, ApiError> {
    let text = |text: &str, add_special, parse_special| {
        let options = EncodeOptions {
            add_special,
            parse_special,
        };
        handle.tokenizer.encode(text, options)
    };
    match prompt {
        Prompt::Text(words) => Ok(Encoded {
            tokens: text(words, true, false),
            tail: String::new(),
        }),
        Prompt::Rendered(words) => Ok(Encoded {
            tokens: text(words, !begins(handle, words), true),
            tail: tail(words),
        }),
        Prompt::Tokens(ids) => {
            let n_vocab = handle.tokenizer.n_vocab();
            if let Some(id) = ids.iter().find(|&&id| id as usize >= n_vocab) {
                return Err(ApiError::invalid(format!(
                    "there is no token {id}; the vocabulary has {n_vocab}"
                ))
                .at("prompt"));
            }
            Ok(Encoded {
                tokens: ids.iter().copied().map(TokenId).collect(),
                tail: String::new(),
            })
        }
        Prompt::Chat(chat) => {
            let Some(words) = render(handle, chat)? else {
                let words = plain(chat);
                let tokens = text(&words, true, false);
                return Ok(Encoded {
                    tokens,
                    tail: String::new(),
                });
            };
            Ok(Encoded {
                tokens: text(&words, false, true),
                tail: tail(&words),
            })
        }
    }
}

/// Whether a text begins with the token that begins texts.
fn begins(handle: &Handle, words: &str) -> bool {
    let begin = handle.tokenizer.bos();
    let begin = begin.and_then(|begin| handle.tokenizer.token_text(begin));
    begin.is_some_and(|begin| words.starts_with(begin))
}

/// The text of a conversation; `None` if the model has no template.
///
/// # Errors
/// If the template is broken or refuses the conversation, or tools are asked of one that knows none.
pub(super) fn render(handle: &Handle, chat: &ChatPrompt) -> Result<Option<String>, ApiError> {
    let has_tools = !chat.tools.is_empty() && chat.tool_choice != ToolChoice::Never;
    let name = &handle.info.name;
    if has_tools && !handle.format.knows_tools() {
        return Err(ApiError::unsupported(format!(
            "the chat template of `{name}` knows no tools; take a model whose template does"
        ))
        .at("tools"));
    }
    let template = match &handle.template {
        None => return Ok(None),
        Some(Err(error)) => return Err(ApiError::new(ErrorKind::Conflict, error.to_string())),
        Some(Ok(template)) => template,
    };
    let (messages, begun) = messages(handle, chat);
    let special = |id: Option<TokenId>| Some(handle.tokenizer.token_text(id?)?.to_owned());
    let input = ChatInput {
        messages,
        tools: if has_tools {
            chat.tools.clone()
        } else {
            Vec::new()
        },
        add_generation_prompt: true,
        bos_token: special(handle.tokenizer.bos()),
        eos_token: special(handle.tokenizer.eos()),
        extra: variables(chat),
        ..ChatInput::default()
    };
    let text = template.render(&input);
    let text = text.map_err(|error| ApiError::invalid(error.to_string()).at("messages"))?;
    Ok(Some(text + &begun))
}

/// The conversation with what the model's settings put before it, and the beginning of the answer.
fn messages(handle: &Handle, chat: &ChatPrompt) -> (Vec<ChatMessage>, String) {
    let mut messages = chat.messages.clone();
    let mut begun = String::new();
    if chat.continue_last
        && messages.last().is_some_and(|last| last.role == "assistant")
        && let Some(last) = messages.pop()
    {
        begun = last.content.as_text().unwrap_or_default();
    }
    let own = handle.manifest.messages.iter();
    let own = own.map(|turn| ChatMessage::new(turn.role.as_str(), turn.content.as_str()));
    let after_system = messages
        .iter()
        .take_while(|message| is_system(message))
        .count();
    messages.splice(after_system..after_system, own);
    if after_system == 0
        && let Some(system) = &handle.manifest.system
    {
        messages.insert(0, ChatMessage::new("system", system.as_str()));
    }
    (messages, begun)
}

fn is_system(message: &ChatMessage) -> bool {
    matches!(&*message.role, "system" | "developer")
}

/// What the template is told beside the messages.
fn variables(chat: &ChatPrompt) -> serde_json::Map<String, Value> {
    let mut variables = chat.template_variables.clone();
    if let Some(thinking) = chat.thinking {
        // The names that the field's templates have for it.
        for name in ["enable_thinking", "thinking"] {
            variables.entry(name).or_insert(json!(thinking));
        }
    }
    if let Some(effort) = &chat.effort {
        variables.entry("reasoning_effort").or_insert(json!(effort));
    }
    variables
}

/// What a model without a template is told: the last message, and nothing around it.
fn plain(chat: &ChatPrompt) -> String {
    let last = chat.messages.last();
    last.and_then(|message| message.content.as_text())
        .unwrap_or_default()
}

/// Leaves out the oldest turns of a conversation, or the beginning of a text, until `room` tokens hold it.
fn shorten(
    handle: &Handle,
    prompt: &Prompt,
    mut whole: Encoded,
    room: usize,
    n_ctx: usize,
) -> Result<Encoded, ApiError> {
    let Prompt::Chat(chat) = prompt else {
        let bos = handle.tokenizer.bos();
        let keeps = usize::from(bos.is_some() && whole.tokens.first().copied() == bos);
        let end = whole.tokens.len() - (room - keeps);
        whole.tokens.drain(keeps..end);
        return Ok(whole);
    };
    let system = chat
        .messages
        .iter()
        .take_while(|message| is_system(message))
        .count();
    let turns = chat.messages.len() - system;
    // More turns left out are never more tokens, so the fewest that have to go are found by halving.
    let (mut low, mut high) = (1, turns.saturating_sub(1));
    let mut fits = None;
    while low <= high && high > 0 {
        let dropped = low.midpoint(high);
        let mut shorter = chat.clone();
        shorter.messages.drain(system..system + dropped);
        let encoded = encode_whole(handle, &Prompt::Chat(shorter));
        match encoded {
            Ok(encoded) if encoded.tokens.len() <= room => {
                fits = Some(encoded);
                high = dropped - 1;
            }
            // Some templates refuse a conversation that begins with an answer; one turn less may do.
            _ => low = dropped + 1,
        }
    }
    fits.ok_or_else(|| too_long(whole.tokens.len(), n_ctx))
}

fn too_long(prompt: usize, n_ctx: usize) -> ApiError {
    ApiError::new(
        ErrorKind::ContextOverflow,
        format!(
            "the prompt has {prompt} tokens and the context {n_ctx}, of which the answer needs at least one; shorten the prompt or serve the model with a larger context (`--ctx`)"
        ),
    )
}

fn tail(text: &str) -> String {
    let mut start = text.len().saturating_sub(TAIL_BYTES);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    text[start..].to_owned()
}
