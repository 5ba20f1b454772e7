//! What is noted of each request: a line in the log and its numbers, when the answer has gone out or the client has left.
//!
//! Neither prompts nor answers, keys or headers are ever noted; lengths and names are. For the same reason a panic is
//! reported by its place alone: its message may quote what it choked on.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{self, PanicHookInfo};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::{Body, Bytes};
use axum::extract::{MatchedPath, Request};
use axum::http::{Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures_util::FutureExt as _;
use hyper::body::{Body as HttpBody, Frame, SizeHint};

use crate::dialect::Dialect;
use crate::job::{Caller, Event, Usage};
use crate::request_id::RequestId;
use crate::{ApiError, ErrorKind, metrics};

tokio::task_local! {
    static TALLY: Arc<Tally>;
}

/// What a request's jobs have used up so far.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    prompt: AtomicU64,
    cached: AtomicU64,
    completion: AtomicU64,
}

impl Tally {
    /// That of the request whose handler we are in; outside of one, a tally that nobody reads.
    pub(crate) fn current() -> Arc<Self> {
        TALLY.try_with(Arc::clone).unwrap_or_default()
    }

    /// Takes note of a job's event; returns how many tokens it adds.
    pub(crate) fn note(&self, event: &Event) -> usize {
        match event {
            Event::Started(started) => {
                self.add(started.prompt_tokens, started.cached_tokens, 0);
                started.prompt_tokens
            }
            // Nearly always one token; the usage at the end puts it right.
            Event::Delta(_) => {
                self.add(0, 0, 1);
                1
            }
            Event::Finished { .. } => 0,
            Event::Done(usage) => self.settle(usage),
        }
    }

    /// Replaces what was counted by what it was; returns how many tokens had not been counted.
    fn settle(&self, usage: &Usage) -> usize {
        let swap = |counter: &AtomicU64, now: usize| counter.swap(now as u64, Ordering::Relaxed);
        let before = swap(&self.prompt, usage.prompt_tokens)
            + swap(&self.completion, usage.completion_tokens);
        swap(&self.cached, usage.cached_tokens);
        let now = usage.prompt_tokens + usage.completion_tokens;
        now.saturating_sub(usize::try_from(before).unwrap_or(usize::MAX))
    }

    /// Adds a job that has no events.
    pub(crate) fn add(&self, prompt: usize, cached: usize, completion: usize) {
        self.prompt.fetch_add(prompt as u64, Ordering::Relaxed);
        self.cached.fetch_add(cached as u64, Ordering::Relaxed);
        self.completion.fetch_add(completion as u64, Ordering::Relaxed);
    }
}

/// A request that is being answered. Dropping it writes its line.
struct Record {
    begun: Instant,
    id: String,
    method: &'static str,
    path: Option<MatchedPath>,
    key: Option<String>,
    status: Option<StatusCode>,
    whole: bool,
    tally: Arc<Tally>,
}

impl Record {
    fn new(request: &Request, tally: Arc<Tally>) -> Self {
        let extensions = request.extensions();
        let id = extensions.get::<RequestId>();
        Self {
            begun: Instant::now(),
            id: id.map(RequestId::to_string).unwrap_or_default(),
            method: method_name(request.method()),
            path: extensions.get().cloned(),
            key: None,
            status: None,
            whole: false,
            tally,
        }
    }

    fn route(&self) -> &str {
        self.path.as_ref().map_or("unknown", MatchedPath::as_str)
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let took = self.begun.elapsed();
        // What nginx calls it when the client left before there was a status.
        let left = StatusCode::from_u16(499).expect("a status has three digits");
        let status = self.status.unwrap_or(left);
        metrics::request(self.route(), self.method, status, took);
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        tracing::info!(
            target: "troika::request",
            id = %self.id,
            method = self.method,
            route = self.route(),
            status = status.as_u16(),
            ms = took.as_millis() as u64,
            prompt_tokens = count(&self.tally.prompt),
            cached_tokens = count(&self.tally.cached),
            completion_tokens = count(&self.tally.completion),
            key = self.key.as_deref(),
            whole = self.whole,
        );
    }
}

/// Methods as labels: those that routes have, and one for all the rest.
fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// Layer: keeps a request's record, turns a panic into a refusal, and gives bare refusals a body.
pub(crate) async fn layer(request: Request, next: Next) -> Response {
    let dialect = Dialect::of(request.uri().path());
    let head = request.method() == Method::HEAD;
    let tally = Arc::new(Tally::default());
    let mut record = Record::new(&request, Arc::clone(&tally));
    let running = panic::AssertUnwindSafe(next.run(request)).catch_unwind();
    let running = TALLY.scope(tally, running);
    let (mut response, key) = match CALLER.scope(RefCell::default(), async {
        let response = running.await;
        (response, CALLER.with(RefCell::take))
    })
    .await
    {
        (Ok(response), key) => (dress(response, dialect), key),
        (Err(panic), key) => (panicked(&record, &*panic, dialect), key),
    };
    record.key = key;
    record.status = Some(response.status());
    record.whole = head;
    let body = std::mem::take(response.body_mut());
    *response.body_mut() = Body::new(Recorded { body, record });
    response
}

tokio::task_local! {
    /// The key's name, told by the layer inside that finds it out.
    static CALLER: RefCell<Option<String>>;
}

/// Tells the record whose request it is.
pub(crate) fn caller_is(caller: &Caller) {
    // Outside of a request nobody keeps a record.
    let _ = CALLER.try_with(|key| key.replace(caller.key.clone()));
}
