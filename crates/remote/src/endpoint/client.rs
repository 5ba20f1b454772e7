//! HTTP to one endpoint: its own connections, its own key, and no way to any other host.
//!
//! Redirects are not followed and the environment's proxies not asked, because nothing here knows how to. Connections are
//! kept; HTTP/2 is spoken where the other side offers it under TLS. Dropping an answer that is not read to its end closes
//! its connection (HTTP/1.1) or resets its stream (HTTP/2), by which the endpoint learns that nobody waits.

use std::error::Error as _;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderName, HeaderValue, Method, Request, Response, Uri};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;
use tower::Service;

use super::outgoing::Outgoing;
use super::trouble::Trouble;
use super::url::Base;
use crate::config::Api;
use crate::secrets::Secret;

/// How long a connection is kept that nobody uses: less than most servers keep theirs.
const IDLE: Duration = Duration::from_secs(50);

/// The version of Anthropic's interface that `wire` speaks.
const ANTHROPIC_VERSION: &str = "2023-06-01";

/// Connections to one endpoint.
#[derive(Debug)]
pub(crate) struct Client {
    inner: legacy::Client<Timely<HttpsConnector<HttpConnector>>, Counted>,
    base: Base,
    api: Api,
}

impl Client {
    pub(crate) fn new(base: Base, api: Api, tls: ClientConfig, connect: Duration) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(IDLE));
        tcp.set_connect_timeout(Some(connect));
        let https = hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(tls);
        let https = match base.is_https() {
            true => https.https_only(),
            false => https.https_or_http(),
        };
        let connector = Timely {
            inner: https.enable_all_versions().wrap_connector(tcp),
            limit: connect,
        };
        let inner = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .build(connector);
        Self { inner, base, api }
    }

    /// Where it leads.
    pub(crate) fn base(&self) -> &Base {
        &self.base
    }

    /// Sends a request; `left` counts the bytes of its body that are on their way.
    ///
    /// # Errors
    /// If there is no connection, or it breaks before the answer begins.
    pub(crate) async fn post(
        &self,
        outgoing: &Outgoing,
        key: Option<&Secret>,
        left: Arc<AtomicU64>,
    ) -> Result<Response<Incoming>, Trouble> {
        let body = Counted {
            bytes: Some(outgoing.body()),
            left,
        };
        let mut request = Request::new(body);
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.base.join(outgoing.path());
        let headers = request.headers_mut();
        let text = HeaderValue::from_static;
        headers.insert(CONTENT_TYPE, text("application/json"));
        headers.insert(
            ACCEPT,
            text("text/event-stream, application/x-ndjson, application/json"),
        );
        headers.insert(
            USER_AGENT,
            text(concat!("troika/", env!("CARGO_PKG_VERSION"))),
        );
        if self.api == Api::Anthropic {
            headers.insert("anthropic-version", text(ANTHROPIC_VERSION));
        }
        if let Some(key) = key {
            let (name, value) = self.key_header(key);
            headers.insert(name, value);
        }
        let response = self.inner.request(request).await;
        response.map_err(|error| trouble(&error))
    }

    fn key_header(&self, key: &Secret) -> (HeaderName, HeaderValue) {
        let (name, value) = match self.api {
            Api::Anthropic => (
                HeaderName::from_static("x-api-key"),
                key.expose().to_owned(),
            ),
            Api::Openai | Api::Ollama => (AUTHORIZATION, format!("Bearer {}", key.expose())),
        };
        let mut value = HeaderValue::try_from(value).expect("a key's characters were looked at");
        // Left out of debug output, and of HTTP/2's tables.
        value.set_sensitive(true);
        (name, value)
    }
}

/// TLS by the certificates that this system trusts; none if it has none.
///
/// # Errors
/// The system's.
pub(crate) fn tls() -> std::io::Result<ClientConfig> {
    Ok(tls_builder().with_native_roots()?.with_no_client_auth())
}

/// TLS that trusts nobody, for connections that use none.
pub(crate) fn no_tls() -> ClientConfig {
    tls_builder()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth()
}

fn tls_builder() -> rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has the default versions")
}

/// What went wrong, by the innermost cause: those around it say no more than where it was noticed.
fn trouble(error: &legacy::Error) -> Trouble {
    let mut cause = String::new();
    let mut source = error.source();
    while let Some(inner) = source {
        if inner.is::<Late>() {
            return Trouble::ConnectLate;
        }
        cause = inner.to_string();
        source = inner.source();
    }
    match error.is_connect() {
        true if cause == "deadline has elapsed" => Trouble::ConnectLate,
        true => Trouble::Connect(cause),
        false => Trouble::Cut(cause),
    }
}

/// A body whose bytes are counted when they leave.
#[derive(Debug)]
pub(crate) struct Counted {
    bytes: Option<Bytes>,
    left: Arc<AtomicU64>,
}

impl Body for Counted {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let bytes = self.bytes.take();
        if let Some(bytes) = &bytes {
            self.left.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
        Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}

/// A connector that gives up, whichever of its steps takes too long.
#[derive(Clone, Debug)]
struct Timely<C> {
    inner: C,
    limit: Duration,
}

#[derive(Debug, thiserror::Error)]
#[error("the connection took too long")]
struct Late;

impl<C> Service<Uri> for Timely<C>
where
    C: Service<Uri, Error = Box<dyn std::error::Error + Send + Sync>>,
    C::Future: Send + 'static,
{
    type Response = C::Response;
    type Error = C::Error;
    type Future = Pin<Box<dyn Future<Output = Result<C::Response, C::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), C::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = tokio::time::timeout(self.limit, self.inner.call(uri));
        Box::pin(async move { connecting.await.unwrap_or_else(|_| Err(Late.into())) })
    }
}
