//! The routes over a scripted backend.

use std::sync::Arc;

use serde_json::{Value, json};
use troika_engine::chat::{Content, FunctionCall, ToolCall};

use crate::job::{
    ChatPrompt, Delta, Event, FinishReason, Format, Job, Overflow, Part, Prompt, Sampling, Started,
    TokenLogprob, Usage,
};
use crate::testing::{Script, Scripted, says};
use crate::{ApiError, ErrorKind};

mod library;

fn content(text: &str) -> Part {
    Part::Content(text.to_owned())
}

fn hello() -> Script {
    says(&[content("Hel"), content("lo")], FinishReason::EndOfText)
}

/// An answer's lines, less what differs from run to run.
fn lines(body: &str) -> String {
    let line = |line: &str| {
        let mut line: Value = serde_json::from_str(line).expect(line);
        for (name, want) in [("created_at", "string"), ("total_duration", "number")] {
            if let Some(value) = line.get_mut(name) {
                let is = if value.is_string() {
                    "string"
                } else {
                    "number"
                };
                assert_eq!(is, want, "{name}");
                *value = "[redacted]".into();
            }
        }
        line.to_string()
    };
    body.lines().map(line).collect::<Vec<_>>().join("\n")
}

async fn answers(script: Script, path: &str, body: Value) -> (String, Job) {
    let backend = Scripted::new([script]);
    let (status, answer) = backend.post(path, &body).await;
    assert_eq!(status, 200, "{answer}");
    (lines(&answer), backend.last_job())
}

async fn refuses(path: &str, body: Value) -> (u16, String) {
    let (status, answer) = Scripted::new([]).post(path, &body).await;
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    assert_eq!(
        answer.as_object().map(serde_json::Map::len),
        Some(1),
        "{answer}"
    );
    let error = answer["error"].as_str().expect("text").to_owned();
    (status.as_u16(), error)
}

fn chat_of(job: Job) -> ChatPrompt {
    match job.prompt {
        Prompt::Chat(chat) => *chat,
        other => panic!("no conversation: {other:?}"),
    }
}

#[tokio::test]
async fn generate_streams_lines() {
    let body = json!({"model": "tiny", "prompt": "Say hello"});
    let (answer, job) = answers(hello(), "/api/generate", body).await;
    insta::assert_snapshot!(answer, @r#"
    {"model":"tiny","created_at":"[redacted]","response":"Hel","done":false}
    {"model":"tiny","created_at":"[redacted]","response":"lo","done":false}
    {"model":"tiny","created_at":"[redacted]","response":"","done":true,"done_reason":"stop","total_duration":"[redacted]","load_duration":0,"prompt_eval_count":11,"prompt_eval_duration":0,"eval_count":2,"eval_duration":0}
    "#);
    assert_eq!((job.n, job.overflow), (1, Overflow::Truncate));
    assert_eq!(job.sampling, Sampling::default());
    let chat = chat_of(job);
    assert_eq!(chat.messages.len(), 1);
    assert!(!chat.continue_last);
}

#[tokio::test]
async fn generate_answers_whole_if_asked() {
    let body = json!({
        "model": "tiny:latest", "prompt": "Say hello", "system": "Be brief", "stream": false, "think": "high",
        "format": {"type": "object"}, "keep_alive": "5m", "truncate": false,
        "options": {"temperature": 0, "num_predict": 5, "num_ctx": 128, "stop": ["x"], "seed": 3},
    });
    let script = says(
        &[Part::Reasoning("Hm.".to_owned()), content("Hello")],
        FinishReason::Length,
    );
    let (answer, job) = answers(script, "/api/generate", body).await;
    insta::assert_snapshot!(answer, @r#"{"model":"tiny:latest","created_at":"[redacted]","response":"Hello","thinking":"Hm.","done":true,"done_reason":"length","total_duration":"[redacted]","load_duration":0,"prompt_eval_count":11,"prompt_eval_duration":0,"eval_count":2,"eval_duration":0}"#);
    assert_eq!((job.max_tokens, job.n_ctx), (Some(5), Some(128)));
    assert_eq!(
        (job.sampling.temperature, job.sampling.seed),
        (Some(0.0), Some(3))
    );
    assert_eq!(job.stop, ["x"]);
    assert_eq!(job.format, Format::JsonSchema(json!({"type": "object"})));
    assert_eq!(job.overflow, Overflow::Refuse);
    assert!(job.keep_alive.is_some());
    let chat = chat_of(job);
    assert_eq!(
        (chat.thinking, chat.effort.as_deref()),
        (Some(true), Some("high"))
    );
    let roles: Vec<_> = chat.messages.iter().map(|turn| &*turn.role).collect();
    assert_eq!(roles, ["system", "user"]);
}

#[tokio::test]
async fn a_raw_prompt_is_taken_as_it_is() {
    let body = json!({"model": "tiny", "prompt": "<s>Once", "raw": true, "think": false, "format": "json"});
    let (_, job) = answers(hello(), "/api/generate", body).await;
    assert_eq!(job.prompt, Prompt::Rendered("<s>Once".to_owned()));
    assert_eq!(job.format, Format::JsonObject);
}

#[tokio::test]
async fn chat_streams_messages_thoughts_and_calls() {
    let call = ToolCall {
        id: Some("call_1".to_owned()),
        kind: "function".to_owned(),
        function: FunctionCall {
            name: "weather".to_owned(),
            arguments: json!(r#"{"city": "Oslo"}"#),
        },
    };
    let script = says(
        &[
            Part::Reasoning("Hm.".to_owned()),
            content("Let me see."),
            Part::ToolCall(call),
        ],
        FinishReason::ToolCalls,
    );
    let tool = json!({"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}});
    let body = json!({
        "model": "tiny",
        "think": true,
        "tools": [tool],
        "messages": [
            {"role": "system", "content": "Be brief"},
            {"role": "user", "content": "Weather?", "images": []},
            {"role": "assistant", "content": null, "thinking": "Well.",
             "tool_calls": [{"function": {"name": "weather", "arguments": {"city": "Rome"}}}]},
            {"role": "tool", "content": "warm", "tool_name": "weather"},
        ],
    });
    let (answer, job) = answers(script, "/api/chat", body).await;
    insta::assert_snapshot!(answer, @r#"
    {"model":"tiny","created_at":"[redacted]","message":{"role":"assistant","content":"","thinking":"Hm."},"done":false}
    {"model":"tiny","created_at":"[redacted]","message":{"role":"assistant","content":"Let me see."},"done":false}
    {"model":"tiny","created_at":"[redacted]","message":{"role":"assistant","content":"","tool_calls":[{"function":{"index":0,"name":"weather","arguments":{"city":"Oslo"}},"id":"call_1"}]},"done":false}
    {"model":"tiny","created_at":"[redacted]","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop","total_duration":"[redacted]","load_duration":0,"prompt_eval_count":11,"prompt_eval_duration":0,"eval_count":3,"eval_duration":0}
    "#);
    let chat = chat_of(job);
    assert_eq!(chat.tools, [tool]);
    assert_eq!(chat.thinking, Some(true));
    assert!(chat.parallel_tool_calls);
    let turn = &chat.messages[2];
    assert_eq!(turn.content, Content::default());
    assert_eq!(turn.reasoning_content.as_deref(), Some("Well."));
    assert_eq!(
        turn.tool_calls[0].function.arguments,
        json!({"city": "Rome"})
    );
    assert_eq!(chat.messages[3].name.as_deref(), Some("weather"));
}

#[tokio::test]
async fn an_assistants_last_turn_is_continued() {
    let body = json!({"model": "tiny", "stream": false, "messages": [
        {"role": "user", "content": "Count"}, {"role": "assistant", "content": "1, 2,"},
    ]});
    let (_, job) = answers(hello(), "/api/chat", body).await;
    assert!(chat_of(job).continue_last);
}

#[tokio::test]
async fn tokens_come_with_their_log_probabilities() {
    let token = |text: &str, logprob| TokenLogprob {
        id: 1,
        bytes: text.as_bytes().to_vec(),
        logprob,
        top: Vec::new(),
    };
    let script = Ok(vec![
        Ok(Event::Started(Started::default())),
        Ok(Event::Delta(Delta {
            parts: vec![content("Hi")],
            tokens: vec![TokenLogprob {
                top: vec![token("Hi", -0.5), token("Yo", f32::NEG_INFINITY)],
                ..token("Hi", -0.5)
            }],
            ..Delta::default()
        })),
        Ok(Event::Finished {
            choice: 0,
            finish: FinishReason::EndOfText,
        }),
        Ok(Event::Done(Usage::default())),
    ]);
    let body = json!({
        "model": "tiny", "stream": false, "logprobs": true, "top_logprobs": 2,
        "messages": [{"role": "user", "content": "Hi"}],
    });
    let (answer, job) = answers(script, "/api/chat", body).await;
    assert_eq!(job.top_logprobs, Some(2));
    let answer: Value = serde_json::from_str(&answer).unwrap();
    insta::assert_snapshot!(answer["logprobs"], @r#"[{"token":"Hi","logprob":-0.5,"bytes":[72,105],"top_logprobs":[{"token":"Hi","logprob":-0.5,"bytes":[72,105]},{"token":"Yo","logprob":-9999.0,"bytes":[89,111]}]}]"#);
}

#[tokio::test]
async fn a_request_without_a_prompt_loads_and_unloads() {
    let backend = Scripted::new([]);
    for (path, body) in [
        ("/api/generate", json!({"model": "tiny", "keep_alive": -1})),
        (
            "/api/chat",
            json!({"model": "tiny", "messages": [], "keep_alive": "0s"}),
        ),
    ] {
        let (status, answer) = backend.post(path, &body).await;
        assert_eq!(status, 200);
        assert_eq!(answer.lines().count(), 1, "{answer}");
        insta::allow_duplicates! {
            if path == "/api/chat" {
                insta::assert_snapshot!(lines(&answer), @r#"{"model":"tiny","created_at":"[redacted]","message":{"role":"assistant","content":""},"done":true,"done_reason":"unload"}"#);
            }
        }
    }
    let done = backend.done.lock().unwrap().clone();
    assert_eq!(done, ["load tiny Some(Forever)", "unload tiny"]);
    let (status, error) = refuses("/api/generate", json!({"model": "gone"})).await;
    assert_eq!((status, &*error), (404, "model 'gone' not found"));
}

#[tokio::test]
async fn an_error_in_mid_stream_is_the_last_line() {
    let broken = Ok(vec![
        Ok(Event::Started(Started::default())),
        Ok(Event::Delta(Delta {
            parts: vec![content("Hel")],
            ..Delta::default()
        })),
        Err(ApiError::new(ErrorKind::Internal, "the model is gone")),
    ]);
    let body = json!({"model": "tiny", "prompt": "x"});
    let (answer, _) = answers(broken, "/api/generate", body.clone()).await;
    let last = answer.lines().last();
    assert_eq!(last, Some(r#"{"error":"the model is gone"}"#), "{answer}");

    let failed = || Ok(vec![Err(ApiError::new(ErrorKind::Internal, "no memory"))]);
    for stream in [true, false] {
        let mut body = body.clone();
        body["stream"] = stream.into();
        let backend = Scripted::new([failed()]);
        let (status, answer) = backend.post("/api/generate", &body).await;
        assert_eq!(
            (status.as_u16(), &*answer),
            (500, r#"{"error":"no memory"}"#)
        );
    }
}

#[tokio::test]
async fn requests_for_text_that_make_no_sense_are_refused() {
    let turn = |role: &str| json!({"model": "tiny", "messages": [{"role": role, "content": "x"}]});
    let with = |name: &str, value: Value| {
        let mut body = json!({"model": "tiny", "prompt": "x"});
        body[name] = value;
        body
    };
    for (path, body, part) in [
        ("generate", json!({"prompt": "x"}), "model is required"),
        (
            "generate",
            json!({"model": "", "prompt": "x"}),
            "model is required",
        ),
        ("generate", json!({"model": 1}), "model"),
        ("generate", json!("x"), "not what was expected"),
        ("generate", with("stream", json!("yes")), "stream"),
        (
            "generate",
            with("format", json!("yaml")),
            "format: expected \"json\"",
        ),
        ("generate", with("format", json!(true)), "format"),
        ("generate", with("think", json!("much")), "think"),
        (
            "generate",
            with("keep_alive", json!("soon")),
            "keep_alive: \"soon\"",
        ),
        (
            "generate",
            with("options", json!({"num_ctx": -1})),
            "options.num_ctx",
        ),
        (
            "generate",
            with("options", json!({"top_k": "x"})),
            "options.top_k",
        ),
        ("generate", with("template", json!("{{ x }}")), "template"),
        ("generate", with("suffix", json!("x")), "suffix"),
        ("generate", with("images", json!(["aGk="])), "images"),
        ("generate", with("context", json!([1, 2])), "context"),
        ("generate", with("top_logprobs", json!(21)), "top_logprobs"),
        ("generate", with("top_logprobs", json!(-1)), "top_logprobs"),
        (
            "generate",
            json!({"model": "tiny", "prompt": "x", "raw": true, "system": "y"}),
            "system",
        ),
        (
            "chat",
            json!({"model": "tiny", "messages": "x"}),
            "messages",
        ),
        (
            "chat",
            json!({"model": "tiny", "messages": [{"content": "x"}]}),
            "messages[0]",
        ),
        ("chat", turn("king"), "messages[0].role"),
        (
            "chat",
            json!({"model": "tiny", "messages": [{"role": "user", "content": "x", "images": ["aGk="]}]}),
            "messages[0].images",
        ),
        (
            "chat",
            json!({"model": "tiny", "messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}]}),
            "messages[0].tool_calls[0].function.arguments",
        ),
        ("chat", json!(["tiny"]), "expected an object"),
        (
            "generate",
            with("options", json!([7])),
            "options: invalid type: sequence, expected an object",
        ),
        (
            "chat",
            json!({"model": "tiny", "messages": [["user", "x"]]}),
            "messages[0]",
        ),
        (
            "chat",
            json!({"model": "tiny", "messages": [{"role": "user"}], "tools": [{"function": {"name": "f", "parameters": {"type": 7}}}]}),
            "tools[0].function.parameters",
        ),
        (
            "chat",
            json!({"model": "tiny", "messages": [{"role": "user"}], "tools": [{}]}),
            "tools[0]",
        ),
    ] {
        let (status, error) = refuses(&format!("/api/{path}"), body.clone()).await;
        assert_eq!(status, 400, "{body}: {error}");
        assert!(error.contains(part), "{body}: {error}");
    }
    let unknown = json!({"model": "llama3", "messages": [{"role": "user", "content": "x"}]});
    let (status, error) = refuses("/api/chat", unknown).await;
    assert_eq!((status, &*error), (404, "model 'llama3' not found"));
}

#[tokio::test]
async fn bodies_that_are_no_json_are_refused() {
    let backend = Scripted::new([]);
    let deep = format!(
        r#"{{"model": "tiny", "prompt": "x", "format": {}"#,
        "{\"a\":".repeat(50_000)
    );
    for body in ["", "{", "null", "\u{0}", "{\"model\": \"tiny\"} x", &deep] {
        let (status, answer) = backend.request("POST", "/api/chat", body.to_owned()).await;
        assert_eq!(status, 400, "{answer}");
        assert!(answer.starts_with(r#"{"error":"#), "{answer}");
    }
}

#[tokio::test]
async fn texts_are_embedded() {
    let backend = Scripted::new([]);
    let embed = async |body: Value| {
        let (status, answer) = backend.post("/api/embed", &body).await;
        assert_eq!(status, 200, "{answer}");
        lines(&answer)
    };
    insta::assert_snapshot!(
        embed(json!({"model": "tiny", "input": ["a", "b"], "dimensions": 2, "keep_alive": "1m"})).await,
        @r#"{"model":"tiny","embeddings":[[0.6,0.0],[0.6,0.0]],"total_duration":"[redacted]","load_duration":0,"prompt_eval_count":4}"#
    );
    insta::assert_snapshot!(
        embed(json!({"model": "tiny", "input": ""})).await,
        @r#"{"model":"tiny","embeddings":[],"total_duration":"[redacted]","load_duration":0,"prompt_eval_count":0}"#
    );
    assert_eq!(*backend.done.lock().unwrap(), ["load tiny None"]);
    let (_, answer) = backend
        .post("/api/embeddings", &json!({"model": "tiny", "prompt": "a"}))
        .await;
    assert_eq!(answer, r#"{"embedding":[0.6,0.0,-0.8]}"#);

    for body in [
        json!({"input": "a"}),
        json!({"model": "tiny", "input": 1}),
        json!({"model": "tiny", "input": ["a", 1]}),
        json!({"model": "tiny", "input": vec!["a"; 2049]}),
        json!({"model": "tiny", "input": "a", "dimensions": -1}),
    ] {
        let (status, error) = refuses("/api/embed", body).await;
        assert_eq!(status, 400, "{error}");
    }
    let (status, error) = refuses("/api/embeddings", json!({"model": "x", "prompt": "a"})).await;
    assert_eq!((status, &*error), (404, "model 'x' not found"));
}

/// What every backend shares between tests of this file and of `library.rs`.
fn nothing_planned() -> Arc<Scripted> {
    Scripted::new([])
}
