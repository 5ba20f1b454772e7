//! Pulls over HTTP, from a host on this machine.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use troika_base::DType;
use troika_gguf::{Metadata, Writer};
use troika_library::Library;
use troika_pull::{Patience, Puller, Sites};

use super::*;
use crate::testing::send;

fn file() -> Vec<u8> {
    let mut metadata = Metadata::default();
    metadata.insert("general.architecture", "llama");
    let mut writer = Writer::new(metadata);
    writer.tensor_bytes("output.weight", DType::F32, &[4, 2], &[7; 32]);
    let mut bytes = Vec::new();
    writer.write_to(&mut bytes).unwrap();
    bytes
}

fn digest(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Speaks as hub and registry do; `slow` is a model whose bytes never come.
async fn answer(request: Request) -> axum::response::Response {
    let (path, file) = (request.uri().path(), file());
    let range = request.headers().get(header::RANGE).is_some();
    match path {
        "/v2/library/tiny/manifests/latest" => Json(json!({"layers": [{
            "mediaType": "application/vnd.ollama.image.model",
            "digest": format!("sha256:{}", digest(&file)), "size": file.len(),
        }]}))
        .into_response(),
        "/api/models/acme/tiny/revision/main" => Json(json!({
            "sha": "abc", "cardData": {"license": "mit"},
            "siblings": [{"rfilename": "tiny-Q8_0.gguf", "size": file.len(),
                "lfs": {"sha256": digest(&file)}}],
        }))
        .into_response(),
        "/api/models/acme/slow/revision/main" => std::future::pending().await,
        _ if path.contains("/blobs/") || path.contains("/resolve/") => {
            let place = format!("bytes 0-{}/{}", file.len() - 1, file.len());
            let headers = [(header::CONTENT_RANGE, place)];
            let status = if range {
                StatusCode::PARTIAL_CONTENT
            } else {
                StatusCode::OK
            };
            (status, headers, file).into_response()
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

struct Place {
    home: TempDir,
    app: Router,
}

impl Place {
    async fn new() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(answer);
        tokio::spawn(async move { axum::serve(listener, router).await });
        let home = tempfile::tempdir().unwrap();
        let library = Arc::new(Library::open(home.path().to_owned(), &[]));
        let named = |name: &str| name.ends_with(['T', 'Y']).then(|| address.clone());
        let sites = Sites::from_variables(named, false).unwrap();
        let puller = Puller::new(library, sites, Patience::default());
        let judge = |look: &Look| Fit {
            verdict: Verdict::DoesNotFit,
            memory_bytes: Some(look.bytes),
            tokens_per_second: None,
            device: None,
            why: "on purpose".to_owned(),
        };
        let pulls = Pulls::new(puller, Arc::new(judge));
        let app = routes(Some(pulls), Drain::default());
        Self { home, app }
    }

    async fn send(&self, method: &str, path: &str, body: Value) -> (u16, String) {
        let (status, _, text) = send(&self.app, method, path, &[], &body).await;
        (status, text)
    }

    async fn json(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let (status, text) = self.send(method, path, body).await;
        (status, serde_json::from_str(&text).unwrap_or_default())
    }
}

#[tokio::test]
async fn a_model_is_looked_at_and_pulled() {
    let place = Place::new().await;
    let path = "/api/troika/pulls/look?from=hf:acme/tiny";
    let (status, look) = place.json("GET", path, Value::Null).await;
    assert_eq!(status, 200, "{look}");
    assert_eq!(
        (&look["name"], &look["licence"]),
        (&json!("tiny-Q8_0"), &json!("mit"))
    );
    assert_eq!(look["fit"]["verdict"], "does not fit");
    assert_eq!(
        look["files"],
        json!([{"name": "tiny-Q8_0.gguf", "bytes": file().len()}])
    );
    let ask = json!({"from": "hf:acme/tiny"});
    let (status, pull) = place.json("POST", "/api/troika/pulls", ask).await;
    assert_eq!(status, 202, "{pull}");
    let id = pull["id"].as_str().unwrap();
    let events = format!("/api/troika/pulls/{id}/events");
    let (_, text) = place.send("GET", &events, Value::Null).await;
    let last = text
        .lines()
        .rfind(|line| line.starts_with("data: "))
        .unwrap();
    let last: Value = serde_json::from_str(&last["data: ".len()..]).unwrap();
    assert_eq!(
        (&last["state"], &last["model"]),
        (&json!("done"), &json!("tiny-Q8_0"))
    );
    assert!(text.contains("event: pull") && last.get("digest").is_none());
    let (_, list) = place.json("GET", "/api/troika/pulls", Value::Null).await;
    assert_eq!(list["pulls"], json!([last]));
    assert!(std::fs::read(place.home.path().join("tiny-Q8_0.gguf")).unwrap() == file());
}

#[tokio::test]
async fn a_pull_is_joined_and_stopped() {
    let place = Place::new().await;
    let ask = || json!({"from": "hf:acme/slow"});
    let (_, first) = place.json("POST", "/api/troika/pulls", ask()).await;
    let (_, second) = place.json("POST", "/api/troika/pulls", ask()).await;
    assert_eq!(
        (&first["id"], &first["state"]),
        (&second["id"], &json!("looking"))
    );
    let path = format!("/api/troika/pulls/{}", first["id"].as_str().unwrap());
    let (status, _) = place.send("DELETE", &path, Value::Null).await;
    assert_eq!(status, 204);
    let (_, list) = place.json("GET", "/api/troika/pulls", Value::Null).await;
    assert_eq!(list["pulls"][0]["state"], "stopped");
    let (_, third) = place.json("POST", "/api/troika/pulls", ask()).await;
    assert_ne!(first["id"], third["id"]);
    let (status, _) = place
        .send("DELETE", "/api/troika/pulls/pull_99", Value::Null)
        .await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn ollamas_clients_read_lines() {
    let place = Place::new().await;
    let (status, text) = place
        .send("POST", "/api/pull", json!({"model": "tiny"}))
        .await;
    assert_eq!(status, 200);
    let lines: Vec<Value> = text
        .lines()
        .map(|it| serde_json::from_str(it).unwrap())
        .collect();
    assert_eq!(lines[0], json!({"status": "pulling manifest"}));
    assert_eq!(lines.last(), Some(&json!({"status": "success"})));
    let digest = format!("sha256:{}", digest(&file()));
    let far = lines
        .iter()
        .rfind(|line| line["digest"] == *digest)
        .unwrap();
    assert_eq!(far["status"], format!("pulling {}", &digest[7..19]));
    assert_eq!(
        (&far["total"], &far["completed"]),
        (&json!(file().len()), &json!(file().len()))
    );
    let hub = json!({"name": "hf.co/acme/tiny:Q8_0", "stream": false});
    let (status, answer) = place.json("POST", "/api/pull", hub).await;
    assert_eq!((status, answer), (200, json!({"status": "success"})));
    let library = Library::open(place.home.path().to_owned(), &[]);
    let names: Vec<_> = library
        .list()
        .unwrap()
        .into_iter()
        .map(|it| it.name)
        .collect();
    assert_eq!(names, ["hf.co/acme/tiny:Q8_0", "tiny"]);
    let none = json!({"model": "none", "stream": false});
    let (status, error) = place.json("POST", "/api/pull", none).await;
    assert_eq!(status, 404, "{error}");
    let (status, text) = place
        .send("POST", "/api/pull", json!({"model": "none"}))
        .await;
    assert!(
        status == 200 && text.lines().last().unwrap().starts_with("{\"error\":"),
        "{text}"
    );
    for model in ["", "../x", "evil.example/a/b"] {
        let (status, error) = place
            .json("POST", "/api/pull", json!({"model": model}))
            .await;
        assert!(
            status == 400 && error["error"].is_string(),
            "{model}: {error}"
        );
    }
}

#[tokio::test]
async fn a_client_that_leaves_ends_what_it_began() {
    use tower::ServiceExt as _;

    let place = Place::new().await;
    let body = json!({"model": "hf.co/acme/slow"}).to_string();
    let request = Request::post("/api/pull").body(Body::from(body)).unwrap();
    let response = place.app.clone().oneshot(request).await.unwrap();
    drop(response);
    let (_, list) = place.json("GET", "/api/troika/pulls", Value::Null).await;
    assert_eq!(list["pulls"][0]["state"], "stopped");
}

#[tokio::test]
async fn where_nothing_may_come_in_that_is_said() {
    let app = routes(None, Drain::default());
    for (method, path) in [
        ("GET", "/api/troika/pulls"),
        ("POST", "/api/troika/pulls"),
        ("GET", "/api/troika/pulls/look?from=hf:a/b"),
        ("POST", "/api/pull"),
    ] {
        let (status, _, text) = send(
            &app,
            method,
            path,
            &[],
            &json!({"from": "hf:a/b", "model": "a"}),
        )
        .await;
        assert!(
            status == 403 && text.contains("`offline`"),
            "{method} {path}: {status} {text}"
        );
    }
}
