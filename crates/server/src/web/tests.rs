//! What the page consists of, and to whom it is given. How it behaves, only a browser tells: `tests/page`.

use std::sync::Arc;

use axum::body::Body;
use axum::http::request::Builder;
use axum::http::response::Parts;
use axum::http::{Request, StatusCode};
use tower::ServiceExt as _;
use troika_scheduler::{Class, Goal, Policy};

use super::*;
use crate::Backend;
use crate::testing::Scripted;

async fn answer(request: Builder) -> (Parts, String) {
    let backend: Arc<dyn Backend> = Scripted::new([]);
    let request = request.body(Body::empty()).unwrap();
    let response = crate::app::routes(backend).oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    (parts, String::from_utf8(body.to_vec()).unwrap())
}

/// The references of a file to others by an attribute or an import.
fn references<'t>(text: &'t str, before: &str) -> Vec<&'t str> {
    let rest = text.split(before).skip(1);
    rest.map(|rest| rest.split('"').next().unwrap()).collect()
}

#[tokio::test]
async fn browsers_get_the_page_and_programs_their_line() {
    let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
    for (accept, is_page) in [
        (Some(browser), true),
        (Some("TEXT/HTML"), true),
        (Some("application/json, text/html;q=0.5"), true),
        (Some("*/*"), false),
        (Some("application/json"), false),
        (Some("text/plain"), false),
        (Some("text/html;q=0, */*"), false),
        (None, false),
    ] {
        for path in ["/", ""] {
            let mut request = Request::get(format!("http://localhost{path}"));
            if let Some(accept) = accept {
                request = request.header("accept", accept);
            }
            let (parts, body) = answer(request).await;
            assert_eq!(parts.status, StatusCode::OK);
            assert_eq!(parts.headers["vary"], "accept");
            match is_page {
                true => assert!(body.starts_with("<!doctype html>"), "{accept:?}"),
                false => assert_eq!(body, "Troika is running", "{accept:?}"),
            }
        }
    }
    let (parts, body) = answer(Request::head("/")).await;
    assert_eq!((parts.status, &*body), (StatusCode::OK, ""));
}

#[tokio::test]
async fn every_file_comes_with_the_policy_and_nothing_else_is_there() {
    for (path, kind, text) in FILES {
        let (parts, body) = answer(Request::get(path)).await;
        assert_eq!(parts.status, StatusCode::OK, "{path}");
        assert_eq!(parts.headers["content-type"], kind);
        assert_eq!(parts.headers["content-security-policy"], POLICY);
        assert_eq!(parts.headers["x-content-type-options"], "nosniff");
        assert_eq!(body, text);
    }
    for path in ["/page/", "/page/../web.rs", "/page/fixtures/busy.json"] {
        let (parts, _) = answer(Request::get(path)).await;
        assert_eq!(parts.status, StatusCode::NOT_FOUND, "{path}");
    }
}

#[test]
fn what_the_page_refers_to_is_there() {
    let known: Vec<_> = FILES.iter().map(|(path, ..)| *path).collect();
    for before in ["src=\"", "href=\""] {
        for to in references(PAGE, before) {
            assert!(to.starts_with('#') || known.contains(&to), "{to}");
        }
    }
    let mut imported = vec!["/page/main.js".to_owned()];
    for (path, _, text) in FILES {
        let imports = references(text, "from \"").into_iter();
        for to in imports.chain(references(text, "\nimport \"")) {
            let to = joined(path, to);
            assert!(known.contains(&&*to), "{path}: {to}");
            imported.push(to);
        }
    }
    for path in known.iter().filter(|path| path.ends_with(".js")) {
        assert!(imported.iter().any(|to| to == path), "nobody needs {path}");
    }
}

/// Where a file's relative reference leads.
fn joined(path: &str, to: &str) -> String {
    let mut parts: Vec<_> = path.split('/').collect();
    parts.pop();
    for part in to.split('/') {
        match part {
            "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// What a browser loads in all, as it is.
#[test]
fn the_page_weighs_little() {
    let files: usize = FILES.iter().map(|(.., text)| text.len()).sum();
    let bytes = PAGE.len() + files;
    assert!(bytes < 150_000, "{bytes}");
}

/// The browser would refuse these; here they fail before anyone looks.
#[test]
fn the_page_obeys_its_policy() {
    let scripts = PAGE.matches("<script").count();
    assert_eq!(
        scripts,
        PAGE.matches("<script type=\"module\" src=").count()
    );
    for inline in ["<style", " style=", " onclick", " onload", "javascript:"] {
        assert!(!PAGE.contains(inline), "{inline}");
    }
    for (path, _, text) in FILES {
        for sink in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "new Function",
            "localStorage",
            "document.cookie",
            "setAttribute(\"style\"",
            "//cdn",
            "https://",
        ] {
            assert!(!text.contains(sink), "{path}: {sink}");
        }
    }
}

#[test]
fn the_switch_knows_the_policies_and_each_has_its_sentence() {
    let offered = references(PAGE, "name=\"policy\" value=\"");
    for name in &offered {
        let policy: Policy = name.parse().expect(name);
        assert_eq!(policy.name(), *name, "states name it so");
    }
    let goals = [
        Goal::Fastest,
        Goal::Frugal,
        Goal::Balanced,
        Goal::Cool,
        Goal::Battery,
    ];
    for goal in goals {
        assert!(offered.contains(&Policy::of(goal).name()), "{goal:?}");
    }
    let words = include_str!("words.js");
    for name in offered {
        assert!(words.contains(&format!("\n  {name}: \"")), "{name}");
    }
}

#[test]
fn every_class_has_its_colour_in_both_lights() {
    let style = [
        include_str!("style.css"),
        include_str!("machine/machine.css"),
    ]
    .concat();
    for class in Class::ALL {
        let name = class.name();
        assert_eq!(style.matches(&format!("--{name}: #")).count(), 2, "{name}");
        assert!(style.contains(&format!("[data-class=\"{name}\"]")));
    }
}
