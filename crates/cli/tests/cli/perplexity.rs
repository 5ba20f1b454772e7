//! `troika perplexity` with the model inside.

use std::path::Path;

use crate::{code, directory, json, stderr, stdout, troika, troika_in};

const STORY: &str =
    "Once upon a time, there was a little girl named Lily. She loved to play outside in the sun. ";

#[test]
fn a_text_is_measured_in_windows() {
    let path = directory("perplexity").join("story.txt");
    std::fs::write(&path, STORY.repeat(8)).expect("is written");
    let path = path.to_str().expect("is text");
    let output = troika(&["perplexity", "stories", path, "--ctx", "64"]);
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    let answer = stdout(&output);
    assert!(
        answer.starts_with("perplexity ") && answer.ends_with(" windows of 64\n"),
        "{answer}"
    );
    assert!(stderr(&output).contains("cpu0 · "), "{}", stderr(&output));

    let report = json(&troika(&[
        "perplexity",
        "stories",
        path,
        "--ctx",
        "64",
        "--json",
        "-q",
    ]));
    let windows = report["windows"].as_u64().expect("is a number");
    assert!(
        windows > 1 && report["windows_total"] == windows,
        "{report}"
    );
    // Of each window the second half is predicted, but for the token that begins it.
    assert_eq!(report["tokens"], 31 * windows);
    let value = report["perplexity"].as_f64().expect("is a number");
    // A story that is told again and again is soon no surprise.
    assert!(value > 1.0 && value < 20.0, "{report}");

    // The same text from stdin, on another number of threads.
    let home = Path::new("no-such-home");
    let args = ["perplexity", "stories", "-", "--ctx", "64", "-t", "3", "-q"];
    let piped = troika_in(home, &args, STORY.repeat(8).as_bytes());
    assert_eq!(stdout(&piped), answer);
}

#[test]
fn what_cannot_be_measured_is_refused() {
    let home = Path::new("no-such-home");
    for (args, stdin, want, says) in [
        (&["--ctx", "513"][..], STORY, 2, "made for 512 tokens"),
        (&["--ctx", "3"], STORY, 2, "from 4"),
        (&[], STORY, 1, "--ctx"),
        (&[], "", 1, "tokens"),
    ] {
        let args = [&["perplexity", "stories", "-"], args].concat();
        let output = troika_in(home, &args, stdin.as_bytes());
        let said = stderr(&output);
        assert_eq!(code(&output), Some(want), "{args:?}: {said}");
        assert!(said.contains(says), "{args:?}: {said}");
        assert_eq!(stdout(&output), "");
    }
    let binary = troika_in(home, &["perplexity", "stories", "-"], b"\xff\xfe");
    assert!(stderr(&binary).contains("cannot read the text -"));
    let absent = troika(&["perplexity", "stories", "no-such-text"]);
    assert_eq!(code(&absent), Some(1));
    assert!(stderr(&absent).contains("no-such-text"));
}
