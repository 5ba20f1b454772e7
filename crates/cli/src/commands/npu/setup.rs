//! `troika npu setup`: makers' libraries, of versions that were tried, into a folder of Troika's own.
//!
//! The one verb that needs the network, when it is asked for. Python's installer does the work: it fetches the wheels of
//! certain versions, compares them with checksums that are part of this program, and unpacks them. No Python is needed to
//! use what is in them.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde::Serialize;
use tempfile::{NamedTempFile, TempDir};
use troika_device_npu::found::{Environment, Finding, Libraries, Maker, chips};
use troika_machine::probe::{self, Root};

use crate::exit::{Interrupted, WrongUse};
use crate::home::Home;
use crate::interrupt::Interrupt;
use crate::npu;
use crate::output::{self, Console};

/// Install libraries for NPUs, of versions that were tried, into a folder of Troika's own
///
/// Without a choice: OpenVINO and ONNX Runtime. Python 3 with pip is needed, and the network, once. What is fetched is checked by
/// checksums that are part of this program. Nothing else on this computer changes; removing the folder undoes it.
#[derive(Debug, clap::Args)]
pub(crate) struct SetupArgs {
    /// Intel's OpenVINO: language models on Intel's NPUs, GPUs and CPUs
    #[arg(long)]
    openvino: bool,
    /// Microsoft's ONNX Runtime: small models, and what other makers' libraries plug into
    #[arg(long)]
    onnxruntime: bool,
    /// Qualcomm's libraries for its NPUs; brings ONNX Runtime along
    #[arg(long)]
    qnn: bool,
    /// You have read Qualcomm's licence, which is in the package `onnxruntime-qnn`, and accept it
    #[arg(long)]
    accept_qualcomm_licence: bool,
    /// Where to install [default: npu in TROIKA_HOME]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Take wheels from this folder, and nothing from the network
    #[arg(long, value_name = "DIR")]
    wheels: Option<PathBuf>,
    /// The Python whose pip installs
    #[arg(long, value_name = "PROGRAM", default_value = PYTHON)]
    python: OsString,
}

/// Python 3's usual name.
const PYTHON: &str = match cfg!(windows) {
    true => "python",
    false => "python3",
};

/// If this variable is set to anything, nothing is fetched.
const OFFLINE: &str = "TROIKA_OFFLINE";

/// How often pip is asked whether it is done.
const TICK: Duration = Duration::from_millis(50);

/// A package, pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Package {
    OpenVino,
    OnnxRuntime,
    Qnn,
}

impl Package {
    /// Version and checksums, as pip reads them.
    fn requirements(self) -> &'static str {
        match self {
            Self::OpenVino => include_str!("../../../assets/npu/openvino.txt"),
            Self::OnnxRuntime => include_str!("../../../assets/npu/onnxruntime.txt"),
            Self::Qnn => include_str!("../../../assets/npu/qnn.txt"),
        }
    }

    /// `openvino==2026.4.1`
    fn pin(self) -> &'static str {
        let mut lines = self.requirements().lines();
        let pin = lines.find(|line| line.contains("=="));
        let pin = pin.and_then(|line| line.split_whitespace().next());
        pin.expect("each file pins a package. This is a bug.")
    }

    fn finding(self, libraries: &Libraries) -> &Finding {
        match self {
            Self::OpenVino => &libraries.openvino,
            Self::OnnxRuntime => &libraries.onnxruntime,
            Self::Qnn => &libraries.qnn,
        }
    }
}

pub(super) fn run(args: &SetupArgs, home: &Home, console: &Console) -> anyhow::Result<()> {
    let packages = choose(args)?;
    let offline = std::env::var_os(OFFLINE).is_some_and(|value| !value.is_empty());
    if offline && args.wheels.is_none() {
        let pins: Vec<_> = packages.iter().map(|package| package.pin()).collect();
        bail!(
            "{OFFLINE} is set, and this verb needs the network: unset it, or fetch the wheels elsewhere (`pip download \
             --no-deps --only-binary :all: --python-version 3.12 {}`) and name their folder by `--wheels`",
            pins.join(" ")
        );
    }
    let target = args.dir.clone().unwrap_or_else(|| npu::setup_dir(home));
    fs::create_dir_all(&target)
        .with_context(|| format!("cannot make the folder {}", target.display()))?;
    let interrupt = Interrupt::install()?;
    for package in &packages {
        let pin = package.pin();
        console.note(format_args!("installing {pin} into {}", target.display()));
        install(*package, args, &target, console, &interrupt)
            .with_context(|| format!("cannot install {pin}"))?;
    }
    report(&packages, &target, console)?;
    if !args.qnn && has_qualcomm_npu() {
        console.note(
            "this computer has a Qualcomm NPU, which needs `troika npu setup --qnn --accept-qualcomm-licence`",
        );
    }
    Ok(())
}

/// What to install, in order.
fn choose(args: &SetupArgs) -> Result<Vec<Package>, WrongUse> {
    if args.qnn && !args.accept_qualcomm_licence {
        return Err(WrongUse(format!(
            "--qnn: Qualcomm's libraries come under a licence of Qualcomm's, Qualcomm_LICENSE.pdf in the package {}; read it, and \
             add --accept-qualcomm-licence if you accept it",
            Package::Qnn.pin()
        )));
    }
    let none = !(args.openvino || args.onnxruntime || args.qnn);
    let wanted = [
        (Package::OpenVino, args.openvino || none),
        // Qualcomm's provider is nothing by itself.
        (Package::OnnxRuntime, args.onnxruntime || args.qnn || none),
        (Package::Qnn, args.qnn),
    ];
    let wanted = wanted.into_iter().filter(|(_, wanted)| *wanted);
    Ok(wanted.map(|(package, _)| package).collect())
}

/// Installs a package beside others, all of it or nothing.
fn install(
    package: Package,
    args: &SetupArgs,
    target: &Path,
    console: &Console,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    let mut requirements = NamedTempFile::new().context("cannot write a temporary file")?;
    requirements
        .write_all(package.requirements().as_bytes())
        .context("cannot write a temporary file")?;
    // In the same folder, so that a rename is all that is left to do.
    let aside = TempDir::with_prefix_in(".setup-", target).context("cannot make a folder")?;
    let mut pip = pip(&args.python, requirements.path(), aside.path());
    if let Some(wheels) = &args.wheels {
        pip.arg("--no-index").arg("--find-links").arg(wheels);
    }
    if console.quiet {
        pip.arg("--quiet");
    }
    run_pip(&mut pip, &args.python, interrupt)?;
    adopt(aside.path(), target)
}

fn pip(python: &OsStr, requirements: &Path, target: &Path) -> Command {
    let mut pip = Command::new(python);
    pip.args(["-m", "pip", "install"])
        .args(["--disable-pip-version-check", "--no-input"])
        .args(["--require-hashes", "--no-deps", "--only-binary", ":all:"])
        // The libraries are the same for every Python, but wheels have its version in their names.
        .args(["--python-version", "3.12", "--implementation", "cp"])
        .arg("--requirement")
        .arg(requirements)
        .arg("--target")
        .arg(target);
    pip
}

/// Lets pip tell how far it is, on stderr: answers alone go to stdout.
fn run_pip(pip: &mut Command, python: &OsStr, interrupt: &Interrupt) -> anyhow::Result<()> {
    let started = pip
        .stdin(Stdio::null())
        .stdout(Stdio::from(io::stderr()))
        .spawn();
    let mut child = started.with_context(|| {
        format!(
            "{} does not start; Python 3 with pip is needed, and may be named by --python",
            python.display()
        )
    })?;
    loop {
        if interrupt.is_set() {
            // It may have heard of Ctrl-C itself.
            let _ = child.kill();
            let _ = child.wait();
            return Err(Interrupted.into());
        }
        if let Some(status) = child.try_wait().context("pip is lost")? {
            ensure!(
                status.success(),
                "pip ended with {status}; what it said stands above"
            );
            return Ok(());
        }
        thread::sleep(TICK);
    }
}

/// Moves everything of a folder into another, in place of what bears the same names there.
fn adopt(from: &Path, to: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(from).context("cannot read what was unpacked")? {
        let name = entry.context("cannot read what was unpacked")?.file_name();
        // Packages' scripts are of no use, and would overwrite each other's folder.
        if name == "bin" || name == "Scripts" {
            continue;
        }
        let (old, new) = (to.join(&name), from.join(&name));
        let removed = match fs::symlink_metadata(&old) {
            Ok(facts) if facts.is_dir() => fs::remove_dir_all(&old),
            Ok(_) => fs::remove_file(&old),
            Err(_) => Ok(()),
        };
        removed.with_context(|| format!("cannot replace {}", old.display()))?;
        fs::rename(&new, &old).with_context(|| format!("cannot move {}", new.display()))?;
    }
    Ok(())
}

/// Tells what was installed, as the search finds it.
fn report(packages: &[Package], target: &Path, console: &Console) -> anyhow::Result<()> {
    #[derive(Serialize)]
    struct Report<'r> {
        directory: &'r Path,
        libraries: &'r [&'r Finding],
    }
    let environment = Environment {
        own: Some(target.to_owned()),
        ..Environment::empty(troika_device_npu::found::Platform::here())
    };
    let libraries = Libraries::search(&environment);
    let found: Vec<_> = packages
        .iter()
        .map(|package| package.finding(&libraries))
        .collect();
    for finding in &found {
        if let Err(why) = &finding.outcome {
            bail!("{} was installed, and is not found: {why}", finding.name);
        }
    }
    if console.json {
        return output::json(&Report {
            directory: target,
            libraries: &found,
        });
    }
    for finding in found {
        let library = finding.outcome.as_ref().ok();
        let version = library.and_then(|library| library.version.as_deref());
        output::answer(format_args!(
            "{} {} is installed\n",
            finding.name,
            version.unwrap_or("of an unknown version"),
        ))?;
    }
    Ok(())
}

fn has_qualcomm_npu() -> bool {
    let machine = probe::read(&Root::real());
    let mut chips = chips(&machine).into_iter();
    chips.any(|chip| chip.maker == Maker::Qualcomm)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_package_is_pinned_by_checksums() {
        for package in [Package::OpenVino, Package::OnnxRuntime, Package::Qnn] {
            assert!(package.pin().contains("=="), "{package:?}");
            let lines = package.requirements().lines();
            let hashes: Vec<_> = lines
                .filter_map(|line| line.trim().strip_prefix("--hash=sha256:"))
                .map(|hash| hash.trim_end_matches(" \\"))
                .collect();
            assert!(hashes.len() >= 3, "{package:?}");
            for hash in hashes {
                let is_hex = hash.bytes().all(|byte| byte.is_ascii_hexdigit());
                assert!(hash.len() == 64 && is_hex, "{hash}");
            }
        }
    }

    #[test]
    fn what_is_moved_replaces_what_was_there() {
        let (from, to) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        for (root, file) in [
            (&from, "a/new"),
            (&from, "bin/script"),
            (&to, "a/old"),
            (&to, "b/kept"),
        ] {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, b"").unwrap();
        }
        adopt(from.path(), to.path()).unwrap();
        let is_there = |file: &str| to.path().join(file).exists();
        assert!(is_there("a/new") && is_there("b/kept"));
        assert!(!is_there("a/old") && !is_there("bin"));
    }
}
