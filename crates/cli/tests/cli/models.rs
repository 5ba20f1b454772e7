//! Models in files: `list`, `show`, `bench`.

use std::path::Path;

use troika_base::DType;
use troika_gguf::{Metadata, ModelFile, Writer};

use crate::{code, directory, json, stderr, stdout, troika, troika_in};

#[test]
fn installed_models_are_listed_shown_and_run() {
    let home = directory("home");
    let models = home.join("models");
    std::fs::create_dir_all(&models).expect("is made");
    let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/stories.gguf");
    std::fs::copy(assets, models.join("tales.gguf")).expect("is copied");
    std::fs::write(models.join("broken.gguf"), b"not a model").expect("is written");
    std::fs::write(models.join("notes.txt"), b"not even named like one").expect("is written");

    let output = troika_in(&home, &["list", "--json"], b"");
    let list = json(&output);
    let names: Vec<_> = list
        .as_array()
        .expect("a list")
        .iter()
        .map(|entry| &entry["name"])
        .collect();
    assert_eq!(names, ["broken", "tales", "stories"]);
    assert!(list[0]["error"].is_string());
    assert_eq!(list[1]["architecture"], "llama");
    assert_eq!(list[1]["bytes"], list[2]["bytes"]);
    let output = troika_in(&home, &["list"], b"");
    assert_eq!(stdout(&output).lines().count(), 4);
    assert!(
        stderr(&output).contains("not a GGUF file"),
        "{}",
        stderr(&output)
    );

    for name in ["tales", "tales.gguf"] {
        let output = troika_in(&home, &["run", name, "Once", "-n2", "-q"], b"");
        assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    }
    let output = troika_in(
        &home,
        &["show", "tales", "--json", "--tensors", "--ctx", "64,128"],
        b"",
    );
    let shown = json(&output);
    assert_eq!(shown["runs"], true);
    assert_eq!(shown["memory"].as_array().map(Vec::len), Some(2));
    assert_eq!(shown["memory"][1]["n_ctx"], 128);
    assert!(
        shown["tensors"]
            .as_array()
            .is_some_and(|tensors| !tensors.is_empty())
    );
    assert_eq!(shown["metadata"]["general.architecture"], "llama");
}

#[test]
fn a_model_is_shown_to_people() {
    let output = troika(&["show", "stories", "--tensors"]);
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    for part in [
        "architecture",
        "llama",
        "runs here",
        "yes",
        "KV cache",
        "token_embd.weight",
        "tokenizer.ggml.tokens",
    ] {
        assert!(
            stdout(&output).contains(part),
            "{part} in {}",
            stdout(&output)
        );
    }
}

#[test]
fn bench_measures_what_was_asked_for() {
    let args = [
        "bench", "-p", "16", "-n", "4", "-d", "0,8", "-b", "1,2", "-t", "1,2", "-r", "2", "-q",
    ];
    let with = |flag| args.into_iter().chain([flag]).collect::<Vec<_>>();
    let rows = json(&troika(&with("--json")));
    let rows = rows.as_array().expect("a list");
    assert_eq!(rows.len(), 16);
    assert_eq!(rows[0]["test"], "pp16");
    assert_eq!(rows[1]["test"], "tg4");
    let last = &rows[15];
    assert_eq!(
        (&last["depth"], &last["batch"], &last["threads"]),
        (&8.into(), &2.into(), &2.into())
    );
    for row in rows {
        let tps = |key: &str| row[key].as_f64().expect("a number");
        assert!(
            tps("tps_min") > 0.0
                && tps("tps_min") <= tps("tps_median")
                && tps("tps_median") <= tps("tps_max")
        );
        assert!(tps("first_token_ms") >= tps("load_ms"));
        assert_eq!(row["rounds"], 2);
    }
    if cfg!(target_os = "linux") {
        assert!(rows[0]["rss_bytes_peak"].as_u64() > rows[0]["model_bytes"].as_u64());
    }
    let csv = troika(&["bench", "-p", "16", "-n", "0", "-r", "1", "-q", "--csv"]);
    assert_eq!(stdout(&csv).lines().count(), 2);
    let table = troika(&["bench", "-p", "0", "-n", "4", "-r", "1", "-q"]);
    assert!(stdout(&table).contains("tg4"), "{}", stdout(&table));
}

#[test]
fn created_models_are_listed_shown_and_run() {
    let home = directory("created");
    let manifests = home.join("models/manifests");
    std::fs::create_dir_all(&manifests).expect("is made");
    let manifest = r#"{"from": "stories", "parameters": {"max_tokens": 3, "seed": 1}}"#;
    std::fs::write(manifests.join("acme+short=v1.json"), manifest).expect("is written");
    std::fs::write(manifests.join("torn.json"), "{").expect("is written");

    let output = troika_in(&home, &["list", "--json"], b"");
    let list = json(&output);
    assert_eq!(list[0]["name"], "torn");
    assert!(list[0]["error"].is_string());
    assert_eq!(list[1]["name"], "acme/short:v1");
    assert_eq!(list[1]["made_of"], "stories");
    assert_eq!(list[2]["name"], "stories");

    let run = ["run", "-m", "acme/short:v1", "Once", "--json"];
    let answer = json(&troika_in(&home, &run, b""));
    assert_eq!(answer["generated_tokens"], 3, "{answer}");
    let output = troika_in(&home, &["show", "ACME/short:v1"], b"");
    assert!(
        stdout(&output).contains("max_tokens"),
        "{}",
        stdout(&output)
    );
    let output = troika_in(&home, &["run", "-m", "torn", "Once"], b"");
    assert_eq!(code(&output), Some(1));
    assert!(stderr(&output).contains("damaged"), "{}", stderr(&output));
}

/// The shape of a matrix of the story model.
fn shape() -> [usize; 2] {
    let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/stories.gguf");
    let model = ModelFile::open(&assets).expect("opens");
    let matrix = model.tensor("blk.0.ffn_down.weight").expect("is there");
    [matrix.shape[0] as usize, matrix.shape[1] as usize]
}

/// An adapter of that matrix.
fn adapter() -> Vec<u8> {
    let mut metadata = Metadata::default();
    metadata.insert("general.type", "adapter");
    metadata.insert("general.architecture", "llama");
    metadata.insert("adapter.type", "lora");
    metadata.insert("adapter.lora.alpha", 4.0f32);
    let [n_in, n_out] = shape();
    let (a, b) = (numbers(4 * n_in), numbers(4 * n_out));
    let mut writer = Writer::new(metadata);
    for (end, shape, bytes) in [("a", [n_in, 4], &a), ("b", [4, n_out], &b)] {
        let name = format!("blk.0.ffn_down.weight.lora_{end}");
        writer.tensor_bytes(name, DType::F32, &shape.map(|n| n as u64), bytes);
    }
    let mut bytes = Vec::new();
    writer.write_to(&mut bytes).expect("is written");
    bytes
}

fn numbers(n: usize) -> Vec<u8> {
    let values = (0..n).map(|i| ((i * 37 % 101) as f32 - 50.0) / 100.0);
    values.flat_map(f32::to_le_bytes).collect()
}

/// The same adapter, as PEFT saves it.
fn peft(directory: &Path, [n_in, n_out]: [usize; 2]) {
    std::fs::create_dir_all(directory).expect("is made");
    let config = r#"{"peft_type": "LORA", "r": 4, "lora_alpha": 4}"#;
    std::fs::write(directory.join("adapter_config.json"), config).expect("is written");
    let name = "base_model.model.model.layers.0.mlp.down_proj";
    let (a, b) = (numbers(4 * n_in), numbers(4 * n_out));
    let header = serde_json::json!({
        (format!("{name}.lora_A.weight")): {"dtype": "F32", "shape": [4, n_in], "data_offsets": [0, a.len()]},
        (format!("{name}.lora_B.weight")): {"dtype": "F32", "shape": [n_out, 4], "data_offsets": [a.len(), a.len() + b.len()]},
    });
    let header = header.to_string().into_bytes();
    let length = (header.len() as u64).to_le_bytes();
    let whole = [&length[..], &header, &a, &b].concat();
    std::fs::write(directory.join("adapter_model.safetensors"), whole).expect("is written");
}

/// The adapters of a created model are applied by all that compute it, and merged by nothing.
#[test]
fn created_models_have_their_adapters() {
    let home = directory("adapted");
    let (manifests, blobs) = (home.join("models/manifests"), home.join("models/blobs"));
    for made in [&manifests, &blobs] {
        std::fs::create_dir_all(made).expect("is made");
    }
    let digits = "5".repeat(64);
    std::fs::write(home.join("style.gguf"), adapter()).expect("is written");
    std::fs::write(blobs.join(format!("sha256-{digits}")), adapter()).expect("is written");
    let manifest = format!(
        r#"{{"from": "stories", "adapters": [{{"from": "sha256:{digits}", "scale": 1.0}}]}}"#
    );
    std::fs::write(manifests.join("styled.json"), manifest).expect("is written");
    let run = |more: &[&str]| {
        let args = [
            "run",
            "Once upon a time",
            "-n",
            "24",
            "--temperature",
            "0",
            "-q",
        ];
        let args: Vec<_> = args.iter().chain(more).copied().collect();
        let output = troika_in(&home, &args, b"");
        assert_eq!(code(&output), Some(0), "{}", stderr(&output));
        stdout(&output).to_owned()
    };
    let style = home.join("style.gguf").display().to_string();
    let (plain, applied) = (
        run(&["-m", "stories"]),
        run(&["-m", "stories", "--lora", &style]),
    );
    assert_ne!(plain, applied);
    assert_eq!(run(&["-m", "styled"]), applied);
    // One more of it, taken away, leaves the model as it was.
    let away = format!("{style}:-1");
    assert_eq!(run(&["-m", "styled", "--lora", &away]), plain);
    // What PEFT has saved is the same adapter, at once or as a file.
    let (saved, made) = (home.join("saved"), home.join("made.gguf"));
    peft(&saved, shape());
    let [saved, made] = [saved, made].map(|path| path.display().to_string());
    let import = ["import", &saved, &made, "--base", "stories"];
    let imported = troika_in(&home, &import, b"");
    assert_eq!(code(&imported), Some(0), "{}", stderr(&imported));
    for lora in [&saved, &made] {
        assert_eq!(run(&["-m", "stories", "--lora", lora]), applied);
    }
    let shown = troika_in(&home, &["show", "styled"], b"");
    assert!(stdout(&shown).contains(&digits), "{}", stdout(&shown));
    let to = home.join("out.gguf").display().to_string();
    let quantize = ["quantize", "styled", &to, "--type", "Q8_0"];
    let refused = troika_in(&home, &quantize, b"");
    assert_eq!(code(&refused), Some(2), "{}", stderr(&refused));
    assert!(
        stderr(&refused).contains("are not merged"),
        "{}",
        stderr(&refused)
    );
    std::fs::remove_file(blobs.join(format!("sha256-{digits}"))).expect("was there");
    let gone = troika_in(&home, &["run", "-m", "styled", "Once"], b"");
    assert!(
        stderr(&gone).contains("is gone; upload it again"),
        "{}",
        stderr(&gone)
    );
}
