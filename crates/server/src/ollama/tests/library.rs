//! Models that are listed, shown, created, copied, deleted and uploaded.

use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};
use tower::ServiceExt as _;
use troika_library::Library;

use super::{nothing_planned, refuses};
use crate::Backend;
use crate::testing::Scripted;

async fn get(path: &str) -> String {
    let (status, body) = nothing_planned().request("GET", path, String::new()).await;
    assert_eq!(status, 200);
    body
}

#[tokio::test]
async fn models_are_listed() {
    insta::assert_snapshot!(get("/api/tags").await, @r#"{"models":[{"name":"tiny:latest","model":"tiny:latest","modified_at":"2023-11-14T22:13:20Z","size":5000000,"digest":"abababababababababababababababababababababababababababababababab","details":{"parent_model":"","format":"gguf","family":"llama","families":["llama"],"parameter_size":"9M","quantization_level":"Q8_0"}}]}"#);
    insta::assert_snapshot!(get("/api/ps").await, @r#"{"models":[{"name":"tiny:latest","model":"tiny:latest","size":6000000,"digest":"abababababababababababababababababababababababababababababababab","details":{"parent_model":"","format":"gguf","family":"llama","families":["llama"],"parameter_size":"9M","quantization_level":"Q8_0"},"expires_at":"2999-12-31T00:00:00Z","size_vram":0,"context_length":512}]}"#);
}

#[tokio::test]
async fn a_model_is_shown() {
    let (status, body) = nothing_planned()
        .post("/api/show", &json!({"model": "tiny", "verbose": true}))
        .await;
    assert_eq!(status, 200);
    insta::assert_snapshot!(body, @r#"{"modelfile":"FROM tiny\nTEMPLATE \"\"\"{{ messages }}\"\"\"\n","parameters":"","template":"{{ messages }}","details":{"parent_model":"","format":"gguf","family":"llama","families":["llama"],"parameter_size":"9M","quantization_level":"Q8_0"},"model_info":{"general.architecture":"llama","general.parameter_count":9000000},"capabilities":["completion","tools"],"modified_at":"2023-11-14T22:13:20Z","tensors":[{"name":"output.weight","type":"Q8_0","shape":[3,4]}]}"#);
    let (_, body) = nothing_planned()
        .post("/api/show", &json!({"name": "tiny"}))
        .await;
    assert!(!body.contains("tensors"));
}

#[tokio::test]
async fn the_server_is_there() {
    assert_eq!(get("/").await, "Troika is running");
    let version: Value = serde_json::from_str(&get("/api/version").await).unwrap();
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    let (status, body) = nothing_planned().request("HEAD", "/", String::new()).await;
    assert_eq!((status.as_u16(), &*body), (200, ""));
    let (status, error) = refuses("/api/push", json!({"model": "tiny"})).await;
    assert_eq!(status, 501);
    assert!(error.contains("not pushed"), "{error}");
}

#[tokio::test]
async fn models_are_copied_and_deleted() {
    let backend = nothing_planned();
    let (status, body) = backend
        .post(
            "/api/copy",
            &json!({"source": "tiny", "destination": "acme/two:v1"}),
        )
        .await;
    assert_eq!((status.as_u16(), &*body), (200, ""));
    for body in [json!({"model": "tiny"}), json!({"name": "tiny:latest"})] {
        let (status, answer) = backend
            .request("DELETE", "/api/delete", body.to_string())
            .await;
        assert_eq!((status.as_u16(), &*answer), (200, ""));
    }
    let done = backend.done.lock().unwrap().clone();
    assert_eq!(
        done,
        ["copy tiny acme/two:v1", "delete tiny", "delete tiny:latest"]
    );
    for (path, body, want) in [
        (
            "/api/copy",
            json!({"source": "gone", "destination": "x"}),
            404,
        ),
        ("/api/copy", json!({"source": "", "destination": "x"}), 400),
        ("/api/copy", json!({"source": "tiny"}), 400),
        ("/api/show", json!({"model": "gone"}), 404),
        ("/api/show", json!({}), 400),
    ] {
        let (status, error) = refuses(path, body).await;
        assert_eq!(status, want, "{error}");
    }
}

#[tokio::test]
async fn models_are_created() {
    let backend = nothing_planned();
    let body = json!({
        "model": "pirate", "from": "tiny", "system": "Arr", "template": "{{ messages[0].content }}",
        "license": ["MIT", "Apache"], "parameters": {"temperature": 0.5, "stop": ["x"], "num_keep": 3},
        "messages": [{"role": "user", "content": "Hi"}],
    });
    let (status, answer) = backend.post("/api/create", &body).await;
    assert_eq!(status, 200, "{answer}");
    insta::assert_snapshot!(answer, @r#"
    {"status":"reading model metadata"}
    {"status":"writing manifest"}
    {"status":"success"}
    "#);
    let digest = format!("sha256:{}", "0".repeat(64));
    let body = json!({"name": "up", "files": {"model.gguf": digest}, "stream": false});
    let (_, answer) = backend.post("/api/create", &body).await;
    assert_eq!(answer, r#"{"status":"success"}"#);
    let done = backend.done.lock().unwrap().clone();
    assert_eq!(
        done,
        [
            "create pirate from tiny".to_owned(),
            format!("create up from {digest}")
        ]
    );

    for (field, value) in [
        ("model", json!("")),
        ("from", json!("")),
        ("files", json!({"a": digest})),
        ("template", json!("{{ .Prompt }} {{")),
        ("parameters", json!({"temperature": -1})),
        ("parameters", json!({"top_p": 1.5})),
        ("parameters", json!({"num_ctx": -5})),
        ("adapters", json!({"a": "b"})),
        ("adapters", json!({"a": {"digest": digest}})),
        ("quantize", json!("q4_0")),
        ("modelfile", json!("FROM x")),
        ("messages", json!([{"role": "user"}])),
    ] {
        let mut body = json!({"model": "x", "from": "tiny"});
        body[field] = value;
        let (status, error) = refuses("/api/create", body.clone()).await;
        assert_eq!(status, 400, "{body}: {error}");
    }
    for files in [
        json!({"a": "sha256:../x"}),
        json!({"a": digest, "b": digest}),
    ] {
        let (status, error) = refuses("/api/create", json!({"model": "x", "files": files})).await;
        assert_eq!(status, 400, "{error}");
    }
}

/// A backend with a library in a directory of its own.
fn with_library() -> (tempfile::TempDir, Arc<Library>, Arc<Scripted>) {
    let directory = tempfile::tempdir().unwrap();
    let library = Arc::new(Library::open(directory.path().to_owned(), &[]));
    let backend = Scripted::new([]);
    *backend.library.lock().unwrap() = Some(Arc::clone(&library));
    (directory, library, backend)
}

/// SHA-256 of `hello`.
const HELLO: &str = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

#[tokio::test]
async fn files_are_uploaded() {
    let (_directory, library, backend) = with_library();
    let path = format!("/api/blobs/{HELLO}");
    let ask = async |method: &str, body: &str| {
        backend
            .request(method, &path, body.to_owned())
            .await
            .0
            .as_u16()
    };
    assert_eq!(ask("HEAD", "").await, 404);
    assert_eq!(ask("POST", "hell").await, 400);
    assert_eq!(ask("POST", "").await, 400);
    assert!(!library.has_blob(&HELLO.parse().unwrap()));
    assert_eq!(ask("POST", "hello").await, 201);
    assert_eq!(ask("POST", "hello").await, 200);
    assert_eq!(ask("HEAD", "").await, 200);
    for digest in ["sha256:00", "..%2Fx", "md5:00"] {
        let (status, answer) = backend
            .request("POST", &format!("/api/blobs/{digest}"), "hello".to_owned())
            .await;
        assert_eq!(status, 400, "{answer}");
    }
    let (status, _) = nothing_planned()
        .request("POST", &path, "hello".to_owned())
        .await;
    assert_eq!(status, 400, "a backend without a library takes none");
}

#[tokio::test]
async fn an_upload_that_breaks_off_leaves_nothing() {
    let (directory, library, backend) = with_library();
    let pieces = [Ok("hello"), Err(std::io::Error::other("gone"))];
    let request = Request::post(format!("/api/blobs/{HELLO}"))
        .body(Body::from_stream(futures_util::stream::iter(pieces)))
        .unwrap();
    let backend: Arc<dyn Backend> = backend;
    let response = crate::app::routes(backend).oneshot(request).await.unwrap();
    assert_eq!(response.status(), 400);
    assert!(!library.has_blob(&HELLO.parse().unwrap()));
    let left = std::fs::read_dir(directory.path().join("blobs")).unwrap();
    assert_eq!(left.count(), 0);
}
