//! `cargo xtask ray`: the tests of `deploy/ray`, and the Python packages that they run with.
//!
//! What cannot be had is no failure of ours: without Python or its packages this says so and ends well.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};

use crate::workspace_root;

/// Where the application is, below the workspace's root.
const APPLICATION: &str = "deploy/ray";
/// What needs no cluster, and what the short run has of a cluster's tests.
const ALONE: [&str; 4] = [
    "tests/test_asking.py",
    "tests/test_numbers.py",
    "tests/test_ranking.py",
    "tests/test_settings.py",
];
const SHORT: &str = "tests/test_apis.py";

/// Installs Ray into a virtual environment and runs the application's tests.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Folder of the virtual environment
    dir: PathBuf,
    /// Leave out the tests that take minutes: deaths, speed, scaling
    #[arg(long)]
    short: bool,
    /// Install nothing: use what is there
    #[arg(long)]
    no_install: bool,
    /// A program that is built already
    #[arg(long, value_name = "FILE")]
    troika: Option<PathBuf>,
    /// The Python that makes the environment
    #[arg(long, default_value = "python3")]
    python: PathBuf,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let root = workspace_root()?;
    let application = root.join(APPLICATION);
    std::fs::create_dir_all(&args.dir)
        .with_context(|| format!("cannot make {}", args.dir.display()))?;
    let dir = args.dir.canonicalize().context("cannot find the folder")?;
    let python = dir.join("venv/bin/python");
    if !args.no_install
        && let Err(why) = install(args, &application, &dir)
    {
        println!("skipped: Ray cannot be installed: {why:#}");
        return Ok(());
    }
    ensure!(
        python.is_file(),
        "there is no environment in {}; leave out --no-install",
        dir.display()
    );
    let module = |name: &str, args: &[&str]| {
        let mut command = Command::new(&python);
        command.args(["-m", name]).args(args);
        command
    };
    finish(&application, module("ruff", &["check", "--no-cache"]))?;
    finish(
        &application,
        module("ruff", &["format", "--check", "--no-cache"]),
    )?;
    let cache = dir.join("mypy");
    let mut mypy = module("mypy", &["troika_ray", "--cache-dir"]);
    mypy.arg(cache);
    finish(&application, mypy)?;

    let troika = match &args.troika {
        Some(file) => file.canonicalize().context("--troika names no file")?,
        None => build(&root)?,
    };
    let mut tests = module("pytest", &["-q", "-s", "-p", "no:cacheprovider"]);
    tests.env("TROIKA_PROGRAM", troika);
    if args.short {
        tests.args(ALONE).arg(SHORT);
    }
    finish(&application, tests)
}

/// Makes the environment, unless one with these very packages is there.
fn install(args: &Args, application: &Path, dir: &Path) -> anyhow::Result<()> {
    let pins = application.join("requirements.txt");
    let wanted = std::fs::read(&pins).with_context(|| format!("cannot read {}", pins.display()))?;
    let stamp = dir.join("installed");
    if std::fs::read(&stamp).is_ok_and(|there| there == wanted) {
        return Ok(());
    }
    println!("installing Ray into {}", dir.display());
    let mut venv = Command::new(&args.python);
    venv.args(["-m", "venv", "--clear", "venv"]);
    finish(dir, venv)?;
    let mut pip = Command::new(dir.join("venv/bin/python"));
    pip.args(["-m", "pip", "install", "--quiet"])
        .args(["--disable-pip-version-check", "--requirement"])
        .arg(&pins);
    finish(dir, pip)?;
    std::fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))
}

fn build(root: &Path) -> anyhow::Result<PathBuf> {
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--quiet", "--release", "--package", "troika-cli"]);
    finish(root, cargo)?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from);
    Ok(target.join("release/troika"))
}

/// Runs a command in a directory, in which it is to succeed.
fn finish(directory: &Path, mut command: Command) -> anyhow::Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command
        .current_dir(directory)
        // Byte code would lie beside the sources.
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("{name} does not start"))?;
    ensure!(status.success(), "{name} ended with {status}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tests_that_are_named_are_there() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for test in ALONE.iter().chain([&SHORT]) {
            assert!(root.join(APPLICATION).join(test).is_file(), "{test}");
        }
    }

    #[test]
    fn what_cannot_be_installed_is_no_failure() {
        let dir = std::env::temp_dir().join(format!("troika-ray-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let args = Args {
            dir: dir.clone(),
            short: true,
            no_install: false,
            troika: None,
            python: "no-such-python".into(),
        };
        let application = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/ray");
        let why = install(&args, &application, &dir).unwrap_err();
        assert!(format!("{why:#}").contains("no-such-python does not start"));
        assert!(!dir.join("installed").exists());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
