//! `troika npu cache`: what was compiled.

use std::time::SystemTime;

use anyhow::Context as _;
use serde::Serialize;
use troika_base::Bytes;
use troika_device_npu::compile::{Listed, Loss};

use crate::home::Home;
use crate::npu;
use crate::output::{self, Align, Console, ends, line};

/// Show the models that were compiled, or remove them
#[derive(Debug, clap::Args)]
pub(crate) struct CacheArgs {
    /// Remove every one that is not in use
    #[arg(long)]
    clear: bool,
}

/// What `--json` prints of a model.
#[derive(Serialize)]
struct Shown {
    hash: String,
    model: Option<String>,
    backend: Option<String>,
    version: Option<String>,
    weights: Option<String>,
    n_ctx: Option<usize>,
    bytes: u64,
    loss: Option<Loss>,
    seconds: Option<f64>,
    made_at: Option<u64>,
    in_use: bool,
}

pub(super) fn run(args: &CacheArgs, home: &Home, console: &Console) -> anyhow::Result<()> {
    let store = npu::store(home)?;
    if args.clear {
        let cleared = store.clear().context("cannot clear the cache")?;
        if console.json {
            return output::json(&serde_json::json!({
                "removed": cleared.removed,
                "bytes": cleared.bytes,
                "in_use": cleared.in_use,
            }));
        }
        let kept = match cleared.in_use {
            0 => String::new(),
            in_use => format!("; {in_use} in use, which stay"),
        };
        let models = counted(cleared.removed);
        return output::answer(format_args!("removed {models}, {}{kept}\n", cleared.bytes));
    }
    let listed = store.list().context("cannot read the cache")?;
    if console.json {
        let shown: Vec<_> = listed.iter().map(Shown::of).collect();
        return output::json(&serde_json::json!({
            "directory": store.root(),
            "limit_bytes": store.limit(),
            "models": shown,
        }));
    }
    let total = Bytes(listed.iter().map(Listed::bytes).sum());
    output::answer(format_args!(
        "{}{}, {total} of {} in {}\n",
        table(&listed),
        counted(listed.len()),
        store.limit(),
        line(&store.root().display().to_string(), 160),
    ))
}

fn counted(models: usize) -> String {
    match models {
        1 => "1 compiled model".to_owned(),
        count => format!("{count} compiled models"),
    }
}

fn table(listed: &[Listed]) -> String {
    if listed.is_empty() {
        return String::new();
    }
    let heading = ["model", "for", "weights", "context", "size", "loss", "used"];
    let mut rows = vec![heading.map(str::to_owned)];
    rows.extend(listed.iter().map(row));
    use Align::{Left, Right};
    let mut page = output::table([Left, Left, Left, Right, Right, Right, Right], &rows);
    page.push('\n');
    page
}

fn row(listed: &Listed) -> [String; 7] {
    let Some(manifest) = &listed.manifest else {
        let mut row = [const { String::new() }; 7];
        row[0] = format!("damaged: {}", ends(&listed.hash, 16));
        return row;
    };
    let dash = || "-".to_owned();
    let word = |name| {
        manifest
            .key_line(name)
            .map_or_else(dash, |text| line(text, 32))
    };
    [
        ends(&manifest.model, 40),
        word("backend"),
        word("weights"),
        word("n_ctx"),
        Bytes(listed.bytes()).to_string(),
        manifest
            .loss
            .map_or_else(dash, |loss| format!("{:.4}", loss.kl_mean)),
        match listed.in_use {
            true => "now".to_owned(),
            false => ago(listed.used_at),
        },
    ]
}

/// `3 h ago`.
fn ago(then: SystemTime) -> String {
    let seconds = then.elapsed().map_or(0, |since| since.as_secs());
    match seconds {
        0..60 => "just now".to_owned(),
        60..3600 => format!("{} min ago", seconds / 60),
        3600..86_400 => format!("{} h ago", seconds / 3600),
        _ => format!("{} d ago", seconds / 86_400),
    }
}

impl Shown {
    fn of(listed: &Listed) -> Self {
        let manifest = listed.manifest.as_ref();
        let word = |name| manifest?.key_line(name).map(str::to_owned);
        Self {
            hash: listed.hash.clone(),
            model: manifest.map(|manifest| manifest.model.clone()),
            backend: word("backend"),
            version: word("version"),
            weights: word("weights"),
            n_ctx: word("n_ctx").and_then(|text| text.parse().ok()),
            bytes: listed.bytes(),
            loss: manifest.and_then(|manifest| manifest.loss),
            seconds: manifest.map(|manifest| manifest.seconds),
            made_at: manifest.map(|manifest| manifest.made_at),
            in_use: listed.in_use,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_are_told_roughly() {
        for (seconds, want) in [
            (3, "just now"),
            (125, "2 min ago"),
            (3 * 3600 + 5, "3 h ago"),
            (200_000, "2 d ago"),
        ] {
            let then = SystemTime::now() - Duration::from_secs(seconds);
            assert_eq!(ago(then), want);
        }
        assert_eq!(ago(SystemTime::now() + Duration::from_secs(99)), "just now");
    }
}
