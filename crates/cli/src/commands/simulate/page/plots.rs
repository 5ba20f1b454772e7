//! The plots of simulations.

use plotters::prelude::*;
use troika_scheduler::Class;
use troika_simulator::{Log, Share, SpanKind};

use super::super::cell::Cell;
use crate::page::plot::{INK, colour, into, mesh, svg};

const WIDTH: u32 = 960;
/// Pieces that time is cut into: more could not be seen.
const PIECES: usize = 240;
/// Points of a line.
const POINTS: usize = 200;
/// Where the axis of times to the first token begins.
const LEAST_S: f64 = 0.01;

/// What lanes are coloured by, in the order of their colours.
pub(super) const SORTS: [&str; 6] = [
    "interactive",
    "agent",
    "background",
    "batch",
    "loads and moves",
    "lost",
];

/// Share of a class's jobs over the time to their first token; `None` where no job had one.
pub(super) fn first_tokens(cell: &Cell, class: Class) -> anyhow::Result<Option<String>> {
    let lines: Vec<Vec<(f64, f64)>> = cell
        .runs
        .iter()
        .map(|run| {
            let of_class = run
                .log
                .outcomes
                .iter()
                .filter(|outcome| outcome.class == class);
            let count = of_class.clone().count();
            let mut times: Vec<_> = of_class.filter_map(|outcome| outcome.ttft_s).collect();
            times.sort_by(f64::total_cmp);
            distribution(&times, count)
        })
        .collect();
    let most = lines
        .iter()
        .flatten()
        .map(|&(seconds, _)| seconds)
        .fold(0.0, f64::max);
    if most <= 0.0 {
        return Ok(None);
    }
    let text = ("sans-serif", 14).into_font().color(&INK);
    let plot = svg((WIDTH, 300), |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(12)
            .x_label_area_size(44)
            .y_label_area_size(64)
            .build_cartesian_2d((LEAST_S..most.max(1.0) * 1.2).log_scale(), 0.0..100.0)
            .map_err(into)?;
        chart
            .configure_mesh()
            .x_desc("seconds")
            .y_desc("% of jobs")
            .axis_style(INK.mix(0.6))
            .bold_line_style(INK.mix(0.15))
            .light_line_style(TRANSPARENT)
            .label_style(text.clone())
            .axis_desc_style(text)
            .draw()
            .map_err(into)?;
        for (at, line) in lines.into_iter().enumerate() {
            let line = LineSeries::new(line, colour(at).stroke_width(2));
            chart.draw_series(line).map_err(into)?;
        }
        Ok(())
    })?;
    Ok(Some(plot))
}

/// Points of the share of `count` jobs that had so little; sorted times of those that had any.
fn distribution(times: &[f64], count: usize) -> Vec<(f64, f64)> {
    let step = (times.len() / POINTS).max(1);
    let ranks = (0..times.len())
        .step_by(step)
        .chain(times.len().checked_sub(1));
    ranks
        .map(|rank| {
            let share = (rank + 1) as f64 / count.max(1) as f64;
            (times[rank].max(LEAST_S), share * 100.0)
        })
        .collect()
}

/// Watts of all devices over time.
pub(super) fn power(cell: &Cell) -> anyhow::Result<String> {
    let end_s = cell
        .runs
        .iter()
        .map(|run| run.log.end.seconds())
        .fold(1.0, f64::max);
    let lines: Vec<_> = cell.runs.iter().map(|run| watts(&run.log, end_s)).collect();
    let most = lines.iter().flatten().copied().fold(1.0, f64::max) * 1.1;
    svg((WIDTH, 320), |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(12)
            .x_label_area_size(44)
            .y_label_area_size(64)
            .build_cartesian_2d(0.0..end_s / 60.0, 0.0..most)
            .map_err(into)?;
        mesh(&mut chart, "minutes", "watts")?;
        // Troika's line comes last, above the others.
        for (at, line) in lines.iter().enumerate().rev() {
            let minutes =
                (0..).map(|piece| (f64::from(piece) + 0.5) * end_s / PIECES as f64 / 60.0);
            let line = LineSeries::new(
                minutes.zip(line.iter().copied()),
                colour(at).stroke_width(2),
            );
            chart.draw_series(line).map_err(into)?;
        }
        Ok(())
    })
}

/// Mean watts in each piece of time; none after the last job has ended.
fn watts(log: &Log, end_s: f64) -> Vec<f64> {
    let piece_s = end_s / PIECES as f64;
    let own_end_s = log.end.seconds();
    let mut pieces = vec![0.0; PIECES];
    for device in 0..log.devices.len() {
        let spans = log
            .spans
            .iter()
            .filter(|span| usize::from(span.device) == device);
        let mut busy = vec![0.0; PIECES];
        for span in spans.filter(|span| span.kind != SpanKind::Lost) {
            spread(
                span.from.seconds(),
                span.to.seconds(),
                piece_s,
                |piece, share| {
                    busy[piece] += share;
                    pieces[piece] += share * span.watts;
                },
            );
        }
        let busy_s = busy.iter().sum::<f64>() * piece_s;
        let joules_idle = log.joules_idle.get(device).copied().unwrap_or(0.0);
        let idle = joules_idle / (own_end_s - busy_s).max(piece_s);
        for (piece, busy) in busy.iter().enumerate() {
            let is_over = piece as f64 * piece_s >= own_end_s;
            pieces[piece] += if is_over {
                0.0
            } else {
                idle * (1.0 - busy).max(0.0)
            };
        }
    }
    pieces
}

/// Gives each piece of time the share of it that lies between two moments.
fn spread(from_s: f64, to_s: f64, piece_s: f64, mut to: impl FnMut(usize, f64)) {
    let first = (from_s / piece_s) as usize;
    for piece in first..PIECES {
        let start = piece as f64 * piece_s;
        if start >= to_s {
            break;
        }
        let share = (to_s.min(start + piece_s) - from_s.max(start)) / piece_s;
        to(piece, share.max(0.0));
    }
}

/// A bar for each scheduler and class: whose tokens they are.
pub(super) fn placement(cell: &Cell, classes: &[Class]) -> anyhow::Result<String> {
    let devices: Vec<_> = cell
        .machine
        .devices
        .iter()
        .map(|device| &*device.name)
        .collect();
    let bars: Vec<_> = classes
        .iter()
        .flat_map(|&class| cell.runs.iter().map(move |run| (class, run)))
        .map(|(class, run)| {
            let of_class = |share: &&Share| share.class == class;
            let shares: Vec<_> = run.figures.placement.iter().filter(of_class).collect();
            let tokens = |device: &str| -> u64 {
                let there = shares.iter().filter(|share| share.device == device);
                there.map(|share| share.tokens).sum()
            };
            let tokens: Vec<_> = devices.iter().map(|device| tokens(device)).collect();
            (format!("{class}, {}", run.figures.scheduler), tokens)
        })
        .collect();
    let rows = bars.len().max(1) as f64;
    let text = ("sans-serif", 14).into_font().color(&INK);
    svg((WIDTH, 60 + 36 * bars.len() as u32), |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(12)
            .x_label_area_size(36)
            .build_cartesian_2d(0.0..100.0, 0.0..rows)
            .map_err(into)?;
        chart
            .configure_mesh()
            .disable_mesh()
            .disable_y_axis()
            .x_desc("%")
            .axis_style(INK.mix(0.6))
            .label_style(text.clone())
            .draw()
            .map_err(into)?;
        for (at, (name, tokens)) in bars.iter().enumerate() {
            let y = rows - 1.0 - at as f64;
            let all = tokens.iter().sum::<u64>().max(1) as f64;
            let mut from = 0.0;
            for (device, &tokens) in tokens.iter().enumerate() {
                let to = from + tokens as f64 / all * 100.0;
                let bar =
                    Rectangle::new([(from, y + 0.05), (to, y + 0.45)], colour(device).filled());
                chart.draw_series([bar]).map_err(into)?;
                from = to;
            }
            let label = Text::new(name.clone(), (0.0, y + 0.88), text.clone());
            chart.draw_series([label]).map_err(into)?;
        }
        Ok(())
    })
}

/// A lane for each device: how much of each piece of time it worked, by class.
pub(super) fn lanes(log: &Log) -> anyhow::Result<String> {
    let end_s = log.end.seconds().max(1.0);
    let piece_s = end_s / PIECES as f64;
    let rows = log.devices.len().max(1) as f64;
    let text = ("sans-serif", 14).into_font().color(&INK);
    svg((WIDTH, 50 + 64 * log.devices.len() as u32), |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(12)
            .x_label_area_size(36)
            .y_label_area_size(90)
            .build_cartesian_2d(0.0..end_s / 60.0, 0.0..rows)
            .map_err(into)?;
        let names = |y: &f64| {
            let row = rows - 1.0 - y.floor();
            let name = log.devices.get(row.max(0.0) as usize);
            name.cloned().unwrap_or_default()
        };
        chart
            .configure_mesh()
            .disable_mesh()
            .y_labels(0)
            .y_label_formatter(&names)
            .x_desc("minutes")
            .axis_style(INK.mix(0.6))
            .label_style(text.clone())
            .draw()
            .map_err(into)?;
        for (device, name) in log.devices.iter().enumerate() {
            let y = rows - 1.0 - device as f64;
            let shares = lane(log, device, piece_s);
            for (piece, sorts) in shares.iter().enumerate() {
                let left = piece as f64 * piece_s / 60.0;
                let right = left + piece_s / 60.0;
                let mut from = y + 0.06;
                for (sort, share) in sorts
                    .iter()
                    .enumerate()
                    .filter(|(_, share)| **share > 0.002)
                {
                    let to = (from + share * 0.7).min(y + 0.78);
                    let bar = Rectangle::new([(left, from), (right, to)], colour(sort).filled());
                    chart.draw_series([bar]).map_err(into)?;
                    from = to;
                }
            }
            let label = Text::new(name.clone(), (0.0, y + 0.98), text.clone());
            chart.draw_series([label]).map_err(into)?;
        }
        Ok(())
    })
}

/// For each piece of time, the share of it that went to each of [`SORTS`].
fn lane(log: &Log, device: usize, piece_s: f64) -> Vec<[f64; SORTS.len()]> {
    let mut pieces = vec![[0.0; SORTS.len()]; PIECES];
    for span in log
        .spans
        .iter()
        .filter(|span| usize::from(span.device) == device)
    {
        let sort = match (span.kind, span.class) {
            (SpanKind::Lost, _) => 5,
            (SpanKind::Load | SpanKind::Move, _) | (_, None) => 4,
            (_, Some(class)) => Class::ALL.iter().position(|of| *of == class).unwrap_or(4),
        };
        spread(
            span.from.seconds(),
            span.to.seconds(),
            piece_s,
            |piece, share| {
                pieces[piece][sort] += share;
            },
        );
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::simulate::cell::example;

    #[test]
    fn time_is_cut_into_pieces_and_nothing_is_lost() {
        for (from, to) in [(0.0, 10.0), (3.7, 3.9), (9.5, 2400.0), (5.0, 5.0)] {
            let mut seconds = 0.0;
            spread(from, to, 10.0, |_, share| seconds += share * 10.0);
            assert!(
                (seconds - (to - from)).abs() < 1e-9,
                "{from} {to}: {seconds}"
            );
        }
    }

    #[test]
    fn watts_come_to_the_joules() {
        let log = &example::cell().runs[0].log;
        let end_s = log.end.seconds();
        let drawn: f64 = watts(log, end_s)
            .iter()
            .map(|watts| watts * end_s / PIECES as f64)
            .sum();
        let spans = log.spans.iter().filter(|span| span.kind != SpanKind::Lost);
        let busy: f64 = spans
            .map(|span| span.to.since(span.from).as_secs_f64() * span.watts)
            .sum();
        let want = busy + log.joules_idle.iter().sum::<f64>();
        assert!((drawn / want - 1.0).abs() < 1e-6, "{drawn} {want}");
    }

    #[test]
    fn a_distribution_ends_with_those_that_had_one() {
        let line = distribution(&[0.001, 1.0, 2.0, 4.0], 5);
        assert_eq!(line.first(), Some(&(LEAST_S, 20.0)));
        assert_eq!(line.last(), Some(&(4.0, 80.0)));
        assert!(distribution(&[], 3).is_empty());
    }

    #[test]
    fn a_lane_knows_what_it_was_busy_with() {
        let log = &example::cell().runs[0].log;
        let gpu = lane(log, 1, log.end.seconds() / PIECES as f64);
        assert!(gpu[0][4] > 0.99 && gpu[10][0] > 0.99 && gpu[200] == [0.0; SORTS.len()]);
        let cpu = lane(log, 0, log.end.seconds() / PIECES as f64);
        assert!(cpu.iter().any(|piece| piece[5] > 0.99));
    }
}
