//! Our own routes, through all layers.

use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use futures_util::FutureExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;
use troika_scheduler::{Cause, Class, Decision, DeviceId, Goal, JobId, Time};

use super::*;
use crate::Settings;
use crate::backend::Placement;
use crate::keys::{KeyFile, NewKey, Scope};
use crate::testing::{Scripted, send};

fn scheduled() -> Arc<Scripted> {
    let backend = Scripted::new([]);
    *backend.policy.lock().unwrap() = Some(Policy::default());
    backend
}

async fn ask(backend: &Arc<Scripted>, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let (status, _, body) = send(&backend.app(), method, path, &[], body).await;
    (status, serde_json::from_str(&body).expect("JSON"))
}

#[tokio::test]
async fn the_state_is_told() {
    let (status, state) = ask(&scheduled(), "GET", "/api/troika/state", &json!({})).await;
    assert_eq!(status, 200);
    assert_eq!(state["policy"], "balanced");
    assert_eq!(state["devices"][1]["name"], "gpu0");
}

#[tokio::test]
async fn the_policy_is_set_by_any_of_its_names() {
    let backend = scheduled();
    for (name, told) in [
        ("frugal", "frugal"),
        ("PREFER_NPU", "PREFER_NPU"),
        ("max_efficiency", "frugal"),
        ("Battery", "battery"),
    ] {
        let wanted = json!({"policy": name});
        let (status, body) = ask(&backend, "PUT", "/api/troika/policy", &wanted).await;
        assert_eq!((status, &body["policy"]), (200, &json!(told)), "{name}");
        let (_, body) = ask(&backend, "GET", "/api/troika/policy", &json!({})).await;
        assert_eq!(body["policy"], told);
        assert!(
            body["known"]
                .as_array()
                .unwrap()
                .contains(&json!("MIN_OVERALL_POWER"))
        );
    }
    for wrong in [
        json!({"policy": "turbo"}),
        json!({"policy": 3}),
        json!({"policy": null}),
        json!({}),
        json!([]),
        json!("frugal"),
    ] {
        let (status, body) = ask(&backend, "PUT", "/api/troika/policy", &wrong).await;
        assert_eq!(status, 400, "{wrong}: {body}");
    }
    let turbo = json!({"policy": "turbo"});
    let (_, body) = ask(&backend, "PUT", "/api/troika/policy", &turbo).await;
    let message = body["error"]["message"].as_str().unwrap();
    assert!(
        message.contains("balanced, cool") && message.contains("PREFER_NPU"),
        "{message}"
    );
    assert_eq!(
        *backend.policy.lock().unwrap(),
        Some(Policy::of(Goal::Battery))
    );
    let (status, body) = ask(&backend, "POST", "/api/troika/policy", &json!({})).await;
    assert_eq!(status, 405, "{body}");
}

#[tokio::test]
async fn where_nothing_is_scheduled_there_is_nothing_to_tell() {
    let backend = Scripted::new([]);
    for (method, path) in [
        ("GET", "/api/troika/state"),
        ("GET", "/api/troika/events"),
        ("GET", "/api/troika/placements/req_1"),
        ("GET", "/api/troika/policy"),
        ("PUT", "/api/troika/policy"),
    ] {
        let (status, body) = ask(&backend, method, path, &json!({"policy": "cool"})).await;
        assert_eq!(status, 404, "{path}: {body}");
        let message = body["error"]["message"].as_str().unwrap();
        assert!(message.contains("schedules nothing"), "{path}: {message}");
    }
}

fn placement() -> Placement {
    Placement {
        model: "tiny".to_owned(),
        devices: vec!["cpu0".to_owned(), "gpu0".to_owned()],
        decisions: vec![Decision {
            job: JobId(4),
            at: Time::default(),
            class: Class::Agent,
            policy: Policy::default(),
            cause: Cause::Spill,
            prefill: DeviceId(1),
            decode: DeviceId(0),
            candidates: Vec::new(),
        }],
        account: None,
    }
}

#[tokio::test]
async fn placements_are_found_by_the_requests_number() {
    let backend = scheduled();
    let known = "mine/7.a";
    backend
        .placed
        .lock()
        .unwrap()
        .insert(known.to_owned(), vec![placement()]);
    let path = format!("/api/troika/placements/{known}");
    let (status, body) = ask(&backend, "GET", &path, &json!({})).await;
    assert_eq!(status, 200);
    assert_eq!(body[0]["decisions"][0]["cause"], "spill");
    let (status, body) = ask(&backend, "GET", "/api/troika/placements/other", &json!({})).await;
    assert_eq!(status, 404);
    assert!(
        body["error"]["message"]
            .as_str()
            .unwrap()
            .contains("`other`")
    );
}

#[tokio::test]
async fn the_policy_is_the_administrators() {
    let home = tempfile::tempdir().unwrap();
    let settings = Settings::at(home.path());
    let add = |name: &str, scope| {
        let new = NewKey {
            name: name.to_owned(),
            scopes: vec![scope],
            ..NewKey::default()
        };
        KeyFile::at(&settings.keys_file).add(new).unwrap()
    };
    let (user, admin) = (add("user", Scope::Inference), add("root", Scope::Admin));
    let backend = scheduled();
    let app = backend.app_with(&settings, &Drain::default());
    let cool = json!({"policy": "cool"});
    for (method, path, key, want) in [
        ("PUT", "/api/troika/policy", &*user, 403),
        ("PUT", "/api/troika/policy/", &*user, 403),
        ("PUT", "/api/troika/policy", "", 401),
        ("PUT", "/api/troika/policy", &*admin, 200),
        ("GET", "/api/troika/policy", &*user, 200),
        ("GET", "/api/troika/state", &*user, 200),
        ("GET", "/api/troika/state", "", 401),
    ] {
        let key = [("x-api-key", key)];
        let key = if key[0].1.is_empty() { &key[..0] } else { &key };
        let (status, ..) = send(&app, method, path, key, &cool).await;
        assert_eq!(status, want, "{method} {path}");
    }
    let foreign = [("x-api-key", &*admin), ("origin", "https://evil.example")];
    let (status, ..) = send(&app, "PUT", "/api/troika/policy", &foreign, &cool).await;
    assert_eq!(status, 403, "pages of other sites set nothing");
}

#[tokio::test(start_paused = true)]
async fn the_state_is_told_twice_a_second_until_the_server_goes_down() {
    let backend = scheduled();
    let drain = Drain::default();
    let settings = Settings {
        keys_file: "/nowhere/keys.toml".into(),
        ..Settings::default()
    };
    let app = backend.app_with(&settings, &drain);
    let request = Request::get("/api/troika/events")
        .body(Body::empty())
        .unwrap();
    let response = app.oneshot(request).await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut body = response.into_body().into_data_stream();
    let begun = tokio::time::Instant::now();
    for _ in 0..5 {
        let event = body.next().await.unwrap().unwrap();
        let text = std::str::from_utf8(&event).unwrap();
        let data = text.strip_prefix("event: state\ndata: ").expect(text);
        let state: Value = serde_json::from_str(data.trim_end()).unwrap();
        assert_eq!(state["policy"], "balanced");
    }
    assert_eq!(begun.elapsed().as_millis(), 2000);
    assert!(
        body.next().now_or_never().is_none(),
        "it is not told more often"
    );
    drain.begin();
    assert!(body.next().await.is_none());
}
