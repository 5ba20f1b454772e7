//! `troika receipts`: what left this machine, and whether the record of it is what was written.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Subcommand, ValueEnum};
use serde_json::json;
use troika_remote::receipts::{
    self, By, FILE, Hash, Receipt, ReceiptsError, Redactions, Sum, Summary, Tally,
};

use crate::exit::WrongUse;
use crate::home::Home;
use crate::output::{self, Align, Console};

/// See what was sent to remote endpoints: when, to whom, by which rule, and for how much
///
/// A server writes a receipt before anything leaves. Receipts have no text in them. Each line has a hash over itself and the
/// line before, so that a change is found.
#[derive(Debug, clap::Args)]
pub(crate) struct ReceiptsArgs {
    #[command(subcommand)]
    command: ReceiptsCommand,
    /// The file of receipts [default: receipts.jsonl in TROIKA_HOME]
    #[arg(long, value_name = "FILE", global = true)]
    file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum ReceiptsCommand {
    /// Check that no line was changed, removed, inserted or moved, and none cut off
    ///
    /// Whoever can write the files can make a new chain of hashes. Note the head that is shown somewhere else: as long as
    /// `--contains` finds it, everything up to it is what it was.
    Verify {
        /// A head that was noted before; it has to be in the chain
        #[arg(long, value_name = "HASH")]
        contains: Option<Hash>,
    },
    /// Add them up
    Sum {
        /// By what
        #[arg(long, value_name = "WHAT", default_value = "month")]
        by: ByArg,
        /// One month of UTC alone: 2026-11
        #[arg(long, value_name = "MONTH")]
        month: Option<String>,
    },
    /// Show the last
    Tail {
        /// How many, at most 100
        #[arg(short = 'n', long, value_name = "N", default_value = "20", value_parser = clap::value_parser!(u16).range(1..=100))]
        count: u16,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ByArg {
    /// Months of UTC
    Month,
    /// Endpoints
    Remote,
    /// Rules
    Rule,
}

pub(crate) fn run(args: &ReceiptsArgs, console: &Console) -> anyhow::Result<()> {
    let file = match &args.file {
        Some(file) => file.clone(),
        None => Home::from_env()?.path().join(FILE),
    };
    if !file.exists() {
        anyhow::ensure!(args.file.is_none(), "there is no {}", file.display());
        console.note("Nothing has left this machine by a rule: there are no receipts.");
    }
    match &args.command {
        ReceiptsCommand::Verify { contains } => verify(&file, *contains, console),
        ReceiptsCommand::Sum { by, month } => sum(&file, *by, month.as_deref(), console),
        ReceiptsCommand::Tail { count } => tail(&file, usize::from(*count), console),
    }
}

/// What is there; nothing where there is no file.
fn read(file: &Path) -> anyhow::Result<Tally> {
    match file.exists() {
        true => receipts::read(file).map_err(|error| told(error, file)),
        false => Ok(Tally::default()),
    }
}

fn told(error: ReceiptsError, file: &Path) -> anyhow::Error {
    let is_broken = matches!(error, ReceiptsError::Broken { .. });
    let error = anyhow::Error::new(error);
    match is_broken {
        true => error.context(format!(
            "{} is not what was written; keep it, and move it away with its `.head` to begin a new one",
            file.display()
        )),
        false => error,
    }
}

fn verify(file: &Path, contains: Option<Hash>, console: &Console) -> anyhow::Result<()> {
    if !file.exists() {
        anyhow::ensure!(
            contains.is_none(),
            "the head is not there: there are no receipts"
        );
        // Where there was a chain, its head is still there.
        let head = file.with_extension("head");
        anyhow::ensure!(
            !head.exists(),
            "{} is gone, and {} is there",
            file.display(),
            head.display()
        );
        return match console.json {
            true => output::json(&json!({"holds": true, "lines": 0})),
            false => output::answer("There is nothing to check.\n"),
        };
    }
    let summary = receipts::verify(file).map_err(|error| told(error, file))?;
    let line = match contains {
        Some(noted) => {
            let line = receipts::find(file, noted).map_err(|error| told(error, file))?;
            Some(line.context(
                "the chain holds, and the head that was noted is not in it: it is another chain",
            )?)
        }
        None => None,
    };
    match console.json {
        true => {
            let mut told = json!({"holds": true, "contains_line": line});
            if let (Some(told), Ok(serde_json::Value::Object(facts))) =
                (told.as_object_mut(), serde_json::to_value(&summary))
            {
                told.extend(facts);
            }
            output::json(&told)
        }
        false => output::answer(checked(&summary, line)),
    }
}

/// What was found out, for people.
fn checked(summary: &Summary, line: Option<u64>) -> String {
    let Summary {
        lines,
        sent,
        open,
        torn,
        unfinished_bytes,
        vouched,
        head,
    } = summary;
    let mut text = format!("The chain holds: {lines} lines, {sent} requests that were let go.\n");
    let mut tell = |is_so: bool, what: String| {
        if is_so {
            text.push_str(&what);
            text.push('\n');
        }
    };
    tell(
        *open > 0,
        format!(
            "{open} have no end: a server died, or is still at it. What they sent is counted as all of it."
        ),
    );
    tell(
        *torn > 0,
        format!("{torn} lines were unfinished when a server died, and were put aside."),
    );
    tell(
        *unfinished_bytes > 0,
        format!(
            "After the last line are {unfinished_bytes} bytes of an unfinished one: a server is writing, or died, or somebody added them."
        ),
    );
    tell(
        vouched < lines,
        format!(
            "The last {} lines are not in the file of the head yet: could they be cut off, nobody would see it.",
            lines - vouched
        ),
    );
    tell(true, format!("Head: {head}"));
    if let Some(line) = line {
        tell(
            true,
            format!(
                "The head that was noted is that of line {line}: everything up to it is what it was."
            ),
        );
    }
    text
}

fn sum(file: &Path, by: ByArg, month: Option<&str>, console: &Console) -> anyhow::Result<()> {
    if let Some(month) = month
        && !is_month(month)
    {
        return Err(WrongUse(format!("`{month}` is no month; one is written 2026-11")).into());
    }
    let tally = read(file)?;
    let (by, what) = match by {
        ByArg::Month => (By::Month, "MONTH"),
        ByArg::Remote => (By::Remote, "REMOTE"),
        ByArg::Rule => (By::Rule, "RULE"),
    };
    let sums = tally.sums(by, month);
    let total = tally.total(month);
    if console.json {
        return output::json(&json!({"sums": sums, "total": total}));
    }
    let heading = [
        what,
        "REQUESTS",
        "OUT",
        "IN",
        "TOKENS OUT",
        "TOKENS IN",
        "COST",
    ];
    let rows = sums.iter().map(|(name, sum)| row(name, sum));
    let mut all = vec![heading.map(str::to_owned)];
    all.extend(rows);
    all.push(row("all", &total));
    let (left, right) = (Align::Left, Align::Right);
    output::answer(output::table(
        [left, right, right, right, right, right, left],
        &all,
    ))
}

fn is_month(text: &str) -> bool {
    let digits =
        |text: &str, count| text.len() == count && text.bytes().all(|b| b.is_ascii_digit());
    let parts = text.split_once('-');
    parts.is_some_and(|(year, month)| digits(year, 4) && digits(month, 2))
}

fn row(name: &str, sum: &Sum) -> [String; 7] {
    [
        output::line(name, 40),
        sum.requests.to_string(),
        size(sum.bytes_out),
        size(sum.bytes_in),
        output::count(sum.prompt_tokens),
        output::count(sum.completion_tokens),
        money(sum),
    ]
}

fn money(sum: &Sum) -> String {
    let costs = sum.cost.iter();
    let mut costs: Vec<_> = costs
        .map(|(currency, amount)| format!("{} {}", amount.0.normalize(), output::line(currency, 8)))
        .collect();
    match sum.cost_unknown {
        0 => {}
        n => costs.push(format!("{n} unknown")),
    }
    if sum.open > 0 {
        costs.push(format!("{} without an end", sum.open));
    }
    costs.join(", ")
}

fn size(bytes: u64) -> String {
    troika_base::Bytes(bytes).to_string()
}

fn tail(file: &Path, count: usize, console: &Console) -> anyhow::Result<()> {
    let tally = read(file)?;
    let mut last: Vec<_> = tally.last(count).collect();
    last.reverse();
    if console.json {
        return output::json(&last);
    }
    let heading = [
        "WHEN (UTC)",
        "TO",
        "RULE",
        "MODEL",
        "OUT",
        "IN",
        "COST",
        "OUTCOME",
        "TAKEN OUT",
    ];
    let mut rows = vec![heading.map(str::to_owned)];
    rows.extend(last.iter().map(|receipt| one(receipt)));
    let (left, right) = (Align::Left, Align::Right);
    output::answer(output::table(
        [left, left, left, left, right, right, right, left, left],
        &rows,
    ))
}

fn one(receipt: &Receipt) -> [String; 9] {
    let end = receipt.end.as_ref();
    let cost = end.and_then(|end| Some((end.cost?, end.currency.as_ref()?)));
    let outcome = end.and_then(|end| serde_json::to_value(end.outcome).ok());
    let outcome = outcome.as_ref().and_then(|it| it.as_str());
    let when = receipt
        .at
        .split_once('.')
        .map_or(&*receipt.at, |(when, _)| when);
    [
        when.replace('T', " "),
        output::line(&receipt.to, 24),
        output::line(&receipt.rule, 24),
        output::line(&receipt.model, 24),
        size(receipt.bytes_out),
        end.map(|end| size(end.bytes_in)).unwrap_or_default(),
        cost.map(|(cost, currency)| {
            format!("{} {}", cost.0.normalize(), output::line(currency, 8))
        })
        .unwrap_or_default(),
        outcome.unwrap_or("no end").to_owned(),
        taken_out(&receipt.redacted),
    ]
}

fn taken_out(redacted: &Redactions) -> String {
    let kinds = redacted
        .iter()
        .map(|(kind, count)| format!("{count} {}", kind.name()));
    kinds.collect::<Vec<_>>().join(", ")
}
