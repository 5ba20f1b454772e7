//! Always-on work, through all layers.

mod fakes;
mod lanes;

use serde_json::{Value, json};
use troika_media::vision::picture;
use troika_scheduler::Policy;

use super::*;
use crate::keys::{KeyFile, NewKey, Scope};
use crate::settings::FIELDS;
use fakes::{Behaviour, Fixture, loud_second, red_half, wav};

const ACTIVITY: &str = "/api/troika/audio/activity";
const DENOISE: &str = "/api/troika/audio/denoise";
const VISION: &str = "/api/troika/vision";

fn plain() -> Fixture {
    Fixture::new(Behaviour::default())
}

/// The one stretch of speech in [`loud_second`], with padding.
fn is_the_loud_second(spoken: &Value) -> bool {
    let near = |field: &str, want: f64| (spoken[field].as_f64().unwrap() - want).abs() < 0.05;
    near("start_s", 0.47) && near("end_s", 1.53) && near("probability", 0.9)
}

#[tokio::test]
async fn speech_is_found_and_the_answer_says_by_whom() {
    let told = plain().post(ACTIVITY, &[], loud_second()).await;
    let body = told.json();
    assert_eq!(told.status, 200, "{body}");
    assert_eq!(body["segments"].as_array().unwrap().len(), 1, "{body}");
    assert!(is_the_loud_second(&body["segments"][0]), "{body}");
    assert_eq!(
        (&body["length_s"], &body["model"]),
        (&json!(2.0), &json!("silero_vad"))
    );
    let troika = &body["troika"];
    assert_eq!(troika["device"], "cpu0");
    assert_eq!(troika["library"], "a fake");
    assert_eq!(troika["lost"][0]["candidate"], "openvino on npu0");
    assert_eq!(
        troika["lost"][0]["why"],
        "no device: this machine has no Intel NPU"
    );
    assert_eq!(troika["class"], "interactive");
    for field in ["queue_ms", "load_ms", "run_ms"] {
        assert!(troika[field].as_f64().unwrap() >= 0.0, "{troika}");
    }
    assert_eq!(
        (&troika["joules"], &troika["joules_source"]),
        (&Value::Null, &json!("unknown"))
    );
    assert_eq!(told.header("x-troika-placement"), "run=cpu0");
}

#[tokio::test]
async fn speech_is_told_as_it_is_found() {
    let fixture = plain();
    for accept in ["application/x-ndjson", "text/event-stream"] {
        let told = fixture
            .post(ACTIVITY, &[("accept", accept)], loud_second())
            .await;
        assert_eq!(told.header("content-type"), accept);
        assert_eq!(told.header("x-troika-placement"), "run=cpu0");
        let text = std::str::from_utf8(&told.body).unwrap();
        let data = text
            .lines()
            .map(|line| line.strip_prefix("data: ").unwrap_or(line));
        let lines: Vec<Value> = data
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(is_the_loud_second(&lines[0]), "{text}");
        assert_eq!(
            (&lines[0]["event"], &lines[1]["event"]),
            (&json!("speech"), &json!("summary"))
        );
        assert_eq!(lines[1]["segments"], 1);
        assert!(lines[1]["troika"]["run_ms"].is_f64(), "{text}");
        assert_eq!(
            accept == "text/event-stream",
            text.contains("event: speech\n")
        );
    }
}

#[tokio::test]
async fn a_sound_may_come_in_a_form_with_settings() {
    let mut form = b"--x\r\ncontent-disposition: form-data; name=\"min_speech_ms\"\r\n\r\n5000\r\n--x\r\n\
        content-disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\ncontent-type: audio/wav\r\n\r\n"
        .to_vec();
    form.extend(loud_second());
    form.extend(b"\r\n--x--\r\n");
    let header = ("content-type", "multipart/form-data; boundary=x");
    let fixture = plain();
    let told = fixture.post(ACTIVITY, &[header], form).await.json();
    assert_eq!(told["segments"], json!([]), "a second is shorter than five");
    // The settings were that request's alone.
    let told = fixture.post(ACTIVITY, &[], loud_second()).await.json();
    assert_eq!(told["segments"].as_array().unwrap().len(), 1);
    let empty = "--x\r\ncontent-disposition: form-data; name=\"a\"\r\n\r\n1\r\n--x--\r\n";
    let told = fixture.post(ACTIVITY, &[header], empty).await;
    assert_eq!(
        (told.status, &told.json()["error"]["param"]),
        (400, &json!("file"))
    );
    let told = fixture.post(ACTIVITY, &[header], "--y").await;
    assert!(
        told.status == 400 && told.message().contains("form"),
        "{}",
        told.message()
    );
}

#[tokio::test]
async fn a_sound_comes_back_as_long_as_it_was() {
    let sound = loud_second();
    let told = plain().post(DENOISE, &[], sound.clone()).await;
    assert_eq!(told.status, 200);
    assert_eq!(told.header("content-type"), "audio/wav");
    assert_eq!(told.header("content-length"), sound.len().to_string());
    assert_eq!(told.header("x-troika-placement"), "run=cpu0");
    let report: Value = serde_json::from_str(told.header("x-troika-report")).unwrap();
    assert_eq!(report["library"], "a fake");
    assert_eq!(report["run_ms"], Value::Null, "it is not over yet");
    // The fake takes nothing out.
    assert_eq!(told.body[..44], sound[..44]);
    let samples = |bytes: &[u8]| -> Vec<i32> {
        let pairs = bytes[44..].as_chunks().0.iter();
        pairs.map(|pair| i16::from_le_bytes(*pair).into()).collect()
    };
    let worst = std::iter::zip(samples(&sound), samples(&told.body)).map(|(a, b)| (a - b).abs());
    assert!(worst.max().unwrap() <= 1);
}

#[tokio::test]
async fn a_mask_is_told_in_each_form() {
    let fixture = plain();
    let told = fixture.post(VISION, &[], red_half()).await;
    let body = told.json();
    assert_eq!(told.status, 200, "{body}");
    assert_eq!(
        (&body["kind"], &body["model"]),
        (&json!("segment"), &json!("red"))
    );
    assert_eq!(body["mask"]["runs"], json!([2, 2, 2, 2]));
    assert_eq!(body["mask"]["coverage"], 0.5);
    assert_eq!(body["troika"]["device"], "cpu0");
    assert_eq!(told.header("x-troika-placement"), "run=cpu0");

    let body = fixture
        .post(&format!("{VISION}?mask=none"), &[], red_half())
        .await
        .json();
    assert_eq!(body["mask"]["runs"], Value::Null);
    let url = format!("data:image/png;base64,{}", base64(&red_half()));
    for body in [
        json!({"type": "image_url", "image_url": {"url": url}, "mask": "png"}),
        json!({"type": "input_image", "image_url": url, "mask": "png", "model": "red"}),
    ] {
        let json = [("content-type", "application/json")];
        let told = fixture.post(VISION, &json, body.to_string()).await.json();
        let png = told["mask"]["png"].as_str().expect("base64");
        use base64::Engine as _;
        let png = base64::prelude::BASE64_STANDARD.decode(png).unwrap();
        let matte = picture::decode(&png, "matte").unwrap();
        assert_eq!(matte.dimensions(), (4, 2));
        assert!(matte.get_pixel(3, 0)[0] > 128 && matte.get_pixel(0, 0)[0] < 128);
    }
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::prelude::BASE64_STANDARD.encode(bytes)
}

#[tokio::test]
async fn a_background_is_replaced() {
    let fixture = plain();
    for (query, accept, corner) in [
        ("?background=%230000ff", "*/*", Some([0, 0, 255])),
        ("?model=red&background=mask", "image/png", Some([0, 0, 0])),
        ("?model=red.onnx", "image/png, */*;q=0.5", None),
        ("?background=remove", "image/*", None),
    ] {
        let path = format!("{VISION}{query}");
        let told = fixture.post(&path, &[("accept", accept)], red_half()).await;
        assert_eq!(
            (told.status, told.header("content-type")),
            (200, "image/png"),
            "{query}"
        );
        let report: Value = serde_json::from_str(told.header("x-troika-report")).unwrap();
        assert!(report["run_ms"].is_f64(), "{report}");
        let image = picture::decode(&told.body, "answer").unwrap();
        assert_eq!(image.dimensions(), (4, 2));
        if let Some(corner) = corner {
            let far = std::iter::zip(image.get_pixel(0, 0).0, corner).map(|(a, b)| a.abs_diff(b));
            assert!(far.max() < Some(64), "{query}: {:?}", image.get_pixel(0, 0));
        }
    }
    let both = [("accept", "application/json")];
    let told = fixture
        .post(&format!("{VISION}?background=blur"), &both, red_half())
        .await;
    assert_eq!(told.header("content-type"), "application/json");
}

/// The one way through the real executor.
#[tokio::test]
async fn boxes_are_found_by_the_executor_that_is_always_there() {
    let home = tempfile::tempdir().unwrap();
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/../media/tests/data/boxes");
    for end in ["onnx", "toml"] {
        let from = std::path::Path::new(data).with_extension(end);
        std::fs::copy(from, home.path().join("boxes").with_extension(end)).unwrap();
    }
    let settings = Settings {
        onnx_dir: home.path().to_owned(),
        ..Settings::default()
    };
    let backend = crate::testing::Scripted::new([]);
    let app = backend.app_with(&settings, &crate::Drain::default());
    let white = image::RgbImage::from_pixel(64, 64, image::Rgb([255; 3]));
    let white = picture::png(&white.into()).unwrap();
    let request = axum::http::Request::post(VISION).header("x-troika-device", "cpu0");
    let request = request.body(axum::body::Body::from(white)).unwrap();
    let response = tower::ServiceExt::oneshot(app, request).await.unwrap();
    let body = axum::body::to_bytes(response.into_body(), usize::MAX)
        .await
        .unwrap();
    let told: Value = serde_json::from_slice(&body).unwrap();
    let labels: Vec<_> = told["boxes"]
        .as_array()
        .expect("boxes")
        .iter()
        .map(|it| &it["label"])
        .collect();
    assert!(
        labels.contains(&&json!("cat")) && labels.contains(&&json!("dog")),
        "{told}"
    );
    assert_eq!(told["troika"]["device"], "cpu0", "{told}");
}

/// Data that lie beside the project, or nothing where they do not.
fn shared(path: &str) -> Option<std::path::PathBuf> {
    let root = std::env::var_os("TROIKA_SHARED").map_or_else(
        || std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
        std::path::PathBuf::from,
    );
    let path = root.join("data").join(path);
    if !path.exists() {
        println!("skipped: {} is absent", path.display());
        return None;
    }
    Some(path)
}

#[tokio::test]
async fn real_models_do_real_work() {
    let home = tempfile::tempdir().unwrap();
    for path in [
        "audio/silero_vad.onnx",
        "audio/gtcrn_simple.onnx",
        "vision/selfie_segmentation_landscape.onnx",
    ] {
        let Some(path) = shared(path) else { return };
        std::fs::copy(&path, home.path().join(path.file_name().unwrap())).unwrap();
    }
    let settings = Settings {
        onnx_dir: home.path().to_owned(),
        ..Settings::default()
    };
    let backend = crate::testing::Scripted::new([]);
    let app = backend.app_with(&settings, &crate::Drain::default());
    let ask = async |path: &str, file: &str| {
        let sent = std::fs::read(shared(file).unwrap()).unwrap();
        let request = axum::http::Request::post(path).header("x-troika-device", "cpu0");
        let request = request.body(axum::body::Body::from(sent)).unwrap();
        let response = tower::ServiceExt::oneshot(app.clone(), request)
            .await
            .unwrap();
        assert_eq!(response.headers()["x-troika-placement"], "run=cpu0");
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await;
        body.unwrap()
    };
    let told: Value = serde_json::from_slice(&ask(ACTIVITY, "audio/jfk.wav").await).unwrap();
    let starts = told["segments"].as_array().unwrap().iter();
    let starts: Vec<_> = starts.map(|it| it["start_s"].as_f64().unwrap()).collect();
    // As Silero's own code has them.
    assert!(
        starts.len() == 4
            && std::iter::zip(&starts, [0.322, 3.266, 5.378, 8.162])
                .all(|(a, b)| (a - b).abs() < 0.1),
        "{starts:?}"
    );
    let clean = ask(DENOISE, "audio/mix.wav").await;
    let noisy = std::fs::read(shared("audio/mix.wav").unwrap()).unwrap();
    assert!(clean.len().abs_diff(noisy.len()) < 100 && clean[44..] != noisy[44..]);
    let told = ask(VISION, "vision/sergey.png").await;
    let told: Value = serde_json::from_slice(&told).unwrap();
    let coverage = told["mask"]["coverage"].as_f64().unwrap();
    assert!((0.2..0.8).contains(&coverage), "{coverage}");
}

#[tokio::test]
async fn what_is_wrong_is_said() {
    let fixture = Fixture::with(Behaviour::default(), |settings| {
        settings.body_limit = 70_000
    });
    let png = red_half();
    let json = ("content-type", "application/json");
    type Case<'c> = (&'c str, &'c [(&'c str, &'c str)], Vec<u8>, u16, &'c str);
    let cases: [Case<'_>; 20] = [
        (
            VISION,
            &[],
            b"no picture".to_vec(),
            400,
            "JPEG, PNG and WebP",
        ),
        (VISION, &[], Vec::new(), 400, "body is empty"),
        (VISION, &[], vec![0; 70_001], 413, "body_limit"),
        (
            "/api/troika/vision?model=cat",
            &[],
            png.clone(),
            404,
            "gtcrn, red, silero_vad",
        ),
        (
            "/api/troika/vision?model=../red",
            &[],
            png.clone(),
            404,
            "no ONNX model",
        ),
        (
            "/api/troika/vision?model=gtcrn",
            &[],
            png.clone(),
            400,
            "noise suppression",
        ),
        (
            "/api/troika/vision?background=plaid",
            &[],
            png.clone(),
            400,
            "blur, remove, mask",
        ),
        (
            "/api/troika/vision?mask=svg",
            &[],
            png.clone(),
            400,
            "runs, png or none",
        ),
        (
            "/api/troika/vision?top=0",
            &[],
            png.clone(),
            400,
            "from 1 to 1000",
        ),
        (
            VISION,
            &[("x-troika-class", "urgent")],
            png.clone(),
            400,
            "interactive",
        ),
        (
            VISION,
            &[("x-troika-device", "tpu0")],
            png.clone(),
            400,
            "npu0, gpu0, cpu0",
        ),
        (
            VISION,
            &[("x-troika-device", "npu0")],
            png,
            412,
            "no Intel NPU",
        ),
        (
            VISION,
            &[json],
            b"{}".to_vec(),
            400,
            "`image_url` is missing",
        ),
        (
            VISION,
            &[json],
            br#"{"image_url": "https://a.example/b.png"}"#.to_vec(),
            400,
            "nothing is fetched",
        ),
        (
            VISION,
            &[json],
            br#"{"image_url": "data:image/png;base64,*"}"#.to_vec(),
            400,
            "not base64",
        ),
        (
            ACTIVITY,
            &[],
            b"no sound at all".to_vec(),
            400,
            "WAV, FLAC, MP3",
        ),
        (ACTIVITY, &[], wav(&[]), 400, "no sound in it"),
        (
            "/api/troika/audio/activity?threshold=2",
            &[],
            loud_second(),
            400,
            "from 0 to 1",
        ),
        (
            "/api/troika/audio/denoise?model=red",
            &[],
            loud_second(),
            400,
            "is for segmentation",
        ),
        (
            "/v1/audio/transcriptions",
            &[],
            loud_second(),
            400,
            "/api/troika/audio/activity",
        ),
    ];
    for (path, headers, body, status, says) in cases {
        let told = fixture.post(path, headers, body).await;
        let message = told.message();
        assert_eq!(told.status, status, "{path}: {message}");
        assert!(message.contains(says), "{path}: {message}");
        let home = fixture.home.path().display().to_string();
        assert!(!message.contains(&home), "{message}");
    }
    assert_eq!(fixture.get("/v1/audio/speech").await.status, 405);
}

#[tokio::test]
async fn without_models_the_answer_says_where_they_belong() {
    let fixture = Fixture::with(Behaviour::default(), |settings| {
        settings.onnx_dir = settings.onnx_dir.join("not-there");
    });
    for (path, body) in [(ACTIVITY, loud_second()), (VISION, red_half())] {
        let told = fixture.post(path, &[], body).await;
        assert_eq!(told.status, 404);
        assert!(told.message().contains("onnx_dir"), "{}", told.message());
    }
    let list = fixture.get("/api/troika/onnx").await.json();
    assert_eq!(list["data"], json!([]));
    assert!(FIELDS.iter().any(|field| field.key == "onnx_dir"));
}

#[tokio::test]
async fn the_models_are_listed_with_what_would_run_them() {
    let fixture = plain();
    std::fs::write(fixture.home.path().join("broken.toml"), "kind = 3").unwrap();
    std::fs::write(fixture.home.path().join("broken.onnx"), "").unwrap();
    let list = fixture.get("/api/troika/onnx").await.json();
    let find = |name: &str| {
        let mut models = list["data"].as_array().unwrap().iter();
        models
            .find(|model| model["name"] == name)
            .expect("listed")
            .clone()
    };
    let red = find("red");
    assert_eq!(
        (&red["kind"], &red["device"]),
        (&json!("segment"), &json!("cpu0"))
    );
    assert_eq!(red["card"]["origin"], "red.toml");
    assert_eq!(red["card"]["title"], "Red");
    assert_eq!(red["lost"][0]["candidate"], "openvino on npu0");
    assert_eq!(red["open"], false);
    assert_eq!(
        (&find("gtcrn")["kind"], &find("silero_vad")["kind"]),
        (&json!("denoise"), &json!("activity"))
    );
    let why = find("broken")["error"].as_str().unwrap().to_owned();
    assert!(why.contains("broken.toml") && !why.contains("tmp"), "{why}");

    // What was looked at lately is not opened again, and what works is told as such.
    let opened = fixture.opened();
    fixture.post(ACTIVITY, &[], loud_second()).await;
    let list = fixture.get("/api/troika/onnx").await.json();
    assert_eq!(list["data"][3]["open"], true, "{list}");
    assert!(
        fixture.opened() <= opened + 2,
        "to know its kind, and to work"
    );
    let seeing = fixture.get(VISION).await.json();
    let names: Vec<_> = seeing["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["name"])
        .collect();
    assert_eq!(names, ["broken", "red"]);
}

#[tokio::test]
async fn the_policy_and_the_header_choose_the_device() {
    let fixture = Fixture::new(Behaviour {
        npu: Some(Ok(())),
        ..Behaviour::default()
    });
    let ask = async |headers: &[(&str, &str)]| {
        let told = fixture.post(VISION, headers, red_half()).await;
        told.header("x-troika-placement").to_owned()
    };
    assert_eq!(ask(&[]).await, "run=npu0");
    assert_eq!(ask(&[("x-troika-device", "cpu0")]).await, "run=cpu0");
    *fixture.backend.policy.lock().unwrap() = Some(Policy::preferring(DeviceKind::Cpu));
    assert_eq!(ask(&[]).await, "run=cpu0");
    assert_eq!(ask(&[("x-troika-device", "npu0")]).await, "run=npu0");
    // There is none: what is preferred is not required.
    *fixture.backend.policy.lock().unwrap() = Some(Policy::preferring(DeviceKind::Gpu));
    let told = fixture.post(VISION, &[], red_half()).await.json();
    assert_eq!(told["troika"]["device"], "npu0");
    assert_eq!(told["troika"]["lost"][0]["candidate"], "gpu0", "{told}");
}

#[tokio::test]
async fn texts_reach_the_encoder_that_they_name() {
    let fixture = plain();
    let ask = async |model: &str| {
        let body = json!({"model": model, "input": "a", "dimensions": 2}).to_string();
        fixture.post("/v1/embeddings", &[], body).await
    };
    assert_eq!(
        ask("tiny").await.json()["data"][0]["embedding"],
        json!([0.6, 0.0])
    );
    let folder = fixture.home.path().join("minilm");
    std::fs::create_dir(&folder).unwrap();
    assert_eq!(ask("minilm").await.status, 404, "an empty folder is none");
    // Half a model: it is found, and told what it lacks.
    std::fs::write(folder.join("vocab.txt"), "[PAD]\n[UNK]\n[CLS]\n[SEP]\na\n").unwrap();
    for model in ["minilm", "minilm:latest"] {
        let told = ask(model).await;
        assert_eq!(told.status, 400, "{}", told.message());
        assert!(
            told.message().contains("model.safetensors"),
            "{}",
            told.message()
        );
    }
    let list = fixture.get("/api/troika/onnx").await.json();
    assert_eq!(list["data"][1]["name"], "minilm", "{list}");
}

#[tokio::test]
async fn keys_are_asked_for_here_too() {
    let fixture = Fixture::with(Behaviour::default(), |settings| {
        let new = NewKey {
            name: "phone".to_owned(),
            scopes: vec![Scope::Inference],
            ..NewKey::default()
        };
        KeyFile::at(&settings.keys_file).add(new).unwrap();
    });
    for path in [ACTIVITY, DENOISE, VISION, "/v1/audio/transcriptions"] {
        assert_eq!(
            fixture.post(path, &[], loud_second()).await.status,
            401,
            "{path}"
        );
    }
    assert_eq!(fixture.get("/api/troika/onnx").await.status, 401);
}
