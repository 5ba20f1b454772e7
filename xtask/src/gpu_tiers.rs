//! `cargo xtask gpu-tiers`: the tests of the GPU's back end, on programs that play a GPU.
//!
//! Mesa's lavapipe runs Vulkan on the CPU, with subgroups as wide as one asks for. T0 needs no driver at all; T1 runs on
//! the lavapipe that is installed; T2 on a newer one, which has cooperative matrices and lies in a folder of its own. What
//! a test may skip, and where, stands in a list: a test that stops running says so by failing.

mod lavapipe;
mod skips;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

use crate::tiers::Tests;
use crate::workspace_root;
use lavapipe::Lavapipe;
use skips::Skips;

/// Runs the tests of every tier.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Folder of the newer lavapipe
    #[arg(default_value = "target/gpu")]
    dir: PathBuf,
    /// Only these tiers
    #[arg(long, value_name = "TIER", value_parser = clap::value_parser!(u8).range(0..=2))]
    tier: Vec<u8>,
    /// Fetch nothing: use what is there
    #[arg(long)]
    no_install: bool,
    /// On a lavapipe, only what `cargo test` does not run: other subgroups than of 8, without checks of indices; and with
    /// subgroups of 4 nothing that takes minutes
    #[arg(long)]
    short: bool,
}

/// Tests that run on the same thing.
struct Tier {
    number: u8,
    what: &'static str,
    run: fn(&Room) -> anyhow::Result<Outcome>,
}

const TIERS: [Tier; 3] = [
    Tier {
        number: 0,
        what: "every kernel, written out for SPIR-V, MSL and HLSL",
        run: written_out,
    },
    Tier {
        number: 1,
        what: "the lavapipe that is installed",
        run: on_installed,
    },
    Tier {
        number: 2,
        what: "a newer lavapipe, with cooperative matrices",
        run: on_newer,
    },
];

/// What the tiers work in.
struct Room {
    root: PathBuf,
    /// The newer lavapipe, or why there is none.
    newer: Result<Lavapipe, String>,
    skips: Skips,
    short: bool,
}

/// What came of a tier. `Err` in the functions is a failure to run what should have run.
enum Outcome {
    Passed,
    Failed,
    /// Nothing could run, for this reason.
    Skipped(String),
}

/// What most processors make of it.
const USUAL_SUBGROUP: u32 = 8;

/// Tests that take minutes, since whole models run in them. Kernels have tests of their own, so once is enough where time is
/// short.
const LONG: [&str; 3] = [
    "it_passes",
    "texts_are_those_of_a_gpu_that_waits_to_be_asked",
    "a_story_is_the_cpus_to_its_end",
];

/// Widths of lavapipe's vectors in bits, and the subgroups that come of them.
const WIDTHS: [(u32, u32); 3] = [(128, 4), (256, 8), (512, 16)];

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let root = workspace_root()?;
    let wanted = |number| args.tier.is_empty() || args.tier.contains(&number);
    let dir = std::path::absolute(&args.dir).context("cannot tell where the folder is")?;
    let room = Room {
        newer: match Lavapipe::in_folder(&dir) {
            Some(newer) => Ok(newer),
            None if wanted(2) && !args.no_install => lavapipe::fetch(&dir)?,
            None => Err(format!("no lavapipe is in {}", dir.display())),
        },
        skips: Skips::read(&root)?,
        short: args.short,
        root,
    };
    let mut failed = Vec::new();
    for tier in TIERS.iter().filter(|tier| wanted(tier.number)) {
        println!("T{}: {}", tier.number, tier.what);
        match (tier.run)(&room)? {
            Outcome::Passed => (),
            Outcome::Failed => failed.push(format!("T{}", tier.number)),
            Outcome::Skipped(why) => println!("  skipped: {why}"),
        }
    }
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}

/// T0: the compiler that every driver is given text by, and the validator of Khronos over what it wrote.
fn written_out(room: &Room) -> anyhow::Result<Outcome> {
    let folder = room.root.join("target/gpu-spirv");
    match std::fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot clear {}", folder.display()));
        }
        _ => std::fs::create_dir_all(&folder)
            .with_context(|| format!("cannot make {}", folder.display()))?,
    }
    let mut cargo = cargo(room);
    cargo
        .env("TROIKA_GPU_TEST_SPIRV", &folder)
        .args(["--test", "written_out", "--"]);
    let tests = Tests::run(&mut cargo)?;
    tests.tell();
    let valid = validate(room, &folder)?;
    Ok(match tests.are_good() && valid {
        true => Outcome::Passed,
        false => Outcome::Failed,
    })
}

/// Whether `spirv-val` finds nothing; yes, with a remark, where it is not installed.
fn validate(room: &Room, folder: &Path) -> anyhow::Result<bool> {
    let newer = room.newer.as_ref().ok();
    let newer = newer.and_then(|newer| newer.tool("spirv-val"));
    let is_new = newer.is_some();
    let mut tool = newer.unwrap_or_else(|| vec!["spirv-val".into()]);
    let program = tool.remove(0);
    let (mut good, mut bad, mut too_new) = (0, 0, 0);
    for entry in std::fs::read_dir(folder).context("cannot list the kernels")? {
        let file = entry.context("cannot list the kernels")?.path();
        let output = Command::new(&program)
            .args(&tool)
            .args(["--target-env", "vulkan1.3"])
            .arg(&file)
            .output();
        let output = match output {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                println!("  skipped: spirv-val is not installed (Debian: spirv-tools)");
                return Ok(true);
            }
            output => output.context("spirv-val does not start")?,
        };
        let said = String::from_utf8_lossy(&output.stderr);
        match output.status.success() {
            true => good += 1,
            // Before 2024 it did not know cooperative matrices.
            false if !is_new && said.contains("Invalid capability operand: 6022") => too_new += 1,
            false => {
                bad += 1;
                println!("{}: {said}", file.display());
            }
        }
    }
    println!("  spirv-val: {good} valid, {bad} not");
    if too_new > 0 {
        println!(
            "  skipped: {too_new} with cooperative matrices, which this spirv-val does not know"
        );
    }
    Ok(bad == 0 && good > 0)
}

/// T1: subgroups of 4, 8 and 16, with every index checked and as users run it.
fn on_installed(room: &Room) -> anyhow::Result<Outcome> {
    let Some(driver) = lavapipe::installed() else {
        return Ok(Outcome::Skipped(
            "lavapipe is not installed (Debian: mesa-vulkan-drivers)".to_owned(),
        ));
    };
    let mut good = true;
    for (width, subgroup) in WIDTHS {
        for checked in [true, false] {
            if room.short && (checked || subgroup == USUAL_SUBGROUP) {
                continue;
            }
            let mut cargo = cargo(room);
            cargo.env("VK_DRIVER_FILES", &driver);
            good &= on_lavapipe(room, "T1", &mut cargo, (width, subgroup), checked)?;
        }
    }
    Ok(match good {
        true => Outcome::Passed,
        false => Outcome::Failed,
    })
}

/// T2: what the installed one lacks. It has cooperative matrices with subgroups of 8 alone.
fn on_newer(room: &Room) -> anyhow::Result<Outcome> {
    let newer = match &room.newer {
        Ok(newer) => newer,
        Err(why) => return Ok(Outcome::Skipped(why.clone())),
    };
    let mut good = true;
    for checked in [true, false] {
        if room.short && checked {
            continue;
        }
        let mut cargo = cargo(room);
        newer.runs(&mut cargo);
        good &= on_lavapipe(room, "T2", &mut cargo, (256, 8), checked)?;
    }
    Ok(match good {
        true => Outcome::Passed,
        false => Outcome::Failed,
    })
}

/// Whether the crate's tests pass on a lavapipe, and skip no more than they may.
fn on_lavapipe(
    room: &Room,
    tier: &str,
    cargo: &mut Command,
    (width, subgroup): (u32, u32),
    checked: bool,
) -> anyhow::Result<bool> {
    let checks = if checked { "checked" } else { "unchecked" };
    println!(" subgroups of {subgroup}, {checks}");
    cargo
        .env("LP_NATIVE_VECTOR_WIDTH", width.to_string())
        .env("TROIKA_GPU_TEST_SUBGROUP", subgroup.to_string());
    if !checked {
        cargo.env("TROIKA_GPU_TEST_UNCHECKED", "1");
    }
    cargo.args(["--lib", "--tests", "--"]);
    if room.short && subgroup < USUAL_SUBGROUP {
        cargo.args(LONG.iter().flat_map(|test| ["--skip", test]));
    }
    let tests = Tests::run(cargo)?;
    tests.tell();
    let lost = room.skips.unexpected(tier, subgroup, &tests.skipped);
    for skipped in &lost {
        println!(
            "  lost: {} no longer runs here ({}); if that is meant, {} says so",
            skipped.test,
            skipped.why,
            skips::FILE
        );
    }
    Ok(tests.are_good() && lost.is_empty())
}

fn cargo(room: &Room) -> Command {
    let mut cargo = Command::new("cargo");
    cargo
        .current_dir(&room.root)
        .args(["test", "--package", "troika-device-gpu"]);
    cargo
}
