//! Ollama's interface: `/api/chat` for conversations, `/api/generate` for text.
//!
//! It has no choice of tools, no words for more than one answer (they are several requests), and of forms a schema or any
//! JSON.

mod stream;

use serde_json::{Map, Value, json};
use troika_engine::chat::ChatMessage;
use troika_job::{ApiError, ChatPrompt, Format, Job, Prompt, ToolChoice};

pub(super) use stream::Stream;

use super::calls::arguments_object;
use super::{Ask, Dialect, short, text};

pub(super) fn asks(
    to: &Dialect<'_>,
    model: &str,
    limit: Option<usize>,
    job: &Job,
) -> Result<Vec<Ask>, ApiError> {
    let mut body = Map::new();
    let mut set = |name: &str, value: Value| _ = body.insert(name.to_owned(), value);
    set("model", model.into());
    let path = match &job.prompt {
        Prompt::Chat(prompt) => {
            chat(to, prompt, &mut set)?;
            "/api/chat"
        }
        // Special tokens in a raw prompt are such, also where they stand in plain text.
        Prompt::Text(prompt) | Prompt::Rendered(prompt) => {
            set("prompt", prompt.as_str().into());
            set("raw", true.into());
            "/api/generate"
        }
        Prompt::Tokens(_) => return Err(to.lacks("prompts of tokens", "prompt")),
    };
    set("stream", true.into());
    match &job.format {
        Format::Text => {}
        Format::JsonObject => set("format", "json".into()),
        Format::JsonSchema(schema) if schema.is_object() => set("format", schema.clone()),
        Format::JsonSchema(_) => return Err(to.lacks("schemas that are no object", "format")),
        Format::Regex(_) => return Err(to.lacks("regular expressions", "format")),
        Format::Lark(_) => return Err(to.lacks("grammars", "format")),
    }
    if let Some(top) = job.top_logprobs {
        set("logprobs", true.into());
        set("top_logprobs", top.into());
    }
    let options = options(to, limit, job)?;
    if !options.is_empty() {
        set("options", options.into());
    }
    let ask = |i| Ask {
        path,
        body: body.clone().into(),
        answers: i..i + 1,
    };
    Ok((0..job.n.max(1)).map(ask).collect())
}

fn options(
    to: &Dialect<'_>,
    limit: Option<usize>,
    job: &Job,
) -> Result<Map<String, Value>, ApiError> {
    let sampling = &job.sampling;
    let seed = sampling.seed.map(u64::cast_signed);
    let extra = &sampling.extra;
    to.lacks_extra(
        extra,
        &["typical_p", "mirostat", "mirostat_tau", "mirostat_eta"],
    )?;
    to.lacks_any(&[
        (!sampling.logit_bias.is_empty(), "logit_bias", "logit_bias"),
        (job.ignore_end, "ignore_eos", "ignore_eos"),
        // It stands for none.
        (seed == Some(-1), "seed of -1", "seed"),
    ])?;
    let numbers = [
        ("temperature", sampling.temperature),
        ("top_p", sampling.top_p),
        ("min_p", sampling.min_p),
        ("repeat_penalty", sampling.repeat_penalty),
        ("presence_penalty", sampling.presence_penalty),
        ("frequency_penalty", sampling.frequency_penalty),
        ("typical_p", extra.typical_p),
        ("mirostat_tau", extra.mirostat_tau),
        ("mirostat_eta", extra.mirostat_eta),
    ];
    let numbers = numbers
        .into_iter()
        .map(|(name, number)| (name, number.map(short)));
    // -1 looks back over all of the context.
    let last_n = sampling.repeat_last_n.map(|n| match n {
        u32::MAX => Value::from(-1),
        n => n.into(),
    });
    let others = [
        ("top_k", sampling.top_k.map(Value::from)),
        ("repeat_last_n", last_n),
        ("mirostat", extra.mirostat.map(Value::from)),
        ("seed", seed.map(Value::from)),
        ("num_predict", limit.map(Value::from)),
        ("num_ctx", job.n_ctx.map(Value::from)),
        (
            "stop",
            (!job.stop.is_empty()).then(|| job.stop.clone().into()),
        ),
    ];
    let all = numbers.chain(others);
    Ok(all
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect())
}

fn chat(
    to: &Dialect<'_>,
    prompt: &ChatPrompt,
    set: &mut impl FnMut(&str, Value),
) -> Result<(), ApiError> {
    let has_tools = !prompt.tools.is_empty();
    let last = prompt.messages.last();
    let goes_on = last.is_some_and(|it| it.role == "assistant" && it.tool_calls.is_empty());
    let effort = prompt.effort.as_deref();
    to.lacks_any(&[
        (
            has_tools
                && matches!(
                    prompt.tool_choice,
                    ToolChoice::Required | ToolChoice::Function(_)
                ),
            "tool_choice",
            "tool_choice",
        ),
        (
            has_tools && !prompt.parallel_tool_calls,
            "parallel_tool_calls",
            "parallel_tool_calls",
        ),
        (
            !prompt.template_variables.is_empty(),
            "variables of templates",
            "chat_template_kwargs",
        ),
        (
            goes_on && !prompt.continue_last,
            "new answer after the assistant's",
            "messages",
        ),
        (
            effort.is_some_and(|it| !matches!(it, "low" | "medium" | "high")),
            "effort but low, medium and high",
            "reasoning_effort",
        ),
    ])?;
    let messages = prompt.messages.iter().map(|it| message(to, it));
    set("messages", messages.collect::<Result<Vec<_>, _>>()?.into());
    if has_tools && prompt.tool_choice != ToolChoice::Never {
        set("tools", prompt.tools.clone().into());
    }
    match (prompt.thinking, effort) {
        (Some(false), _) => set("think", false.into()),
        (_, Some(effort)) => set("think", effort.into()),
        (Some(true), None) => set("think", true.into()),
        (None, None) => {}
    }
    Ok(())
}

fn message(to: &Dialect<'_>, message: &ChatMessage) -> Result<Value, ApiError> {
    let mut fields = Map::new();
    let mut set = |name: &str, value: Option<Value>| {
        fields.extend(value.map(|value| (name.to_owned(), value)));
    };
    set("role", Some(message.role.as_str().into()));
    set("content", Some(text(&message.content).into()));
    let thinking = message.reasoning_content.as_deref();
    set(
        "thinking",
        thinking.filter(|it| !it.is_empty()).map(Into::into),
    );
    let mut calls = Vec::new();
    for call in &message.tool_calls {
        let Some(arguments) = arguments_object(&call.function.arguments) else {
            return Err(to.lacks("call whose arguments are no JSON object", "messages"));
        };
        let mut fields = json!({"function": {"name": call.function.name, "arguments": arguments}});
        if let Some(id) = &call.id {
            fields["id"] = id.as_str().into();
        }
        calls.push(fields);
    }
    set("tool_calls", (!calls.is_empty()).then(|| calls.into()));
    set("tool_name", message.name.as_deref().map(Into::into));
    set(
        "tool_call_id",
        message.tool_call_id.as_deref().map(Into::into),
    );
    Ok(fields.into())
}
