//! Requests without a server: what job a body asks for, for whoever wants to know what would become of it.

use axum::body::Bytes;
use serde_json::Value;
use troika_remote::config::Api;

use crate::job::Job;
use crate::{ApiError, anthropic, ollama, openai, responses};

/// The job that a body asks for, as the route would make it that has such bodies: one with `messages` is a conversation, one
/// with a `prompt` a text, one with `input` a response of OpenAI's newer interface. Wishes of headers are not in it.
///
/// # Errors
/// If the body makes no sense there, or asks for several texts at once.
pub fn parse_job(api: Api, body: &Value) -> Result<Job, ApiError> {
    let bytes = Bytes::from(body.to_string());
    let has = |field: &str| body.get(field).is_some();
    match api {
        Api::Anthropic => anthropic::job(&bytes),
        Api::Ollama if has("messages") => ollama::chat_job(&bytes),
        Api::Ollama => ollama::generate_job(&bytes),
        Api::Openai if has("prompt") && !has("messages") => openai::completion_job(&bytes),
        Api::Openai if has("input") && !has("messages") => responses::job(&bytes),
        Api::Openai => openai::chat_job(&bytes),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::job::Prompt;

    #[test]
    fn bodies_of_every_interface_are_jobs() {
        let messages = json!([{"role": "user", "content": "Good morning"}]);
        let chat = json!({"model": "tiny", "messages": messages, "max_tokens": 5});
        let text = json!({"model": "tiny", "prompt": "Good morning", "raw": true});
        let input = json!({"model": "tiny", "input": "Good morning"});
        for (api, body) in [
            (Api::Openai, &chat),
            (Api::Openai, &text),
            (Api::Openai, &input),
            (Api::Anthropic, &chat),
            (Api::Ollama, &chat),
            (Api::Ollama, &text),
        ] {
            let job = parse_job(api, body).unwrap();
            assert_eq!(job.model, "tiny");
            let said = match job.prompt {
                Prompt::Chat(chat) => chat.messages[0].content.as_text().unwrap(),
                Prompt::Text(text) | Prompt::Rendered(text) => text,
                Prompt::Tokens(_) => panic!("it was text"),
            };
            assert_eq!(said, "Good morning", "{api:?} {body}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_told_as_the_route_does() {
        for (api, body, param) in [
            (Api::Openai, json!({"model": "tiny"}), "messages"),
            (
                Api::Anthropic,
                json!({"model": "tiny", "messages": []}),
                "max_tokens",
            ),
            (Api::Ollama, json!({"prompt": "a"}), "model"),
            (
                Api::Ollama,
                json!({"model": "tiny", "messages": []}),
                "messages",
            ),
            (Api::Ollama, json!({"model": "tiny"}), "prompt"),
            (
                Api::Openai,
                json!({"model": "tiny", "prompt": ["a", "b"]}),
                "prompt",
            ),
        ] {
            let error = parse_job(api, &body).unwrap_err();
            assert_eq!(error.param.as_deref(), Some(param), "{error}");
        }
    }
}
