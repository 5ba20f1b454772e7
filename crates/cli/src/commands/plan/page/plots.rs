//! The plots of a page, as SVG text. The colour of the text is the page's own, dark or light.

use plotters::coord::Shift;
use plotters::prelude::*;
use troika_planner::plan::{Plan, Verdict, cash as cash_of};

const SIZE: (u32, u32) = (960, 420);
/// Stands for the page's colour of text until the plot is done; no line of a plot has it.
const INK: RGBColor = RGBColor(1, 2, 3);
const INK_TEXT: &str = "#010203";
/// Okabe and Ito's colours, told apart by nearly everyone and on both grounds.
const PALETTE: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(213, 94, 0),
    RGBColor(86, 180, 233),
    RGBColor(204, 121, 167),
    RGBColor(150, 150, 150),
];
/// Characters at which a name is cut in a legend.
const NAME_WIDTH: usize = 52;
/// Lines in a plot over time, and bars: more cannot be told apart.
const LINES_MAX: usize = 7;
const BARS_MAX: usize = 8;

fn colour(at: usize) -> RGBColor {
    PALETTE[at % PALETTE.len()]
}

fn short(name: &str) -> String {
    crate::output::line(name, NAME_WIDTH)
}

/// Draws with `draw` and returns the SVG in the page's colour.
fn svg(
    size: (u32, u32),
    draw: impl FnOnce(&DrawingArea<SVGBackend<'_>, Shift>) -> Result<(), anyhow::Error>,
) -> Result<String, anyhow::Error> {
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, size).into_drawing_area();
        draw(&area)?;
        area.present().map_err(into)?;
    }
    // Without its declaration the SVG can stand inside a page; its size is the page's business.
    let start = text.find("<svg").unwrap_or(0);
    let fixed = format!("width=\"{}\" height=\"{}\" ", size.0, size.1);
    Ok(text[start..].replacen(&fixed, "", 1).replace(INK_TEXT, "currentColor"))
}

/// An error of the drawing library without the type of its back end.
fn into<E: std::error::Error + Send + Sync>(error: E) -> anyhow::Error {
    anyhow::anyhow!(error.to_string())
}

/// Cost a month to the right, speed upwards, both with their intervals.
pub(super) fn speed_against_cost(winners: &[&Verdict]) -> Result<String, anyhow::Error> {
    let points: Vec<_> = winners
        .iter()
        .filter_map(|verdict| Some((verdict.usd_month()?, verdict.tps()?, short(&verdict.name))))
        .collect();
    let most_usd = points.iter().map(|(usd, ..)| usd.high).fold(1.0, f64::max) * 1.1;
    let most_tps = points.iter().map(|(_, tps, _)| tps.high).fold(1.0, f64::max) * 1.25;
    svg((SIZE.0, SIZE.1 + 60), |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(12)
            .x_label_area_size(44)
            .y_label_area_size(64)
            .build_cartesian_2d(0.0..most_usd, 0.0..most_tps)
            .map_err(into)?;
        mesh(&mut chart, "USD a month", "tokens a second")?;
        for (at, (usd, tps, name)) in points.iter().enumerate() {
            let style = colour(at).stroke_width(2);
            let across = PathElement::new(vec![(usd.low, tps.value), (usd.high, tps.value)], style);
            let up = PathElement::new(vec![(usd.value, tps.low), (usd.value, tps.high)], style);
            let dot = Circle::new((usd.value, tps.value), 5, colour(at).filled());
            chart.draw_series([across, up]).map_err(into)?;
            let drawn = chart.draw_series([dot]).map_err(into)?;
            let key = colour(at);
            drawn.label(name.clone()).legend(move |(x, y)| Circle::new((x + 8, y), 5, key.filled()));
        }
        legend(&mut chart)
    })
}

/// Dollars paid by month.
pub(super) fn cash(plan: &Plan, winners: &[&Verdict]) -> Result<String, anyhow::Error> {
    let names: Vec<_> = winners.iter().take(LINES_MAX).map(|verdict| verdict.name.as_str()).collect();
    let months = plan.workload.lifetime_months.ceil().clamp(12.0, 120.0) as u32;
    let lines = cash_of(plan, &names, months);
    let most = lines.iter().flat_map(|(_, usd)| usd).copied().fold(1.0, f64::max) * 1.1;
    svg((SIZE.0, SIZE.1 + 40), |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(12)
            .x_label_area_size(44)
            .y_label_area_size(72)
            .build_cartesian_2d(0.0..f64::from(months), 0.0..most)
            .map_err(into)?;
        mesh(&mut chart, "months", "USD paid")?;
        for (at, (name, usd)) in lines.iter().enumerate() {
            let points = (0..).map(f64::from).zip(usd.iter().copied());
            let drawn = chart.draw_series(LineSeries::new(points, colour(at).stroke_width(2))).map_err(into)?;
            let key = colour(at);
            let line = move |(x, y)| PathElement::new(vec![(x, y), (x + 16, y)], key.stroke_width(2));
            drawn.label(short(name)).legend(line);
        }
        legend(&mut chart)
    })
}

/// A bar for each: weights, cache, scratch and runtime, against what there is.
pub(super) fn memory(winners: &[&Verdict]) -> Result<String, anyhow::Error> {
    let bars: Vec<_> = winners
        .iter()
        .take(BARS_MAX)
        .filter_map(|verdict| Some((short(&verdict.name), verdict.forecast.as_ref()?.memory, verdict.memory_bytes)))
        .collect();
    let gb = |bytes: u64| bytes as f64 / 1e9;
    let ends = bars.iter().map(|(_, need, has)| gb(need.total().max(has.unwrap_or(0))));
    let most = ends.fold(1.0, f64::max) * 1.05;
    let rows = bars.len().max(1) as f64;
    let height = 110 + 52 * bars.len() as u32;
    svg((SIZE.0, height), |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(12)
            .x_label_area_size(44)
            .build_cartesian_2d(0.0..most, 0.0..rows + 0.8)
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
            for (part, bytes) in [need.weights, need.cache, need.scratch, need.runtime].into_iter().enumerate() {
                let to = from + gb(bytes);
                let bar = Rectangle::new([(from, y + 0.08), (to, y + 0.5)], colour(part).filled());
                chart.draw_series([bar]).map_err(into)?;
                from = to;
            }
            if let Some(has) = has {
                let frame = Rectangle::new([(0.0, y + 0.08), (gb(*has), y + 0.5)], INK.stroke_width(1));
                chart.draw_series([frame]).map_err(into)?;
            }
            let label = Text::new(name.clone(), (0.0, y + 0.85), text.clone());
            chart.draw_series([label]).map_err(into)?;
        }
        for (part, word) in ["weights", "cache", "scratch", "runtime"].into_iter().enumerate() {
            let none: [Rectangle<(f64, f64)>; 0] = [];
            let key = colour(part);
            let square = move |(x, y): (i32, i32)| Rectangle::new([(x, y - 5), (x + 12, y + 5)], key.filled());
            chart.draw_series(none).map_err(into)?.label(word).legend(square);
        }
        legend(&mut chart)
    })
}

type Chart<'a, 'b> = ChartContext<
    'a,
    SVGBackend<'b>,
    Cartesian2d<plotters::coord::types::RangedCoordf64, plotters::coord::types::RangedCoordf64>,
>;

fn mesh(chart: &mut Chart<'_, '_>, x: &str, y: &str) -> Result<(), anyhow::Error> {
    let text = ("sans-serif", 14).into_font().color(&INK);
    chart
        .configure_mesh()
        .x_desc(x)
        .y_desc(y)
        .axis_style(INK.mix(0.6))
        .bold_line_style(INK.mix(0.15))
        .light_line_style(TRANSPARENT)
        .label_style(text.clone())
        .axis_desc_style(text)
        .draw()
        .map_err(into)
}

fn legend<'a, 'b>(chart: &mut Chart<'a, 'b>) -> Result<(), anyhow::Error>
where
    'b: 'a,
{
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .label_font(("sans-serif", 13).into_font().color(&INK))
        .draw()
        .map_err(into)
}
