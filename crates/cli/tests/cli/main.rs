//! The program from outside: what goes in, what comes out, and how it ends.

mod calibrate;
mod devices;
mod doctor;
mod embed;
mod gpu;
mod import;
mod interrupt;
mod kubernetes;
mod measure;
mod models;
mod money;
mod npu;
mod perplexity;
mod pictures;
mod plan;
mod program;
mod pull;
mod quantize;
mod receipts;
mod rules;
mod run;
mod serve;
mod simulate;
mod sound;
mod template;
mod top;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// Runs the program in an empty home.
pub(crate) fn troika(args: &[&str]) -> Output {
    troika_in(Path::new("no-such-home"), args, b"")
}

pub(crate) fn troika_in(home: &Path, args: &[&str], stdin: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_troika"))
        .args(args)
        .env("TROIKA_HOME", home)
        .env_remove("TROIKA_ISA")
        .env("TROIKA_GPU", "off")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut pipe = child.stdin.take().expect("is piped");
    // Beside reading: a program may answer before it has read all.
    std::thread::scope(|scope| {
        // A program that does not read closes its end.
        scope.spawn(move || pipe.write_all(stdin));
        child.wait_with_output().expect("the program ends")
    })
}

/// A file of the shared data, or `None` with a message where there is none.
#[expect(clippy::print_stdout, reason = "a skipped test says so")]
pub(crate) fn shared(below: &str) -> Option<String> {
    let root = std::env::var_os("TROIKA_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
        PathBuf::from,
    );
    let path = root.join("data").join(below);
    if !path.exists() {
        println!("skipped: {} is absent", path.display());
        return None;
    }
    Some(path.to_str().expect("is text").to_owned())
}

pub(crate) fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("stdout is text")
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("stderr is text")
}

pub(crate) fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("stdout is JSON: {error}\n{}", stdout(output)))
}

/// A directory of this test's own.
pub(crate) fn directory(name: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&directory);
    std::fs::create_dir_all(&directory).expect("is made");
    directory
}
