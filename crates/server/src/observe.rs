//! What is noted of each request: a line in the log and its numbers, when the answer has gone out or the client has left.
//!
//! Neither prompts nor answers, keys or headers are ever noted; lengths and names are. For the same reason a panic is
//! reported by its place alone: its message may quote what it choked on.

use std::collections::BTreeMap;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::{Body, Bytes};
use axum::extract::{MatchedPath, Request};
use axum::http::{Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use futures_util::FutureExt as _;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use troika_scheduler::{Class, JobId, Phase};

use crate::dialect::Dialect;
use crate::job::Caller;
use crate::request_id::RequestId;
use crate::{ApiError, ErrorKind, metrics};

tokio::task_local! {
    static TALLY: Arc<Tally>;
}

/// What is found out about a request on its way: who asks, where its jobs are, and what they have used up so far.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    prompt: AtomicU64,
    cached: AtomicU64,
    completion: AtomicU64,
    key: OnceLock<String>,
    jobs: Mutex<Vec<JobNote>>,
    /// How many placements of each job were counted.
    counted: Mutex<BTreeMap<JobId, usize>>,
}

/// What is noted of one of a request's jobs.
#[derive(Debug)]
struct JobNote {
    class: Class,
    /// Which device does what; empty until it is placed.
    places: Vec<(Phase, String)>,
    /// Which device runs it, where it has no phases.
    runs_on: Option<String>,
    joules: Option<f64>,
    is_open: bool,
}

/// Names a job of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct JobIndex(usize);

impl Tally {
    /// That of the request whose handler we are in; outside of one, a tally that nobody reads.
    pub(crate) fn current() -> Arc<Self> {
        TALLY.try_with(Arc::clone).unwrap_or_default()
    }

    /// Adds tokens. Numbers wrap, so that a count that was too high can be put right.
    pub(crate) fn add(&self, prompt: usize, cached: usize, completion: usize) {
        self.prompt.fetch_add(prompt as u64, Ordering::Relaxed);
        self.cached.fetch_add(cached as u64, Ordering::Relaxed);
        self.completion
            .fetch_add(completion as u64, Ordering::Relaxed);
    }

    /// Tells who asks.
    pub(crate) fn caller_is(&self, caller: &Caller) {
        if let Some(key) = &caller.key {
            // It is told once.
            let _ = self.key.set(key.clone());
        }
    }

    /// A job has come. It is open until [`Tally::close`].
    pub(crate) fn open(&self, class: Class) -> JobIndex {
        let mut jobs = self.jobs();
        jobs.push(JobNote {
            class,
            places: Vec::new(),
            runs_on: None,
            joules: None,
            is_open: true,
        });
        JobIndex(jobs.len() - 1)
    }

    /// It is known which devices a job is on, or was.
    pub(crate) fn place(&self, job: JobIndex, places: Vec<(Phase, String)>) {
        self.jobs()[job.0].places = places;
    }

    /// It is known which device runs a job that has no phases.
    pub(crate) fn ran(&self, job: JobIndex, device: String) {
        self.jobs()[job.0].runs_on = Some(device);
    }

    /// A job has used so much energy.
    pub(crate) fn spend(&self, job: JobIndex, joules: f64) {
        self.jobs()[job.0].joules = Some(joules);
    }

    /// A job has ended, well or not.
    pub(crate) fn close(&self, job: JobIndex) {
        self.jobs()[job.0].is_open = false;
    }

    /// Where the jobs are as far as it is known: `prefill=gpu0, decode=gpu0` or `run=npu0`, with `queued` if one is nowhere
    /// yet. `None` if nothing is known and nothing is waited for.
    pub(crate) fn placement(&self) -> Option<String> {
        let jobs = self.jobs();
        let mut items = Vec::new();
        for phase in [Phase::Prefill, Phase::Decode] {
            let name = match phase {
                Phase::Prefill => "prefill",
                Phase::Decode => "decode",
            };
            let places = jobs.iter().flat_map(|job| &job.places);
            for (_, device) in places.filter(|(of, _)| *of == phase) {
                let item = format!("{name}={device}");
                if !items.contains(&item) {
                    items.push(item);
                }
            }
        }
        for device in jobs.iter().filter_map(|job| job.runs_on.as_ref()) {
            let item = format!("run={device}");
            if !items.contains(&item) {
                items.push(item);
            }
        }
        let is_nowhere = |job: &JobNote| job.places.is_empty() && job.runs_on.is_none();
        if jobs.iter().any(|job| job.is_open && is_nowhere(job)) {
            items.push("queued".to_owned());
        }
        (!items.is_empty()).then(|| items.join(", "))
    }

    fn class(&self) -> Option<&'static str> {
        self.jobs().first().map(|job| job.class.name())
    }

    fn joules(&self) -> Option<f64> {
        let jobs = self.jobs();
        let known = || jobs.iter().filter_map(|job| job.joules);
        known().next().map(|_| known().sum())
    }

    /// How many placements of each job were counted.
    pub(crate) fn counted(&self) -> MutexGuard<'_, BTreeMap<JobId, usize>> {
        locked(&self.counted)
    }

    fn jobs(&self) -> MutexGuard<'_, Vec<JobNote>> {
        locked(&self.jobs)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind these locks is whole at all times.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A request that is being answered. Dropping it writes its line.
struct Record {
    begun: Instant,
    id: String,
    method: &'static str,
    path: Option<MatchedPath>,
    /// `None` until there is an answer.
    status: Option<StatusCode>,
    /// Whether all of the answer went out.
    whole: bool,
    tally: Arc<Tally>,
}

impl Record {
    fn new(request: &Request) -> Self {
        let extensions = request.extensions();
        let id = extensions.get::<RequestId>();
        Self {
            begun: Instant::now(),
            id: id.map(RequestId::to_string).unwrap_or_default(),
            method: method_name(request.method()),
            path: extensions.get().cloned(),
            status: None,
            whole: false,
            tally: Arc::default(),
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
            key = self.tally.key.get(),
            class = self.tally.class(),
            placement = self.tally.placement(),
            joules = self.tally.joules(),
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
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// Layer: keeps a request's record, turns a panic into a refusal, and gives bare refusals a body.
pub(crate) async fn layer(request: Request, next: Next) -> Response {
    let dialect = Dialect::of(request.uri().path());
    let head = request.method() == Method::HEAD;
    let mut record = Record::new(&request);
    // Whatever the handler had borrowed is gone with it: the state that handlers share is behind locks.
    let running = AssertUnwindSafe(next.run(request)).catch_unwind();
    let response = match TALLY.scope(Arc::clone(&record.tally), running).await {
        Ok(response) => dress(response, dialect),
        Err(_) => {
            tracing::error!(id = %record.id, route = record.route(), "a handler panicked");
            dialect.refuse(&ApiError::internal())
        }
    };
    record.status = Some(response.status());
    record.whole = head;
    response.map(|body| Body::new(Recorded { body, record }))
}

/// Gives axum's own refusals, which have no body, one that the client can read.
fn dress(response: Response, dialect: Dialect) -> Response {
    if response.status() != StatusCode::METHOD_NOT_ALLOWED || !response.body().is_end_stream() {
        return response;
    }
    let allow = response.headers().get(header::ALLOW);
    let methods = allow.and_then(|allow| allow.to_str().ok());
    let message = format!(
        "the route has no such method; it has {}",
        methods.unwrap_or("others")
    );
    let error = ApiError::new(ErrorKind::MethodNotAllowed, message);
    let mut dressed = dialect.refuse(&error);
    if let Some(allow) = allow {
        dressed.headers_mut().insert(header::ALLOW, allow.clone());
    }
    dressed
}

/// A body that knows whose it is.
struct Recorded {
    body: Body,
    record: Record,
}

impl HttpBody for Recorded {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if matches!(polled, Poll::Ready(None)) {
            self.record.whole = true;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        // A body of known length is not asked for an end.
        self.record.whole |= self.body.is_end_stream();
    }
}

/// Reports panics by their place, from here on and for the whole program.
pub fn report_panics_by_place() {
    panic::set_hook(Box::new(|info: &PanicHookInfo<'_>| {
        let place = info.location().map(ToString::to_string);
        let thread = std::thread::current();
        tracing::error!(
            place = place.as_deref(),
            thread = thread.name(),
            "a panic; this is a bug"
        );
    }));
}

#[cfg(test)]
mod tests;
