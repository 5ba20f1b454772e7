//! `troika calibrate`: how sure a local model has to be for its answers to be kept.
//!
//! The models run here as the server runs them: the same templates, settings and judge, so that a threshold means the same
//! there. The arithmetic is `troika_remote::cascade::calibrate`.

mod answers;
mod desk;
mod examples;
mod graded;
mod plot;
mod report;
mod student;
mod teacher;
mod write;

use std::path::PathBuf;

use anyhow::bail;
use clap::ValueEnum;
use troika_remote::HybridFile;
use troika_remote::cascade::calibrate::{self, Aim, EXAMPLES_MIN};
use troika_remote::cascade::likeness::Measure;
use troika_remote::config::{Cascade, Judge};
use troika_server::Settings;

use crate::args::{bounded, thread_count, token_count};
use crate::exit::{Interrupted, WrongUse};
use crate::home::Home;
use crate::output::{self, Console};
use crate::settings::HybridArgs;

use answers::Answers;
use desk::Desk;
use report::Report;
use student::Student;
use teacher::{Asked, Teacher};

const EXAMPLES: &str = "\
Examples:
  troika calibrate jobs.jsonl --model qwen3-4b --write
                      a threshold that keeps 98 % of the quality of the file's answers
  troika calibrate jobs.jsonl --model qwen3-4b --keep-local 0.8
                      a threshold that keeps 80 % of the jobs here, and what it costs in quality
  troika calibrate jobs.jsonl --model qwen3-4b --remote big
                      compared with a remote's answers; says what asking would cost

Each line of the file is an example, with \"messages\", or \"prompt\" and a text:
  {\"messages\": [{\"role\": \"user\", \"content\": \"2 + 2?\"}], \"answer\": \"4\"}
Jobs like those that are to come tell most; a few hundred of them are wanted. Answers are kept
beside the file, in jobs.answers.jsonl: a run that was broken off goes on where it was.";

/// Find how sure a local model has to be for its answers to be kept
///
/// The model answers examples, each answer is compared with what it should have been, and the lowest threshold is
/// looked for that keeps a promise of quality. `[cascade]` in hybrid.toml uses it: what is less sure is asked of a remote.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CalibrateArgs {
    /// Examples, one JSON object a line
    #[arg(value_name = "EXAMPLES.jsonl")]
    examples: PathBuf,
    /// The local model: an installed name, a .gguf file, or `stories` for the one inside
    #[arg(short, long, value_name = "MODEL")]
    model: String,
    /// Ask this remote of hybrid.toml for the examples, too: its answers are graded as well, or are the references where
    /// the file has none. Only what the rules let go is sent
    #[arg(long, value_name = "NAME")]
    remote: Option<String>,
    /// Send the examples to the remote, whatever that costs; without it, the cost is told and nothing sent
    #[arg(long, requires = "remote")]
    yes: bool,
    #[command(flatten)]
    aim: AimArgs,
    /// How sure the promise and the intervals are
    #[arg(long, value_name = "SHARE", default_value_t = 0.95, value_parser = inner_share)]
    confidence: f64,
    /// What makes an answer unsure [default: as hybrid.toml has it, or logprob]
    #[arg(long, value_name = "JUDGE")]
    judge: Option<JudgeArg>,
    /// Answers that are compared, for `--judge samples` [default: as hybrid.toml has it, or 3]
    #[arg(long, value_name = "N", value_parser = samples)]
    samples: Option<usize>,
    /// How an answer is compared with its reference: `auto` looks at the reference
    #[arg(long, value_name = "METRIC", default_value = "auto")]
    metric: Metric,
    /// Forget the answers of earlier runs
    #[arg(long)]
    fresh: bool,
    /// Write the threshold into hybrid.toml
    #[arg(long)]
    write: bool,
    #[command(flatten)]
    hybrid: HybridArgs,
    #[command(flatten)]
    writing: WritingArgs,
}

/// What the threshold is for.
#[derive(Debug, clap::Args)]
#[group(multiple = false)]
struct AimArgs {
    /// The share of the remote's quality that is kept at least
    #[arg(long, value_name = "SHARE", default_value_t = 0.98, value_parser = inner_share)]
    target_quality: f64,
    /// Keep this share of the jobs here, whatever the quality
    #[arg(long, value_name = "SHARE", value_parser = share)]
    keep_local: Option<f64>,
}

/// How the local model writes.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Writing")]
struct WritingArgs {
    /// Temperature of answers [default: the model's own, as for a client that says nothing]
    #[arg(long, value_name = "T")]
    temperature: Option<f32>,
    /// Tokens of an answer at most [default: where the model ends, or the context]
    #[arg(short = 'n', long, value_name = "N", value_parser = token_count)]
    max_tokens: Option<usize>,
    /// Same seed, same answers
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Examples that are answered at the same time
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = parallel)]
    parallel: usize,
    /// Threads [default: one for each physical core]
    #[arg(short, long, value_name = "N", value_parser = thread_count)]
    threads: Option<usize>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum JudgeArg {
    /// The mean of its tokens' log-probabilities is low
    Logprob,
    /// Several answers do not agree
    Samples,
    /// The model itself, asked whether it is right, is not sure
    Verifier,
}

/// How an answer is compared with its reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Metric {
    /// JSON, a number or a few words as such, and longer texts by their words
    Auto,
    /// The same words, but for case and punctuation
    Exact,
    /// The reference stands in the answer
    Contains,
    /// The last number in the answer
    Number,
    /// The same JSON
    Json,
    /// The share of words in common
    F1,
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok();
    let share = share.filter(|share| (0.0..=1.0).contains(share) && *share > 0.0);
    share.ok_or_else(|| "expected a share above 0 and up to 1, such as 0.8".to_owned())
}

fn inner_share(text: &str) -> Result<f64, String> {
    let share = share(text).ok().filter(|share| (0.5..1.0).contains(share));
    share.ok_or_else(|| "expected a share from 0.5 to below 1, such as 0.98".to_owned())
}

fn samples(text: &str) -> Result<usize, String> {
    bounded(text, 2, 64)
}

fn parallel(text: &str) -> Result<usize, String> {
    bounded(text, 1, 256)
}

pub(crate) fn run(args: &CalibrateArgs, console: &Console) -> anyhow::Result<()> {
    let settings = args.settings(&Home::from_env()?)?;
    let file = settings.hybrid_file.clone();
    let loaded = HybridFile::open(&file)?.current();
    let hybrid = &loaded.config;
    let examples = examples::read(&args.examples)?;
    args.check(&examples)?;
    let cascade = args.cascade(&hybrid.cascade);
    let desk = Desk::new(console)?;
    let state = Home::from_env()?.path().to_owned();
    let offline = settings.offline;
    let student = Student::new(&args.model, &cascade, &args.writing, settings, &desk)?;
    if args.write {
        write::check(&file, &hybrid.cascade, &cascade, student.name())?;
    }
    let teacher = args.remote.as_deref();
    let teacher = teacher.map(|name| Teacher::new(name, &loaded, student.name(), &args.writing));
    let teacher = teacher.transpose()?;
    if teacher.is_some() && offline {
        return Err(WrongUse(
            "--remote: the setting `offline` is on, and nothing leaves".to_owned(),
        )
        .into());
    }
    let mut answers = Answers::open(&args.examples, args.fresh)?;
    let Some(tried) = student.answer(&examples, &mut answers, &desk)? else {
        return Err(stopped(&answers, console));
    };
    let taught = match &teacher {
        None => None,
        Some(teacher) => {
            match teacher.answer(&examples, &tried, &mut answers, (&state, args.yes), &desk)? {
                Asked::Answered(taught) => Some(taught),
                Asked::Stopped => return Err(stopped(&answers, console)),
            }
        }
    };
    let jobs = graded::grade(&examples, &tried, taught.as_deref(), args.metric.measure())?;
    args.check_count(jobs.len())?;
    let graded: Vec<_> = jobs.iter().map(|job| job.example).collect();
    let found = calibrate::calibrate(&graded, args.aim(), args.confidence);
    let names = (student.name(), args.remote.as_deref());
    let report = Report::new(args, names, &cascade, hybrid, &jobs, found);
    match console.json {
        true => output::json(&report)?,
        false => output::answer(format_args!("{}", report.text()))?,
    }
    if student.is_built_in() {
        console.note(
            "note: the model inside the program tells stories; its figures show how this works, and are no measure of quality",
        );
    }
    match (args.write, report.threshold()) {
        (false, _) => Ok(()),
        (true, Some(threshold)) => {
            write::write(&file, student.name(), threshold, &cascade)?;
            console.note(format_args!("written into {}", file.display()));
            Ok(())
        }
        (true, None) => bail!(
            "nothing is written into {}, for no threshold was found; what it has for `{}` stays",
            file.display(),
            student.name()
        ),
    }
}

/// Somebody stopped it: what there is to say of what was kept.
fn stopped(answers: &Answers, console: &Console) -> anyhow::Error {
    console.note(format_args!(
        "{} answers are kept in {}; the same command goes on from there",
        answers.known(),
        answers.path().display()
    ));
    Interrupted.into()
}

impl CalibrateArgs {
    fn settings(&self, home: &Home) -> Result<Settings, WrongUse> {
        let threads = self.writing.threads.map(|n| n.to_string());
        self.hybrid.settings(home, [("threads", threads)])
    }

    /// The judge, by flags over the file.
    fn cascade(&self, own: &Cascade) -> Cascade {
        Cascade {
            judge: self.judge.map_or(own.judge, Judge::from),
            samples: self.samples.unwrap_or(own.samples),
            // Nothing is broken off: every answer is wanted, and all of it.
            thresholds: Default::default(),
        }
    }

    fn aim(&self) -> Aim {
        match self.aim.keep_local {
            Some(share) => Aim::Keep { share },
            None => Aim::Quality {
                target: self.aim.target_quality,
                confidence: self.confidence,
            },
        }
    }

    /// Refuses what could not come to anything, before anything is computed.
    fn check(&self, examples: &[examples::Example]) -> anyhow::Result<()> {
        let mut examples_without = examples
            .iter()
            .filter(|example| example.reference.is_none());
        if self.remote.is_none()
            && let Some(example) = examples_without.next()
        {
            bail!(
                "{}, line {}: there is no \"answer\" to compare with; write one, or let --remote answer",
                self.examples.display(),
                example.line
            );
        }
        if self.samples.is_some() && !matches!(self.judge, None | Some(JudgeArg::Samples)) {
            return Err(WrongUse("--samples goes with --judge samples".to_owned()).into());
        }
        self.check_count(examples.len())
    }

    fn check_count(&self, count: usize) -> anyhow::Result<()> {
        if count < EXAMPLES_MIN {
            bail!(
                "{} has {count} examples that can be compared; fewer than {EXAMPLES_MIN} tell nothing, and a few hundred are \
                 wanted",
                self.examples.display()
            );
        }
        Ok(())
    }
}

impl From<JudgeArg> for Judge {
    fn from(judge: JudgeArg) -> Self {
        match judge {
            JudgeArg::Logprob => Self::Logprob,
            JudgeArg::Samples => Self::Samples,
            JudgeArg::Verifier => Self::Verifier,
        }
    }
}

impl Metric {
    /// The measure for all references; `None` where each has its own.
    fn measure(self) -> Option<Measure> {
        match self {
            Self::Auto => None,
            Self::Exact => Some(Measure::Exact),
            Self::Contains => Some(Measure::Contains),
            Self::Number => Some(Measure::Number),
            Self::Json => Some(Measure::Json),
            Self::F1 => Some(Measure::F1),
        }
    }
}
