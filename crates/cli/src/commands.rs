//! The verbs, one file each.

pub(crate) mod bench;
pub(crate) mod calc;
pub(crate) mod calibrate;
pub(crate) mod catalogue;
pub(crate) mod classify;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod denoise;
pub(crate) mod detect;
pub(crate) mod devices;
pub(crate) mod doctor;
pub(crate) mod embed;
pub(crate) mod imatrix;
pub(crate) mod import;
pub(crate) mod keys;
pub(crate) mod list;
pub(crate) mod listen;
pub(crate) mod man;
pub(crate) mod npu;
pub(crate) mod perplexity;
pub(crate) mod plan;
pub(crate) mod pull;
pub(crate) mod quantize;
pub(crate) mod receipts;
pub(crate) mod remote;
pub(crate) mod rm;
pub(crate) mod rules;
pub(crate) mod run;
pub(crate) mod segment;
pub(crate) mod serve;
pub(crate) mod show;
pub(crate) mod simulate;
pub(crate) mod top;

mod greet;

use crate::args::{Args, Command};

/// Does what the command line asks for.
pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let console = args.console();
    match args.command {
        None => greet::run(&console),
        Some(Command::Run(args)) => run::run(&args, &console),
        Some(Command::Serve(args)) => serve::run(&args, &console),
        Some(Command::Config(args)) => config::run(&args, &console),
        Some(Command::Keys(args)) => keys::run(&args, &console),
        Some(Command::Remote(args)) => remote::run(&args, &console),
        Some(Command::Rules(args)) => rules::run(&args, &console),
        Some(Command::Receipts(args)) => receipts::run(&args, &console),
        Some(Command::Bench(args)) => bench::run(&args, &console),
        Some(Command::Perplexity(args)) => perplexity::run(&args, &console),
        Some(Command::Imatrix(args)) => imatrix::run(&args, &console),
        Some(Command::Quantize(args)) => quantize::run(&args, &console),
        Some(Command::Embed(args)) => embed::run(&args, &console),
        Some(Command::Listen(args)) => listen::run(&args, &console),
        Some(Command::Segment(args)) => segment::run(&args, &console),
        Some(Command::Classify(args)) => classify::run(&args, &console),
        Some(Command::Detect(args)) => detect::run(&args, &console),
        Some(Command::Denoise(args)) => denoise::run(&args, &console),
        Some(Command::Plan(args)) => plan::run(&args, &console),
        Some(Command::Top(args)) => top::run(&args, &console),
        Some(Command::Devices(args)) => devices::run(&args, &console),
        Some(Command::Doctor(args)) => doctor::run(&args, &console),
        Some(Command::Simulate(args)) => simulate::run(&args, &console),
        Some(Command::Npu(args)) => npu::run(&args, &console),
        Some(Command::Show(args)) => show::run(&args, &console),
        Some(Command::List(args)) => list::run(&args, &console),
        Some(Command::Pull(args)) => pull::run(&args, &console),
        Some(Command::Import(args)) => import::run(&args, &console),
        Some(Command::Rm(args)) => rm::run(&args, &console),
        Some(Command::Calc(args)) => calc::run(&args, &console),
        Some(Command::Calibrate(args)) => calibrate::run(&args, &console),
        Some(Command::Catalogue(args)) => catalogue::run(&args, &console),
        Some(Command::Completions(args)) => completions::run(&args),
        Some(Command::Man(args)) => man::run(&args),
    }
}
