//! OpenAI's interface: `/chat/completions` for conversations, `/completions` for text.
//!
//! The service that defined it refuses what it does not know; other servers (vLLM, llama.cpp, another Troika) have fields
//! of their own for sampling, grammars and templates, which they are sent.

mod stream;

use serde_json::{Map, Value, json};
use troika_engine::chat::{ChatMessage, ToolCall};
use troika_job::{ApiError, ChatPrompt, Format, Job, Prompt, Sampling, ToolChoice};

pub(super) use stream::Stream;

use super::calls::arguments_text;
use super::{Ask, Dialect, short, text};

/// Stop strings that the service itself takes.
const STRICT_STOPS_MAX: usize = 4;

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
            "/chat/completions"
        }
        Prompt::Text(prompt) => {
            set("prompt", prompt.as_str().into());
            "/completions"
        }
        Prompt::Rendered(_) => return Err(to.lacks("prompts with special tokens", "prompt")),
        Prompt::Tokens(_) => return Err(to.lacks("prompts of this machine's tokens", "prompt")),
    };
    let is_chat = matches!(job.prompt, Prompt::Chat(_));
    set("stream", true.into());
    set("stream_options", json!({"include_usage": true}));
    if job.n > 1 {
        set("n", job.n.into());
    }
    if let Some(limit) = limit {
        // The service's newer models refuse the old name, and other servers may not know the new one.
        let name = match to.strict && is_chat {
            true => "max_completion_tokens",
            false => "max_tokens",
        };
        set(name, limit.into());
    }
    sampling(to, &job.sampling, &mut set)?;
    stops(to, &job.stop, &mut set)?;
    if job.ignore_end {
        to.lacks_any(&[(to.strict, "ignore_eos", "ignore_eos")])?;
        set("ignore_eos", true.into());
    }
    match (job.top_logprobs, is_chat) {
        (None, _) => {}
        (Some(top), true) => {
            set("logprobs", true.into());
            set("top_logprobs", top.into());
        }
        (Some(top), false) => set("logprobs", top.into()),
    }
    format(to, &job.format, is_chat, &mut set)?;
    Ok(vec![Ask {
        path,
        body: body.into(),
        answers: 0..job.n.max(1),
    }])
}

fn chat(
    to: &Dialect<'_>,
    prompt: &ChatPrompt,
    set: &mut impl FnMut(&str, Value),
) -> Result<(), ApiError> {
    let messages = prompt.messages.iter().map(|it| message(to, it));
    set("messages", messages.collect());
    if !prompt.tools.is_empty() {
        set("tools", prompt.tools.clone().into());
        match &prompt.tool_choice {
            ToolChoice::Auto => {}
            ToolChoice::Never => set("tool_choice", "none".into()),
            ToolChoice::Required => set("tool_choice", "required".into()),
            ToolChoice::Function(name) => {
                set(
                    "tool_choice",
                    json!({"type": "function", "function": {"name": name}}),
                );
            }
        }
        if !prompt.parallel_tool_calls {
            set("parallel_tool_calls", false.into());
        }
    }
    if let Some(effort) = &prompt.effort {
        set("reasoning_effort", effort.as_str().into());
    }
    let mut variables = prompt.template_variables.clone();
    // The service's models that think always do; what it has is the effort.
    if let Some(thinking) = prompt.thinking.filter(|_| !to.strict) {
        variables.insert("enable_thinking".to_owned(), thinking.into());
    }
    to.lacks_any(&[
        (
            to.strict && !variables.is_empty(),
            "variables of templates",
            "chat_template_kwargs",
        ),
        (
            to.strict && prompt.continue_last,
            "answers that go on with a message",
            "continue_final_message",
        ),
    ])?;
    if !variables.is_empty() {
        set("chat_template_kwargs", variables.into());
    }
    if prompt.continue_last {
        set("continue_final_message", true.into());
        // vLLM takes the one only without the other.
        set("add_generation_prompt", false.into());
    }
    Ok(())
}

fn message(to: &Dialect<'_>, message: &ChatMessage) -> Value {
    let mut fields = Map::new();
    fields.insert("role".to_owned(), message.role.as_str().into());
    let said = text(&message.content);
    let content = match said.is_empty() && !message.tool_calls.is_empty() {
        true => Value::Null,
        false => said.into(),
    };
    fields.insert("content".to_owned(), content);
    let mut set = |name: &str, value: Option<Value>| {
        fields.extend(value.map(|value| (name.to_owned(), value)));
    };
    // The service knows no such field; others need what was thought for what comes after it.
    let reasoning = message.reasoning_content.as_deref();
    set(
        "reasoning_content",
        reasoning.filter(|_| !to.strict).map(Into::into),
    );
    let calls = (!message.tool_calls.is_empty()).then_some(&message.tool_calls);
    set(
        "tool_calls",
        calls.map(|calls| calls.iter().map(call).collect()),
    );
    // A tool's name is for templates; here its call names it.
    let name = message.name.as_deref();
    set(
        "name",
        name.filter(|_| !to.strict || message.role != "tool")
            .map(Into::into),
    );
    set(
        "tool_call_id",
        message.tool_call_id.as_deref().map(Into::into),
    );
    fields.into()
}

fn call(call: &ToolCall) -> Value {
    let function = json!({
        "name": call.function.name,
        "arguments": arguments_text(&call.function.arguments),
    });
    match &call.id {
        Some(id) => json!({"id": id, "type": "function", "function": function}),
        None => json!({"type": "function", "function": function}),
    }
}

fn sampling(
    to: &Dialect<'_>,
    sampling: &Sampling,
    set: &mut impl FnMut(&str, Value),
) -> Result<(), ApiError> {
    let strict = to.strict;
    to.lacks_extra(&sampling.extra, &[])?;
    to.lacks_any(&[
        (strict && sampling.top_k.is_some(), "top_k", "top_k"),
        (strict && sampling.min_p.is_some(), "min_p", "min_p"),
        (
            strict && sampling.repeat_penalty.is_some(),
            "repeat_penalty",
            "repeat_penalty",
        ),
        (
            sampling.repeat_last_n.is_some(),
            "repeat_last_n",
            "repeat_last_n",
        ),
    ])?;
    let numbers = [
        ("temperature", sampling.temperature),
        ("top_p", sampling.top_p),
        ("min_p", sampling.min_p),
        ("repetition_penalty", sampling.repeat_penalty),
        ("presence_penalty", sampling.presence_penalty),
        ("frequency_penalty", sampling.frequency_penalty),
    ];
    for (name, number) in numbers {
        if let Some(number) = number {
            set(name, short(number));
        }
    }
    match sampling.top_k {
        None => {}
        // All tokens, which 0 is not to everyone.
        Some(0) => set("top_k", (-1).into()),
        Some(k) => set("top_k", k.into()),
    }
    if let Some(seed) = sampling.seed {
        // By its bits: the field has a sign.
        set("seed", seed.cast_signed().into());
    }
    if !sampling.logit_bias.is_empty() {
        let bias = sampling.logit_bias.iter();
        let bias: Map<_, _> = bias
            .map(|(token, bias)| (token.to_string(), short(*bias)))
            .collect();
        set("logit_bias", bias.into());
    }
    Ok(())
}

fn stops(
    to: &Dialect<'_>,
    stop: &[String],
    set: &mut impl FnMut(&str, Value),
) -> Result<(), ApiError> {
    to.lacks_any(&[(
        to.strict && stop.len() > STRICT_STOPS_MAX,
        "more than 4 stop strings",
        "stop",
    )])?;
    if !stop.is_empty() {
        set("stop", stop.into());
    }
    Ok(())
}

fn format(
    to: &Dialect<'_>,
    format: &Format,
    is_chat: bool,
    set: &mut impl FnMut(&str, Value),
) -> Result<(), ApiError> {
    if to.strict && !is_chat && *format != Format::Text {
        return Err(to.lacks("form for an answer to plain text", "format"));
    }
    match format {
        Format::Text => {}
        Format::JsonObject => set("response_format", json!({"type": "json_object"})),
        Format::JsonSchema(schema) => {
            // The service keeps to a schema only of those that it calls strict, and refuses others under that word.
            let schema = json!({"name": "answer", "schema": schema, "strict": is_strict(schema)});
            set(
                "response_format",
                json!({"type": "json_schema", "json_schema": schema}),
            );
        }
        Format::Regex(_) if to.strict => return Err(to.lacks("regular expressions", "format")),
        Format::Lark(_) if to.strict => return Err(to.lacks("grammars", "format")),
        Format::Regex(pattern) => set("structured_outputs", json!({"regex": pattern})),
        Format::Lark(grammar) => set("structured_outputs", json!({"grammar": grammar})),
    }
    Ok(())
}

/// Whether every object in a schema names all its properties as required and allows no others.
fn is_strict(schema: &Value) -> bool {
    match schema {
        Value::Object(fields) => {
            let closed = match fields.get("properties") {
                None => fields.get("type") != Some(&Value::from("object")),
                Some(Value::Object(properties)) => {
                    let required = fields.get("required").and_then(Value::as_array);
                    let names = |name: &String| {
                        required.is_some_and(|it| it.iter().any(|it| it.as_str() == Some(name)))
                    };
                    fields.get("additionalProperties") == Some(&Value::Bool(false))
                        && properties.keys().all(names)
                }
                // A property that is called so.
                Some(_) => true,
            };
            closed && fields.values().all(is_strict)
        }
        Value::Array(items) => items.iter().all(is_strict),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strict_schemas_are_known() {
        let closed = json!({
            "type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": false,
        });
        assert!(is_strict(&closed));
        let mut open = closed.clone();
        open["additionalProperties"] = true.into();
        assert!(!is_strict(&open));
        let mut optional = closed.clone();
        optional["required"] = json!([]);
        assert!(!is_strict(&optional));
        assert!(!is_strict(&json!({"type": "array", "items": optional})));
        assert!(!is_strict(&json!({"type": "object"})));
        assert!(is_strict(&json!({"type": "array", "items": closed})));
    }
}
