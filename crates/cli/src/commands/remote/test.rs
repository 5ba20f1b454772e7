//! `troika remote test`: a sentence of ours, and how fast it is answered.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use serde_json::json;
use troika_remote::endpoint::Tried;
use troika_remote::receipts::{Durability, FILE, Receipts, ReceiptsError};
use troika_remote::{Loaded, RemoteIndex};
use troika_server::Settings;

use super::{find, load, open};
use crate::exit::WrongUse;
use crate::home::Home;
use crate::output::{self, Align, Console};

/// Where receipts of trials are while a server writes the others.
const BESIDE: &str = "receipts-of-tests.jsonl";

/// Send an endpoint a sentence of ours, and measure its answer
///
/// Takes about a hundred tokens of each model that is tried. Limits hold, and there is a receipt.
#[derive(Debug, clap::Args)]
pub(super) struct TestArgs {
    /// Which [default: all]
    name: Option<String>,
    /// One of its models, as it is called here [default: the first]
    #[arg(long, value_name = "MODEL", requires = "name")]
    model: Option<String>,
}

pub(super) fn run(
    args: &TestArgs,
    settings: &Settings,
    home: &Home,
    console: &Console,
) -> anyhow::Result<()> {
    if settings.offline {
        let message = "the setting `offline` is on: nothing leaves this machine, no test either";
        return Err(WrongUse(message.to_owned()).into());
    }
    let loaded = load(settings)?;
    let which = match &args.name {
        Some(name) => vec![find(&loaded, name, &settings.hybrid_file)?],
        None => (0..loaded.config.remote.len()).collect(),
    };
    if which.is_empty() {
        console.note("There are no remotes; `troika remote add --help` shows how to add one.");
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("cannot start a runtime")?;
    let results = runtime.block_on(tried(&which, args.model.as_deref(), &loaded, home, console))?;
    report(&results, console)?;
    let failed = results.iter().filter(|it| it.1.is_err()).count();
    anyhow::ensure!(failed == 0, "{failed} of {} gave no answer", results.len());
    Ok(())
}

/// An endpoint's name, and what came of it.
type Outcome = (String, Result<Tried, String>);

async fn tried(
    which: &[usize],
    model: Option<&str>,
    loaded: &Loaded,
    home: &Home,
    console: &Console,
) -> anyhow::Result<Vec<Outcome>> {
    let remotes = open(loaded, home, Arc::new(receipts(home.path(), console)?))?;
    let mut results = Vec::new();
    for &i in which {
        let remote = &loaded.config.remote[i];
        let first = remote.models.keys().next().map(String::as_str);
        let model = model.or(first).unwrap_or_default();
        console.detail(format_args!("asking {} for {model}", remote.name));
        let tried = remotes.try_out(RemoteIndex(i), model).await;
        results.push((
            remote.name.clone(),
            tried.map_err(|error| error.error.message),
        ));
    }
    Ok(results)
}

/// The receipts; a file beside them while a server has them open.
fn receipts(home: &Path, console: &Console) -> anyhow::Result<Receipts> {
    std::fs::create_dir_all(home).with_context(|| format!("cannot make {}", home.display()))?;
    match Receipts::open(&home.join(FILE), Durability::BeforeLeaving) {
        Err(ReceiptsError::Busy) => {
            let beside = home.join(BESIDE);
            console.note(format_args!(
                "A server writes the receipts, so this test's are in {}.",
                beside.display()
            ));
            Ok(Receipts::open(&beside, Durability::BeforeLeaving)?)
        }
        opened => Ok(opened?),
    }
}

fn report(results: &[Outcome], console: &Console) -> anyhow::Result<()> {
    if console.json {
        let rows = results.iter().map(|(name, tried)| match tried {
            Ok(tried) => json!({"name": name, "ok": true, "result": tried}),
            Err(error) => json!({"name": name, "ok": false, "error": error}),
        });
        return output::json(&rows.collect::<Vec<_>>());
    }
    let mut rows = vec![
        [
            "NAME", "MODEL", "TTFT", "TOKENS/S", "TOKENS", "PIECES", "COST",
        ]
        .map(str::to_owned),
    ];
    let mut errors = String::new();
    for (name, tried) in results {
        match tried {
            Ok(tried) => rows.push(row(name, tried)),
            Err(error) => errors.push_str(&format!("{}\n", output::line(error, 1000))),
        }
    }
    let (left, right) = (Align::Left, Align::Right);
    if rows.len() > 1 {
        output::answer(output::table(
            [left, left, right, right, right, right, right],
            &rows,
        ))?;
    }
    if !errors.is_empty() {
        output::say(errors.trim_end());
    }
    for (name, tried) in results {
        if tried.as_ref().is_ok_and(|it| it.answered && it.pieces == 1) {
            console.note(format_args!(
                "{name} answers in one piece: it does not stream."
            ));
        }
    }
    Ok(())
}

fn row(name: &str, tried: &Tried) -> [String; 7] {
    let unknown = || "-".to_owned();
    let cost = tried.cost.as_ref();
    [
        name.to_owned(),
        output::line(&tried.model, 40),
        format!("{:.2} s", tried.ttft_s),
        tried.tps.map_or_else(unknown, output::number),
        tried.tokens.to_string(),
        tried.pieces.to_string(),
        cost.map_or_else(unknown, |it| format!("{} {}", it.amount, it.currency)),
    ]
}
