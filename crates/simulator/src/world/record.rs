//! What is written down: jobs as they end, spans of devices, joules.

use std::time::Duration;

use troika_scheduler::{Account, Class, JobId, Time, Work};

use crate::log::{Arrival, Outcome, Span, State};

/// An answer of a job.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    /// Tokens that it will have.
    goal: u32,
    pub(super) written: u32,
    pub(super) has_ended: bool,
    last_token: Option<Time>,
}

/// A job, as those know it who carry it out.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) prompt: u32,
    /// One until the prompt is read, then all of them.
    pub(super) answers: Vec<Answer>,
    n: u32,
    goal: u32,
    is_vector: bool,
    pub(super) came: Option<Time>,
    first: Option<Time>,
    gaps_s: Vec<f32>,
    pub(super) end: Option<(State, Time)>,
    pub(super) account: Option<Account>,
}

impl Job {
    pub(super) fn new(arrival: &Arrival) -> Self {
        let (n, goal) = match arrival.work {
            Work::Write { n, max_tokens } => (n.max(1), max_tokens.max(1)),
            _ => (1, 1),
        };
        Self {
            prompt: arrival.prompt_tokens.max(1),
            answers: vec![Answer::new(goal)],
            n,
            goal,
            is_vector: arrival.work == Work::Embed,
            came: None,
            first: None,
            gaps_s: Vec::new(),
            end: None,
            account: None,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.end.is_none()
    }

    /// Whether all its answers are sequences of their own by now.
    pub(super) fn has_parted(&self) -> bool {
        self.first.is_some()
    }

    /// Tokens that an answer knows: the prompt and what it wrote.
    pub(super) fn known(&self, choice: u32) -> u32 {
        let answer = self.answers.get(choice as usize);
        self.prompt + answer.map_or(0, |answer| answer.written)
    }

    /// The prompt is read: its answers part. Returns the numbers of those that are new.
    pub(super) fn part(&mut self, now: Time) -> std::ops::Range<u32> {
        self.first = Some(now);
        for choice in 1..self.n {
            // Answers to one prompt are of unlike length.
            let goal = self.goal - self.goal / 8 * (choice % 5);
            self.answers.push(Answer::new(goal.max(1)));
        }
        1..self.n
    }

    /// An answer writes a token, or its vector is done. Returns whether it has ended.
    pub(super) fn write(&mut self, choice: u32, n_ctx: u32, now: Time) -> bool {
        let (is_vector, prompt) = (self.is_vector, self.prompt);
        let answer = &mut self.answers[choice as usize];
        if !is_vector {
            answer.written += 1;
        }
        if let Some(last) = answer.last_token.replace(now) {
            self.gaps_s.push((now - last).as_secs_f64() as f32);
        }
        let is_full = prompt + answer.written >= n_ctx;
        answer.has_ended = is_vector || answer.written >= answer.goal || is_full;
        answer.has_ended
    }

    /// Tokens of its longest answer.
    pub(super) fn goal_longest(&self) -> u32 {
        if self.is_vector { 0 } else { self.goal }
    }

    /// It was answered elsewhere, so much of it, evenly from its first token to now. Returns the tokens of it.
    pub(super) fn written_away(&mut self, first: Time, now: Time, share: f64) -> u32 {
        self.part(first);
        if self.is_vector {
            self.answers[0].has_ended = true;
            return 0;
        }
        let span_s = (now - first).as_secs_f64();
        for answer in &mut self.answers {
            answer.written = ((f64::from(answer.goal) * share) as u32).max(1);
            answer.has_ended = true;
            let gaps = answer.written - 1;
            let gap_s = (span_s / f64::from(answer.written)) as f32;
            self.gaps_s.extend((0..gaps).map(|_| gap_s));
        }
        self.answers.iter().map(|answer| answer.written).sum()
    }

    pub(super) fn outcome(self, arrival: &Arrival, now: Time) -> Outcome {
        let (state, end) = self.end.unwrap_or((State::Open, now));
        Outcome {
            at: arrival.at,
            model: arrival.model.clone(),
            class: arrival.class,
            prompt_tokens: arrival.prompt_tokens,
            state,
            end,
            ttft_s: self.first.map(|first| (first - arrival.at).as_secs_f64()),
            gaps_s: self.gaps_s,
            tokens: self.answers.iter().map(|answer| answer.written).sum(),
            account: self.account,
        }
    }
}

impl Answer {
    fn new(goal: u32) -> Self {
        Self {
            goal,
            written: 0,
            has_ended: false,
            last_token: None,
        }
    }
}

/// The job's place among the arrivals.
pub(super) fn index(job: JobId) -> usize {
    job.0 as usize
}

/// Spans nearer to each other than this are one.
const GAP: Duration = Duration::from_millis(1);

/// The spans of all devices. Those of one device come in order, but for loads, which run beside steps.
#[derive(Debug, Default)]
pub(super) struct Spans {
    all: Vec<Span>,
    /// The last span of each device, by its place in `all`.
    last: Vec<Option<usize>>,
}

impl Spans {
    pub(super) fn new(devices: usize) -> Self {
        Self {
            all: Vec::new(),
            last: vec![None; devices],
        }
    }

    /// Adds a span, to the one before it if that is of the same kind.
    pub(super) fn add(&mut self, span: Span) {
        let last = &mut self.last[usize::from(span.device)];
        if let Some(before) = last.map(|at| &mut self.all[at])
            && is_alike(before, &span)
        {
            let (had, more) = (before.to - before.from, span.to - span.from);
            let total = (had + more).as_secs_f64().max(1e-9);
            let joules = before.watts * had.as_secs_f64() + span.watts * more.as_secs_f64();
            before.watts = joules / total;
            before.to = before.to.max(span.to);
            return;
        }
        *last = Some(self.all.len());
        self.all.push(span);
    }

    pub(super) fn finish(mut self) -> Vec<Span> {
        self.all.sort_by_key(|span| (span.from, span.device));
        self.all
    }
}

fn is_alike(a: &Span, b: &Span) -> bool {
    (a.kind, a.class, &a.model) == (b.kind, b.class, &b.model)
        && b.from >= a.from
        && b.from - a.to <= GAP
}

/// The most urgent class of some.
pub(super) fn most_urgent(classes: impl Iterator<Item = Class>) -> Option<Class> {
    classes.max()
}
