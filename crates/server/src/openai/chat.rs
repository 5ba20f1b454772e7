//! `POST /v1/chat/completions`.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Extension, State};
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use serde_json::{Map, Value};

use self::answer::Reply;
use super::events::Data;

use super::messages::{Messages, conversation};
use super::options::{Options, max_tokens};
use super::tools::ToolFields;
use super::{Refusal, caller};
use crate::ApiError;
use crate::app::App;
use crate::fields::{Few, Integer, count, required};
use crate::job::{Caller, ChatPrompt, Job, Prompt};
use crate::narrator::narrate;
use crate::wire::parse;

mod answer;
#[cfg(test)]
mod tests;

/// Alternatives reported with each token at most.
const TOP_LOGPROBS_MAX: i128 = 20;

/// The fields that are not in [`Options`], [`FormatFields`](super::format::FormatFields) or [`ToolFields`].
#[derive(Debug, Deserialize)]
struct ChatFields {
    messages: Option<Messages>,
    max_tokens: Option<Integer>,
    /// What `max_tokens` is called now. It wins.
    max_completion_tokens: Option<Integer>,
    logprobs: Option<bool>,
    top_logprobs: Option<Integer>,
    reasoning_effort: Option<String>,
    enable_thinking: Option<bool>,
    chat_template_kwargs: Option<Map<String, Value>>,
    continue_final_message: Option<bool>,
    modalities: Option<Few<String, 16>>,
}

/// A request, ready to be done.
pub(super) struct Request {
    pub(super) job: Job,
    stream: bool,
    include_usage: bool,
    service_tier: Option<String>,
    /// The answer's calls are expected in the old form.
    legacy: bool,
    /// The field that asks for the answer's form.
    format_field: String,
}

/// Answers a conversation.
pub(super) async fn complete(
    State(app): State<App>,
    extension: Option<Extension<Caller>>,
    body: Bytes,
) -> Result<Response, Refusal> {
    let request = request(&body)?;
    // Long conversations are not kept in memory twice while the answer is written.
    drop(body);
    let logprobs = request.job.top_logprobs.is_some();
    let submitted = app.backend.submit(request.job, caller(extension)).await;
    let answer = submitted.map_err(|error| {
        let tools = if request.legacy { "functions" } else { "tools" };
        let error = error.renamed("format", &request.format_field);
        error.renamed("tools", tools)
    })?;
    let mut reply = Reply::new(&answer, logprobs, request.legacy);
    reply.service_tier = request.service_tier;
    if request.stream {
        let chunks = reply.into_chunks(answer.n, request.include_usage);
        return Ok(narrate(answer, Data(chunks)).await?);
    }
    let completed = answer.collect().await?;
    Ok(Json(reply.body(completed)).into_response())
}

/// # Errors
/// If the body is not a request, or a field of it makes no sense.
pub(super) fn request(body: &Bytes) -> Result<Request, ApiError> {
    let options: Options = parse(body)?;
    let fields: ChatFields = parse(body)?;
    let tools = parse::<ToolFields>(body)?.into_tools()?;
    let (stream, include_usage) = (options.stream == Some(true), options.include_usage());
    let service_tier = options.service_tier.clone();
    let (mut job, format_field) = options.into_job(parse(body)?, parse(body)?)?;
    job.max_tokens = match (fields.max_completion_tokens, fields.max_tokens) {
        (Some(limit), _) => max_tokens("max_completion_tokens", limit)?,
        (None, Some(limit)) => max_tokens("max_tokens", limit)?,
        (None, None) => None,
    };
    job.top_logprobs = top_logprobs(fields.logprobs, fields.top_logprobs)?;
    refuse_sound(fields.modalities)?;
    let mut prompt = ChatPrompt {
        messages: conversation(required(fields.messages, "messages")?)?,
        tools: tools.tools,
        tool_choice: tools.choice,
        parallel_tool_calls: tools.parallel,
        template_variables: fields.chat_template_kwargs.unwrap_or_default(),
        continue_last: fields.continue_final_message == Some(true),
        ..ChatPrompt::default()
    };
    if prompt.continue_last
        && prompt
            .messages
            .last()
            .is_some_and(|it| it.role != "assistant")
    {
        let message = "continue_final_message goes on with a message of the assistant, \
                       and the last message is another's";
        return Err(ApiError::invalid(message).at("continue_final_message"));
    }
    think(&mut prompt, fields.reasoning_effort, fields.enable_thinking)?;
    job.prompt = Prompt::Chat(Box::new(prompt));
    Ok(Request {
        job,
        stream,
        include_usage,
        service_tier,
        legacy: tools.legacy,
        format_field,
    })
}

/// Whether the model thinks, and how much: from `reasoning_effort`, `chat_template_kwargs.enable_thinking` and
/// `enable_thinking`, of which the later win.
fn think(
    prompt: &mut ChatPrompt,
    effort: Option<String>,
    enabled: Option<bool>,
) -> Result<(), ApiError> {
    match effort.as_deref() {
        None => {}
        Some("none") => prompt.thinking = Some(false),
        Some("minimal" | "low" | "medium" | "high" | "xhigh") => prompt.effort = effort,
        Some(other) => {
            let message = format!(
                "reasoning_effort is `{other}`; it must be none, minimal, low, medium, high or xhigh"
            );
            return Err(ApiError::invalid(message).at("reasoning_effort"));
        }
    }
    let variables = &mut prompt.template_variables;
    if let Some(&Value::Bool(enabled)) = variables.get("enable_thinking") {
        variables.shift_remove("enable_thinking");
        prompt.thinking = Some(enabled);
    }
    prompt.thinking = enabled.or(prompt.thinking);
    Ok(())
}

/// How many alternatives are reported with each token; `None` if the tokens are not.
fn top_logprobs(wanted: Option<bool>, top: Option<Integer>) -> Result<Option<usize>, ApiError> {
    let top = top.map(|top| count(top, 0..=TOP_LOGPROBS_MAX, "top_logprobs"));
    match (wanted, top.transpose()?) {
        (Some(true), top) => Ok(Some(top.unwrap_or(0))),
        (_, None | Some(0)) => Ok(None),
        (_, Some(_)) => {
            let message = "top_logprobs is given without logprobs; set logprobs to true";
            Err(ApiError::invalid(message).at("top_logprobs"))
        }
    }
}

fn refuse_sound(modalities: Option<Few<String, 16>>) -> Result<(), ApiError> {
    let Few(modalities) = modalities.unwrap_or_default();
    match modalities.iter().find(|it| *it != "text") {
        None => Ok(()),
        Some(other) => {
            let message = format!("modalities has `{other}`; models here write text alone");
            Err(ApiError::unsupported(message).at("modalities"))
        }
    }
}
