//! `troika calibrate`: thresholds from examples, with the model inside the program.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::json;

use super::{code, directory, json as read, stderr, stdout, troika_in};

const HYBRID: &str = "\
# Mine.
[[remote]]
name = \"big\"
url = \"http://127.0.0.1:9/v1\"
api = \"openai\"
models = { stories = \"large\" }
price = { input = 2, output = 8 }

[cascade] # the judge
judge = \"logprob\"
";

/// A home with rules and examples: beginnings of stories, each to go on as one in two does.
fn home(name: &str, examples: usize) -> PathBuf {
    let home = directory(name);
    std::fs::write(home.join("hybrid.toml"), HYBRID).expect("is written");
    let names = ["Tom", "Lily", "Ben", "Mia", "Sam", "Anna", "Max", "Sue"];
    let mut lines = String::new();
    for i in 0..examples {
        let prompt = format!(
            "Once upon a time, {} and {}",
            names[i % 8],
            names[i / 8 % 8]
        );
        let line = json!({"prompt": prompt, "answer": if i % 2 == 0 { "were" } else { "ran" }});
        let _ = writeln!(lines, "{line}");
    }
    std::fs::write(home.join("jobs.jsonl"), lines).expect("is written");
    home
}

fn calibrate(home: &Path, flags: &[&str]) -> Output {
    let jobs = home.join("jobs.jsonl");
    let args = [
        "calibrate",
        jobs.to_str().expect("is text"),
        "-m",
        "stories",
        "-n",
        "3",
    ];
    troika_in(home, &[&args, flags].concat(), b"")
}

#[test]
fn a_threshold_is_found_and_written_and_answers_are_kept() {
    let home = home("calibrate", 40);
    let found = calibrate(&home, &["--keep-local", "0.5", "--json", "--write"]);
    assert_eq!(code(&found), Some(0), "{}", stderr(&found));
    let report = read(&found);
    assert_eq!(report["examples"], 40);
    assert_eq!(report["judge"], "logprob");
    let threshold = report["threshold"].as_f64().expect("is found");
    assert!((0.0..1.0).contains(&threshold), "{threshold}");
    let kept = report["kept"].as_f64().expect("is a share");
    assert!((0.5..0.6).contains(&kept), "{kept}");
    assert_eq!(report["cost"]["remote"], "big");
    assert!(stderr(&found).contains("no measure of quality"));
    let written = std::fs::read_to_string(home.join("hybrid.toml")).expect("is there");
    let want = format!("{HYBRID}\n[cascade.thresholds]\nstories = {threshold}\n");
    assert_eq!(written, want);
    // The second run asks nothing anew, and comes to the same.
    let answers = std::fs::read_to_string(home.join("jobs.answers.jsonl")).expect("is there");
    assert_eq!(answers.lines().count(), 40);
    let again = calibrate(&home, &["--keep-local", "0.5", "--json"]);
    assert_eq!(read(&again), report);
    let unchanged = std::fs::read_to_string(home.join("jobs.answers.jsonl")).expect("is there");
    assert_eq!(unchanged, answers);
}

#[test]
fn what_cannot_be_promised_is_not_written() {
    let home = home("calibrate-promise", 24);
    let found = calibrate(&home, &["--write"]);
    assert_eq!(code(&found), Some(1));
    let text = stdout(&found);
    assert!(text.contains("No threshold can be promised"), "{text}");
    assert!(
        text.contains("could promise 0.883 at most; 0.98 takes 149"),
        "{text}"
    );
    assert_eq!(
        std::fs::read_to_string(home.join("hybrid.toml")).expect("is there"),
        HYBRID
    );
}

#[test]
fn nothing_is_sent_unless_rules_and_owner_agree() {
    let home = home("calibrate-remote", 24);
    // Without a rule everything stays, whoever says yes.
    let stays = calibrate(&home, &["--remote", "big", "--yes"]);
    assert_eq!(code(&stays), Some(1));
    let why = stderr(&stays);
    assert!(
        why.contains("24 examples are not asked of `big`: it stays on this machine"),
        "{why}"
    );
    let rule = "\n[[rule]]\nname = \"hard\"\naction = \"cascade\"\n";
    std::fs::write(home.join("hybrid.toml"), format!("{HYBRID}{rule}")).expect("is written");
    let asked = calibrate(&home, &["--remote", "big"]);
    assert_eq!(code(&asked), Some(2));
    let why = stderr(&asked);
    assert!(
        why.contains("asking `big` for 24 answers costs about 0.00"),
        "{why}"
    );
    assert!(why.contains("nothing was sent. Say --yes"), "{why}");
    let receipts = std::fs::read_to_string(home.join("receipts.jsonl")).unwrap_or_default();
    assert!(!receipts.contains("calibrate-"), "{receipts}");
    let offline = home.join("config.toml");
    std::fs::write(&offline, "offline = true\n").expect("is written");
    let refused = calibrate(&home, &["--remote", "big", "--yes"]);
    assert_eq!(code(&refused), Some(2));
    assert!(
        stderr(&refused).contains("`offline`"),
        "{}",
        stderr(&refused)
    );
}

#[test]
fn examples_that_are_none_are_told_by_their_lines() {
    let few = home("calibrate-few", 19);
    let refused = calibrate(&few, &[]);
    assert_eq!(code(&refused), Some(1));
    assert!(
        stderr(&refused).contains("has 19 examples"),
        "{}",
        stderr(&refused)
    );
    let broken = home("calibrate-broken", 30);
    let path = broken.join("jobs.jsonl");
    let mut lines = std::fs::read_to_string(&path).expect("is there");
    lines.push_str("{\"prompt\": \"x\", \"answer\": \"\"}\nnonsense\n");
    std::fs::write(&path, lines).expect("is written");
    let refused = calibrate(&broken, &[]);
    assert_eq!(code(&refused), Some(1));
    let why = stderr(&refused);
    assert!(
        why.contains("line 31: `answer` is empty") && why.contains("line 32: expected"),
        "{why}"
    );
    let wrong = calibrate(&broken, &["--target-quality", "1.5"]);
    assert_eq!(code(&wrong), Some(2));
}
