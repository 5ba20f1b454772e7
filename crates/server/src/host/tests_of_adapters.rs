//! Models with adapters, over the routes that people use: made, listed, shown, asked, deleted.

use std::ops::ControlFlow;
use std::path::PathBuf;

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tower::ServiceExt as _;
use troika_base::DType;
use troika_device::LoadOptions;
use troika_engine::tokenizer::EncodeOptions;
use troika_engine::{Adapter, CpuDevice, Event, GenerateOptions, Model, Session, with_adapters};
use troika_gguf::{Metadata, ModelFile, Writer};
use troika_library::Digest;

use super::tests::{Home, STORIES};
use super::*;

const RANK: u64 = 3;
const PROMPT: &str = "Once upon a time there was a little girl. She had a red ball, and her friend had a blue box. They went to the \
                      park to play with the ball and the box and a big brown dog. One day";
const N_ANSWER: usize = 24;

fn stories() -> ModelFile {
    ModelFile::from_bytes("stories", STORIES).expect("is sound")
}

/// An adapter of every matrix in the layers of the story model, of random numbers; for another architecture if one is named.
pub(super) fn adapter(seed: u32, architecture: &str) -> Vec<u8> {
    let mut metadata = Metadata::default();
    metadata.insert("general.type", "adapter");
    metadata.insert("general.architecture", architecture);
    metadata.insert("adapter.type", "lora");
    metadata.insert("adapter.lora.alpha", 6.0f32);
    let mut writer = Writer::new(metadata);
    let model = stories();
    let matrices = model.tensors().iter();
    for matrix in matrices.filter(|it| it.name.starts_with("blk.") && it.shape.len() == 2) {
        let pair = [
            ("lora_a", [matrix.shape[0], RANK]),
            ("lora_b", [RANK, matrix.shape[1]]),
        ];
        for (end, shape) in pair {
            let mut state = seed;
            let values = (0..shape[0] * shape[1]).flat_map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let value = (state >> 8) as f32 / (1 << 23) as f32 - 1.0;
                (0.15 * value).to_le_bytes()
            });
            let bytes: Vec<u8> = values.collect();
            writer.tensor(
                format!("{}.{end}", matrix.name),
                DType::F32,
                &shape,
                move |out| Ok(out.write_all(&bytes)?),
            );
        }
    }
    let mut bytes = Vec::new();
    writer.write_to(&mut bytes).expect("is written");
    bytes
}

/// What `troika run` would write with these adapters, greedily.
fn run(adapters: &[(&[u8], f32)]) -> String {
    let adapters = adapters.iter().map(|&(bytes, scale)| Adapter {
        file: ModelFile::from_bytes("adapter", bytes.to_vec()).expect("is sound"),
        scale,
    });
    let file = with_adapters(stories(), &adapters.collect::<Vec<_>>()).expect("they fit");
    let device = CpuDevice::batch_invariant(2);
    let mut go_on = |_| ControlFlow::Continue(());
    let mut model = Model::load(&file, &device, LoadOptions::new(512), &mut go_on).expect("loads");
    let tokens = model.tokenizer().encode(
        PROMPT,
        EncodeOptions {
            add_special: true,
            parse_special: false,
        },
    );
    let mut options = GenerateOptions {
        max_tokens: Some(N_ANSWER),
        ..GenerateOptions::default()
    };
    options.sampling.temperature = 0.0;
    let mut text = String::new();
    let mut session = Session::new(&mut model);
    let written = session.generate(&tokens, &options, &mut |event| {
        if let Event::Text(more) = event {
            text.push_str(more);
        }
        ControlFlow::Continue(())
    });
    written.expect("an answer");
    text
}

/// A host and its routes.
struct Served {
    home: Home,
    host: Host,
}

impl Served {
    fn new(name: &str) -> Self {
        let home = Home::new(name);
        let host = home.host(HostSettings::default());
        Self { home, host }
    }

    async fn ask(&self, method: &str, path: &str, body: impl Into<Body>) -> (u16, Value) {
        let request = Request::builder().method(method).uri(path);
        let request = request.header("content-type", "application/json");
        let request = request.body(body.into()).expect("is one");
        let routes = crate::app::routes(Arc::new(self.host.clone()));
        let response = routes.oneshot(request).await.expect("answers");
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await;
        let body = body.expect("a body");
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }

    async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        self.ask("POST", path, body.to_string()).await
    }

    /// Uploads a file, and returns its digest.
    async fn upload(&self, bytes: &[u8]) -> String {
        let digest = Digest::of(&Sha256::digest(bytes)).to_string();
        let path = format!("/api/blobs/{digest}");
        let (status, _) = self.ask("POST", &path, bytes.to_vec()).await;
        assert!(status < 300, "{status}");
        digest
    }

    async fn create(&self, name: &str, from: &str, adapters: Value) -> (u16, Value) {
        let body = json!({"model": name, "from": from, "adapters": adapters, "stream": false});
        self.post("/api/create", body).await
    }

    /// A greedy answer, and how much of its prompt was in the cache.
    async fn text(&self, model: &str) -> (String, u64) {
        let body =
            json!({"model": model, "prompt": PROMPT, "max_tokens": N_ANSWER, "temperature": 0});
        let (status, answer) = self.post("/v1/completions", body).await;
        assert_eq!(status, 200, "{answer}");
        let text = answer["choices"][0]["text"]
            .as_str()
            .expect("text")
            .to_owned();
        let cached = &answer["usage"]["prompt_tokens_details"]["cached_tokens"];
        (text, cached.as_u64().expect("a count"))
    }

    fn blobs(&self) -> usize {
        std::fs::read_dir(self.home.0.join("blobs")).map_or(0, Iterator::count)
    }

    fn blob(&self, digest: &str) -> PathBuf {
        self.home.0.join("blobs").join(digest.replace(':', "-"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn models_with_adapters_answer_as_run_does_beside_their_base() {
    let served = Served::new("adapters");
    let (one, two) = (adapter(1, "llama"), adapter(2, "llama"));
    let (first, second) = (served.upload(&one).await, served.upload(&two).await);
    for (name, from, adapters) in [
        ("one", "stories", json!({"one.gguf": first})),
        (
            "half",
            "stories",
            json!({"two.gguf": {"digest": second, "scale": 0.5}}),
        ),
        ("both", "one", json!({"two.gguf": second})),
    ] {
        let (status, answer) = served.create(name, from, adapters).await;
        assert_eq!(status, 200, "{name}: {answer}");
    }
    let want = [
        ("stories", run(&[])),
        ("one", run(&[(&one, 1.0)])),
        ("half", run(&[(&two, 0.5)])),
        ("both", run(&[(&one, 1.0), (&two, 1.0)])),
    ];
    for (at, (name, text)) in want.iter().enumerate() {
        let others = want[..at].iter().map(|(_, text)| text);
        assert!(
            others.clone().all(|other| other != text),
            "{name} is another"
        );
    }
    // The base first: what it has cached is not theirs.
    for (name, text) in &want {
        let (have, cached) = served.text(name).await;
        assert_eq!((&have, cached), (text, 0), "{name}");
    }
    // All at once, and each with its own cache.
    let all = want.iter().map(|(name, _)| served.text(name));
    let all = futures_util::future::join_all(all).await;
    for ((have, cached), (name, text)) in all.iter().zip(&want) {
        assert_eq!(have, text, "{name}");
        assert!(*cached > 0, "{name}");
    }
    let (_, loaded) = served.ask("GET", "/api/ps", "").await;
    let size = |name: &str| {
        let models = loaded["models"].as_array().expect("a list");
        let found = models
            .iter()
            .find(|model| model["name"] == format!("{name}:latest"));
        found
            .and_then(|model| model["size"].as_u64())
            .expect("is loaded")
    };
    let added = |bytes: &[u8]| {
        let file = ModelFile::from_bytes("adapter", bytes.to_vec()).expect("is sound");
        file.tensors()
            .iter()
            .map(|tensor| tensor.bytes)
            .sum::<u64>()
    };
    assert!(size("one") >= size("stories") + added(&one));
    assert!(size("both") > size("one"));
}

#[tokio::test(flavor = "multi_thread")]
async fn they_are_listed_shown_and_deleted_like_any_model() {
    let served = Served::new("adapters-listed");
    let (one, two) = (adapter(1, "llama"), adapter(2, "llama"));
    let (first, second) = (served.upload(&one).await, served.upload(&two).await);
    let scaled = json!({"two.gguf": {"digest": second, "scale": -0.5}});
    assert_eq!(
        served.create("one", "stories", json!({"a": first})).await.0,
        200
    );
    assert_eq!(served.create("two", "one", scaled).await.0, 200);
    let (_, tags) = served.ask("GET", "/api/tags", "").await;
    let tags = tags["models"].as_array().expect("a list").clone();
    let sizes = tags
        .iter()
        .map(|model| (model["name"].clone(), model["size"].clone()));
    let whole = STORIES.len() + one.len();
    assert_eq!(
        sizes.collect::<Vec<_>>(),
        [
            (json!("one:latest"), json!(whole)),
            (json!("two:latest"), json!(whole + two.len())),
            (json!("stories:latest"), json!(STORIES.len())),
        ]
    );
    assert_ne!(tags[0]["digest"], tags[1]["digest"]);
    let (_, shown) = served.post("/api/show", json!({"model": "two"})).await;
    assert_eq!(
        shown["adapters"],
        json!([{"from": first, "scale": 1.0}, {"from": second, "scale": -0.5}])
    );
    let file = shown["modelfile"].as_str().expect("text");
    let want = format!("FROM stories\nADAPTER {first}\n# times -0.5\nADAPTER {second}\n");
    assert!(file.starts_with(&want), "{file}");
    // An adapter goes with the last model that needs it.
    let delete = async |name: &str| {
        let body = json!({"model": name}).to_string();
        served.ask("DELETE", "/api/delete", body).await.0
    };
    assert_eq!((delete("one").await, served.blobs()), (200, 2));
    assert_eq!((delete("two").await, served.blobs()), (200, 0));
    // A file that models are made of stays, as ever.
    std::fs::write(served.home.0.join("base.gguf"), STORIES).expect("is written");
    let first = served.upload(&one).await;
    assert_eq!(
        served.create("one", "base", json!({"a": first})).await.0,
        200
    );
    assert_eq!(delete("base").await, 409);
    assert_eq!((delete("one").await, delete("base").await), (200, 200));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_an_adapter_is_said() {
    let served = Served::new("adapters-refused");
    let good = served.upload(&adapter(1, "llama")).await;
    let other = served.upload(&adapter(1, "phi3")).await;
    let model = served.upload(STORIES).await;
    let text = served.upload(b"no GGUF file at all").await;
    let absent = format!("sha256:{}", "0".repeat(64));
    for (adapters, says) in [
        (json!({"a": absent}), "was uploaded; upload it first"),
        (json!({"a": "style.gguf"}), "a digest is written as"),
        (json!({"a": 7}), "expected a digest"),
        (json!({"a": {"digest": good, "scale": 1e300}}), "finite"),
        (json!({"a": other}), "is for architecture `phi3`"),
        (json!({"a": good, "b": model}), "is no LoRA adapter"),
        (json!({"a": text}), "no GGUF file"),
    ] {
        let (status, answer) = served.create("x", "stories", adapters.clone()).await;
        let error = answer["error"].as_str().unwrap_or_default();
        assert_eq!(status, 400, "{adapters}: {answer}");
        assert!(error.contains(says), "{adapters}: {error}");
        let home = served.home.0.display().to_string();
        assert!(!error.contains(&home), "paths are not told: {error}");
    }
    let (status, _) = served.post("/api/show", json!({"model": "x"})).await;
    assert_eq!(status, 404, "nothing was made");
    // Files that are damaged or gone later.
    assert_eq!(
        served.create("x", "stories", json!({"a": good})).await.0,
        200
    );
    let ask = json!({"model": "x", "prompt": "Hi", "max_tokens": 2});
    for (spoil, says) in [
        (
            &(|| std::fs::write(served.blob(&good), b"GGUF")) as &dyn Fn() -> _,
            "damaged",
        ),
        (
            &|| std::fs::remove_file(served.blob(&good)),
            "is gone; upload it again",
        ),
    ] {
        spoil().expect("is spoilt");
        let (status, answer) = served.post("/v1/completions", ask.clone()).await;
        let error = answer["error"]["message"].as_str().unwrap_or_default();
        assert_eq!(status, 409, "{answer}");
        assert!(error.contains(says) && error.contains(&good), "{error}");
    }
    let body = json!({"model": "x"}).to_string();
    assert_eq!(served.ask("DELETE", "/api/delete", body).await.0, 200);
}
