//! What a job took in the end, beside what was expected of it when it was placed.

use ratatui::text::Line;
use troika_scheduler::{Account, JobForecast, Phase, Span};

use super::overlay::device_name;
use super::text::{Theme, fitted, source, span};
use crate::output::number;

/// The account in lines, an empty one last.
pub(super) fn lines(account: &Account, devices: &[String], theme: Theme) -> Vec<Line<'static>> {
    let heading = |text: String| Line::styled(text, theme.soft());
    let mut lines = vec![heading(format!(
        "{}{:>10}{:>10}{:>12}",
        fitted("what it took", 24),
        "expected",
        "actual",
        "of expected"
    ))];
    lines.extend(compared(account));
    lines.push(Line::default());
    lines.push(heading(format!(
        "{}{:>10}{:>10}{:>12}{:>10}",
        fitted("on", 14),
        "doing",
        "tokens",
        "its time",
        "joules"
    )));
    lines.extend(account.spans.iter().map(|it| spent(it, devices)));
    let turns = [
        ("moved or gave way", account.moves),
        ("prompt read again", account.replays),
    ];
    let turns = turns.iter().filter(|(_, count)| *count > 0);
    lines.extend(turns.map(|(what, count)| {
        Line::raw(match count {
            1 => format!("{what} once"),
            _ => format!("{what} {count} times"),
        })
    }));
    lines.push(Line::default());
    lines
}

/// Expected and actual, side by side.
fn compared(account: &Account) -> Vec<Line<'static>> {
    let expected = |value: fn(&JobForecast) -> f64| account.expected.as_ref().map(value);
    // Without watts there is no estimate of joules either.
    let joules_expected = account
        .joules
        .and_then(|_| account.expected.as_ref()?.joules);
    let time = |name, expected, actual| row(name, expected, actual, span);
    let joules = match account.joules {
        Some(_) => format!("joules, {}", source(Some(account.joules_source))),
        None => "joules, unknown".to_owned(),
    };
    vec![
        time(
            "until its first step",
            expected(|it| it.wait_s + it.load_s),
            Some(account.queue_s),
        ),
        time(
            "reading",
            expected(|it| it.prefill_s),
            Some(account.prefill_s),
        ),
        time(
            "first token after",
            expected(JobForecast::ttft_s),
            account.ttft_s,
        ),
        time(
            "writing",
            expected(|it| it.copy_s + it.decode_s),
            Some(account.decode_s),
        ),
        row(&joules, joules_expected, account.joules, number),
    ]
}

fn row(
    name: &str,
    expected: Option<f64>,
    actual: Option<f64>,
    told: fn(f64) -> String,
) -> Line<'static> {
    let cell = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), told);
    let both = expected.zip(actual).filter(|(e, a)| *e > 0.0 && *a > 0.0);
    let factor = both.map_or_else(
        || "-".to_owned(),
        |(expected, actual)| format!("{} times", number(actual / expected)),
    );
    Line::raw(format!(
        "{}{:>10}{:>10}{factor:>12}",
        fitted(name, 24),
        cell(expected),
        cell(actual)
    ))
}

/// What it did on one device.
fn spent(it: &Span, devices: &[String]) -> Line<'static> {
    let doing = match it.phase {
        Phase::Prefill => "reading",
        Phase::Decode => "writing",
    };
    Line::raw(format!(
        "{}{doing:>10}{:>10}{:>12}{:>10}",
        fitted(&device_name(it.device, devices), 14),
        it.tokens,
        span(it.device_s),
        it.joules.map_or_else(|| "-".to_owned(), number)
    ))
}
