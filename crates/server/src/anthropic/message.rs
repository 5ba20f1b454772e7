//! An answer as Anthropic's clients read it.

use serde_json::{Map, Value, json};
use troika_engine::chat::ToolCall;

use crate::ApiError;
use crate::ids::new_id;
use crate::job::{Completed, FinishReason, Usage};
use crate::report;

/// Whether the text of the model's thinking is shown, or only that it thought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Thinking {
    /// As it is.
    #[default]
    Shown,
    /// A block without text (`"display": "omitted"`).
    Omitted,
}

/// The body of a complete answer.
///
/// # Errors
/// If the job gave no answer, which is our mistake.
pub(super) fn message(
    model: &str,
    completed: Completed,
    thinking: Thinking,
) -> Result<Value, ApiError> {
    let choice = completed.choices.into_iter().next();
    let choice = choice.ok_or_else(ApiError::internal)?;
    let mut content = Vec::new();
    if !choice.reasoning.is_empty() {
        let text = match thinking {
            Thinking::Shown => &*choice.reasoning,
            Thinking::Omitted => "",
        };
        content.push(json!({"type": "thinking", "thinking": text, "signature": ""}));
    }
    if !choice.content.is_empty() {
        content.push(json!({"type": "text", "text": choice.content}));
    }
    content.extend(choice.tool_calls.iter().map(|call| {
        let mut block = tool_use(call);
        block["input"] = Value::Object(input(call));
        block
    }));
    let (stop_reason, stop_sequence) = stop(&choice.finish);
    Ok(json!({
        "id": new_id("msg_"),
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": stop_sequence,
        "usage": usage(&completed.usage),
    }))
}

/// A call's block, its input still empty: this is how a stream begins it.
pub(super) fn tool_use(call: &ToolCall) -> Value {
    let name = &call.function.name;
    json!({"type": "tool_use", "id": new_id("toolu_"), "name": name, "input": {}})
}

/// A call's input, which clients take to be an object. What a model wrote and is none is handed over as text, for the
/// client to show the model.
pub(super) fn input(call: &ToolCall) -> Map<String, Value> {
    let written = match &call.function.arguments {
        Value::String(text) if text.trim().is_empty() => return Map::new(),
        Value::String(text) => serde_json::from_str(text).unwrap_or(Value::Null),
        other => other.clone(),
    };
    match (written, &call.function.arguments) {
        (Value::Object(input), _) => input,
        (_, Value::Null) => Map::new(),
        (_, Value::String(text)) => {
            Map::from_iter([("INVALID_JSON".to_owned(), text.clone().into())])
        }
        (other, _) => Map::from_iter([("INVALID_JSON".to_owned(), other.to_string().into())]),
    }
}

/// Why the answer ended, and the stop sequence that ended it.
pub(super) fn stop(finish: &FinishReason) -> (&'static str, Option<&str>) {
    match finish {
        FinishReason::EndOfText => ("end_turn", None),
        FinishReason::StopString(text) => ("stop_sequence", Some(text)),
        FinishReason::Length => ("max_tokens", None),
        FinishReason::ToolCalls => ("tool_use", None),
    }
}

/// The numbers. Here, unlike with OpenAI, cached tokens are not among the input tokens.
pub(super) fn usage(usage: &Usage) -> Value {
    let mut numbers = json!({
        "input_tokens": usage.prompt_tokens.saturating_sub(usage.cached_tokens),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"thinking_tokens": usage.reasoning_tokens},
    });
    report::add_to(&mut numbers, usage);
    numbers
}

#[cfg(test)]
mod tests {
    use troika_engine::chat::FunctionCall;

    use super::*;

    #[test]
    fn input_is_always_an_object() {
        for (arguments, want) in [
            (json!(r#"{"a":1}"#), json!({"a": 1})),
            (json!({"a": 1}), json!({"a": 1})),
            (json!(""), json!({})),
            (Value::Null, json!({})),
            (json!("{\"a\":"), json!({"INVALID_JSON": "{\"a\":"})),
            (json!("[1]"), json!({"INVALID_JSON": "[1]"})),
            (json!([1]), json!({"INVALID_JSON": "[1]"})),
        ] {
            let name = "f".to_owned();
            let call = ToolCall {
                id: None,
                kind: "function".to_owned(),
                function: FunctionCall { name, arguments },
            };
            assert_eq!(Value::Object(input(&call)), want);
        }
    }
}
