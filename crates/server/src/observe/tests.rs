//! All layers together, in front of the real routes and a scripted backend.

use std::io::{self, Write};
use std::sync::Mutex;

use axum::Router;
use serde_json::{Value, json};
use tower::ServiceExt as _;
use tracing_subscriber::fmt::MakeWriter;
use troika_scheduler::{Cause, Decision, DeviceId, Time};

use super::*;
use crate::backend::Placement;
use crate::job::{FinishReason, Part};
use crate::keys::{KeyFile, Keys, NewKey, Scope};
use crate::testing::{Script, Scripted, says, says_on, send};
use crate::{Backend, Drain, Settings};

/// A word that must not be seen where it does not belong.
const CANARY: &str = "xylophone-canary";

struct Server {
    router: Router,
    drain: Drain,
}

impl Server {
    fn new(scripts: impl IntoIterator<Item = Script>, settings: &Settings) -> Self {
        let keys = Keys::open(KeyFile::at(&settings.keys_file)).unwrap();
        let drain = Drain::default();
        let backend: Arc<dyn Backend> = Scripted::new(scripts);
        let router = crate::app(
            backend,
            crate::Media::new(settings, None),
            settings,
            keys,
            &drain,
        )
        .unwrap();
        Self { router, drain }
    }

    async fn send(&self, request: Request) -> Answered {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        Answered {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: String::from_utf8(body.to_vec()).unwrap(),
        }
    }

    async fn get(&self, path: &str) -> Answered {
        self.send(Request::get(path).body(Body::empty()).unwrap())
            .await
    }

    async fn chat(&self, headers: &[(&str, &str)], body: &Value) -> Answered {
        let mut request = Request::post("/v1/chat/completions");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.header("content-type", "application/json");
        self.send(request.body(Body::from(body.to_string())).unwrap())
            .await
    }
}

struct Answered {
    status: u16,
    headers: axum::http::HeaderMap,
    body: String,
}

impl Answered {
    fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

fn settings() -> (tempfile::TempDir, Settings) {
    let home = tempfile::tempdir().unwrap();
    let settings = Settings::at(home.path());
    (home, settings)
}

fn script() -> Script {
    let text = |text: &str| Part::Content(text.to_owned());
    says(&[text("Hello "), text(CANARY)], FinishReason::EndOfText)
}

fn question() -> Value {
    json!({"model": "tiny", "messages": [{"role": "user", "content": CANARY}]})
}

/// Keeps what is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Logs everything that this thread says, as long as the guard lives.
    fn start(&self) -> tracing::subscriber::DefaultGuard {
        let subscriber = tracing_subscriber::fmt()
            .json()
            .flatten_event(true)
            .with_max_level(tracing::Level::TRACE)
            .with_writer(self.clone())
            .finish();
        tracing::subscriber::set_default(subscriber)
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// The lines of requests.
    fn requests(&self) -> Vec<Value> {
        let text = self.text();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        lines
            .filter(|line: &Value| line["target"] == "troika::request")
            .collect()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn a_request_is_one_line_without_what_was_said() {
    let (_home, settings) = settings();
    let new = NewKey {
        name: "laptop".to_owned(),
        scopes: vec![Scope::Inference],
        ..NewKey::default()
    };
    let key = KeyFile::at(&settings.keys_file).add(new).unwrap();
    let log = Log::default();
    let logging = log.start();
    let server = Server::new([script(), script()], &settings);
    let bearer = format!("Bearer {key}");
    let headers = [
        ("authorization", &*bearer),
        ("x-request-id", "mine-7"),
        ("x-other", CANARY),
    ];
    let answered = server.chat(&headers, &question()).await;
    assert_eq!(answered.status, 200, "{}", answered.body);
    assert!(answered.body.contains(CANARY));
    assert_eq!(answered.header("x-request-id"), "mine-7");
    assert_eq!(answered.header("request-id"), "mine-7");
    let mut streamed = question();
    streamed["stream"] = true.into();
    assert_eq!(server.chat(&headers, &streamed).await.status, 200);
    let wrong = [("authorization", "Bearer tk-00000000-xylophone-canary")];
    assert_eq!(server.chat(&wrong, &question()).await.status, 401);
    assert_eq!(
        server.get(&format!("/{CANARY}?q={CANARY}")).await.status,
        401
    );
    drop(logging);

    let lines = log.requests();
    assert_eq!(lines.len(), 4);
    for line in &lines[..2] {
        assert_eq!(line["id"], "mine-7");
        assert_eq!(line["route"], "/v1/chat/completions");
        assert_eq!(line["status"], 200);
        assert_eq!(line["prompt_tokens"], 11);
        assert_eq!(line["cached_tokens"], 4);
        assert_eq!(line["completion_tokens"], 2);
        assert_eq!(line["key"], "laptop");
        assert_eq!(line["whole"], true);
    }
    assert_eq!(lines[2]["status"], 401);
    assert_eq!(lines[3]["route"], "unknown");
    let text = log.text();
    let secret = key.rsplit_once('-').unwrap().1;
    assert!(!text.contains(CANARY) && !text.contains(secret), "{text}");
}

#[tokio::test]
async fn a_requests_line_tells_its_class_its_placement_and_its_joules() {
    let part = || [Part::Content("Hi".to_owned())];
    let script = || says_on("d-observe", &part(), FinishReason::EndOfText);
    let backend = Scripted::new([script(), script()]);
    let decision = |job, cause| Decision {
        job: JobId(job),
        at: Time::default(),
        class: Class::Batch,
        policy: Default::default(),
        cause,
        prefill: DeviceId(0),
        decode: DeviceId(0),
        candidates: Vec::new(),
    };
    let placed = |job| Placement {
        model: "tiny".to_owned(),
        devices: vec!["d-observe".to_owned()],
        decisions: vec![decision(job, Cause::Arrival), decision(job, Cause::Home)],
        account: None,
    };
    let of_request = ("mine-8".to_owned(), vec![placed(1), placed(2)]);
    *backend.placed.lock().unwrap() = [of_request].into();
    let log = Log::default();
    let logging = log.start();
    let headers = [("x-request-id", "mine-8"), ("x-troika-class", "batch")];
    // Two jobs in one request.
    let body = json!({"model": "tiny", "prompt": ["a", "b"], "stream": true});
    let app = backend.app();
    let (status, ..) = send(&app, "POST", "/v1/completions", &headers, &body).await;
    assert_eq!(status, 200);
    drop(logging);
    let line = &log.requests()[0];
    assert_eq!(line["class"], "batch");
    assert_eq!(line["placement"], "prefill=d-observe, decode=d-observe");
    assert_eq!(line["joules"], 3.0);

    let (_, _, numbers) = send(&app, "GET", "/metrics", &[], &Value::Null).await;
    for line in [
        "troika_placements_total{cause=\"arrival\",device=\"d-observe\"} 2",
        "troika_placements_total{cause=\"home\",device=\"d-observe\"} 2",
        "troika_jobs_total{class=\"batch\",device=\"d-observe\"} 2",
    ] {
        assert!(numbers.contains(line), "no {line} in {numbers}");
    }
}

#[tokio::test]
async fn a_client_that_leaves_is_noted() {
    let (_home, settings) = settings();
    let log = Log::default();
    let logging = log.start();
    let server = Server::new([script()], &settings);
    let mut streamed = question();
    streamed["stream"] = true.into();
    let request = Request::post("/v1/chat/completions")
        .body(Body::from(streamed.to_string()))
        .unwrap();
    drop(server.router.clone().oneshot(request).await.unwrap());
    drop(logging);
    assert_eq!(log.requests()[0]["whole"], false);
}

#[tokio::test]
async fn one_requests_panic_is_its_own() {
    let (_home, settings) = settings();
    let log = Log::default();
    let logging = log.start();
    let hook = panic::take_hook();
    report_panics_by_place();
    // The scripted backend panics when it has no script left.
    let server = Server::new([], &settings);
    let answered = server.chat(&[], &question()).await;
    panic::set_hook(hook);
    drop(logging);
    assert_eq!(answered.status, 500);
    assert_eq!(answered.json()["error"]["type"], "server_error");
    assert!(!answered.header("x-request-id").is_empty());
    assert!(!answered.body.contains("script"), "{}", answered.body);
    let text = log.text();
    assert!(text.contains("testing.rs"), "the place is told: {text}");
    assert!(
        !text.contains("a script for each job"),
        "the message is not: {text}"
    );
    assert_eq!(server.get("/health").await.status, 200);
}

#[tokio::test]
async fn every_refusal_has_its_clients_shape() {
    let (_home, settings) = settings();
    let server = Server::new([], &settings);
    for (path, allow) in [
        ("/v1/messages", "POST"),
        ("/v1/chat/completions", "POST"),
        ("/health", "GET,HEAD"),
    ] {
        let request = Request::put(path).body(Body::empty()).unwrap();
        let answered = server.send(request).await;
        assert_eq!(answered.status, 405, "{path}");
        assert_eq!(answered.header("allow"), allow);
        assert!(answered.json().get("error").is_some(), "{}", answered.body);
    }
    let answered = server.get("/v1/nothing").await;
    assert_eq!(
        (answered.status, &answered.json()["error"]["code"]),
        (404, &json!("not_found"))
    );
    for (path, key) in [("/v1/messages", "type"), ("/api/chat", "error")] {
        let long = vec![b' '; (8 << 20) + 1];
        let request = Request::post(path).body(Body::from(long)).unwrap();
        let answered = server.send(request).await;
        assert_eq!(answered.status, 413);
        assert!(answered.json().get(key).is_some(), "{}", answered.body);
    }
}

#[tokio::test]
async fn other_sites_are_kept_out_unless_they_are_let_in() {
    let (_home, mut settings) = settings();
    let preflight = |origin: &str| {
        Request::options("/v1/chat/completions")
            .header("host", "localhost:11435")
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header(
                "access-control-request-headers",
                "authorization, content-type",
            )
            .body(Body::empty())
            .unwrap()
    };
    let server = Server::new([], &settings);
    let refused = server.send(preflight("https://chat.example")).await;
    assert_eq!(refused.status, 403);
    assert_eq!(refused.header("access-control-allow-origin"), "");
    let host = [("host", "evil.example")];
    assert_eq!(server.chat(&host, &question()).await.status, 403);

    settings.cors_origins = vec!["https://chat.example".to_owned()];
    let server = Server::new([], &settings);
    let let_in = server.send(preflight("https://chat.example")).await;
    assert_eq!(let_in.status, 200);
    assert_eq!(
        let_in.header("access-control-allow-origin"),
        "https://chat.example"
    );
    assert_eq!(
        let_in.header("access-control-allow-headers"),
        "authorization, content-type"
    );
    assert_eq!(
        server.send(preflight("https://evil.example")).await.status,
        403
    );
}

#[tokio::test]
async fn those_who_watch_are_told() {
    let (_home, settings) = settings();
    let server = Server::new([script()], &settings);
    assert_eq!(server.get("/ready").await.status, 200);
    let status = server.get("/api/troika/status").await.json();
    assert_eq!(status["models"][0]["name"], "tiny");
    assert_eq!(status["draining"], false);
    let head = Request::head("/health").body(Body::empty()).unwrap();
    let head = server.send(head).await;
    assert_eq!((head.status, &*head.body), (200, ""));
    assert_eq!(server.chat(&[], &question()).await.status, 200);
    let metrics = server.get("/metrics").await;
    assert!(metrics.header("content-type").starts_with("text/plain"));
    let line =
        "troika_http_requests_total{route=\"/v1/chat/completions\",method=\"POST\",status=\"200\"}";
    assert!(metrics.body.contains(line), "{}", metrics.body);

    server.drain.begin();
    assert_eq!(server.get("/health").await.status, 200);
    let ready = server.get("/ready").await;
    assert_eq!((ready.status, ready.header("retry-after")), (503, "5"));
    assert_eq!(server.chat(&[], &question()).await.status, 503);
}

#[tokio::test]
async fn tokens_are_charged_to_the_key() {
    let (_home, settings) = settings();
    let new = NewKey {
        name: "thrifty".to_owned(),
        scopes: vec![Scope::Inference],
        tokens_per_minute: Some(13),
        ..NewKey::default()
    };
    let key = KeyFile::at(&settings.keys_file).add(new).unwrap();
    // Each job has 11 + 2 tokens.
    let server = Server::new([script(), script()], &settings);
    let headers = [("x-api-key", &*key)];
    assert_eq!(server.chat(&headers, &question()).await.status, 200);
    // A little of the share has come back meanwhile: nothing is owed.
    assert_eq!(server.chat(&headers, &question()).await.status, 200);
    let refused = server.chat(&headers, &question()).await;
    assert_eq!(refused.status, 429);
    assert!(!refused.header("retry-after").is_empty());
}
