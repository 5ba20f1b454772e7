//! A model's chat template.

use std::sync::OnceLock;

use serde_json::{Value, json};

use super::clock::Moment;
use super::jinja::{Error, Fault, Limit, Limits, Program};
use super::message::{ChatInput, ChatMessage, Content};

/// The built-in templates, for models that come without one.
const BUILTIN: [(&str, &str); 1] = [(
    "chatml",
    "{% for message in messages %}\
     {{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}\
     {% endfor %}\
     {% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
)];

/// Parsing and rendering run on a stack of this size, whatever the caller has left of its own. The deepest template
/// that the limits allow takes less than half of it, in a debug build.
const STACK_BYTES: usize = 16 << 20;

/// Names and messages in errors come from the template, and are cut to this.
const MESSAGE_BYTES: usize = 500;

/// A chat template, parsed. It is hostile until proven otherwise: rendering is bounded in time, memory, recursion
/// and output, and reaches nothing outside of itself but the clock.
#[derive(Debug)]
pub struct ChatTemplate {
    program: Program,
    /// Whether the template takes content in parts. Found out when parts come.
    takes_parts: OnceLock<bool>,
}

/// Why a chat template cannot be used, or cannot render a conversation.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// The template is no valid template.
    #[error(
        "the chat template is broken at line {line}: {what}; give another one or run without (`--raw`)"
    )]
    Syntax {
        /// Counted from 1.
        line: u32,
        /// What is wrong.
        what: String,
    },
    /// The template cannot cope with the conversation, or has a mistake in it.
    #[error("the chat template fails at line {line}: {what}")]
    Failed {
        /// Counted from 1.
        line: u32,
        /// What went wrong.
        what: String,
    },
    /// The template says that the conversation is not one for its model.
    #[error("the model's chat template refuses this conversation: {message}")]
    Refused {
        /// In the template's words.
        message: String,
    },
    /// The template takes more than any real one.
    #[error(
        "the chat template exceeds the limit on {limit} at line {line}; it is broken or hostile"
    )]
    Limit {
        /// Counted from 1.
        line: u32,
        /// What ran out.
        limit: Limit,
    },
    /// A message holds more than text, and the template takes text only.
    #[error("message {index} holds {kind}, and the model's chat template takes text only")]
    NotText {
        /// Which message, counted from 0.
        index: usize,
        /// The kind of the part.
        kind: String,
    },
    /// No built-in template has this name.
    #[error("there is no built-in chat template {name:?}; there is {known}")]
    UnknownBuiltin {
        /// The name.
        name: String,
        /// Names with commas.
        known: String,
    },
    /// The operating system gives no thread to render on.
    #[error("no thread to render the chat template on: {reason}")]
    NoThread {
        /// In the system's words.
        reason: String,
    },
}

impl ChatTemplate {
    /// Parses a template.
    ///
    /// # Errors
    /// [`TemplateError::Syntax`] or [`TemplateError::Limit`].
    pub fn new(source: &str) -> Result<Self, TemplateError> {
        let parsed = on_own_stack(|| Program::parse(source, Limits::default()))?;
        let program = parsed.map_err(|error| match error {
            Error {
                line,
                fault: Fault::Failed(what),
            } => TemplateError::Syntax {
                line,
                what: shortened(what),
            },
            error => error.into(),
        })?;
        Ok(Self {
            program,
            takes_parts: OnceLock::new(),
        })
    }

    /// The built-in template of this name: `chatml`.
    ///
    /// # Errors
    /// [`TemplateError::UnknownBuiltin`].
    pub fn builtin(name: &str) -> Result<Self, TemplateError> {
        match BUILTIN.iter().find(|(have, _)| *have == name) {
            Some((_, source)) => Self::new(source),
            None => Err(TemplateError::UnknownBuiltin {
                name: name.to_owned(),
                known: BUILTIN.map(|(name, _)| name).join(", "),
            }),
        }
    }

    /// The conversation as the text that the model expects.
    ///
    /// Arguments of tool calls that are JSON in text become objects. Content in parts becomes text if the template
    /// takes no parts.
    ///
    /// # Errors
    /// [`TemplateError::Refused`] if the template says no to the conversation; `Failed` or `Limit` if it is not up
    /// to it; `NotText` for a part that it cannot take.
    pub fn render(&self, input: &ChatInput) -> Result<String, TemplateError> {
        let has_parts = |message: &ChatMessage| matches!(message.content, Content::Parts(_));
        let as_text = input.messages.iter().any(has_parts) && !self.takes_parts();
        let messages = input.messages.iter().enumerate();
        let messages = messages.map(|(index, message)| message_value(index, message, as_text));
        let messages = messages.collect::<Result<Vec<_>, _>>()?;
        let tools = match &*input.tools {
            [] => Value::Null,
            tools => Value::Array(tools.to_vec()),
        };
        let mut context = vec![
            ("messages", Value::Array(messages)),
            ("tools", tools),
            (
                "add_generation_prompt",
                Value::Bool(input.add_generation_prompt),
            ),
        ];
        for (name, token) in [
            ("bos_token", &input.bos_token),
            ("eos_token", &input.eos_token),
        ] {
            context.extend(token.iter().map(|token| (name, json!(token))));
        }
        context.extend(
            input
                .extra
                .iter()
                .map(|(name, value)| (name.as_str(), value.clone())),
        );
        // The last of what is always there, so that a caller may give its own.
        context.push(("documents", Value::Null));
        self.run(&context, input.now)
    }

    fn run(&self, context: &[(&str, Value)], now: Option<Moment>) -> Result<String, TemplateError> {
        let now = || now.unwrap_or_else(Moment::now);
        Ok(on_own_stack(|| self.program.render(context, &now))??)
    }

    /// Whether the text of a part comes out by itself: not at all, or with its quotes, if the template expects text.
    fn takes_parts(&self) -> bool {
        const MARK: &str = "part-of-a-probe";
        *self.takes_parts.get_or_init(|| {
            let parts = json!([{"role": "user", "content": [{"type": "text", "text": MARK}]}]);
            let context = [
                ("messages", parts),
                ("add_generation_prompt", Value::Bool(true)),
            ];
            let rendered = self.run(&context, None).unwrap_or_default();
            let quoted = ['"', '\'']
                .iter()
                .any(|quote| rendered.contains(&format!("{quote}{MARK}")));
            rendered.contains(MARK) && !quoted
        })
    }
}

impl From<Error> for TemplateError {
    fn from(Error { line, fault }: Error) -> Self {
        match fault {
            Fault::Raised(message) => Self::Refused {
                message: shortened(message),
            },
            Fault::Limit(limit) => Self::Limit { line, limit },
            Fault::Failed(what) => Self::Failed {
                line,
                what: shortened(what),
            },
        }
    }
}

/// What the template had to say, as long as an error message may be.
fn shortened(mut message: String) -> String {
    if message.len() > MESSAGE_BYTES {
        message.truncate(message.floor_char_boundary(MESSAGE_BYTES));
        message.push('…');
    }
    message
}

/// A message as templates see it.
fn message_value(
    index: usize,
    message: &ChatMessage,
    as_text: bool,
) -> Result<Value, TemplateError> {
    let mut message = message.clone();
    for call in &mut message.tool_calls {
        if let Value::String(text) = &call.function.arguments
            && let Ok(object @ Value::Object(_)) = serde_json::from_str(text)
        {
            call.function.arguments = object;
        }
    }
    if let (true, Content::Parts(parts)) = (as_text, &message.content) {
        let Some(text) = message.content.as_text() else {
            let other = parts
                .iter()
                .find(|part| part.kind != "text" || part.text.is_none());
            return Err(TemplateError::NotText {
                index,
                kind: other.map_or_else(String::new, |part| part.kind.clone()),
            });
        };
        message.content = Content::Text(text);
    }
    // Maps have text keys and the rest is plain data, so nothing can fail to serialize.
    Ok(serde_json::to_value(message).expect("a message is JSON. This is a bug."))
}

/// Runs `work` on a stack of a known size.
fn on_own_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, TemplateError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("chat-template".to_owned())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, work);
        match thread.map(std::thread::ScopedJoinHandle::join) {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(panic)) => std::panic::resume_unwind(panic),
            Err(error) => Err(TemplateError::NoThread {
                reason: error.to_string(),
            }),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::{ContentPart, FunctionCall, ToolCall};

    fn one_turn(content: Content) -> ChatInput {
        let message = ChatMessage {
            content,
            ..ChatMessage::new("user", "")
        };
        ChatInput {
            messages: vec![message],
            ..ChatInput::default()
        }
    }

    #[test]
    fn chatml_is_built_in() {
        let template = ChatTemplate::builtin("chatml").expect("it is built in");
        let mut input = one_turn(Content::Text("Hi".to_owned()));
        input
            .messages
            .insert(0, ChatMessage::new("system", "Be brief."));
        input.add_generation_prompt = true;
        let expect = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n";
        assert_eq!(template.render(&input).as_deref(), Ok(expect));
        let unknown = ChatTemplate::builtin("nope").expect_err("no such template");
        assert_eq!(
            unknown.to_string(),
            r#"there is no built-in chat template "nope"; there is chatml"#
        );
    }

    #[test]
    fn parts_become_text_where_text_is_wanted() {
        let parts = Content::Parts(vec![ContentPart::new_text("a"), ContentPart::new_text("b")]);
        let mut image = ContentPart::new_text("");
        image.kind = "image".to_owned();
        image.text = None;
        let with_image = one_turn(Content::Parts(vec![image]));

        for text_only in [
            "{{ '[' + messages[0].content + ']' }}",
            "[{{ messages[0].content | trim }}]",
            "[{{ messages[0].content }}]",
        ] {
            let template = ChatTemplate::new(text_only).expect("valid");
            assert_eq!(
                template.render(&one_turn(parts.clone())).as_deref(),
                Ok("[a\nb]"),
                "{text_only}"
            );
            let refused = TemplateError::NotText {
                index: 0,
                kind: "image".to_owned(),
            };
            assert_eq!(template.render(&with_image), Err(refused), "{text_only}");
        }
        let takes_parts =
            "{% for part in messages[0].content %}<{{ part.type }}>{{ part.text }}{% endfor %}";
        let template = ChatTemplate::new(takes_parts).expect("valid");
        assert_eq!(
            template.render(&one_turn(parts)).as_deref(),
            Ok("<text>a<text>b")
        );
        assert_eq!(template.render(&with_image).as_deref(), Ok("<image>"));
    }

    #[test]
    fn arguments_in_text_become_an_object() {
        let template =
            ChatTemplate::new("{{ messages[0].tool_calls[0].function.arguments.x + 1 }}")
                .expect("valid");
        let mut input = one_turn(Content::default());
        for arguments in [json!({"x": 1}), json!(r#"{"x": 1}"#)] {
            input.messages[0].tool_calls = vec![ToolCall {
                id: None,
                kind: "function".to_owned(),
                function: FunctionCall {
                    name: "f".to_owned(),
                    arguments,
                },
            }];
            assert_eq!(template.render(&input).as_deref(), Ok("2"));
        }
    }

    #[test]
    fn what_the_template_is_given() {
        let template = ChatTemplate::new(
            "{{ bos_token is defined }} {{ eos_token }} {{ tools is none }} {{ documents is none }} {{ messages|length }} \
             {{ add_generation_prompt }} {{ enable_thinking }} {{ strftime_now('%Y') }}",
        )
        .expect("valid");
        let mut input = one_turn(Content::default());
        input.eos_token = Some("</s>".to_owned());
        input.now = Some(Moment {
            unix_s: 0,
            utc_offset_s: 0,
        });
        input
            .extra
            .insert("enable_thinking".to_owned(), json!(false));
        input
            .extra
            .insert("messages".to_owned(), json!("not these"));
        let rendered = template.render(&input);
        assert_eq!(
            rendered.as_deref(),
            Ok("False </s> True True 1 False False 1970")
        );
    }

    #[test]
    fn errors_are_typed_and_short() {
        let render = |source: &str| ChatTemplate::new(source)?.render(&ChatInput::default());
        let refused = TemplateError::Refused {
            message: "no".to_owned(),
        };
        assert_eq!(render("{{ raise_exception('no') }}"), Err(refused));
        let failed = render("\n{{ nope.x }}").expect_err("fails");
        assert_eq!(
            failed.to_string(),
            "the chat template fails at line 2: `nope` is undefined, so it has no `x`"
        );
        assert!(matches!(
            render("{{"),
            Err(TemplateError::Syntax { line: 1, .. })
        ));
        let limit = render("{{ 'x' * 10**15 }}").expect_err("too long");
        assert_eq!(
            limit.to_string(),
            "the chat template exceeds the limit on time at line 1; it is broken or hostile"
        );
        let long = render("{{ raise_exception('é' * 1000000) }}").expect_err("raises");
        assert!(long.to_string().len() < 2 * MESSAGE_BYTES);
    }

    #[test]
    fn a_template_is_shared_between_threads() {
        fn shared<T: Send + Sync>() {}
        shared::<ChatTemplate>();
    }
}
