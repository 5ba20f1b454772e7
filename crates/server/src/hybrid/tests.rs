//! Jobs between the story model on this machine and an endpoint that plays a script.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

use axum::Router;
use axum::extract::State as Extract;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, LOCATION};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use serde_json::{Value, json};

use super::*;
use crate::ErrorKind;
use crate::HostSettings;
use crate::host::tests::{Home, job};
use crate::job::{ChatPrompt, Completed, Event};

/// What the endpoint does with the next request.
#[derive(Clone, Copy, Debug)]
enum Does {
    Fail,
    Redirect,
    /// Begins an answer, and ends in the middle of it.
    BreakOff,
    /// Says nothing for as long as anybody waits.
    Hang,
}

/// An endpoint on this machine, which keeps what it was sent.
#[derive(Clone, Default)]
struct Far {
    script: Arc<Mutex<VecDeque<Does>>>,
    heard: Arc<Mutex<Vec<Value>>>,
}

const ANSWER: &str = "From far away.";

impl Far {
    /// Listens, and gives its URL.
    async fn listen(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let routes = Router::new()
            .route("/v1/chat/completions", post(answer))
            .route("/v1/completions", post(answer))
            .with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        url
    }

    fn does(&self, what: impl IntoIterator<Item = Does>) {
        self.script.lock().unwrap().extend(what);
    }

    fn heard(&self) -> String {
        let heard = self.heard.lock().unwrap();
        heard.iter().map(Value::to_string).collect()
    }

    fn requests(&self) -> usize {
        self.heard.lock().unwrap().len()
    }
}

async fn answer(Extract(far): Extract<Far>, body: axum::Json<Value>) -> Response {
    let is_chat = body.get("messages").is_some();
    far.heard.lock().unwrap().push(body.0);
    let does = far.script.lock().unwrap().pop_front();
    let events = |answer: String| ([(CONTENT_TYPE, "text/event-stream")], answer).into_response();
    match does {
        None => events(stream(ANSWER, is_chat, true)),
        Some(Does::Fail) => (
            StatusCode::BAD_REQUEST,
            "{\"error\": {\"message\": \"no\"}}",
        )
            .into_response(),
        Some(Does::Redirect) => (
            StatusCode::TEMPORARY_REDIRECT,
            [(LOCATION, "http://127.0.0.1:9/v1/chat/completions")],
        )
            .into_response(),
        Some(Does::BreakOff) => events(stream("From", is_chat, false)),
        Some(Does::Hang) => std::future::pending().await,
    }
}

/// An answer in OpenAI's stream; `is_whole`: with its end.
fn stream(text: &str, is_chat: bool, is_whole: bool) -> String {
    let chunk = |text: &str, finish: Value| {
        let choice = match is_chat {
            true => json!({"index": 0, "delta": {"content": text}, "finish_reason": finish}),
            false => json!({"index": 0, "text": text, "finish_reason": finish}),
        };
        json!({"id": "1", "choices": [choice]})
    };
    let mut chunks = vec![chunk(text, Value::Null)];
    if is_whole {
        chunks.push(chunk("", json!("stop")));
        chunks.push(json!({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}}));
    }
    let mut lines: String = chunks.iter().map(|it| format!("data: {it}\n\n")).collect();
    if is_whole {
        lines.push_str("data: [DONE]\n\n");
    }
    lines
}

struct Stage {
    far: Far,
    hybrid: Hybrid,
    home: Home,
}

impl Stage {
    /// A home with one endpoint, `far`, and the given rest of the owner's file.
    async fn new(name: &str, rest: &str) -> Self {
        let home = Home::new(&format!("hybrid-{name}"));
        std::fs::create_dir_all(&home.0).unwrap();
        let far = Far::default();
        let url = far.listen().await;
        let text = format!(
            "[[remote]]\nname = \"far\"\nurl = \"{url}\"\napi = \"openai\"\n\
             models = {{ stories = \"big\", cloud = \"big\" }}\n\
             price = {{ input = 1.0, output = 2.0 }}\n{rest}"
        );
        let paths = HybridPaths {
            rules: home.0.join("hybrid.toml"),
            state: home.0.clone(),
        };
        std::fs::write(&paths.rules, text).unwrap();
        let hybrid = Hybrid::new(home.host(HostSettings::default()), &paths).expect("a whole file");
        Self { far, hybrid, home }
    }

    async fn ask(&self, job: Job) -> Result<Completed, ApiError> {
        let answer = self.hybrid.submit(job, Caller::default()).await?;
        answer.collect().await
    }
}

fn rule(action: &str) -> String {
    format!("[[rule]]\nname = \"all\"\naction = \"{action}\"\n")
}

fn chat_job(model: &str, text: &str) -> Job {
    let message = troika_engine::chat::ChatMessage::new("user", text);
    Job {
        model: model.to_owned(),
        prompt: Prompt::Chat(Box::new(ChatPrompt {
            messages: vec![message],
            ..ChatPrompt::default()
        })),
        ..job("", 8)
    }
}

fn private(mut job: Job) -> Job {
    job.wishes.local_only = true;
    job
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_rule_everything_stays() {
    let stage = Stage::new("stays", "").await;
    let done = stage.ask(job("Once upon a time", 8)).await.unwrap();
    assert!(done.usage.report.unwrap().sent.is_empty());
    let error = stage.ask(chat_job("cloud", "hello")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::ModelNotFound);
    assert!(
        error.message.contains("no remote endpoint was asked"),
        "{error}"
    );
    assert_eq!(stage.far.requests(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_leave_goes_and_is_told() {
    let stage = Stage::new("goes", &rule("remote")).await;
    let done = stage
        .ask(chat_job("cloud", "hello over there"))
        .await
        .unwrap();
    assert_eq!(done.choices[0].content, ANSWER);
    assert!(stage.far.heard().contains("hello over there"));
    let report = done.usage.report.expect("a report");
    let [sent] = &*report.sent else {
        panic!("one request: {report:?}")
    };
    assert_eq!((&*sent.to, &*sent.rule), ("far", "all"));
    // Five tokens at one for a million, and three at two.
    assert_eq!(sent.cost.as_ref().unwrap().amount.to_string(), "0.000011");
    assert!(sent.bytes_out > 0 && sent.bytes_in > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_job_goes_nowhere_whatever_the_rule_says_and_fails() {
    for action in ["remote", "compete", "fallback", "cascade"] {
        let stage = Stage::new(&format!("private-{action}"), &rule(action)).await;
        stage
            .ask(private(job("Once upon a time", 8)))
            .await
            .unwrap();
        let error = stage
            .ask(private(chat_job("cloud", "hush")))
            .await
            .unwrap_err();
        assert!(error.message.contains("private"), "{action}: {error}");
        assert_eq!(stage.far.requests(), 0, "{action}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_fails_is_made_up_for_here() {
    let stage = Stage::new("fails", &rule("remote")).await;
    for does in [Does::Fail, Does::Redirect] {
        stage.far.does([does]);
        let mut over_there = chat_job("stories", "once");
        over_there.prompt = Prompt::Text("Once upon a time".to_owned());
        let done = stage.ask(over_there).await.unwrap();
        assert_ne!(done.choices[0].content, ANSWER, "{does:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_said_is_not_said_again() {
    let stage = Stage::new("breaks", &rule("remote")).await;
    stage.far.does([Does::BreakOff]);
    let error = stage.ask(chat_job("cloud", "hello")).await.unwrap_err();
    assert!(error.message.contains("far"), "{error}");
    assert_eq!(stage.far.requests(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_done_here_falls_back() {
    let stage = Stage::new("fallback", &rule("fallback")).await;
    let done = stage.ask(chat_job("cloud", "hello")).await.unwrap();
    assert_eq!(done.choices[0].content, ANSWER);
    // What can be, is.
    stage.ask(job("Once upon a time", 8)).await.unwrap();
    assert_eq!(stage.far.requests(), 1);
    // What makes no sense here makes none there.
    let mut hot = job("Once upon a time", 8);
    hot.sampling.top_p = Some(7.0);
    let error = stage.ask(hot).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid);
    assert_eq!(stage.far.requests(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_ends_the_request_there() {
    let stage = Stage::new("leaves", &rule("remote")).await;
    stage.far.does([Does::Hang]);
    let asked = stage
        .hybrid
        .submit(chat_job("cloud", "hello"), Caller::default());
    let waited = tokio::time::timeout(Duration::from_millis(300), asked).await;
    assert!(waited.is_err(), "it hangs");
    // Its place is free, and the receipt says that it was given up.
    stage.ask(chat_job("cloud", "again")).await.unwrap();
    drop(stage.hybrid);
    let receipts = std::fs::read_to_string(stage.home.0.join("receipts.jsonl")).unwrap();
    assert!(receipts.contains("cancelled"), "{receipts}");
    assert!(!receipts.contains("hello") && !receipts.contains("again"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_is_followed_and_a_broken_one_is_not() {
    let stage = Stage::new("follows", &rule("remote")).await;
    let path = stage.home.0.join("hybrid.toml");
    let before = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, before.replace("\"remote\"", "\"local-only\"")).unwrap();
    tokio::time::sleep(Duration::from_millis(1300)).await;
    stage.ask(chat_job("cloud", "hello")).await.unwrap_err();
    std::fs::write(&path, "[[remote]\n").unwrap();
    tokio::time::sleep(Duration::from_millis(1300)).await;
    stage.ask(chat_job("cloud", "hello")).await.unwrap_err();
    assert_eq!(stage.far.requests(), 0);
    std::fs::write(&path, before).unwrap();
    tokio::time::sleep(Duration::from_millis(1300)).await;
    stage.ask(chat_job("cloud", "hello")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn words_come_one_by_one() {
    let stage = Stage::new("words", &rule("remote")).await;
    let asked = stage
        .hybrid
        .submit(chat_job("cloud", "hello"), Caller::default());
    let mut answer = asked.await.unwrap();
    let mut places = Vec::new();
    while let Some(event) = answer.next().await {
        if let Event::Placed(placed) = event.unwrap() {
            places.push(placed.decode);
        }
    }
    assert_eq!(places, ["remote:far"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn money_that_is_spent_keeps_jobs_here() {
    let stage = Stage::new(
        "money",
        &format!("{}[hybrid]\nbudget_per_day = 0.00002\n", rule("remote")),
    )
    .await;
    let mut ask = chat_job("stories", "hello");
    ask.prompt = Prompt::Text("Once".to_owned());
    ask.max_tokens = Some(2);
    stage.ask(ask.clone()).await.unwrap();
    stage.ask(ask.clone()).await.unwrap();
    stage.ask(ask).await.unwrap();
    assert!(stage.far.requests() < 3, "{}", stage.far.requests());
}
