//! `troika plan`: what to run a workload on, what to buy or rent for it, and why not the others.

mod ask;
mod build;
mod check;
mod described;
mod emit;
mod flags;
mod fleet;
pub(super) mod here;
mod import;
mod measurements;
mod page;
mod predict;
mod speeds;
mod text;
mod train;

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use clap::Subcommand;
use troika_planner::catalogue::{Catalogue, Date};
use troika_planner::model::{ModelShape, read_file};
use troika_planner::plan::workload::{BEST, Form, Workload};
use troika_planner::plan::{self, Described, Here, Measured, PlanError, Question};
use troika_planner::quantization::Quantization;

use crate::commands::devices;
use crate::exit::WrongUse;
use crate::home::Home;
use crate::model;
use crate::output::{self, Console};

/// Candidates that are shown where not all are asked for.
const SHOWN: usize = 10;
/// A workload has some dozen lines.
const WORKLOAD_BYTES_MAX: u64 = 64 << 10;

const EXAMPLES: &str = "\
Examples:
  troika plan                                              six questions, then the plan
  troika plan --model llama-3.1-8b --users 4 --tps 15      what does it, here, bought or rented
  troika plan --budget 2500 --explain \"rtx 3090\"           every number of one candidate
  troika plan --workload office.toml --html plan.html      a page to pass on
  troika plan --device-name X1 --bandwidth 640 --memory-gb 16  a device that the catalogue lacks
  troika plan -m llama-3.1-8b --users 500 --emit kubernetes  replicas for a cluster, as manifests
  troika plan build --budget 2500                          parts lists
  troika plan train --model llama-3.1-8b --tokens 10000000 fine-tuning: memory, hours, joules, money
  troika plan fleet --devices 200 --budget 800             many machines alike
  troika plan check copilot-plus                           what this machine's NPU is, stated and measured";

/// Plan what to run a workload on: here, bought or rented, with the reasons
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct PlanArgs {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    asked: AskedArgs,
    #[command(flatten)]
    answer: AnswerArgs,
    #[command(flatten)]
    cluster: emit::EmitArgs,
}

/// What a plan is made for and from; the same flags for every verb that makes one.
#[derive(Debug, Default, clap::Args)]
struct AskedArgs {
    #[command(flatten)]
    workload: flags::WorkloadArgs,
    #[command(flatten)]
    limits: flags::LimitArgs,
    #[command(flatten)]
    expenses: flags::ExpenseArgs,
    #[command(flatten)]
    input: InputArgs,
    #[command(flatten)]
    device: described::DeviceArgs,
}

#[derive(PartialEq, Debug, Default, clap::Args)]
#[command(next_help_heading = "Input")]
struct InputArgs {
    /// Workload from a TOML file; flags win over it
    #[arg(long = "workload", value_name = "FILE")]
    file: Option<PathBuf>,
    /// Leave this machine out
    #[arg(long)]
    elsewhere: bool,
    /// Memory bandwidth in GB/s: of --device-name, else of this machine's processor where it was not measured
    #[arg(long, value_name = "GBS", allow_negative_numbers = true)]
    bandwidth: Option<f64>,
}

#[derive(PartialEq, Debug, Default, clap::Args)]
#[command(next_help_heading = "Answer")]
struct AnswerArgs {
    /// Show every candidate, and the reason of every loser
    #[arg(long)]
    all: bool,
    /// Print every number of a candidate with its formula and source
    #[arg(long, value_name = "NAME")]
    explain: Option<String>,
    /// Write one page with plots, which needs nothing else
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Print the workload as TOML (with --json, as JSON), and plan nothing
    #[arg(long)]
    print_workload: bool,
    /// Predict the runs of a CSV table: device, engine, backend, model, quant, prompt_tokens, gen_tokens, depth, batch
    #[arg(long, value_name = "FILE")]
    predict: Option<PathBuf>,
    /// Rows of the same form with decode_tps or prefill_tps measured, which set the predictions right
    #[arg(long, value_name = "FILE", requires = "predict")]
    calibrate: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Build(build::BuildArgs),
    Fleet(fleet::FleetArgs),
    Train(train::TrainArgs),
    Check(check::CheckArgs),
    Import(import::ImportArgs),
    Measurements(measurements::MeasurementsArgs),
}

pub(crate) fn run(args: &PlanArgs, console: &Console) -> anyhow::Result<()> {
    if let Some(verb) = &args.verb {
        args.only_a_verb()?;
        let desk = |asked: &AskedArgs| Desk::new(asked, console);
        return match verb {
            Verb::Build(own) => build::run(own, &desk(&own.asked)?, console),
            Verb::Fleet(own) => fleet::run(own, &desk(&own.asked)?, console),
            Verb::Train(own) => train::run(own, &desk(&own.asked)?, console),
            Verb::Check(own) => check::run(own, &desk(&AskedArgs::default())?, console),
            Verb::Import(own) => import::run(own, console),
            Verb::Measurements(own) => measurements::run(own, console),
        };
    }
    let desk = Desk::new(&args.asked, console)?;
    if args.cluster.are_given() {
        args.only_a_manifest()?;
        return emit::run(&args.cluster, &desk, console);
    }
    match &args.answer.predict {
        Some(file) => predict::run(file, args.answer.calibrate.as_deref(), &desk, console),
        None => plan_it(args, &desk, console),
    }
}

impl PlanArgs {
    /// What else might be answered would be passed over in silence.
    fn only_a_manifest(&self) -> Result<(), WrongUse> {
        match self.answer == AnswerArgs::default() {
            true => Ok(()),
            false => Err(WrongUse(
                "--emit answers with a file of its own; leave out --all, --explain, --html, --print-workload and --predict"
                    .to_owned(),
            )),
        }
    }

    /// A flag before a verb would be passed over in silence.
    fn only_a_verb(&self) -> Result<(), WrongUse> {
        let asked = &self.asked;
        let is_plain = flags::form(&asked.workload, &asked.limits, &asked.expenses)
            == Form::default()
            && asked.input == InputArgs::default()
            && asked.device == described::DeviceArgs::default()
            && self.answer == AnswerArgs::default()
            && self.cluster == emit::EmitArgs::default();
        match is_plain {
            true => Ok(()),
            false => Err(WrongUse(
                "what is asked of a verb stands after it: `troika plan build --users 4`".to_owned(),
            )),
        }
    }
}

/// What every plan is made from.
struct Desk {
    home: Home,
    catalogue: Catalogue,
    /// This machine, unless it is left out.
    here: Option<Here>,
    /// A device that the catalogue lacks, if one is described.
    described: Option<Described>,
    /// Speeds that were measured.
    measured: Measured,
    /// What flags and file say.
    form: Form,
    today: Date,
}

impl Desk {
    fn new(args: &AskedArgs, console: &Console) -> anyhow::Result<Self> {
        if let Some(gbs) = args
            .input
            .bandwidth
            .filter(|gbs| !(gbs.is_finite() && *gbs > 0.0))
        {
            let message = format!("--bandwidth is {gbs}: it has to be a number above 0");
            return Err(WrongUse(message).into());
        }
        let home = Home::from_env()?;
        let catalogue = Catalogue::with_user_rows(&home.path().join("catalogue"))?;
        let mut form = flags::form(&args.workload, &args.limits, &args.expenses);
        if let Some(file) = &args.input.file {
            form = form.or(read_form(file)?);
        }
        let described = args.device.described(args.input.bandwidth)?;
        let machine = (!args.input.elsewhere).then(|| devices::known(&home, console));
        // A bandwidth is that of the device that is described, if there is one.
        let bandwidth = args.input.bandwidth.filter(|_| described.is_none());
        Ok(Self {
            measured: speeds::known(&home, machine.as_ref(), &catalogue, console),
            here: machine.map(|machine| here::find(&machine, bandwidth)),
            home,
            catalogue,
            described,
            form,
            today: Date::today(),
        })
    }

    /// The workload that a form comes to, with its model if that is a file.
    ///
    /// A file's weights are as it has them, unless another form of them is asked for.
    fn asked(&self, form: Form) -> anyhow::Result<Asked> {
        let file = match form.model.as_deref() {
            Some(name) => self.file(name)?,
            None => None,
        };
        let own = file.as_ref().map(|(_, own)| own.name.clone());
        let form = Form {
            quantization: form.quantization.or(own),
            ..form
        };
        let workload = form.complete(self.catalogue.thresholds());
        let workload = workload.map_err(|error| WrongUse(error.to_string()))?;
        Ok(Asked { workload, file })
    }

    /// The question of a workload.
    fn question<'a>(&'a self, asked: &'a Asked) -> Question<'a> {
        Question {
            here: self.here.as_ref(),
            described: self.described.as_ref(),
            measured: Some(&self.measured),
            model: asked.file.as_ref().map(|(shape, own)| (shape, own)),
            ..Question::new(&asked.workload, &self.catalogue, self.today)
        }
    }

    /// The shape of a model that is a file or installed, and the sizes of its weights; `None` for one that the catalogue has
    /// to know.
    fn file(&self, name: &str) -> anyhow::Result<Option<(ModelShape, Quantization)>> {
        if name == BEST {
            return Ok(None);
        }
        // A path that leads nowhere is no name for the catalogue to look up.
        let source = match model::find(name, &self.home) {
            model::Found::Model(source) => source,
            model::Found::NoSuchFile => return Err(model::no_such_file(name)),
            model::Found::Other(_) => return Ok(None),
        };
        let read = read_file(&source.open()?);
        read.map(Some)
            .with_context(|| format!("cannot plan with {name:?}"))
    }
}

/// A workload, and its model if that is a file.
struct Asked {
    workload: Workload,
    file: Option<(ModelShape, Quantization)>,
}

/// What a plan refuses is what was asked for.
fn wrong_use(error: PlanError) -> anyhow::Error {
    WrongUse(error.to_string()).into()
}

fn read_form(path: &Path) -> anyhow::Result<Form> {
    let cannot = || format!("cannot read the workload {}", path.display());
    let mut text = String::new();
    // An endless file is not read to its end.
    let mut file = File::open(path)
        .with_context(cannot)?
        .take(WORKLOAD_BYTES_MAX + 1);
    file.read_to_string(&mut text).with_context(cannot)?;
    if text.len() as u64 > WORKLOAD_BYTES_MAX {
        bail!(
            "{} is no workload: it has more than {WORKLOAD_BYTES_MAX} bytes",
            path.display()
        );
    }
    toml::from_str(&text).map_err(|error| {
        anyhow!(
            "{} is no workload: {}",
            path.display(),
            output::toml_error(&error, &text)
        )
    })
}

fn plan_it(args: &PlanArgs, desk: &Desk, console: &Console) -> anyhow::Result<()> {
    let mut form = desk.form.clone();
    if form == Form::default()
        && args.asked.input.file.is_none()
        && !console.json
        && ask::is_possible()
    {
        form = ask::questions(&desk.catalogue)?;
    }
    let asked = desk.asked(form)?;
    let answer = &args.answer;
    if answer.print_workload && console.json {
        return output::json(&asked.workload);
    }
    if answer.print_workload {
        let text = toml::to_string(&asked.workload).context("cannot write the workload")?;
        return output::answer(text);
    }
    let plan = plan::plan(&desk.question(&asked)).map_err(wrong_use)?;
    if let Some(path) = &answer.html {
        crate::page::write(path, &page::html(&plan)?)?;
        console.note(format_args!("written: {}", path.display()));
    }
    if let Some(name) = &answer.explain {
        let verdict = plan
            .find(name)
            .map_err(|names| no_such_candidate(name, &names))?;
        return match console.json {
            true => {
                output::json(&serde_json::json!({ "name": verdict.name, "terms": verdict.terms() }))
            }
            false => output::answer(text::explanation(verdict)),
        };
    }
    if console.json {
        return output::json(&plan);
    }
    let shown = if answer.all { usize::MAX } else { SHOWN };
    output::answer(text::answer(&plan, shown))?;
    for note in &plan.notes {
        console.note(note);
    }
    Ok(())
}

fn no_such_candidate(name: &str, names: &[&str]) -> WrongUse {
    let some: Vec<_> = names.iter().take(8).copied().collect();
    WrongUse(match names {
        [] => format!("no candidate has {name:?} in its name; `--all` shows them"),
        _ => format!(
            "{} candidates have {name:?} in their name: {}; write more of it",
            names.len(),
            some.join("; ")
        ),
    })
}
