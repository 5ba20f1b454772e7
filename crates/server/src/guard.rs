//! Who may call from a browser: the check of `Host` and `Origin`, before anything else is looked at.
//!
//! A page of another site can let its own name point at this machine (DNS rebinding), and can post here without asking.
//! The first is seen by the name that the browser then calls us by, the second by the origin that it states. Programs that
//! are no browsers send the name they were given and no origin. CORS, which lets pages read answers, is off until origins
//! are configured.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::Response;
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use crate::dialect::Dialect;
use crate::{ApiError, ErrorKind, Settings, metrics};

/// Names by which containers call the machine they run on. `.internal` belongs to no one on the public internet.
const CONTAINER_HOSTS: [&str; 2] = ["host.docker.internal", "host.containers.internal"];
/// How long browsers may remember what a preflight said.
const PREFLIGHT_AGE: std::time::Duration = std::time::Duration::from_secs(600);

/// Whose requests are let through.
#[derive(Debug)]
pub(crate) struct Guard {
    /// Names in lower case.
    hosts: Vec<String>,
    any_host: bool,
    origins: Vec<String>,
    any_origin: bool,
}

impl Guard {
    /// `machine` is this machine's name, if it is known.
    pub(crate) fn new(settings: &Settings, machine: Option<String>) -> Self {
        let mut hosts: Vec<_> = settings.allowed_hosts.iter().map(|h| lower(h)).collect();
        hosts.extend(CONTAINER_HOSTS.map(str::to_owned));
        if let Some(machine) = machine.filter(|name| !name.is_empty()) {
            hosts.push(format!("{}.local", lower(&machine)));
            hosts.push(lower(&machine));
        }
        let is_any = |list: &[String]| list.iter().any(|item| item == "*");
        Self {
            hosts,
            any_host: is_any(&settings.allowed_hosts),
            origins: settings.cors_origins.clone(),
            any_origin: is_any(&settings.cors_origins),
        }
    }

    /// # Errors
    /// [`ErrorKind::Forbidden`] if the request comes from another site's page, [`ErrorKind::Invalid`] if that cannot be
    /// told.
    fn check(&self, request: &Request) -> Result<(), ApiError> {
        let headers = request.headers();
        let host = only(headers, header::HOST)?;
        // A request line may name a host itself, which then counts.
        let target = request.uri().authority().map(Authority::as_str);
        for host in host.into_iter().chain(target) {
            self.check_host(host)?;
        }
        match only(headers, header::ORIGIN)? {
            Some(origin) => self.check_origin(origin, target.or(host)),
            None => Ok(()),
        }
    }

    fn check_host(&self, host: &str) -> Result<(), ApiError> {
        let authority: Authority = host
            .parse()
            .map_err(|_| ApiError::invalid("the header Host is no host"))?;
        let name = name(&authority);
        let known =
            self.any_host || is_address(&name) || is_loopback(&name) || self.hosts.contains(&name);
        if known {
            return Ok(());
        }
        Err(forbidden(
            "this server is not known by the name in the header Host; call it by its address, or add the name to \
             `allowed_hosts`",
        ))
    }

    fn check_origin(&self, origin: &str, host: Option<&str>) -> Result<(), ApiError> {
        if self.any_origin || self.origins.iter().any(|known| known == origin) {
            return Ok(());
        }
        let web = ["http://", "https://"];
        let site = web.iter().find_map(|scheme| origin.strip_prefix(scheme));
        let ours = site.is_some_and(|site| {
            let same = host.is_some_and(|host| host.eq_ignore_ascii_case(site));
            same || site.parse().is_ok_and(|site| is_loopback(&name(&site)))
        });
        if ours {
            return Ok(());
        }
        Err(forbidden(
            "pages of other sites may not call this server; to let them, add their origin to `cors_origins`",
        ))
    }
}

/// Layer: refuses what [`Guard`] does not let through.
pub(crate) async fn layer(
    State(guard): State<Arc<Guard>>,
    request: Request,
    next: Next,
) -> Response {
    match guard.check(&request) {
        Ok(()) => next.run(request).await,
        Err(error) => {
            metrics::refused(error.kind);
            Dialect::of(request.uri().path()).refuse(&error)
        }
    }
}

/// The layer that tells browsers which pages may read answers; `None` while no origins are configured.
pub(crate) fn cors(settings: &Settings) -> Option<CorsLayer> {
    let origins = &settings.cors_origins;
    let allowed = match origins.iter().any(|origin| origin == "*") {
        _ if origins.is_empty() => return None,
        true => AllowOrigin::any(),
        false => {
            let origins = origins.iter().filter_map(|o| HeaderValue::from_str(o).ok());
            AllowOrigin::list(origins)
        }
    };
    let exposed = [
        "x-request-id",
        "request-id",
        "x-troika-placement",
        "x-troika-report",
        "retry-after",
    ];
    let layer = CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([
            Method::GET,
            Method::HEAD,
            Method::POST,
            Method::PUT,
            Method::DELETE,
        ])
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(exposed.map(HeaderName::from_static))
        .max_age(PREFLIGHT_AGE);
    Some(layer)
}

/// A header that comes once or not at all.
pub(crate) fn only(headers: &HeaderMap, name: HeaderName) -> Result<Option<&str>, ApiError> {
    let mut values = headers.get_all(&name).iter();
    let value = values.next();
    if values.next().is_some() {
        return Err(ApiError::invalid(format!("the header {name} came twice")));
    }
    let text = value.map(|value| value.to_str()).transpose();
    text.map_err(|_| ApiError::invalid(format!("the header {name} is not text")))
}

fn forbidden(message: &str) -> ApiError {
    ApiError::new(ErrorKind::Forbidden, message)
}

/// The host's name in lower case, without the dot that may end it.
fn name(authority: &Authority) -> String {
    let host = lower(authority.host());
    host.strip_suffix('.').unwrap_or(&host).to_owned()
}

fn lower(name: &str) -> String {
    name.to_ascii_lowercase()
}

/// Whether it is an address: a name can be pointed elsewhere, an address cannot.
fn is_address(host: &str) -> bool {
    address(host).is_some()
}

fn address(host: &str) -> Option<IpAddr> {
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    bare.unwrap_or(host).parse().ok()
}

/// Whether it is this machine, seen from itself.
fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host.ends_with(".localhost")
        || address(host).is_some_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn guard(hosts: &[&str], origins: &[&str]) -> Guard {
        let list = |list: &[&str]| list.iter().map(|item| (*item).to_owned()).collect();
        let settings = Settings {
            allowed_hosts: list(hosts),
            cors_origins: list(origins),
            ..Settings::default()
        };
        Guard::new(&settings, Some("Workshop".to_owned()))
    }

    fn check(guard: &Guard, uri: &str, headers: &[(&str, &str)]) -> Option<ErrorKind> {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::empty()).unwrap();
        guard.check(&request).err().map(|error| error.kind)
    }

    #[test]
    fn only_known_names_are_answered() {
        let guard = guard(&["AI.example"], &[]);
        for (host, ok) in [
            ("localhost:11435", true),
            ("LOCALHOST", true),
            ("localhost.:80", true),
            ("api.localhost", true),
            ("127.0.0.1:11435", true),
            ("[::1]:11435", true),
            ("192.168.1.7", true),
            ("workshop", true),
            ("workshop.local:11435", true),
            ("ai.example", true),
            ("host.docker.internal:11435", true),
            ("evil.example", false),
            ("localhost.evil.example", false),
            ("notlocalhost", false),
            ("127.0.0.1.evil.example", false),
            ("sub.ai.example", false),
        ] {
            let refused = check(&guard, "/", &[("host", host)]);
            assert_eq!(refused, (!ok).then_some(ErrorKind::Forbidden), "{host}");
        }
        assert_eq!(check(&guard, "/", &[]), None, "no browser is without it");
        let hidden = check(&guard, "http://evil.example/", &[("host", "localhost")]);
        assert_eq!(hidden, Some(ErrorKind::Forbidden));
        let twice = [("host", "localhost"), ("host", "evil.example")];
        assert_eq!(check(&guard, "/", &twice), Some(ErrorKind::Invalid));
    }

    #[test]
    fn a_star_is_any_name() {
        assert_eq!(
            check(&guard(&["*"], &[]), "/", &[("host", "x.example")]),
            None
        );
    }

    #[test]
    fn pages_of_other_sites_are_refused() {
        let guard = guard(
            &["ai.example"],
            &["https://chat.example", "app://obsidian.md"],
        );
        for (host, origin, ok) in [
            ("localhost:11435", "http://localhost:11435", true),
            ("localhost:11435", "http://localhost:3000", true),
            ("localhost:11435", "http://[::1]:3000", true),
            ("ai.example", "https://ai.example", true),
            ("ai.example", "https://chat.example", true),
            ("ai.example", "app://obsidian.md", true),
            ("ai.example", "http://chat.example", false),
            ("ai.example", "https://evil.example", false),
            ("ai.example", "https://ai.example.evil.example", false),
            ("localhost:11435", "http://localhost.evil.example", false),
            ("localhost:11435", "http://localhost@evil.example", false),
            ("localhost:11435", "null", false),
            ("localhost:11435", "", false),
            ("localhost:11435", "app://other", false),
        ] {
            let refused = check(&guard, "/", &[("host", host), ("origin", origin)]);
            assert_eq!(
                refused,
                (!ok).then_some(ErrorKind::Forbidden),
                "{host} {origin}"
            );
        }
    }
}
