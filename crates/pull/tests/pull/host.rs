//! A host that speaks as hub, registry and plain server do, and fails when it is told to.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream::{self, StreamExt as _};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use troika_base::DType;
use troika_gguf::{Metadata, Writer};

pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What goes wrong with one request for bytes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Fault {
    /// This one is answered as it should be.
    None,
    /// The connection ends after so many bytes.
    Cut(usize),
    /// Nothing more comes after so many bytes.
    Stall(usize),
    Status(u16),
    WebPage,
    /// It is another file by now.
    Tag,
    Total,
    /// Another place than was asked for.
    Place,
    Loop,
    Downgrade,
}

/// What the host has and does; shared with the test.
#[derive(Default)]
pub(crate) struct Stage {
    file: Mutex<Vec<u8>>,
    /// Its digest.
    right: Mutex<String>,
    /// The files of `acme/split-GGUF`, in their order.
    pub(crate) split: Mutex<Vec<(String, Vec<u8>)>>,
    /// What it says that the digest is, if not the right one.
    pub(crate) digest: Mutex<Option<String>>,
    /// What it says that the length is.
    pub(crate) total: Mutex<Option<u64>>,
    pub(crate) has_no_ranges: Mutex<bool>,
    pub(crate) faults: Mutex<VecDeque<Fault>>,
    /// Paths with ranges, and who asked.
    pub(crate) log: Mutex<Vec<(String, Option<String>)>>,
    /// Each so many bytes are followed by a pause.
    pub(crate) pace: Mutex<Option<(usize, Duration)>>,
    /// Each address that redirects lead to is good for so many answers, if not for ever.
    pub(crate) lasts: Mutex<Option<u32>>,
    /// How many answers each of those gave.
    pub(crate) tickets: Mutex<Vec<u32>>,
    /// Where bytes are: another origin.
    far: Mutex<Option<SocketAddr>>,
}

impl Stage {
    /// From now on, this is the file.
    pub(crate) fn serve(&self, file: Vec<u8>) {
        *self.right.lock().unwrap() = digest_of(&file);
        *self.file.lock().unwrap() = file;
    }

    /// An address with the bytes, for the one who asks now.
    fn ticket(&self) -> String {
        let mut tickets = self.tickets.lock().unwrap();
        tickets.push(0);
        format!("ticket={}", tickets.len() - 1)
    }

    /// Whether an address is still good. This answer counts.
    fn admits(&self, ticket: &str) -> bool {
        let number: usize = ticket.strip_prefix("ticket=").unwrap().parse().unwrap();
        let answers = &mut self.tickets.lock().unwrap()[number];
        let is_good = self
            .lasts
            .lock()
            .unwrap()
            .is_none_or(|lasts| *answers < lasts);
        *answers += u32::from(is_good);
        is_good
    }
}

#[derive(Clone)]
pub(crate) struct Host {
    pub(crate) stage: Arc<Stage>,
    pub(crate) address: SocketAddr,
}

impl Host {
    /// A host with this file, and a second one beside it that its redirects lead to.
    pub(crate) async fn with(file: Vec<u8>) -> Self {
        let stage = Arc::new(Stage::default());
        stage.serve(file);
        let address = listen(&stage).await;
        let far = listen(&stage).await;
        *stage.far.lock().unwrap() = Some(far);
        Self { stage, address }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn fail(&self, faults: impl IntoIterator<Item = Fault>) {
        self.stage.faults.lock().unwrap().extend(faults);
    }

    /// Requests for bytes: their ranges.
    pub(crate) fn ranges(&self) -> Vec<String> {
        let log = self.stage.log.lock().unwrap();
        let ranges = log.iter().filter_map(|(what, _)| what.split_once(' '));
        ranges.map(|(_, range)| range.to_owned()).collect()
    }
}

async fn listen(stage: &Arc<Stage>) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().fallback(answer).with_state(Arc::clone(stage));
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

async fn answer(
    State(stage): State<Arc<Stage>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    assert_eq!(method, Method::GET);
    let path = uri.path();
    let text = |name| headers.get(name).and_then(|it| it.to_str().ok());
    let range = text(header::RANGE).map(|it| format!(" {it}"));
    let who = text(header::AUTHORIZATION).map(str::to_owned);
    let what = format!("{path}{}", range.clone().unwrap_or_default());
    stage.log.lock().unwrap().push((what, who));
    let far = stage.far.lock().unwrap().expect("is set");
    let moved = |to: String| (StatusCode::FOUND, [(header::LOCATION, to)]).into_response();
    let near = || format!("http://{far}/near.gguf?{}", stage.ticket());
    let digest = || {
        let told = stage.digest.lock().unwrap().clone();
        told.unwrap_or_else(|| stage.right.lock().unwrap().clone())
    };
    let length = || {
        stage
            .total
            .lock()
            .unwrap()
            .unwrap_or(stage.file.lock().unwrap().len() as u64)
    };
    match path {
        "/api/models/acme/tiny-GGUF/revision/main" => axum::Json(json!({
            "sha": COMMIT, "gated": false, "tags": ["gguf", "license:mit"],
            "cardData": {"license": "apache-2.0"},
            "siblings": [
                {"rfilename": "README.md", "size": 10},
                {"rfilename": "tiny-Q8_0.gguf", "size": 9, "lfs": {"sha256": "f".repeat(64), "size": 9}},
                {"rfilename": "tiny-Q4_K_M.gguf", "size": length(), "lfs": {"sha256": digest(), "size": length()}},
                {"rfilename": "tiny-BF16-00001-of-00002.gguf", "size": 9},
            ],
        }))
        .into_response(),
        "/api/models/acme/split-GGUF/revision/main" => {
            let split = stage.split.lock().unwrap();
            let siblings = split.iter().map(|(name, file)| {
                json!({"rfilename": name, "size": file.len(), "lfs": {"sha256": digest_of(file), "size": file.len()}})
            });
            axum::Json(json!({"sha": COMMIT, "siblings": siblings.collect::<Vec<_>>()})).into_response()
        }
        "/v2/library/tiny/manifests/latest" | "/v2/library/tiny/manifests/1b" => {
            let layer = |kind: &str, text: &str| json!({
                "mediaType": format!("application/vnd.ollama.image.{kind}"),
                "digest": format!("sha256:{}", digest_of(text.as_bytes())), "size": text.len(),
            });
            axum::Json(json!({"schemaVersion": 2, "layers": [
                {"mediaType": "application/vnd.ollama.image.model", "digest": format!("sha256:{}", digest()), "size": length()},
                layer("license", LICENCE), layer("system", SYSTEM), layer("params", PARAMS),
                layer("template", "{{ .Prompt }}"),
            ]}))
            .into_response()
        }
        "/v2/evil/tiny/manifests/latest" => axum::Json(json!({"layers": [
            {"mediaType": "application/vnd.ollama.image.model", "digest": "sha256:../../../etc/passwd", "size": 1},
        ]}))
        .into_response(),
        "/far.gguf" => moved(near()),
        "/near.gguf" if !stage.admits(uri.query().unwrap()) => StatusCode::FORBIDDEN.into_response(),
        "/loop.gguf" => moved("/pool.gguf".to_owned()),
        "/pool.gguf" => moved("/loop.gguf".to_owned()),
        path if path.starts_with("/many/") => moved(format!("{path}x.gguf")),
        path if path.starts_with("/acme/tiny-GGUF/resolve/") => moved(near()),
        path if path.starts_with("/v2/library/tiny/blobs/") => {
            let texts = [LICENCE, SYSTEM, PARAMS];
            let text = texts.iter().find(|text| path.ends_with(&digest_of(text.as_bytes())));
            text.map_or_else(|| moved(near()), |text| text.into_response())
        }
        path if path.ends_with(".gguf") && path != "/none.gguf" => {
            bytes(&stage, path, text(header::RANGE)).await
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

pub(crate) const LICENCE: &str = "\n  MIT License\n\nPermission is granted.";
pub(crate) const SYSTEM: &str = "You are tiny.";
pub(crate) const PARAMS: &str = r#"{"temperature": 0.5, "stop": ["<end>"]}"#;

async fn bytes(stage: &Stage, path: &str, range: Option<&str>) -> Response {
    let fault = stage.faults.lock().unwrap().pop_front();
    match &fault {
        Some(Fault::Status(status)) => {
            return StatusCode::from_u16(*status).unwrap().into_response();
        }
        Some(Fault::WebPage) => {
            return axum::response::Html("<html>please log in</html>").into_response();
        }
        Some(Fault::Loop) => {
            let to = path.to_owned();
            return (StatusCode::FOUND, [(header::LOCATION, to)]).into_response();
        }
        Some(Fault::Downgrade) => {
            let to = "http://192.0.2.1/x.gguf".to_owned();
            return (StatusCode::FOUND, [(header::LOCATION, to)]).into_response();
        }
        _ => {}
    }
    let split = stage.split.lock().unwrap().clone();
    let own = split.into_iter().find(|(name, _)| path.ends_with(&**name));
    let (file, digest) = match own {
        Some((_, file)) => (file.clone(), digest_of(&file)),
        None => (
            stage.file.lock().unwrap().clone(),
            stage.right.lock().unwrap().clone(),
        ),
    };
    let total = stage.total.lock().unwrap().unwrap_or(file.len() as u64);
    let wanted = range.filter(|_| !*stage.has_no_ranges.lock().unwrap());
    let (start, end) = match wanted {
        Some(range) => {
            let (start, end) = range
                .strip_prefix("bytes=")
                .unwrap()
                .split_once('-')
                .unwrap();
            let (start, end): (usize, usize) = (start.parse().unwrap(), end.parse().unwrap());
            if start >= file.len() {
                return StatusCode::RANGE_NOT_SATISFIABLE.into_response();
            }
            (start, (end + 1).min(file.len()))
        }
        None => (0, file.len()),
    };
    let mut response = Response::new(body(
        &file[start..end],
        fault.as_ref(),
        *stage.pace.lock().unwrap(),
    ));
    let headers = response.headers_mut();
    let tag = match fault {
        Some(Fault::Tag) => "\"other\"".to_owned(),
        _ => format!("\"{digest}\""),
    };
    headers.insert(header::ETAG, tag.parse().unwrap());
    headers.insert(header::CONTENT_LENGTH, (end - start).into());
    if wanted.is_some() {
        let told = if fault == Some(Fault::Total) {
            total + 1
        } else {
            total
        };
        let shown = if fault == Some(Fault::Place) {
            start + 1
        } else {
            start
        };
        let place = format!("bytes {shown}-{}/{told}", end - 1);
        headers.insert(header::CONTENT_RANGE, place.parse().unwrap());
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    response
}

fn body(bytes: &[u8], fault: Option<&Fault>, pace: Option<(usize, Duration)>) -> Body {
    let all = Bytes::copy_from_slice(bytes);
    match fault {
        Some(Fault::Cut(after)) => {
            let some = all.slice(..(*after).min(all.len()));
            let cut = stream::once(async { Err(std::io::Error::other("on purpose")) });
            // The bytes before it are on their way by then.
            let cut = cut.then(|it| async {
                tokio::time::sleep(Duration::from_millis(20)).await;
                it
            });
            Body::from_stream(stream::iter([Ok(some)]).chain(cut))
        }
        Some(Fault::Stall(after)) => {
            let some = all.slice(..(*after).min(all.len()));
            let first = stream::iter([Ok::<_, Infallible>(some)]);
            Body::from_stream(first.chain(stream::pending()))
        }
        _ => match pace {
            None => Body::from(all),
            Some((bytes, pause)) => {
                let parts: Vec<_> = all.chunks(bytes).map(Bytes::copy_from_slice).collect();
                Body::from_stream(stream::iter(parts).then(move |part| async move {
                    tokio::time::sleep(pause).await;
                    Ok::<_, Infallible>(part)
                }))
            }
        },
    }
}

pub(crate) fn digest_of(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A model of about so many bytes, none of whose weights is zero.
pub(crate) fn model(bytes: usize) -> Vec<u8> {
    written(Metadata::default(), "output.weight", bytes)
}

/// A model in two files of about so many bytes each.
pub(crate) fn split_model(bytes: usize) -> Vec<(String, Vec<u8>)> {
    let part = |number: u16| {
        let mut metadata = Metadata::default();
        metadata.insert("split.no", number - 1);
        metadata.insert("split.count", 2u16);
        let file = written(metadata, &format!("blk.{number}.weight"), bytes);
        (format!("big-Q8_0-{number:05}-of-00002.gguf"), file)
    };
    vec![part(1), part(2)]
}

fn written(mut metadata: Metadata, tensor: &str, bytes: usize) -> Vec<u8> {
    metadata.insert("general.architecture", "llama");
    metadata.insert("general.license", "bsd");
    metadata.insert("llama.context_length", 512u32);
    let rows = bytes / 16;
    let mut weights = vec![0; rows * 16];
    getrandom::fill(&mut weights).unwrap();
    weights.iter_mut().for_each(|byte| *byte |= 1);
    let mut writer = Writer::new(metadata);
    writer.tensor_bytes(tensor, DType::F32, &[4, rows as u64], &weights);
    let mut out = Vec::new();
    writer.write_to(&mut out).unwrap();
    out
}
