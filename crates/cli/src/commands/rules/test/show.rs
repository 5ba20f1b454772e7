//! A verdict, for people and for programs.

use serde_json::{Value, json};
use troika_remote::Loaded;
use troika_remote::rules::{LookedAt, Way};

use super::Verdict;
use crate::output::{self, Align};

const WIDTH: usize = 100;

pub(super) fn json(verdict: &Verdict, loaded: &Loaded) -> anyhow::Result<()> {
    let leave = verdict.leave.as_ref().map(|(leave, counts)| {
        let to = leave
            .to
            .iter()
            .map(|index| &*loaded.config.remote[index.0].name);
        json!({
            "rule": leave.rule,
            "action": leave.action,
            "to": to.collect::<Vec<_>>(),
            "redact": leave.redact,
            "redacted": counts,
            "model": leave.model,
            "worst_cost": leave.worst_cost,
        })
    });
    let mut all = serde_json::to_value(&verdict.explanation)?;
    let told = [
        ("stays", Value::Bool(verdict.stays())),
        ("why", verdict.why().into()),
        ("leave", leave.into()),
        ("currency", loaded.config.hybrid.currency.clone().into()),
    ];
    for (name, value) in told {
        all[name] = value;
    }
    output::json(&all)
}

pub(super) fn page(verdict: &Verdict, loaded: &Loaded) -> anyhow::Result<()> {
    let explanation = &verdict.explanation;
    let mut why = verdict.why();
    // A sentence of its own, here.
    why.replace_range(..1, &why[..1].to_uppercase());
    let mut page = output::wrapped(&format!("{why}."), 0, WIDTH);
    if !explanation.rules.is_empty() {
        page.push('\n');
        page.push_str(&rules(&explanation.rules));
    }
    if !explanation.ways.is_empty() {
        page.push('\n');
        page.push_str(&ways(&explanation.ways, &loaded.config.hybrid.currency));
    }
    if let Some((leave, counts)) = &verdict.leave {
        page.push('\n');
        let taken = leave.redact.iter();
        let taken: Vec<_> = taken
            .map(|kind| {
                format!(
                    "{} ({})",
                    kind.name(),
                    counts.get(kind).copied().unwrap_or(0)
                )
            })
            .collect();
        page.push_str(&match &*taken {
            [] => "Nothing would be taken out before it goes.\n".to_owned(),
            taken => format!("Taken out before it goes: {}.\n", taken.join(", ")),
        });
        page.push_str("Nothing was sent.\n");
    }
    output::answer(page)
}

/// The rules that were looked at, with each thing that does not hold on a line of its own.
fn rules(looked_at: &[LookedAt]) -> String {
    let mut rows = vec![["RULE", "ACTION", ""].map(str::to_owned)];
    for rule in looked_at {
        let name = output::line(&rule.rule, 40);
        let mut lines = rule
            .unmet
            .iter()
            .map(|unmet| output::line(&unmet.to_string(), WIDTH));
        let first = match lines.next() {
            Some(unmet) => format!("passed over: {unmet}"),
            None => "matches".to_owned(),
        };
        rows.push([name, rule.action.name().to_owned(), first]);
        rows.extend(lines.map(|unmet| {
            [
                String::new(),
                String::new(),
                format!("             {unmet}"),
            ]
        }));
    }
    output::table([Align::Left; 3], &rows)
}

/// The endpoints of the rule that decided.
fn ways(ways: &[Way], currency: &str) -> String {
    let heading = ["ENDPOINT", "MODEL THERE", "COSTS AT MOST", ""].map(str::to_owned);
    let mut choice = 0;
    let rows = ways.iter().map(|way| {
        let cost = way
            .worst_cost
            .map(|cost| format!("{} {currency}", cost.normalize()));
        let what = match &way.why_not {
            Some(why) => why.clone(),
            None => {
                choice += 1;
                match choice {
                    1 => "first choice".to_owned(),
                    n => format!("choice {n}"),
                }
            }
        };
        [
            way.to.clone(),
            output::line(way.model.as_deref().unwrap_or("-"), 40),
            cost.unwrap_or_else(|| "unknown".to_owned()),
            output::line(&what, WIDTH),
        ]
    });
    let rows: Vec<_> = std::iter::once(heading).chain(rows).collect();
    output::table([Align::Left, Align::Left, Align::Right, Align::Left], &rows)
}
