//! The page at `/`: conversations with the models, and what the machine is doing, in a browser.
//!
//! Its files are part of the program and come from nowhere else; its policy has the browser hold it to that, and to never
//! taking what a server or a model says for markup. What it shows comes by `/api/troika/*`, which are not made here. A
//! program that asks for `/` is no browser, and is answered in a line of text, by which Ollama's clients know a server.

#[cfg(test)]
mod fixture;

use axum::Router;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::app::App;

/// What the page may do. Scripts and styles are its own files, connections go to its own server, and text that is to become
/// markup is refused.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
                      require-trusted-types-for 'script'; trusted-types 'none'";

const PAGE: &str = include_str!("web/page.html");
const JS: &str = "text/javascript; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";

/// A file under its path.
macro_rules! file {
    ($kind:expr, $name:literal) => {
        (
            concat!("/page/", $name),
            $kind,
            include_str!(concat!("web/", $name)),
        )
    };
}

/// What the page is made of: path, type, contents. No key is needed for these.
const FILES: [(&str, &str, &str); 38] = [
    file!(JS, "main.js"),
    file!(JS, "dom.js"),
    file!(JS, "shell.js"),
    file!(JS, "stream.js"),
    file!(JS, "words.js"),
    file!(JS, "chat/api.js"),
    file!(JS, "chat/blocks.js"),
    file!(JS, "chat/composer.js"),
    file!(JS, "chat/conversation.js"),
    file!(JS, "chat/days.js"),
    file!(JS, "chat/drawer.js"),
    file!(JS, "chat/frames.js"),
    file!(JS, "chat/get.js"),
    file!(JS, "chat/list.js"),
    file!(JS, "chat/long.js"),
    file!(JS, "chat/menu.js"),
    file!(JS, "chat/message.js"),
    file!(JS, "chat/nodes.js"),
    file!(JS, "chat/params.js"),
    file!(JS, "chat/picker.js"),
    file!(JS, "chat/scroll.js"),
    file!(JS, "chat/shortcuts.js"),
    file!(JS, "chat/strip.js"),
    file!(JS, "chat/talk.js"),
    file!(JS, "chat/toast.js"),
    file!(JS, "chat/view.js"),
    file!(JS, "machine/account.js"),
    file!(JS, "machine/history.js"),
    file!(JS, "machine/lanes.js"),
    file!(JS, "machine/pools.js"),
    file!(JS, "machine/spent.js"),
    file!(JS, "machine/view.js"),
    file!(JS, "machine/why.js"),
    file!(CSS, "style.css"),
    file!(CSS, "chat/chat.css"),
    file!(CSS, "chat/talk.css"),
    file!(CSS, "machine/machine.css"),
    file!("image/svg+xml", "icon.svg"),
];

/// The routes.
pub(crate) fn routes() -> Router<App> {
    FILES
        .into_iter()
        .fold(Router::new().route("/", get(root)), |router, file| {
            let (path, kind, text) = file;
            router.route(path, get(async move || own(kind, text)))
        })
}

/// The page for browsers, a line for programs.
async fn root(headers: HeaderMap) -> Response {
    let mut response = match wants_html(&headers) {
        true => own("text/html; charset=utf-8", PAGE),
        false => "Troika is running".into_response(),
    };
    response
        .headers_mut()
        .insert(header::VARY, HeaderValue::from_static("accept"));
    response
}

/// Whether a browser asks to show something: those name the type, programs take anything.
fn wants_html(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter();
    let mut ranges = accepted
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    ranges.any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let is_html = parts
            .next()
            .is_some_and(|kind| kind.eq_ignore_ascii_case("text/html"));
        is_html && !parts.any(|part| matches!(part, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
    })
}

/// A file of the page.
fn own(kind: &'static str, text: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        // Another version of the program has other files under the same names.
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, text).into_response()
}

#[cfg(test)]
mod tests;
