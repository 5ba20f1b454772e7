//! Frames of states that were made up, as a terminal shows them.

use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::KeyCode;
use troika_scheduler::JoulesSource;

use super::super::view::{State, fixtures};
use super::*;

/// A frame as a terminal of this size shows it, without colours.
fn frame(app: &App, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    let theme = Theme { colours: true };
    terminal
        .draw(|frame| draw(app, theme, frame.area(), frame.buffer_mut()))
        .unwrap();
    let shown = terminal.backend().to_string();
    let rows = shown.lines().map(|row| row.trim_matches('"').trim_end());
    rows.collect::<Vec<_>>().join("\n")
}

/// An app that has seen two seconds of a state.
fn app(state: State) -> App {
    let mut later = state.clone();
    later.at += Duration::from_secs(2);
    for device in &mut later.devices {
        device.prefill_tokens += (device.busy * 600.0) as u64;
        device.decode_tokens += (device.busy * 50.0) as u64;
    }
    let mut app = App::new(state);
    app.see(later);
    app
}

fn pressed(mut app: App, codes: &[KeyCode]) -> App {
    for code in codes {
        app.press((*code).into());
    }
    app
}

#[test]
fn a_busy_machine() {
    let app = pressed(app(fixtures::busy()), &[KeyCode::Char('j'); 3]);
    insta::assert_snapshot!("wide", frame(&app, 110, 34));
    insta::assert_snapshot!("narrow", frame(&app, 46, 44));
}

#[test]
fn a_machine_that_has_just_begun() {
    insta::assert_snapshot!("empty", frame(&app(fixtures::empty()), 80, 14));
}

#[test]
fn lost_devices_and_hostile_names() {
    let shown = frame(&app(fixtures::odd()), 90, 24);
    let harmful = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
    assert!(!shown.contains(harmful), "{shown:?}");
    insta::assert_snapshot!("odd", shown);
}

#[test]
fn a_server_that_is_gone() {
    let mut app = app(fixtures::busy());
    app.lost = Some("no server answers at http://127.0.0.1:11435".to_owned());
    let shown = frame(&app, 100, 6);
    assert!(
        shown.contains("No connection, this is how it was: no server answers"),
        "{shown}"
    );
}

#[test]
fn the_menu_and_the_reasons_lie_over_it() {
    let menu = pressed(app(fixtures::busy()), &[KeyCode::Char('p'), KeyCode::Down]);
    insta::assert_snapshot!("policies", frame(&menu, 100, 16));
    let codes = [KeyCode::Char('j'), KeyCode::Enter];
    let mut why = pressed(app(fixtures::busy()), &codes);
    assert!(frame(&why, 100, 20).contains("asking …"));
    why.placed(Ok(fixtures::placements()));
    insta::assert_snapshot!("why", frame(&why, 118, 16));
}

#[test]
fn a_request_that_is_done_has_an_account() {
    insta::assert_snapshot!("done", told(&fixtures::done()));
    assert!(told(&fixtures::placements()).starts_with("Job 404, embeddinggemma, in progress"));
}

#[test]
fn joules_that_nobody_knows_are_not_told() {
    let mut done = fixtures::done();
    let account = done[0].account.as_mut().expect("it is done");
    (account.joules, account.joules_source) = (None, JoulesSource::Unknown);
    account.spans[0].joules = None;
    let shown = told(&done);
    let cells = |name: &str| -> Vec<String> {
        let line = shown.lines().find(|line| line.starts_with(name));
        let cells = line.expect(name).split_whitespace();
        cells.map(str::to_owned).collect()
    };
    assert!(cells("joules, unknown").ends_with(&["-", "-", "-"].map(str::to_owned)));
    assert_eq!(
        cells("cpu0").last().map(|joules| &**joules),
        Some("-"),
        "{shown}"
    );
    assert_eq!(
        cells("gpu0").last().map(|joules| &**joules),
        Some("9.40"),
        "{shown}"
    );
}

#[test]
fn the_selected_job_is_in_sight() {
    let mut codes = vec![KeyCode::Char('j')];
    let at = |codes: &[KeyCode]| frame(&pressed(app(fixtures::busy()), codes), 100, 9);
    for _ in 0..5 {
        let shown = at(&codes);
        assert_eq!(shown.matches(" > ").count(), 1, "{shown}");
        codes.push(KeyCode::Char('j'));
    }
}

#[test]
fn what_is_below_the_screen_is_a_page_away() {
    let app = pressed(app(fixtures::busy()), &[KeyCode::PageDown; 9]);
    assert!(frame(&app, 60, 14).contains("· free 7.7 GiB"));
    let app = pressed(app, &[KeyCode::PageUp; 9]);
    assert!(frame(&app, 60, 14).contains("Intel Core Ultra"));
}

#[test]
fn no_size_is_too_small() {
    for state in [fixtures::busy(), fixtures::odd(), fixtures::empty()] {
        for codes in [
            &[][..],
            &[KeyCode::Char('p')],
            &[KeyCode::Char('j'), KeyCode::Enter],
        ] {
            let mut app = pressed(app(state.clone()), codes);
            app.placed(Ok(fixtures::placements()));
            for (width, height) in [(1, 1), (2, 9), (10, 3), (30, 2), (300, 100)] {
                frame(&app, width, height);
            }
        }
    }
}

#[test]
fn for_scripts_there_is_plain_text() {
    insta::assert_snapshot!("once", text(&App::new(fixtures::busy()), 100));
}
