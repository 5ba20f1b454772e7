//! `--device gpu0` with a program on the CPU in the GPU's place, where there is one.
#![expect(clippy::print_stdout, reason = "a skipped test says so")]

use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::{code, json, stderr, stdout};

fn troika(args: &[&str], gpu: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_troika"))
        .args(args)
        .env("TROIKA_HOME", Path::new("no-such-home"))
        .env("TROIKA_GPU", gpu)
        .stdin(Stdio::null())
        .output()
        .expect("the program runs")
}

/// Runs a prompt on devices of software; `None` where there is none.
fn run(more: &[&str]) -> Option<Output> {
    let mut args = vec![
        "run",
        "stories",
        "Once upon a time",
        "-n",
        "12",
        "--temperature",
        "0",
        "--json",
    ];
    args.extend(more);
    let output = troika(&args, "software");
    if stderr(&output).contains("there is no \"gpu0\"") {
        println!("skipped: no GPU and no program that plays one");
        return None;
    }
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    Some(output)
}

#[test]
fn a_gpu_writes_what_the_cpu_writes_wherever_the_layers_are() {
    let Some(cpu) = run(&["--device", "cpu0"]) else {
        return;
    };
    let want = json(&cpu)["text"].clone();
    for (more, device, kernels) in [
        (&["--device", "gpu0"][..], "gpu0", "wgsl"),
        (
            &["--device", "gpu0", "--gpu-layers", "2"],
            "gpu0+cpu0",
            "wgsl+",
        ),
        (&["--gpu-layers", "99"], "gpu0", "wgsl"),
        (&["--gpu-layers", "0"], "cpu0", ""),
    ] {
        let Some(output) = run(more) else { return };
        let report = json(&output);
        assert_eq!(report["text"], want, "{more:?}");
        assert_eq!(report["device"], device, "{more:?}");
        let have = report["kernels"].as_str().expect("a text");
        assert!(have.starts_with(kernels), "{more:?}: {have}");
        let told = stderr(&output);
        assert_eq!(
            told.contains("on cpu0, layers"),
            device == "gpu0+cpu0",
            "{told}"
        );
    }
}

#[test]
fn a_gpu_that_is_not_there_is_wrong_use() {
    let output = troika(&["run", "stories", "Hi", "--device", "gpu7"], "off");
    assert_eq!(code(&output), Some(2));
    let told = stderr(&output);
    assert!(
        told.contains("no \"gpu7\"") && told.contains("there are: cpu0"),
        "{told}"
    );
    let output = troika(&["run", "stories", "Hi", "--device", "gpu0"], "fpga");
    assert_eq!(code(&output), Some(2));
    assert!(stderr(&output).contains("\"fpga\""), "{}", stderr(&output));
    let output = troika(&["run", "stories", "Hi", "--gpu-layers", "some"], "off");
    assert_eq!(code(&output), Some(2), "{}", stdout(&output));
}

#[test]
fn a_benchmark_runs_on_a_gpu() {
    let args = [
        "bench", "stories", "-p", "16", "-n", "2", "-r", "1", "--device", "gpu0", "--json",
    ];
    let output = troika(&args, "software");
    if code(&output) == Some(2) {
        println!("skipped: {}", stderr(&output));
        return;
    }
    let rows = json(&output);
    assert_eq!(rows[0]["device"], "gpu0", "{rows}");
    assert!(rows[0]["tps_median"].as_f64().is_some_and(|tps| tps > 0.0));
}
