//! Wishes in, placements and reports out, in each interface.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::*;
use crate::job::{Event, FinishReason, Part, Placed};
use crate::keys::{KeyFile, NewKey, Scope};
use crate::testing::{Scripted, report, says_on, send};
use crate::{Drain, Settings};

/// A route that makes a job, a request for it, and where its answer has the report.
struct Door {
    path: &'static str,
    body: Value,
    report: &'static str,
    embeds: bool,
}

fn doors() -> [Door; 8] {
    let messages = json!([{"role": "user", "content": "a"}]);
    let chat = json!({"model": "tiny", "messages": messages, "max_tokens": 5, "stream": false});
    let text = json!({"model": "tiny", "prompt": "a", "stream": false});
    let input = json!({"model": "tiny", "input": "a"});
    let door = |path, body: &Value, report, embeds| Door {
        path,
        body: body.clone(),
        report,
        embeds,
    };
    [
        door("/v1/chat/completions", &chat, "/usage/troika", false),
        door("/v1/completions", &text, "/usage/troika", false),
        door("/v1/responses", &input, "/usage/troika", false),
        door("/v1/messages", &chat, "/usage/troika", false),
        door("/api/chat", &chat, "/troika", false),
        door("/api/generate", &text, "/troika", false),
        door("/v1/embeddings", &input, "/usage/troika", true),
        door("/api/embed", &input, "/troika", true),
    ]
}

/// A backend with devices and one script.
fn backend() -> Arc<Scripted> {
    let part = Part::Content("Hi".to_owned());
    let scripted = Scripted::new([says_on("gpu0", &[part], FinishReason::EndOfText)]);
    *scripted.policy.lock().unwrap() = Some(Default::default());
    *scripted.embed_report.lock().unwrap() = Some(report("cpu0"));
    scripted
}

fn wished(backend: &Scripted, door: &Door) -> Wishes {
    match door.embeds {
        true => backend.last_embed_job().wishes,
        false => backend.last_job().wishes,
    }
}

fn header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).map(|value| value.to_str().unwrap())
}

#[tokio::test]
async fn headers_reach_the_job_in_every_interface() {
    for door in doors() {
        let backend = backend();
        let headers = [
            ("x-troika-class", "agent"),
            ("x-troika-deadline-ms", "1500.5"),
            ("x-troika-device", "gpu0"),
            ("x-troika-privacy", "local-only"),
            ("x-request-id", "mine-7"),
        ];
        let (status, ..) = send(&backend.app(), "POST", door.path, &headers, &door.body).await;
        assert_eq!(status, 200, "{}", door.path);
        let want = Wishes {
            request_id: "mine-7".to_owned(),
            class: Some(Class::Agent),
            deadline: Some(Duration::from_micros(1_500_500)),
            device: Some("gpu0".to_owned()),
            local_only: true,
        };
        assert_eq!(wished(&backend, &door), want, "{}", door.path);
    }
}

#[tokio::test]
async fn a_wrong_header_is_refused_in_the_interfaces_words() {
    let cases = [
        (
            "X-Troika-Class",
            "urgent",
            "interactive, agent, background, batch",
        ),
        ("X-Troika-Class", "", "interactive, agent"),
        ("X-Troika-Deadline-Ms", "soon", "greater than 0"),
        ("X-Troika-Deadline-Ms", "0", "greater than 0"),
        ("X-Troika-Deadline-Ms", "-5", "greater than 0"),
        ("X-Troika-Deadline-Ms", "nan", "greater than 0"),
        ("X-Troika-Deadline-Ms", "1e400", "greater than 0"),
        ("X-Troika-Device", "tpu0", "known are cpu0, gpu0"),
    ];
    for door in doors() {
        for (name, value, part) in cases {
            let (status, _, body) = send(
                &backend().app(),
                "POST",
                door.path,
                &[(name, value)],
                &door.body,
            )
            .await;
            assert_eq!(status, 400, "{} {name}: {value}: {body}", door.path);
            let body: Value = serde_json::from_str(&body).unwrap();
            let error = &body["error"];
            let message = error["message"].as_str().or(error.as_str()).unwrap();
            assert!(message.contains(part), "{}: {message}", door.path);
            let named = match error.get("param") {
                Some(param) => param == name,
                None => message.contains(name),
            };
            assert!(named, "{}: {body}", door.path);
        }
        let twice = [("x-troika-class", "agent"), ("x-troika-class", "batch")];
        let app = backend().app();
        let (status, _, body) = send(&app, "POST", door.path, &twice, &door.body).await;
        assert_eq!(status, 400, "{}", door.path);
        assert!(body.contains("twice"), "{body}");
    }
}

#[tokio::test]
async fn labels_of_privacy_are_kept_and_never_refused() {
    let name = "x-troika-privacy";
    let cases: [(&[&str], bool); 9] = [
        (&[], false),
        (&["public"], false),
        (&["public", "public"], false),
        (&["local-only"], true),
        (&["secret"], true),
        (&[""], true),
        (&["Public"], true),
        (&["public, local-only"], true),
        (&["public", "local-only"], true),
    ];
    for door in doors() {
        for (labels, want) in cases {
            let backend = backend();
            let headers: Vec<_> = labels.iter().map(|label| (name, *label)).collect();
            let (status, ..) = send(&backend.app(), "POST", door.path, &headers, &door.body).await;
            assert_eq!(status, 200, "{} {labels:?}", door.path);
            assert_eq!(
                wished(&backend, &door).local_only,
                want,
                "{} {labels:?}",
                door.path
            );
        }
    }
    let mut headers = HeaderMap::new();
    headers.insert(name, HeaderValue::from_bytes(b"public\xff").unwrap());
    assert!(of_headers(&headers).unwrap().local_only, "it is no text");
}

/// A conversation that is kept keeps its label: what comes later, and goes back to it, has the same words in it.
#[tokio::test]
async fn a_label_holds_for_what_follows() {
    let part = || Part::Content("Hi".to_owned());
    let script = || says_on("gpu0", &[part()], FinishReason::EndOfText);
    let backend = Scripted::new(std::iter::repeat_with(script).take(6));
    let app = backend.app();
    let label = [("x-troika-privacy", "local-only")];
    let ask = async |headers: &[(&str, &str)], body: Value| {
        let (status, _, body) = send(&app, "POST", "/v1/responses", headers, &body).await;
        assert_eq!(status, 200, "{body}");
        let body: Value = serde_json::from_str(&body).unwrap();
        (body, backend.last_job().wishes.local_only)
    };
    let (free, stays) = ask(&[], json!({"model": "tiny", "input": "a"})).await;
    assert!(!stays);
    let then =
        |body: &Value| json!({"model": "tiny", "input": "b", "previous_response_id": body["id"]});
    let (kept, stays) = ask(&label, then(&free)).await;
    assert!(stays);
    let (later, stays) = ask(&[("x-troika-privacy", "public")], then(&kept)).await;
    assert!(stays, "it goes on from what was private");
    assert!(ask(&[], then(&later)).await.1);
    let reference = json!({"type": "item_reference", "id": kept["output"][0]["id"]});
    let input = json!([reference, {"role": "user", "content": "c"}]);
    assert!(
        ask(&[], json!({"model": "tiny", "input": input})).await.1,
        "it quotes what was private"
    );
    assert!(!ask(&[], then(&free)).await.1, "and this does not");
}

#[tokio::test]
async fn without_devices_none_can_be_chosen() {
    let backend = backend();
    *backend.policy.lock().unwrap() = None;
    let [door, ..] = doors();
    let device = [("x-troika-device", "cpu0")];
    let (status, _, body) = send(&backend.app(), "POST", door.path, &device, &door.body).await;
    assert_eq!(status, 400);
    assert!(body.contains("no choice of devices"), "{body}");
}

/// `None` where the interface has no such field.
fn with_field(door: &Door, field: &str, value: &Value) -> Option<Value> {
    let mut body = door.body.clone();
    body[field] = value.clone();
    (!door.path.starts_with("/api/")).then_some(body)
}

#[tokio::test]
async fn bodies_say_how_urgent_they_are() {
    for door in doors() {
        for (field, value, want) in [
            ("service_tier", json!("flex"), Class::Background),
            ("service_tier", json!("auto"), Class::Interactive),
            ("service_tier", json!("standard_only"), Class::Interactive),
            ("service_tier", Value::Null, Class::Interactive),
            ("priority", json!(5), Class::Background),
            ("priority", json!(100.0), Class::Batch),
            ("priority", json!(0), Class::Interactive),
        ] {
            let Some(body) = with_field(&door, field, &value) else {
                continue;
            };
            let backend = backend();
            let (status, ..) = send(&backend.app(), "POST", door.path, &[], &body).await;
            assert_eq!(status, 200, "{} {field}: {value}", door.path);
            let class = wished(&backend, &door).class;
            assert_eq!(class, Some(want), "{} {field}: {value}", door.path);
        }
        for (field, value) in [
            ("service_tier", json!("gold")),
            ("service_tier", json!(1)),
            ("priority", json!("high")),
            ("priority", json!(0.5)),
        ] {
            let Some(body) = with_field(&door, field, &value) else {
                continue;
            };
            let app = backend().app();
            let (status, _, answer) = send(&app, "POST", door.path, &[], &body).await;
            assert_eq!(status, 400, "{} {field}: {value}: {answer}", door.path);
            assert!(answer.contains(field), "{}: {answer}", door.path);
        }
    }
}

#[tokio::test]
async fn header_goes_before_body_before_key_before_endpoint() {
    let home = tempfile::tempdir().unwrap();
    let settings = Settings::at(home.path());
    let new = |name: &str, default_class| NewKey {
        name: name.to_owned(),
        scopes: vec![Scope::Inference],
        default_class,
        ..NewKey::default()
    };
    let file = KeyFile::at(&settings.keys_file);
    let plain = file.add(new("plain", None)).unwrap();
    let batch = file.add(new("batch", Some(Class::Batch))).unwrap();
    let [door, ..] = doors();
    let class_of = async |key: &str, tier: Option<&str>, class: Option<&str>| {
        let backend = backend();
        let app = backend.app_with(&settings, &Drain::default());
        let mut headers = vec![("x-api-key", key)];
        headers.extend(class.map(|class| ("x-troika-class", class)));
        let body = with_field(&door, "service_tier", &json!(tier)).unwrap();
        let (status, ..) = send(&app, "POST", door.path, &headers, &body).await;
        assert_eq!(status, 200);
        wished(&backend, &door).class.unwrap()
    };
    for (key, tier, class, want) in [
        (&plain, None, None, Class::Interactive),
        (&batch, None, None, Class::Batch),
        (&batch, Some("flex"), None, Class::Background),
        (&batch, Some("flex"), Some("agent"), Class::Agent),
        (&batch, None, Some("interactive"), Class::Interactive),
    ] {
        assert_eq!(class_of(key, tier, class).await, want, "{tier:?} {class:?}");
    }
}

#[tokio::test]
async fn many_texts_are_background() {
    for (inputs, want) in [(1, Class::Interactive), (8, Class::Background)] {
        let backend = backend();
        let body = json!({"model": "tiny", "input": vec!["a"; inputs]});
        send(&backend.app(), "POST", "/v1/embeddings", &[], &body).await;
        assert_eq!(backend.last_embed_job().wishes.class, Some(want));
    }
}

#[tokio::test]
async fn answers_tell_where_they_were_made_and_what_that_took() {
    for door in doors() {
        let headers = [("x-troika-class", "agent")];
        let app = backend().app();
        let (_, head, body) = send(&app, "POST", door.path, &headers, &door.body).await;
        let device = if door.embeds { "cpu0" } else { "gpu0" };
        let want = format!("prefill={device}, decode={device}");
        let told = header(&head, "x-troika-placement");
        assert_eq!(told, Some(&*want), "{}", door.path);
        let body: Value = serde_json::from_str(&body).unwrap();
        let troika = body.pointer(door.report);
        let want = json!({
            "placement": [
                {"device": device, "phase": "prefill", "tokens": 7, "device_ms": 40.0, "joules": 0.5},
                {"device": device, "phase": "decode", "tokens": 3, "device_ms": 80.0, "joules": 1.0},
            ],
            "class": "agent",
            "load_ms": 0.0,
            "queue_ms": 10.0,
            "ttft_ms": 50.0,
            "prefill_ms": 40.0,
            "decode_ms": 100.0,
            "prefill_tps": 175.0,
            "decode_tps": 20.0,
            "joules": 1.5,
            "joules_source": "measured",
            "expected": {
                "wait_ms": 10.0, "load_ms": 0.0, "prefill_ms": 50.0, "copy_ms": 0.0, "decode_ms": 120.0,
                "ttft_ms": 60.0, "total_ms": 180.0, "joules": 2.0, "spread": 1.3,
            },
            "drafted_tokens": 0, "accepted_tokens": 0, "moves": 1,
            "replays": 0,
            "remote": [],
        });
        assert_eq!(troika, Some(&want), "{}", door.path);
    }
}

#[tokio::test]
async fn streams_tell_it_too() {
    for door in doors().into_iter().filter(|door| !door.embeds) {
        let mut body = door.body.clone();
        body["stream"] = true.into();
        body["stream_options"] = json!({"include_usage": true});
        let (_, head, text) = send(&backend().app(), "POST", door.path, &[], &body).await;
        let told = header(&head, "x-troika-placement");
        assert_eq!(told, Some("prefill=gpu0, decode=gpu0"), "{}", door.path);
        let lines = text.lines().map(|line| line.trim_start_matches("data: "));
        let objects = lines.filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let reports: Vec<_> = objects.filter_map(|it| found(&it)).collect();
        assert_eq!(reports.len(), 1, "{}: {text}", door.path);
        assert_eq!(reports[0]["joules"], 1.5);
        assert_eq!(reports[0]["class"], "interactive");
    }
}

/// The report, wherever it is in an event.
fn found(event: &Value) -> Option<Value> {
    let places = ["/usage/troika", "/response/usage/troika", "/troika"];
    places
        .iter()
        .find_map(|place| event.pointer(place).cloned())
}

#[tokio::test]
async fn openai_repeats_the_tier() {
    for (path, tier, want) in [
        ("/v1/chat/completions", Some("flex"), json!("flex")),
        ("/v1/chat/completions", Some("auto"), json!("default")),
        ("/v1/chat/completions", None, Value::Null),
        ("/v1/responses", Some("priority"), json!("priority")),
        ("/v1/responses", None, json!("default")),
    ] {
        let door = doors().into_iter().find(|door| door.path == path).unwrap();
        let mut body = with_field(&door, "service_tier", &json!(tier)).unwrap();
        let (_, _, whole) = send(&backend().app(), "POST", path, &[], &body).await;
        let whole: Value = serde_json::from_str(&whole).unwrap();
        assert_eq!(whole["service_tier"], want, "{path} {tier:?}");
        body["stream"] = true.into();
        let (_, _, text) = send(&backend().app(), "POST", path, &[], &body).await;
        let told = text.contains(&format!("\"service_tier\":{want}"));
        assert_eq!(told, !want.is_null(), "{path} {tier:?}: {text}");
    }
}

/// Posts a request whose stream has these events and no end yet, to a server whose clock runs by itself.
async fn head_of(events: Vec<Event>) -> (Option<String>, Duration) {
    let [door, ..] = doors();
    let scripted = Scripted::new([Ok(events.into_iter().map(Ok).collect())]);
    scripted.hold();
    let mut body = door.body;
    body["stream"] = true.into();
    let app: Router = scripted.app();
    let request = Request::post(door.path)
        .body(Body::from(body.to_string()))
        .unwrap();
    let begun = tokio::time::Instant::now();
    let response = app.oneshot(request).await.unwrap();
    let told = header(response.headers(), "x-troika-placement");
    (told.map(str::to_owned), begun.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_head_waits_for_a_placement_but_not_for_long() {
    let placed = Event::Placed(Placed {
        prefill: "npu0".to_owned(),
        decode: "gpu0+cpu0".to_owned(),
    });
    let (told, after) = head_of(vec![]).await;
    assert_eq!((told.as_deref(), after.as_secs()), (Some("queued"), 2));
    let (told, _) = head_of(vec![placed.clone()]).await;
    assert_eq!(told.as_deref(), Some("prefill=npu0, decode=gpu0+cpu0"));
    let started = Event::Started(Default::default());
    let (told, after) = head_of(vec![placed, started]).await;
    assert_eq!(told.as_deref(), Some("prefill=npu0, decode=gpu0+cpu0"));
    assert_eq!(after.as_millis(), 0);
}

#[tokio::test]
async fn several_jobs_of_a_request_are_told_together() {
    let part = || [Part::Content("Hi".to_owned())];
    let on = |device| says_on(device, &part(), FinishReason::EndOfText);
    let backend = Scripted::new([on("gpu0"), on("cpu0"), on("gpu0")]);
    let body = json!({"model": "tiny", "prompt": ["a", "b", "c"]});
    let (status, head, body) = send(&backend.app(), "POST", "/v1/completions", &[], &body).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(
        header(&head, "x-troika-placement"),
        Some("prefill=gpu0, prefill=cpu0, decode=gpu0, decode=cpu0")
    );
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["usage"]["troika"]["joules"], 4.5);
}
