//! Exit codes, streams, and the verbs that need no model.

use std::process::{Command, Stdio};

use crate::{code, directory, json, stderr, stdout, troika, troika_in};

#[test]
fn wrong_use_is_2_and_says_so_on_stderr() {
    for args in [
        &["frobnicate"][..],
        &["run", "--temperature", "warm"],
        &["run", "--temperature", "nan", "x y"],
        &["run", "--top-p", "3", "x y"],
        &["run", "--stop", "", "x y"],
        &["run", "-t", "0", "x y"],
        &["run", "-m", "stories", "a", "b"],
        &["run", "--raw", "--system", "x", "y"],
        &["run", "--logit-bias", "5"],
        &["run", "--logit-bias", "99999999=1", "x y"],
        &[
            "run",
            "--system",
            "a story model has no chat template",
            "x y",
        ],
        &["run"],
        &["bench", "-p0", "-n0"],
        &["bench", "--json", "--csv"],
        &["bench", "-r", "0"],
        &["show"],
        &["show", "stories", "--ctx", "0"],
        &["completions"],
    ] {
        let output = troika(args);
        assert_eq!(code(&output), Some(2), "{args:?}: {}", stderr(&output));
        assert!(
            stderr(&output).starts_with("error: "),
            "{args:?}: {}",
            stderr(&output)
        );
        assert_eq!(stdout(&output), "", "{args:?}");
    }
}

#[test]
fn failures_are_1_with_advice() {
    let directory = directory("failures");
    let broken = directory.join("broken.gguf");
    std::fs::write(&broken, b"GGUF\x03\0\0\0 and then nonsense").expect("is written");
    let broken = broken.to_str().expect("is text");
    for (args, advice) in [
        (&["run", "no-such-model.gguf"][..], "check the path"),
        (&["run", "no/such/model", "prompt"], "check the path"),
        (&["show", "llama3"], "there is stories"),
        (&["bench", "llama3"], "there is stories"),
        (&["run", broken, "prompt"], "byte"),
        (&["show", broken], "byte"),
        (
            &["show", directory.to_str().expect("is text")],
            "that is a directory",
        ),
        (&["show", "--template", "stories"], "no chat template"),
        (
            &["run", "stories", "--file", "no-such-file"],
            "no-such-file",
        ),
    ] {
        let output = troika(args);
        assert_eq!(code(&output), Some(1), "{args:?}: {}", stderr(&output));
        assert!(
            stderr(&output).contains(advice),
            "{args:?}: {}",
            stderr(&output)
        );
        assert_eq!(stdout(&output), "", "{args:?}");
    }
}

#[test]
fn help_and_version_are_answers() {
    for args in [&["--help"][..], &["help", "run"], &["--version"]] {
        let output = troika(args);
        assert_eq!(code(&output), Some(0));
        assert!(stdout(&output).contains("troika"));
        assert_eq!(stderr(&output), "");
    }
}

#[test]
fn a_greeting_tells_of_the_machine() {
    let output = troika(&[]);
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    for word in [
        "machine",
        "memory",
        "power",
        "no-such-home",
        "troika run",
        "troika pull hf:",
    ] {
        assert!(
            stdout(&output).contains(word),
            "{word}: {}",
            stdout(&output)
        );
    }
    let greeting = json(&troika(&["--json"]));
    assert!(greeting["threads"].as_u64() > Some(0));
    assert_eq!(greeting["models"], serde_json::json!([]));
}

#[test]
fn a_greeting_names_the_models_and_survives_a_wrong_configuration() {
    let home = directory("greeting");
    let models = home.join("models");
    std::fs::create_dir_all(&models).expect("is made");
    std::fs::write(models.join("tiny.gguf"), b"GGUF").expect("is written");
    std::fs::write(home.join("config.toml"), "prot = 1\n").expect("is written");
    let output = troika_in(&home, &[], b"");
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    for word in ["troika run tiny", "4 B", "there is no setting `prot`"] {
        assert!(stdout(&output).contains(word), "{}", stdout(&output));
    }
    let greeting = json(&troika_in(&home, &["--json"], b""));
    assert_eq!(greeting["models"][0]["name"], "tiny");
    assert!(
        greeting["error"]
            .as_str()
            .is_some_and(|error| error.contains("prot"))
    );
}

#[test]
fn completions_and_manuals_are_written() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let output = troika(&["completions", shell]);
        assert_eq!(code(&output), Some(0));
        assert!(stdout(&output).contains("bench"), "{shell}");
    }
    assert!(
        stdout(&troika(&["man"])).starts_with(".ie"),
        "{}",
        stdout(&troika(&["man"]))
    );
    let pages = directory("man");
    let output = troika(&["man", "--dir", pages.to_str().expect("is text")]);
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    for page in [
        "troika.1",
        "troika-run.1",
        "troika-bench.1",
        "troika-show.1",
        "troika-list.1",
    ] {
        assert!(pages.join(page).is_file(), "{page}");
    }
}

#[test]
fn an_unknown_kernel_set_is_wrong_use() {
    let output = Command::new(env!("CARGO_BIN_EXE_troika"))
        .args(["run", "Once upon a time"])
        .env("TROIKA_ISA", "abacus")
        .stdin(Stdio::null())
        .output()
        .expect("the program ends");
    assert_eq!(code(&output), Some(2));
    assert!(stderr(&output).contains("scalar"), "{}", stderr(&output));
}

#[cfg(unix)]
#[test]
fn whoever_reads_may_stop_reading() {
    let program = env!("CARGO_BIN_EXE_troika");
    let output = Command::new("sh")
        .args([
            "-c",
            "{ \"$0\" show stories --tensors; echo \"code $?\" >&2; } | head -c 1",
            program,
        ])
        .stdin(Stdio::null())
        .output()
        .expect("a shell is there");
    assert_eq!(stderr(&output).trim(), "code 0");
}
