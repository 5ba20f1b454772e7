//! `troika simulate` from outside. How fast what would be is the simulator's business; here it is the form, and what is refused.

use crate::{code, directory, json, stderr, stdout, troika};

/// A simulation of seconds.
const SHORT: [&str; 5] = [
    "simulate",
    "--machine",
    "core-ultra-258v",
    "--load",
    "poisson:rate=1,minutes=1,answer=20",
];

fn short(more: &[&str]) -> std::process::Output {
    troika(&[&SHORT[..], more].concat())
}

#[test]
fn what_is_known_is_listed() {
    let output = troika(&["simulate", "--list"]);
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    let text = stdout(&output);
    for name in [
        "office-day",
        "coding-agent",
        "burst-50",
        "dual-3090",
        "static",
        "npu-only",
        "frugal",
    ] {
        assert!(text.contains(name), "{name}: {text}");
    }
    let list = json(&troika(&["simulate", "--list", "--json"]));
    assert_eq!(list["loads"].as_array().map(Vec::len), Some(3));
}

#[test]
fn what_is_unknown_is_wrong_use_and_names_the_known() {
    for (args, parts) in [
        (
            &["--load", "office-day"][..],
            &["--machine", "dual-3090"][..],
        ),
        (&["--machine", "dual-3090"], &["--load", "office-day"]),
        (
            &["--machine", "dual-3900", "--load", "office-day"],
            &["3900", "core-ultra-258v"],
        ),
        (
            &["--machine", "dual-3090", "--load", "office"],
            &["office", "coding-agent"],
        ),
        (
            &["--machine", "dual-3090", "--load", "office-day:scale=0"],
            &["scale=0"],
        ),
        (
            &["--machine", "dual-3090", "--load", "poisson:model=lama-9"],
            &["lama-9", "--models"],
        ),
        (
            &["--machine", "dual-3090", "--load", "poisson:class=urgent"],
            &["urgent", "background"],
        ),
        (
            &[
                "--machine",
                "dual-3090",
                "--load",
                "office-day",
                "--policy",
                "turbo",
            ],
            &["turbo", "frugal"],
        ),
        (
            &[
                "--machine",
                "dual-3090",
                "--load",
                "office-day",
                "--against",
                "ollama",
            ],
            &["ollama", "gpu-only"],
        ),
        (
            &[
                "--machine",
                "dual-3090",
                "--load",
                "office-day",
                "--models",
                "x",
            ],
            &["NAME=MODEL"],
        ),
        (
            &[
                "--machine",
                "dual-3090",
                "--load",
                "office-day",
                "--hours",
                "0",
            ],
            &["above 0"],
        ),
    ] {
        let output = troika(&[&["simulate"], args].concat());
        let text = stderr(&output);
        assert_eq!(code(&output), Some(2), "{args:?}: {text}");
        for part in parts {
            assert!(text.contains(part), "{args:?}: {part}: {text}");
        }
        assert_eq!(stdout(&output), "");
    }
}

#[test]
fn files_that_are_no_traces_fail_with_line_and_reason() {
    let directory = directory("simulate-wrong");
    let path = directory.join("load.jsonl");
    let job = r#"{"at_s":2,"kind":"generate","model":"llama-3.1-8b","class":"agent","prompt_tokens":7,"tokens":3}"#;
    let head = r#"{"troika_trace":1}"#;
    for (text, part) in [
        (String::new(), "is empty"),
        (
            format!("{head}\n{job}\n{}", job.replace(":2,", ":1,")),
            "line 3: time goes backwards",
        ),
        (
            format!("{head}\n{}", job.replace("llama-3.1-8b", "mine")),
            "line 2: there is no model",
        ),
        (
            format!("{head}\n{}", job.replace(":7", ":-7")),
            "line 2: prompt_tokens is -7",
        ),
    ] {
        std::fs::write(&path, text).expect("is written");
        let path = path.to_str().expect("is text");
        let output = troika(&["simulate", "--machine", "dual-3090", "--load", path]);
        let text = stderr(&output);
        assert_eq!(code(&output), Some(1), "{text}");
        assert!(
            text.contains(part) && text.contains("load.jsonl"),
            "{part}: {text}"
        );
    }
    let output = troika(&[
        "simulate",
        "--machine",
        "dual-3090",
        "--load",
        "no-such.jsonl",
    ]);
    assert_eq!(code(&output), Some(1), "{}", stderr(&output));
}

#[test]
fn a_load_is_saved_and_replayed() {
    let directory = directory("simulate-saved");
    let path = directory.join("saved.jsonl");
    let path = path.to_str().expect("is text");
    let output = troika(&[
        "simulate",
        "--load",
        "poisson:rate=1,minutes=2",
        "--limit",
        "20",
        "--save-load",
        path,
    ]);
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    let text = std::fs::read_to_string(path).expect("is there");
    assert_eq!(text.lines().count(), 21);
    // Under another name for the model, it is replayed with what that is said to be.
    std::fs::write(path, text.replace("llama-3.1-8b", "mine")).expect("is written");
    let replay = [
        "simulate",
        "--machine",
        "dual-3090",
        "--load",
        path,
        "--against",
        "static",
        "--json",
    ];
    let output = troika(&[&replay[..], &["--models", "mine=llama-3.2-1b:Q8_0"]].concat());
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    assert_eq!(json(&output)["cells"][0]["jobs"], 20);
}

#[test]
fn a_simulation_has_its_tables_and_its_page() {
    let directory = directory("simulate-page");
    let page = directory.join("page.html");
    let path = page.to_str().expect("is text");
    let output = short(&["--html", path]);
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    let text = stdout(&output);
    for part in [
        "core-ultra-258v",
        "interactive",
        "against static",
        "against npu-only",
        "tok/s",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let html = std::fs::read_to_string(&page).expect("is written");
    assert!(html.ends_with("</html>\n") && html.contains("<svg"));
    let left: Vec<_> = std::fs::read_dir(&directory).expect("is there").collect();
    assert_eq!(left.len(), 1, "nothing temporary is left");
}

#[test]
fn every_machine_meets_every_load_and_the_same_seed_comes_to_the_same() {
    let args = [
        "simulate",
        "--machine",
        "core-ultra-258v,dual-3090",
        "--load",
        "poisson:rate=1,minutes=1,answer=20",
        "--load",
        "poisson:rate=1,minutes=1,answer=20,class=batch",
        "--against",
        "static",
        "--seed",
        "4",
        "--json",
    ];
    let first = troika(&args);
    assert_eq!(code(&first), Some(0), "{}", stderr(&first));
    let cells = json(&first);
    assert_eq!(cells["cells"].as_array().map(Vec::len), Some(4));
    for cell in cells["cells"].as_array().expect("is a list") {
        assert_eq!(cell["runs"].as_array().map(Vec::len), Some(2));
        let jobs = &cell["runs"][0]["figures"]["jobs"];
        assert_eq!(jobs["count"], cell["jobs"], "{jobs}");
        assert_eq!(jobs["done"], cell["jobs"], "{jobs}");
    }
    assert_eq!(stdout(&first), stdout(&troika(&args)));
}
