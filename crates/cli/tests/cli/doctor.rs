//! `troika doctor` from outside: how it ends, and what it says of a home in good order and of others.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::{code, directory, json, stderr, stdout};

/// Looks at a home, on a port that is free unless a variable says otherwise.
fn doctor(home: &Path, env: &[(&str, &str)], args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_troika"))
        .arg("doctor")
        .args(args)
        .env("TROIKA_HOME", home)
        .env_remove("TROIKA_ISA")
        .env("TROIKA_GPU", "off")
        .env("TROIKA_PORT", "0")
        .envs(env.iter().copied())
        .output()
        .expect("the program ends")
}

fn check<'r>(report: &'r Value, name: &str) -> &'r Value {
    let checks = report["checks"].as_array().expect("there are checks");
    let found = checks.iter().find(|check| check["name"] == name);
    found.unwrap_or_else(|| panic!("{name} is not in {report}"))
}

#[test]
fn a_home_in_good_order_has_no_fault() {
    let home = directory("doctor-well");
    let output = doctor(&home, &[], &["--json"]);
    let report = json(&output);
    // How much room the disk of this machine has is not about the home.
    if check(&report, "disk")["level"] != "fault" {
        assert_eq!(code(&output), Some(0), "{report}");
        assert_eq!(report["faults"], 0);
    }
    for name in [
        "settings", "home", "keys", "port", "models", "engine", "rules",
    ] {
        assert_eq!(check(&report, name)["level"], "ok", "{report}");
    }
    let text = stdout(&doctor(&home, &[], &[]));
    assert!(
        text.contains("the model inside writes what it should"),
        "{text}"
    );
    assert!(!text.contains('\u{1b}'), "nobody watches: {text}");
    assert_eq!(
        std::fs::read_dir(&home).expect("is there").count(),
        0,
        "nothing is changed"
    );
}

#[test]
fn faults_end_with_1_and_say_what_helps() {
    let home = directory("doctor-ill");
    let models = home.join("models");
    std::fs::create_dir_all(&models).expect("is made");
    std::fs::write(models.join("half.gguf"), b"GGUF\x03\0\0\0").expect("is written");
    std::fs::write(home.join("hybrid.toml"), "nonsense = [").expect("is written");
    let other = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let port = other
        .local_addr()
        .expect("has an address")
        .port()
        .to_string();
    let env = [("TROIKA_PORT", &*port), ("TROIKA_ISA", "abacus")];
    let output = doctor(&home, &env, &["--json"]);
    assert_eq!(code(&output), Some(1));
    assert_eq!(stderr(&output), "", "the answer has told it");
    let report = json(&output);
    for name in ["port", "models", "rules", "engine", "processor"] {
        let check = check(&report, name);
        assert_eq!(check["level"], "fault", "{check}");
        assert_ne!(check["mend"], "", "{check}");
    }
    assert_eq!(
        report["checks"][0]["level"], "fault",
        "the worst comes first"
    );
}

#[test]
fn a_mistake_in_the_configuration_is_a_fault_like_others() {
    let home = directory("doctor-settings");
    std::fs::write(home.join("config.toml"), "prot = 1\n").expect("is written");
    let output = doctor(&home, &[], &[]);
    assert_eq!(code(&output), Some(1));
    let text = stdout(&output);
    assert!(text.starts_with("fault    settings"), "{text}");
    assert!(text.contains("did you mean `port`?"), "{text}");
}

#[test]
fn a_server_is_asked_whether_it_answers() {
    let home = directory("doctor-server");
    let free = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let port = free
        .local_addr()
        .expect("has an address")
        .port()
        .to_string();
    drop(free);
    let output = doctor(&home, &[("TROIKA_PORT", &port)], &["--server", "--json"]);
    assert_eq!(code(&output), Some(1), "{}", stderr(&output));
    assert_eq!(json(&output)["answers"], false);
}
