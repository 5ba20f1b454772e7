//! What is on the screen, and what keys do to it. It neither draws nor asks.

use std::collections::VecDeque;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use troika_scheduler::{DeviceId, JobId, Policy};

use super::view::{Job, Placement, State};

/// Over how many seconds speeds are taken: long enough to be read, short enough to be now.
const RATE_S: f64 = 4.0;
/// How far a page key goes: less than any screen that can be read has.
const PAGE_ROWS: usize = 6;
/// No machine has more to show.
const SCROLL_MAX: usize = 10_000;

/// Everything that is on the screen.
#[derive(Debug)]
pub(super) struct App {
    pub(super) state: State,
    /// Why the state is not of now.
    pub(super) lost: Option<String>,
    /// What came of the last thing that was asked for.
    pub(super) note: Option<String>,
    pub(super) selected: Option<JobId>,
    /// Rows of the devices that are above the screen, at least.
    pub(super) scroll: usize,
    pub(super) over: Over,
    past: VecDeque<Counters>,
}

/// What lies over the devices.
#[derive(Debug)]
pub(super) enum Over {
    Nothing,
    /// The menu of policies, with the one that is chosen.
    Policies(usize),
    /// Why a job is where it is.
    Why {
        job: Box<Job>,
        /// `None` until the server has answered.
        found: Option<Result<Box<Placement>, String>>,
    },
}

/// What the devices had done by then.
#[derive(Debug)]
struct Counters {
    at_s: f64,
    /// Tokens that each read and wrote.
    tokens: Vec<(DeviceId, u64, u64)>,
}

/// What a key asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Quit,
    Interrupt,
    Policy(&'static str),
    /// How the jobs of this request were placed.
    Placements(String),
}

/// The policies that can be chosen, each by its first name.
pub(super) fn policies() -> Vec<&'static str> {
    let is_first = |name: &&str| {
        name.parse::<Policy>()
            .is_ok_and(|policy| policy.name() == *name)
    };
    Policy::names().filter(is_first).collect()
}

impl App {
    pub(super) fn new(state: State) -> Self {
        let mut app = Self {
            state: state.clone(),
            lost: None,
            note: None,
            selected: None,
            scroll: 0,
            over: Over::Nothing,
            past: VecDeque::new(),
        };
        app.see(state);
        app
    }

    /// Takes in a newer state.
    pub(super) fn see(&mut self, state: State) {
        let at_s = state.at.seconds();
        // The server's clock began anew.
        if self.past.back().is_some_and(|last| last.at_s > at_s) {
            self.past.clear();
        }
        let tokens = state.devices.iter();
        let tokens = tokens.map(|device| (device.id, device.prefill_tokens, device.decode_tokens));
        self.past.push_back(Counters {
            at_s,
            tokens: tokens.collect(),
        });
        while self
            .past
            .front()
            .is_some_and(|old| old.at_s < at_s - RATE_S)
        {
            self.past.pop_front();
        }
        self.selected = self
            .selected
            .filter(|job| state.jobs.iter().any(|it| it.job == *job));
        self.lost = None;
        self.state = state;
    }

    /// Tokens a second that a device read and wrote of late; `None` while that is not known.
    pub(super) fn rates(&self, device: DeviceId) -> Option<(f64, f64)> {
        let find = |counters: &Counters| {
            let found = counters.tokens.iter().find(|(id, ..)| *id == device);
            found.map(|&(_, read, written)| (counters.at_s, read, written))
        };
        let (begin, read_before, written_before) = self.past.iter().find_map(find)?;
        let (end, read, written) = self.past.back().and_then(find)?;
        let passed = end - begin;
        let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / passed;
        (passed > 0.3).then(|| (rate(read, read_before), rate(written, written_before)))
    }

    /// Takes in how jobs were placed that were asked about.
    pub(super) fn placed(&mut self, answer: Result<Vec<Placement>, String>) {
        let Over::Why { job, found } = &mut self.over else {
            return;
        };
        let about = |placement: &Placement| {
            let mut decisions = placement.decisions.iter();
            decisions.any(|decision| decision.job == job.job)
        };
        *found = Some(answer.and_then(|all| {
            let placement = all.into_iter().find(about);
            let placement = placement.map(Box::new);
            placement.ok_or_else(|| "the server does not know it any more".to_owned())
        }));
    }

    /// Does what a key says, and returns what it asks of others.
    pub(super) fn press(&mut self, key: KeyEvent) -> Option<Wish> {
        if key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL) {
            return Some(Wish::Interrupt);
        }
        self.note = None;
        match (&self.over, key.code) {
            (Over::Nothing, KeyCode::Char('q') | KeyCode::Esc) => return Some(Wish::Quit),
            (_, KeyCode::Char('q') | KeyCode::Esc) => self.over = Over::Nothing,
            (Over::Policies(at), code) => return self.choose(*at, code),
            (Over::Why { .. }, KeyCode::Enter) => self.over = Over::Nothing,
            (_, KeyCode::Char('p')) => {
                let now = policies()
                    .iter()
                    .position(|name| *name == self.state.policy);
                self.over = Over::Policies(now.unwrap_or(0));
            }
            (Over::Nothing, KeyCode::Char('j') | KeyCode::Down) => self.select(1),
            (Over::Nothing, KeyCode::Char('k') | KeyCode::Up) => self.select(-1),
            (Over::Nothing, KeyCode::PageDown | KeyCode::Char(' ')) => {
                self.scroll = self.scroll.saturating_add(PAGE_ROWS).min(SCROLL_MAX);
            }
            (Over::Nothing, KeyCode::PageUp) => {
                self.scroll = self.scroll.saturating_sub(PAGE_ROWS);
            }
            (Over::Nothing, KeyCode::Enter) => return self.ask_why(),
            _ => {}
        }
        None
    }

    /// A key in the menu of policies.
    fn choose(&mut self, at: usize, code: KeyCode) -> Option<Wish> {
        let names = policies();
        let to = match code {
            KeyCode::Char('j') | KeyCode::Down => (at + 1) % names.len(),
            KeyCode::Char('k') | KeyCode::Up => (at + names.len() - 1) % names.len(),
            KeyCode::Enter => {
                self.over = Over::Nothing;
                return Some(Wish::Policy(names[at]));
            }
            KeyCode::Char('p') => {
                self.over = Over::Nothing;
                return None;
            }
            _ => at,
        };
        self.over = Over::Policies(to);
        None
    }

    /// Selects the next job, or the one before, in the order of the screen.
    fn select(&mut self, step: isize) {
        let shown: Vec<_> = self.shown_jobs().map(|job| job.job).collect();
        if shown.is_empty() {
            return;
        }
        let now = self
            .selected
            .and_then(|job| shown.iter().position(|it| *it == job));
        let to = match now {
            Some(now) => now.saturating_add_signed(step).min(shown.len() - 1),
            None if step > 0 => 0,
            None => shown.len() - 1,
        };
        self.selected = Some(shown[to]);
        self.scroll = 0;
    }

    /// The jobs in the order of the screen: by device.
    fn shown_jobs(&self) -> impl Iterator<Item = &Job> {
        let devices = self.state.devices.iter();
        devices.flat_map(|device| self.state.jobs.iter().filter(|job| job.device == device.id))
    }

    fn ask_why(&mut self) -> Option<Wish> {
        let selected = self.selected?;
        let job = self.state.jobs.iter().find(|job| job.job == selected)?;
        let request = self.state.requests.get(&selected.0).cloned();
        let unknown = || Err("the server does not say which request it belongs to".to_owned());
        self.over = Over::Why {
            job: Box::new(job.clone()),
            found: request.is_none().then(unknown),
        };
        request.map(Wish::Placements)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::top::view::fixtures;

    fn press(app: &mut App, codes: &[KeyCode]) -> Option<Wish> {
        let mut wish = None;
        for code in codes {
            wish = app.press((*code).into());
        }
        wish
    }

    #[test]
    fn keys_walk_over_the_jobs_in_the_order_of_the_screen() {
        let mut app = App::new(fixtures::busy());
        let (down, up) = (KeyCode::Char('j'), KeyCode::Char('k'));
        let mut walk = |codes: &[KeyCode]| {
            press(&mut app, codes);
            app.selected.map(|job| job.0)
        };
        assert_eq!(walk(&[]), None);
        assert_eq!(walk(&[down]), Some(404));
        assert_eq!(walk(&[down, KeyCode::Down]), Some(405));
        assert_eq!(walk(&[down; 20]), Some(402));
        assert_eq!(walk(&[up; 20]), Some(404));
        let mut state = app.state.clone();
        state.jobs.clear();
        app.see(state);
        assert_eq!(app.selected, None, "it is done");
        assert_eq!(press(&mut app, &[down, KeyCode::Enter]), None);
    }

    #[test]
    fn why_is_asked_by_the_request() {
        let mut app = App::new(fixtures::busy());
        let wish = press(&mut app, &[KeyCode::Char('j'), KeyCode::Enter]);
        assert_eq!(wish, Some(Wish::Placements("req-404".to_owned())));
        app.placed(Ok(fixtures::placements()));
        assert!(matches!(
            &app.over,
            Over::Why {
                found: Some(Ok(_)),
                ..
            }
        ));
        assert_eq!(press(&mut app, &[KeyCode::Esc]), None);
        assert!(matches!(app.over, Over::Nothing));
        assert_eq!(press(&mut app, &[KeyCode::Esc]), Some(Wish::Quit));
        let wish = press(&mut app, &[KeyCode::Char('j'), KeyCode::Enter]);
        assert_eq!(wish, Some(Wish::Placements("req-401".to_owned())));
        app.placed(Ok(fixtures::placements()));
        assert!(matches!(
            &app.over,
            Over::Why {
                found: Some(Err(_)),
                ..
            }
        ));
    }

    #[test]
    fn the_menu_begins_with_the_policy_of_now() {
        let mut app = App::new(fixtures::busy());
        assert_eq!(policies().len(), 8);
        let codes = [KeyCode::Char('p'), KeyCode::Enter];
        assert_eq!(press(&mut app, &codes), Some(Wish::Policy("balanced")));
        let codes = [KeyCode::Char('p'), KeyCode::Down, KeyCode::Enter];
        assert_eq!(press(&mut app, &codes), Some(Wish::Policy("cool")));
        let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(app.press(control_c), Some(Wish::Interrupt));
    }

    #[test]
    fn speeds_are_those_of_the_last_seconds() {
        let mut app = App::new(fixtures::busy());
        let gpu = app.state.devices[1].id;
        assert_eq!(app.rates(gpu), None, "one state tells no speed");
        for _ in 0..20 {
            let mut state = app.state.clone();
            state.at += std::time::Duration::from_millis(500);
            state.devices[1].prefill_tokens += 100;
            state.devices[1].decode_tokens += 11;
            app.see(state);
        }
        let (read, written) = app.rates(gpu).expect("is known");
        assert!((read - 200.0).abs() < 1e-6 && (written - 22.0).abs() < 1e-6);
        app.see(fixtures::empty());
        assert_eq!(app.rates(gpu), None, "another server");
    }
}
