//! From bodies to jobs and back.

use serde_json::{Value, json};

use crate::ApiError;
use crate::job::{Delta, Event, FinishReason, Part, Prompt, TokenLogprob};
use crate::testing::{Script, Scripted, says};

const PATH: &str = "/v1/completions";

/// A body or a stream without what differs from run to run.
fn redacted(body: &str) -> String {
    let mut lines: Vec<_> = body.lines().map(str::to_owned).collect();
    for line in &mut lines {
        if let (Some(id), Some(created)) = (line.find("\"cmpl-"), line.find("\"created\":")) {
            let digits = created + "\"created\":".len();
            line.replace_range(digits..digits + 10, "0");
            line.replace_range(id + 1..id + 1 + "cmpl-".len() + 24, "<cmpl>");
        }
    }
    lines.join("\n")
}

async fn answered(scripts: impl IntoIterator<Item = Script>, body: Value) -> String {
    let (status, body) = Scripted::new(scripts).post(PATH, &body).await;
    assert_eq!(status, 200, "{body}");
    redacted(&body)
}

fn saying(texts: &[&str]) -> Script {
    let parts: Vec<_> = texts
        .iter()
        .map(|&text| Part::Content(text.to_owned()))
        .collect();
    says(&parts, FinishReason::EndOfText)
}

/// Two tokens that make one character, and a third.
fn with_logprobs() -> Script {
    let token = |bytes: &[u8]| TokenLogprob {
        id: 7,
        bytes: bytes.to_vec(),
        logprob: -0.5,
        top: Vec::new(),
    };
    let delta = |text: &str, tokens: Vec<TokenLogprob>| {
        Ok(Event::Delta(Delta {
            parts: match text {
                "" => Vec::new(),
                text => vec![Part::Content(text.to_owned())],
            },
            tokens: tokens
                .into_iter()
                .map(|it| TokenLogprob {
                    top: vec![it.clone()],
                    ..it
                })
                .collect(),
            ..Delta::default()
        }))
    };
    let mut script = says(&[], FinishReason::Length)?;
    script.insert(1, delta("", vec![token(b"\xc3")]));
    script.insert(2, delta("\u{e9}t", vec![token(b"\xa9"), token(b"t")]));
    script.insert(3, delta("!", vec![token(b"!")]));
    Ok(script)
}

#[tokio::test]
async fn an_answer() {
    let backend = Scripted::new([saying(&[" a", " time"])]);
    let (_, body) = backend
        .post(PATH, &json!({"model": "tiny", "prompt": "Once upon"}))
        .await;
    insta::assert_snapshot!(redacted(&body));
    let job = backend.last_job();
    assert_eq!(job.prompt, Prompt::Text("Once upon".to_owned()));
    assert_eq!(
        (job.max_tokens, job.n, job.top_logprobs),
        (Some(16), 1, None)
    );
}

#[tokio::test]
async fn a_stream() {
    let body = json!({
        "model": "tiny", "prompt": "Once", "stream": true, "echo": true,
        "stream_options": {"include_usage": true},
    });
    insta::assert_snapshot!(answered([saying(&[" upon", " a"])], body).await);
}

#[tokio::test]
async fn logprobs_in_columns() {
    let body = json!({"model": "tiny", "prompt": "", "logprobs": 1});
    let body: Value = serde_json::from_str(&answered([with_logprobs()], body).await).unwrap();
    insta::assert_snapshot!(body["choices"][0].to_string());
    let body = json!({"model": "tiny", "prompt": "", "logprobs": 0, "stream": true});
    let stream = answered([with_logprobs()], body).await;
    for offsets in ["[0]", "[1,1]", "[2]"] {
        assert!(
            stream.contains(&format!(r#""text_offset":{offsets}"#)),
            "{stream}"
        );
    }
    assert_eq!(stream.matches(r#""top_logprobs":null"#).count(), 3);
}

#[tokio::test]
async fn each_prompt_has_its_answers() {
    let scripts = || [saying(&["1"]), saying(&["2"])];
    let body = json!({"model": "tiny", "prompt": ["a", "b"], "echo": true});
    let body: Value = serde_json::from_str(&answered(scripts(), body).await).unwrap();
    assert_eq!(body["choices"][0]["text"], "a1");
    assert_eq!(body["choices"][1]["text"], "b2");
    assert_eq!(body["choices"][1]["index"], 1);
    assert_eq!(body["usage"]["total_tokens"], 24);
    let body = json!({"model": "tiny", "prompt": [[1], [2]], "stream": true});
    let stream = answered(scripts(), body).await;
    assert!(stream.contains(r#""index":1,"text":"2""#), "{stream}");
    assert_eq!(stream.matches("[DONE]").count(), 1);
    assert_eq!(stream.matches(r#""finish_reason":"stop""#).count(), 2);
}

#[tokio::test]
async fn one_refusal_refuses_all() {
    let scripts = [saying(&["1"]), Err(ApiError::invalid("too long"))];
    let body = json!({"model": "tiny", "prompt": ["a", "b"], "stream": true});
    let (status, body) = Scripted::new(scripts).post(PATH, &body).await;
    assert_eq!(status, 400);
    assert!(body.contains("too long"), "{body}");
}

#[tokio::test]
async fn wrong_values_name_the_field() {
    for (name, fields) in [
        ("prompt", json!({})),
        ("prompt", json!({"prompt": null})),
        ("prompt", json!({"prompt": 5})),
        ("prompt", json!({"prompt": []})),
        ("prompt", json!({"prompt": vec!["a"; 65]})),
        ("prompt", json!({"prompt": vec!["a"; 5], "n": 16})),
        ("prompt[1]", json!({"prompt": ["a", true]})),
        ("prompt[0][1]", json!({"prompt": [[1, "a"]]})),
        ("max_tokens", json!({"prompt": "a", "max_tokens": 0})),
        ("logprobs", json!({"prompt": "a", "logprobs": 6})),
        ("logprobs", json!({"prompt": "a", "logprobs": true})),
        ("best_of", json!({"prompt": "a", "best_of": 2})),
        ("suffix", json!({"prompt": "a", "suffix": "b"})),
        ("echo", json!({"prompt": [1], "echo": true})),
        ("echo", json!({"prompt": "a", "echo": true, "logprobs": 1})),
        ("temperature", json!({"prompt": "a", "temperature": 3})),
    ] {
        let mut body = json!({"model": "tiny"});
        body.as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        let (status, answer) = Scripted::new([]).post(PATH, &body).await;
        let answer: Value = serde_json::from_str(&answer).unwrap();
        let error = &answer["error"];
        assert_eq!(
            (status.as_u16(), &error["param"]),
            (400, &json!(name)),
            "{body}: {error}"
        );
    }
    let body = json!({"model": "tiny", "prompt": "a", "suffix": "", "best_of": 2, "n": 2});
    answered([saying(&[])], body).await;
}
