//! Keys as clients send them.

use axum::Router;
use axum::body::Body;
use axum::routing::any;
use tower::ServiceExt as _;

use super::*;
use crate::keys::NewKey;

struct Home {
    _directory: tempfile::TempDir,
    file: KeyFile,
}

impl Home {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = KeyFile::at(directory.path().join("keys.toml"));
        Self {
            _directory: directory,
            file,
        }
    }

    fn add(&self, name: &str, scopes: &[Scope]) -> String {
        self.add_limited(name, scopes, None, None)
    }

    fn add_limited(
        &self,
        name: &str,
        scopes: &[Scope],
        requests: Option<u32>,
        tokens: Option<u32>,
    ) -> String {
        let new = NewKey {
            name: name.to_owned(),
            scopes: scopes.to_vec(),
            requests_per_minute: requests,
            tokens_per_minute: tokens,
            ..NewKey::default()
        };
        self.file.add(new).unwrap()
    }

    fn keys(&self) -> Keys {
        Keys::open(self.file.clone()).unwrap()
    }
}

/// Sends a request with this header to a route that answers with the caller's name.
async fn send(
    keys: &Keys,
    method: &str,
    path: &str,
    header: Option<(&str, &str)>,
) -> (u16, String) {
    let name = async |caller: axum::Extension<Caller>| caller.0.key.unwrap_or_default();
    let router = Router::new()
        .fallback(any(name))
        .layer(axum::middleware::from_fn_with_state(keys.clone(), layer));
    let mut request = Request::builder().method(method).uri(path);
    if let Some((name, value)) = header {
        request = request.header(name, value);
    }
    let request = request.body(Body::empty()).unwrap();
    let response = router.oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let body = axum::body::to_bytes(response.into_body(), usize::MAX).await;
    (status, String::from_utf8(body.unwrap().to_vec()).unwrap())
}

async fn status(keys: &Keys, key: &str) -> u16 {
    let header = ("x-api-key", key);
    send(keys, "POST", "/v1/messages", Some(header)).await.0
}

#[tokio::test]
async fn without_a_file_no_key_is_needed() {
    let keys = Home::new().keys();
    assert!(!keys.are_needed());
    let answer = send(&keys, "POST", "/v1/chat/completions", None).await;
    assert_eq!(answer, (200, String::new()));
}

#[tokio::test]
async fn keys_are_found_wherever_clients_put_them() {
    let home = Home::new();
    let key = home.add("laptop", &[Scope::Inference]);
    let keys = home.keys();
    let bearer = format!("Bearer {key}");
    for header in [
        ("authorization", &*bearer),
        ("authorization", &*format!("bearer {key}")),
        ("x-api-key", &*key),
    ] {
        let answer = send(&keys, "POST", "/v1/messages", Some(header)).await;
        assert_eq!(answer, (200, "laptop".to_owned()));
    }
    let basic = ("authorization", "Basic dXNlcjpwYXNz");
    let wrong = format!("{}x", &key);
    for header in [
        None,
        Some(basic),
        Some(("x-api-key", &*wrong)),
        Some(("x-api-key", "sk-other")),
    ] {
        let (status, body) = send(&keys, "POST", "/v1/messages", header).await;
        assert_eq!(status, 401, "{header:?}");
        assert!(body.contains("authentication_error"), "{body}");
    }
    let (status, _) = send(&keys, "GET", "/health", None).await;
    assert_eq!(status, 200, "whoever watches needs no key");
}

#[tokio::test]
async fn scopes_say_what_a_key_may_do() {
    let home = Home::new();
    let ask = home.add("ask", &[Scope::Inference]);
    let all = home.add("all", &Scope::ALL);
    let keys = home.keys();
    for (method, path, scope) in [
        ("POST", "/api/chat", Scope::Inference),
        ("GET", "/v1/models/tiny", Scope::Inference),
        ("DELETE", "/v1/models/tiny", Scope::Models),
        ("DELETE", "/api/delete", Scope::Models),
        ("POST", "/api/create/", Scope::Models),
        ("POST", "/api/blobs/sha256:00", Scope::Models),
        ("POST", "/api/pull", Scope::Models),
        ("GET", "/api/troika/pulls", Scope::Models),
        ("GET", "/api/troika/pulls/look", Scope::Models),
        ("DELETE", "/api/troika/pulls/pull_1", Scope::Models),
        ("GET", "/metrics", Scope::Admin),
        ("GET", "/api/troika/status", Scope::Admin),
        ("PUT", "/api/troika/policy", Scope::Admin),
        ("GET", "/api/troika/policy", Scope::Inference),
        ("GET", "/api/troika/state", Scope::Inference),
        ("GET", "/api/troika/events", Scope::Inference),
        ("GET", "/api/troika/placements/req_1", Scope::Inference),
    ] {
        assert_eq!(
            needed(&method.parse().unwrap(), path),
            Some(scope),
            "{path}"
        );
        let want = if scope == Scope::Inference { 200 } else { 403 };
        let (status, body) = send(&keys, method, path, Some(("x-api-key", &ask))).await;
        assert_eq!(status, want, "{method} {path}");
        assert!(want == 200 || body.contains(scope.name()), "{body}");
        let (status, _) = send(&keys, method, path, Some(("x-api-key", &all))).await;
        assert_eq!(status, 200, "{method} {path}");
    }
}

#[tokio::test]
async fn a_share_is_used_up() {
    let home = Home::new();
    let key = home.add_limited("few", &[Scope::Inference], Some(2), None);
    let words = home.add_limited("words", &[Scope::Inference], None, Some(100));
    let keys = home.keys();
    assert_eq!(status(&keys, &key).await, 200);
    assert_eq!(status(&keys, &key).await, 200);
    assert_eq!(status(&keys, &key).await, 429);
    let caller = Caller {
        key: Some("words".to_owned()),
        ..Caller::default()
    };
    assert_eq!(status(&keys, &words).await, 200);
    keys.charge(&caller, 150);
    assert_eq!(status(&keys, &words).await, 429);
}

#[tokio::test]
async fn many_first_requests_cost_one_attempt() {
    let home = Home::new();
    let key = home.add("busy", &[Scope::Inference]);
    let keys = home.keys();
    let all = (0..40).map(|_| status(&keys, &key));
    let all = futures_util::future::join_all(all).await;
    assert!(all.iter().all(|status| *status == 200), "{all:?}");
}

#[tokio::test]
async fn guessing_is_slowed_down_and_harms_no_one_who_knows() {
    let home = Home::new();
    let key = home.add("owner", &[Scope::Inference]);
    let keys = home.keys();
    let wrong = format!("{}x", &key[..key.len() - 1]);
    let mut seen = Vec::new();
    // A slow machine gives the share time to fill up again, so a few more than it holds.
    while seen.len() < 3 * WRONG_PER_MINUTE as usize && seen.last() != Some(&429) {
        seen.push(status(&keys, &wrong).await);
    }
    assert_eq!(seen[0], 401);
    assert_eq!(seen.last(), Some(&429), "{seen:?}");
    // Another address is not held to it.
    let headers = HeaderMap::from_iter([(
        axum::http::HeaderName::from_static("x-api-key"),
        key.parse().unwrap(),
    )]);
    let other = Some(IpAddr::from([10, 0, 0, 7]));
    assert!(keys.identify(&headers, other).await.unwrap().is_some());
    // Once proved, the key needs no slow hash, and a wrong secret is told at once.
    assert_eq!(status(&keys, &key).await, 200);
    assert_eq!(status(&keys, &wrong).await, 401);
}

#[tokio::test]
async fn changes_of_the_file_are_followed() {
    let home = Home::new();
    let keys = home.keys();
    let look = || locked(&keys.0.state).looked = None;
    assert_eq!(send(&keys, "POST", "/v1/messages", None).await.0, 200);

    let first = home.add("first", &[Scope::Inference]);
    look();
    assert_eq!(send(&keys, "POST", "/v1/messages", None).await.0, 401);
    assert_eq!(status(&keys, &first).await, 200);

    let second = home.add("second", &[Scope::Inference]);
    home.file.remove("first").unwrap();
    look();
    assert_eq!(status(&keys, &first).await, 401);
    assert_eq!(status(&keys, &second).await, 200);

    std::fs::write(home.file.path(), "no keys at all").unwrap();
    look();
    assert_eq!(status(&keys, &second).await, 200, "as they were");

    std::fs::remove_file(home.file.path()).unwrap();
    look();
    assert_eq!(status(&keys, &second).await, 401, "gone is not open");
    assert!(keys.are_needed());
}
