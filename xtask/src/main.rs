//! The project's own chores: `cargo xtask check`, `tidy`, `dist`, `record`, `seeds`, `fit`, `npu-tiers`, `gpu-tiers`, `ray`,
//! `kubernetes` and `synth`.
//!
//! What a contributor or CI runs and a user never sees. No part of the product depends on this crate.
#![forbid(unsafe_code)]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a tool for the terminal: its answers go to stdout, its remarks to stderr"
)]

mod check;
mod dist;
mod fit;
mod gpu_tiers;
mod kubernetes;
mod npu_tiers;
mod ray;
mod record;
mod seeds;
mod synth;
mod tidy;
mod tiers;

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Parser, Subcommand};

/// The project's own chores.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Run all that CI runs, or only the steps named
    Check(check::Args),
    /// Check the house rules that no compiler knows
    Tidy,
    /// Make what is installed: a Debian package, and a container's image
    Dist(dist::Args),
    /// Run a command and draw what it writes as an animated SVG
    Record(record::Args),
    /// Play simulated histories and check that the scheduler keeps its promises
    Seeds(seeds::Args),
    /// Fit the cost model's constants to measurements
    Fit(fit::Args),
    /// Run the tests that need libraries of NPUs' makers, and install these
    NpuTiers(npu_tiers::Args),
    /// Run the tests of GPUs on programs that play one, and fetch the newer of these
    GpuTiers(gpu_tiers::Args),
    /// Run the tests of the application for Ray, and install what they need
    Ray(ray::Args),
    /// Hold the manifests of Kubernetes against its own schemas, and fetch these
    Kubernetes(kubernetes::Args),
    /// Write a GGUF model of a real shape with random weights
    Synth(synth::Args),
}

fn main() -> anyhow::Result<()> {
    match Args::parse().chore {
        Chore::Check(args) => check::run(&args),
        Chore::Tidy => tidy::run(),
        Chore::Dist(args) => dist::run(&args),
        Chore::Record(args) => record::run(&args),
        Chore::Seeds(args) => seeds::run(&args),
        Chore::Fit(args) => fit::run(&args),
        Chore::NpuTiers(args) => npu_tiers::run(&args),
        Chore::GpuTiers(args) => gpu_tiers::run(&args),
        Chore::Ray(args) => ray::run(&args),
        Chore::Kubernetes(args) => kubernetes::run(&args),
        Chore::Synth(args) => synth::run(&args),
    }
}

/// The workspace's root directory.
fn workspace_root() -> anyhow::Result<PathBuf> {
    // cargo sets the variable of the crate that it runs, so a copied binary would not find home by a compiled-in path.
    let xtask = std::env::var_os("CARGO_MANIFEST_DIR").context("run this as `cargo xtask`")?;
    let root = PathBuf::from(xtask);
    Ok(root
        .parent()
        .context("xtask has a parent directory")?
        .to_owned())
}
