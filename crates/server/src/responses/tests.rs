//! Bodies and streams as clients see them, what bodies become, and what is kept for the next request.

use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use axum::{Extension, Router};
use insta::assert_snapshot;
use serde_json::{Value, json};
use tower::ServiceExt as _;
use troika_engine::chat::{ChatMessage, FunctionCall, ToolCall};

use crate::job::{
    Caller, ChatPrompt, Delta, Event, FinishReason, Format, Job, Overflow, Part, Prompt,
    TokenLogprob, ToolChoice,
};
use crate::testing::{Script, Scripted, pretty, redacted, says};
use crate::{ApiError, Backend, ErrorKind};

mod kept;
mod refused;

/// A server that stays the same from request to request.
struct Server {
    routes: Router,
    backend: Arc<Scripted>,
}

impl Server {
    fn new(scripts: impl IntoIterator<Item = Script>) -> Self {
        let backend = Scripted::new(scripts);
        let door: Arc<dyn Backend> = Arc::<Scripted>::clone(&backend);
        let routes = crate::app::routes(door);
        Self { routes, backend }
    }

    /// The status and the body of an answer to this key's request.
    async fn request(&self, key: &str, line: &str, body: &Value) -> (u16, String) {
        let (method, path) = line.split_once(' ').expect("a method and a path");
        let body = match body {
            Value::Null => Body::empty(),
            body => Body::from(body.to_string()),
        };
        let request = Request::builder().method(method).uri(path);
        let request = request.body(body).unwrap();
        let key = Some(key.to_owned());
        let routes = self
            .routes
            .clone()
            .layer(Extension(Caller { key, class: None }));
        let response = routes.oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await;
        (status, String::from_utf8(body.unwrap().to_vec()).unwrap())
    }

    async fn json(&self, line: &str, body: &Value) -> (u16, Value) {
        let (status, body) = self.request("ann", line, body).await;
        (status, serde_json::from_str(&body).expect("JSON"))
    }

    async fn create(&self, body: &Value) -> Value {
        let (status, body) = self.json("POST /v1/responses", body).await;
        assert_eq!(status, 200, "{body}");
        body
    }

    fn messages(&self) -> Vec<ChatMessage> {
        chat(self.backend.last_job()).messages
    }
}

fn chat(job: Job) -> ChatPrompt {
    match job.prompt {
        Prompt::Chat(prompt) => *prompt,
        other => panic!("{other:?}"),
    }
}

fn content(text: &str) -> Part {
    Part::Content(text.to_owned())
}

fn reasoning(text: &str) -> Part {
    Part::Reasoning(text.to_owned())
}

fn call(city: &str) -> ToolCall {
    let arguments = json!({"city": city}).to_string().into();
    ToolCall {
        id: Some(format!("call_{city}")),
        kind: "function".to_owned(),
        function: FunctionCall {
            name: "weather".to_owned(),
            arguments,
        },
    }
}

fn calls() -> Vec<Part> {
    vec![
        reasoning("They want "),
        reasoning("weather."),
        content("Let me "),
        content("look."),
        Part::ToolCall(call("Oslo")),
        Part::ToolCall(call("Rome")),
    ]
}

fn tools() -> Value {
    let parameters = json!({"type": "object", "properties": {"city": {"type": "string"}}});
    json!([
        {"type": "function", "name": "weather", "description": "The weather", "parameters": parameters, "strict": true},
        {"type": "function", "name": "time", "parameters": null},
    ])
}

/// A request with these fields besides; a null removes one.
fn with(fields: &Value) -> Value {
    let mut body = json!({"model": "tiny", "input": "Hello"});
    for (name, value) in fields.as_object().expect("fields") {
        body[name] = value.clone();
    }
    body
}

async fn answered(parts: &[Part], finish: FinishReason, fields: Value) -> String {
    let server = Server::new([says(parts, finish)]);
    let body = with(&fields);
    let (status, body) = server.request("ann", "POST /v1/responses", &body).await;
    assert_eq!(status, 200, "{body}");
    body
}

async fn job(fields: Value) -> Job {
    let server = Server::new([says(&[], FinishReason::EndOfText)]);
    server.create(&with(&fields)).await;
    server.backend.last_job()
}

#[tokio::test]
async fn an_answer() {
    let body = answered(
        &[content("Hi"), content("!")],
        FinishReason::EndOfText,
        json!({}),
    )
    .await;
    assert_snapshot!(pretty(&body));
}

#[tokio::test]
async fn an_answer_that_thinks_and_calls_functions() {
    let fields = json!({"tools": tools(), "instructions": "Be brief.", "metadata": {"a": "b"}});
    let body = answered(&calls(), FinishReason::ToolCalls, fields).await;
    assert_snapshot!(pretty(&body));
}

#[tokio::test]
async fn an_answer_that_is_cut_short() {
    let fields = json!({"max_output_tokens": 2});
    let body = answered(&[content("Hi")], FinishReason::Length, fields).await;
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["status"], "incomplete");
    assert_eq!(
        body["incomplete_details"],
        json!({"reason": "max_output_tokens"})
    );
    assert_eq!(body["output"][0]["status"], "incomplete");
    assert_eq!(body["completed_at"], Value::Null);
}

#[tokio::test]
async fn a_stream() {
    let parts = [content("Hi"), content(""), content("!")];
    let body = answered(&parts, FinishReason::EndOfText, json!({"stream": true})).await;
    assert_snapshot!(redacted(&body));
}

#[tokio::test]
async fn a_stream_that_thinks_and_calls_functions() {
    let body = answered(&calls(), FinishReason::ToolCalls, json!({"stream": true})).await;
    assert_snapshot!(redacted(&body));
}

#[tokio::test]
async fn a_stream_that_is_cut_short_while_it_thinks_in_a_summary() {
    let fields = json!({"stream": true, "reasoning": {"effort": "low", "summary": "auto"}});
    let body = answered(&[reasoning("Hm.")], FinishReason::Length, fields).await;
    assert_snapshot!(redacted(&body));
}

#[tokio::test]
async fn a_stream_of_nothing() {
    let body = answered(&[], FinishReason::EndOfText, json!({"stream": true})).await;
    assert_snapshot!(redacted(&body));
}

/// Every event of a stream.
fn events(stream: &str) -> Vec<Value> {
    let data = stream
        .lines()
        .filter_map(|line| line.strip_prefix("data: "));
    data.map(|data| serde_json::from_str(data).expect(data))
        .collect()
}

#[tokio::test]
async fn a_stream_and_a_body_say_the_same() {
    for finish in [FinishReason::ToolCalls, FinishReason::Length] {
        let body = answered(&calls(), finish.clone(), json!({})).await;
        let stream = answered(&calls(), finish, json!({"stream": true})).await;
        let events = events(&stream);
        for (i, event) in events.iter().enumerate() {
            assert_eq!(event["sequence_number"], i);
        }
        let last = &events.last().expect("events")["response"];
        assert_eq!(pretty(&last.to_string()), pretty(&body));
        // Put together, the items of the events are those of the response.
        let done = events
            .iter()
            .filter(|e| e["type"] == "response.output_item.done");
        let items: Vec<_> = done.map(|event| event["item"].clone()).collect();
        assert_eq!(Value::from(items), last["output"]);
    }
}

#[tokio::test]
async fn tokens_come_with_their_probabilities() {
    let token = |text: &str, logprob| TokenLogprob {
        bytes: text.as_bytes().to_vec(),
        logprob,
        ..TokenLogprob::default()
    };
    let delta = |parts: Vec<Part>, tokens| {
        let choice = 0;
        Ok(Event::Delta(Delta {
            choice,
            parts,
            tokens,
        }))
    };
    let mut hi = token("Hi", -0.5);
    hi.top = vec![token("Hi", -0.5), token("Ho", f32::NEG_INFINITY)];
    let script = || {
        let mut events = says(&[], FinishReason::EndOfText).unwrap();
        let said = [
            delta(vec![reasoning("Hm")], vec![token("Hm", -1.0)]),
            delta(Vec::new(), vec![hi.clone()]),
            delta(vec![content("Hi")], vec![token("", -0.25)]),
            delta(Vec::new(), vec![token("</s>", -0.125)]),
        ];
        events.splice(1..1, said);
        Ok(events)
    };
    let server = Server::new([script(), script()]);
    let fields = json!({"include": ["message.output_text.logprobs"], "top_logprobs": 2});
    let body = server.create(&with(&fields)).await;
    assert_eq!(server.backend.last_job().top_logprobs, Some(2));
    let logprobs = &body["output"][1]["content"][0]["logprobs"];
    assert_eq!(logprobs[0]["token"], "Hi");
    assert_eq!(logprobs[0]["bytes"], json!([72, 105]));
    assert_eq!(logprobs[0]["top_logprobs"][1]["logprob"], -9999.0);
    assert_eq!(
        logprobs.as_array().map(Vec::len),
        Some(3),
        "none of the thoughts"
    );

    let mut fields = fields;
    fields["stream"] = true.into();
    let (_, stream) = server
        .request("ann", "POST /v1/responses", &with(&fields))
        .await;
    let events = events(&stream);
    let delta = events
        .iter()
        .find(|e| e["type"] == "response.output_text.delta");
    let told = delta.expect("a delta")["logprobs"].as_array().map(Vec::len);
    assert_eq!(told, Some(2));
}

#[tokio::test]
async fn a_failure_before_the_first_word_is_no_stream() {
    let retry_after = std::time::Duration::from_secs(3);
    let full = ApiError::new(ErrorKind::Overloaded { retry_after }, "the queue is full");
    let late = Ok(vec![Err(full.clone())]);
    for (script, stream) in [
        (Err(full.clone()), true),
        (late.clone(), true),
        (late, false),
    ] {
        let server = Server::new([script]);
        let body = with(&json!({"stream": stream}));
        let (status, body) = server.json("POST /v1/responses", &body).await;
        assert_eq!(status, 429);
        assert_eq!(body["error"]["message"], "the queue is full");
    }
}

#[tokio::test]
async fn a_failure_in_mid_stream_is_an_event_and_is_kept() {
    let mut script = says(&[content("Hi")], FinishReason::EndOfText).unwrap();
    script.truncate(2);
    script.push(Err(ApiError::internal()));
    let server = Server::new([Ok(script)]);
    let body = with(&json!({"stream": true}));
    let (status, stream) = server.request("ann", "POST /v1/responses", &body).await;
    assert_eq!(status, 200);
    let events = events(&stream);
    let last = events.last().expect("events");
    assert_eq!(last["type"], "response.failed");
    let response = &last["response"];
    assert_eq!(response["status"], "failed");
    assert_eq!(response["error"]["code"], "server_error");
    assert_eq!(response["output"][0]["status"], "incomplete");
    let id = response["id"].as_str().expect("an id");
    let (status, kept) = server
        .json(&format!("GET /v1/responses/{id}"), &Value::Null)
        .await;
    assert_eq!((status, &kept), (200, response));
}

#[tokio::test]
async fn every_field_finds_its_place() {
    let fields = json!({
        "instructions": "Be brief.",
        "input": [
            {"role": "developer", "content": "Be kind."},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]},
            {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm."}]},
            {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [{"type": "output_text", "text": "Look:", "annotations": []}]},
            {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c1", "output": [{"type": "input_text", "text": "Rain"}]},
            {"role": "system", "content": "Hurry."},
        ],
        "max_output_tokens": 16,
        "temperature": 1.5,
        "top_p": 0.5,
        "truncation": "auto",
        "tools": tools(),
        "tool_choice": {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "weather"}]},
        "parallel_tool_calls": false,
        "reasoning": {"effort": "high"},
        "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": true}},
        "service_tier": "auto",
        "user": "u",
        "stream_options": {"include_obfuscation": false},
    });
    let job = job(fields).await;
    assert_eq!(
        (job.n, job.max_tokens, job.overflow),
        (1, Some(16), Overflow::Truncate)
    );
    assert_eq!(
        (job.sampling.temperature, job.sampling.top_p),
        (Some(1.5), Some(0.5))
    );
    assert_eq!(job.format, Format::JsonSchema(json!({"type": "object"})));
    assert_eq!(job.top_logprobs, None);
    let prompt = chat(job);
    let mut calls = call("");
    calls.id = Some("c1".to_owned());
    calls.function.arguments = "{}".into();
    let want = [
        ChatMessage::new("system", "Be brief.\nBe kind."),
        ChatMessage::new("user", "a\nb"),
        ChatMessage {
            reasoning_content: Some("Hm.".to_owned()),
            tool_calls: vec![calls],
            ..ChatMessage::new("assistant", "Look:")
        },
        ChatMessage {
            name: Some("weather".to_owned()),
            tool_call_id: Some("c1".to_owned()),
            ..ChatMessage::new("tool", "Rain")
        },
        ChatMessage::new("system", "Hurry."),
    ];
    assert_eq!(prompt.messages, want);
    assert_eq!(prompt.tools.len(), 1, "only the allowed one");
    assert_eq!(prompt.tools[0]["function"]["name"], "weather");
    assert_eq!(prompt.tools[0]["function"]["strict"], true);
    assert_eq!(prompt.tool_choice, ToolChoice::Required);
    assert!(!prompt.parallel_tool_calls);
    assert_eq!(
        (prompt.thinking, prompt.effort.as_deref()),
        (None, Some("high"))
    );
    assert!(!prompt.continue_last);
}

#[tokio::test]
async fn ways_to_choose_a_tool() {
    for (choice, want) in [
        (json!("auto"), ToolChoice::Auto),
        (json!("none"), ToolChoice::Never),
        (json!("required"), ToolChoice::Required),
        (
            json!({"type": "function", "name": "time"}),
            ToolChoice::Function("time".to_owned()),
        ),
    ] {
        let job = job(json!({"tools": tools(), "tool_choice": choice})).await;
        assert_eq!(chat(job).tool_choice, want);
    }
}

#[tokio::test]
async fn effort_none_is_no_thinking() {
    let prompt = chat(job(json!({"reasoning": {"effort": "none"}})).await);
    assert_eq!((prompt.thinking, prompt.effort), (Some(false), None));
}

#[tokio::test]
async fn tokens_are_counted() {
    let server = Server::new([]);
    let (status, body) = server
        .json("POST /v1/responses/input_tokens", &with(&json!({})))
        .await;
    assert_eq!(status, 200);
    assert_eq!(
        body,
        json!({"object": "response.input_tokens", "input_tokens": 11})
    );
}
