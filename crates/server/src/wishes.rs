//! How a request wants its jobs placed, and the header that tells where they went.
//!
//! Headers are read once, here, whatever interface the request is for. They reach the jobs in
//! [`Metered`](crate::metered::Metered), which puts them together with what the body says; where the jobs are placed comes
//! back by the request's [`Tally`]. Handlers know nothing of either.

use std::time::Duration;

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use troika_remote::rules::{self, PRIVACY_HEADER};
use troika_scheduler::{Class, UnknownName};

use crate::backend::State;
use crate::dialect::Dialect;
use crate::guard::only;
use crate::job::{Caller, Wishes};
use crate::observe::Tally;
use crate::request_id::RequestId;
use crate::{ApiError, metrics};

const CLASS: &str = "X-Troika-Class";
const DEADLINE: &str = "X-Troika-Deadline-Ms";
pub(crate) const DEVICE: &str = "X-Troika-Device";
const PLACEMENT: HeaderName = HeaderName::from_static("x-troika-placement");

/// Inputs from which on an embedding is an index being made rather than somebody's search.
const INPUTS_MANY: usize = 8;

tokio::task_local! {
    static ASKED: Wishes;
}

/// Layer: reads the headers that wish something, and writes the one that tells what came of it.
pub(crate) async fn layer(request: Request, next: Next) -> Response {
    let mut asked = match of_headers(request.headers()) {
        Ok(asked) => asked,
        Err(error) => {
            metrics::refused(error.kind);
            return Dialect::of(request.uri().path()).refuse(&error);
        }
    };
    let id = request.extensions().get::<RequestId>();
    asked.request_id = id.map(RequestId::to_string).unwrap_or_default();
    let mut response = ASKED.scope(asked, next.run(request)).await;
    // A device's name is the machine's, and may be anything.
    let placement = Tally::current().placement().map(HeaderValue::try_from);
    if let Some(Ok(placement)) = placement {
        response.headers_mut().insert(PLACEMENT, placement);
    }
    response
}

/// What a job wishes in the end: a header goes before the body, the body before the key's class, and that before the
/// endpoint's.
pub(crate) fn settled(body: Wishes, caller: &Caller, usual: Class) -> Wishes {
    let asked = ASKED.try_with(Clone::clone).unwrap_or_default();
    let class = asked.class.or(body.class).or(caller.class);
    Wishes {
        request_id: asked.request_id,
        class: Some(class.unwrap_or(usual)),
        deadline: asked.deadline.or(body.deadline),
        device: asked.device.or(body.device),
        local_only: asked.local_only || body.local_only,
    }
}

/// Whether the request's label keeps it on this machine.
pub(crate) fn is_local_only() -> bool {
    ASKED.try_with(|asked| asked.local_only).unwrap_or(false)
}

/// How urgent an embedding is if nobody says so.
pub(crate) fn usual_of_embedding(inputs: usize) -> Class {
    match inputs >= INPUTS_MANY {
        true => Class::Background,
        false => Class::Interactive,
    }
}

/// Whether there is the device that a job asks for.
///
/// # Errors
/// If there is none of this name, or no choice.
pub(crate) fn check_device(
    wishes: &Wishes,
    state: impl FnOnce() -> Option<State>,
    remotes: impl FnOnce() -> Vec<String>,
) -> Result<(), ApiError> {
    let Some(name) = &wishes.device else {
        return Ok(());
    };
    let Some(state) = state() else {
        let message = format!("there is no choice of devices here; leave {DEVICE} out");
        return Err(ApiError::unsupported(message).at(DEVICE));
    };
    let devices = state.snapshot.devices.iter();
    let remotes = remotes().into_iter().map(|name| format!("remote:{name}"));
    let known = devices.map(|device| device.name.clone()).chain(remotes);
    let known: Vec<_> = known.collect();
    match known.contains(name) {
        true => Ok(()),
        false => {
            let unknown = UnknownName::new("device", name, known.join(", "));
            Err(ApiError::invalid(unknown.to_string()).at(DEVICE))
        }
    }
}

/// # Errors
/// If a header comes twice or says what nobody knows; the message says what is known. Labels of privacy are never refused.
fn of_headers(headers: &HeaderMap) -> Result<Wishes, ApiError> {
    let class = text(headers, CLASS)?.map(|name| {
        let class = name.parse::<Class>();
        class.map_err(|unknown| ApiError::invalid(unknown.to_string()).at(CLASS))
    });
    Ok(Wishes {
        request_id: String::new(),
        class: class.transpose()?,
        deadline: text(headers, DEADLINE)?.map(deadline).transpose()?,
        device: text(headers, DEVICE)?.map(str::to_owned),
        local_only: is_private(headers),
    })
}

/// Whether a label of the request keeps it here. A wrong one is no mistake to be told but a wish to be kept: of several
/// labels the stricter wins, and what nobody knows is private.
fn is_private(headers: &HeaderMap) -> bool {
    let labels = headers.get_all(PRIVACY_HEADER).iter();
    labels
        .map(|label| label.to_str())
        .any(|label| label.map_or(true, rules::is_private))
}

fn text<'h>(headers: &'h HeaderMap, name: &'static str) -> Result<Option<&'h str>, ApiError> {
    let name_lower = HeaderName::try_from(name).expect("it is a header's name");
    only(headers, name_lower).map_err(|error| error.at(name))
}

fn deadline(millis: &str) -> Result<Duration, ApiError> {
    let seconds = millis.parse::<f64>().ok().map(|millis| millis / 1e3);
    let deadline = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let deadline = deadline.filter(|deadline| !deadline.is_zero());
    deadline.ok_or_else(|| {
        let message = format!(
            "{DEADLINE} is `{millis}`; it must be a number of milliseconds, greater than 0"
        );
        ApiError::invalid(message).at(DEADLINE)
    })
}

#[cfg(test)]
mod tests;
