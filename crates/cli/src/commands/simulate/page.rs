//! Simulations as one page with plots.

mod plots;

use std::fmt::Write as _;

use anyhow::Context as _;
use troika_scheduler::Class;

use super::cell::{Cell, Run};
use crate::output::number;
use crate::page::{document, escape, key};

/// The page of all cells.
pub(super) fn html(cells: &[Cell]) -> anyhow::Result<String> {
    let mut body = String::from("<h1>Simulations</h1>\n");
    for cell in cells {
        head(&mut body, cell);
        table(&mut body, cell);
        plots_of(&mut body, cell).context("cannot draw the plots")?;
    }
    Ok(document("Simulations", &body))
}

fn head(out: &mut String, cell: &Cell) {
    let _ = writeln!(
        out,
        "<h2>{}, {}</h2>\n<p class=\"soft\">{} jobs in {} minutes, policy {}, seed {}.</p>",
        escape(&cell.machine.name),
        escape(&cell.load.name),
        cell.load.arrivals.len(),
        number(cell.minutes()),
        cell.settings.policy,
        cell.options.seed
    );
    for note in &cell.machine.notes {
        let _ = writeln!(out, "<p class=\"soft\">{}</p>", escape(note));
    }
}

fn table(out: &mut String, cell: &Cell) {
    out.push_str("<div class=\"scroll\"><table>\n<tr><th>Scheduler</th>");
    let classes = classes(cell);
    for class in &classes {
        let _ = write!(out, "<th class=\"n\">{class}, s</th>");
    }
    out.push_str(
        "<th class=\"n\">tok/s</th><th class=\"n\">until, min</th><th class=\"n\">kJ</th>\
         <th class=\"n\">J/token</th><th class=\"n\">moves</th><th class=\"n\">evictions</th><th class=\"n\">refused</th></tr>\n",
    );
    for Run { figures, .. } in &cell.runs {
        let _ = write!(out, "<tr><td>{}</td>", escape(&figures.scheduler));
        let number = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), number);
        let ttft = classes.iter().map(|&class| {
            let of_class = figures.class(class)?;
            of_class.ttft_s.map(|ttft| ttft.p95)
        });
        let others = [
            Some(figures.done_tps),
            Some(figures.end_s / 60.0),
            Some(figures.joules / 1e3),
            figures.joules_per_token,
        ];
        for value in ttft.chain(others) {
            let _ = write!(out, "<td class=\"n\">{}</td>", number(value));
        }
        for count in [
            figures.moves as usize,
            figures.evictions as usize,
            figures.jobs.refused,
        ] {
            let _ = write!(out, "<td class=\"n\">{count}</td>");
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</table></div>\n<p class=\"soft\">Of each class the time to the first token that 95 of 100 jobs do not exceed.</p>\n");
}

/// The classes that there are jobs of.
fn classes(cell: &Cell) -> Vec<Class> {
    let has = |class: &Class| {
        cell.load
            .arrivals
            .iter()
            .any(|arrival| arrival.class == *class)
    };
    Class::ALL.into_iter().filter(has).collect()
}

fn plots_of(out: &mut String, cell: &Cell) -> anyhow::Result<()> {
    let classes = classes(cell);
    let schedulers = || cell.runs.iter().map(|run| &*run.figures.scheduler);
    out.push_str("<h3>Time to the first token</h3>\n<p class=\"soft\">Share of jobs that had it within so many seconds.</p>\n");
    for &class in &classes {
        if let Some(plot) = plots::first_tokens(cell, class)? {
            let _ = writeln!(out, "<p>{class}</p>\n{plot}");
        }
    }
    key(out, schedulers());
    out.push_str(
        "<h3>Watts</h3>\n<p class=\"soft\">All devices together, those at rest included.</p>\n",
    );
    out.push_str(&plots::power(cell)?);
    key(out, schedulers());
    out.push_str("<h3>Who did it</h3>\n<p class=\"soft\">Tokens of each class, read and written, by device.</p>\n");
    out.push_str(&plots::placement(cell, &classes)?);
    key(out, cell.machine.devices.iter().map(|device| &*device.name));
    out.push_str("<h3>Devices over time</h3>\n<p class=\"soft\">A lane is full where its device works all the time; colours are the most urgent class of each step.</p>\n");
    for run in &cell.runs {
        let _ = writeln!(out, "<p>{}</p>", escape(&run.figures.scheduler));
        out.push_str(&plots::lanes(&run.log)?);
    }
    key(out, plots::SORTS.into_iter());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::simulate::cell::example;

    #[test]
    fn a_page_needs_nothing_else() {
        let mut cell = example::cell();
        cell.load.name = "<script>.jsonl".to_owned();
        let page = html(&[cell]).expect("is drawn");
        for part in [
            "<svg",
            "&lt;script&gt;.jsonl",
            "static",
            "npu0",
            "prefers-color-scheme: dark",
            "currentColor",
        ] {
            assert!(page.contains(part), "{part}");
        }
        // Three classes, watts, placement, and lanes of each scheduler.
        assert_eq!(page.matches("<svg").count(), 3 + 1 + 1 + 2);
        for part in ["<script", "http:", "https:", "src=", "@import", "NaN"] {
            let found = page.replace("http://www.w3.org/2000/svg", "");
            assert!(!found.contains(part), "{part}");
        }
    }
}
