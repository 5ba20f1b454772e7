//! What this GPU does, against what it could do: a program to carry to a machine that has one.
//!
//! ```sh
//! cargo build --release -p troika-device-gpu --example gates      # target/release/examples/gates: one file
//! ./gates > gates.json                                           # minutes; about 6 GiB of the GPU's memory
//! ./gates --small                                                # seconds, for a program that plays a GPU
//! ./gates --tests FOLDER                                         # and this crate's test programs, carried along
//! ```
//!
//! It prints one JSON object, and on stderr what it is at. A share is of what was measured on the same GPU a minute before,
//! never of a data sheet. What does not run has its reason in place of numbers; nothing is left out in silence.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for the terminal"
)]

#[path = "../../tests/common/mod.rs"]
mod common;
mod correct;
mod decode;
mod products;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use troika_base::Bytes;
use troika_device::Error;
use troika_device_gpu::roofline::{Arithmetic, Effort, Roofline, measure};
use troika_device_gpu::{Gpu, Options, find};

/// What is asked for.
struct Args {
    /// Sizes for a program that plays a GPU.
    small: bool,
    /// The GPU's number, in the order in which they are found.
    gpu: usize,
    /// A folder of test programs.
    tests: Option<PathBuf>,
}

const USAGE: &str = "usage: gates [--small] [--gpu N] [--tests FOLDER]";

impl Args {
    fn read(mut words: impl Iterator<Item = String>) -> Option<Self> {
        let mut args = Self {
            small: false,
            gpu: 0,
            tests: None,
        };
        while let Some(word) = words.next() {
            match word.as_str() {
                "--small" => args.small = true,
                "--gpu" => args.gpu = words.next()?.parse().ok()?,
                "--tests" => args.tests = Some(words.next()?.into()),
                _ => return None,
            }
        }
        Some(args)
    }
}

fn main() -> ExitCode {
    let Some(args) = Args::read(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match run(&args) {
        Ok(report) => {
            println!("{report:#}");
            ExitCode::SUCCESS
        }
        Err(reason) => {
            eprintln!("error: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<Value, String> {
    let found = find();
    let names: Vec<&str> = found.iter().map(|found| found.name.as_str()).collect();
    let chosen = found
        .get(args.gpu)
        .ok_or(format!("no GPU of number {}; found: {names:?}", args.gpu))?;
    let gpu = chosen
        .open("gpu0", Options::default())
        .map_err(|error| error.to_string())?;
    let at = |what: &str| eprintln!("{what}");
    at("roofline");
    let roofline = measured(&gpu, args.small).map_err(|error| error.to_string())?;
    at("correctness");
    let correct = or_reason(correct::products(&gpu));
    at("products");
    let products = or_reason(products::gates(&gpu, &roofline, args.small));
    at("decode");
    let decode = or_reason(decode::gate(&gpu, args.small));
    let tests = args.tests.as_deref().map(|folder| {
        at("tests");
        correct::tests(folder)
    });
    Ok(json!({
        "gpu": {
            "name": chosen.name,
            "driver": chosen.driver,
            "interface": chosen.interface,
            "pci": chosen.pci,
            "caps": format!("{:?}", chosen.caps),
        },
        "small": args.small,
        "roofline": roof_json(&roofline),
        "correctness": correct,
        "tests": tests,
        "products": products,
        "decode": decode,
    }))
}

fn or_reason(result: Result<Value, Error>) -> Value {
    result.unwrap_or_else(|error| json!({ "failed": error.to_string() }))
}

fn measured(gpu: &Arc<Gpu>, small: bool) -> Result<Roofline, Error> {
    let effort = match small {
        false => Effort {
            time: Duration::from_secs(20),
            ..Effort::default()
        },
        true => Effort {
            time: Duration::from_secs(2),
            bytes: Bytes(16 << 20),
        },
    };
    measure(gpu, effort, &mut |_, _| std::ops::ControlFlow::Continue(()))
}

fn roof_json(roofline: &Roofline) -> Value {
    let read = roofline.read_gbs.iter();
    let tops = roofline.tops.iter();
    json!({
        "read_gbs": read
            .map(|(set, series)| json!({ "bytes": set.0, "gbs": series.median() }))
            .collect::<Vec<_>>(),
        "copy_gbs": roofline.copy_gbs.median(),
        "gather_gbs": roofline.gather_gbs.median(),
        "tops": tops
            .map(|(kind, series)| json!({ "kind": name(*kind), "tops": series.median() }))
            .collect::<Vec<_>>(),
        "dispatch_us": roofline.dispatch_us.median(),
        "submit_us": roofline.submit_us.median(),
        "record_us": roofline.record_us.median(),
        "upload_gbs": roofline.upload_gbs.median(),
        "download_gbs": roofline.download_gbs.median(),
        "by_the_gpus_clock": roofline.stamped,
    })
}

fn name(kind: Arithmetic) -> String {
    match kind {
        Arithmetic::F32 => "f32".to_owned(),
        Arithmetic::F16 => "f16".to_owned(),
        Arithmetic::Dot4 => "dp4a".to_owned(),
        Arithmetic::Tile(tile) => {
            let sums = if tile.wide { "f32" } else { "f16" };
            format!("cooperative {0}x{0} f16 to {sums}", tile.size)
        }
    }
}
