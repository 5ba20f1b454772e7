//! Conversations as clients see them.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use axum::{Extension, Router};
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;
use troika_engine::chat::ToolCall;

use super::*;
use crate::job::{FinishReason, Job, Part, Prompt};
use crate::testing::{Script, Scripted, says};

const CHATS: &str = "/api/troika/chats";

/// A server with one conversation store over a scripted backend.
struct Server {
    routes: Router,
    backend: Arc<Scripted>,
    chats: Chats,
}

impl Server {
    fn new(scripts: impl IntoIterator<Item = Script>) -> Self {
        let backend = Scripted::new(scripts);
        let door: Arc<dyn Backend> = Arc::<Scripted>::clone(&backend);
        let chats = Chats::in_memory();
        let routes = super::routes(door, chats.clone());
        Self {
            routes,
            backend,
            chats,
        }
    }

    async fn respond(&self, key: &str, line: &str, body: &Value) -> Response {
        let (method, path) = line.split_once(' ').expect("a method and a path");
        let body = match body {
            Value::Null => Body::empty(),
            body => Body::from(body.to_string()),
        };
        let request = Request::builder().method(method).uri(path);
        let request = request.body(body).unwrap();
        let key = Some(key.to_owned());
        let caller = Extension(Caller { key, class: None });
        self.routes
            .clone()
            .layer(caller)
            .oneshot(request)
            .await
            .unwrap()
    }

    async fn text(&self, key: &str, line: &str, body: &Value) -> (u16, String) {
        let response = self.respond(key, line, body).await;
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await;
        (status, String::from_utf8(body.unwrap().to_vec()).unwrap())
    }

    async fn json(&self, line: &str, body: Value) -> (u16, Value) {
        let (status, text) = self.text("ann", line, &body).await;
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    /// A new conversation's path.
    async fn chat(&self, body: Value) -> String {
        let (status, chat) = self.json(&format!("POST {CHATS}"), body).await;
        assert_eq!(status, 201, "{chat}");
        format!("{CHATS}/{}", chat["id"].as_str().unwrap())
    }

    /// The events of an answer, by name.
    async fn answer(&self, chat: &str, body: Value) -> Vec<(String, Value)> {
        let (status, text) = self
            .text("ann", &format!("POST {chat}/answer"), &body)
            .await;
        assert_eq!(status, 200, "{text}");
        events(&text)
    }

    async fn show(&self, chat: &str) -> Value {
        let (status, chat) = self.json(&format!("GET {chat}"), Value::Null).await;
        assert_eq!(status, 200, "{chat}");
        chat
    }
}

fn events(text: &str) -> Vec<(String, Value)> {
    let events = text.split("\n\n").filter_map(|event| {
        let (name, data) = event.strip_prefix("event: ")?.split_once("\ndata: ")?;
        Some((name.to_owned(), serde_json::from_str(data).unwrap()))
    });
    events.collect()
}

/// What is shown after all events.
fn shown(events: &[(String, Value)]) -> Value {
    let mut shown: Vec<Value> = Vec::new();
    for (name, data) in events {
        match &**name {
            "blocks" => {
                shown.truncate(data["from"].as_u64().unwrap() as usize);
                shown.extend(data["blocks"].as_array().unwrap().iter().cloned());
            }
            "text" => {
                let Some(Value::String(last)) = shown.last_mut().unwrap()["c"].get_mut(0) else {
                    panic!("no code to add to");
                };
                last.push_str(data["text"].as_str().unwrap());
            }
            _ => {}
        }
    }
    shown.into()
}

fn content(text: &str) -> Part {
    Part::Content(text.to_owned())
}

fn says_all(texts: &[&str]) -> Script {
    let parts: Vec<_> = texts.iter().map(|text| content(text)).collect();
    says(&parts, FinishReason::EndOfText)
}

fn messages(job: Job) -> Vec<(String, String)> {
    let Prompt::Chat(prompt) = job.prompt else {
        panic!("no conversation");
    };
    let messages = prompt.messages.into_iter();
    let texts = messages.map(|it| (it.role, serde_json::to_value(it.content).unwrap()));
    texts
        .map(|(role, text)| (role, text.as_str().unwrap().to_owned()))
        .collect()
}

#[tokio::test]
async fn a_question_is_answered_and_kept() {
    let thinks = vec![
        Part::Reasoning("Hm. ".to_owned()),
        Part::Reasoning("Yes.".to_owned()),
        content("It *is*"),
        content(" so.\n\n```rs\nx"),
    ];
    let server = Server::new([says(&thinks, FinishReason::Length)]);
    let params = json!({"system": "Be brief.", "temperature": 0.5, "max_tokens": 9, "think": true});
    let chat = server.chat(json!({"params": params})).await;
    let asked = json!({"parent": null, "content": "Is **it**?", "model": "tiny"});
    let events = server.answer(&chat, asked).await;
    let job = server.backend.last_job();
    assert_eq!(
        (job.model.as_str(), job.max_tokens, job.sampling.temperature),
        ("tiny", Some(9), Some(0.5))
    );
    let want = [("system", "Be brief."), ("user", "Is **it**?")];
    let want = want.map(|(role, text)| (role.to_owned(), text.to_owned()));
    assert_eq!(messages(job), want);

    let names: Vec<_> = events.iter().map(|(name, _)| &**name).collect();
    assert_eq!(
        (names[0], names[1], *names.last().unwrap()),
        ("message", "message", "done")
    );
    assert_eq!(
        events[0].1["blocks"][0]["c"][1],
        json!({"t": "strong", "c": ["it"]})
    );
    assert_eq!(events[1].1["content"], "");
    assert_eq!(events[1].1["parent"], events[0].1["id"]);
    let thought = events.iter().filter(|(name, _)| name == "reasoning");
    let thought: String = thought
        .map(|(_, data)| data["text"].as_str().unwrap())
        .collect();
    assert_eq!(thought, "Hm. Yes.");
    let done = &events.last().unwrap().1;
    assert_eq!(done["content"], "It *is* so.\n\n```rs\nx");
    assert_eq!(done["finish"], "length");
    assert_eq!(
        done["usage"],
        json!({"prompt_tokens": 11, "completion_tokens": 4})
    );
    assert!(
        done["ttft_s"].is_number() && done["blocks"].is_null(),
        "{done}"
    );

    let kept = server.show(&chat).await;
    assert_eq!(
        (&kept["title"], &kept["model"], &kept["leaf"]),
        (&json!("Is **it**?"), &json!("tiny"), &done["id"])
    );
    assert_eq!(kept["params"], params);
    assert_eq!(kept["messages"][1]["reasoning"], "Hm. Yes.");
    assert_eq!(kept["messages"][1]["blocks"], shown(&events));
}

#[tokio::test]
async fn answers_and_questions_have_siblings() {
    let server = Server::new([
        says_all(&["One."]),
        says_all(&["Two."]),
        says_all(&["Three."]),
    ]);
    let chat = server.chat(json!({"model": "tiny"})).await;
    let first = server.answer(&chat, json!({"content": "a"})).await;
    let question = first[0].1["id"].clone();
    let again = server.answer(&chat, json!({"parent": question})).await;
    assert_eq!(again[0].1["role"], "assistant");
    assert_eq!(messages(server.backend.last_job()).len(), 1);
    let answer = again.last().unwrap().1["id"].clone();
    let params = json!({"temperature": 0});
    server
        .answer(
            &chat,
            json!({"parent": answer, "content": "b", "params": params}),
        )
        .await;
    assert_eq!(server.backend.last_job().sampling.temperature, Some(0.0));
    let texts: Vec<_> = messages(server.backend.last_job())
        .into_iter()
        .map(|(_, text)| text)
        .collect();
    assert_eq!(texts, ["a", "Two.", "b"]);
    let kept = server.show(&chat).await;
    assert_eq!(kept["messages"].as_array().unwrap().len(), 5);
    let leaf = first.last().unwrap().1["id"].clone();
    let (status, changed) = server
        .json(
            &format!("PATCH {chat}"),
            json!({"leaf": leaf, "title": "T"}),
        )
        .await;
    assert_eq!(
        (status, &changed["leaf"], &changed["messages"]),
        (200, &leaf, &Value::Null)
    );
    let (_, text) = server
        .text("ann", &format!("GET {chat}/export"), &Value::Null)
        .await;
    assert_eq!(text, "# T\n\n## User\n\na\n\n## tiny\n\nOne.\n");

    for (body, param) in [
        (json!({"parent": question, "content": "c"}), "parent"),
        (json!({"parent": leaf}), "parent"),
        (json!({"parent": "x", "content": "c"}), "parent"),
        (json!({"content": " "}), "content"),
        (
            json!({"content": "c", "params": {"top_p": 7}}),
            "params.top_p",
        ),
    ] {
        let (status, error) = server
            .json(&format!("POST {chat}/answer"), body.clone())
            .await;
        assert_eq!(
            (status, &error["error"]["param"]),
            (400, &json!(param)),
            "{body}"
        );
    }
    let (status, _) = server
        .json(
            &format!("POST {chat}/answer"),
            json!({"parent": "m99", "content": "c"}),
        )
        .await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn what_fails_at_once_leaves_nothing() {
    let server = Server::new([Err(ApiError::invalid("too long").at("messages"))]);
    let chat = server.chat(Value::Null).await;
    let (status, error) = server
        .json(&format!("POST {chat}/answer"), json!({"content": "a"}))
        .await;
    assert_eq!((status, &error["error"]["param"]), (400, &json!("content")));
    let asked = json!({"content": "a", "model": "none"});
    let (status, _) = server.json(&format!("POST {chat}/answer"), asked).await;
    assert_eq!(status, 404);
    assert_eq!(server.show(&chat).await["messages"], json!([]));
}

#[tokio::test]
async fn what_fails_later_is_kept_with_its_error() {
    let mut script = says_all(&["Half"]).unwrap();
    script.truncate(2);
    script.push(Err(ApiError::new(
        ErrorKind::Conflict,
        "the device is gone",
    )));
    let server = Server::new([Ok(script)]);
    let chat = server.chat(Value::Null).await;
    let events = server.answer(&chat, json!({"content": "a"})).await;
    let (name, data) = events.last().unwrap();
    assert_eq!(
        (&**name, &data["message"]),
        ("error", &json!("the device is gone"))
    );
    assert_eq!(shown(&events), json!([{"t": "p", "c": ["Half"]}]));
    let kept = &server.show(&chat).await["messages"][1];
    assert_eq!(
        (&kept["finish"], &kept["error"]),
        (&json!("error"), &json!("the device is gone"))
    );
    assert_eq!(kept["content"], "Half");
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_job_and_what_was_written_is_kept() {
    let mut script = says_all(&["Once ", "upon"]).unwrap();
    script.truncate(3);
    let server = Server::new([Ok(script)]);
    server.backend.hold();
    let chat = server.chat(Value::Null).await;
    let line = format!("POST {chat}/answer");
    let response = server.respond("ann", &line, &json!({"content": "a"})).await;
    let mut body = response.into_body().into_data_stream();
    let mut told = String::new();
    while !told.contains("upon") {
        let chunk = body.next().await.expect("it goes on").unwrap();
        told.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    drop(body);
    // The task needs a moment; how long is the machine's affair.
    for _ in 0..3000 {
        let kept = &server.show(&chat).await["messages"][1];
        if kept["finish"] == "stopped" {
            assert_eq!(kept["content"], "Once upon");
            let (_, found) = server
                .json(&format!("GET {CHATS}?query=UPON"), Value::Null)
                .await;
            assert_eq!(
                found["chats"][0]["snippet"][1],
                json!({"text": "upon", "hit": true})
            );
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the answer was never ended");
}

#[tokio::test]
async fn what_is_written_is_soon_in_the_file() {
    let mut script = says_all(&["slow"]).unwrap();
    script.truncate(2);
    let server = Server::new([Ok(script)]);
    server.backend.hold();
    let chat = server.chat(Value::Null).await;
    let line = format!("POST {chat}/answer");
    let _response = server.respond("ann", &line, &json!({"content": "a"})).await;
    for _ in 0..3000 {
        let kept = &server.show(&chat).await["messages"][1];
        if kept["content"] == "slow" {
            assert_eq!(kept["finish"], Value::Null, "it goes on");
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("nothing was written");
}

#[tokio::test]
async fn a_call_that_nobody_asked_for_is_code() {
    let call =
        json!({"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}});
    let call: ToolCall = serde_json::from_value(call).unwrap();
    let server = Server::new([says(&[Part::ToolCall(call)], FinishReason::ToolCalls)]);
    let chat = server.chat(Value::Null).await;
    let events = server.answer(&chat, json!({"content": "a"})).await;
    let shown = shown(&events);
    assert_eq!(
        (&shown[0]["t"], &shown[0]["lang"]),
        (&json!("pre"), &json!("json")),
        "{shown}"
    );
}

#[tokio::test]
async fn each_key_has_its_own() {
    let server = Server::new([]);
    let chat = server.chat(json!({"title": "secret"})).await;
    for line in [
        format!("GET {chat}"),
        format!("DELETE {chat}"),
        format!("GET {chat}/export"),
        format!("PATCH {chat}"),
        format!("POST {chat}/answer"),
    ] {
        let (status, _) = server.text("bob", &line, &json!({"content": "a"})).await;
        assert_eq!(status, 404, "{line}");
    }
    let (_, list) = server
        .text("bob", &format!("GET {CHATS}"), &Value::Null)
        .await;
    assert_eq!(list, r#"{"chats":[],"next":null}"#);
    let all = json!({"all": true});
    assert_eq!(
        server.text("bob", &format!("DELETE {CHATS}"), &all).await.0,
        204
    );
    let (_, lines) = server
        .text("bob", &format!("GET {CHATS}/export"), &Value::Null)
        .await;
    assert_eq!(lines, "");
    let (_, lines) = server
        .text("ann", &format!("GET {CHATS}/export"), &Value::Null)
        .await;
    assert!(lines.contains("secret") && lines.ends_with('\n'));
    assert_eq!(
        server.json(&format!("DELETE {CHATS}"), json!({})).await.0,
        400
    );
    assert_eq!(server.json(&format!("DELETE {CHATS}"), all).await.0, 204);
    assert_eq!(
        server.json(&format!("GET {chat}"), Value::Null).await.0,
        404
    );
}

#[tokio::test]
async fn lists_are_pages() {
    let server = Server::new([]);
    for n in 0..3 {
        server.chat(json!({"title": format!("Chat {n}")})).await;
    }
    let (_, page) = server
        .json(&format!("GET {CHATS}?limit=2"), Value::Null)
        .await;
    assert_eq!(page["chats"].as_array().unwrap().len(), 2);
    let next = page["next"].as_str().unwrap();
    let (_, page) = server
        .json(&format!("GET {CHATS}?limit=2&before={next}"), Value::Null)
        .await;
    assert_eq!(
        (page["chats"].as_array().unwrap().len(), &page["next"]),
        (1, &Value::Null)
    );
    for wrong in ["limit=0", "limit=x", "before=x"] {
        let (status, _) = server
            .json(&format!("GET {CHATS}?{wrong}"), Value::Null)
            .await;
        assert_eq!(status, 400, "{wrong}");
    }
}

#[tokio::test]
async fn the_picker_says_what_fits() {
    let server = Server::new([]);
    let (status, picker) = server.json("GET /api/troika/picker", Value::Null).await;
    assert_eq!((status, &picker["default"]), (200, &json!("tiny")));
    let model = &picker["models"][0];
    assert_eq!(
        (&model["loaded"], &model["fit"]["verdict"]),
        (&json!(true), &json!("fits"))
    );
    assert_eq!(model["fit"]["memory_bytes"], 6_000_000);
}

#[tokio::test]
async fn a_file_that_cannot_be_had_is_said_and_the_server_goes_on() {
    let home = tempfile::tempdir().unwrap();
    let settings = Settings::at(home.path());
    let first = Chats::open(&settings);
    assert_eq!(first.notice(), None);
    let second = Chats::open(&settings);
    assert!(
        second.notice().unwrap().contains("another process"),
        "{:?}",
        second.notice()
    );
    let listed = second.aside(|store| store.list(None, "", 1, None)).await;
    assert_eq!(listed.unwrap().chats.len(), 0);
    drop(first);
    std::fs::write(&settings.chats_file, b"damaged").unwrap();
    let notice = Chats::open(&settings);
    assert!(
        notice.notice().unwrap().contains("chats.redb.damaged-1"),
        "{:?}",
        notice.notice()
    );
    let off = Settings {
        chats: false,
        chats_file: home.path().join("never"),
        ..settings
    };
    assert_eq!(Chats::open(&off).notice(), None);
    assert!(!off.chats_file.exists());
}

/// What is logged.
#[derive(Clone, Debug, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn what_is_said_is_never_in_the_log() {
    const CANARY: &str = "xylophone-canary";
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let mut fails = says_all(&[CANARY]).unwrap();
    fails.truncate(2);
    fails.push(Err(ApiError::internal()));
    let server = Server::new([says_all(&[CANARY]), Ok(fails)]);
    let chat = server
        .chat(json!({"title": CANARY, "params": {"system": CANARY}}))
        .await;
    server.answer(&chat, json!({"content": CANARY})).await;
    server.answer(&chat, json!({"content": CANARY})).await;
    server
        .json(&format!("GET {CHATS}?query={CANARY}"), Value::Null)
        .await;
    server
        .json(&format!("POST {chat}/answer"), json!({"parent": CANARY}))
        .await;
    server
        .text("ann", &format!("GET {chat}/export"), &Value::Null)
        .await;
    drop(server.chats);
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(!log.contains(CANARY), "{log}");
}
