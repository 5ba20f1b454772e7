//! What endpoints speak: from a [`Job`] to the body of a request, and from what comes back to [`Event`]s.
//!
//! The server's interfaces do the same the other way round; their parsers and these writers agree, which a property test in
//! the server's crate shows. Nothing here opens a connection: bodies are values, and only `endpoint` lets one out.
//!
//! What of a job an interface has no words for is refused, by the endpoint's name and the field's; it is never left out in
//! silence. What concerns this machine alone (`keep_alive`, `overflow`, wishes) is not sent.

mod anthropic;
mod calls;
mod embeddings;
mod frames;
mod ollama;
mod openai;
mod refusal;
#[cfg(test)]
mod tests;

use std::ops::Range;

use serde_json::Value;
use troika_base::ExtraSampling;
use troika_job::{ApiError, Delta, Event, Job, Part};

pub(crate) use embeddings::{embedded, embedding};
pub(crate) use frames::{Frame, Frames};
pub(crate) use refusal::{Fault, Refusal};

use crate::config::Api;

/// The number of a token where the endpoint tells none.
const NO_TOKEN: u32 = u32::MAX;

/// An endpoint, as far as bodies depend on it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dialect<'a> {
    /// What it is called here.
    pub(crate) name: &'a str,
    /// What it speaks.
    pub(crate) api: Api,
    /// It refuses fields that it does not know, and has no more than its documents say; other programs that speak the
    /// same interface have more.
    pub(crate) strict: bool,
}

/// One request of an endpoint.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ask {
    /// What comes after the endpoint's URL.
    pub(crate) path: &'static str,
    /// The body.
    pub(crate) body: Value,
    /// The job's answers that it brings.
    pub(crate) answers: Range<usize>,
}

/// What an endpoint says of tokens; what it does not say is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Tokens of the prompt, those in the cache among them.
    pub(crate) prompt: Option<usize>,
    /// Of these, tokens that were in its cache.
    pub(crate) cached: Option<usize>,
    /// Tokens written.
    pub(crate) completion: Option<usize>,
    /// Of these, tokens of reasoning.
    pub(crate) reasoning: Option<usize>,
}

/// Adds a text to what is said, if there is one.
fn say(delta: &mut Delta, part: fn(String) -> Part, text: Option<String>) {
    delta
        .parts
        .extend(text.filter(|it| !it.is_empty()).map(part));
}

/// Reads an answer, frame by frame.
pub(crate) trait Reader: Send {
    /// Adds what the frame says to `said`: deltas and finishes.
    ///
    /// # Errors
    /// If it makes no sense, or says that something went wrong.
    fn read(&mut self, frame: &Frame, said: &mut Vec<Event>) -> Result<(), Fault>;

    /// What was said of tokens so far.
    fn counts(&self) -> Counts;

    /// Whether every answer is complete.
    fn is_complete(&self) -> bool;

    /// Whether nothing more will come, though the connection may stay.
    fn is_over(&self) -> bool;
}

/// The requests that a job is, to an endpoint that calls its model `model`; each answer has `limit` tokens at most.
///
/// # Errors
/// [`ErrorKind::Unsupported`](troika_job::ErrorKind::Unsupported) if the interface has no words for something in it.
pub(crate) fn asks(
    to: &Dialect<'_>,
    model: &str,
    limit: Option<usize>,
    job: &Job,
) -> Result<Vec<Ask>, ApiError> {
    match to.api {
        Api::Openai => openai::asks(to, model, limit, job),
        Api::Anthropic => anthropic::asks(to, model, limit, job),
        Api::Ollama => ollama::asks(to, model, limit, job),
    }
}

/// What reads the answer to `ask`.
pub(crate) fn reader(api: Api, ask: &Ask) -> Box<dyn Reader> {
    match api {
        Api::Openai => Box::new(openai::Stream::new(ask.answers.clone())),
        Api::Anthropic => Box::new(anthropic::Stream::new(ask.answers.start)),
        Api::Ollama => Box::new(ollama::Stream::new(ask.answers.start)),
    }
}

/// How an answer is cut into frames.
pub(crate) fn frames(api: Api) -> Frames {
    match api {
        Api::Openai | Api::Anthropic => Frames::events(),
        Api::Ollama => Frames::lines(),
    }
}

impl Dialect<'_> {
    /// Refuses what the interface has no words for.
    fn lacks(&self, what: &str, field: &str) -> ApiError {
        let kind = match (self.api, self.strict) {
            (Api::Openai, true) => "OpenAI's service",
            (Api::Openai, false) => "OpenAI's interface",
            (Api::Anthropic, _) => "Anthropic's interface",
            (Api::Ollama, _) => "Ollama's interface",
        };
        let name = self.name;
        ApiError::unsupported(format!(
            "remote `{name}` speaks {kind}, which has no {what}"
        ))
        .at(field)
    }

    /// Refuses samplers beyond those that an interface has words for: endpoints pass over what they do not know, and nobody
    /// would be told.
    ///
    /// # Errors
    /// If there is one.
    fn lacks_extra(&self, asked: &ExtraSampling, known: &[&str]) -> Result<(), ApiError> {
        match asked.given().into_iter().find(|name| !known.contains(name)) {
            Some(name) => Err(self.lacks(name, name)),
            None => Ok(()),
        }
    }

    /// Refuses the first of these that was asked for.
    ///
    /// # Errors
    /// If there is one.
    fn lacks_any(&self, asked: &[(bool, &str, &str)]) -> Result<(), ApiError> {
        match asked.iter().find(|(asked, ..)| *asked) {
            Some((_, what, field)) => Err(self.lacks(what, field)),
            None => Ok(()),
        }
    }
}

/// The text of a message; parts that are not text were refused where the request came in.
fn text(content: &troika_engine::chat::Content) -> String {
    use troika_engine::chat::Content;
    match content {
        Content::Text(text) => text.clone(),
        Content::Parts(parts) => {
            let texts: Vec<_> = parts.iter().filter_map(|it| it.text.as_deref()).collect();
            texts.join("\n")
        }
    }
}

/// A number of single precision as a JSON number with as few digits as tell it from its neighbours: 0.7, not
/// 0.699999988079071.
fn short(x: f32) -> Value {
    x.to_string()
        .parse::<f64>()
        .map_or(Value::Null, Value::from)
}
