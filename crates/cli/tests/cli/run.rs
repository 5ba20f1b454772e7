//! `troika run` with the model inside.

use std::path::Path;

use crate::{code, json, stderr, stdout, troika, troika_in};

/// Some tokens of a story, fast enough for a debug build.
const STORY: [&str; 7] = ["run", "Once upon a time", "-n", "24", "--seed", "7", "-t1"];

#[test]
fn a_story_goes_to_stdout_and_the_rest_to_stderr() {
    let output = troika(&STORY);
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    let story = stdout(&output);
    assert!(story.starts_with("Once upon a time"), "{story}");
    assert!(story.ends_with('\n'));
    let said = stderr(&output);
    for part in [
        "cpu0 · ",
        "prompt ",
        "tokens/s · answer 24 tokens",
        "stopped at --max-tokens",
        "seed 7",
        "note: ",
    ] {
        assert!(said.contains(part), "{part:?} in {said}");
    }
    let quiet: Vec<_> = STORY.into_iter().chain(["-q"]).collect();
    let output = troika(&quiet);
    assert_eq!((stdout(&output), stderr(&output)), (story, String::new()));
}

#[test]
fn the_same_seed_writes_the_same_story_on_any_number_of_threads() {
    let on = |threads: &str| {
        let output = troika(&[
            "run",
            "Once upon a time",
            "-n40",
            "--seed",
            "11",
            "-q",
            "-t",
            threads,
        ]);
        assert_eq!(code(&output), Some(0), "{}", stderr(&output));
        stdout(&output)
    };
    let one = on("1");
    assert_eq!(one, on("2"));
    assert_eq!(one, on("3"));
    let other = troika(&[
        "run",
        "Once upon a time",
        "-n40",
        "--seed",
        "12",
        "-q",
        "-t2",
    ]);
    assert_ne!(one, stdout(&other));
}

#[test]
fn json_is_one_object_on_one_line() {
    let args: Vec<_> = STORY.into_iter().chain(["--json", "-q"]).collect();
    let output = troika(&args);
    let report = json(&output);
    assert_eq!(stdout(&output).lines().count(), 1);
    for key in [
        "model",
        "device",
        "kernels",
        "threads",
        "prompt_tokens",
        "cached_tokens",
        "generated_tokens",
        "prefill_tps",
        "decode_tps",
        "ttft_ms",
        "finish",
        "seed",
        "text",
    ] {
        assert!(!report[key].is_null(), "{key} in {report}");
    }
    assert_eq!(report["generated_tokens"], 24);
    assert_eq!(report["finish"], "max_tokens");
    assert_eq!(report["seed"], 7);
    assert!(
        !report["text"]
            .as_str()
            .expect("is text")
            .starts_with("Once"),
        "the answer alone"
    );
}

#[test]
fn prompts_come_from_stdin_too() {
    let home = Path::new("no-such-home");
    for args in [
        &["run", "-n8", "--seed", "7", "-q"][..],
        &["run", "-", "-n8", "--seed", "7", "-q"],
    ] {
        let output = troika_in(home, args, b"Once upon a time\n");
        assert_eq!(code(&output), Some(0), "{}", stderr(&output));
        let word = troika(&["run", "Once upon a time", "-n8", "--seed", "7", "-q"]);
        assert_eq!(stdout(&output), stdout(&word));
    }
}

#[test]
fn stop_strings_and_biases_are_honoured() {
    let story = stdout(&troika(&[
        "run",
        "Once upon a time",
        "-n40",
        "--seed",
        "7",
        "-q",
    ]));
    let word = story
        .split_whitespace()
        .nth(8)
        .expect("is longer than that");
    let stopped = troika(&[
        "run",
        "Once upon a time",
        "-n40",
        "--seed",
        "7",
        "--stop",
        word,
        "--json",
    ]);
    let report = json(&stopped);
    assert_eq!(report["finish"], "stop");
    assert!(!report["text"].as_str().expect("is text").contains(word));
    let biased = troika(&[
        "run",
        "Once upon a time",
        "-n6",
        "--temperature",
        "0",
        "--logit-bias",
        "50=100",
        "--json",
    ]);
    let all_the_same = json(&biased);
    assert_eq!(all_the_same["generated_tokens"], 6);
}

#[test]
fn a_lone_word_is_a_prompt_and_the_user_is_told() {
    let output = troika(&["run", "Lily", "-n4"]);
    assert_eq!(code(&output), Some(0));
    assert!(stdout(&output).starts_with("Lily"));
    assert!(
        stderr(&output).contains("no model \"Lily\" is installed"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_prompt_that_does_not_fit_is_refused() {
    let prompt = "Once upon a time ".repeat(400);
    let output = troika_in(Path::new("no-such-home"), &["run", "-q"], prompt.as_bytes());
    assert_eq!(code(&output), Some(1));
    assert!(stderr(&output).contains("--ctx"), "{}", stderr(&output));
}

#[test]
fn a_schema_gives_json_that_it_describes() {
    let schema = r#"{"type": "object", "properties": {"name": {"type": "string", "maxLength": 20},
        "age": {"type": "integer", "minimum": 1, "maximum": 9}}, "required": ["name", "age"], "additionalProperties": false}"#;
    let with = |schema: &str| {
        let output = troika(&[
            "run",
            "Lily said: ",
            "--seed",
            "3",
            "--json",
            "-t1",
            "--schema",
            schema,
        ]);
        assert_eq!(code(&output), Some(0), "{}", stderr(&output));
        let report = json(&output);
        assert_eq!(report["finish"], "end_of_text");
        report["text"].as_str().expect("is text").to_owned()
    };
    let text = with(schema);
    let answer: serde_json::Value = serde_json::from_str(&text).expect("is JSON");
    assert!(answer["name"].as_str().expect("is text").chars().count() <= 20);
    assert!((1..=9).contains(&answer["age"].as_i64().expect("is whole")));
    assert_eq!(answer.as_object().map(serde_json::Map::len), Some(2));
    let file = crate::directory("schema").join("lily.json");
    std::fs::write(&file, schema).expect("is written");
    assert_eq!(with(&file.to_string_lossy()), text, "same seed, same text");
}

#[test]
fn expressions_and_grammars_are_followed() {
    let output = troika(&[
        "run",
        "It was ",
        "--regex",
        "(red|green) [0-9]{2}",
        "--json",
    ]);
    let text = json(&output)["text"].clone();
    let text = text.as_str().expect("is text");
    let (colour, number) = text.split_once(' ').expect("two words");
    assert!(
        ["red", "green"].contains(&colour) && number.len() == 2,
        "{text}"
    );
    let file = crate::directory("lark").join("sum.lark");
    std::fs::write(&file, "start: \"1\" (\"+\" \"1\"){2}\n").expect("is written");
    let output = troika(&["run", "It was ", "--lark", &file.to_string_lossy(), "-q"]);
    assert_eq!(stdout(&output), "It was 1+1+1\n");
}

#[test]
fn a_form_that_cannot_be_followed_is_wrong_use() {
    for (flags, reason) in [
        (
            ["--schema", r#"{"not": {}}"#],
            "at `#`: `not` is not supported",
        ),
        (["--schema", r#"{"type""#], "is not JSON"),
        (["--regex", "("], "unclosed group"),
    ] {
        let output = troika(&["run", "Once upon a time", flags[0], flags[1]]);
        assert_eq!(code(&output), Some(2), "{}", stderr(&output));
        assert!(stderr(&output).contains(reason), "{}", stderr(&output));
        assert_eq!(stdout(&output), "", "nothing is written");
    }
    let both = troika(&["run", "Once", "--regex", "a", "--schema", "{}"]);
    assert_eq!(code(&both), Some(2));
}
