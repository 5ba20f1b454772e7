//! Models in files: `list`, `show`, `bench`.

use std::path::Path;

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
