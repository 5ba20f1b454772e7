//! What lies over the devices: the menu of policies, and why a job is where it is.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Padding, Paragraph, Widget as _, Wrap};
use troika_scheduler::{Candidate, Cause, Decision, DeviceId};

use super::account;
use super::app::{App, policies as names};
use super::text::{Theme, clean, cut, fitted, policy, span};
use super::view::{Job, Placement};
use crate::output::number;

/// The menu of policies.
pub(super) fn policies(app: &App, at: usize, theme: Theme, area: Rect, buffer: &mut Buffer) {
    let lines = names().into_iter().enumerate().map(|(row, name)| {
        let mark = if name == app.state.policy {
            "✓ "
        } else {
            "  "
        };
        let style = match row == at {
            true => theme.chosen(),
            false => theme.strong(),
        };
        Line::from(vec![
            Span::raw(mark),
            Span::styled(fitted(name, 11), style),
            Span::raw("  "),
            Span::raw(policy(name)),
        ])
    });
    show("Policy", lines.collect(), 84, area, buffer);
}

/// Why a job is where it is.
pub(super) fn why(
    app: &App,
    job: &Job,
    found: Option<&Result<Box<Placement>, String>>,
    theme: Theme,
    area: Rect,
    buffer: &mut Buffer,
) {
    let device = app.state.devices.iter().find(|it| it.id == job.device);
    let device = device.map_or_else(
        || format!("device {}", job.device.0),
        |device| clean(&device.name),
    );
    let mut lines = vec![Line::raw(clean(&job.why)), Line::default()];
    match found {
        None => lines.push(Line::styled("asking …", theme.soft())),
        Some(Err(why)) => lines.push(Line::styled(clean(why), theme.warning())),
        Some(Ok(placement)) => lines.extend(placed(placement, theme)),
    }
    let title = format!("Why job {} is on {device}", job.job.0);
    show(&title, lines, 124, area, buffer);
}

/// The jobs of a request, done or not, for who asks by its number.
pub(super) fn request(placements: &[Placement], theme: Theme) -> Vec<Line<'static>> {
    let job = |placement: &Placement| {
        let number = placement.decisions.first().map(|decision| decision.job.0);
        let number = number.map_or_else(|| "?".to_owned(), |number| number.to_string());
        let state = match placement.account {
            Some(_) => "done",
            None => "in progress",
        };
        let name = format!("Job {number}, {}, {state}", clean(&placement.model));
        let mut lines = vec![Line::styled(name, theme.strong()), Line::default()];
        lines.extend(placed(placement, theme));
        lines
    };
    placements.iter().flat_map(job).collect()
}

/// What a job took if it is done, and how it was placed, the last decision first.
fn placed(placement: &Placement, theme: Theme) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    if let Some(account) = &placement.account {
        lines.extend(account::lines(account, &placement.devices, theme));
    }
    for decision in placement.decisions.iter().rev() {
        lines.extend(told(decision, &placement.devices, theme));
        lines.push(Line::default());
    }
    lines
}

/// A device's name by its number.
pub(super) fn device_name(id: DeviceId, devices: &[String]) -> String {
    match devices.get(usize::from(id.0)) {
        Some(name) => clean(name),
        None => format!("device {}", id.0),
    }
}

/// A decision: what led to it, and the candidates in columns.
fn told(decision: &Decision, devices: &[String], theme: Theme) -> Vec<Line<'static>> {
    let heading = format!(
        "{} Class {}, policy {}.",
        cause(decision.cause),
        decision.class,
        decision.policy
    );
    let columns = format!(
        "{}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}  verdict",
        fitted("device", 14),
        "wait",
        "load",
        "read",
        "copy",
        "write",
        "joules",
        "score"
    );
    let mut lines = vec![Line::raw(heading), Line::styled(columns, theme.soft())];
    // Of a job that moves, the server names the place first that it leaves.
    let mut candidates: Vec<_> = decision.candidates.iter().collect();
    candidates.sort_by_key(|it| it.lost.is_some());
    let candidates = candidates.into_iter();
    lines.extend(candidates.map(|it| candidate(it, devices, theme)));
    lines
}

fn candidate(candidate: &Candidate, devices: &[String], theme: Theme) -> Line<'static> {
    let name = |id| device_name(id, devices);
    let place = match candidate.prefill == candidate.decode {
        true => name(candidate.decode),
        false => format!("{} > {}", name(candidate.prefill), name(candidate.decode)),
    };
    let cells: [String; 7] = match &candidate.forecast {
        Some(it) => [
            span(it.wait_s),
            span(it.load_s),
            span(it.prefill_s),
            span(it.copy_s),
            span(it.decode_s),
            it.joules.map_or_else(|| "-".to_owned(), number),
            number(it.score),
        ],
        None => std::array::from_fn(|_| "-".to_owned()),
    };
    let cells: String = cells.iter().map(|cell| format!("{cell:>9}")).collect();
    let (verdict, style) = match &candidate.lost {
        None => ("taken".to_owned(), theme.good()),
        Some(lost) => (clean(&lost.to_string()), theme.soft()),
    };
    Line::from(vec![
        Span::raw(fitted(&place, 14)),
        Span::raw(cells),
        Span::styled(format!("  {verdict}"), style),
    ])
}

fn cause(cause: Cause) -> &'static str {
    match cause {
        Cause::Arrival => "It was new.",
        Cause::Spill => "Its usual device was full.",
        Cause::Home => "Its usual device was free again.",
        Cause::Replay => "Its device failed; it went on from its tokens.",
        Cause::Gain => "Elsewhere it ends sooner, or costs less, by more than the way there.",
        Cause::Handover => "Its prompt was read; its answers are written where that goes best.",
    }
}

/// A box in the middle, as large as it may and must be.
fn show(title: &str, lines: Vec<Line<'static>>, width: u16, area: Rect, buffer: &mut Buffer) {
    let width = area.width.min(width);
    let inside = usize::from(width.saturating_sub(4)).max(1);
    let rows: usize = lines
        .iter()
        .map(|line| line.width().div_ceil(inside).max(1))
        .sum();
    // Lines are broken at words, which may take a row more now and then.
    let height = area.height.min(u16::try_from(rows + 3).unwrap_or(u16::MAX));
    let place = Rect {
        x: area.x + (area.width - width) / 2,
        y: area.y + (area.height - height) / 2,
        width,
        height,
    };
    let title = cut(&format!(" {title} (esc closes) "), inside);
    Clear.render(place, buffer);
    let block = Block::bordered()
        .title(title)
        .padding(Padding::horizontal(1));
    let wrap = Wrap { trim: false };
    Paragraph::new(lines)
        .wrap(wrap)
        .block(block)
        .render(place, buffer);
}
