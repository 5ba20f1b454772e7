//! A job while it is under way.

use crate::account::{Account, JoulesSource, Phase, Span};
use crate::job::{DeviceId, JobId, JobSpec, SeqId, Work};
use crate::queue::LaneId;
use crate::{Elsewhere, JobForecast, Time};

/// Where a job is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// In the queue.
    Queued,
    /// On its way to a device.
    Starting(DeviceId),
    /// On a device.
    Running(DeviceId),
    /// On its way from one device to another.
    Moving { from: DeviceId, to: DeviceId },
    /// At an endpoint beyond this machine.
    Away(DeviceId),
}

impl Place {
    /// The device of this machine that it is on, or on its way to.
    pub(crate) fn device(self) -> Option<DeviceId> {
        match self {
            Self::Queued | Self::Away(_) => None,
            Self::Starting(device) | Self::Running(device) => Some(device),
            Self::Moving { to, .. } => Some(to),
        }
    }

    /// The devices of this machine that have to do with it.
    pub(crate) fn devices(self) -> [Option<DeviceId>; 2] {
        match self {
            Self::Queued | Self::Away(_) => [None, None],
            Self::Starting(device) | Self::Running(device) => [Some(device), None],
            Self::Moving { from, to } => [Some(from), Some(to)],
        }
    }
}

/// One answer of a job.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    /// Tokens of prompt and answer so far.
    pub(crate) known: u32,
    /// Whether it has ended.
    pub(crate) has_ended: bool,
    /// Tokens that were in its cache when it set out for another device.
    pub(crate) held: u32,
    /// Whether its cache was given up while the job's other answers run on.
    pub(crate) is_parked: bool,
}

/// A job while it is under way.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) spec: JobSpec,
    pub(crate) arrived: Time,
    /// When it began to wait, this time.
    pub(crate) queued: Time,
    pub(crate) place: Place,
    /// Its answers; only the first one until the prompt is read.
    pub(crate) answers: Vec<Answer>,
    /// Where its answers are to be written, if not where its prompt is read.
    pub(crate) decode_on: Option<DeviceId>,
    /// When it came to where it is.
    pub(crate) placed: Time,
    /// Seconds of work that it was counted with in the queue.
    pub(crate) cost_s: f64,
    /// Devices that failed it.
    pub(crate) failed_on: Vec<DeviceId>,
    /// Why the last one did.
    pub(crate) failure: String,
    /// Endpoints that failed it, each with why: it does not go there again.
    pub(crate) struck: Vec<(DeviceId, String)>,
    pub(crate) first_step: Option<Time>,
    pub(crate) first_token: Option<Time>,
    pub(crate) last_token: Option<Time>,
    pub(crate) account: Account,
    /// How its joules were found so far.
    joules_source: Option<JoulesSource>,
}

impl Job {
    pub(crate) fn new(spec: JobSpec, now: Time) -> Self {
        Self {
            arrived: now,
            queued: now,
            place: Place::Queued,
            answers: vec![Answer {
                known: spec.prompt_tokens,
                has_ended: false,
                held: 0,
                is_parked: false,
            }],
            decode_on: None,
            placed: now,
            cost_s: 0.0,
            failed_on: Vec::new(),
            failure: String::new(),
            struck: Vec::new(),
            first_step: None,
            first_token: None,
            last_token: None,
            account: Account::default(),
            joules_source: None,
            spec,
        }
    }

    /// Where it waits: with those that may leave this machine, or with those that stay.
    pub(crate) fn lane(&self) -> LaneId {
        let may_leave = !self.spec.elsewhere.is_empty();
        LaneId::new(self.spec.class, self.spec.model, may_leave)
    }

    /// The endpoints that it may go to now: none once something was written of it, since nobody else could go on from there.
    pub(crate) fn elsewhere(&self) -> &[Elsewhere] {
        match self.has_parted() || self.spec.work == Work::Load {
            true => &[],
            false => &self.spec.elsewhere,
        }
    }

    /// Answers that it writes.
    pub(crate) fn n(&self) -> u32 {
        match self.spec.work {
            Work::Write { n, .. } => n.max(1),
            Work::Embed | Work::Load => 1,
        }
    }

    /// Tokens of each answer at most.
    pub(crate) fn max_tokens(&self) -> u32 {
        match self.spec.work {
            Work::Write { max_tokens, .. } => max_tokens,
            Work::Embed | Work::Load => 0,
        }
    }

    /// Whether the prompt is read and its answers have parted.
    pub(crate) fn has_parted(&self) -> bool {
        self.first_token.is_some()
    }

    /// Its sequences that have not ended.
    pub(crate) fn open(&self, id: JobId) -> impl Iterator<Item = (SeqId, Answer)> {
        let answers = self.answers.iter().enumerate();
        let open = answers.filter(|(_, answer)| !answer.has_ended);
        open.map(move |(choice, answer)| (seq(id, choice), *answer))
    }

    /// Tokens that its open answers know, together: what has to be computed if nothing is cached.
    pub(crate) fn known(&self) -> u32 {
        let open = self.answers.iter().filter(|answer| !answer.has_ended);
        open.map(|answer| answer.known).sum()
    }

    /// Tokens written so far by its longest answer.
    pub(crate) fn written(&self) -> u32 {
        let longest = self.answers.iter().map(|answer| answer.known).max();
        longest.unwrap_or(0).saturating_sub(self.spec.prompt_tokens)
    }

    /// What it does.
    pub(crate) fn phase(&self) -> Phase {
        match self.first_token {
            Some(_) => Phase::Decode,
            None => Phase::Prefill,
        }
    }

    /// Adds its share of a step to its account.
    pub(crate) fn charge(&mut self, span: Span, source: JoulesSource) {
        let before = self.joules_source.unwrap_or(source);
        self.joules_source = Some(before.and(source));
        let account = &mut self.account;
        match span.phase {
            Phase::Prefill => account.prefill_tokens += span.tokens,
            // Tokens are counted when they are written.
            Phase::Decode => {}
        }
        match account.spans.last_mut() {
            Some(last) if last.device == span.device && last.phase == span.phase => {
                last.add(&span);
            }
            _ => account.spans.push(span),
        }
    }

    /// Its account as it stands.
    pub(crate) fn close(&self) -> Account {
        let seconds = |from: Option<Time>, to: Option<Time>| match (from, to) {
            (Some(from), Some(to)) => (to - from).as_secs_f64(),
            _ => 0.0,
        };
        Account {
            queue_s: seconds(Some(self.arrived), self.first_step),
            ttft_s: self.first_token.map(|at| (at - self.arrived).as_secs_f64()),
            prefill_s: seconds(self.first_step, self.first_token),
            decode_s: seconds(self.first_token, self.last_token),
            // Nothing was used for what no step was taken for.
            joules: self.account.spans.iter().map(|span| span.joules).sum(),
            joules_source: self.joules_source.unwrap_or(JoulesSource::Estimated),
            ..self.account.clone()
        }
    }

    /// Takes note of what was expected when it was placed; the first time counts.
    pub(crate) fn expect(&mut self, forecast: JobForecast) {
        self.account.expected.get_or_insert(forecast);
    }
}

/// An answer's sequence.
pub(crate) fn seq(job: JobId, choice: usize) -> SeqId {
    SeqId {
        job,
        choice: choice as u32,
    }
}
