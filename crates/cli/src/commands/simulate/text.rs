//! Simulations as tables and as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};
use troika_scheduler::{Class, Phase};
use troika_simulator::{Against, ClassFigures, DeviceFigures, Figures, Foretold, Percentiles};

use super::cell::{Cell, Run};
use crate::output::{self, Align, number};

/// Reasons of refusals that are shown.
const REASONS_SHOWN: usize = 3;
const DASH: &str = "–";

const KEY: &str = "\
Seconds to the first token that 95 of 100 jobs of a class do not exceed; ITL: milliseconds between tokens, likewise, of the
most urgent class; tok/s: tokens read and written of jobs that were done; until: minutes until all was done; kJ: all devices
until then, the rest of the machine left out, J/ktok for a thousand tokens read or written. Factors are how much better Troika
is: above 1 it is better, below 1 worse.
";

/// The tables of all cells; of each by itself where there is one, or more is to be said.
pub(super) fn answer(cells: &[Cell], is_verbose: bool) -> String {
    let mut out = String::new();
    if cells.len() == 1 || is_verbose {
        for cell in cells {
            out += &one(cell, is_verbose);
            out.push('\n');
        }
    }
    if cells.len() > 1 {
        out += &overview(cells);
        out.push('\n');
    }
    out += KEY;
    out
}

fn head(cell: &Cell) -> String {
    format!(
        "{}, {}: {} jobs in {} min{}, {}, seed {}\n",
        cell.machine.name,
        cell.load.name,
        cell.load.arrivals.len(),
        number(cell.minutes()),
        cell.scaled(),
        cell.settings.policy,
        cell.options.seed
    )
}

/// A cell with all that is known of it.
fn one(cell: &Cell, is_verbose: bool) -> String {
    let mut out = head(cell);
    let mut rows = vec![titles("", cell)];
    rows.extend(cell.runs.iter().map(|run| row(&run.figures)));
    rows.extend(cell.against().map(|against| factors(&against)));
    let mut align = [Align::Right; 11];
    align[0] = Align::Left;
    out += &output::table(align, &rows);
    let shown = if is_verbose { usize::MAX } else { 1 };
    for run in cell.runs.iter().take(shown) {
        out.push('\n');
        out += &details(run, is_verbose);
    }
    for note in &cell.machine.notes {
        let _ = writeln!(out, "note: {}", output::line(note, 200));
    }
    out
}

fn titles(first: &str, cell: &Cell) -> [String; 11] {
    let has = |class| {
        let mut runs = cell.runs.iter();
        runs.any(|run| run.figures.class(class).is_some())
    };
    let class = |class: Class| if has(class) { class.name() } else { "" };
    let is_short = cell.runs.iter().any(|run| short(&run.figures) > 0);
    let [interactive, agent, background, batch] = Class::ALL.map(class);
    [
        first,
        interactive,
        agent,
        background,
        batch,
        "ITL",
        "tok/s",
        "until",
        "kJ",
        "J/ktok",
        if is_short { "not done" } else { "" },
    ]
    .map(str::to_owned)
}

/// Jobs that came to nothing, those whose client left apart.
fn short(figures: &Figures) -> usize {
    figures.jobs.refused + figures.jobs.open
}

fn dash(value: Option<f64>) -> String {
    value.map_or_else(|| DASH.to_owned(), number)
}

fn row(figures: &Figures) -> [String; 11] {
    let ttft = |class| match figures.class(class) {
        None => String::new(),
        Some(of_class) => dash(of_class.ttft_s.map(|ttft| ttft.p95)),
    };
    let [interactive, agent, background, batch] = Class::ALL.map(ttft);
    [
        figures.scheduler.clone(),
        interactive,
        agent,
        background,
        batch,
        dash(itl(figures).map(|itl| itl.p95 * 1e3)),
        number(figures.done_tps),
        number(figures.end_s / 60.0),
        number(figures.joules / 1e3),
        dash(figures.joules_per_token.map(|joules| joules * 1e3)),
        match short(figures) {
            0 => String::new(),
            count => count.to_string(),
        },
    ]
}

/// Between tokens of the most urgent class that writes.
fn itl(figures: &Figures) -> Option<Percentiles> {
    figures.classes.iter().find_map(|class| class.itl_s)
}

fn factor(value: Option<f64>) -> String {
    value.map_or_else(|| DASH.to_owned(), |value| format!("{}x", number(value)))
}

fn factors(against: &Against) -> [String; 11] {
    let ttft = |class| match against.ttft(class) {
        None => String::new(),
        found => factor(found),
    };
    let [interactive, agent, background, batch] = Class::ALL.map(ttft);
    [
        format!("against {}", against.scheduler),
        interactive,
        agent,
        background,
        batch,
        factor(against.itl_p95.first().map(|&(_, factor)| factor)),
        factor(against.throughput),
        factor(against.end),
        factor(against.energy),
        factor(against.energy_per_token),
        String::new(),
    ]
}

/// Where a scheduler did what, and how well it foretold it.
fn details(run: &Run, is_verbose: bool) -> String {
    let figures = &run.figures;
    let mut out = String::new();
    if is_verbose {
        let _ = writeln!(out, "{}:", figures.scheduler);
        out += &percentiles(figures);
    }
    for class in &figures.classes {
        let phase = |phase, name: &str| {
            let shares = figures.placement.iter();
            let shares: Vec<_> = shares
                .filter(|share| (share.class, share.phase) == (class.class, phase))
                .map(|share| format!("{} {:.0} %", share.device, share.share * 100.0))
                .collect();
            (!shares.is_empty()).then(|| format!("{name} {}", shares.join(", ")))
        };
        // Of a scheduler that keeps no accounts, it is not known where jobs were.
        let parts = [
            phase(Phase::Prefill, "read on"),
            phase(Phase::Decode, "written on"),
            deadlines(class),
        ];
        let parts: Vec<_> = parts.into_iter().flatten().collect();
        if !parts.is_empty() {
            let _ = writeln!(out, "{:<12} {}", class.class, parts.join("; "));
        }
    }
    // Devices that are made of others have no joules of their own unless they work.
    let is_used = |device: &&DeviceFigures| device.joules_busy + device.joules_idle > 0.0;
    for device in figures.devices.iter().filter(is_used) {
        let _ = writeln!(
            out,
            "{:<12} busy {:.0} %, {} kJ at work and {} kJ at rest, {} models loaded",
            device.name,
            device.busy * 100.0,
            number(device.joules_busy / 1e3),
            number(device.joules_idle / 1e3),
            device.loads
        );
    }
    for remote in &figures.remotes {
        let share = 100.0 * remote.jobs as f64 / figures.jobs.count.max(1) as f64;
        let _ = writeln!(
            out,
            "{:<12} {} jobs sent ({share:.0} %), {} of them undone, for {} of money",
            remote.name,
            remote.jobs,
            remote.undone,
            number(remote.money)
        );
    }
    let _ = writeln!(
        out,
        "{:<12} {} kJ at {} W, assumed, in no other figure",
        "the rest",
        number(figures.joules_rest / 1e3),
        number(figures.joules_rest / figures.end_s.max(1e-9)),
    );
    let _ = writeln!(
        out,
        "{} evictions, {} moves, {} replays, {} clients left",
        figures.evictions, figures.moves, figures.replays, figures.jobs.cancelled
    );
    for (what, foretold) in [
        ("first token", figures.ttft_foretold),
        ("end", figures.total_foretold),
    ] {
        if let Some(foretold) = foretold {
            let _ = writeln!(out, "{}", accuracy(what, foretold));
        }
    }
    for (reason, count) in figures.refusals.iter().take(REASONS_SHOWN) {
        let _ = writeln!(out, "{count} refused: {}", output::line(reason, 160));
    }
    out
}

fn deadlines(class: &ClassFigures) -> Option<String> {
    let (missed, of) = (class.missed, class.with_deadline);
    (of > 0).then(|| format!("{missed} of {of} deadlines missed"))
}

fn accuracy(what: &str, foretold: Foretold) -> String {
    format!(
        "time to the {what} foretold of {} jobs: half within {:.0} %, {:.0} % inside the interval, in the middle {} times as long",
        foretold.count,
        foretold.median_error * 100.0,
        foretold.inside * 100.0,
        number(foretold.median_ratio)
    )
}

fn percentiles(figures: &Figures) -> String {
    let titles = [
        "",
        "jobs",
        "TTFT p50",
        "p95",
        "p99",
        "ITL p50",
        "p95",
        "p99",
        "total p50",
        "p95",
        "p99",
    ];
    let mut rows = vec![titles.map(str::to_owned)];
    for class in &figures.classes {
        let three = |values: Option<Percentiles>, scale: f64| {
            let of =
                |value: fn(Percentiles) -> f64| dash(values.map(|values| value(values) * scale));
            [
                of(|values| values.p50),
                of(|values| values.p95),
                of(|values| values.p99),
            ]
        };
        let [ttft50, ttft95, ttft99] = three(class.ttft_s, 1.0);
        let [itl50, itl95, itl99] = three(class.itl_s, 1e3);
        let [total50, total95, total99] = three(class.total_s, 1.0);
        let name = format!("  {}", class.class);
        let jobs = class.jobs.count.to_string();
        rows.push([
            name, jobs, ttft50, ttft95, ttft99, itl50, itl95, itl99, total50, total95, total99,
        ]);
    }
    let mut align = [Align::Right; 11];
    align[0] = Align::Left;
    output::table(align, &rows)
}

/// The cells of a row that an overview has, behind machine and load.
fn picked([machine, load]: [String; 2], row: [String; 11]) -> [String; 9] {
    let [
        name,
        interactive,
        agent,
        background,
        _,
        _,
        tps,
        until,
        joules,
        ..,
    ] = row;
    [
        machine,
        load,
        name,
        interactive,
        agent,
        background,
        tps,
        until,
        joules,
    ]
}

/// A line for each cell and scheduler.
fn overview(cells: &[Cell]) -> String {
    let titles = [
        "machine",
        "load",
        "",
        "interactive",
        "agent",
        "background",
        "tok/s",
        "until",
        "kJ",
    ];
    let mut rows = vec![titles.map(str::to_owned)];
    for cell in cells {
        let Some(own) = cell.runs.first() else {
            continue;
        };
        let machine = cell.machine.name.clone();
        let load = output::line(&cell.load.name, 40);
        rows.push(picked([machine, load], row(&own.figures)));
        for against in cell.against() {
            rows.push(picked([String::new(), String::new()], factors(&against)));
        }
    }
    let mut align = [Align::Right; 9];
    align[..3].fill(Align::Left);
    output::table(align, &rows)
}

/// All figures; with the logs, if they are asked for.
pub(super) fn json(cells: &[Cell], with_logs: bool) -> Value {
    let cell = |cell: &Cell| {
        let runs: Vec<_> = cell
            .runs
            .iter()
            .map(|run| match with_logs {
                true => json!({ "figures": run.figures, "log": run.log }),
                false => json!({ "figures": run.figures }),
            })
            .collect();
        json!({
            "machine": cell.machine.name,
            "load": cell.load.name,
            "jobs": cell.load.arrivals.len(),
            "minutes": cell.minutes(),
            "scale": cell.load.scale,
            "policy": cell.settings.policy,
            "seed": cell.options.seed,
            "notes": cell.machine.notes,
            "runs": runs,
            "against": cell.against().collect::<Vec<_>>(),
        })
    };
    json!({ "cells": cells.iter().map(cell).collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::simulate::cell::example;

    #[test]
    fn one_cell_is_told_in_full() {
        insta::assert_snapshot!("one", answer(&[example::cell()], false));
        insta::assert_snapshot!("verbose", answer(&[example::cell()], true));
    }

    #[test]
    fn several_cells_stand_in_one_table() {
        insta::assert_snapshot!(
            "several",
            answer(&[example::cell(), example::cell()], false)
        );
    }

    #[test]
    fn json_holds_figures_and_factors() {
        let value = json(&[example::cell()], false);
        let cell = &value["cells"][0];
        assert_eq!(cell["runs"][0]["figures"]["scheduler"], "troika");
        assert_eq!(cell["against"][0]["scheduler"], "static");
        let factor = &cell["against"][0]["ttft_p95"][0];
        assert_eq!(factor[0], "interactive");
        assert!((factor[1].as_f64().expect("a number") - 9.5).abs() < 1e-6);
        assert!(cell["runs"][0]["log"].is_null());
        let value = json(&[example::cell()], true);
        assert!(value["cells"][0]["runs"][0]["log"]["outcomes"].is_array());
    }
}
