//! HTTP for files: ranges, redirects that are looked at, and no secret to a host that it was not meant for.
//!
//! HTTP/1.1 alone, so that four connections are four: over HTTP/2 they would be one, with one window. The environment's
//! proxies are not asked.

use std::sync::{Arc, OnceLock};

use http::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, LOCATION, RANGE, USER_AGENT,
};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;
use tokio::time::timeout;

use crate::sites::{host, permit};
use crate::{Error, Patience, Sites};

/// Redirects in a row.
const REDIRECTS_MAX: usize = 10;

/// Lists and manifests are no longer.
const TEXT_BYTES_MAX: usize = 16 << 20;

/// Connections to all hosts, and what is known of the hosts.
#[derive(Debug)]
pub(crate) struct Client {
    plain: legacy::Client<HttpConnector, Empty<Bytes>>,
    /// Made when it is first needed: reading all certificates that a system trusts takes a while.
    tls: OnceLock<legacy::Client<HttpsConnector<HttpConnector>, Empty<Bytes>>>,
    pub(crate) sites: Sites,
    pub(crate) patience: Patience,
}

/// An answer, and who gave it in the end.
#[derive(Debug)]
pub(crate) struct Given {
    pub(crate) response: Response<Incoming>,
    pub(crate) from: Uri,
}

impl Client {
    pub(crate) fn new(sites: Sites, patience: Patience) -> Self {
        let plain = builder(&patience).build(tcp(&patience));
        Self {
            plain,
            tls: OnceLock::new(),
            sites,
            patience,
        }
    }

    fn tls(&self) -> &legacy::Client<HttpsConnector<HttpConnector>, Empty<Bytes>> {
        self.tls.get_or_init(|| {
            let mut tcp = tcp(&self.patience);
            tcp.enforce_http(false);
            let https = hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(tls_config());
            let connector = https.https_only().enable_http1().wrap_connector(tcp);
            builder(&self.patience).build(connector)
        })
    }

    /// Asks for an address, or for a range of its bytes: from one to another, both included. Redirects are followed.
    ///
    /// # Errors
    /// If there is no answer, or it is no success.
    pub(crate) async fn get(
        &self,
        uri: &Uri,
        range: Option<(u64, u64)>,
        accept: &'static str,
    ) -> Result<Given, Error> {
        let mut uri = uri.clone();
        let mut seen = vec![uri.clone()];
        loop {
            permit(&uri, self.sites.allow_plain_http)?;
            let response = self.once(&uri, range, accept).await?;
            if !response.status().is_redirection() {
                return match response.status() {
                    status if status.is_success() => Ok(Given {
                        response,
                        from: uri,
                    }),
                    status => Err(refused(&uri, status)),
                };
            }
            let next = target(&uri, response.headers())?;
            let how = match () {
                () if seen.contains(&next) => "in a circle",
                () if seen.len() > REDIRECTS_MAX => "more than ten times",
                () if is_https(&uri) && !is_https(&next) => "from https to plain HTTP",
                () => {
                    seen.push(next.clone());
                    uri = next;
                    continue;
                }
            };
            return Err(Error::Redirected {
                host: host(&uri),
                how: how.to_owned(),
            });
        }
    }

    /// The whole of a text that is no longer than `bytes_max`.
    ///
    /// # Errors
    /// As [`Self::get`]; or if it is longer.
    pub(crate) async fn text(
        &self,
        uri: &Uri,
        accept: &'static str,
        bytes_max: usize,
    ) -> Result<(Vec<u8>, Given), Error> {
        let mut tries = 0;
        loop {
            tries += 1;
            let got = self
                .text_once(uri, accept, bytes_max.min(TEXT_BYTES_MAX))
                .await;
            match got {
                // Twice is enough for a hiccup; whoever is offline should hear so soon.
                Err(error) if error.is_transient() && tries < self.patience.tries.min(3) => {
                    tracing::debug!(%error, "asked again");
                    tokio::time::sleep(self.patience.pause_after(tries)).await;
                }
                got => return got,
            }
        }
    }

    async fn text_once(
        &self,
        uri: &Uri,
        accept: &'static str,
        bytes_max: usize,
    ) -> Result<(Vec<u8>, Given), Error> {
        let mut given = self.get(uri, None, accept).await?;
        let mut text = Vec::new();
        while let Some(bytes) = self.next(&mut given).await? {
            if text.len() + bytes.len() > bytes_max {
                return Err(Error::Nonsense {
                    host: host(&given.from),
                    why: format!("it is longer than {bytes_max} bytes"),
                });
            }
            text.extend_from_slice(&bytes);
        }
        Ok((text, given))
    }

    /// More of an answer; `None` at its end.
    ///
    /// # Errors
    /// If nothing comes for too long, or the connection ends before the answer.
    pub(crate) async fn next(&self, given: &mut Given) -> Result<Option<Bytes>, Error> {
        let from = || host(&given.from);
        loop {
            let frame = timeout(self.patience.stall, given.response.body_mut().frame()).await;
            let frame = frame.map_err(|_| self.stalled(from()))?;
            match frame {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Ok(Some(bytes));
                    }
                }
                Some(Err(error)) => {
                    return Err(Error::Cut {
                        host: from(),
                        why: innermost(&error),
                    });
                }
            }
        }
    }

    async fn once(
        &self,
        uri: &Uri,
        range: Option<(u64, u64)>,
        accept: &'static str,
    ) -> Result<Response<Incoming>, Error> {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = uri.clone();
        let headers = request.headers_mut();
        let text = HeaderValue::from_static;
        headers.insert(ACCEPT, text(accept));
        // A range of what is packed for the way would be one of other bytes.
        headers.insert(ACCEPT_ENCODING, text("identity"));
        headers.insert(
            USER_AGENT,
            text(concat!("troika/", env!("CARGO_PKG_VERSION"))),
        );
        if let Some((first, last)) = range {
            let value = HeaderValue::try_from(format!("bytes={first}-{last}"));
            headers.insert(RANGE, value.expect("numbers are text. This is a bug."));
        }
        if let Some(token) = &self.sites.token
            && is_same_origin(uri, &self.sites.hub)
        {
            headers.insert(AUTHORIZATION, token.clone());
        }
        let answer = match is_https(uri) {
            true => self.tls().request(request),
            false => self.plain.request(request),
        };
        let response = timeout(self.patience.stall, answer).await;
        let response = response.map_err(|_| self.stalled(host(uri)))?;
        response.map_err(|error| match error.is_connect() {
            true => Error::Unreachable {
                host: host(uri),
                why: innermost(&error),
            },
            false => Error::Cut {
                host: host(uri),
                why: innermost(&error),
            },
        })
    }

    fn stalled(&self, host: String) -> Error {
        Error::Stalled {
            host,
            seconds: self.patience.stall.as_secs(),
        }
    }
}

impl Given {
    /// A header's text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    /// # Errors
    /// [`Error::WebPage`] if this is a page for people.
    pub(crate) fn refuse_web_page(&self) -> Result<(), Error> {
        let kind = self.response.headers().get(CONTENT_TYPE);
        let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        match kind
            .trim_start()
            .to_ascii_lowercase()
            .starts_with("text/html")
        {
            true => Err(Error::WebPage {
                host: host(&self.from),
            }),
            false => Ok(()),
        }
    }
}

fn tcp(patience: &Patience) -> HttpConnector {
    let mut tcp = HttpConnector::new();
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(patience.connect));
    tcp
}

fn builder(patience: &Patience) -> legacy::Builder {
    let mut builder = legacy::Client::builder(TokioExecutor::new());
    builder.pool_timer(TokioTimer::new());
    builder.pool_idle_timeout(patience.stall);
    builder
}

/// TLS by the certificates that this system trusts. Where it has none, no host can prove who it is, and https fails.
fn tls_config() -> ClientConfig {
    let builder = || {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has the default versions")
    };
    match builder().with_native_roots() {
        Ok(trusting) => trusting.with_no_client_auth(),
        Err(error) => {
            tracing::warn!(%error, "this system has no certificates to tell hosts by");
            let nobody = rustls::RootCertStore::empty();
            builder()
                .with_root_certificates(nobody)
                .with_no_client_auth()
        }
    }
}

fn refused(uri: &Uri, status: StatusCode) -> Error {
    let (host, status) = (host(uri), status.as_u16());
    let what = || format!("`{}`", crate::error::shortened(uri.path()));
    match status {
        401 | 403 => Error::Denied {
            what: what(),
            host,
            status,
        },
        404 | 410 => Error::NotThere {
            what: what(),
            host,
            status,
        },
        _ => Error::Status { host, status },
    }
}

/// Where a redirect leads.
fn target(from: &Uri, headers: &HeaderMap) -> Result<Uri, Error> {
    let nowhere = || Error::Redirected {
        host: host(from),
        how: "to no address".to_owned(),
    };
    let location = headers.get(LOCATION).and_then(|it| it.to_str().ok());
    let location = location.ok_or_else(nowhere)?;
    if let Some(rest) = location.strip_prefix("//") {
        let scheme = from.scheme_str().unwrap_or("https");
        return format!("{scheme}://{rest}").parse().map_err(|_| nowhere());
    }
    let next: Uri = match location.starts_with(['/', '?']) || location.contains("://") {
        true => location.parse().map_err(|_| nowhere())?,
        false => {
            // A name beside the last one.
            let (folder, _) = from.path().rsplit_once('/').unwrap_or_default();
            format!("{folder}/{location}")
                .parse()
                .map_err(|_| nowhere())?
        }
    };
    if next.authority().is_some_and(|it| it.as_str().contains('@')) {
        return Err(nowhere());
    }
    if next.scheme().is_some() {
        return Ok(next);
    }
    let mut parts = from.clone().into_parts();
    let path = next.path_and_query().cloned();
    parts.path_and_query = Some(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
    Uri::from_parts(parts).map_err(|_| nowhere())
}

fn is_https(uri: &Uri) -> bool {
    uri.scheme_str() == Some("https")
}

/// Whether two addresses are of the same host by the same way.
fn is_same_origin(uri: &Uri, base: &str) -> bool {
    let Ok(base) = base.parse::<Uri>() else {
        return false;
    };
    let port = |uri: &Uri| {
        uri.port_u16()
            .unwrap_or(if is_https(uri) { 443 } else { 80 })
    };
    let host = |uri: &Uri| uri.host().unwrap_or_default().to_ascii_lowercase();
    uri.scheme() == base.scheme() && host(uri) == host(&base) && port(uri) == port(&base)
}

/// What went wrong, by the innermost cause: those around it say no more than where it was noticed.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_lead_where_they_say() {
        let from: Uri = "https://a.example/x/y?z".parse().unwrap();
        for (location, want) in [
            ("https://b.example/f", Some("https://b.example/f")),
            ("/f?q", Some("https://a.example/f?q")),
            ("f", Some("https://a.example/x/f")),
            ("//c.example/f", Some("https://c.example/f")),
            ("https://u:p@b.example/f", None),
            ("", Some("https://a.example/x/")),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(LOCATION, HeaderValue::from_static(location));
            let next = target(&from, &headers).ok().map(|it| it.to_string());
            assert_eq!(next.as_deref(), want, "{location}");
        }
        assert!(target(&from, &HeaderMap::new()).is_err());
    }

    #[test]
    fn a_token_is_for_one_origin() {
        let is = |uri: &str| is_same_origin(&uri.parse().unwrap(), "https://hub.example");
        assert!(is("https://hub.example/a") && is("https://HUB.example:443/a"));
        for other in [
            "http://hub.example/a",
            "https://hub.example:8443/a",
            "https://cdn.hub.example/a",
            "https://hub.example.evil.example/a",
        ] {
            assert!(!is(other), "{other}");
        }
    }
}
