//! A plan as one page that needs nothing else: no script, no font, no address. Dark and light by the reader's own setting.
//!
//! Every text that is not ours is escaped: names come from files and flags.

mod plots;

use std::fmt::Write as _;

use anyhow::Context as _;
use troika_planner::plan::{Plan, Verdict};

use super::text::spread;
use crate::output::number;
use crate::page::{document, escape, key};

/// Candidates in tables and plots.
const SHOWN: usize = 12;
/// Losers that are listed.
const LOSERS_SHOWN: usize = 60;

/// The page.
pub(super) fn html(plan: &Plan) -> anyhow::Result<String> {
    let winners: Vec<_> = plan.winners().take(SHOWN).collect();
    let plot = |result: anyhow::Result<String>| result.context("cannot draw the plots");
    let mut body = String::new();
    head(&mut body, plan);
    if winners.is_empty() {
        body.push_str("<p>Nothing does all that is wanted; the reasons are below.</p>\n");
    } else {
        table(&mut body, &winners);
        body.push_str("<h2>Speed against cost</h2>\n<p class=\"soft\">Lines are intervals: eight of ten measurements are meant to lie within. Numbers are those of the table.</p>\n");
        body.push_str(&plot(plots::speed_against_cost(&winners))?);
        body.push_str("<h2>What has been paid</h2>\n<p class=\"soft\">US dollars by month; where lines cross, one has paid for itself.</p>\n");
        body.push_str(&plot(plots::cash(plan, &winners))?);
        let names = winners
            .iter()
            .take(plots::LINES_MAX)
            .map(|verdict| verdict.name.as_str());
        key(&mut body, names);
        body.push_str("<h2>Memory</h2>\n");
        body.push_str(&plot(plots::memory(&winners))?);
        key(&mut body, plots::PARTS.into_iter());
        explanations(&mut body, &winners);
    }
    losers(&mut body, plan);
    Ok(document("Plan", &body))
}

fn head(out: &mut String, plan: &Plan) {
    let workload = &plan.workload;
    let _ = write!(
        out,
        "<h1>Plan for {}</h1>\n<p class=\"soft\">{}: {} at once, {} requests a day of {} + {} tokens. {} candidates, {}.</p>\n",
        escape(workload.task.name()),
        escape(&workload.model),
        match workload.users {
            1 => "1 user".to_owned(),
            users => format!("{users} users"),
        },
        workload.requests_per_day,
        workload.prompt_tokens,
        workload.gen_tokens,
        plan.verdicts.len(),
        plan.today,
    );
    for note in &plan.notes {
        let _ = writeln!(out, "<p class=\"soft\">{}</p>", escape(note));
    }
}

fn table(out: &mut String, winners: &[&Verdict]) {
    out.push_str(
        "<div class=\"scroll\"><table>\n<tr><th></th><th class=\"name\">Candidate</th><th></th><th>Model</th><th class=\"n\">tok/s</th>\
         <th class=\"n\">first token, s</th><th class=\"n\">W</th><th class=\"n\">J/token</th><th class=\"n\">USD now</th>\
         <th class=\"n\">USD a month</th><th class=\"n\">USD/M tokens</th></tr>\n",
    );
    for (rank, verdict) in (1..).zip(winners) {
        let dash = || "–".to_owned();
        let joules = verdict
            .forecast
            .as_ref()
            .and_then(|forecast| forecast.joules_per_token);
        let cells = [
            verdict.tps().map_or_else(dash, spread),
            verdict.ttft_s().map_or_else(dash, spread),
            verdict
                .watts()
                .map_or_else(dash, |watts| number(watts.value)),
            joules.map_or_else(dash, |joules| number(joules.value)),
            verdict
                .start_usd()
                .map_or_else(dash, |usd| format!("{usd:.0}")),
            verdict.usd_month().map_or_else(dash, spread),
            verdict
                .usd_per_million()
                .map_or_else(dash, |usd| number(usd.value)),
        ];
        let model = format!("{} {}", verdict.model, verdict.quantization);
        let _ = write!(
            out,
            "<tr><td>{rank}</td><td>{}</td><td>{}</td><td>{}</td>",
            escape(&verdict.name),
            verdict.place.name(),
            escape(&model)
        );
        for cell in cells {
            let _ = write!(out, "<td class=\"n\">{cell}</td>");
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</table></div>\n");
}

fn explanations(out: &mut String, winners: &[&Verdict]) {
    out.push_str("<h2>Where the numbers come from</h2>\n");
    for verdict in winners {
        let _ = writeln!(out, "<details><summary>{}</summary>", escape(&verdict.name));
        out.push_str("<div class=\"scroll\"><table>\n<tr><th>Number</th><th class=\"n\">Value</th><th>Unit</th><th>Formula</th><th>Source</th></tr>\n");
        for term in verdict.terms() {
            let _ = writeln!(
                out,
                "<tr><td>{}</td><td class=\"n\">{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
                escape(&term.name),
                number(term.value),
                escape(term.unit),
                escape(&term.formula),
                escape(&term.source)
            );
        }
        out.push_str("</table></div>\n<ul>\n");
        for risk in &verdict.risks {
            let _ = writeln!(
                out,
                "<li>{} <span class=\"soft\">({})</span></li>",
                escape(&risk.what),
                escape(&risk.source)
            );
        }
        out.push_str("</ul></details>\n");
    }
}

fn losers(out: &mut String, plan: &Plan) {
    let count = plan.losers().count();
    let _ = writeln!(
        out,
        "<h2>Why {count} others lost</h2>\n<div class=\"scroll\"><table>"
    );
    for (verdict, lost) in plan.losers().take(LOSERS_SHOWN) {
        let _ = writeln!(
            out,
            "<tr><td>{}</td><td>{}</td></tr>",
            escape(&verdict.name),
            escape(&lost.reason)
        );
    }
    out.push_str("</table></div>\n");
    if count > LOSERS_SHOWN {
        let _ = writeln!(
            out,
            "<p class=\"soft\">… and {} more.</p>",
            count - LOSERS_SHOWN
        );
    }
}
