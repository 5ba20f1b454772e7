//! Models that are none, a folder of them, and a server over it.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Request};
use image::{DynamicImage, Rgb, RgbImage};
use tower::ServiceExt as _;
use troika_base::DeviceKind;
use troika_device_npu::exec::{Data, Executor, Opened, Port, Tensor, Wish};
use troika_device_npu::{Absent, Error};
use troika_media::vision::picture;

use crate::job::KeepAlive;
use crate::keys::{KeyFile, Keys};
use crate::media::Media;
use crate::testing::Scripted;
use crate::{Backend, Drain, Settings};

/// How the models behave.
#[derive(Default)]
pub(super) struct Behaviour {
    /// There is an NPU, and this is what its runs say.
    pub(super) npu: Option<Result<(), String>>,
    /// Runs wait until they are let go.
    pub(super) gate: Option<Gate>,
    /// Models opened.
    pub(super) opened: AtomicUsize,
    /// Runs begun.
    pub(super) runs: AtomicUsize,
}

/// Where runs wait: each takes a token.
pub(super) struct Gate {
    tokens: Mutex<Receiver<()>>,
}

impl Gate {
    pub(super) fn new() -> (Sender<()>, Self) {
        let (sender, tokens) = channel();
        let tokens = Mutex::new(tokens);
        (sender, Self { tokens })
    }
}

/// A folder of models, and the server that has it.
pub(super) struct Fixture {
    pub(super) home: tempfile::TempDir,
    pub(super) behaviour: Arc<Behaviour>,
    pub(super) app: Router,
    pub(super) backend: Arc<Scripted>,
}

pub(super) struct Told {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Told {
    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    pub(super) fn message(&self) -> String {
        let told = self.json();
        let message = told["error"]["message"].as_str();
        message.expect("an error of OpenAI's form").to_owned()
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().expect("text"))
    }
}

impl Fixture {
    pub(super) fn new(behaviour: Behaviour) -> Self {
        Self::with(behaviour, |_| {})
    }

    pub(super) fn with(behaviour: Behaviour, change: impl FnOnce(&mut Settings)) -> Self {
        let home = tempfile::tempdir().expect("a folder");
        for name in ["gtcrn", "red", "silero_vad"] {
            std::fs::write(home.path().join(name).with_extension("onnx"), b"").expect("a file");
        }
        std::fs::write(home.path().join("red.toml"), RED).expect("a card");
        let mut settings = Settings {
            onnx_dir: home.path().to_owned(),
            keys_file: home.path().join("keys.toml"),
            keep_alive: KeepAlive::For(Duration::from_secs(60)),
            ..Settings::default()
        };
        change(&mut settings);
        let behaviour = Arc::new(behaviour);
        let shared = Arc::clone(&behaviour);
        let opener = move |path: &Path, wish: &Wish| open(&shared, path, wish);
        let media = Media::with(&settings, None, Arc::new(opener));
        let keys = Keys::open(KeyFile::at(&settings.keys_file)).expect("no keys");
        let scripted = Scripted::new([]);
        let backend: Arc<dyn Backend> = Arc::<Scripted>::clone(&scripted);
        let app = crate::app(backend, media, &settings, keys, &Drain::default());
        Self {
            home,
            behaviour,
            app: app.expect("a server"),
            backend: scripted,
        }
    }

    pub(super) async fn post(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Told {
        let mut request = Request::post(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.ask(request.body(body.into()).expect("a request"))
            .await
    }

    pub(super) async fn get(&self, path: &str) -> Told {
        self.ask(Request::get(path).body(Body::empty()).expect("a request"))
            .await
    }

    async fn ask(&self, request: Request<Body>) -> Told {
        let response = self.app.clone().oneshot(request).await.expect("an answer");
        let (parts, body) = response.into_parts();
        Told {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: axum::body::to_bytes(body, usize::MAX)
                .await
                .expect("a body"),
        }
    }

    pub(super) fn opened(&self) -> usize {
        self.behaviour.opened.load(Ordering::SeqCst)
    }
}

/// The card of the model that finds what is red.
const RED: &str = "kind = \"segment\"\ntitle = \"Red\"\n[picture]\nsize = [4, 2]\n[mask]\n";

/// Four by two pixels, of which the right half is red.
pub(super) fn red_half() -> Vec<u8> {
    let image = RgbImage::from_fn(4, 2, |x, _| Rgb(if x < 2 { [0; 3] } else { [255, 0, 0] }));
    picture::png(&DynamicImage::ImageRgb8(image)).expect("a picture")
}

/// A WAV file of 16 kHz: half a second of silence, a second that is loud, half a second of silence.
pub(super) fn loud_second() -> Vec<u8> {
    let silence = [0_i16; 8000];
    let samples = silence.iter().chain(&[20_000; 16_000]).chain(&silence);
    wav(&samples.copied().collect::<Vec<_>>())
}

pub(super) fn wav(samples: &[i16]) -> Vec<u8> {
    let mut file = crate::media::audio::wav_header(samples.len() as u64, 16_000).to_vec();
    file.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
    file
}

/// What `exec::open` does where nothing is installed, or where there is an NPU.
fn open(behaviour: &Arc<Behaviour>, path: &Path, wish: &Wish) -> Result<Opened, Error> {
    let absent = || Absent::NoDevice {
        maker: "Intel".to_owned(),
    };
    let device = match (wish.device, &behaviour.npu) {
        (Some(DeviceKind::Npu) | None, Some(_)) => "npu0",
        (Some(DeviceKind::Cpu) | None, _) => "cpu0",
        _ => return Err(absent().into()),
    };
    behaviour.opened.fetch_add(1, Ordering::SeqCst);
    let name = path.file_stem().and_then(|stem| stem.to_str());
    let (inputs, outputs) = match name {
        Some("silero_vad") => (
            vec![
                port("input", &[None, None]),
                port("state", &[Some(2), None, Some(128)]),
                port("sr", &[]),
            ],
            vec![
                port("output", &[None, Some(1)]),
                port("stateN", &[None, None, None]),
            ],
        ),
        Some("gtcrn") => gtcrn(),
        _ => (
            vec![port("picture", &[1, 3, 2, 4].map(Some))],
            vec![port("mask", &[1, 1, 2, 4].map(Some))],
        ),
    };
    let lost = match wish.device {
        None if device == "cpu0" => vec![("openvino on npu0".to_owned(), absent().to_string())],
        _ => Vec::new(),
    };
    Ok(Opened {
        executor: Box::new(Fake {
            behaviour: Arc::clone(behaviour),
            inputs,
            outputs,
            device,
        }),
        lost,
    })
}

fn gtcrn() -> (Vec<Port>, Vec<Port>) {
    let caches: [(&str, &[usize]); 3] = [
        ("conv_cache", &[2, 1, 16, 16, 33]),
        ("tra_cache", &[2, 3, 1, 1, 16]),
        ("inter_cache", &[2, 1, 33, 16]),
    ];
    let spectrum = [1, 257, 1, 2].map(Some);
    let mut inputs = vec![port("mix", &spectrum)];
    let mut outputs = vec![port("enh", &spectrum)];
    for (name, shape) in caches {
        let shape: Vec<_> = shape.iter().copied().map(Some).collect();
        inputs.push(port(name, &shape));
        outputs.push(port(&format!("{name}_out"), &shape));
    }
    (inputs, outputs)
}

fn port(name: &str, shape: &[Option<usize>]) -> Port {
    Port {
        name: name.to_owned(),
        shape: shape.to_vec(),
    }
}

/// Speech is what is loud, a mask what is red, and no noise is taken out.
struct Fake {
    behaviour: Arc<Behaviour>,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    device: &'static str,
}

impl Executor for Fake {
    fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    fn run(&mut self, inputs: Vec<(&str, Tensor)>) -> Result<Vec<Tensor>, Error> {
        self.behaviour.runs.fetch_add(1, Ordering::SeqCst);
        if let Some(gate) = &self.behaviour.gate {
            // A gate that is gone holds nobody.
            let _ = gate.tokens.lock().expect("a gate").recv();
        }
        if let ("npu0", Some(Err(why))) = (self.device, &self.behaviour.npu) {
            return Err(Error::Library {
                library: "a library".to_owned(),
                doing: "running".to_owned(),
                message: why.clone(),
            });
        }
        let mut given: Vec<_> = self
            .inputs
            .iter()
            .map(|port| {
                let found = inputs.iter().find(|(name, _)| *name == port.name);
                found.expect("every input").1.clone()
            })
            .collect();
        let first = &mut given[0];
        let Data::F32(values) = &first.data else {
            panic!("numbers are expected");
        };
        match &*self.outputs[0].name {
            "output" => {
                let loudest = values
                    .iter()
                    .fold(0.0_f32, |most, value| most.max(value.abs()));
                *first = Tensor::f32([1, 1], vec![if loudest > 0.1 { 0.9 } else { 0.1 }]);
                given.truncate(2);
            }
            "mask" => *first = Tensor::f32([1, 1, 2, 4], values[..8].to_vec()),
            _ => {}
        }
        Ok(given)
    }

    fn device(&self) -> &str {
        self.device
    }

    fn library(&self) -> &str {
        "a fake"
    }
}
