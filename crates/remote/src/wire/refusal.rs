//! What endpoints say when they do not answer.

use serde::Deserialize;
use serde_json::Value;

/// Characters of an endpoint's message that are passed on.
const MESSAGE_CHARS_MAX: usize = 300;

/// What is wrong with an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It makes no sense; this is why. Never a word of the answer.
    Garbled(String),
    /// The endpoint says that something went wrong.
    Refused(Refusal),
    /// The endpoint keeps the rest of the answer back, for what is in it.
    Withheld,
}

/// An endpoint's own words on what went wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// `type`, `code` or both, as the endpoint has them: `overloaded_error`, `insufficient_quota`.
    pub(crate) kinds: Vec<String>,
    /// The status that it names within a body.
    pub(crate) status: Option<u16>,
    /// The field at fault.
    pub(crate) param: Option<String>,
    /// The message, clipped.
    pub(crate) message: String,
}

/// `type` and `code` may be numbers.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Body {
    message: Option<String>,
    #[serde(rename = "type")]
    kind: Value,
    code: Value,
    param: Value,
}

impl Refusal {
    /// Reads a body of any of the interfaces: `{"error": {..}}`, `{"error": ".."}`, `{"message": ..}`, `{"detail": ..}`.
    /// What is none of them has no message: a proxy's page is of no use to anyone.
    pub(crate) fn read(body: &[u8]) -> Self {
        match serde_json::from_slice(body) {
            Ok(value) => Self::of(&value).unwrap_or_default(),
            Err(_) => Self::default(),
        }
    }

    /// The error that a value speaks of, if it does.
    pub(crate) fn of(value: &Value) -> Option<Self> {
        let fields = value.as_object()?;
        let error = match (fields.get("error"), fields.get("detail")) {
            (Some(Value::Null), None) => return None,
            (Some(Value::String(text)), _) | (None, Some(Value::String(text))) => {
                return Some(Self {
                    message: clipped(text),
                    ..Self::default()
                });
            }
            (Some(error), _) => error,
            (None, Some(detail)) => detail.get(0).unwrap_or(detail),
            (None, None) => value,
        };
        let error: Body = serde_json::from_value(error.clone()).ok()?;
        let message = error.message.or_else(|| field(value, "msg"))?;
        let mut kinds = Vec::new();
        let mut status = None;
        for kind in [error.kind, error.code] {
            match kind {
                Value::String(kind) => kinds.push(kind),
                Value::Number(code) => status = code.as_u64().and_then(|it| u16::try_from(it).ok()),
                _ => {}
            }
        }
        Some(Self {
            kinds,
            status,
            param: error.param.as_str().map(ToOwned::to_owned),
            message: clipped(&message),
        })
    }

    /// Whether it is of this kind.
    pub(crate) fn is(&self, kind: &str) -> bool {
        self.kinds.iter().any(|it| it == kind)
    }

    /// Whether the prompt is longer than the endpoint's context.
    pub(crate) fn is_overflow(&self) -> bool {
        let message = self.message.to_lowercase();
        let said = [
            "maximum context length",
            "prompt is too long",
            "context window",
            "context size",
            "context length",
            "input length and `max_tokens` exceed",
        ];
        self.is("context_length_exceeded")
            || self.is("exceed_context_size_error")
            || said.iter().any(|it| message.contains(it))
    }

    /// Whether waiting does not help: the account has no money left.
    pub(crate) fn is_about_money(&self) -> bool {
        [
            "insufficient_quota",
            "billing_error",
            "billing_hard_limit_reached",
        ]
        .iter()
        .any(|it| self.is(it))
    }
}

fn field(value: &Value, name: &str) -> Option<String> {
    Some(value.pointer("/detail/0")?.get(name)?.as_str()?.to_owned())
}

/// The beginning of a message, on one line.
fn clipped(message: &str) -> String {
    let words: Vec<_> = message.split_whitespace().collect();
    let line = words.join(" ");
    match line.char_indices().nth(MESSAGE_CHARS_MAX) {
        None => line,
        Some((end, _)) => format!("{} ...", &line[..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_interfaces_errors_are_read() {
        for (body, message, kind, status) in [
            (
                r#"{"error":{"message":"You exceeded\nyour quota","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}"#,
                "You exceeded your quota",
                "insufficient_quota",
                None,
            ),
            (
                r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"},"request_id":"r"}"#,
                "Overloaded",
                "overloaded_error",
                None,
            ),
            (
                r#"{"error":"model 'x' not found"}"#,
                "model 'x' not found",
                "",
                None,
            ),
            (
                r#"{"object":"error","message":"too long","type":"BadRequestError","param":null,"code":400}"#,
                "too long",
                "BadRequestError",
                Some(400),
            ),
            (r#"{"detail":"Not Found"}"#, "Not Found", "", None),
            (
                r#"{"detail":[{"loc":["body"],"msg":"field required","type":"missing"}]}"#,
                "field required",
                "missing",
                None,
            ),
        ] {
            let refusal = Refusal::read(body.as_bytes());
            assert_eq!(refusal.message, message);
            assert!(kind.is_empty() || refusal.is(kind), "{refusal:?}");
            assert_eq!(refusal.status, status);
        }
        assert_eq!(Refusal::read(b"<html>502</html>"), Refusal::default());
        assert_eq!(Refusal::of(&serde_json::json!({"choices": []})), None);
    }

    #[test]
    fn messages_are_clipped_between_characters() {
        let long = format!(r#"{{"error":"{}"}}"#, "é".repeat(1000));
        let message = Refusal::read(long.as_bytes()).message;
        assert_eq!(message.chars().count(), MESSAGE_CHARS_MAX + 4);
    }
}
