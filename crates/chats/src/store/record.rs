//! What is kept: conversations and their messages, as the file has them ([docs/formats/chats.md](../../../../docs/formats/chats.md)).

use serde::{Deserialize, Serialize};

use crate::fold::Part;

/// Whose conversations: those of an API key, by its name; `None` where no keys are in use.
pub type Owner<'a> = Option<&'a str>;

/// A conversation without its messages. Times are milliseconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Chat {
    /// Its number; the key in the file.
    #[serde(skip)]
    pub id: String,
    /// The key it belongs to.
    pub owner: Option<String>,
    /// What it is about. Set by its first question if nobody else sets it.
    pub title: Option<String>,
    /// The model that was chosen last.
    pub model: Option<String>,
    /// How answers are made.
    #[serde(default)]
    pub params: Params,
    /// When it began.
    pub created: u64,
    /// When something was said last.
    pub updated: u64,
    /// The end of the branch that is shown.
    pub leaf: Option<u64>,
    /// The number of the next message; from 1 on.
    pub next: u64,
}

/// How answers are made; what is absent is the model's own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "as in `Sampling` of a job")]
#[serde(default)]
pub struct Params {
    /// What the model is told before all else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_k: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Tokens of an answer at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// Whether the model thinks before it answers, where its template leaves the choice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub think: Option<bool>,
}

/// Who says something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the two sides")]
pub enum Role {
    User,
    Assistant,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Finish {
    /// It is complete.
    Stop,
    /// As many tokens as were asked for, or the context is full.
    Length,
    /// Nobody waited for it any more.
    Stopped,
    /// It failed.
    Error,
}

/// The tokens of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "as in OpenAI's usage")]
pub struct Usage {
    pub prompt_tokens: usize,
    pub completion_tokens: usize,
}

/// A message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Its number in the conversation; the key in the file.
    #[serde(skip)]
    pub n: u64,
    /// The message that it follows: an older one.
    pub parent: Option<u64>,
    /// Who says it.
    pub role: Role,
    /// What is said. In the file, texts are beside the records.
    #[serde(skip)]
    pub content: String,
    /// What was thought before.
    #[serde(skip)]
    pub reasoning: String,
    /// Who answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// When it began.
    pub created: u64,
    /// How it ended, if it is an answer; `None` while it is written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ending: Option<Ending>,
}

/// How an answer ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ending {
    /// Why.
    pub finish: Finish,
    /// What went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Its tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// Seconds until the first token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttft_s: Option<f64>,
    /// Tokens a second from there on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_second: Option<f64>,
}

impl From<Finish> for Ending {
    fn from(finish: Finish) -> Self {
        Self {
            finish,
            error: None,
            usage: None,
            ttft_s: None,
            tokens_per_second: None,
        }
    }
}

/// A conversation that begins.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "as in `Chat`")]
pub struct New {
    pub title: Option<String>,
    pub model: Option<String>,
    pub params: Params,
}

/// What is changed of a conversation; what is absent stays.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "as in `Chat`")]
pub struct Change {
    pub title: Option<String>,
    pub model: Option<String>,
    pub params: Option<Params>,
    pub leaf: Option<u64>,
}

/// A message that is added.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "as in `Message`")]
pub struct Draft {
    pub parent: Option<u64>,
    pub role: Role,
    pub content: String,
    pub model: Option<String>,
}

/// A conversation in a list.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The conversation.
    pub chat: Chat,
    /// What was looked for, where it stands.
    pub snippet: Option<Vec<Part>>,
}

/// A part of the list of conversations, the newest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Listed {
    /// As many as were asked for, or all.
    pub chats: Vec<Found>,
    /// Names the place where the list goes on, if there are more.
    pub next: Option<String>,
}
