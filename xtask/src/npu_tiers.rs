//! `cargo xtask npu-tiers`: the tests that need makers' libraries, and the libraries for them.
//!
//! A test bears its tier in its name. One that finds its library absent prints `skipped` and passes, so this counts them: a
//! tier in which nothing ran says why, and is no success that anybody could take for one.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};

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
        let tests = Tests::run(&tier, &root, &dir)?;
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

/// What came of a tier's tests.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tests {
    passed: usize,
    failed: usize,
    /// What each said that did not run.
    skipped: Vec<String>,
    /// What the tests that failed have said.
    output: String,
}

impl Tests {
    fn run(tier: &Tier, root: &Path, dir: &Path) -> anyhow::Result<Self> {
        let mut cargo = Command::new("cargo");
        cargo
            .current_dir(root)
            .args(["test", "--package", "troika-device-npu", "--lib", "--"])
            .arg("--nocapture")
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
        let output = cargo.output().context("cargo does not start")?;
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&output.stderr));
        let tests = Self::read(&text);
        if !output.status.success() && tests.failed == 0 {
            bail!("the tests did not get to an end:\n{text}");
        }
        Ok(tests)
    }

    /// Reads what the test program has written.
    fn read(text: &str) -> Self {
        let mut tests = Self::default();
        for line in text.lines() {
            if let Some((_, why)) = line.split_once("skipped: ") {
                tests.skipped.push(why.to_owned());
            }
            let Some((_, counts)) = line.split_once("test result: ") else {
                continue;
            };
            let count = |word: &str| {
                let mut parts = counts.split([';', '.']).map(str::trim);
                let number = parts.find_map(|part| part.strip_suffix(word));
                number
                    .and_then(|number| number.trim().parse().ok())
                    .unwrap_or(0)
            };
            tests.passed += count("passed");
            tests.failed += count("failed");
        }
        tests.skipped.sort_unstable();
        if tests.failed > 0 {
            text.clone_into(&mut tests.output);
        }
        tests
    }

    fn ran(&self) -> usize {
        self.passed.saturating_sub(self.skipped.len())
    }

    fn are_good(&self) -> bool {
        self.failed == 0 && self.ran() > 0
    }

    fn tell(&self) {
        if self.failed > 0 {
            println!("{}", self.output);
        }
        println!(
            "  {} ran, {} failed, {} skipped",
            self.ran() + self.failed,
            self.failed,
            self.skipped.len()
        );
        let mut told = self.skipped.clone();
        told.dedup();
        for why in told {
            println!("  skipped: {why}");
        }
        if self.ran() + self.failed == 0 {
            println!("  nothing ran, which is no success");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skipped_tests_do_not_count() {
        let text = "running 3 tests\ntest a ... skipped: no library\nok\ntest b ... ok\n\
                    test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 9 filtered out; finished in 0.1s\n";
        let read = Tests::read(text);
        assert_eq!((read.passed, read.ran(), read.failed), (3, 2, 0));
        assert!(read.are_good());
        let none = Tests::read(&text.replace("3 passed", "1 passed"));
        assert!(!none.are_good());
        let bad = Tests::read(&text.replace("0 failed", "1 failed"));
        assert!(!bad.are_good() && bad.output.contains("running"));
    }

    #[test]
    fn what_is_pinned_is_there() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/cli/assets/npu");
        for (package, pins) in PACKAGES {
            let text = std::fs::read_to_string(root.join(pins)).expect("is there");
            assert!(text.contains(&package.replace('_', "-")), "{package}");
        }
    }
}
