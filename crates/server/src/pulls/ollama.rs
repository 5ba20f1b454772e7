//! `/api/pull` as Ollama has it: a line for each step, and for how far the file is.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use futures_util::stream::{self, StreamExt as _};
use serde::Deserialize;
use serde_json::{Value, json};
use troika_pull::{Reference, Wish};

use super::run::State as Stage;
use super::{Pull, Run, View, changes, told};
use crate::ApiError;
use crate::dialect::Dialect;
use crate::wire::{ndjson, parse};

#[derive(Deserialize)]
struct PullRequest {
    model: Option<String>,
    /// As older clients say.
    name: Option<String>,
    stream: Option<bool>,
}

/// `POST /api/pull`. A client that leaves ends the pull, if it began it; what is here of it stays.
pub(super) async fn pull(State(view): State<View>, body: Bytes) -> Response {
    let answered = answer(&view, &body).await;
    answered.unwrap_or_else(|error| Dialect::Ollama.refuse(&error))
}

async fn answer(view: &View, body: &Bytes) -> Result<Response, ApiError> {
    let pulls = view.pulls()?;
    let request: PullRequest = parse(body)?;
    let name = request.model.or(request.name).unwrap_or_default();
    if name.is_empty() {
        return Err(ApiError::invalid("model is required").at("model"));
    }
    let from = Reference::of_ollama_name(&name).map_err(|error| told(&error).at("model"))?;
    // A model of the registry is called as the registry calls it; one of the hub, as its client does.
    let own_name = matches!(from, Reference::Hub { .. }).then_some(name);
    let (run, is_begun) = pulls.start(Wish {
        name: own_name,
        ..Wish::of(from)
    })?;
    let leaving = is_begun.then(|| Leaving(Arc::clone(&run)));
    let watched = changes(run.watch());
    if request.stream.unwrap_or(true) {
        let lines = watched.scan(Told::default(), move |told, pull| {
            let _ = &leaving;
            let lines = told.lines(&pull);
            std::future::ready(Some(stream::iter(lines)))
        });
        let drain = view.drain.clone();
        let until = async move { drain.begun().await };
        return Ok(ndjson(lines.flatten().take_until(Box::pin(until))));
    }
    let mut watched = std::pin::pin!(watched);
    let mut last = run.pull();
    while let Some(pull) = watched.next().await {
        last = pull;
    }
    drop(leaving);
    match (last.state, last.failure) {
        (Stage::Done, _) => Ok(Json(json!({"status": "success"})).into_response()),
        (_, Some(failure)) => Err(failure),
        _ => Err(ApiError::not_found("the pull was stopped")),
    }
}

/// Stops a pull when its only client goes.
struct Leaving(Arc<Run>);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// What a client was told.
#[derive(Default)]
struct Told {
    looked: bool,
    verified: bool,
}

impl Told {
    /// What it is told of a change.
    fn lines(&mut self, pull: &Pull) -> Vec<Value> {
        let mut lines = Vec::new();
        if !std::mem::replace(&mut self.looked, true) {
            lines.push(status("pulling manifest"));
        }
        match pull.state {
            Stage::Looking => {}
            Stage::Downloading => lines.push(far(pull, pull.done_bytes)),
            Stage::Verifying => lines.extend(self.verifying(pull)),
            Stage::Done => {
                lines.extend(self.verifying(pull));
                lines.extend(["writing manifest", "success"].map(status));
            }
            Stage::Failed | Stage::Stopped => {
                let why = pull.error.as_deref().unwrap_or("the pull was stopped");
                lines.push(json!({"error": why}));
            }
        }
        lines
    }

    /// All is here; told once.
    fn verifying(&mut self, pull: &Pull) -> Vec<Value> {
        if std::mem::replace(&mut self.verified, true) {
            return Vec::new();
        }
        vec![far(pull, pull.bytes), status("verifying sha256 digest")]
    }
}

fn status(what: &str) -> Value {
    json!({"status": what})
}

/// How far the file is. Clients have a bar for each digest; a file without one gets its name.
fn far(pull: &Pull, completed: u64) -> Value {
    const DIGITS: usize = 12;
    let digest = pull.digest.clone();
    let digest = digest.unwrap_or_else(|| pull.name.clone().unwrap_or_default());
    let short = digest.strip_prefix("sha256:").unwrap_or(&digest);
    let short: String = short.chars().take(DIGITS).collect();
    json!({
        "status": format!("pulling {short}"),
        "digest": digest,
        "total": pull.bytes,
        "completed": completed,
    })
}
