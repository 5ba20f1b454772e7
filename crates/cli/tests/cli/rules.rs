//! `troika rules`: what would become of requests, and what is wrong with rules.

use std::path::{Path, PathBuf};

use super::{code, directory, json, stderr, stdout, troika_in};

const RULES: &str = r#"
[hybrid]
budget_per_day = 2
private_content = ['(?i)project\s+falcon']

[[remote]]
name = "mistral-eu"
url = "https://api.example.com/v1"
api = "openai"
key = "env:MISTRAL_KEY"
models = { "qwen3:8b" = "mistral-small", "large" = "mistral-large" }
price = { input = 1.8, output = 5.4 }
limits = { answer_tokens = 4096 }

[[remote]]
name = "lab"
url = "https://lab.example.org"
api = "ollama"
models = { "qwen3:8b" = "qwen3:235b" }

[[rule]]
name = "legal"
when = { model = ["legal*"], tools = false }
action = "local-only"

[[rule]]
name = "long"
when = { prompt_tokens = ">8000" }
action = "remote"
redact = ["emails", "names"]

[redact]
names = ["Ada Lovelace"]
"#;

/// A home with these rules and a request.
fn home(name: &str, rules: &str, said: &str) -> PathBuf {
    let home = directory(name);
    std::fs::write(home.join("hybrid.toml"), rules).expect("is written");
    let request = serde_json::json!({
        "model": "qwen3:8b",
        "messages": [{"role": "user", "content": said}],
        "max_tokens": 500,
    });
    std::fs::write(home.join("request.json"), request.to_string()).expect("is written");
    home
}

fn test(home: &Path, flags: &[&str]) -> std::process::Output {
    let request = home.join("request.json");
    let args = ["rules", "test", request.to_str().expect("is text")];
    troika_in(home, &[&args, flags].concat(), b"")
}

#[test]
fn what_would_become_of_a_request_is_told() {
    let home = home(
        "rules-test",
        RULES,
        "Write to anna@example.com for ADA LOVELACE",
    );
    let long = test(&home, &["--prompt-tokens", "9000"]);
    assert_eq!(code(&long), Some(0), "{}", stderr(&long));
    let want = "\
It may leave for mistral-eu, by rule `long` (remote).

RULE   ACTION
legal  local-only  passed over: model is qwen3:8b, and not legal*
long   remote      matches

ENDPOINT    MODEL THERE    COSTS AT MOST
mistral-eu  mistral-small     0.0189 EUR  first choice
lab         qwen3:235b           unknown  has no price, and there is a budget

Taken out before it goes: emails (1), names (1).
Nothing was sent.
";
    assert_eq!(stdout(&long), want);
    let want = "\
It stays on this machine: no rule matches.

RULE   ACTION
legal  local-only  passed over: model is qwen3:8b, and not legal*
long   remote      passed over: prompt_tokens is not known, so it is not >8000
";
    assert_eq!(stdout(&test(&home, &[])), want);
    let told = json(&test(&home, &["--prompt-tokens", "9000", "--json"]));
    assert_eq!(told["stays"], false);
    assert_eq!(told["leave"]["to"], serde_json::json!(["mistral-eu"]));
    assert_eq!(told["leave"]["worst_cost"], "0.0189");
    assert_eq!(told["leave"]["redacted"]["emails"], 1);
    assert_eq!(told["rules"][0]["unmet"][0]["field"], "model");
    let poor = json(&test(
        &home,
        &["--prompt-tokens", "9000", "--money-left", "0.01", "--json"],
    ));
    assert_eq!(poor["stays"], true);
    assert!(
        poor["why"]
            .as_str()
            .is_some_and(|why| why.contains("0.01 is left")),
        "{poor}"
    );
}

#[test]
fn what_is_private_is_told_without_quoting_it() {
    let home = home("rules-private", RULES, "Plans of Project Ｆal\u{200b}con");
    let flags = [
        "--prompt-tokens",
        "9000",
        "--header",
        "X-Troika-Privacy: secret",
    ];
    let output = test(&home, &flags);
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    let want = "\
It stays on this machine: X-Troika-Privacy has a label that is not known; private_content[0] matches
in it.
";
    assert_eq!(stdout(&output), want);
}

#[test]
fn rules_are_listed_and_checked() {
    let home = home("rules-list", RULES, "");
    let want = r"
What stays here, whatever the rules say:
  requests with X-Troika-Privacy, unless it says `public`
  texts in which one of these matches: (?i)project\s+falcon

The first rule that matches decides:
   RULE   WHEN                       ACTION      TO   TAKEN OUT      MODEL
1  legal  model legal*, tools false  local-only
2  long   prompt_tokens >8000        remote      any  emails, names
          otherwise                  local-only
";
    let listed = stdout(&troika_in(&home, &["rules", "list"], b""));
    assert_eq!(listed, want.trim_start());
    let listed = json(&troika_in(&home, &["rules", "list", "--json"], b""));
    assert_eq!(listed["rules"][1]["when"]["prompt_tokens"], ">8000");
    let checked = stdout(&troika_in(&home, &["rules", "check"], b""));
    assert!(
        checked.contains("makes sense: 2 remotes, 2 rules."),
        "{checked}"
    );
    assert!(
        checked.contains("`lab` has no price: nothing goes there."),
        "{checked}"
    );
}

#[test]
fn mistakes_are_told_by_line() {
    let wrong = RULES.replace(
        "redact = [\"emails\"",
        "to = [\"mistral-ue\"]\nredact = [\"emails\"",
    );
    let wrong = wrong.replace("\">8000\"", "\"8000\"");
    let home = home("rules-wrong", &wrong, "");
    for verb in ["list", "check"] {
        let output = troika_in(&home, &["rules", verb], b"");
        assert_eq!(code(&output), Some(1));
        let told = stderr(&output);
        assert!(told.contains("hybrid.toml has 2 mistakes"), "{told}");
        assert!(
            told.contains("line 28, rule[1].when.prompt_tokens: "),
            "{told}"
        );
        assert!(told.contains("did you mean `mistral-eu`?"), "{told}");
    }
    let other = ["rules", "check", "--hybrid-file", "no-such-file.toml"];
    assert_eq!(code(&troika_in(&home, &other, b"")), Some(2));
}

#[test]
fn without_a_file_everything_stays() {
    let home = home("rules-none", "", "");
    std::fs::remove_file(home.join("hybrid.toml")).expect("is removed");
    let told = stdout(&test(&home, &[]));
    assert_eq!(told, "It stays on this machine: there are no rules.\n");
    let checked = stdout(&troika_in(&home, &["rules", "check"], b""));
    assert!(checked.contains("nothing leaves this machine"), "{checked}");
}

#[test]
fn what_is_no_request_is_told() {
    let home = home("rules-no-request", RULES, "");
    for (body, told) in [
        ("{", "is not JSON"),
        ("{\"messages\": []}", "no request, at model"),
    ] {
        let output = troika_in(&home, &["rules", "test", "-"], body.as_bytes());
        assert_eq!(code(&output), Some(2));
        assert!(stderr(&output).contains(told), "{}", stderr(&output));
    }
    let class = test(&home, &["--header", "X-Troika-Class: urgent"]);
    assert_eq!(code(&class), Some(2));
    assert!(
        stderr(&class).contains("interactive, agent"),
        "{}",
        stderr(&class)
    );
}
