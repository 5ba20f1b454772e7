//! Our own routes under `/api/troika`: what every device and every queue is doing, how the jobs of a request were placed,
//! and what the owner wants of the machine. `/api/troika/status` is with those who watch.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use futures_util::StreamExt as _;
use futures_util::stream;
use serde::Deserialize;
use serde_json::json;
use tokio::time::MissedTickBehavior;
use troika_scheduler::Policy;

use crate::dialect::Dialect;
use crate::fields::required;
use crate::wire::{parse, sse};
use crate::{ApiError, Backend, Drain, backend};

/// How often those who listen are told the state.
const PERIOD: Duration = Duration::from_millis(500);
/// How old the state may be that one of many listeners is told.
const AGE_MAX: Duration = Duration::from_millis(250);

/// What the routes see.
#[derive(Clone)]
struct View {
    backend: Arc<dyn Backend>,
    drain: Drain,
    latest: Arc<Mutex<Option<Told>>>,
}

/// The state that listeners were told last.
struct Told {
    at: Instant,
    text: Arc<str>,
}

/// The routes.
pub(crate) fn routes(backend: Arc<dyn Backend>, drain: Drain) -> Router {
    Router::new()
        .route("/api/troika/state", get(state))
        .route("/api/troika/events", get(events))
        // A client's number may have slashes in it.
        .route("/api/troika/placements/{*request_id}", get(placements))
        .route("/api/troika/remotes", get(remotes))
        .route("/api/troika/policy", get(policy).put(set_policy))
        .method_not_allowed_fallback(crate::app::wrong_method)
        .with_state(View {
            backend,
            drain,
            latest: Arc::default(),
        })
}

/// An error on its way to the client.
struct Refused(ApiError);

impl From<ApiError> for Refused {
    fn from(error: ApiError) -> Self {
        Self(error)
    }
}

impl axum::response::IntoResponse for Refused {
    fn into_response(self) -> Response {
        Dialect::OpenAi.refuse(&self.0)
    }
}

type Handled = Result<Response, Refused>;

impl View {
    fn state(&self) -> Result<backend::State, ApiError> {
        self.backend.state().ok_or_else(nothing_scheduled)
    }

    /// The state as JSON, not much older than now: listeners share what is costly.
    fn text(&self) -> Result<Arc<str>, ApiError> {
        let latest = self.latest.lock();
        let mut latest = latest.unwrap_or_else(PoisonError::into_inner);
        if let Some(told) = &*latest
            && told.at.elapsed() < AGE_MAX
        {
            return Ok(Arc::clone(&told.text));
        }
        let text = serde_json::to_string(&self.state()?).map_err(|error| {
            tracing::error!(%error, "the state is no JSON");
            ApiError::internal()
        })?;
        let text: Arc<str> = text.into();
        *latest = Some(Told {
            at: Instant::now(),
            text: Arc::clone(&text),
        });
        Ok(text)
    }
}

fn nothing_scheduled() -> ApiError {
    ApiError::not_found("this server schedules nothing, so there is neither a state nor a policy")
}

/// What every device and every queue is doing.
async fn state(State(view): State<View>) -> Handled {
    Ok(Json(view.state()?).into_response())
}

/// The endpoints beyond this machine, and how they have been.
async fn remotes(State(view): State<View>) -> Response {
    Json(json!({"remotes": view.backend.remotes()})).into_response()
}

/// The same, told twice a second until the client leaves or the server goes down.
async fn events(State(view): State<View>) -> Handled {
    // Whether there is anything to tell is said by the status.
    view.text()?;
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let drain = view.drain.clone();
    let told = stream::unfold((ticks, view), async |(mut ticks, view)| {
        ticks.tick().await;
        let text = view.text().ok()?;
        let event = axum::response::sse::Event::default();
        Some((event.event("state").data(&*text), (ticks, view)))
    });
    let until = async move { drain.begun().await };
    Ok(sse(told.take_until(until)))
}

/// Where the jobs of a request went, and why.
async fn placements(State(view): State<View>, Path(request_id): Path<String>) -> Handled {
    match view.backend.placements(&request_id) {
        Some(placements) => Ok(Json(placements).into_response()),
        None => {
            view.state()?;
            let message = format!(
                "no placement of the request `{request_id}` is known; only those of the last requests are kept"
            );
            Err(ApiError::not_found(message).into())
        }
    }
}

/// What the owner wants, and what else there is to want.
async fn policy(State(view): State<View>) -> Handled {
    Ok(told(view.state()?.snapshot.policy))
}

#[derive(Deserialize)]
struct Wanted {
    policy: Option<String>,
}

/// The owner wants something else from now on.
async fn set_policy(State(view): State<View>, body: Bytes) -> Handled {
    let name = required(parse::<Wanted>(&body)?.policy, "policy")?;
    let policy: Result<Policy, _> = name.parse();
    let policy = policy.map_err(|unknown| ApiError::invalid(unknown.to_string()).at("policy"))?;
    if !view.backend.set_policy(policy) {
        return Err(nothing_scheduled().into());
    }
    tracing::info!(policy = policy.name(), "the policy was changed");
    Ok(told(policy))
}

fn told(policy: Policy) -> Response {
    let known: Vec<_> = Policy::names().collect();
    Json(json!({"policy": policy, "known": known})).into_response()
}

#[cfg(test)]
mod tests;
