//! An endpoint in this process, and a judge who lets everything go to it.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use axum::serve::ListenerExt as _;
use futures_util::StreamExt as _;
use futures_util::stream;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::mpsc;
use troika_job::{ApiError, Event, Job, Usage};

use crate::config::Config;
use crate::endpoint::{Remotes, SendError, Tag};
use crate::privacy::Public;
use crate::receipts::{Beginning, End, Intent, Ledger, ReceiptId, Spent};
use crate::rules::{Facts, Judged, Leave, Loaded};

/// What the fake does with one request.
#[derive(Clone, Debug)]
pub(super) enum Act {
    /// Answers with this status, these headers and this body.
    Whole(u16, Vec<(&'static str, String)>, String),
    /// Streams these pieces, as this kind of content, after these waits.
    Pieces(&'static str, Vec<(Duration, String)>),
    /// The same, and then the connection breaks.
    Cut(Vec<(Duration, String)>),
    /// The same, and then nothing more comes.
    Stall(Vec<(Duration, String)>),
    /// Says nothing at all for so long.
    Mute(Duration),
    /// Streams so many pieces, each of which says when it left, in nanoseconds since the fake's start.
    Stamps(usize),
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(super) struct Got {
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Value,
    /// The connection that it came by.
    pub(super) peer: SocketAddr,
}

#[derive(Clone)]
struct Shared {
    start: Instant,
    acts: Arc<Mutex<VecDeque<Act>>>,
    got: Arc<Mutex<Vec<Got>>>,
    /// Answers that are being streamed.
    open: Arc<AtomicUsize>,
}

/// The fake.
pub(super) struct Fake {
    shared: Shared,
    pub(super) url: String,
    pub(super) start: Instant,
}

/// Counts an answer for as long as somebody reads it.
struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Fake {
    /// Does these in turn; the last one again and again.
    pub(super) async fn start(acts: impl IntoIterator<Item = Act>) -> Self {
        let shared = Shared {
            start: Instant::now(),
            acts: Arc::default(),
            got: Arc::default(),
            open: Arc::default(),
        };
        shared.acts.lock().unwrap().extend(acts);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = Router::new().fallback(answer).with_state(shared.clone());
        let app = app.into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(async move {
            axum::serve(listener.tap_io(|io| _ = io.set_nodelay(true)), app).await
        });
        Self {
            start: shared.start,
            shared,
            url,
        }
    }

    pub(super) fn got(&self) -> Vec<Got> {
        self.shared.got.lock().unwrap().clone()
    }

    /// Answers that somebody still reads.
    pub(super) fn open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }
}

async fn answer(
    State(shared): State<Shared>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let path = uri.path().to_owned();
    shared.got.lock().unwrap().push(Got {
        path,
        headers,
        body,
        peer,
    });
    let act = {
        let mut acts = shared.acts.lock().unwrap();
        match acts.len() {
            0 | 1 => acts.front().cloned().unwrap(),
            _ => acts.pop_front().unwrap(),
        }
    };
    let response = |kind: &str| Response::builder().header("content-type", kind);
    shared.open.fetch_add(1, Ordering::SeqCst);
    let open = Open(shared.open.clone());
    let (kind, pieces, end) = match act {
        Act::Whole(status, headers, body) => {
            let mut response = Response::builder().status(status);
            for (name, value) in headers {
                response = response.header(name, value);
            }
            return response.body(Body::from(body)).unwrap();
        }
        Act::Mute(time) => {
            tokio::time::sleep(time).await;
            drop(open);
            return response("text/plain").body(Body::empty()).unwrap();
        }
        Act::Stamps(n) => {
            let pieces = stream::iter(0..n).then(move |i| async move {
                tokio::time::sleep(Duration::from_millis(2)).await;
                let piece = chunk(&shared.start.elapsed().as_nanos().to_string());
                let end = if i + 1 == n { ending() } else { String::new() };
                Ok::<_, std::io::Error>(Bytes::from(piece + &end))
            });
            drop(open);
            return response("text/event-stream")
                .body(Body::from_stream(pieces))
                .unwrap();
        }
        Act::Pieces(kind, pieces) => (kind, pieces, None),
        Act::Cut(pieces) => ("text/event-stream", pieces, Some(true)),
        Act::Stall(pieces) => ("text/event-stream", pieces, Some(false)),
    };
    let pieces = stream::iter(pieces).then(|(wait, piece)| async move {
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        Ok::<_, std::io::Error>(Bytes::from(piece))
    });
    let tail = stream::once(async move {
        match end {
            None => Ok(Bytes::new()),
            // So that what was said before is on its way.
            Some(true) => {
                tokio::time::sleep(Duration::from_millis(20)).await;
                Err(std::io::Error::other("cut"))
            }
            Some(false) => std::future::pending().await,
        }
    });
    let body = pieces.chain(tail).map(move |piece| {
        let _held = &open;
        piece
    });
    response(kind).body(Body::from_stream(body)).unwrap()
}

/// An event of a stream.
pub(super) fn event(data: &Value) -> String {
    format!("data: {data}\n\n")
}

/// A chunk of a chat completion that says this.
pub(super) fn chunk(text: &str) -> String {
    event(&json!({
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "there",
        "choices": [{"index": 0, "delta": {"content": text}, "logprobs": null, "finish_reason": null}],
    }))
}

/// The chunks that end one.
pub(super) fn ending() -> String {
    let finish = event(&json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}));
    let usage = event(&json!({"choices": [], "usage": {
        "prompt_tokens": 9, "completion_tokens": 12, "total_tokens": 21,
        "prompt_tokens_details": {"cached_tokens": 4}, "completion_tokens_details": {"reasoning_tokens": 2},
    }}));
    format!("{finish}{usage}data: [DONE]\n\n")
}

/// A whole answer, in these pieces, without waits.
pub(super) fn says(texts: &[&str]) -> Act {
    let mut pieces: Vec<_> = texts.iter().map(|it| (Duration::ZERO, chunk(it))).collect();
    pieces.push((Duration::ZERO, ending()));
    Act::Pieces("text/event-stream", pieces)
}

/// Receipts, kept in memory.
#[derive(Debug, Default)]
pub(super) struct Notes(pub(super) Mutex<Vec<(Intent, Option<End>)>>);

impl Ledger for Notes {
    fn begin(&self, intent: Intent) -> Beginning<'_> {
        let mut notes = self.0.lock().unwrap();
        notes.push((intent, None));
        let id = ReceiptId(notes.len() as u64 - 1);
        Box::pin(std::future::ready(Ok(id)))
    }

    fn end(&self, id: ReceiptId, end: End) {
        self.0.lock().unwrap()[id.0 as usize].1 = Some(end);
    }

    fn spent(&self, _: &str) -> Spent {
        Spent::default()
    }
}

/// Remotes, the rules that let jobs go there, and what they left behind.
pub(super) struct Stand {
    pub(super) remotes: Remotes,
    pub(super) notes: Arc<Notes>,
    pub(super) loaded: Loaded,
    pub(super) folder: TempDir,
}

impl Stand {
    /// One remote of this kind, with further fields.
    pub(super) fn new(url: &str, api: &str, fields: &str) -> Self {
        let text = format!(
            "[[remote]]\nname = \"far\"\nurl = \"{url}\"\napi = \"{api}\"\nmodels = {{ \"here\" = \"there\" }}\n\
             price = {{ input = 3, cached = 1, output = 10 }}\n{fields}\n\
             [[rule]]\nname = \"all\"\naction = \"remote\"\n"
        );
        let loaded = Loaded::parse(&text).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let notes = Arc::new(Notes::default());
        let mut remotes = open(&loaded.config, &folder, notes.clone());
        for remote in &mut remotes.list {
            remote.patience.backoff = Duration::from_millis(4);
            remote.patience.first_byte = remote.patience.first_byte.min(Duration::from_secs(2));
            remote.patience.stall = Duration::from_millis(300);
        }
        Self {
            remotes,
            notes,
            loaded,
            folder,
        }
    }

    /// What the judge lets go.
    pub(super) fn judged(&self, job: Job) -> (Public<Job>, Leave) {
        match self.loaded.rules.judge(job, &Facts::default()) {
            Judged::MayLeave(job, leave, _) => (job, leave),
            Judged::Stays(_, why) => panic!("{why}"),
        }
    }

    /// Sends a job; what was told, and what came of it.
    pub(super) async fn send(&self, job: Job) -> (Vec<Event>, Result<Usage, SendError>) {
        let (job, leave) = self.judged(job);
        let (sender, mut events) = mpsc::unbounded_channel();
        let tag = Tag {
            request_id: "req-1".to_owned(),
            rule: leave.rule,
            ..Tag::default()
        };
        let sent = self.remotes.send(leave.to[0], &job, &tag, &sender).await;
        drop(sender);
        let mut told = Vec::new();
        while let Some(event) = events.recv().await {
            told.push(event.unwrap());
        }
        (told, sent)
    }

    /// Sends a job that fails.
    pub(super) async fn fails(&self, job: Job) -> (ApiError, SendError) {
        let (_, sent) = self.send(job).await;
        let error = sent.unwrap_err();
        (error.error.clone(), error)
    }

    /// Receipts, all ended.
    pub(super) fn receipts(&self) -> Vec<(Intent, End)> {
        let notes = self.notes.0.lock().unwrap();
        let ended = notes
            .iter()
            .map(|(intent, end)| (intent.clone(), end.clone().expect("it ended")));
        ended.collect()
    }
}

pub(super) fn open(config: &Config, folder: &TempDir, notes: Arc<Notes>) -> Remotes {
    Remotes::open(config, folder.path(), notes).unwrap()
}

/// A question.
pub(super) fn asks(text: &str) -> Job {
    use troika_engine::chat::ChatMessage;
    use troika_job::{ChatPrompt, Prompt};
    Job {
        model: "here".to_owned(),
        prompt: Prompt::Chat(Box::new(ChatPrompt {
            messages: vec![ChatMessage::new("user", text)],
            parallel_tool_calls: true,
            ..ChatPrompt::default()
        })),
        n: 1,
        max_tokens: Some(50),
        ..Job::default()
    }
}

/// The text that was told.
pub(super) fn content(events: &[Event]) -> String {
    use troika_job::Part;
    let mut text = String::new();
    for event in events {
        if let Event::Delta(delta) = event {
            for part in &delta.parts {
                if let Part::Content(more) = part {
                    text.push_str(more);
                }
            }
        }
    }
    text
}

/// Waits until something is so.
pub(super) async fn until(what: impl Fn() -> bool) {
    for _ in 0..500 {
        if what() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(4)).await;
    }
    panic!("it did not come to that");
}
