//! Bodies and streams as Anthropic's clients see them, and what bodies become.

use insta::assert_snapshot;
use serde_json::{Value, json};
use troika_engine::chat::{ChatMessage, FunctionCall, ToolCall};

use crate::job::{ChatPrompt, Event, FinishReason, Format, Job, Part, Prompt, ToolChoice};
use crate::testing::{Scripted, pretty, redacted, says};
use crate::{ApiError, ErrorKind};

fn ask() -> Value {
    json!({
        "model": "tiny",
        "max_tokens": 16,
        "messages": [{"role": "user", "content": "Hello"}],
    })
}

fn tools() -> Value {
    json!([{
        "name": "weather",
        "description": "The weather",
        "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
        "cache_control": {"type": "ephemeral"},
    }])
}

fn content(text: &str) -> Part {
    Part::Content(text.to_owned())
}

fn reasoning(text: &str) -> Part {
    Part::Reasoning(text.to_owned())
}

fn call(arguments: Value) -> ToolCall {
    ToolCall {
        id: Some("call_1".to_owned()),
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
        Part::ToolCall(call(r#"{"city":"Oslo"}"#.into())),
        Part::ToolCall(call(r#"{"city":"Rome"}"#.into())),
    ]
}

/// Posts `ask` with these fields besides; a null removes one.
fn with(fields: &Value) -> Value {
    let mut body = ask();
    for (name, value) in fields.as_object().expect("fields") {
        body[name] = value.clone();
    }
    body
}

async fn answered(parts: &[Part], finish: FinishReason, fields: Value) -> String {
    let backend = Scripted::new([says(parts, finish)]);
    let (status, body) = backend.post("/v1/messages?beta=true", &with(&fields)).await;
    assert_eq!(status, 200, "{body}");
    body
}

/// The job that a body becomes.
async fn job(fields: Value) -> Job {
    let backend = Scripted::new([says(&[], FinishReason::EndOfText)]);
    let (status, body) = backend.post("/v1/messages", &with(&fields)).await;
    assert_eq!(status, 200, "{body}");
    backend.last_job()
}

async fn prompt(fields: Value) -> ChatPrompt {
    match job(fields).await.prompt {
        Prompt::Chat(prompt) => *prompt,
        other => panic!("{other:?}"),
    }
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
async fn an_answer_that_thinks_and_calls_tools() {
    let fields = json!({"tools": tools(), "thinking": {"type": "adaptive"}});
    let body = answered(&calls(), FinishReason::ToolCalls, fields).await;
    assert_snapshot!(pretty(&body));
}

#[tokio::test]
async fn why_an_answer_ends() {
    for (finish, reason, sequence) in [
        (FinishReason::EndOfText, "end_turn", Value::Null),
        (FinishReason::Length, "max_tokens", Value::Null),
        (
            FinishReason::StopString("END".to_owned()),
            "stop_sequence",
            "END".into(),
        ),
        (FinishReason::ToolCalls, "tool_use", Value::Null),
    ] {
        let body = answered(&[content("a")], finish.clone(), json!({})).await;
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["stop_reason"], reason);
        assert_eq!(body["stop_sequence"], sequence);
        let stream = answered(&[content("a")], finish, json!({"stream": true})).await;
        let delta = format!(r#"{{"stop_reason":"{reason}","stop_sequence":{sequence}}}"#);
        assert!(stream.contains(&delta), "{stream}");
    }
}

#[tokio::test]
async fn a_stream() {
    let parts = [content("Hi"), content(""), content("!")];
    let body = answered(&parts, FinishReason::EndOfText, json!({"stream": true})).await;
    assert_snapshot!(redacted(&body));
}

#[tokio::test]
async fn a_stream_that_thinks_and_calls_tools() {
    let body = answered(&calls(), FinishReason::ToolCalls, json!({"stream": true})).await;
    assert_snapshot!(redacted(&body));
}

#[tokio::test]
async fn a_stream_of_nothing() {
    let body = answered(&[], FinishReason::EndOfText, json!({"stream": true})).await;
    assert_snapshot!(redacted(&body));
}

#[tokio::test]
async fn thoughts_are_omitted_if_asked() {
    let fields = json!({"thinking": {"type": "enabled", "budget_tokens": 8, "display": "omitted"}});
    let body = answered(&calls(), FinishReason::EndOfText, fields.clone()).await;
    assert!(!body.contains("weather."), "{body}");
    assert!(body.contains(r#"{"type":"thinking","thinking":"","signature":""}"#));
    let mut fields = fields;
    fields["stream"] = true.into();
    let body = answered(&calls(), FinishReason::EndOfText, fields).await;
    assert!(!body.contains("weather."), "{body}");
    assert!(body.contains(r#""type":"thinking""#) && body.contains("signature_delta"));
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
        let backend = Scripted::new([script]);
        let (status, body) = backend
            .post("/v1/messages", &with(&json!({"stream": stream})))
            .await;
        assert_eq!(status, 429);
        let want = json!({"type": "error", "error": {"type": "overloaded_error", "message": "the queue is full"}});
        assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), want);
    }
}

#[tokio::test]
async fn a_failure_in_mid_stream_is_an_event() {
    let mut events = says(&[content("Hi")], FinishReason::EndOfText).unwrap();
    events.truncate(2);
    events.push(Err(ApiError::internal()));
    let backend = Scripted::new([Ok(events)]);
    let (status, body) = backend
        .post("/v1/messages", &with(&json!({"stream": true})))
        .await;
    assert_eq!(status, 200);
    assert_snapshot!(redacted(&body));
}

#[tokio::test]
async fn a_job_that_is_gone_is_an_error() {
    let gone = || Ok(Vec::<Result<Event, ApiError>>::new());
    let backend = Scripted::new([gone(), gone()]);
    for stream in [true, false] {
        let (status, _) = backend
            .post("/v1/messages", &with(&json!({"stream": stream})))
            .await;
        assert_eq!(status, 500);
    }
}

#[tokio::test]
async fn every_field_finds_its_place() {
    let job = job(json!({
        "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}, {"type": "text", "text": "Be kind."}],
        "stop_sequences": ["END"],
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 40,
        "metadata": {"user_id": "u1"},
        "service_tier": "auto",
        "tools": tools(),
        "tool_choice": {"type": "tool", "name": "weather", "disable_parallel_tool_use": true},
        "thinking": {"type": "enabled", "budget_tokens": 8},
        "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": {"type": "object"}}},
    }))
    .await;
    assert_eq!(
        (job.n, job.max_tokens, &*job.stop),
        (1, Some(16), &["END".to_owned()][..])
    );
    assert_eq!(job.sampling.temperature, Some(0.5));
    assert_eq!(job.sampling.top_p, Some(0.9));
    assert_eq!(job.sampling.top_k, Some(40));
    assert_eq!(job.format, Format::JsonSchema(json!({"type": "object"})));
    let Prompt::Chat(prompt) = job.prompt else {
        panic!("{:?}", job.prompt)
    };
    let want = ChatPrompt {
        messages: vec![
            ChatMessage::new("system", "Be brief.\nBe kind."),
            ChatMessage::new("user", "Hello"),
        ],
        tools: vec![json!({"type": "function", "function": {
            "name": "weather",
            "description": "The weather",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        }})],
        tool_choice: ToolChoice::Function("weather".to_owned()),
        parallel_tool_calls: false,
        thinking: Some(true),
        effort: Some("low".to_owned()),
        ..ChatPrompt::default()
    };
    assert_eq!(*prompt, want);
}

#[tokio::test]
async fn a_conversation_with_tools_becomes_turns() {
    let prompt = prompt(json!({"tools": tools(), "messages": [
        {"role": "user", "content": "Oslo?"},
        {"role": "user", "content": [{"type": "text", "text": "And Rome?"}]},
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "Two cities.", "signature": ""},
            {"type": "redacted_thinking", "data": "x"},
            {"type": "text", "text": "Let me look."},
            {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Oslo"}},
            {"type": "tool_use", "id": "toolu_2", "name": "weather", "input": {"city": "Rome"}},
        ]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "toolu_1", "content": "Rain"},
            {"type": "tool_result", "tool_use_id": "toolu_2", "is_error": true, "content": [{"type": "text", "text": "no such city"}]},
            {"type": "text", "text": "So?"},
        ]},
    ]}))
    .await;
    let calls = ["Oslo", "Rome"].iter().zip(["toolu_1", "toolu_2"]);
    let calls = calls.map(|(city, id)| ToolCall {
        id: Some(id.to_owned()),
        ..call(json!({"city": city}))
    });
    let result = |id: &str, text: &str| ChatMessage {
        name: Some("weather".to_owned()),
        tool_call_id: Some(id.to_owned()),
        ..ChatMessage::new("tool", text)
    };
    let want = [
        ChatMessage::new("user", "Oslo?\nAnd Rome?"),
        ChatMessage {
            reasoning_content: Some("Two cities.".to_owned()),
            tool_calls: calls.collect(),
            ..ChatMessage::new("assistant", "Let me look.")
        },
        result("toolu_1", "Rain"),
        result("toolu_2", "Error: no such city"),
        ChatMessage::new("user", "So?"),
    ];
    assert_eq!(prompt.messages, want);
    assert!(!prompt.continue_last);
    assert!(prompt.parallel_tool_calls);
}

#[tokio::test]
async fn an_assistants_last_message_is_gone_on_with() {
    let asked = json!({"role": "user", "content": "Best?"});
    let begun = json!({"role": "assistant", "content": "The best is ("});
    let begun = prompt(json!({"messages": [asked, begun]})).await;
    assert!(begun.continue_last);
    assert_eq!(
        begun.messages[1],
        ChatMessage::new("assistant", "The best is (")
    );
    for empty in [json!(""), json!([]), json!([{"type": "text", "text": ""}])] {
        let empty = json!({"role": "assistant", "content": empty});
        let prompt = prompt(json!({"messages": [asked, empty]})).await;
        assert!(!prompt.continue_last, "there is nothing to go on with");
        assert_eq!(prompt.messages.len(), 1);
    }
}

#[tokio::test]
async fn thinking_is_off_unless_asked_for() {
    for (thinking, want) in [
        (Value::Null, Some(false)),
        (json!({"type": "disabled"}), Some(false)),
        (json!({"type": "adaptive"}), None),
        (json!({"type": "enabled", "budget_tokens": 15}), Some(true)),
    ] {
        assert_eq!(prompt(json!({"thinking": thinking})).await.thinking, want);
    }
}

#[tokio::test]
async fn tokens_are_counted_without_a_length() {
    let backend = Scripted::new([]);
    let mut body = ask();
    body.as_object_mut().unwrap().remove("max_tokens");
    let (status, answer) = backend.post("/v1/messages/count_tokens", &body).await;
    assert_eq!((status.as_u16(), &*answer), (200, r#"{"input_tokens":11}"#));
    body["model"] = "other".into();
    let (status, answer) = backend.post("/v1/messages/count_tokens", &body).await;
    assert_eq!(status, 404);
    assert!(answer.contains("not_found_error"), "{answer}");
}

/// Wrong fields, and the place that the answer names.
fn wrong() -> Vec<(Value, &'static str)> {
    let user = |content: Value| json!({"messages": [{"role": "user", "content": content}]});
    let assistant =
        |content: Value| json!({"messages": [{"role": "assistant", "content": content}]});
    let tool = |tool: Value| json!({"tools": [tool]});
    vec![
        (json!({"model": null}), "model"),
        (json!({"model": 7}), "model"),
        (json!({"max_tokens": null}), "max_tokens"),
        (json!({"max_tokens": 0}), "max_tokens"),
        (json!({"max_tokens": -1}), "max_tokens"),
        (json!({"max_tokens": 1.5}), "max_tokens"),
        (json!({"messages": null}), "messages"),
        (json!({"messages": []}), "messages"),
        (json!({"messages": "Hello"}), "messages"),
        (
            json!({"messages": [{"role": "tool", "content": ""}]}),
            "messages[0].role",
        ),
        (json!({"messages": [{"role": "user"}]}), "messages[0]"),
        (user(json!(7)), "messages[0].content"),
        (user(json!([])), "messages"),
        (user(json!([["text", "a"]])), "messages[0].content[0]"),
        (json!({"messages": [["user", "a"]]}), "messages[0]"),
        (json!({"output_config": ["low"]}), "output_config"),
        (
            tool(json!({"name": "f", "input_schema": {"type": "string"}})),
            "tools[0].input_schema",
        ),
        (user(json!([{"text": "a"}])), "messages[0].content[0]"),
        (
            user(json!([{"type": "text"}])),
            "messages[0].content[0].text",
        ),
        (
            user(json!([{"type": "text", "text": 1}])),
            "messages[0].content[0].text",
        ),
        (
            user(json!([{"type": "image", "source": {}}])),
            "messages[0].content[0]",
        ),
        (
            user(json!([{"type": "document", "source": {}}])),
            "messages[0].content[0]",
        ),
        (
            user(json!([{"type": "tool_use", "id": "a", "name": "f", "input": {}}])),
            "messages[0].content[0]",
        ),
        (
            user(json!([{"type": "tool_result"}])),
            "messages[0].content[0].tool_use_id",
        ),
        (
            user(json!([{"type": "tool_result", "tool_use_id": "t"}])),
            "messages[0].content[0].tool_use_id",
        ),
        (
            assistant(json!([{"type": "tool_use", "id": "a", "name": "f", "input": {}}])),
            "messages[0].content",
        ),
        (
            assistant(json!([{"type": "tool_use", "id": "a", "name": "f", "input": "{}"}])),
            "messages[0].content[0].input",
        ),
        (
            assistant(json!([{"type": "tool_use", "name": "f", "input": {}}])),
            "messages[0].content[0].id",
        ),
        (
            assistant(json!([{"type": "server_tool_use", "id": "a"}])),
            "messages[0].content[0]",
        ),
        (json!({"system": [{"type": "image"}]}), "system[0]"),
        (json!({"system": 1}), "system"),
        (json!({"stop_sequences": ["a", ""]}), "stop_sequences[1]"),
        (json!({"stop_sequences": vec!["a"; 65]}), "stop_sequences"),
        (json!({"temperature": 1.1}), "temperature"),
        (json!({"temperature": "hot"}), "temperature"),
        (json!({"top_p": -0.1}), "top_p"),
        (json!({"top_k": -1}), "top_k"),
        (
            tool(json!({"type": "web_search_20250305", "name": "web_search"})),
            "tools[0]",
        ),
        (
            tool(json!({"name": "a b", "input_schema": {}})),
            "tools[0].name",
        ),
        (tool(json!({"input_schema": {}})), "tools[0].name"),
        (tool(json!({"name": "f"})), "tools[0].input_schema"),
        (
            tool(json!({"name": "f", "input_schema": []})),
            "tools[0].input_schema",
        ),
        (
            json!({"tools": [{"name": "f", "input_schema": {}}, {"name": "f", "input_schema": {}}]}),
            "tools[1].name",
        ),
        (json!({"tool_choice": {"type": "any"}}), "tool_choice"),
        (json!({"tool_choice": {"type": "tool"}}), "tool_choice.name"),
        (
            json!({"tool_choice": {"type": "tool", "name": "g"}, "tools": tools()}),
            "tool_choice.name",
        ),
        (json!({"tool_choice": {"type": "some"}}), "tool_choice.type"),
        (json!({"thinking": {"type": "hard"}}), "thinking.type"),
        (
            json!({"thinking": {"type": "enabled"}}),
            "thinking.budget_tokens",
        ),
        (
            json!({"thinking": {"type": "enabled", "budget_tokens": 16}}),
            "thinking.budget_tokens",
        ),
        (
            json!({"thinking": {"type": "adaptive", "display": "loud"}}),
            "thinking.display",
        ),
        (
            json!({"output_config": {"effort": "huge"}}),
            "output_config.effort",
        ),
        (
            json!({"output_config": {"format": {"type": "xml"}}}),
            "output_config.format.type",
        ),
        (
            json!({"output_format": {"type": "json_schema"}}),
            "output_format.schema",
        ),
        (json!({"stream": "yes"}), "stream"),
        (json!({"mcp_servers": [{"url": "x"}]}), "mcp_servers"),
        (json!({"container": "c"}), "container"),
    ]
}

#[tokio::test]
async fn wrong_requests_name_the_field() {
    let backend = Scripted::new([]);
    for (fields, place) in wrong() {
        let (status, body) = backend.post("/v1/messages", &with(&fields)).await;
        assert_eq!(status, 400, "{fields}: {body}");
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["error"]["type"], "invalid_request_error");
        let message = body["error"]["message"].as_str().unwrap();
        assert!(message.contains(place), "{fields}: {message}");
    }
}

#[tokio::test]
async fn bodies_that_are_no_requests_are_refused() {
    let backend = Scripted::new([]);
    let deep = "[".repeat(100_000);
    let deep_blocks = format!(
        r#"{{"messages":[{{"role":"user","content":{}"#,
        r#"[{"type":"tool_result","content":"#.repeat(10_000)
    );
    for body in ["", "null", "[]", "{", "\"a\"", &deep, &deep_blocks] {
        let (status, answer) = backend
            .request("POST", "/v1/messages", body.to_owned())
            .await;
        assert_eq!(status, 400, "{}", &body[..body.len().min(40)]);
        assert!(answer.contains("invalid_request_error"), "{answer}");
    }
}
