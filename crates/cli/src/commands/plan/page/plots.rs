//! The plots of a page, as SVG text. The colour of the text is the page's own, dark or light.

use plotters::prelude::*;
use troika_planner::plan::{Plan, Verdict, cash as cash_of};

use crate::page::plot::{INK, colour, into, mesh, svg};

const SIZE: (u32, u32) = (960, 420);
/// Characters at which a name is cut.
const NAME_WIDTH: usize = 52;
/// Lines in a plot over time, and bars: more cannot be told apart.
pub(super) const LINES_MAX: usize = 7;
const BARS_MAX: usize = 8;
/// The parts of a bar, in the order of their colours.
pub(super) const PARTS: [&str; 4] = ["weights", "cache", "scratch", "runtime"];

fn short(name: &str) -> String {
    crate::output::line(name, NAME_WIDTH)
}

/// Cost a month to the right, speed upwards, both with their intervals, and the number that each has in the table.
pub(super) fn speed_against_cost(winners: &[&Verdict]) -> anyhow::Result<String> {
    let points: Vec<_> = winners
        .iter()
        .zip(1..)
        .filter_map(|(verdict, rank)| Some((verdict.usd_month()?, verdict.tps()?, rank)))
        .collect();
    let most_usd = points.iter().map(|(usd, ..)| usd.high).fold(1.0, f64::max) * 1.1;
    let most_tps = points
        .iter()
        .map(|(_, tps, _)| tps.high)
        .fold(1.0, f64::max)
        * 1.25;
    svg((SIZE.0, SIZE.1 + 60), |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(12)
            .x_label_area_size(44)
            .y_label_area_size(64)
            .build_cartesian_2d(0.0..most_usd, 0.0..most_tps)
            .map_err(into)?;
        mesh(&mut chart, "USD a month", "tokens a second")?;
        let text = ("sans-serif", 14).into_font().color(&INK);
        for (usd, tps, rank) in &points {
            let style = colour(rank - 1).stroke_width(2);
            let across = PathElement::new(vec![(usd.low, tps.value), (usd.high, tps.value)], style);
            let up = PathElement::new(vec![(usd.value, tps.low), (usd.value, tps.high)], style);
            let dot = Circle::new((usd.value, tps.value), 5, colour(rank - 1).filled());
            chart.draw_series([across, up]).map_err(into)?;
            chart.draw_series([dot]).map_err(into)?;
            let number = Text::new(
                rank.to_string(),
                (usd.value + most_usd / 120.0, tps.value),
                text.clone(),
            );
            chart.draw_series([number]).map_err(into)?;
        }
        Ok(())
    })
}

/// Dollars paid by month.
pub(super) fn cash(plan: &Plan, winners: &[&Verdict]) -> anyhow::Result<String> {
    let names: Vec<_> = winners
        .iter()
        .take(LINES_MAX)
        .map(|verdict| verdict.name.as_str())
        .collect();
    let months = plan.workload.lifetime_months.ceil().clamp(12.0, 120.0) as u32;
    let lines = cash_of(plan, &names, months);
    let most = lines
        .iter()
        .flat_map(|(_, usd)| usd)
        .copied()
        .fold(1.0, f64::max)
        * 1.1;
    svg((SIZE.0, SIZE.1 + 40), |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(12)
            .x_label_area_size(44)
            .y_label_area_size(72)
            .build_cartesian_2d(0.0..f64::from(months), 0.0..most)
            .map_err(into)?;
        mesh(&mut chart, "months", "USD paid")?;
        for (at, (_, usd)) in lines.iter().enumerate() {
            let points = (0..).map(f64::from).zip(usd.iter().copied());
            let line = LineSeries::new(points, colour(at).stroke_width(2));
            chart.draw_series(line).map_err(into)?;
        }
        Ok(())
    })
}

/// A bar for each: weights, cache, scratch and runtime, against what there is.
pub(super) fn memory(winners: &[&Verdict]) -> anyhow::Result<String> {
    let bars: Vec<_> = winners
        .iter()
        .take(BARS_MAX)
        .filter_map(|verdict| {
            Some((
                short(&verdict.name),
                verdict.forecast.as_ref()?.memory,
                verdict.memory_bytes,
            ))
        })
        .collect();
    let gb = |bytes: u64| bytes as f64 / 1e9;
    let ends = bars
        .iter()
        .map(|(_, need, has)| gb(need.total().max(has.unwrap_or(0))));
    let most = ends.fold(1.0, f64::max) * 1.05;
    let rows = bars.len().max(1) as f64;
    let height = 70 + 56 * bars.len() as u32;
    svg((SIZE.0, height), |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(12)
            .x_label_area_size(44)
            .build_cartesian_2d(0.0..most, 0.0..rows + 0.1)
            .map_err(into)?;
        let text = ("sans-serif", 14).into_font().color(&INK);
        chart
            .configure_mesh()
            .disable_mesh()
            .disable_y_axis()
            .x_desc("GB")
            .axis_style(INK.mix(0.6))
            .label_style(text.clone())
            .draw()
            .map_err(into)?;
        for (at, (name, need, has)) in bars.iter().enumerate() {
            // The first stands on top.
            let y = rows - 1.0 - at as f64;
            let mut from = 0.0;
            for (part, bytes) in [need.weights, need.cache, need.scratch, need.runtime]
                .into_iter()
                .enumerate()
            {
                let to = from + gb(bytes);
                let bar = Rectangle::new([(from, y + 0.08), (to, y + 0.5)], colour(part).filled());
                chart.draw_series([bar]).map_err(into)?;
                from = to;
            }
            if let Some(has) = has {
                let frame =
                    Rectangle::new([(0.0, y + 0.08), (gb(*has), y + 0.5)], INK.stroke_width(1));
                chart.draw_series([frame]).map_err(into)?;
            }
            let label = Text::new(name.clone(), (0.0, y + 0.85), text.clone());
            chart.draw_series([label]).map_err(into)?;
        }
        Ok(())
    })
}
