//! Bodies and streams as clients see them, what bodies become, and what is kept for the next request.

use axum::body::Body;
use axum::http::Request;
use axum::{Extension, Router};
use insta::assert_snapshot;
use serde_json::{Value, json};
use std::sync::Arc;
use tower::ServiceExt as _;
use troika_engine::chat::{ChatMessage, FunctionCall, ToolCall};

use crate::job::{
    Caller, ChatPrompt, Delta, Event, FinishReason, Format, Job, Overflow, Part, Prompt,
    TokenLogprob, ToolChoice,
};
use crate::testing::{Script, Scripted, pretty, redacted, says};
use crate::{ApiError, Backend, ErrorKind};

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
        let routes = self.routes.clone().layer(Extension(Caller { key }));
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
async fn a_conversation_goes_on() {
    let server = Server::new([
        says(&calls(), FinishReason::ToolCalls),
        says(&[content("Rain.")], FinishReason::EndOfText),
        says(&[content("Bye.")], FinishReason::EndOfText),
    ]);
    let first = server
        .create(&with(&json!({"instructions": "Be brief."})))
        .await;
    let (first, call_id) = (&first["id"], &first["output"][2]["call_id"]);
    assert_eq!(call_id, "call_Oslo");
    let result = json!({"type": "function_call_output", "call_id": call_id, "output": "Rain"});
    let body = json!({"model": "tiny", "input": [result], "previous_response_id": first});
    let second = server.create(&body).await;
    assert_eq!(second["previous_response_id"], *first);
    let roles = |server: &Server| -> Vec<String> {
        server.messages().into_iter().map(|m| m.role).collect()
    };
    assert_eq!(
        roles(&server),
        ["user", "assistant", "tool"],
        "instructions are not kept"
    );
    assert_eq!(
        server.messages()[1].reasoning_content.as_deref(),
        Some("They want weather.")
    );
    assert_eq!(server.messages()[2].name.as_deref(), Some("weather"));

    // The first can go; the second keeps what it needs.
    let line = format!("DELETE /v1/responses/{}", first.as_str().unwrap());
    let (status, deleted) = server.json(&line, &Value::Null).await;
    assert_eq!((status, &deleted["deleted"]), (200, &json!(true)));
    assert_eq!(server.json(&line, &Value::Null).await.0, 404);
    let id = &second["id"];
    let body = json!({"model": "tiny", "input": "Thanks", "previous_response_id": id});
    server.create(&body).await;
    assert_eq!(
        roles(&server),
        ["user", "assistant", "tool", "assistant", "user"]
    );
    assert_eq!(server.messages()[3], ChatMessage::new("assistant", "Rain."));
}

#[tokio::test]
async fn items_are_referred_to_by_their_ids() {
    let hi = || says(&[content("Hi")], FinishReason::EndOfText);
    let server = Server::new([hi(), hi(), hi()]);
    let item = server.create(&with(&json!({}))).await["output"][0]["id"].clone();
    for reference in [
        json!({"type": "item_reference", "id": item}),
        json!({"id": item}),
    ] {
        let input = json!([reference, {"role": "user", "content": "And?"}]);
        server
            .create(&json!({"model": "tiny", "input": input}))
            .await;
        assert_eq!(server.messages()[0], ChatMessage::new("assistant", "Hi"));
        let body = json!({"model": "tiny", "input": input});
        let (status, answer) = server.request("bob", "POST /v1/responses", &body).await;
        assert_eq!(status, 400, "another key's item");
        assert!(answer.contains("input[0].id"), "{answer}");
    }
}

#[tokio::test]
async fn a_response_is_its_keys_own() {
    let server = Server::new([says(&[content("Hi")], FinishReason::EndOfText)]);
    let created = server.create(&with(&json!({}))).await;
    let id = created["id"].as_str().unwrap();
    let line = format!("GET /v1/responses/{id}");
    assert_eq!(
        server.json(&line, &Value::Null).await,
        (200, created.clone())
    );
    for line in [
        format!("GET /v1/responses/{id}"),
        format!("DELETE /v1/responses/{id}"),
        format!("GET /v1/responses/{id}/input_items"),
        format!("POST /v1/responses/{id}/cancel"),
    ] {
        assert_eq!(
            server.request("bob", &line, &Value::Null).await.0,
            404,
            "{line}"
        );
    }
    let body = json!({"model": "tiny", "input": "a", "previous_response_id": id});
    let (status, body) = server.request("bob", "POST /v1/responses", &body).await;
    assert_eq!(status, 400);
    assert!(body.contains("previous_response_id"), "{body}");
    assert_eq!(server.json(&line, &Value::Null).await.0, 200, "still there");
}

#[tokio::test]
async fn what_is_not_stored_cannot_be_found() {
    let server = Server::new([says(&[content("Hi")], FinishReason::EndOfText)]);
    let body = server.create(&with(&json!({"store": false}))).await;
    assert_eq!(body["store"], false);
    let line = format!("GET /v1/responses/{}", body["id"].as_str().unwrap());
    assert_eq!(server.json(&line, &Value::Null).await.0, 404);
}

#[tokio::test]
async fn input_is_listed_by_pages() {
    let hi = || says(&[content("Hi")], FinishReason::EndOfText);
    let server = Server::new([hi(), hi()]);
    let first = server.create(&with(&json!({}))).await;
    let body = json!({"model": "tiny", "input": "And?", "previous_response_id": first["id"]});
    let second = server.create(&body).await;
    let path = format!(
        "GET /v1/responses/{}/input_items",
        second["id"].as_str().unwrap()
    );
    let (status, all) = server
        .json(&format!("{path}?order=asc"), &Value::Null)
        .await;
    assert_eq!(status, 200);
    assert_snapshot!(pretty(&all.to_string()));
    let mut seen = Vec::new();
    let mut query = "?limit=2".to_owned();
    loop {
        let (_, page) = server.json(&format!("{path}{query}"), &Value::Null).await;
        seen.extend(page["data"].as_array().unwrap().clone());
        if page["has_more"] == false {
            break;
        }
        query = format!("?limit=2&after={}", page["last_id"].as_str().unwrap());
    }
    seen.reverse();
    assert_eq!(Value::from(seen), all["data"]);
    for wrong in [
        "?limit=0",
        "?limit=101",
        "?limit=x",
        "?order=up",
        "?after=msg_0",
    ] {
        let (status, body) = server.json(&format!("{path}{wrong}"), &Value::Null).await;
        assert_eq!(status, 400, "{wrong}: {body}");
    }
}

#[tokio::test]
async fn what_is_complete_cannot_be_cancelled_or_streamed_again() {
    let server = Server::new([says(&[content("Hi")], FinishReason::EndOfText)]);
    let id = server.create(&with(&json!({}))).await["id"]
        .as_str()
        .unwrap()
        .to_owned();
    for (line, status) in [
        (format!("POST /v1/responses/{id}/cancel"), 400),
        (format!("GET /v1/responses/{id}?stream=true"), 400),
        (
            format!("GET /v1/responses/{id}?stream=false&include[]=x"),
            200,
        ),
        ("POST /v1/responses/resp_0/cancel".to_owned(), 404),
        ("GET /v1/responses/resp_0".to_owned(), 404),
        ("GET /v1/responses/%ff".to_owned(), 404),
        ("GET /v1/responses/resp_0/input_items".to_owned(), 404),
    ] {
        assert_eq!(server.json(&line, &Value::Null).await.0, status, "{line}");
    }
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

/// Wrong fields, and the place that the answer names.
fn wrong() -> Vec<(Value, &'static str)> {
    let item = |item: Value| json!({"input": [item]});
    let user = |content: Value| json!({"input": [{"role": "user", "content": content}]});
    let tool = |tool: Value| json!({"tools": [tool]});
    let format = |format: Value| json!({"text": {"format": format}});
    let choice = |choice: Value| json!({"tools": tools(), "tool_choice": choice});
    let many: serde_json::Map<_, _> = (0..17).map(|i| (i.to_string(), json!(""))).collect();
    vec![
        (json!({"model": null}), "model"),
        (json!({"model": 7}), "model"),
        (json!({"input": null}), "input"),
        (json!({"input": []}), "input"),
        (json!({"input": 7}), "input"),
        (json!({"input": {}}), "input"),
        (item(json!({})), "input[0].role"),
        (
            item(json!({"role": "tool", "content": ""})),
            "input[0].role",
        ),
        (item(json!({"role": "user"})), "input[0].content"),
        (user(json!(7)), "input[0].content"),
        (user(json!([{"text": "a"}])), "input[0].content[0]"),
        (
            user(json!([{"type": "input_text"}])),
            "input[0].content[0].text",
        ),
        (
            user(json!([{"type": "input_image", "image_url": "x"}])),
            "input[0].content[0]",
        ),
        (
            user(json!([{"type": "input_file", "file_id": "x"}])),
            "input[0].content[0]",
        ),
        (
            item(json!({"type": "web_search_call", "id": "ws_1"})),
            "input[0].type",
        ),
        (
            item(json!({"type": "function_call", "name": "f", "arguments": ""})),
            "input[0].call_id",
        ),
        (
            item(json!({"type": "function_call", "call_id": "c", "arguments": ""})),
            "input[0].name",
        ),
        (
            item(json!({"type": "function_call", "call_id": "c", "name": "f"})),
            "input[0].arguments",
        ),
        (
            item(json!({"type": "function_call_output", "output": ""})),
            "input[0].call_id",
        ),
        (
            item(json!({"type": "function_call_output", "call_id": "c"})),
            "input[0].output",
        ),
        (
            item(json!({"type": "function_call_output", "call_id": "c", "output": ""})),
            "input[0].call_id",
        ),
        (item(json!({"type": "item_reference"})), "input[0].id"),
        (
            item(json!({"type": "item_reference", "id": "msg_0"})),
            "input[0].id",
        ),
        (
            json!({"previous_response_id": "resp_0"}),
            "previous_response_id",
        ),
        (json!({"max_output_tokens": 0}), "max_output_tokens"),
        (json!({"max_output_tokens": -1}), "max_output_tokens"),
        (json!({"temperature": 2.1}), "temperature"),
        (json!({"top_p": -0.1}), "top_p"),
        (json!({"top_logprobs": 21}), "top_logprobs"),
        (json!({"include": ["everything"]}), "include[0]"),
        (json!({"truncation": "some"}), "truncation"),
        (json!({"reasoning": {"effort": "huge"}}), "reasoning.effort"),
        (
            json!({"reasoning": {"summary": "long"}}),
            "reasoning.summary",
        ),
        (json!({"text": {"verbosity": "loud"}}), "text.verbosity"),
        (format(json!({"type": "xml"})), "text.format.type"),
        (
            format(json!({"type": "json_schema", "name": "n"})),
            "text.format.schema",
        ),
        (
            format(json!({"type": "json_schema", "schema": {}})),
            "text.format.name",
        ),
        (
            format(json!({"type": "json_schema", "name": "n", "schema": 7})),
            "text.format.schema",
        ),
        (tool(json!({"type": "web_search"})), "tools[0].type"),
        (
            tool(json!({"type": "custom", "name": "f"})),
            "tools[0].type",
        ),
        (tool(json!({"type": "function"})), "tools[0].name"),
        (
            tool(json!({"type": "function", "name": "a b"})),
            "tools[0].name",
        ),
        (
            tool(json!({"type": "function", "name": "f", "parameters": []})),
            "tools[0].parameters",
        ),
        (
            json!({"tools": [{"type": "function", "name": "f"}, {"type": "function", "name": "f"}]}),
            "tools[1].name",
        ),
        (json!({"tool_choice": "required"}), "tool_choice"),
        (choice(json!("some")), "tool_choice"),
        (choice(json!(7)), "tool_choice"),
        (
            choice(json!({"type": "function", "name": "f"})),
            "tool_choice.name",
        ),
        (choice(json!({"type": "file_search"})), "tool_choice.type"),
        (
            choice(json!({"type": "allowed_tools", "mode": "auto"})),
            "tool_choice.tools",
        ),
        (
            choice(json!({"type": "allowed_tools", "mode": "auto", "tools": [{"name": "f"}]})),
            "tool_choice.tools[0].name",
        ),
        (json!({"metadata": {"a": 1}}), "metadata"),
        (json!({"metadata": many}), "metadata"),
        (json!({"metadata": {"a": "x".repeat(513)}}), "metadata"),
        (json!({"background": true}), "background"),
        (json!({"conversation": "conv_1"}), "conversation"),
        (json!({"prompt": {"id": "p"}}), "prompt"),
        (json!({"stream": "yes"}), "stream"),
    ]
}

#[tokio::test]
async fn wrong_requests_name_the_field() {
    let server = Server::new([]);
    for (fields, place) in wrong() {
        let (status, body) = server.json("POST /v1/responses", &with(&fields)).await;
        assert_eq!(status, 400, "{fields}: {body}");
        assert_eq!(body["error"]["type"], "invalid_request_error");
        assert_eq!(body["error"]["param"], place, "{body}");
    }
}

#[tokio::test]
async fn bodies_that_are_no_requests_are_refused() {
    let backend = Scripted::new([]);
    let deep = "[".repeat(100_000);
    let deep_tools = format!(r#"{{"tool_choice":{}"#, r#"{"a":"#.repeat(100_000));
    for body in ["", "null", "[]", "{", "\"a\"", &deep, &deep_tools] {
        let (status, answer) = backend
            .request("POST", "/v1/responses", body.to_owned())
            .await;
        assert_eq!(status, 400, "{}", &body[..body.len().min(40)]);
        assert!(answer.contains("invalid_request_error"), "{answer}");
    }
}
