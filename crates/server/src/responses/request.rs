//! From the body of a request for a response to a [`Job`].

mod input;
mod tools;

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::item::{Item, Kind, conversation};
use super::store::{Store, Turn};
use crate::fields::{Integer, TextOr, positive, required, tier_told, urgency, within};
use crate::job::{ChatPrompt, Format, Job, Overflow, Prompt, Sampling, Wishes};
use crate::{ApiError, ErrorKind, wishes};
use input::WireItem;
use tools::Tool;

/// As in OpenAI's service.
const TOP_LOGPROBS_MAX: usize = 20;
const METADATA_MAX: usize = 16;
const METADATA_KEY_CHARS_MAX: usize = 64;
const METADATA_VALUE_CHARS_MAX: usize = 512;

/// What can be added to a response. Of these, only tokens' log-probabilities are ever there to be added.
const INCLUDABLE: [&str; 8] = [
    "message.output_text.logprobs",
    "reasoning.encrypted_content",
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
];

/// The body of a request for a response, or for its prompt to be counted.
#[derive(Debug, Deserialize)]
pub(super) struct Request {
    model: Option<String>,
    input: Option<TextOr<Vec<WireItem>>>,
    instructions: Option<String>,
    previous_response_id: Option<String>,
    store: Option<bool>,
    stream: Option<bool>,
    max_output_tokens: Option<usize>,
    max_tool_calls: Option<usize>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    top_logprobs: Option<usize>,
    include: Option<Vec<String>>,
    tools: Option<Vec<Tool>>,
    tool_choice: Option<Value>,
    parallel_tool_calls: Option<bool>,
    text: Option<TextConfig>,
    reasoning: Option<Reasoning>,
    truncation: Option<String>,
    metadata: Option<Map<String, Value>>,
    user: Option<String>,
    safety_identifier: Option<String>,
    prompt_cache_key: Option<String>,
    background: Option<bool>,
    conversation: Option<Value>,
    prompt: Option<Value>,
    context_management: Option<Value>,
    moderation: Option<Value>,
    service_tier: Option<String>,
    priority: Option<Integer>,
}

#[derive(Debug, Default, Deserialize)]
struct TextConfig {
    format: Option<TextFormat>,
    verbosity: Option<String>,
}

#[derive(Debug, Deserialize)]
struct TextFormat {
    #[serde(rename = "type")]
    kind: String,
    name: Option<String>,
    description: Option<String>,
    schema: Option<Map<String, Value>>,
    strict: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
struct Reasoning {
    effort: Option<String>,
    summary: Option<String>,
    /// The name that `summary` had before.
    generate_summary: Option<String>,
}

/// A request, understood.
pub(super) struct Asked {
    pub(super) job: Job,
    /// What the client sent with this request.
    pub(super) input: Vec<Arc<Item>>,
    /// What it goes on from.
    pub(super) previous: Option<Arc<Turn>>,
    /// The fields that the response repeats.
    pub(super) echo: Map<String, Value>,
    pub(super) stream: bool,
    pub(super) store: bool,
    /// Thoughts are told as a summary.
    pub(super) summary: bool,
}

impl Request {
    /// Checks everything and makes the job.
    ///
    /// # Errors
    /// If a field is missing, out of range, refers to what is not stored, or asks for what is not to be had.
    pub(super) fn understand(self, store: &Store, owner: Option<&str>) -> Result<Asked, ApiError> {
        self.refuse_the_absent()?;
        let model = required(self.model, "model")?;
        let mut job = Job {
            model,
            n: 1,
            max_tokens: positive(self.max_output_tokens, "max_output_tokens")?,
            sampling: Sampling {
                temperature: within(self.temperature, 0.0..=2.0, "temperature")?,
                top_p: within(self.top_p, 0.0..=1.0, "top_p")?,
                ..Sampling::default()
            },
            top_logprobs: top_logprobs(self.top_logprobs, self.include.unwrap_or_default())?,
            overflow: overflow(self.truncation.as_deref())?,
            wishes: Wishes {
                class: urgency(self.service_tier.as_deref(), self.priority)?,
                ..Wishes::default()
            },
            ..Job::default()
        };
        let (format, text_echo) = text(self.text.unwrap_or_default())?;
        job.format = format;
        let reasoning = reasoning(self.reasoning.unwrap_or_default())?;
        let tools = tools::tools(self.tools.unwrap_or_default(), self.tool_choice)?;
        let parallel_tool_calls = self.parallel_tool_calls.unwrap_or(true);
        let metadata = self.metadata.unwrap_or_default();
        check_metadata(&metadata)?;

        let previous = previous(self.previous_response_id.as_deref(), store, owner)?;
        let (input, refers_to_local) = match self.input {
            Some(input) => input::items(input, store, owner)?,
            None => (Vec::new(), false),
        };
        // A label holds for what is said later of what it was put on.
        let follows_local = previous.as_ref().is_some_and(|turn| turn.local_only());
        job.wishes.local_only = wishes::is_local_only() || refers_to_local || follows_local;
        let mut items = previous
            .as_ref()
            .map(|turn| turn.items())
            .unwrap_or_default();
        let n_before = items.len();
        items.extend(input.iter().map(Arc::clone));
        check_items(&items, n_before)?;
        let store = self.store.unwrap_or(true);
        let echo = json!({
            "background": false,
            "instructions": self.instructions,
            "max_output_tokens": self.max_output_tokens,
            "max_tool_calls": self.max_tool_calls,
            "metadata": metadata,
            "parallel_tool_calls": parallel_tool_calls,
            "previous_response_id": self.previous_response_id,
            "prompt_cache_key": self.prompt_cache_key,
            "reasoning": reasoning.echo,
            "safety_identifier": self.safety_identifier,
            "service_tier": self.service_tier.as_deref().map_or("default", tier_told),
            "store": store,
            "temperature": self.temperature,
            "text": text_echo,
            "tool_choice": tools.choice_echo,
            "tools": tools.echo,
            "top_logprobs": self.top_logprobs.unwrap_or(0),
            "top_p": self.top_p,
            "truncation": self.truncation.as_deref().unwrap_or("disabled"),
            "user": self.user,
        });
        job.prompt = Prompt::Chat(Box::new(ChatPrompt {
            messages: conversation(self.instructions.as_deref(), items),
            tools: tools.functions,
            tool_choice: tools.choice,
            parallel_tool_calls,
            thinking: reasoning.thinking,
            effort: reasoning.effort,
            continue_last: false,
            template_variables: Map::new(),
        }));
        Ok(Asked {
            job,
            input,
            previous,
            echo: match echo {
                Value::Object(echo) => echo,
                _ => Map::new(),
            },
            stream: self.stream.unwrap_or(false),
            store,
            summary: reasoning.summary,
        })
    }

    /// What the service that defined this interface has around the model.
    fn refuse_the_absent(&self) -> Result<(), ApiError> {
        let refuse = |param: &str, instead: &str| {
            let message = format!("`{param}` is not to be had here; {instead}");
            Err(ApiError::unsupported(message).at(param))
        };
        if self.background == Some(true) {
            return refuse("background", "await the response or stream it");
        }
        for (field, param, instead) in [
            (
                &self.conversation,
                "conversation",
                "use `previous_response_id`",
            ),
            (&self.prompt, "prompt", "send `instructions` and `input`"),
            (
                &self.context_management,
                "context_management",
                "use `truncation`",
            ),
            (&self.moderation, "moderation", "leave it out"),
        ] {
            if field.is_some() {
                return refuse(param, instead);
            }
        }
        Ok(())
    }
}

/// An error about a job, with the names that its fields have in this interface.
pub(super) fn renamed(error: ApiError) -> ApiError {
    let error = error.renamed("format", "text.format");
    error.renamed("messages", "input")
}

fn invalid(param: &str, message: String) -> ApiError {
    ApiError::invalid(message).at(param)
}

/// A word that is none of those there are.
fn unknown(param: &str, found: &str, known: &[&str]) -> ApiError {
    let message = format!(
        "`{param}` is `{found}`; it must be one of: {}",
        known.join(", ")
    );
    invalid(param, message)
}

fn one_of(value: Option<&str>, param: &str, known: &[&str]) -> Result<(), ApiError> {
    match value {
        Some(value) if !known.contains(&value) => Err(unknown(param, value, known)),
        _ => Ok(()),
    }
}

fn top_logprobs(top: Option<usize>, include: Vec<String>) -> Result<Option<usize>, ApiError> {
    let top = top.unwrap_or(0);
    if top > TOP_LOGPROBS_MAX {
        let message = format!("`top_logprobs` is {top}; it must be from 0 to {TOP_LOGPROBS_MAX}");
        return Err(invalid("top_logprobs", message));
    }
    let mut wanted = None;
    for (i, field) in include.iter().enumerate() {
        one_of(Some(field), &format!("include[{i}]"), &INCLUDABLE)?;
        if field == "message.output_text.logprobs" {
            wanted = Some(top);
        }
    }
    Ok(wanted)
}

fn overflow(truncation: Option<&str>) -> Result<Overflow, ApiError> {
    match truncation {
        None | Some("disabled") => Ok(Overflow::Refuse),
        Some("auto") => Ok(Overflow::Truncate),
        Some(other) => Err(unknown("truncation", other, &["auto", "disabled"])),
    }
}

/// The form of the answer, and the field as the response repeats it.
fn text(config: TextConfig) -> Result<(Format, Value), ApiError> {
    one_of(
        config.verbosity.as_deref(),
        "text.verbosity",
        &["low", "medium", "high"],
    )?;
    let mut echo = json!({"format": {"type": "text"}});
    if let Some(verbosity) = config.verbosity {
        echo["verbosity"] = verbosity.into();
    }
    let Some(format) = config.format else {
        return Ok((Format::Text, echo));
    };
    let (wanted, format_echo) = match &*format.kind {
        "text" => return Ok((Format::Text, echo)),
        "json_object" => (Format::JsonObject, json!({"type": "json_object"})),
        "json_schema" => {
            let name = required(format.name, "text.format.name")?;
            let schema = Value::Object(required(format.schema, "text.format.schema")?);
            let format_echo = json!({
                "type": "json_schema",
                "name": name,
                "description": format.description,
                "schema": schema,
                "strict": format.strict,
            });
            (Format::JsonSchema(schema), format_echo)
        }
        other => {
            let known = ["text", "json_object", "json_schema"];
            return Err(unknown("text.format.type", other, &known));
        }
    };
    echo["format"] = format_echo;
    Ok((wanted, echo))
}

struct Thinking {
    thinking: Option<bool>,
    effort: Option<String>,
    summary: bool,
    echo: Value,
}

fn reasoning(config: Reasoning) -> Result<Thinking, ApiError> {
    let efforts = ["none", "minimal", "low", "medium", "high", "xhigh", "max"];
    one_of(config.effort.as_deref(), "reasoning.effort", &efforts)?;
    let (summary, param) = match config.summary {
        Some(summary) => (Some(summary), "reasoning.summary"),
        None => (config.generate_summary, "reasoning.generate_summary"),
    };
    one_of(summary.as_deref(), param, &["auto", "concise", "detailed"])?;
    let echo = json!({"effort": config.effort, "summary": summary});
    Ok(Thinking {
        // Any effort but none leaves it to the model, as in chat completions.
        thinking: (config.effort.as_deref() == Some("none")).then_some(false),
        effort: config.effort.filter(|effort| effort != "none"),
        summary: summary.is_some(),
        echo,
    })
}

fn check_metadata(metadata: &Map<String, Value>) -> Result<(), ApiError> {
    if metadata.len() > METADATA_MAX {
        let message = format!(
            "`metadata` has {} keys; it may have {METADATA_MAX}",
            metadata.len()
        );
        return Err(invalid("metadata", message));
    }
    for (key, value) in metadata {
        let short = value
            .as_str()
            .is_some_and(|value| value.chars().count() <= METADATA_VALUE_CHARS_MAX);
        if !short || key.chars().count() > METADATA_KEY_CHARS_MAX {
            let message = format!(
                "`metadata` has keys of at most {METADATA_KEY_CHARS_MAX} characters, and texts of at most {METADATA_VALUE_CHARS_MAX}"
            );
            return Err(invalid("metadata", message));
        }
    }
    Ok(())
}

fn previous(
    id: Option<&str>,
    store: &Store,
    owner: Option<&str>,
) -> Result<Option<Arc<Turn>>, ApiError> {
    let Some(id) = id else { return Ok(None) };
    match store.get(owner, id) {
        Some(stored) => Ok(Some(Arc::clone(&stored.turn))),
        None => {
            let message = format!(
                "there is no stored response `{id}`: it is unknown, was deleted, or was forgotten; send the whole conversation as `input`"
            );
            let error = ApiError::new(ErrorKind::PreviousNotFound, message);
            Err(error.at("previous_response_id"))
        }
    }
}

/// There must be something to answer, and outputs of functions must have calls.
fn check_items(items: &[Arc<Item>], n_before: usize) -> Result<(), ApiError> {
    if items.is_empty() {
        let message = "`input` is missing; send text or a list of items".to_owned();
        return Err(invalid("input", message));
    }
    let mut called = BTreeSet::new();
    for (i, item) in items.iter().enumerate() {
        match &item.kind {
            Kind::FunctionCall { call_id, .. } => {
                called.insert(&**call_id);
            }
            Kind::FunctionCallOutput { call_id, .. } if !called.contains(&**call_id) => {
                let param = format!("input[{}].call_id", i.saturating_sub(n_before));
                let message =
                    format!("`{param}` is `{call_id}`, which no earlier `function_call` has");
                return Err(invalid(&param, message));
            }
            _ => {}
        }
    }
    Ok(())
}
