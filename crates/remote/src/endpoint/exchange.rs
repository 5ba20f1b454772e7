//! One request and its answer, told as it comes; and its receipt, which is ended however it goes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::header::{CONTENT_TYPE, LOCATION};
use http::{Response, Uri};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Bytes, Incoming};
use tokio::time::{Instant as TokioInstant, timeout, timeout_at};
use troika_job::{Event, EventSender, Started};

use super::Tag;
use super::outgoing::Outgoing;
use super::remote::Remote;
use super::trouble::{Status, Trouble};
use crate::config::Api;
use crate::receipts::{End, Intent, Ledger, Outcome, ReceiptId};
use crate::wire::{self, Counts, Fault};

/// An answer that is longer is not read to its end.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Of an error's body so much is read,
const ERROR_BYTES_MAX: usize = 64 << 10;
/// and for so long.
const ERROR_PATIENCE: Duration = Duration::from_secs(5);

/// How long the rest of an answer is waited for that has said all, so that its connection can be used again.
const REST_PATIENCE: Duration = Duration::from_secs(2);

/// A client who hears an answer; several requests may tell it parts of one.
#[derive(Debug)]
pub(crate) struct Listener<'a> {
    events: &'a EventSender,
    since: Instant,
    told: Mutex<Told>,
}

/// What a client was told.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Told {
    /// Until the first of an answer.
    pub(crate) first: Option<Duration>,
    /// Until the last of it.
    pub(crate) last: Option<Duration>,
}

impl<'a> Listener<'a> {
    pub(crate) fn new(events: &'a EventSender) -> Self {
        Self {
            events,
            since: Instant::now(),
            told: Mutex::default(),
        }
    }

    /// What was told so far.
    pub(crate) fn told(&self) -> Told {
        *self.lock()
    }

    /// Tells something that is not of an answer.
    pub(crate) fn note(&self, event: Event) -> Result<(), Trouble> {
        self.events.send(Ok(event)).map_err(|_| Trouble::Gone)
    }

    /// Tells a part of an answer.
    fn say(&self, event: Event, counts: Counts) -> Result<(), Trouble> {
        let mut told = self.lock();
        let now = self.since.elapsed();
        if told.first.is_none() {
            told.first = Some(now);
            self.note(Event::Started(Started {
                prompt_tokens: counts.prompt.unwrap_or(0),
                cached_tokens: counts.cached.unwrap_or(0),
            }))?;
        }
        told.last = Some(now);
        self.note(event)
    }

    fn lock(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An answer that came whole.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) counts: Counts,
    pub(crate) bytes_out: u64,
    pub(crate) bytes_in: u64,
    /// From the request to the first of its answer.
    pub(crate) ttft: Duration,
    /// From there to the last.
    pub(crate) writing: Duration,
    /// The vectors of what was to be embedded.
    pub(crate) vectors: Vec<Vec<f32>>,
}

/// One request.
pub(crate) struct Exchange<'a> {
    pub(crate) remote: &'a Remote,
    pub(crate) ledger: &'a dyn Ledger,
    pub(crate) tag: &'a Tag,
    pub(crate) outgoing: &'a Outgoing,
}

impl Exchange<'_> {
    /// Sends the request, and tells its answer as it comes. `said` is set as soon as the client was told something.
    ///
    /// # Errors
    /// Whatever went wrong, also in the middle of the answer.
    pub(crate) async fn stream(
        &self,
        listener: &Listener<'_>,
        said: &mut bool,
    ) -> Result<Answered, Trouble> {
        let mut receipt = self.begin().await?;
        let answered = self.tell(&mut receipt, listener, said).await;
        self.settle(receipt, answered)
    }

    /// Sends the request, whose answer are the vectors of `n` texts.
    ///
    /// # Errors
    /// Whatever went wrong.
    pub(crate) async fn vectors(&self, n: usize) -> Result<Answered, Trouble> {
        let mut receipt = self.begin().await?;
        let answered = self.read(&mut receipt, n).await;
        self.settle(receipt, answered)
    }

    async fn begin(&self) -> Result<Receipt<'_>, Trouble> {
        let config = &self.remote.config;
        let body = self.outgoing.body().len();
        // A token has a byte at least.
        let most = Counts {
            prompt: Some(self.tag.prompt_tokens.unwrap_or(body)),
            completion: self.outgoing.answer_tokens,
            ..Counts::default()
        };
        let intent = Intent {
            request_id: self.tag.request_id.clone(),
            to: config.name.clone(),
            host: self.remote.client.base().host().to_owned(),
            api: config.api,
            rule: self.tag.rule.clone(),
            model: self.outgoing.model.clone(),
            bytes_out: body as u64,
            cost_at_most: self.remote.cost(most),
            redacted: self.tag.redacted.clone(),
        };
        let id = self
            .ledger
            .begin(intent)
            .await
            .map_err(Trouble::NoReceipt)?;
        Ok(Receipt {
            ledger: self.ledger,
            id,
            left: Arc::default(),
            end: End {
                outcome: Outcome::Cancelled,
                status: None,
                bytes_out: 0,
                bytes_in: 0,
                prompt_tokens: None,
                completion_tokens: None,
                cost: None,
            },
        })
    }

    fn settle(
        &self,
        mut receipt: Receipt<'_>,
        answered: Result<Answered, Trouble>,
    ) -> Result<Answered, Trouble> {
        match answered {
            Ok(mut answered) => {
                receipt.end.outcome = Outcome::Answered;
                receipt.end.cost = self.remote.cost(answered.counts);
                answered.bytes_out = receipt.left.load(Ordering::Relaxed);
                answered.bytes_in = receipt.end.bytes_in;
                Ok(answered)
            }
            Err(trouble) => {
                receipt.end.outcome = trouble.outcome();
                Err(trouble)
            }
        }
    }

    /// The answer's head, if it is one of success.
    async fn post(&self, receipt: &mut Receipt<'_>) -> Result<Response<Incoming>, Trouble> {
        let remote = self.remote;
        let key = remote.secret().await?;
        let posted = remote
            .client
            .post(self.outgoing, key.as_ref(), receipt.left.clone());
        let response = match timeout(remote.patience.first_byte, posted).await {
            Ok(response) => response?,
            Err(_) => return Err(Trouble::FirstByteLate(remote.patience.first_byte)),
        };
        receipt.end.status = Some(response.status().as_u16());
        if response.status().is_success() {
            return Ok(response);
        }
        if response.status().is_redirection() {
            let to = response
                .headers()
                .get(LOCATION)
                .and_then(|it| it.to_str().ok());
            let to = to.and_then(|it| it.parse::<Uri>().ok());
            return Err(Trouble::Redirect(
                to.and_then(|it| it.host().map(ToOwned::to_owned)),
            ));
        }
        let (head, body) = response.into_parts();
        let body = Limited::new(body, ERROR_BYTES_MAX).collect();
        let body = match timeout(ERROR_PATIENCE, body).await {
            Ok(Ok(body)) => body.to_bytes(),
            _ => Bytes::new(),
        };
        receipt.end.bytes_in += body.len() as u64;
        let mut status = Status::new(head.status, &head.headers, &body);
        if let Some(key) = &key {
            status.refusal.message = status.refusal.message.replace(key.expose(), "...");
        }
        Err(Trouble::Status(Box::new(status)))
    }

    async fn tell(
        &self,
        receipt: &mut Receipt<'_>,
        listener: &Listener<'_>,
        said: &mut bool,
    ) -> Result<Answered, Trouble> {
        let began = TokioInstant::now();
        let api = self.remote.config.api;
        let patience = self.remote.patience;
        let response = self.post(receipt).await?;
        expect_stream(api, &response)?;
        let mut body = response.into_body();
        let mut frames = wire::frames(api);
        let mut reader = self.outgoing.reader();
        let mut first = None;
        let mut last = began;
        let mut wait = (
            began + patience.first_byte,
            Trouble::FirstByteLate(patience.first_byte),
        );
        let mut events = Vec::new();
        loop {
            let Ok(piece) = timeout_at(wait.0, body.frame()).await else {
                return Err(wait.1);
            };
            let pieces = match piece {
                Some(Ok(piece)) => {
                    let bytes = piece.into_data().unwrap_or_default();
                    receipt.end.bytes_in += bytes.len() as u64;
                    frames.push(&bytes)
                }
                // Whether the end is the end, the reader knows.
                Some(Err(_)) | None if reader.is_complete() => break,
                Some(Err(error)) => return Err(Trouble::Cut(innermost(&error))),
                None => match frames.end() {
                    Ok(None) => return Err(cut()),
                    frame => frame.map(|it| it.into_iter().collect()),
                },
            };
            for frame in pieces.map_err(Trouble::Fault)? {
                let read = reader.read(&frame, &mut events);
                for event in events.drain(..) {
                    last = TokioInstant::now();
                    first.get_or_insert(last);
                    listener.say(event, reader.counts())?;
                    *said = true;
                }
                read.map_err(Trouble::Fault)?;
            }
            receipt.count(reader.counts());
            if reader.is_over() {
                break;
            }
            if receipt.end.bytes_in > ANSWER_BYTES_MAX as u64 {
                return Err(Trouble::TooLong);
            }
            wait = (
                TokioInstant::now() + patience.stall,
                Trouble::Stalled(patience.stall),
            );
        }
        if !reader.is_complete() {
            return Err(cut());
        }
        finish(body);
        let first = first.unwrap_or(last);
        Ok(Answered {
            counts: reader.counts(),
            bytes_out: 0,
            bytes_in: 0,
            ttft: first - began,
            writing: last - first,
            vectors: Vec::new(),
        })
    }

    async fn read(&self, receipt: &mut Receipt<'_>, n: usize) -> Result<Answered, Trouble> {
        let began = Instant::now();
        let patience = self.remote.patience;
        let response = self.post(receipt).await?;
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect();
        let body = match timeout(patience.first_byte, body).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
                return Err(Trouble::TooLong);
            }
            Ok(Err(error)) => return Err(Trouble::Cut(innermost(&*error))),
            Err(_) => return Err(Trouble::Stalled(patience.first_byte)),
        };
        receipt.end.bytes_in += body.len() as u64;
        let (vectors, counts) = wire::embedded(&body, n).map_err(Trouble::Fault)?;
        receipt.count(counts);
        Ok(Answered {
            counts,
            bytes_out: 0,
            bytes_in: 0,
            ttft: began.elapsed(),
            writing: Duration::ZERO,
            vectors,
        })
    }
}

/// The connection's end where an answer had more to say.
fn cut() -> Trouble {
    Trouble::Cut("its answer ends in the middle".to_owned())
}

/// Takes in what comes after the last word, so that the connection can be used again.
fn finish(mut body: Incoming) {
    tokio::spawn(timeout(REST_PATIENCE, async move {
        let mut rest = 0;
        while let Some(Ok(piece)) = body.frame().await {
            rest += piece.data_ref().map_or(0, Bytes::len);
            if rest > ERROR_BYTES_MAX {
                break;
            }
        }
    }));
}

/// # Errors
/// If the answer is of another kind: a page, or one whole body.
fn expect_stream(api: Api, response: &Response<Incoming>) -> Result<(), Trouble> {
    let kind = response
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|it| it.to_str().ok());
    let Some(kind) = kind else {
        return Ok(());
    };
    let kind = kind.split(';').next().unwrap_or_default().trim();
    let fits = match api {
        Api::Openai | Api::Anthropic => kind.eq_ignore_ascii_case("text/event-stream"),
        Api::Ollama => kind.to_ascii_lowercase().ends_with("json"),
    };
    match fits {
        true => Ok(()),
        false => {
            let kind: String = kind.chars().take(40).collect();
            let why =
                format!("its answer is `{kind}` and no stream; see `url` and `api` of hybrid.toml");
            Err(Trouble::Fault(Fault::Garbled(why)))
        }
    }
}

fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// A receipt that has begun. Dropped, it ends with what it knows, which is that the client left unless it was told
/// otherwise.
struct Receipt<'a> {
    ledger: &'a dyn Ledger,
    id: ReceiptId,
    left: Arc<AtomicU64>,
    end: End,
}

impl Receipt<'_> {
    fn count(&mut self, counts: Counts) {
        self.end.prompt_tokens = counts.prompt.map(|it| it as u64);
        self.end.completion_tokens = counts.completion.map(|it| it as u64);
    }
}

impl Drop for Receipt<'_> {
    fn drop(&mut self) {
        self.end.bytes_out = self.left.load(Ordering::Relaxed);
        self.ledger.end(self.id, self.end.clone());
    }
}
