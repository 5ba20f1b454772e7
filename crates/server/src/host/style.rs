//! How the answers to a job are written: its wishes over the model's settings over the engine's, and the grammars that hold
//! an answer to its form.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use troika_base::TokenId;
use troika_engine::GenerateOptions;
use troika_engine::chat::{GrammarContext, RequiredCall};
use troika_engine::constraint::{Constraint, ConstraintError, Grammar, check_schema};
use troika_engine::sampler::{SampleError, SamplingParams};
use troika_library::Parameters;

use super::models::Handle;
use super::prompt::Encoded;
use super::voice::Style;
use crate::job::{ChatPrompt, Format, Job, Prompt, Sampling, ToolChoice};
use crate::{ApiError, ErrorKind};

/// When to try again if too many grammars are being compiled; none takes much longer.
const COMPILER_RETRY_AFTER: Duration = Duration::from_secs(1);

/// How the answers to a job are written.
pub(super) fn style(
    model: &Handle,
    job: &Job,
    encoded: &Encoded,
    max_tokens: Option<usize>,
) -> Result<Style, ApiError> {
    let defaults = &model.manifest.parameters;
    let mut stop = job.stop.clone();
    stop.extend(defaults.stop.iter().filter(|s| !s.is_empty()).cloned());
    let chat = match &job.prompt {
        Prompt::Chat(chat) => Some(chat),
        _ => None,
    };
    let tools =
        chat.is_some_and(|chat| !chat.tools.is_empty() && chat.tool_choice != ToolChoice::Never);
    let parser = chat.filter(|_| model.template.is_some());
    let parser = parser.map(|chat| {
        let tools: &[Value] = if tools { &chat.tools } else { &[] };
        model.format.parser(&encoded.tail, tools)
    });
    let call = match chat {
        Some(chat) if tools => required_call(model, chat, &encoded.tail)?,
        _ => None,
    };
    let constraint = match (call, grammar_of(&job.format)) {
        (Some(call), _) => Some(compile(model, &call, "tools")?),
        (None, Some(form)) => Some(compile(model, &form, "format")?),
        (None, None) => None,
    };
    Ok(Style {
        options: GenerateOptions {
            max_tokens,
            sampling: sampling(&job.sampling, defaults)?,
            stop,
            from_start: chat.is_some() && model.template.is_some(),
            top_logprobs: job.top_logprobs.unwrap_or(0),
            ignore_end: job.ignore_end,
            show: markers(model, parser.is_some()),
            ..GenerateOptions::default()
        },
        parser,
        constraint,
        logprobs: job.top_logprobs.is_some(),
        guessing: model.guessing,
    })
}

/// The control tokens that tell the parts of an answer apart, for an answer that has parts.
fn markers(model: &Handle, has_parts: bool) -> Arc<[TokenId]> {
    let marks = model.format.markers().iter().filter(|_| has_parts);
    let tokens = marks.filter_map(|mark| model.tokenizer.token_id(mark));
    tokens.collect()
}

/// Refuses numbers out of range, and biases of tokens that are not there.
pub(super) fn check_sampling(params: &SamplingParams, n_vocab: usize) -> Result<(), ApiError> {
    let mut biased = params.logit_bias.iter().map(|&(token, _)| token);
    let checked = match biased.find(|token| token.index() >= n_vocab) {
        Some(token) => Err(SampleError::UnknownToken { token, n_vocab }),
        None => params.validate(),
    };
    checked.map_err(refused)
}

fn refused(error: SampleError) -> ApiError {
    let invalid = ApiError::invalid(error.to_string());
    match error.field() {
        Some(field) => invalid.at(field),
        None => invalid,
    }
}

/// The grammar of a call that the model has to make.
fn required_call(
    model: &Handle,
    chat: &ChatPrompt,
    prompt_tail: &str,
) -> Result<Option<Grammar>, ApiError> {
    let choice = match &chat.tool_choice {
        ToolChoice::Auto | ToolChoice::Never => return Ok(None),
        ToolChoice::Required => RequiredCall::OneOf,
        ToolChoice::Function(name) => RequiredCall::Named(name.clone()),
    };
    check_callable(&chat.tools, &chat.tool_choice)?;
    // One that is named is called once.
    let parallel = chat.parallel_tool_calls && choice == RequiredCall::OneOf;
    let token = |mark: &str| model.tokenizer.token_id(mark);
    let context = GrammarContext {
        prompt_tail,
        token: &token,
    };
    match model
        .format
        .tool_grammar(&chat.tools, &choice, parallel, context)
    {
        Some(lark) => Ok(Some(Grammar::Calls(lark))),
        None => Err(ApiError::unsupported(format!(
            "`{}` cannot be made to call a tool: the form of its calls is not known; use `auto`",
            model.info.name
        ))
        .at("tool_choice")),
    }
}

/// Refuses parameters that arguments cannot be held to. They may be shown to a model all the same, so where it need not
/// call a tool, nobody asks.
fn check_callable(tools: &[Value], choice: &ToolChoice) -> Result<(), ApiError> {
    for tool in tools {
        let function = &tool["function"];
        let name = function["name"].as_str().unwrap_or_default();
        let may_be_called = match choice {
            ToolChoice::Function(wanted) => wanted == name,
            _ => true,
        };
        if let (true, Some(schema)) = (may_be_called, function.get("parameters")) {
            check_schema(schema).map_err(|error| {
                let message = format!("the parameters of `{name}`: {error}");
                ApiError::invalid(message).at("tools")
            })?;
        }
    }
    Ok(())
}

fn grammar_of(format: &Format) -> Option<Grammar> {
    Some(match format {
        Format::Text => return None,
        Format::JsonObject => Grammar::JsonObject,
        Format::JsonSchema(schema) => Grammar::JsonSchema(schema.clone()),
        Format::Regex(regex) => Grammar::Regex(regex.clone()),
        Format::Lark(lark) => Grammar::Lark(lark.clone()),
    })
}

/// A grammar's constraint; `field` of the job is where the grammar comes from.
fn compile(model: &Handle, grammar: &Grammar, field: &str) -> Result<Constraint, ApiError> {
    let compiled = model.constraints()?.compile(grammar);
    compiled.map_err(|error| match error {
        ConstraintError::Busy { .. } => {
            let retry_after = COMPILER_RETRY_AFTER;
            ApiError::new(ErrorKind::Unavailable { retry_after }, error.to_string())
        }
        error if error.is_bad_grammar() => ApiError::invalid(error.to_string()).at(field),
        error => {
            tracing::error!(%error, "a grammar was not compiled");
            ApiError::internal()
        }
    })
}

/// What was asked for, over the model's defaults, over the engine's.
///
/// # Errors
/// If a number that counts is none of those that are taken.
fn sampling(asked: &Sampling, model: &Parameters) -> Result<SamplingParams, ApiError> {
    let engine = SamplingParams::default();
    macro_rules! first {
        ($field:ident) => {
            asked.$field.or(model.$field).unwrap_or(engine.$field)
        };
    }
    let bias = asked.logit_bias.iter();
    let params = SamplingParams {
        temperature: first!(temperature),
        top_k: first!(top_k),
        top_p: first!(top_p),
        min_p: first!(min_p),
        repeat_penalty: first!(repeat_penalty),
        repeat_last_n: first!(repeat_last_n),
        presence_penalty: first!(presence_penalty),
        frequency_penalty: first!(frequency_penalty),
        logit_bias: bias.map(|&(id, bias)| (TokenId(id), bias)).collect(),
        seed: asked.seed.or(model.seed),
        ..engine
    };
    let extra = asked.extra.clone().over(&model.extra);
    params.with(&extra).map_err(refused)
}
