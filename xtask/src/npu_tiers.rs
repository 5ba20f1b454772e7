//! `cargo xtask npu-tiers`: the tests that need makers' libraries, and the libraries for them.
//!
//! A test bears its tier in its name. One that finds its library absent prints `skipped` and passes, so this counts them: a
//! tier in which nothing ran says why, and is no success that anybody could take for one.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

use crate::tiers::Tests;
use crate::workspace_root;

/// Installs the libraries and runs the tests of every tier.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Folder of the libraries
    dir: PathBuf,
    /// Only these tiers
    #[arg(long, value_name = "TIER", value_parser = clap::value_parser!(u8).range(0..=3))]
    tier: Vec<u8>,
    /// Install nothing: use what is there
    #[arg(long)]
    no_install: bool,
    /// Qualcomm's libraries, too, whose licence you have read and accept
    #[arg(long)]
    accept_qualcomm_licence: bool,
    /// The Python whose pip installs
    #[arg(long, default_value = "python3")]
    python: PathBuf,
}

/// Tests that need the same things.
struct Tier {
    number: u8,
    what: &'static str,
    /// Parts of names, any of which a test must have.
    tests: &'static [&'static str],
    /// Parts of names that it must not have.
    but: &'static [&'static str],
    /// Packages, by the names of their folders.
    needs: &'static [&'static str],
}

const TIERS: [Tier; 4] = [
    Tier {
        number: 0,
        what: "plain Rust",
        tests: &[
            "t0_",
            "lower::",
            "compile::",
            "found::",
            "backends::",
            "exec::rten",
        ],
        but: &[],
        needs: &[],
    },
    Tier {
        number: 1,
        what: "ONNX Runtime and OpenVINO on the CPU",
        tests: &["t1_", "exec::onnxruntime", "exec::openvino", "openvino::"],
        but: &["npu_plugin"],
        needs: &["onnxruntime", "openvino"],
    },
    Tier {
        number: 2,
        what: "OpenVINO's NPU plugin, computing on the CPU",
        tests: &["npu_plugin"],
        but: &[],
        needs: &["openvino"],
    },
    Tier {
        number: 3,
        what: "the simulator of Qualcomm's NPU",
        tests: &["t3_"],
        but: &[],
        needs: &["onnxruntime", "onnxruntime_qnn"],
    },
];

/// Packages: the folder of each, and the file that pins it.
const PACKAGES: [(&str, &str); 3] = [
    ("openvino", "openvino.txt"),
    ("onnxruntime", "onnxruntime.txt"),
    ("onnxruntime_qnn", "qnn.txt"),
];

const VARIABLES: [&str; 3] = ["TROIKA_OPENVINO_DIR", "TROIKA_ORT_DIR", "TROIKA_QNN_DIR"];

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let root = workspace_root()?;
    std::fs::create_dir_all(&args.dir)
        .with_context(|| format!("cannot make {}", args.dir.display()))?;
    let dir = args.dir.canonicalize().context("cannot find the folder")?;
    if !args.no_install {
        install(args, &root, &dir)?;
    }
    let mut failed = Vec::new();
    for tier in TIERS {
        if !args.tier.is_empty() && !args.tier.contains(&tier.number) {
            continue;
        }
        println!("T{}: {}", tier.number, tier.what);
        let missing = tier
            .needs
            .iter()
            .find(|package| !dir.join(package).is_dir());
        if let Some(package) = missing {
            println!("  skipped: {package} is not in {}", dir.display());
            continue;
        }
        let tests = test(&tier, &root, &dir)?;
        tests.tell();
        if !tests.are_good() {
            failed.push(format!("T{}", tier.number));
        }
    }
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}

fn install(args: &Args, root: &Path, dir: &Path) -> anyhow::Result<()> {
    for (package, pins) in PACKAGES {
        if dir.join(package).is_dir() {
            continue;
        }
        if package == "onnxruntime_qnn" && !args.accept_qualcomm_licence {
            println!(
                "{package} is not installed: read Qualcomm's licence, and add --accept-qualcomm-licence"
            );
            continue;
        }
        println!("installing {package} into {}", dir.display());
        let status = Command::new(&args.python)
            .args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
            ])
            .args(["--require-hashes", "--no-deps", "--only-binary", ":all:"])
            .args(["--python-version", "3.12", "--implementation", "cp"])
            .arg("--requirement")
            .arg(root.join("crates/cli/assets/npu").join(pins))
            .arg("--target")
            .arg(dir)
            .status()
            .with_context(|| format!("{} does not start", args.python.display()))?;
        ensure!(status.success(), "pip ended with {status}");
    }
    Ok(())
}

/// Runs a tier's tests, with the libraries or without.
fn test(tier: &Tier, root: &Path, dir: &Path) -> anyhow::Result<Tests> {
    let mut cargo = Command::new("cargo");
    cargo
        .current_dir(root)
        .args(["test", "--package", "troika-device-npu", "--lib", "--"])
        .args(tier.tests);
    for name in tier.but {
        cargo.args(["--skip", name]);
    }
    for variable in VARIABLES {
        match tier.needs {
            [] => cargo.env_remove(variable),
            _ => cargo.env(variable, dir),
        };
    }
    Tests::run(&mut cargo)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pinned_is_there() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/cli/assets/npu");
        for (package, pins) in PACKAGES {
            let text = std::fs::read_to_string(root.join(pins)).expect("is there");
            assert!(text.contains(&package.replace('_', "-")), "{package}");
        }
    }
}
