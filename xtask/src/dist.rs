//! `cargo xtask dist`: what is installed, as files: a Debian package, and a container's image without a daemon.
//!
//! `stage` lays out what goes into the package beside the program, `deb` has cargo-deb make it, `image` writes the image,
//! and `check/` takes both apart again and tries them.

mod check;
mod deb;
mod image;
mod layer;
mod libraries;
mod stage;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};

use crate::workspace_root;

/// The version of the program, which is that of the workspace.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Make a Debian package and a container's image in target/dist
///
/// Needs Linux, and cargo-deb, which is built into target/tools where it is not there yet.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The program, already built [default: build it now, with optimisation]
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
    /// Take apart what was made and try it: scripts, unit, digests, the program in the image
    #[arg(long)]
    check: bool,
}

/// What was made, and of what.
struct Made {
    root: PathBuf,
    /// The program that was packed.
    program: PathBuf,
    deb: Option<PathBuf>,
    image: PathBuf,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    ensure!(
        cfg!(target_os = "linux"),
        "packages and images for Linux are made on Linux"
    );
    let root = workspace_root()?;
    let binary = match &args.binary {
        Some(path) => path.canonicalize().context("--binary names no file")?,
        None => build(&root)?,
    };
    let dist = root.join("target/dist");
    let stage = stage::lay_out(&root, &binary, &dist.join("stage"))?;
    let image = image::write(&root, &stage.program, &dist)?;
    println!("{}", image.display());
    let deb = match deb::build(&root, &dist) {
        Ok(deb) => {
            println!("{}", deb.display());
            Some(deb)
        }
        // CI goes on behind a firewall; whoever wants the package is told.
        Err(why) if args.check && why.is::<deb::NoTool>() => {
            println!("skipped: no Debian package is made: {why}");
            None
        }
        Err(why) => return Err(why),
    };
    let made = Made {
        root,
        program: stage.program,
        deb,
        image,
    };
    match args.check {
        true => check::run(&made),
        false => Ok(()),
    }
}

fn build(root: &Path) -> anyhow::Result<PathBuf> {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(root);
    cargo.args(["build", "--release", "--locked", "--package", "troika-cli"]);
    output(&mut cargo)?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from);
    Ok(target.join("release/troika"))
}

/// Runs a command that is to succeed, and returns what it says.
fn output(command: &mut Command) -> anyhow::Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let done = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{name} does not start"))?;
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    ensure!(
        done.status.success(),
        "{name} ended with {}: {}{said}",
        done.status,
        String::from_utf8_lossy(&done.stderr)
    );
    Ok(said)
}

/// Makes an empty directory; what was there goes.
fn fresh(directory: &Path) -> anyhow::Result<()> {
    let made = match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => std::fs::create_dir_all(directory),
    };
    made.with_context(|| format!("cannot make {}", directory.display()))
}
