//! Models that are on their way onto this machine: `/api/troika/pulls`, and `/api/pull` as Ollama has it.
//!
//! Both start the same [`Run`]s: whoever asks for a pull that runs already joins it. What fetches is `troika-pull`; here is
//! who watches and who stops.

mod ollama;
mod run;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use futures_util::stream::{self, StreamExt as _};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::watch;
use troika_pull::{Look, Puller, Wish};

use crate::dialect::Dialect;
use crate::fields::required;
use crate::wire::{parse, sse, sse_event};
use crate::{ApiError, Drain, ErrorKind};
pub(crate) use run::Pull;
use run::Run;

/// How often those who listen are told how far a pull is.
const PERIOD: Duration = Duration::from_millis(250);

/// Pulls that are over, and told of for a while.
const OVER_MAX: usize = 32;

/// Pulls at a time: each has four connections.
const RUNNING_MAX: usize = 8;

/// When to try again that which a host or a line did not allow.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// Whether a model would run here, and how fast.
#[derive(Clone, Debug, Serialize)]
pub struct Fit {
    /// How it stands.
    pub verdict: Verdict,
    /// Memory that it takes with a short conversation.
    pub memory_bytes: Option<u64>,
    /// Tokens a second of an answer.
    pub tokens_per_second: Option<f64>,
    /// Where it would run.
    pub device: Option<String>,
    /// The verdict's reason.
    pub why: String,
}

/// How a model stands to the memory that is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the words say it")]
pub enum Verdict {
    Fits,
    Tight,
    #[serde(rename = "does not fit")]
    DoesNotFit,
    Unknown,
}

/// Says how a model that was looked at would run here. May read files.
pub type Judge = Arc<dyn Fn(&Look) -> Fit + Send + Sync>;

/// Models that are on their way onto this machine. Clones share them.
#[derive(Clone)]
pub struct Pulls(Arc<Inner>);

struct Inner {
    puller: Arc<Puller>,
    judge: Judge,
    runs: Mutex<Vec<Arc<Run>>>,
    next: AtomicU64,
}

impl fmt::Debug for Pulls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pulls").finish_non_exhaustive()
    }
}

impl Pulls {
    /// Models come by this puller, and are judged by this judge before.
    pub fn new(puller: Puller, judge: Judge) -> Self {
        Self(Arc::new(Inner {
            puller: Arc::new(puller),
            judge,
            runs: Mutex::default(),
            next: AtomicU64::new(1),
        }))
    }

    /// Begins a pull, or joins the one that runs already; whether it was begun.
    ///
    /// # Errors
    /// If as many run as may.
    fn start(&self, wish: Wish) -> Result<(Arc<Run>, bool), ApiError> {
        let mut runs = self.runs();
        let same = |run: &&Arc<Run>| run.is_of(&wish) && !run.pull().is_over();
        if let Some(run) = runs.iter().find(same) {
            return Ok((Arc::clone(run), false));
        }
        let running = runs.iter().filter(|run| !run.pull().is_over()).count();
        if running >= RUNNING_MAX {
            let kind = ErrorKind::Overloaded {
                retry_after: RETRY_AFTER,
            };
            let message =
                format!("{running} models are being pulled already; wait for one of them");
            return Err(ApiError::new(kind, message));
        }
        while runs.len() >= OVER_MAX
            && let Some(oldest) = runs.iter().position(|run| run.pull().is_over())
        {
            runs.remove(oldest);
        }
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        let run = Run::start(format!("pull_{id}"), wish, Arc::clone(&self.0.puller));
        runs.push(Arc::clone(&run));
        Ok((run, true))
    }

    fn find(&self, id: &str) -> Result<Arc<Run>, ApiError> {
        let runs = self.runs();
        let run = runs.iter().find(|run| run.pull().id == id);
        run.cloned()
            .ok_or_else(|| ApiError::not_found("there is no pull of this id"))
    }

    async fn look(&self, wish: &Wish) -> Result<Value, ApiError> {
        let look = self.0.puller.look(wish).await;
        let look = look.map_err(|error| told(&error))?;
        let judge = Arc::clone(&self.0.judge);
        let judged = tokio::task::spawn_blocking(move || {
            let fit = judge(&look);
            (look, fit)
        });
        let (look, fit) = judged.await.map_err(|_| ApiError::internal())?;
        Ok(look_json(&look, &fit))
    }

    fn runs(&self) -> MutexGuard<'_, Vec<Arc<Run>>> {
        self.0.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was found, with what it would be here.
fn look_json(look: &Look, fit: &Fit) -> Value {
    let choices = look.choices.iter().map(|choice| {
        json!({"name": choice.name, "bytes": choice.bytes, "quantization": choice.quantization})
    });
    json!({
        "from": look.from,
        "name": look.name,
        "source": look.source,
        "files": look.files().map(|(name, bytes)| json!({"name": name, "bytes": bytes})).collect::<Vec<_>>(),
        "bytes": look.bytes,
        "have_bytes": look.have_bytes,
        "licence": look.licence,
        "quantization": look.quantization,
        "choices": choices.collect::<Vec<_>>(),
        "fit": fit,
        "disk_free_bytes": look.disk_free_bytes,
        "notes": look.notes,
    })
}

/// What a client is told of an error: they name hosts and files, and no path of this machine.
fn told(error: &troika_pull::Error) -> ApiError {
    use troika_pull::Error as E;
    let kind = match error {
        E::BadReference { .. } | E::PlainHttp { .. } | E::Choice { .. } | E::NotAModel { .. } => {
            ErrorKind::Invalid
        }
        E::NotThere { .. } => ErrorKind::NotFound,
        E::Denied { .. } => ErrorKind::Forbidden,
        E::Busy => ErrorKind::Conflict,
        E::Library(error) => match error {
            troika_library::Error::Conflict(_) => ErrorKind::Conflict,
            troika_library::Error::Io { .. } => ErrorKind::Internal,
            _ => ErrorKind::Invalid,
        },
        E::Io { .. } | E::BadDisk | E::BadSetting { .. } => ErrorKind::Internal,
        _ => ErrorKind::Unavailable {
            retry_after: RETRY_AFTER,
        },
    };
    // The system's own words may have paths in them.
    let message = match kind {
        ErrorKind::Internal => error.to_string(),
        _ => error.whole(),
    };
    ApiError::new(kind, message)
}

/// What the routes see.
#[derive(Clone)]
struct View {
    pulls: Option<Pulls>,
    drain: Drain,
}

impl View {
    /// # Errors
    /// Where nothing may be pulled.
    fn pulls(&self) -> Result<&Pulls, ApiError> {
        self.pulls.as_ref().ok_or_else(|| {
            let message = "this server fetches nothing from elsewhere: the setting `offline` is on";
            ApiError::new(ErrorKind::Forbidden, message)
        })
    }
}

/// The routes that begin something.
pub(crate) fn routes(pulls: Option<Pulls>, drain: Drain) -> Router {
    Router::new()
        .route("/api/pull", post(ollama::pull))
        .route("/api/troika/pulls", get(list).post(begin))
        .route("/api/troika/pulls/look", get(look))
        .route("/api/troika/pulls/{id}", delete(stop))
        .route("/api/troika/pulls/{id}/events", get(events))
        .method_not_allowed_fallback(crate::app::wrong_method)
        .with_state(View { pulls, drain })
}

/// An error on its way to the client.
struct Refused(ApiError);

impl From<ApiError> for Refused {
    fn from(error: ApiError) -> Self {
        Self(error)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        Dialect::OpenAi.refuse(&self.0)
    }
}

type Handled = Result<Response, Refused>;

/// Which model.
#[derive(Deserialize)]
struct Asked {
    from: Option<String>,
    file: Option<String>,
}

impl Asked {
    fn wish(self) -> Result<Wish, ApiError> {
        let from = required(self.from, "from")?;
        let from = from.trim().parse();
        let from = from.map_err(|error| told(&error).at("from"))?;
        Ok(Wish {
            file: self.file.filter(|file| !file.is_empty()),
            ..Wish::of(from)
        })
    }
}

async fn look(State(view): State<View>, Query(asked): Query<Asked>) -> Handled {
    let wish = asked.wish()?;
    Ok(Json(view.pulls()?.look(&wish).await?).into_response())
}

async fn begin(State(view): State<View>, body: Bytes) -> Handled {
    let pulls = view.pulls()?;
    let wish = parse::<Asked>(&body)?.wish()?;
    let (run, _) = pulls.start(wish)?;
    Ok((StatusCode::ACCEPTED, Json(run.pull())).into_response())
}

async fn list(State(view): State<View>) -> Handled {
    let runs = view.pulls()?.runs().clone();
    let pulls: Vec<_> = runs.iter().map(|run| run.pull()).collect();
    Ok(Json(json!({"pulls": pulls})).into_response())
}

/// Stops a pull; what is here of it stays.
async fn stop(State(view): State<View>, Path(id): Path<String>) -> Handled {
    view.pulls()?.find(&id)?.stop();
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn events(State(view): State<View>, Path(id): Path<String>) -> Handled {
    let watched = view.pulls()?.find(&id)?.watch();
    let events = changes(watched).map(|pull| sse_event(Some("pull"), &json!(pull)));
    let drain = view.drain.clone();
    let until = async move { drain.begun().await };
    Ok(sse(events.take_until(Box::pin(until))))
}

/// A pull as it is now, then at each change of its state and at most so often at others, up to its end.
fn changes(watched: watch::Receiver<Pull>) -> impl stream::Stream<Item = Pull> + Send + 'static {
    stream::unfold((watched, None::<Pull>), async |(mut watched, last)| {
        let Some(last) = last else {
            let now = watched.borrow_and_update().clone();
            return Some((now.clone(), (watched, Some(now))));
        };
        if last.is_over() {
            return None;
        }
        loop {
            let is_new = |pull: &Pull| pull.state != last.state;
            // Whoever tells is gone only after the end was told.
            let _ = tokio::time::timeout(PERIOD, watched.wait_for(is_new)).await;
            let now = watched.borrow_and_update().clone();
            if now != last {
                return Some((now.clone(), (watched, Some(now))));
            }
            if watched.has_changed().is_err() {
                return None;
            }
        }
    })
}
