//! A job as a fixed scheduler knows it, and its account.

use troika_scheduler::{Account, DeviceId, JobSpec, JoulesSource, Phase, Span, Time, Work};

/// An answer of a job.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    pub(super) known: u32,
    pub(super) held: u32,
    pub(super) has_ended: bool,
}

/// A job.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) spec: JobSpec,
    pub(super) arrived: Time,
    pub(super) device: Option<DeviceId>,
    pub(super) is_started: bool,
    pub(super) pages: u32,
    pub(super) answers: Vec<Answer>,
    pub(super) first_step: Option<Time>,
    pub(super) first_token: Option<Time>,
    pub(super) account: Account,
}

impl Job {
    pub(super) fn n(&self) -> usize {
        match self.spec.work {
            Work::Write { n, .. } => n as usize,
            _ => 1,
        }
    }

    /// Adds its share of a step to its account.
    pub(super) fn charge(&mut self, span: Span, source: JoulesSource) {
        let account = &mut self.account;
        account.joules_source = match account.spans.is_empty() {
            true => source,
            false => account.joules_source.and(source),
        };
        if span.phase == Phase::Prefill {
            account.prefill_tokens += span.tokens;
        }
        match account.spans.last_mut() {
            Some(last) if last.phase == span.phase => {
                last.add(&span);
            }
            _ => account.spans.push(span),
        }
    }

    pub(super) fn wrote(&mut self, choice: u32, has_ended: bool, now: Time) {
        let writes = matches!(self.spec.work, Work::Write { .. });
        if self.first_token.is_none() {
            self.first_token = Some(now);
            for _ in 1..self.n() {
                self.answers.push(self.answers[0]);
            }
        }
        if let Some(answer) = self.answers.get_mut(choice as usize) {
            answer.known += u32::from(writes);
            answer.has_ended |= has_ended;
        }
        self.account.decode_tokens += u64::from(writes);
    }

    pub(super) fn close(&self, now: Time) -> Account {
        let seconds = |from: Option<Time>, to: Option<Time>| match (from, to) {
            (Some(from), Some(to)) => (to - from).as_secs_f64(),
            _ => 0.0,
        };
        Account {
            queue_s: seconds(Some(self.arrived), self.first_step),
            ttft_s: self
                .first_token
                .map(|first| (first - self.arrived).as_secs_f64()),
            prefill_s: seconds(self.first_step, self.first_token),
            decode_s: seconds(self.first_token, Some(now)),
            joules: self.account.spans.iter().map(|span| span.joules).sum(),
            ..self.account.clone()
        }
    }
}
