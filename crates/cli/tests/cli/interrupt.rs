//! Ctrl-C, sent from outside.
#![cfg(unix)]

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

fn start(args: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_troika"))
        .args(args)
        .env("TROIKA_HOME", "no-such-home")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts")
}

fn interrupt(child: &Child) {
    let status = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .expect("kill is there");
    assert!(status.success());
}

/// A story that goes on for hours: its end is ruled out.
const ENDLESS: [&str; 8] = [
    "run",
    "Once upon a time",
    "--logit-bias",
    "0=-inf",
    "--ctx",
    "100000",
    "--seed",
    "7",
];

#[test]
fn ctrl_c_stops_the_answer_and_keeps_it() {
    let mut child = start(&ENDLESS);
    let mut out = BufReader::new(child.stdout.take().expect("is piped"));
    let mut story = String::new();
    out.read_line(&mut story).expect("a line comes");
    interrupt(&child);
    let asked = Instant::now();
    out.read_to_string(&mut story).expect("the rest comes");
    let mut said = String::new();
    let mut err = child.stderr.take().expect("is piped");
    err.read_to_string(&mut said).expect("is text");
    let status = child.wait().expect("ends");
    assert_eq!(status.code(), Some(130), "{said}");
    assert!(asked.elapsed() < Duration::from_secs(5));
    assert!(story.starts_with("Once upon a time") && story.ends_with('\n'));
    assert!(said.contains("stopped by you"), "{said}");
}

#[test]
fn a_benchmark_that_is_stopped_prints_what_it_has() {
    let mut child = start(&["bench", "-v", "-p", "2", "-n", "500", "-r", "900", "--json"]);
    let mut err = BufReader::new(child.stderr.take().expect("is piped"));
    let mut said = String::new();
    while !said.contains("tg500") {
        assert!(err.read_line(&mut said).expect("is text") > 0, "{said}");
    }
    interrupt(&child);
    let output = child.wait_with_output().expect("ends");
    assert_eq!(output.status.code(), Some(130));
    let rows: serde_json::Value = serde_json::from_slice(&output.stdout).expect("is JSON");
    assert_eq!(rows.as_array().map(Vec::len), Some(1));
    assert_eq!(rows[0]["test"], "pp2");
}

#[test]
fn a_measurement_that_is_stopped_leaves_nothing() {
    let home = crate::directory("measure-stopped");
    let mut child = Command::new(env!("CARGO_BIN_EXE_troika"))
        .args(["devices", "--measure", "-v"])
        .env("TROIKA_HOME", &home)
        .env_remove("TROIKA_ISA")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut err = BufReader::new(child.stderr.take().expect("is piped"));
    let mut said = String::new();
    while !said.contains("clock") {
        assert!(err.read_line(&mut said).expect("is text") > 0, "{said}");
    }
    interrupt(&child);
    let output = child.wait_with_output().expect("ends");
    assert_eq!(output.status.code(), Some(130));
    assert!(output.stdout.is_empty());
    let left = std::fs::read_dir(&home).expect("is there").count();
    assert_eq!(left, 0, "neither a file nor a part of one");
}
