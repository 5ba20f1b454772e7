//! A job's numbers: the fields that OpenAI's clients know, and our own under `troika`.

use serde_json::{Value, json};

use crate::job::Usage;
use crate::report;

/// The object `usage`.
pub(super) fn body(usage: &Usage) -> Value {
    let mut body = json!({
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    });
    report::add_to(&mut body, usage);
    body
}
