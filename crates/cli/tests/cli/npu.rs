//! `troika npu`, with plain Rust standing in for an NPU.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::{code, directory, json, stderr, stdout};

/// Runs the program where no library is installed, and plain Rust stands in for `npu0`.
fn npu(home: &Path, args: &[&str], env: &[(&str, &str)]) -> Output {
    let nowhere = home.join("nowhere");
    let mut command = Command::new(env!("CARGO_BIN_EXE_troika"));
    command
        .arg("npu")
        .args(args)
        .env("TROIKA_HOME", home)
        .env("TROIKA_NPU", "rten")
        .env("TROIKA_OPENVINO_DIR", &nowhere)
        .env("TROIKA_ORT_DIR", &nowhere)
        .env("TROIKA_QNN_DIR", &nowhere)
        .stdin(Stdio::null());
    for (name, value) in env {
        command.env(name, value);
    }
    command.output().expect("the program runs")
}

#[test]
fn what_is_missing_is_told_with_its_remedy() {
    let home = directory("npu-status");
    let output = npu(&home, &[], &[]);
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    let page = stdout(&output);
    for word in [
        "library not found: OpenVINO",
        "troika npu setup",
        "stands in for an NPU",
        "--accept-qualcomm-licence",
    ] {
        assert!(page.contains(word), "{word}: {page}");
    }
    let status = json(&npu(&home, &["status", "--json"], &[]));
    assert_eq!(status["libraries"]["openvino"]["state"], "absent");
    assert_eq!(status["offers"][0]["backend"], "rten");
    assert_eq!(status["offers"][0]["stands_in"], true);
}

#[test]
fn a_stand_in_that_is_none_is_wrong_use() {
    let output = npu(&directory("npu-word"), &[], &[("TROIKA_NPU", "fpga")]);
    assert_eq!(code(&output), Some(2));
    assert!(stderr(&output).contains("`fpga`"), "{}", stderr(&output));
}

fn compile(home: &Path, more: &[&str]) -> Output {
    let mut args = vec!["compile", "stories", "--weights", "int8", "--ctx", "256"];
    args.extend(more);
    npu(home, &args, &[])
}

#[test]
fn a_model_is_compiled_once_and_its_loss_is_told() {
    let home = directory("npu-compile");
    let first = compile(&home, &["--json"]);
    assert_eq!(code(&first), Some(0), "{}", stderr(&first));
    let first = json(&first);
    assert_eq!(
        (&first["cached"], &first["stands_in"]),
        (&false.into(), &true.into())
    );
    assert_eq!(first["device"], "npu0");
    let loss = first["loss"]["kl_mean"].as_f64().expect("was compared");
    assert!((1e-9..0.05).contains(&loss), "{first}");
    assert!(first["loss"]["tokens"].as_u64() >= Some(200), "{first}");

    let again = compile(&home, &[]);
    assert_eq!(code(&again), Some(0), "{}", stderr(&again));
    assert!(
        stdout(&again).contains("was compiled before"),
        "{}",
        stdout(&again)
    );
    assert!(stdout(&again).contains("stands in"), "{}", stdout(&again));

    let strict = compile(&home, &["--limit", "0"]);
    assert_eq!(code(&strict), Some(1));
    let said = stderr(&strict);
    assert!(
        said.contains("nats per token") && said.contains("--limit"),
        "{said}"
    );

    damage(first["directory"].as_str().expect("is text"));
    let anew = json(&compile(&home, &["--json"]));
    assert_eq!(anew["loss"], first["loss"], "the same is compiled again");

    let cache = json(&npu(&home, &["cache", "--json"], &[]));
    assert_eq!(cache["models"].as_array().map(Vec::len), Some(1));
    assert_eq!(cache["models"][0]["weights"], "int8");
    let cleared = json(&npu(&home, &["cache", "--clear", "--json"], &[]));
    assert_eq!(cleared["removed"], 1);
    let empty = npu(&home, &["cache"], &[]);
    assert!(
        stdout(&empty).starts_with("0 compiled models"),
        "{}",
        stdout(&empty)
    );
}

/// Changes a byte of a compiled model.
fn damage(directory: &str) {
    let text = std::fs::read_to_string(Path::new(directory).join("manifest.json"));
    let manifest: Value = serde_json::from_str(&text.expect("is there")).expect("is JSON");
    let name = manifest["files"][0]["name"].as_str().expect("is text");
    let path = Path::new(directory).join(name);
    let mut bytes = std::fs::read(&path).expect("is there");
    *bytes.last_mut().expect("is not empty") ^= 1;
    std::fs::write(path, bytes).expect("is written");
}

#[test]
fn devices_that_are_not_there_are_named() {
    let home = directory("npu-device");
    let output = compile(&home, &["--device", "npu7"]);
    assert_eq!(code(&output), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("rten"), "{}", stderr(&output));
    for args in [["--weights", "int3"], ["--limit", "NaN"], ["--ctx", "0"]] {
        assert_eq!(
            code(&npu(
                &home,
                &[&["compile", "stories"], args.as_slice()].concat(),
                &[]
            )),
            Some(2)
        );
    }
}

#[test]
fn nothing_is_installed_without_leave() {
    let home = directory("npu-setup");
    let licence = npu(&home, &["setup", "--qnn"], &[]);
    assert_eq!(code(&licence), Some(2));
    assert!(
        stderr(&licence).contains("Qualcomm_LICENSE.pdf"),
        "{}",
        stderr(&licence)
    );

    let offline = npu(&home, &["setup"], &[("TROIKA_OFFLINE", "1")]);
    assert_eq!(code(&offline), Some(1));
    assert!(
        stderr(&offline).contains("--wheels"),
        "{}",
        stderr(&offline)
    );

    let python = npu(&home, &["setup", "--python", "no-such-python"], &[]);
    assert_eq!(code(&python), Some(1));
    assert!(
        stderr(&python).contains("no-such-python"),
        "{}",
        stderr(&python)
    );

    // Wheels of other bytes are refused by pip, and leave nothing.
    let wheels = directory("npu-wheels");
    std::fs::write(
        wheels.join("openvino-2026.4.1-py3-none-any.whl"),
        b"no wheel",
    )
    .expect("is written");
    let wheels = wheels.to_str().expect("is text");
    let forged = npu(&home, &["setup", "--openvino", "--wheels", wheels], &[]);
    assert_eq!(code(&forged), Some(1), "{}", stderr(&forged));
    let left = std::fs::read_dir(home.join("npu"))
        .expect("was made")
        .count();
    assert_eq!(left, 0);
}

#[test]
fn a_worker_that_is_asked_nothing_fails() {
    let output = npu(&directory("npu-worker"), &["worker"], &[]);
    assert_eq!(code(&output), Some(1));
    assert!(stderr(&output).contains("request"), "{}", stderr(&output));
}
