//! What answers look like.

use serde_json::{Value, json};
use troika_engine::chat::{FunctionCall, ToolCall};

use crate::ApiError;
use crate::job::{Delta, Event, FinishReason, Part, Started, TokenLogprob, Usage};
use crate::testing::{Script, Scripted, says};

mod requests;

const PATH: &str = "/v1/chat/completions";

/// A request of one message, with further fields.
fn asks(fields: Value) -> Value {
    let mut body = json!({"model": "tiny", "messages": [{"role": "user", "content": "hi"}]});
    let fields = fields.as_object().unwrap().clone();
    body.as_object_mut().unwrap().extend(fields);
    body
}

/// A body or a stream without what differs from run to run.
fn redacted(body: &str) -> String {
    let mut lines: Vec<_> = body.lines().map(str::to_owned).collect();
    for line in &mut lines {
        if let Some(at) = line.find("\"chatcmpl-") {
            let id = at + 1..at + 1 + "chatcmpl-".len() + 24;
            line.replace_range(id, "<chatcmpl>");
        }
        if let Some(at) = line.find("\"created\":") {
            let digits = at + "\"created\":".len();
            line.replace_range(digits..digits + 10, "0");
        }
    }
    lines.join("\n")
}

async fn answered(script: Script, body: Value) -> String {
    let (status, body) = Scripted::new([script]).post(PATH, &body).await;
    assert_eq!(status, 200, "{body}");
    redacted(&body)
}

fn said(text: &str) -> Part {
    Part::Content(text.to_owned())
}

fn weather() -> Part {
    Part::ToolCall(ToolCall {
        id: Some("call_1".to_owned()),
        kind: "function".to_owned(),
        function: FunctionCall {
            name: "weather".to_owned(),
            arguments: r#"{"city":"Oslo"}"#.into(),
        },
    })
}

fn weather_tool() -> Value {
    json!({"type": "function", "function": {"name": "weather", "description": null, "parameters": {"type": "object"}}})
}

fn likely(text: &str, logprob: f32) -> TokenLogprob {
    TokenLogprob {
        id: 7,
        bytes: text.as_bytes().to_vec(),
        logprob,
        top: Vec::new(),
    }
}

/// One token, whose alternative is impossible.
fn with_logprobs() -> Script {
    let mut token = likely("ja", -0.5);
    token.top = vec![likely("ja", -0.5), likely("no", f32::NEG_INFINITY)];
    let mut script = says(&[], FinishReason::Length)?;
    let delta = Delta {
        parts: vec![said("ja")],
        tokens: vec![token],
        ..Delta::default()
    };
    script.insert(1, Ok(Event::Delta(delta)));
    Ok(script)
}

#[tokio::test]
async fn an_answer() {
    let script = says(&[said("Hello"), said("!")], FinishReason::EndOfText);
    insta::assert_snapshot!(answered(script, asks(json!({}))).await);
}

#[tokio::test]
async fn an_answer_that_thinks_and_calls() {
    let parts = [Part::Reasoning("Hm.".to_owned()), weather()];
    let script = says(&parts, FinishReason::ToolCalls);
    let body = answered(script, asks(json!({"tools": [weather_tool()]}))).await;
    insta::assert_snapshot!(body);
}

#[tokio::test]
async fn an_answer_in_the_old_form() {
    let script = says(&[weather()], FinishReason::ToolCalls);
    let body = asks(json!({"functions": [{"name": "weather"}], "stream": false}));
    insta::assert_snapshot!(answered(script, body).await);
}

#[tokio::test]
async fn an_answer_with_logprobs() {
    let body = asks(json!({"logprobs": true, "top_logprobs": 2}));
    insta::assert_snapshot!(answered(with_logprobs(), body).await);
}

#[tokio::test]
async fn a_stream() {
    let script = says(&[said("Hello"), said("!")], FinishReason::EndOfText);
    let body = asks(json!({"stream": true}));
    insta::assert_snapshot!(answered(script, body).await);
}

#[tokio::test]
async fn a_stream_that_thinks_and_calls_and_counts() {
    let parts = [Part::Reasoning("Hm.".to_owned()), weather(), weather()];
    let script = says(&parts, FinishReason::ToolCalls);
    let body = asks(json!({
        "tools": [weather_tool()], "stream": true, "stream_options": {"include_usage": true},
    }));
    insta::assert_snapshot!(answered(script, body).await);
}

#[tokio::test]
async fn a_stream_in_the_old_form() {
    let script = says(&[weather(), weather()], FinishReason::ToolCalls);
    let body = asks(json!({"functions": [{"name": "weather"}], "stream": true}));
    let stream = answered(script, body).await;
    assert_eq!(
        stream
            .matches(r#""function_call":{"name":"weather""#)
            .count(),
        1
    );
    assert!(stream.contains(r#""finish_reason":"function_call""#));
    assert!(!stream.contains("tool_calls"));
}

#[tokio::test]
async fn a_call_without_id_gets_one() {
    let Part::ToolCall(mut call) = weather() else {
        unreachable!()
    };
    call.id = None;
    call.function.arguments = json!({"city": "Oslo"});
    let script = says(&[Part::ToolCall(call)], FinishReason::ToolCalls);
    let body = answered(script, asks(json!({}))).await;
    let body: Value = serde_json::from_str(&body).unwrap();
    let call = &body["choices"][0]["message"]["tool_calls"][0];
    assert!(call["id"].as_str().unwrap().starts_with("call_"));
    assert_eq!(call["function"]["arguments"], r#"{"city":"Oslo"}"#);
}

#[tokio::test]
async fn a_stream_with_logprobs() {
    let body = asks(json!({"logprobs": true, "top_logprobs": 2, "stream": true}));
    insta::assert_snapshot!(answered(with_logprobs(), body).await);
}

#[tokio::test]
async fn two_answers_side_by_side() {
    let delta = |choice, text| {
        Ok(Event::Delta(Delta {
            choice,
            parts: vec![said(text)],
            ..Delta::default()
        }))
    };
    let finished = |choice| {
        let finish = FinishReason::StopString("x".to_owned());
        Ok(Event::Finished { choice, finish })
    };
    let script = || {
        let started = Ok(Event::Started(Started::default()));
        let done = Ok(Event::Done(Usage::default()));
        Ok(vec![
            started,
            delta(1, "b"),
            delta(0, "a"),
            finished(1),
            finished(0),
            done,
        ])
    };
    let body = answered(script(), asks(json!({"n": 2}))).await;
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["choices"][0]["message"]["content"], "a");
    assert_eq!(body["choices"][1]["message"]["content"], "b");
    let stream = answered(script(), asks(json!({"n": 2, "stream": true}))).await;
    assert_eq!(stream.matches("data: {").count(), 6);
    for index in 0..2 {
        let role = format!(r#""index":{index},"delta":{{"role":"assistant""#);
        assert_eq!(stream.matches(&role).count(), 1, "{stream}");
    }
}

#[tokio::test]
async fn errors_before_and_after_the_first_event() {
    let full = || ApiError::invalid("the prompt does not fit");
    for stream in [false, true] {
        let body = asks(json!({"stream": stream}));
        for script in [Err(full()), Ok(vec![Err(full())])] {
            let (status, body) = Scripted::new([script]).post(PATH, &body).await;
            assert_eq!(status, 400);
            assert!(body.contains("does not fit"), "{body}");
        }
    }
    let mut script = says(&[said("Hel")], FinishReason::EndOfText).unwrap();
    script.truncate(2);
    script.push(Err(ApiError::internal()));
    let stream = answered(Ok(script.clone()), asks(json!({"stream": true}))).await;
    insta::assert_snapshot!(stream);
    let (status, _) = Scripted::new([Ok(script)])
        .post(PATH, &asks(json!({})))
        .await;
    assert_eq!(status, 500);
}
