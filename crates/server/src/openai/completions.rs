//! `POST /v1/completions`: text that goes on, without a chat template.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Extension, State};
use axum::response::{IntoResponse as _, Response};
use futures_util::future::try_join_all;
use serde::Deserialize;

use self::answer::Reply;
use super::events::{Data, Merged};

use super::options::{Options, max_tokens};
use super::prompts::{WirePrompts, prompts};
use super::{Refusal, caller};
use crate::app::App;
use crate::fields::{Integer, count, required};
use crate::job::{Caller, Completed, Job, Prompt, Usage};
use crate::narrator::narrate;
use crate::wire::parse;
use crate::{Answer, ApiError};

mod answer;
#[cfg(test)]
mod tests;

/// Answers to one request at most, over all its prompts.
const ANSWERS_MAX: usize = 64;

/// What OpenAI has for a request that names no limit.
const MAX_TOKENS: usize = 16;

/// Alternatives reported with each token at most.
const LOGPROBS_MAX: i128 = 5;

/// The fields that are not in [`Options`] or [`FormatFields`](super::format::FormatFields).
#[derive(Debug, Deserialize)]
struct CompletionFields {
    prompt: Option<WirePrompts>,
    max_tokens: Option<Integer>,
    echo: Option<bool>,
    suffix: Option<String>,
    logprobs: Option<Integer>,
    best_of: Option<Integer>,
}

/// A request, ready to be done.
pub(super) struct Request {
    /// One for each prompt.
    pub(super) jobs: Vec<Job>,
    /// What stands before each answer: its prompt, or nothing.
    echoes: Vec<String>,
    stream: bool,
    include_usage: bool,
    /// The field that asks for the answers' form.
    format_field: String,
}

/// Answers each prompt.
pub(super) async fn complete(
    State(app): State<App>,
    extension: Option<Extension<Caller>>,
    body: Bytes,
) -> Result<Response, Refusal> {
    let request = request(&body)?;
    drop(body);
    let caller = caller(extension);
    let top_logprobs = request.jobs[0].top_logprobs;
    let mut answers = Vec::with_capacity(request.jobs.len());
    for job in request.jobs {
        // If one is refused, the ones before it are dropped, which cancels them.
        let submitted = app.backend.submit(job, caller.clone()).await;
        answers.push(submitted.map_err(|error| error.renamed("format", &request.format_field))?);
    }
    let reply = Reply::new(&answers[0].model, top_logprobs, request.echoes);
    if request.stream {
        let chunks = reply.into_chunks(request.include_usage);
        return Ok(narrate(Merged::new(answers), Data(chunks)).await?);
    }
    let completed = collect(answers).await?;
    Ok(Json(reply.body(completed)).into_response())
}

/// The answers of all jobs, in the order of the prompts.
async fn collect(answers: Vec<Answer>) -> Result<Completed, ApiError> {
    let jobs = try_join_all(answers.into_iter().map(Answer::collect)).await?;
    let mut all = Completed {
        choices: Vec::new(),
        usage: Usage::default(),
    };
    for job in jobs {
        all.choices.extend(job.choices);
        crate::job::add(&mut all.usage, &job.usage);
    }
    Ok(all)
}

/// # Errors
/// If the body is not a request, or a field of it makes no sense.
pub(super) fn request(body: &Bytes) -> Result<Request, ApiError> {
    let options: Options = parse(body)?;
    let fields: CompletionFields = parse(body)?;
    let (stream, include_usage) = (options.stream == Some(true), options.include_usage());
    let (mut job, format_field) = options.into_job(parse(body)?, parse(body)?)?;
    job.max_tokens = match fields.max_tokens {
        Some(limit) => max_tokens("max_tokens", limit)?,
        None => Some(MAX_TOKENS),
    };
    let logprobs = fields.logprobs;
    job.top_logprobs = logprobs
        .map(|top| count(top, 0..=LOGPROBS_MAX, "logprobs"))
        .transpose()?;
    refuse_best_of(fields.best_of, job.n)?;
    if fields.suffix.is_some_and(|suffix| !suffix.is_empty()) {
        let message = "suffix asks for text between two others; models here only go on";
        return Err(ApiError::unsupported(message).at("suffix"));
    }
    let prompts = prompts("prompt", required(fields.prompt, "prompt")?)?;
    let answers = prompts.len() * job.n;
    if answers > ANSWERS_MAX {
        let message = format!(
            "{} prompts with {} answers each make {answers}; a request has at most {ANSWERS_MAX}",
            prompts.len(),
            job.n,
        );
        return Err(ApiError::invalid(message).at("prompt"));
    }
    let echoes = match fields.echo {
        Some(true) => echoes(&prompts, &job)?,
        _ => vec![String::new(); answers],
    };
    let with_prompt = |prompt| Job {
        prompt,
        ..job.clone()
    };
    Ok(Request {
        jobs: prompts.into_iter().map(with_prompt).collect(),
        echoes,
        stream,
        include_usage,
        format_field,
    })
}

/// The prompt of each answer.
fn echoes(prompts: &[Prompt], job: &Job) -> Result<Vec<String>, ApiError> {
    let refused = |what| {
        let message = format!("echo is not to be had {what}");
        ApiError::unsupported(message).at("echo")
    };
    if job.top_logprobs.is_some() {
        return Err(refused("with logprobs: the prompt's own are not kept"));
    }
    let mut echoes = Vec::with_capacity(prompts.len() * job.n);
    for prompt in prompts {
        let Prompt::Text(text) = prompt else {
            return Err(refused("of tokens; give the prompt as text"));
        };
        echoes.extend(std::iter::repeat_n(text.clone(), job.n));
    }
    Ok(echoes)
}

/// Writing more answers than are sent back is not done here.
fn refuse_best_of(best_of: Option<Integer>, n: usize) -> Result<(), ApiError> {
    match best_of {
        Some(Integer(best_of)) if usize::try_from(best_of) != Ok(n) => {
            let message = format!("best_of is {best_of} and n is {n}; only the same is to be had");
            Err(ApiError::unsupported(message).at("best_of"))
        }
        _ => Ok(()),
    }
}
