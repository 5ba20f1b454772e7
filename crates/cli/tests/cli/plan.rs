//! `troika plan` from outside. Which candidate wins is the planner's business and the catalogue's; here it is the form.

use std::path::Path;

use serde_json::Value;

use crate::{code, directory, json, stderr, stdout, troika, troika_in};

/// A plan that does not depend on the machine of the tests.
const ELSEWHERE: [&str; 4] = ["plan", "--elsewhere", "--model", "llama-3.1-8b"];

fn elsewhere(more: &[&str]) -> std::process::Output {
    troika(&[&ELSEWHERE[..], more].concat())
}

#[test]
fn every_candidate_has_an_answer_or_a_reason() {
    let output = elsewhere(&["--json"]);
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    let plan = json(&output);
    let verdicts = plan["verdicts"].as_array().expect("is a list");
    assert!(verdicts.len() > 100, "{}", verdicts.len());
    let mut losing = false;
    for verdict in verdicts {
        let lost = !verdict["lost"].is_null();
        assert!(!losing || lost, "winners stand first");
        losing = lost;
        match lost {
            true => assert_ne!(verdict["lost"]["reason"], "", "{verdict}"),
            false => assert!(verdict["bill"]["total"]["value"].is_number(), "{verdict}"),
        }
    }
    assert!(losing, "somebody loses");
}

#[test]
fn the_table_and_the_reasons_are_shown() {
    let output = elsewhere(&[]);
    let text = stdout(&output);
    for part in ["candidate", "tok/s", "USD/month", "\nLost:\n", "Q4_K_M"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let all = stdout(&elsewhere(&["--all"]));
    assert!(all.lines().count() > text.lines().count() + 50);
}

#[test]
fn one_candidate_is_explained_number_by_number() {
    let plan = json(&elsewhere(&["--json"]));
    let name = plan["verdicts"][0]["name"]
        .as_str()
        .expect("has a name")
        .to_owned();
    let output = elsewhere(&["--explain", &name]);
    let text = stdout(&output);
    assert!(
        text.contains("\n    = ") && text.contains("\n[1] "),
        "{text}"
    );
    let output = elsewhere(&["--explain", &name, "--json"]);
    let terms = json(&output)["terms"].as_array().map_or(0, Vec::len);
    assert!(terms > 5, "{terms}");
    let output = elsewhere(&["--explain", "no such thing"]);
    assert_eq!(code(&output), Some(2));
    assert!(stderr(&output).contains("--all"), "{}", stderr(&output));
}

#[test]
fn the_page_needs_nothing_else() {
    let directory = directory("plan-page");
    let page = directory.join("plan.html");
    let output = elsewhere(&["--html", page.to_str().expect("is text")]);
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    let html = std::fs::read_to_string(&page).expect("is written");
    assert_eq!(
        html.matches("<svg").count(),
        3,
        "speed against cost, cash, memory"
    );
    for part in ["prefers-color-scheme: dark", "currentColor", "</html>"] {
        assert!(html.contains(part), "{part}");
    }
    for part in ["<script", "src=", "href=", "@import", "url("] {
        assert!(!html.contains(part), "{part} asks for something else");
    }
}

#[test]
fn a_workload_is_printed_and_read_again() {
    let directory = directory("plan-workload");
    let printed = elsewhere(&[
        "--task",
        "rag",
        "--users",
        "3",
        "--power",
        "battery",
        "--print-workload",
    ]);
    assert_eq!(code(&printed), Some(0), "{}", stderr(&printed));
    let file = directory.join("work.toml");
    std::fs::write(&file, &printed.stdout).expect("is written");
    let again = troika(&[
        "plan",
        "--workload",
        file.to_str().expect("is text"),
        "--print-workload",
    ]);
    assert_eq!(stdout(&again), stdout(&printed), "{}", stderr(&again));
    let flag_wins = troika(&[
        "plan",
        "--workload",
        file.to_str().expect("is text"),
        "--users",
        "5",
        "--print-workload",
    ]);
    assert!(
        stdout(&flag_wins).contains("users = 5"),
        "{}",
        stdout(&flag_wins)
    );
}

#[test]
fn nonsense_is_wrong_use_and_says_what() {
    for (args, part) in [
        (&["--tps", "nan"][..], "`tps` is NaN"),
        (&["--users", "0"], "`users` is 0"),
        (&["--bandwidth", "-3"], "--bandwidth is -3"),
        (&["--budget=-5"], "`budget_usd` is -5"),
        (
            &["--acquire", "rent", "--privacy", "local-only"],
            "privacy = local-only",
        ),
        (&["--acquire", "buy", "--budget", "0"], "budget_usd = 0"),
        (&["--country", "Atlantis"], "Atlantis"),
        (&["--pue", "0.5"], "`pue` is 0.5"),
        (&["--egress-gb=-1"], "`egress_gb_month` is -1"),
        (&["--staff-hours", "3"], "without `staff_usd_hour`"),
        (&["--device-name", "X"], "--memory-gb"),
        (&["--memory-gb", "16"], "--device-name"),
        (
            &["--device-name", "X", "--bandwidth", "9", "--memory-gb", "0"],
            "--memory-gb is 0",
        ),
        (&["--quantization", "Q77"], "Q77"),
        (&["--task", "cooking"], "cooking"),
        (&["--task", "train"], "plan train"),
    ] {
        let output = elsewhere(args);
        assert_eq!(code(&output), Some(2), "{args:?}: {}", stderr(&output));
        assert!(
            stderr(&output).contains(part),
            "{args:?}: {}",
            stderr(&output)
        );
        assert_eq!(stdout(&output), "", "{args:?}");
    }
    let unknown = troika(&["plan", "--elsewhere", "--model", "lama-3.1-8b"]);
    assert_eq!(code(&unknown), Some(2));
    assert!(
        stderr(&unknown).contains("llama-3.1-8b"),
        "{}",
        stderr(&unknown)
    );
}

#[test]
fn files_that_are_not_there_or_no_workloads_are_failures() {
    let directory = directory("plan-files");
    let file = directory.join("work.toml");
    std::fs::write(&file, "usres = 4\n").expect("is written");
    let file = file.to_str().expect("is text");
    for (args, part) in [
        (
            &["plan", "--workload", "no-such-file.toml"][..],
            "no-such-file.toml",
        ),
        (&["plan", "--workload", file], "usres"),
        (
            &["plan", "--elsewhere", "--model", "no/such/model.gguf"],
            "check the path",
        ),
    ] {
        let output = troika(args);
        assert_eq!(code(&output), Some(1), "{args:?}: {}", stderr(&output));
        assert!(
            stderr(&output).contains(part),
            "{args:?}: {}",
            stderr(&output)
        );
    }
}

#[test]
fn an_imported_run_corrects_every_candidate_with_that_chip() {
    let home = directory("plan-imports");
    let bench = r#"[{"n_prompt":0,"n_gen":128,"avg_ts":60.0,"model_type":"llama 8B Q4_K - Medium","model_n_params":8030261248,
        "backends":"CUDA","gpu_info":"NVIDIA GeForce RTX 4090","n_gpu_layers":99,"test_time":"2026-11-20T10:00:00Z"}]"#;
    let imported = troika_in(&home, &["plan", "import", "-"], bench.as_bytes());
    assert_eq!(code(&imported), Some(0), "{}", stderr(&imported));
    let plan = json(&troika_in(
        &home,
        &[&ELSEWHERE[..], &["--json"]].concat(),
        b"",
    ));
    let verdict = |plan: &Value, name: &str| {
        let verdicts = plan["verdicts"].as_array().expect("is a list");
        let found = verdicts.iter().find(|verdict| verdict["name"] == name);
        found.unwrap_or_else(|| panic!("no {name}")).clone()
    };
    let tps = |verdict: &Value| {
        let value = &verdict["forecast"]["decode_tps"]["value"];
        value.as_f64().expect("is a speed")
    };
    let own = verdict(&plan, "NVIDIA GeForce RTX 4090");
    // At the depth of the workload, not of the test, so a little slower.
    assert!((50.0..61.0).contains(&tps(&own)), "{own}");
    let run = "your run of llama-bench, 2026-11-20: llama 8B Q4_K_M";
    assert_eq!(own["calibrated"], run);
    let notes = plan["notes"].to_string();
    assert!(notes.contains(&format!("calibrated by {run}")), "{notes}");
    let before = verdict(&json(&elsewhere(&["--json"])), "NVIDIA GeForce RTX 4090");
    assert!(tps(&before) > 1.3 * tps(&own) && before["calibrated"].is_null());
    let args = [&ELSEWHERE[..], &["--explain", "NVIDIA GeForce RTX 4090"]].concat();
    let text = stdout(&troika_in(&home, &args, b""));
    assert!(text.contains("calibration of writing"), "{text}");
}

#[test]
fn a_device_that_the_catalogue_lacks_can_be_described() {
    let output = elsewhere(&[
        "--device-name",
        "Newcomer",
        "--bandwidth",
        "640",
        "--memory-gb",
        "16",
        "--int8-tops",
        "300",
        "--tdp",
        "200",
    ]);
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    let text = stdout(&output);
    assert!(text.starts_with("Stay with Newcomer (described)"), "{text}");
    assert!(text.contains("What would turn the answer"), "{text}");
}

#[test]
fn a_file_is_planned_in_its_own_form() {
    let stories = ["plan", "--elsewhere", "--model", "stories"];
    let printed = |more: &[&str]| {
        let output = troika(&[&stories[..], &["--print-workload"], more].concat());
        assert_eq!(code(&output), Some(0), "{}", stderr(&output));
        let workload: toml::Table = stdout(&output).parse().expect("is TOML");
        workload["quantization"]
            .as_str()
            .expect("is a name")
            .to_owned()
    };
    assert_eq!(printed(&["--quantization", "Q5_K_M"]), "Q5_K_M");
    let own = printed(&[]);
    assert_ne!(own, "Q4_K_M", "what is taken where nothing is known");
    let output = troika(&[&stories[..], &["--explain", "NVIDIA GeForce RTX 4090"]].concat());
    let text = stdout(&output);
    assert!(text.contains(&own) && text.contains("the file"), "{text}");
}

#[test]
fn parts_lists_stay_within_the_budget() {
    let output = troika(&[
        "plan",
        "build",
        "--budget",
        "2500",
        "--model",
        "llama-3.1-8b",
        "--json",
    ]);
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    let builds = json(&output);
    let builds = builds.as_array().expect("is a list");
    assert!(!builds.is_empty());
    for build in builds {
        let usd = build["verdict"]["outlay"]["usd"]
            .as_f64()
            .expect("has a sum");
        assert!(usd <= 2500.0, "{build}");
    }
    let output = troika(&["plan", "build", "--budget", "5"]);
    assert_eq!(code(&output), Some(1), "{}", stderr(&output));
}

#[test]
fn training_leaves_npus_out_with_the_reason() {
    let output = troika(&[
        "plan",
        "train",
        "--elsewhere",
        "--model",
        "llama-3.1-8b",
        "--method",
        "full",
        "--json",
    ]);
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    let plan = json(&output);
    let of_npus = |verdict: &&Value| {
        verdict["name"]
            .as_str()
            .is_some_and(|name| name.ends_with(", NPU"))
    };
    let verdicts = plan["verdicts"].as_array().expect("is a list");
    let npus: Vec<_> = verdicts.iter().filter(of_npus).collect();
    assert!(!npus.is_empty());
    for npu in npus {
        let reason = npu["lost"]["reason"].as_str().expect("lost");
        assert!(reason.contains("forward only"), "{reason}");
    }
    assert_eq!(
        code(&troika(&["plan", "train", "--elsewhere"])),
        Some(2),
        "which model?"
    );
}

#[test]
fn fleets_and_labels_answer() {
    let fleet = [
        "plan",
        "fleet",
        "--elsewhere",
        "--devices",
        "100",
        "--model",
        "llama-3.2-3b",
        "--json",
    ];
    let output = troika(&fleet);
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    assert_eq!(json(&output)["users_central"], 10);
    let label = [
        "plan",
        "check",
        "copilot-plus",
        "--chip",
        "Snapdragon X Elite X1E-80-100",
        "--memory-gb",
        "16",
    ];
    let output = troika_in(Path::new("no-such-home"), &label, b"");
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    assert!(
        stdout(&output).contains("not known"),
        "storage was not said: {}",
        stdout(&output)
    );
    let output = troika(&["plan", "check", "copilot-plus", "--chip", "Abacus 3000"]);
    assert_eq!(code(&output), Some(2), "{}", stderr(&output));
}

#[test]
fn pages_of_text_are_no_wider_than_a_screen() {
    for flags in [
        &[][..],
        &["--users", "4"],
        &["--explain", "NVIDIA GeForce RTX 3090"],
    ] {
        let text = stdout(&elsewhere(flags));
        for line in text.lines().filter(|line| !line.starts_with('[')) {
            assert!(line.chars().count() <= 121, "{line}");
        }
    }
}

#[test]
fn a_workload_that_is_no_file_of_one_is_refused_in_a_line() {
    let directory = directory("plan-no-workload");
    let cases = [
        ("broken", "task = \"chat".to_owned(), "line 1"),
        (
            "unknown",
            "users = 1\nfoo = 2".to_owned(),
            "line 2, `foo = 2`: unknown field `foo`",
        ),
        ("deep", format!("a = {}", "[".repeat(60_000)), "line 1"),
        (
            "huge",
            format!("model = \"{}\"", "x".repeat(1 << 20)),
            "more than",
        ),
    ];
    for (name, text, want) in cases {
        let path = directory.join(name);
        std::fs::write(&path, text).expect("can be written");
        let output = troika(&["plan", "--workload", &path.to_string_lossy()]);
        let said = stderr(&output);
        assert_eq!(code(&output), Some(1), "{name}: {said}");
        assert!(said.contains(want) && said.len() < 1000, "{name}: {said}");
    }
}

#[test]
fn flags_before_a_verb_are_not_passed_over() {
    let output = troika(&["plan", "--users", "4", "build"]);
    assert_eq!(code(&output), Some(2));
    assert!(stderr(&output).contains("after it"), "{}", stderr(&output));
}

#[test]
fn a_computer_around_a_card_holds_its_model_on_the_card() {
    let output = troika(&["plan", "build", "--budget", "2500", "--json"]);
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    let builds = json(&output);
    let builds = builds.as_array().expect("is a list");
    assert!(builds.len() > 2, "{} lists", builds.len());
    for build in builds {
        let name = build["verdict"]["name"].as_str().expect("has a name");
        assert!(!name.ends_with("+ processor"), "{name}");
    }
}

/// Replicas that do not depend on the machine of the tests.
fn emitting(more: &[&str]) -> std::process::Output {
    elsewhere(&[&["--users", "500", "--emit"], more].concat())
}

#[test]
fn replicas_are_written_for_whom_they_are_asked() {
    for (target, part, file) in [
        ("kubernetes", "kind: StatefulSet", "troika.yaml"),
        ("ray", "import_path: troika_ray.app:build", "serve.yaml"),
    ] {
        let output = emitting(&[target]);
        assert_eq!(code(&output), Some(0), "{}", stderr(&output));
        assert!(stdout(&output).contains(part), "{}", stdout(&output));
        assert!(stderr(&output).contains("500 users"), "{}", stderr(&output));
        let folder = directory(&format!("plan-emit-{target}"));
        let there = emitting(&[target, "--out", folder.to_str().expect("is text")]);
        assert_eq!(code(&there), Some(0), "{}", stderr(&there));
        assert_eq!(stdout(&there), "");
        let written = std::fs::read_to_string(folder.join(file)).expect("is written");
        assert_eq!(written, stdout(&output));
        let told = json(&emitting(&[target, "--json"]));
        assert_eq!(told["manifest"], written);
        assert_eq!(told["target"], target);
        assert!(
            told["crew"]["replicas"]["high"].as_u64() > Some(1),
            "{told}"
        );
    }
}

#[test]
fn the_simulation_that_is_named_runs_and_keeps_what_is_wanted() {
    let told = json(&emitting(&[
        "kubernetes",
        "--on",
        "NVIDIA GeForce RTX 4090",
        "--json",
    ]));
    let command = told["simulation"].as_str().expect("is known");
    let words: Vec<String> = command
        .split('\'')
        .enumerate()
        .flat_map(|(at, part)| match at % 2 {
            0 => part.split_whitespace().map(str::to_owned).collect(),
            _ => vec![part.to_owned()],
        })
        .skip(1)
        .collect();
    let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
    words.push("--json");
    let output = troika(&words);
    assert_eq!(code(&output), Some(0), "{command}: {}", stderr(&output));
    let figures = &json(&output)["cells"][0]["runs"][0]["figures"];
    let wait = figures["classes"][0]["ttft_s"]["p95"].as_f64();
    let want = told["workload"]["ttft_s"].as_f64();
    assert!(
        wait.is_some() && wait <= want,
        "{wait:?} of {want:?}: {command}"
    );
    assert_eq!(figures["jobs"]["refused"], 0);
    // Seconds between two tokens, against tokens a second.
    let slowest = figures["classes"][0]["itl_s"]["p95"]
        .as_f64()
        .expect("is told");
    let want = told["workload"]["tps"].as_f64().expect("is wanted");
    assert!(
        1.0 / slowest >= want,
        "{slowest} s between tokens: {command}"
    );
}

#[test]
fn where_nobody_serves_it_fails_and_says_what_would_help() {
    let output = emitting(&["kubernetes", "--tps", "5000"]);
    assert_eq!(code(&output), Some(1));
    let said = stderr(&output);
    for part in ["5000 wanted", "what would help", "--tps"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    for (more, part) in [
        (&["nomad"][..], "kubernetes, ray"),
        (&["ray", "--all"], "--all"),
        (&["ray", "--on", "no such machine"], "no such machine"),
    ] {
        let output = emitting(more);
        assert_eq!(code(&output), Some(2), "{more:?}");
        assert!(
            stderr(&output).contains(part),
            "{part}: {}",
            stderr(&output)
        );
    }
    let unnamed = troika(&[
        "plan",
        "--elsewhere",
        "--budget",
        "900",
        "--users",
        "9",
        "--emit",
        "ray",
    ]);
    assert_eq!(code(&unnamed), Some(2));
    assert!(stderr(&unnamed).contains("--model"), "{}", stderr(&unnamed));
}

#[test]
fn what_ray_is_told_are_settings_and_flags_that_there_are() {
    let text = stdout(&emitting(&["ray"]));
    let file: Value = serde_saphyr::from_str(&text).expect("is YAML");
    let args = file["applications"][0]["args"]
        .as_object()
        .expect("has names");
    let help = stdout(&troika(&["help", "serve"]));
    let flags = args["serve_args"].as_array().expect("is a list").iter();
    for flag in flags
        .filter_map(Value::as_str)
        .filter(|arg| arg.starts_with("--"))
    {
        let name = flag.split('=').next().expect("has a first part");
        assert!(help.contains(name), "`troika serve` has no {name}");
    }
    let settings =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/ray/troika_ray/settings.py");
    let settings = std::fs::read_to_string(settings).expect("the application is there");
    for name in args.keys() {
        assert!(
            settings.contains(&format!("\n    {name}: ")),
            "the application has no {name}"
        );
    }
}
