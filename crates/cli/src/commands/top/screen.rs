//! From what is on the screen to lines of text: pure, so that it is tested without a terminal.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Style, Stylize as _};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Widget as _};
use troika_base::Bytes;
use troika_scheduler::{Heat, JoulesSource, Phase, Power};

use super::app::{App, Over};
use super::overlay;
use super::text::{Piece, Theme, bar, clean, columns, cut, fitted, flow, percent, source, span};
use super::view::{Compiling, Device, Job, Placement, Pool, Resident};
use crate::output::number;

/// Below this many columns, lines leave out what can be done without.
const NARROW: usize = 76;
const KEYS: &str = " q quit   p policy   j/k select a job   enter why";

/// Draws everything into an area of any size.
pub(super) fn draw(app: &App, theme: Theme, area: Rect, buffer: &mut Buffer) {
    let [width, height] = [area.width, area.height].map(usize::from);
    let head = head(app, theme, width);
    let head_rows = head.len().min(height);
    let body_rows = height.saturating_sub(head_rows + 1);
    let (body, selected) = body(app, theme, width);
    // As far down as the selected job and the user want, and no further than there is something.
    let needed = selected.map_or(0, |row| (row + 2).saturating_sub(body_rows));
    let last = body.len().saturating_sub(body_rows);
    let first = needed.max(app.scroll).min(last);
    let row = |from: usize, rows: usize| Rect {
        y: area.y + from as u16,
        height: rows as u16,
        ..area
    };
    Paragraph::new(head).render(row(0, head_rows), buffer);
    let body: Vec<_> = body.into_iter().skip(first).take(body_rows).collect();
    Paragraph::new(body).render(row(head_rows, body_rows), buffer);
    if height > head_rows {
        Line::styled(KEYS, theme.soft()).render(row(height - 1, 1), buffer);
    }
    match &app.over {
        Over::Nothing => {}
        Over::Policies(at) => overlay::policies(app, *at, theme, area, buffer),
        Over::Why { job, found } => {
            overlay::why(app, job, found.as_ref(), theme, area, buffer);
        }
    }
}

/// One frame as plain text, for scripts.
pub(super) fn text(app: &App, width: usize) -> String {
    let theme = Theme { colours: false };
    let (body, _) = body(app, theme, width);
    plain(head(app, theme, width).into_iter().chain(body))
}

/// A request's jobs as plain text.
pub(super) fn told(placements: &[Placement]) -> String {
    let theme = Theme { colours: false };
    plain(overlay::request(placements, theme))
}

fn plain(lines: impl IntoIterator<Item = Line<'static>>) -> String {
    lines
        .into_iter()
        .map(|line| line.to_string().trim_end().to_owned() + "\n")
        .collect()
}

/// What concerns the machine as a whole.
fn head(app: &App, theme: Theme, width: usize) -> Vec<Line<'static>> {
    let state = &app.state;
    let plain = |text: String| vec![Span::raw(text)];
    let mut facts: Vec<Piece> = vec![
        vec![Span::styled("Troika", theme.strong())],
        vec![
            Span::raw("policy "),
            Span::styled(clean(&state.policy), theme.strong()),
        ],
        plain(match state.power {
            Power::Mains => "mains".to_owned(),
            Power::Battery { percent } => match percent {
                Some(percent) => format!("battery {percent:.0} %"),
                None => "battery".to_owned(),
            },
        }),
        plain(watts(&state.devices)),
        plain(format!("{} at work", state.jobs.len())),
    ];
    facts.extend(state.away.iter().map(|remote| {
        let name = clean(&remote.name);
        match &remote.closed {
            Some(why) => vec![Span::styled(
                format!("{name}: {}", clean(why)),
                theme.warning(),
            )],
            None => plain(format!("{name}: {} there", remote.jobs)),
        }
    }));
    if let Some(watts) = state.machine_watts {
        facts.push(plain(format!("{} W of the whole machine", short(watts))));
    }
    if let Some(name) = &state.posing {
        facts.push(plain(format!("virtual devices: poses as {}", clean(name))));
    }
    if let Some(budget) = state.budget {
        let text = format!(
            "{} of {} Wh today",
            number(budget.spent),
            number(budget.watt_hours)
        );
        facts.push(match budget.spent >= budget.watt_hours {
            true => vec![Span::styled(text + ", spent", theme.warning())],
            false => plain(text),
        });
    }
    let mut lines = flow(facts, 1, width);
    if let Some(why) = &app.lost {
        let text = format!(" No connection, this is how it was: {}", clean(why));
        lines.push(Line::styled(cut(&text, width), theme.bad()));
    }
    if let Some(note) = &app.note {
        lines.push(Line::raw(cut(&format!(" {}", clean(note)), width)));
    }
    lines.push(Line::default());
    lines
}

/// The watts of all devices together.
fn watts(devices: &[Device]) -> String {
    let known = devices.iter();
    let known = known.filter(|device| device.watts_source != Some(JoulesSource::Unknown));
    let known: Vec<_> = known.collect();
    if known.is_empty() && !devices.is_empty() {
        return "watts unknown".to_owned();
    }
    let sum: f64 = known.iter().map(|device| device.watts).sum();
    let first = known.first().and_then(|device| device.watts_source);
    let is_one = known.iter().all(|device| device.watts_source == first);
    let from = if is_one {
        first
    } else {
        Some(JoulesSource::Mixed)
    };
    let whose = if known.len() < devices.len() {
        " of the devices that tell"
    } else {
        ""
    };
    format!("{} W {}{whose}", short(sum), source(from))
}

/// Queues, devices, pools; and in which row the selected job is.
fn body(app: &App, theme: Theme, width: usize) -> (Vec<Line<'static>>, Option<usize>) {
    let mut lines = queues(app, theme, width);
    let mut selected = None;
    for device in &app.state.devices {
        lines.push(Line::default());
        lines.extend(about(app, device, theme, width));
        for job in app.state.jobs.iter().filter(|job| job.device == device.id) {
            let is_selected = app.selected == Some(job.job);
            if is_selected {
                selected = Some(lines.len());
            }
            lines.push(job_line(app, job, is_selected, theme, width));
        }
    }
    for pool in &app.state.pools {
        lines.push(Line::default());
        lines.extend(memory(pool, theme, width));
    }
    (lines, selected)
}

fn queues(app: &App, theme: Theme, width: usize) -> Vec<Line<'static>> {
    let mut pieces = vec![vec![Span::styled("waiting", theme.strong())]];
    pieces.extend(app.state.queues.iter().map(|queue| {
        let oldest = match queue.waiting {
            0 => String::new(),
            _ => format!(", oldest {}", span(queue.oldest_s)),
        };
        let count = format!(" {}{oldest} ({} at work)", queue.waiting, queue.running);
        vec![
            Span::styled(queue.class.name(), theme.class(queue.class)),
            Span::raw(count),
        ]
    }));
    flow(pieces, 1, width)
}

/// A device, without its jobs.
fn about(app: &App, device: &Device, theme: Theme, width: usize) -> Vec<Line<'static>> {
    let (word, reason) = device.state();
    let (word, reason) = (clean(word), clean(reason));
    let style = match &*word {
        "ready" => theme.good(),
        "lost" => theme.bad(),
        _ => theme.warning(),
    };
    let heat = match device.heat {
        Heat::Normal => "",
        Heat::Warm => "   warm",
        Heat::Hot => "   HOT, slows down",
    };
    let state_columns = columns(&word) + columns(heat) + 1;
    let (name, kind) = (clean(&device.name), clean(&device.kind).to_uppercase());
    let name = cut(&format!(" {name}"), width.saturating_sub(state_columns));
    let rest = width.saturating_sub(columns(&name) + state_columns);
    let chip = format!("  {kind}  {}", clean(&device.chip));
    // One column stays between it and the state.
    let chip = fitted(&cut(&chip, rest.saturating_sub(1)), rest);
    let mut lines = vec![Line::from(vec![
        Span::styled(name, theme.strong()),
        Span::raw(chip),
        Span::styled(word, style),
        Span::styled(heat, theme.warning()),
    ])];
    if !reason.is_empty() {
        let text = cut(&reason, width.saturating_sub(3));
        lines.push(Line::styled(format!("   {text}"), theme.bad()));
    }
    lines.extend(flow(gauges(app, device), 3, width));
    let room = width.saturating_sub(30).max(12);
    let models = device.models.iter().map(|model| resident(model, room));
    let compiling = app.state.compiling.iter();
    let compiling = compiling.filter(|it| it.device == device.name);
    let compiling = compiling.map(|it| on_its_way(app, it, room));
    let pieces: Vec<_> = models.chain(compiling).collect();
    if !pieces.is_empty() {
        lines.extend(flow(pieces, 3, width));
    }
    lines
}

fn gauges(app: &App, device: &Device) -> Vec<Piece> {
    let rates = app.rates(device.id);
    let rate = |verb, value: Option<f64>| match value {
        Some(value) => format!("{verb} {} tok/s", short(value)),
        None => format!("{verb} - tok/s"),
    };
    let plain = |text: String| vec![Span::raw(text)];
    let beside = match device.beside {
        0 => String::new(),
        n => format!(", {n} always-on"),
    };
    vec![
        plain(format!(
            "busy {} {:>5}{beside}",
            bar(device.busy, 20),
            percent(device.busy)
        )),
        plain(match device.watts_source {
            Some(JoulesSource::Unknown) => "watts unknown".to_owned(),
            from => format!("{} W {}", short(device.watts), source(from)),
        }),
        plain(rate("reads", rates.map(|(read, _)| read))),
        plain(rate("writes", rates.map(|(_, written)| written))),
    ]
}

/// A model that is compiled for the device, and runs elsewhere meanwhile.
fn on_its_way(app: &App, it: &Compiling, room: usize) -> Piece {
    let name = app.state.models.get(&it.model);
    let name = name.map_or_else(|| format!("model {}", it.model), |name| clean(name));
    let state = match &*it.stage {
        "waiting" => "waits for the compiler".to_owned(),
        "compiling" if it.total.0 > 0 => {
            format!(
                "is compiled, {}",
                percent(it.done.0 as f64 / it.total.0 as f64)
            )
        }
        "compiling" => "is compiled".to_owned(),
        "failed" => "does not compile".to_owned(),
        other => clean(other),
    };
    vec![
        Span::raw(cut(&name, room)).bold(),
        Span::raw(format!(" {state}")),
    ]
}

fn resident(model: &Resident, room: usize) -> Piece {
    let name = cut(&clean(&model.name), room);
    let state = match &*model.state {
        "ready" => String::new(),
        state => format!(", {}", clean(state)),
    };
    let cache = match model.pages {
        0 => String::new(),
        pages => {
            let used = f64::from(model.pages_used) / f64::from(pages);
            format!(", cache {}", percent(used))
        }
    };
    vec![
        Span::raw(name).bold(),
        Span::raw(format!(" {}{state}{cache}", model.bytes)),
    ]
}

fn job_line(app: &App, job: &Job, is_selected: bool, theme: Theme, width: usize) -> Line<'static> {
    const CLASS: usize = 11;
    const BAR: usize = 12;
    let [done, all] = job.tokens;
    let phase = match job.phase {
        Phase::Prefill => "reading",
        Phase::Decode => "writing",
    };
    let progress = match all {
        0 => done.to_string(),
        _ => format!("{done} of {all}"),
    };
    let share = f64::from(done) / f64::from(all.max(1));
    let tail = match width < NARROW {
        true => format!(" {phase} {progress}"),
        false => format!(
            " {phase} {} {progress:>15} {:>10}",
            bar(share, BAR),
            span(job.age_s)
        ),
    };
    let model = app.state.models.get(&job.model);
    let model = model.map_or_else(|| format!("model {}", job.model), |name| clean(name));
    let room = width.saturating_sub(3 + CLASS + 1 + columns(&tail));
    let style = match is_selected {
        true => theme.chosen(),
        false => Style::new(),
    };
    Line::from(vec![
        Span::raw(if is_selected { " > " } else { "   " }),
        Span::styled(fitted(job.class.name(), CLASS), theme.class(job.class)),
        Span::raw(format!(" {}", fitted(&model, room))),
        Span::raw(tail),
    ])
    .style(style)
}

/// A pool: a bar of who has what, and the same in words.
fn memory(pool: &Pool, theme: Theme, width: usize) -> Vec<Line<'static>> {
    let parts = [
        ("models", '█', pool.models),
        ("loading", '▓', pool.loading),
        ("other programs", '▒', pool.others),
        ("reserve", '░', pool.reserve),
        ("free", '·', pool.free()),
    ];
    let room = width.saturating_sub(2);
    let mut drawn = String::from(" ");
    let mut sum = Bytes(0);
    let end = |sum: Bytes| {
        let share = sum.0 as f64 / pool.capacity.0.max(1) as f64;
        ((share * room as f64).round() as usize).min(room)
    };
    for (_, mark, bytes) in parts {
        let from = end(sum);
        sum += bytes;
        drawn.extend(std::iter::repeat_n(mark, end(sum) - from));
    }
    let heading = format!("memory {}", cut(&clean(&pool.name), 20));
    let mut pieces = vec![vec![
        Span::styled(heading, theme.strong()),
        Span::raw(format!(" {}", pool.capacity)),
    ]];
    pieces.extend(
        parts
            .iter()
            .map(|(name, mark, bytes)| vec![Span::raw(format!("{mark} {name} {bytes}"))]),
    );
    let mut lines = flow(pieces, 1, width);
    lines.push(Line::raw(drawn));
    let over = sum.0.saturating_sub(pool.capacity.0);
    if over > 0 {
        let text = format!(" {} more is taken or reserved than there is", Bytes(over));
        lines.push(Line::styled(cut(&text, width), theme.bad()));
    }
    lines
}

/// A number with three digits; nothing is a plain 0.
fn short(value: f64) -> String {
    match value {
        0.0 => "0".to_owned(),
        value => number(value),
    }
}

#[cfg(test)]
mod tests;
