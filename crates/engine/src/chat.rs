//! A conversation, and its text as the model expects it.
//!
//! [`ChatInput`] is neutral: every wire format is converted to it. [`ChatTemplate`] renders it by the template that came
//! with the model. The text holds special tokens as text, so it is encoded with those recognised, and often begins
//! with the token of beginning: whoever encodes it adds no second one. [`AnswerFormat`] is the way back: it takes the
//! model's text apart into what it says, thinks and calls.

mod answer;
mod clock;
mod jinja;
mod message;
mod template;

pub use answer::{AnswerFormat, AnswerParser, AnswerPart, GrammarContext, RequiredCall};
pub use clock::Moment;
pub use jinja::Limit;
pub use message::{ChatInput, ChatMessage, Content, ContentPart, FunctionCall, ToolCall};
pub use template::{ChatTemplate, TemplateError};
