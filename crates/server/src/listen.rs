//! Connections: accepting them, how patient we are with each, and how all of them end.
//!
//! axum's own `serve` has no time limit for headers and no limit of connections, so the loop is our own, over hyper.

mod drain;
mod patience;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::{Version, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tower::ServiceExt as _;

use crate::dialect::Dialect;
use crate::{ApiError, Settings, metrics};
pub use drain::Drain;
use patience::{Limits, Patient};

/// A request's head at most: what browsers send, with room for long cookies.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// How long a client may take nothing of its answer before it counts as gone.
const WRITE_STALL: Duration = Duration::from_secs(60);
/// When a silent peer is asked whether it is still there.
const TCP_KEEPALIVE: Duration = Duration::from_secs(60);
/// How long we wait when the system has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// How often measured times are folded into their histograms.
const UPKEEP: Duration = Duration::from_secs(5);

/// Who is at the other end; every request carries it as an extension.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// Answers requests until [`Drain::begin`]; then lets the running ones finish, for [`Settings::drain_timeout`] at most, or
/// until [`Drain::abandon`]. Who comes meanwhile is told by the router that it is too late.
pub async fn serve(listener: TcpListener, router: Router, drain: Drain, settings: &Settings) {
    let slots = Arc::new(Semaphore::new(settings.max_connections));
    let limits = Limits {
        header: settings.header_timeout,
        idle: settings.idle_timeout,
        write: WRITE_STALL,
        slots: Arc::clone(&slots),
        slots_low: settings.max_connections / 4,
    };
    let mut acceptor = Acceptor {
        listener,
        router,
        limits,
        slots,
        connections: JoinSet::new(),
    };
    let before = GracefulShutdown::new();
    tokio::select! {
        never = acceptor.run(&before) => match never {},
        () = drain.begun() => {}
    }
    tracing::info!(connections = before.count(), "draining");
    let late = GracefulShutdown::new();
    tokio::select! {
        never = acceptor.run(&late) => match never {},
        () = before.shutdown() => {}
        () = tokio::time::sleep(settings.drain_timeout) => {
            tracing::warn!("answers were still running when the time to drain was over; they are cut off");
        }
        () = drain.abandoned() => tracing::warn!("told to stop twice; running answers are cut off"),
    }
    acceptor.connections.shutdown().await;
}

/// Takes connections in.
struct Acceptor {
    listener: TcpListener,
    router: Router,
    limits: Limits,
    slots: Arc<Semaphore>,
    connections: JoinSet<()>,
}

impl Acceptor {
    /// Accepts until it is dropped. The connections end when `graceful` says so.
    async fn run(&mut self, graceful: &GracefulShutdown) -> Infallible {
        let mut upkeep = tokio::time::interval(UPKEEP);
        loop {
            tokio::select! {
                (stream, peer, slot) = accept(&self.listener, &self.slots) => {
                    let (router, limits) = (self.router.clone(), self.limits.clone());
                    let watcher = graceful.watcher();
                    self.connections.spawn(async move {
                        connection(stream, peer, router, limits, watcher).await;
                        drop(slot);
                    });
                }
                Some(_) = self.connections.join_next() => {}
                _ = upkeep.tick() => metrics::upkeep(),
            }
        }
    }
}

/// The next connection, once there is a slot for it.
async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
    let slot = Arc::clone(slots).acquire_owned().await;
    let slot = slot.expect("the semaphore is never closed");
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return (stream, peer, slot),
            // The client went away while it waited.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
                ) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Serves one connection to its end.
async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    limits: Limits,
    watcher: Watcher,
) {
    let _open = metrics::connection();
    // Without these the connection works, only not as well.
    let _ = stream.set_nodelay(true);
    let keepalive = socket2::TcpKeepalive::new().with_time(TCP_KEEPALIVE);
    let _ = socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive);

    let header_timeout = limits.header;
    let (stream, timer) = Patient::new(stream, limits);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        let router = router.clone();
        async move { Ok::<_, Infallible>(answer(router, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(timer)
        .header_read_timeout(header_timeout)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection).await {
        // Clients leave as they please; that is no fault of the server.
        tracing::debug!(%error, "a connection ended early");
    }
}

async fn answer(router: Router, request: Request<Incoming>) -> axum::response::Response {
    if lacks_host(&request) {
        let error = ApiError::invalid("the header Host is missing, which HTTP/1.1 demands");
        metrics::refused(error.kind);
        return Dialect::of(request.uri().path()).refuse(&error);
    }
    match router.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// RFC 9112, 3.2: such a request is answered with 400.
fn lacks_host(request: &Request<Incoming>) -> bool {
    request.version() == Version::HTTP_11 && !request.headers().contains_key(header::HOST)
}

#[cfg(test)]
mod tests;
