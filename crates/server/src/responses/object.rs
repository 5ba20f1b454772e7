//! The response object, as bodies and events have it.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::item::Item;
use crate::job::Usage;
use crate::{ApiError, ErrorKind, report};

/// A response, in whatever state.
#[derive(Clone, Debug, Default)]
pub(super) struct Object {
    pub(super) id: String,
    /// Seconds since 1970.
    pub(super) created_at: u64,
    pub(super) completed_at: Option<u64>,
    pub(super) model: String,
    pub(super) state: State,
    pub(super) output: Vec<Arc<Item>>,
    pub(super) usage: Option<Usage>,
    /// What the client asked for, given back.
    pub(super) echo: Arc<Map<String, Value>>,
}

/// How far a response is.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum State {
    /// It is being written.
    #[default]
    InProgress,
    /// All of it is there.
    Completed,
    /// It is as long as it may be.
    Incomplete,
    /// It came to nothing.
    Failed(ApiError),
}

impl Object {
    /// The object as the wire has it.
    pub(super) fn json(&self) -> Value {
        let (status, error, incomplete) = match &self.state {
            State::InProgress => ("in_progress", Value::Null, Value::Null),
            State::Completed => ("completed", Value::Null, Value::Null),
            State::Incomplete => {
                let details = json!({"reason": "max_output_tokens"});
                ("incomplete", Value::Null, details)
            }
            State::Failed(error) => ("failed", error_json(error), Value::Null),
        };
        let output: Vec<_> = self.output.iter().map(|item| item.json()).collect();
        let mut object = json!({
            "id": self.id,
            "object": "response",
            "created_at": self.created_at,
            "completed_at": self.completed_at,
            "status": status,
            "error": error,
            "incomplete_details": incomplete,
            "model": self.model,
            "output": output,
            "usage": self.usage.as_ref().map(usage_json),
        });
        if let Value::Object(object) = &mut object {
            let echo = self.echo.iter().map(|(k, v)| (k.clone(), v.clone()));
            object.extend(echo);
        }
        object
    }

    /// The memory that it takes beside its items, roughly.
    pub(super) fn bytes(&self) -> usize {
        // In memory, JSON takes about twice its text.
        let echo: usize = self.echo.values().map(|v| 2 * v.to_string().len()).sum();
        1024 + self.id.len() + self.model.len() + echo
    }
}

fn error_json(error: &ApiError) -> Value {
    let code = match error.kind {
        ErrorKind::RateLimited { .. } | ErrorKind::Overloaded { .. } => "rate_limit_exceeded",
        ErrorKind::Invalid | ErrorKind::ContextOverflow | ErrorKind::Unsupported => {
            "invalid_prompt"
        }
        _ => "server_error",
    };
    json!({"code": code, "message": error.message})
}

fn usage_json(usage: &Usage) -> Value {
    let mut numbers = json!({
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    });
    report::add_to(&mut numbers, usage);
    numbers
}
