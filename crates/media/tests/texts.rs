//! Vectors of texts by a model that people use, and what is refused.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::{Path, PathBuf};

use serde_json::Value;
use troika_device_npu::exec::Wish;
use troika_media::embed::{Error, Model};

/// The folder of all-MiniLM-L6-v2, or `None` with a message.
#[expect(clippy::print_stdout, reason = "a test says what it skips")]
fn minilm() -> Option<PathBuf> {
    let folder = std::env::var_os("TROIKA_MINILM").map(PathBuf::from);
    if folder.is_none() {
        println!("skipped: TROIKA_MINILM does not name the folder of all-MiniLM-L6-v2");
    }
    folder
}

/// What was computed elsewhere; see data/README.md.
fn golden() -> Vec<Value> {
    let text = include_str!("data/minilm.json");
    serde_json::from_str(text).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    let values = value.as_array().unwrap().iter();
    values.map(|value| value.as_f64().unwrap()).collect()
}

fn check(model: &mut Model) -> Vec<f64> {
    let cosines = golden().into_iter().map(|golden| {
        let text = golden["text"].as_str().unwrap();
        let have = model.embed(text).unwrap();
        assert_eq!(have.tokens, numbers(&golden["tokens"]).len(), "{text}");
        let want = numbers(&golden["embedding"]);
        assert_eq!(have.vector.len(), want.len());
        let pairs = have.vector.iter().zip(&want);
        pairs.map(|(have, want)| f64::from(*have) * want).sum()
    });
    cosines.collect()
}

#[test]
fn vectors_are_those_of_the_model_as_it_is_published() {
    let Some(folder) = minilm() else { return };
    for library in ["rten", "onnxruntime", "openvino"] {
        let wish = Wish::parse("cpu0", library).unwrap();
        let mut model = match Model::open(&folder, &wish) {
            Ok(model) => model,
            Err(error) if library != "rten" => {
                println!("skipped: {library}: {error}");
                continue;
            }
            Err(error) => panic!("{error}"),
        };
        let cosines = check(&mut model);
        println!("{} on {}: {cosines:.7?}", model.library(), model.device());
        // OpenVINO computes in 16 bits where the processor can.
        let least = if library == "openvino" { 0.999 } else { 0.9999 };
        assert!(cosines.iter().all(|&cosine| cosine > least), "{cosines:?}");

        let long = "word ".repeat(300);
        let refused = model.embed(&long).unwrap_err();
        assert!(
            matches!(
                refused,
                Error::TooLong {
                    tokens: 302,
                    max: 256
                }
            ),
            "{refused}"
        );
    }
}

#[test]
fn a_folder_that_lacks_something_is_refused() {
    #[track_caller]
    fn check(files: &[(&str, &str)], want: &str) {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let refused = Model::open(folder.path(), &Wish::default()).err().unwrap();
        assert!(refused.to_string().contains(want), "{refused}");
    }
    check(&[], "has neither model.safetensors nor model.onnx");
    check(&[("model.safetensors", "")], "has no vocab.txt");
    let network = ("model.safetensors", "");
    check(&[network, ("vocab.txt", "a\nb\n")], "vocab.txt");
    let vocab = ("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\na\n");
    check(
        &[network, vocab, ("config.json", "{")],
        "config.json is damaged",
    );
    check(&[network, vocab, ("config.json", "{}")], "model_type");
    let none = Model::open(Path::new("no-such.onnx"), &Wish::default());
    assert!(none.is_err());
}
