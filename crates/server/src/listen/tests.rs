//! Connections over real sockets: patience, limits of number, and the end.

use std::time::Instant;

use axum::body::{Body, Bytes};
use axum::routing::{get, post};
use futures_util::StreamExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinHandle;

use super::*;

const SOON: Duration = Duration::from_secs(5);

struct Server {
    address: SocketAddr,
    drain: Drain,
    task: JoinHandle<()>,
}

impl Server {
    async fn start(settings: Settings) -> Self {
        Self::start_with(settings, router()).await
    }

    async fn start_with(settings: Settings, router: Router) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let drain = Drain::default();
        let going = drain.clone();
        let task = tokio::spawn(async move { serve(listener, router, going, &settings).await });
        Self {
            address,
            drain,
            task,
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Waits until the server has ended; returns how long that took.
    async fn ended(self) -> Duration {
        let begun = Instant::now();
        tokio::time::timeout(SOON, self.task)
            .await
            .unwrap()
            .unwrap();
        begun.elapsed()
    }
}

/// `/` answers at once, `/slow` word by word for 300 ms, `/endless` never stops.
fn router() -> Router {
    let words = |count: usize, pause: u64| {
        let words = futures_util::stream::iter(0..count).then(move |_| async move {
            tokio::time::sleep(Duration::from_millis(pause)).await;
            Ok::<_, io::Error>(Bytes::from_static(b"word "))
        });
        Body::from_stream(words)
    };
    Router::new()
        .route("/", get(async || "here"))
        .route(
            "/length",
            post(|body: Bytes| async move { body.len().to_string() }),
        )
        .route("/slow", get(move || async move { words(6, 50) }))
        .route("/endless", get(move || async move { words(1_000_000, 10) }))
}

fn quick() -> Settings {
    Settings {
        header_timeout: Duration::from_millis(200),
        idle_timeout: Duration::from_secs(2),
        drain_timeout: Duration::from_secs(3),
        ..Settings::default()
    }
}

async fn get_on(stream: &mut TcpStream, path: &str) {
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
}

/// Reads until `needle` came; fails if the connection ends before.
async fn read_until(stream: &mut TcpStream, needle: &str) -> String {
    let mut text = String::new();
    let mut buffer = [0; 1024];
    while !text.contains(needle) {
        let read = tokio::time::timeout(SOON, stream.read(&mut buffer)).await;
        let read = read.unwrap().unwrap();
        assert!(read > 0, "the connection ended after {text:?}");
        text.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
    }
    text
}

/// Waits until the server closes the connection.
async fn closed(stream: &mut TcpStream) -> (Duration, String) {
    let begun = Instant::now();
    let mut rest = Vec::new();
    // A reset is an end as well.
    let _ = tokio::time::timeout(SOON, stream.read_to_end(&mut rest))
        .await
        .unwrap();
    (begun.elapsed(), String::from_utf8(rest).unwrap())
}

#[tokio::test]
async fn a_connection_without_a_request_is_closed() {
    let server = Server::start(quick()).await;
    let mut silent = server.connect().await;
    let mut dripping = server.connect().await;
    dripping
        .write_all(b"GET / HTTP/1.1\r\nx-slow: ")
        .await
        .unwrap();
    for stream in [&mut silent, &mut dripping] {
        let (took, _) = closed(stream).await;
        assert!(took < Duration::from_secs(1), "took {took:?}");
    }
}

#[tokio::test]
async fn a_head_that_drips_is_not_waited_for() {
    let server = Server::start(quick()).await;
    let (mut reader, mut writer) = server.connect().await.into_split();
    let drip = tokio::spawn(async move {
        let _ = writer.write_all(b"GET / HTTP/1.1\r\n").await;
        while writer.write_all(b"x: y\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let begun = Instant::now();
    let mut rest = Vec::new();
    let _ = tokio::time::timeout(SOON, reader.read_to_end(&mut rest))
        .await
        .unwrap();
    assert!(begun.elapsed() < Duration::from_secs(1));
    drip.await.unwrap();
}

#[tokio::test]
async fn a_connection_may_rest_between_requests() {
    let server = Server::start(quick()).await;
    let mut stream = server.connect().await;
    for _ in 0..2 {
        get_on(&mut stream, "/").await;
        assert!(
            read_until(&mut stream, "here")
                .await
                .starts_with("HTTP/1.1 200")
        );
        // Longer than a head may take.
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    stream.write_all(b"GET / HT").await.unwrap();
    let (took, _) = closed(&mut stream).await;
    assert!(
        took < Duration::from_secs(1),
        "a begun head has its own limit: {took:?}"
    );
}

#[tokio::test]
async fn a_rest_ends_at_last() {
    let settings = Settings {
        idle_timeout: Duration::from_millis(400),
        ..quick()
    };
    let server = Server::start(settings).await;
    let mut stream = server.connect().await;
    get_on(&mut stream, "/").await;
    read_until(&mut stream, "here").await;
    let (took, _) = closed(&mut stream).await;
    assert!(took > Duration::from_millis(300), "took {took:?}");
    assert!(took < Duration::from_secs(2), "took {took:?}");
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_and_are_served() {
    let settings = Settings {
        max_connections: 2,
        ..quick()
    };
    let server = Server::start(settings).await;
    let _silent = [server.connect().await, server.connect().await];
    let mut third = server.connect().await;
    get_on(&mut third, "/").await;
    let begun = Instant::now();
    read_until(&mut third, "here").await;
    assert!(
        begun.elapsed() > Duration::from_millis(100),
        "it had to wait"
    );
}

#[tokio::test]
async fn rests_are_short_when_connections_run_short() {
    let settings = Settings {
        max_connections: 1,
        idle_timeout: Duration::from_secs(60),
        ..quick()
    };
    let server = Server::start(settings).await;
    let mut resting = server.connect().await;
    get_on(&mut resting, "/").await;
    read_until(&mut resting, "here").await;
    let mut next = server.connect().await;
    get_on(&mut next, "/").await;
    read_until(&mut next, "here").await;
}

#[tokio::test]
async fn many_half_open_connections_harm_nobody() {
    let settings = Settings {
        header_timeout: SOON,
        ..quick()
    };
    let server = Server::start(settings).await;
    let mut half_open = Vec::new();
    for _ in 0..300 {
        let mut stream = server.connect().await;
        stream
            .write_all(b"POST /length HTTP/1.1\r\nhost:")
            .await
            .unwrap();
        half_open.push(stream);
    }
    let begun = Instant::now();
    let mut stream = server.connect().await;
    get_on(&mut stream, "/").await;
    read_until(&mut stream, "here").await;
    assert!(begun.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn running_answers_finish_and_late_ones_are_heard() {
    let server = Server::start(quick()).await;
    let mut slow = server.connect().await;
    let mut resting = server.connect().await;
    get_on(&mut resting, "/").await;
    read_until(&mut resting, "here").await;
    get_on(&mut slow, "/slow").await;
    read_until(&mut slow, "word").await;
    server.drain.begin();
    let (took, _) = closed(&mut resting).await;
    assert!(
        took < Duration::from_millis(200),
        "rests end at once: {took:?}"
    );
    let mut late = server.connect().await;
    get_on(&mut late, "/").await;
    read_until(&mut late, "HTTP/1.1").await;
    let (_, rest) = closed(&mut slow).await;
    assert!(rest.ends_with("0\r\n\r\n"), "the answer is whole: {rest:?}");
    let address = server.address;
    server.ended().await;
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn what_does_not_end_is_cut_off() {
    let settings = Settings {
        drain_timeout: Duration::from_millis(200),
        ..quick()
    };
    let server = Server::start(settings).await;
    let mut endless = server.connect().await;
    get_on(&mut endless, "/endless").await;
    read_until(&mut endless, "word").await;
    server.drain.begin();
    assert!(server.ended().await < Duration::from_secs(2));
}

#[tokio::test]
async fn insisting_ends_it_at_once() {
    let settings = Settings {
        drain_timeout: Duration::from_secs(60),
        ..quick()
    };
    let server = Server::start(settings).await;
    let mut endless = server.connect().await;
    get_on(&mut endless, "/endless").await;
    read_until(&mut endless, "word").await;
    server.drain.begin();
    server.drain.abandon();
    assert!(server.ended().await < Duration::from_secs(2));
}

#[tokio::test]
async fn bodies_are_refused_in_words_that_arrive() {
    let home = tempfile::tempdir().unwrap();
    let settings = Settings {
        body_limit: 64 << 10,
        body_timeout: Duration::from_millis(200),
        ..Settings::at(home.path())
    };
    let keys = crate::keys::Keys::open(crate::keys::KeyFile::at(&settings.keys_file)).unwrap();
    let backend: Arc<dyn crate::Backend> = crate::testing::Scripted::new([]);
    let app = crate::app(
        backend,
        crate::Media::new(&settings, None),
        &settings,
        keys,
        &Drain::default(),
    )
    .unwrap();
    let server = Server::start_with(settings, app).await;
    let head =
        |length: &str| format!("POST /v1/messages HTTP/1.1\r\nhost: localhost\r\n{length}\r\n\r\n");
    let long = vec![b'x'; 16 << 20];
    let chunked = [b"1000000\r\n", &*long, b"\r\n0\r\n\r\n"].concat();
    for (length, body, want) in [
        // Says how long it is, and sends it without listening.
        ("content-length: 16777216", &*long, "413"),
        // Says nothing.
        ("transfer-encoding: chunked", &*chunked, "413"),
        // Says more than it sends.
        ("content-length: 1000", b"{", "408"),
    ] {
        let mut stream = server.connect().await;
        stream.write_all(head(length).as_bytes()).await.unwrap();
        stream.write_all(body).await.unwrap();
        let answer = read_until(&mut stream, "}").await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {want}")), "{answer}");
        assert!(answer.contains("\"type\":\"error\""), "{answer}");
    }
}

#[tokio::test]
async fn a_body_that_claims_to_be_endless_is_refused_at_once() {
    let home = tempfile::tempdir().unwrap();
    let settings = Settings::at(home.path());
    let keys = crate::keys::Keys::open(crate::keys::KeyFile::at(&settings.keys_file)).unwrap();
    let backend: Arc<dyn crate::Backend> = crate::testing::Scripted::new([]);
    let app = crate::app(
        backend,
        crate::Media::new(&settings, None),
        &settings,
        keys,
        &Drain::default(),
    )
    .unwrap();
    let server = Server::start_with(settings, app).await;
    let mut stream = server.connect().await;
    let head =
        "POST /v1/messages HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000000000000\r\n\r\n";
    let begun = Instant::now();
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = read_until(&mut stream, "}").await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert!(begun.elapsed() < Duration::from_secs(2), "{answer}");
}

#[tokio::test]
async fn a_host_is_named_where_the_protocol_demands_it() {
    let server = Server::start(quick()).await;
    for (request, want) in [
        ("GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 400"),
        ("GET / HTTP/1.1\r\nhost: localhost\r\n\r\n", "HTTP/1.1 200"),
        ("GET / HTTP/1.0\r\n\r\n", "HTTP/1.0 200"),
    ] {
        let mut stream = server.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = read_until(&mut stream, "\r\n\r\n").await;
        assert!(answer.starts_with(want), "{request}: {answer}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn signals_begin_and_insist() {
    let drain = Drain::default();
    drain.on_signals().unwrap();
    let signal = |name: &str| {
        let process = std::process::id().to_string();
        let kill = std::process::Command::new("kill")
            .args([name, &process])
            .status();
        assert!(kill.unwrap().success());
    };
    signal("-TERM");
    tokio::time::timeout(SOON, drain.begun()).await.unwrap();
    signal("-INT");
    tokio::time::timeout(SOON, drain.abandoned()).await.unwrap();
}
