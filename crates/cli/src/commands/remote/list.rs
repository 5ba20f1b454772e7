//! `troika remote list`: the endpoints, and what was measured of them.

use std::sync::Arc;

use serde_json::json;
use troika_remote::config::{Api, Remote};
use troika_remote::{Loaded, Profile, RemoteIndex};

use super::{NoReceipts, open};
use crate::home::Home;
use crate::output::{self, Align, Console};

pub(super) fn run(loaded: &Loaded, home: &Home, console: &Console) -> anyhow::Result<()> {
    let remotes = open(loaded, home, Arc::new(NoReceipts))?;
    let listed = loaded.config.remote.iter().enumerate();
    let listed: Vec<_> = listed
        .map(|(i, remote)| (remote, remotes.profile(RemoteIndex(i))))
        .collect();
    if console.json {
        let rows = listed.iter().map(|(remote, profile)| {
            let mut row = json!(remote);
            row["profile"] = json!(profile);
            row
        });
        return output::json(&rows.collect::<Vec<_>>());
    }
    if listed.is_empty() {
        console.note("There are no remotes; `troika remote add --help` shows how to add one.");
        return Ok(());
    }
    let heading = [
        "NAME",
        "API",
        "MODELS",
        "KEY",
        "PRICE IN/OUT",
        "REGION",
        "TTFT",
        "TOKENS/S",
        "ERRORS",
        "REQUESTS",
    ];
    let currency = &loaded.config.hybrid.currency;
    let rows = listed
        .iter()
        .map(|(remote, profile)| row(remote, profile, currency));
    let rows: Vec<_> = std::iter::once(heading.map(str::to_owned))
        .chain(rows)
        .collect();
    let (left, right) = (Align::Left, Align::Right);
    let mut page = output::table(
        [
            left, left, left, left, left, left, right, right, right, right,
        ],
        &rows,
    );
    for (remote, profile) in &listed {
        if let Some(why) = &profile.why_not {
            page.push_str(&format!(
                "\n{} takes nothing now: {}\n",
                remote.name,
                output::printable(why)
            ));
        }
    }
    output::answer(page)
}

fn row(remote: &Remote, profile: &Profile, currency: &str) -> [String; 10] {
    let unknown = || "-".to_owned();
    let models: Vec<_> = remote.models.keys().map(String::as_str).collect();
    let price = remote
        .price
        .map(|it| format!("{}/{} {currency}", it.input, it.output));
    let text = |text: &Option<String>| {
        text.as_deref()
            .map_or_else(unknown, |it| output::line(it, 20))
    };
    [
        remote.name.clone(),
        api(remote.api).to_owned(),
        output::line(&models.join(", "), 40),
        remote
            .key
            .as_deref()
            .map_or_else(unknown, |it| output::line(it, 24)),
        price.unwrap_or_else(unknown),
        text(&remote.region),
        profile
            .ttft_s
            .map_or_else(unknown, |it| format!("{it:.2} s")),
        profile.tps.map_or_else(unknown, output::number),
        profile
            .error_rate
            .map_or_else(unknown, |it| format!("{:.0} %", it * 100.0)),
        profile.requests.to_string(),
    ]
}

fn api(api: Api) -> &'static str {
    match api {
        Api::Openai => "OpenAI",
        Api::Anthropic => "Anthropic",
        Api::Ollama => "Ollama",
    }
}
