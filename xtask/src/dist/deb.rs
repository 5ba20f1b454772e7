//! The Debian package, by cargo-deb: what is in it stands in `crates/cli/Cargo.toml`, its scripts in `dist/debian`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use super::output;

const TOOL_VERSION: &str = "3.8.0";

/// cargo-deb is not there, and cannot be fetched.
#[derive(Debug)]
pub(super) struct NoTool(String);

impl fmt::Display for NoTool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "cargo-deb {TOOL_VERSION} cannot be installed: {}",
            self.0
        )
    }
}

impl std::error::Error for NoTool {}

/// Makes the package of what is laid out, and returns where it is.
pub(super) fn build(root: &Path, directory: &Path) -> anyhow::Result<PathBuf> {
    let tool = install(root)?;
    let made = output(
        Command::new(tool)
            .current_dir(root)
            // It was stripped when it was laid out.
            .args(["deb", "--quiet", "--no-build", "--no-strip", "--locked"])
            .args(["--package", "troika-cli", "--output"])
            .arg(directory),
    )?;
    let path = made
        .lines()
        .last()
        .context("cargo-deb does not say what it made")?;
    Ok(PathBuf::from(path))
}

/// The tool, built without optimisation where it is not there: it runs for seconds.
fn install(root: &Path) -> Result<PathBuf, NoTool> {
    let tools = root.join("target/tools");
    let tool = tools.join("bin/cargo-deb");
    let version = output(Command::new(&tool).arg("--version"));
    if version.is_ok_and(|version| version.trim() == format!("cargo-deb {TOOL_VERSION}")) {
        return Ok(tool);
    }
    println!(
        "installing cargo-deb {TOOL_VERSION} into {}",
        tools.display()
    );
    let installed = output(
        Command::new("cargo")
            .current_dir(root)
            .args(["install", "--quiet", "--locked", "--no-default-features"])
            .arg("--root")
            .arg(&tools)
            .arg(format!("cargo-deb@{TOOL_VERSION}"))
            .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0")
            .env("CARGO_PROFILE_RELEASE_LTO", "off")
            .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "64"),
    );
    match installed {
        Ok(_) => Ok(tool),
        Err(why) => Err(NoTool(why.to_string())),
    }
}
