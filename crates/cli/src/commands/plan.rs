//! `troika plan`: what to run a workload on, what to buy or rent for it, and why not the others.

mod ask;
mod build;
mod check;
mod flags;
mod fleet;
mod here;
mod import;
mod measurements;
mod page;
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
use troika_planner::plan::{self, Here, Plan, PlanError, Question};

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
  troika plan --task agent --budget 2500 --explain 3090    every number of one candidate
  troika plan --workload office.toml --html plan.html      a page to pass on
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
}

/// What a plan is made for and from; the same flags for every verb that makes one.
#[derive(Debug, Default, clap::Args)]
struct AskedArgs {
    #[command(flatten)]
    workload: flags::WorkloadArgs,
    #[command(flatten)]
    limits: flags::LimitArgs,
    #[command(flatten)]
    input: InputArgs,
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
    /// Memory bandwidth of this machine's processor, in GB/s, where it was not measured
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
    plan_it(args, &Desk::new(&args.asked, console)?, console)
}

impl PlanArgs {
    /// A flag before a verb would be passed over in silence.
    fn only_a_verb(&self) -> Result<(), WrongUse> {
        let asked = &self.asked;
        let is_plain = flags::form(&asked.workload, &asked.limits) == Form::default()
            && asked.input == InputArgs::default()
            && self.answer == AnswerArgs::default();
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
        let mut form = flags::form(&args.workload, &args.limits);
        if let Some(file) = &args.input.file {
            form = form.or(read_form(file)?);
        }
        let here = match args.input.elsewhere {
            true => None,
            false => Some(here::find(&home, args.input.bandwidth, console)),
        };
        Ok(Self {
            home,
            catalogue,
            here,
            form,
            today: Date::today(),
        })
    }

    /// The workload that a form comes to.
    fn workload(&self, form: Form) -> anyhow::Result<Workload> {
        let complete = form.complete(self.catalogue.thresholds());
        complete.map_err(|error| WrongUse(error.to_string()).into())
    }

    /// What is asked with a workload.
    fn question<'a>(
        &'a self,
        workload: &'a Workload,
        model: Option<&'a ModelShape>,
    ) -> Question<'a> {
        Question {
            workload,
            catalogue: &self.catalogue,
            here: self.here.as_ref(),
            model,
            today: self.today,
        }
    }

    /// The plan of a workload.
    fn plan(&self, workload: &Workload) -> anyhow::Result<Plan> {
        let model = self.model(&workload.model)?;
        plan::plan(&self.question(workload, model.as_ref())).map_err(wrong_use)
    }

    /// The same, with this machine left out.
    fn plan_without_here(&self, workload: &Workload) -> anyhow::Result<Plan> {
        let model = self.model(&workload.model)?;
        let question = Question {
            here: None,
            ..self.question(workload, model.as_ref())
        };
        plan::plan(&question).map_err(wrong_use)
    }

    /// The shape of a model that is a file or installed; `None` for one that the catalogue has to know.
    fn model(&self, name: &str) -> anyhow::Result<Option<ModelShape>> {
        if name == BEST {
            return Ok(None);
        }
        // A path that leads nowhere is no name for the catalogue to look up.
        let source = match model::find(name, &self.home) {
            model::Found::Model(source) => source,
            model::Found::NoSuchFile => return Err(model::no_such_file(name)),
            model::Found::Other(_) => return Ok(None),
        };
        let file = source.open()?;
        let (shape, _) = read_file(&file).with_context(|| format!("cannot plan with {name:?}"))?;
        Ok(Some(shape))
    }
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
    let workload = desk.workload(form)?;
    let answer = &args.answer;
    if answer.print_workload && console.json {
        return output::json(&workload);
    }
    if answer.print_workload {
        return output::answer(toml::to_string(&workload).context("cannot write the workload")?);
    }
    let plan = desk.plan(&workload)?;
    if let Some(path) = &answer.html {
        std::fs::write(path, page::html(&plan)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
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
