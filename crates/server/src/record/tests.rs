//! What a server writes down of the jobs that it did.

use serde_json::{Value, json};

use crate::job::{FinishReason, Part};
use crate::keys::{KeyFile, NewKey, Scope};
use crate::testing::{Scripted, says, send};
use crate::{ApiError, Drain, Settings};

/// A word that must not be found in a record.
const CANARY: &str = "xylophone-canary";

#[tokio::test]
async fn jobs_are_written_down_and_not_what_was_said() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("load.jsonl");
    let settings = Settings {
        record: Some(path.clone()),
        ..Settings::at(home.path())
    };
    let new = NewKey {
        name: CANARY.to_owned(),
        scopes: vec![Scope::Inference],
        ..NewKey::default()
    };
    let key = KeyFile::at(&settings.keys_file).add(new).unwrap();
    let part = || Part::Content(CANARY.to_owned());
    let full = || {
        let retry_after = std::time::Duration::from_secs(1);
        let kind = crate::ErrorKind::Overloaded { retry_after };
        ApiError::new(kind, "full")
    };
    let backend = Scripted::new([
        says(&[part(), part(), part()], FinishReason::EndOfText),
        Err(full()),
        Ok(vec![Err(full())]),
    ]);
    let app = backend.app_with(&settings, &Drain::default());
    let headers = [
        ("x-api-key", &*key),
        ("x-troika-class", "agent"),
        ("x-troika-deadline-ms", "2500"),
        ("x-request-id", CANARY),
    ];
    let chat = json!({"model": "tiny", "messages": [{"role": "user", "content": CANARY}], "max_tokens": 9});
    for want in [200, 429, 429] {
        let (status, ..) = send(&app, "POST", "/v1/messages", &headers, &chat).await;
        assert_eq!(status, want);
    }
    let embed = json!({"model": "tiny", "input": [CANARY, "b"]});
    send(&app, "POST", "/v1/embeddings", &headers[..1], &embed).await;

    let text = std::fs::read_to_string(&path).unwrap();
    assert!(!text.contains(CANARY), "{text}");
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    insta::assert_snapshot!(untimed(&lines));

    // Another server's record does not take its place.
    let _again = Scripted::new([]).app_with(&settings, &Drain::default());
    let kept = home.path().join("load.jsonl.1");
    assert_eq!(std::fs::read_to_string(kept).unwrap(), text);
    assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 1);
}

/// The lines without the times of arrival, which differ.
fn untimed(lines: &[Value]) -> String {
    let untimed = lines.iter().map(|line| {
        let mut line = line.clone();
        if let Some(at) = line.get_mut("at_s") {
            *at = json!("...");
        }
        line.to_string()
    });
    untimed.collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn a_client_that_leaves_is_written_down_as_such() {
    use axum::body::Body;
    use tower::ServiceExt as _;
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("load.jsonl");
    let settings = Settings {
        record: Some(path.clone()),
        ..Settings::at(home.path())
    };
    let part = Part::Content("a".to_owned());
    let mut script = says(&[part], FinishReason::EndOfText).unwrap();
    script.truncate(2);
    let backend = Scripted::new([Ok(script)]);
    backend.hold();
    let app = backend.app_with(&settings, &Drain::default());
    let body = json!({"model": "tiny", "prompt": "a", "stream": true});
    let request = axum::http::Request::post("/v1/completions");
    let request = request.body(Body::from(body.to_string())).unwrap();
    drop(app.oneshot(request).await.unwrap());
    let text = std::fs::read_to_string(&path).unwrap();
    let line: Value = serde_json::from_str(text.lines().nth(1).expect(&text)).unwrap();
    assert!(line.to_string().contains("leaves"), "{line}");
}

#[test]
fn a_record_that_cannot_be_written_is_an_error() {
    let error = super::Recorder::create(std::path::Path::new("/nowhere/at/all.jsonl")).err();
    let message = error.expect("no such directory").to_string();
    assert!(message.contains("all.jsonl"), "{message}");
}
