//! What leaves this machine.
//!
//! An [`Outgoing`] is the only thing that the client sends, and here is all that makes one: of what the judge let go, for
//! the endpoints that it named; and of a sentence of ours that tries an endpoint out.

use hyper::body::Bytes;
use troika_engine::chat::ChatMessage;
use troika_job::{ApiError, ChatPrompt, EmbedJob, ErrorKind, Job, Prompt, Sampling};

use crate::config::{Api, Remote};
use crate::privacy::{Barred, Public};
use crate::wire::{self, Ask, Dialect, Reader};

/// What an endpoint is tried out with.
const SENTENCE: &str = "Count from one to forty in words, separated by commas.";

/// Tokens that it may answer with: enough to tell how fast it writes.
const SENTENCE_TOKENS: usize = 128;

/// One request, ready to leave.
#[derive(Debug)]
pub(crate) struct Outgoing {
    ask: Ask,
    body: Bytes,
    api: Api,
    /// The model, as it is called there.
    pub(crate) model: String,
    /// Tokens that its answers have at most, if that is limited.
    pub(crate) answer_tokens: Option<usize>,
}

impl Outgoing {
    /// The requests that a job is to this endpoint.
    ///
    /// # Errors
    /// If the job may not go there, or the endpoint has no such model or no words for something in it.
    pub(crate) fn of(job: &Public<Job>, to: &Remote, strict: bool) -> Result<Vec<Self>, ApiError> {
        let job = job.sendable(to).map_err(|barred| refused(to, &barred))?;
        Self::all(job, to, strict)
    }

    /// The request that a job of embedding is to this endpoint.
    ///
    /// # Errors
    /// As [`Outgoing::of`].
    pub(crate) fn embedding(
        job: &Public<EmbedJob>,
        to: &Remote,
        strict: bool,
    ) -> Result<Self, ApiError> {
        let job = job.sendable(to).map_err(|barred| refused(to, &barred))?;
        let model = served(to, &job.model)?;
        let ask = wire::embedding(&dialect(to, strict), model, job)?;
        Ok(Self::new(ask, to.api, model, Some(0)))
    }

    /// A sentence of ours, to the model that is called so here.
    ///
    /// # Errors
    /// If the endpoint has no such model.
    pub(crate) fn sentence(model: &str, to: &Remote, strict: bool) -> Result<Vec<Self>, ApiError> {
        let job = Job {
            model: model.to_owned(),
            prompt: Prompt::Chat(Box::new(ChatPrompt {
                messages: vec![ChatMessage::new("user", SENTENCE)],
                parallel_tool_calls: true,
                ..ChatPrompt::default()
            })),
            n: 1,
            max_tokens: Some(SENTENCE_TOKENS),
            sampling: Sampling::default(),
            ..Job::default()
        };
        Self::all(&job, to, strict)
    }

    fn all(job: &Job, to: &Remote, strict: bool) -> Result<Vec<Self>, ApiError> {
        let model = served(to, &job.model)?;
        let limit = match (job.max_tokens, to.limits.answer_tokens) {
            (Some(own), Some(usual)) => Some(own.min(usual)),
            (own, usual) => own.or(usual),
        };
        let asks = wire::asks(&dialect(to, strict), model, limit, job)?;
        let outgoing = |ask: Ask| {
            let answers = ask.answers.len();
            let answer_tokens = limit.and_then(|limit| limit.checked_mul(answers));
            Self::new(ask, to.api, model, answer_tokens)
        };
        Ok(asks.into_iter().map(outgoing).collect())
    }

    fn new(ask: Ask, api: Api, model: &str, answer_tokens: Option<usize>) -> Self {
        Self {
            body: ask.body.to_string().into(),
            ask,
            api,
            model: model.to_owned(),
            answer_tokens,
        }
    }

    /// What comes after the endpoint's URL.
    pub(crate) fn path(&self) -> &'static str {
        self.ask.path
    }

    /// The body.
    pub(crate) fn body(&self) -> Bytes {
        self.body.clone()
    }

    /// What reads the answer.
    pub(crate) fn reader(&self) -> Box<dyn Reader> {
        wire::reader(self.api, &self.ask)
    }
}

fn dialect(to: &Remote, strict: bool) -> Dialect<'_> {
    Dialect {
        name: &to.name,
        api: to.api,
        strict,
    }
}

fn served<'a>(to: &'a Remote, model: &str) -> Result<&'a str, ApiError> {
    to.model(model).ok_or_else(|| {
        let name = &to.name;
        let message = format!(
            "remote `{name}` does not serve `{model}`; `models` of hybrid.toml says what it does"
        );
        ApiError::new(ErrorKind::ModelNotFound, message).at("model")
    })
}

fn refused(to: &Remote, barred: &Barred) -> ApiError {
    let message = format!("nothing was sent to remote `{}`: {barred}", to.name);
    ApiError::new(ErrorKind::Forbidden, message)
}
