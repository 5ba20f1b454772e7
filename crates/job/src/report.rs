//! What jobs took: tokens, time, energy, and what left the machine.

use std::time::Duration;

use rust_decimal::Decimal;
use troika_scheduler::{Account, Class, Span};

/// A job's numbers, over all answers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Usage {
    /// The tokens of the prompt.
    pub prompt_tokens: usize,
    /// Of these, tokens that were in the prefix cache.
    pub cached_tokens: usize,
    /// Tokens written.
    pub completion_tokens: usize,
    /// Of these, tokens of reasoning.
    pub reasoning_tokens: usize,
    /// Tokens that were guessed ahead, beside those that were written.
    pub drafted_tokens: usize,
    /// Of these, tokens that were right, and took no step of their own.
    pub accepted_tokens: usize,
    /// Time until the model was loaded.
    pub load: Duration,
    /// Time in the queue.
    pub queue: Duration,
    /// Time to read the prompt.
    pub prefill: Duration,
    /// Time to write the answers.
    pub decode: Duration,
    /// Who did it, and what that took.
    pub report: Option<Box<Report>>,
}

/// Who did a job, and what that took.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// How urgent it was; whoever settled its wishes says so.
    pub class: Class,
    /// What it took.
    pub account: Account,
    /// The names of the devices in `account.spans`, in their order.
    pub devices: Vec<String>,
    /// What left this machine for it.
    pub sent: Vec<Sent>,
}

/// A request to a remote endpoint, by its numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The endpoint's name.
    pub to: String,
    /// The rule that let it go.
    pub rule: String,
    /// Bytes of the request's body.
    pub bytes_out: u64,
    /// Bytes of the answer's body.
    pub bytes_in: u64,
    /// What it cost; `None` where the price is not known.
    pub cost: Option<Cost>,
}

impl Sent {
    /// The endpoint, as it is called where devices are named.
    pub fn device(&self) -> String {
        format!("remote:{}", self.to)
    }
}

/// Money.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cost {
    /// How much.
    pub amount: Decimal,
    /// Of what: `EUR`.
    pub currency: String,
}

impl Report {
    /// What the job did where, in order, with the devices' names.
    pub fn spans(&self) -> impl Iterator<Item = (&str, &Span)> {
        let devices = self.devices.iter().map(|name| &**name);
        devices.zip(&self.account.spans)
    }

    /// Counts a job among those of the same request. They run side by side: tokens and joules add up, times do not.
    pub fn add(&mut self, job: &Self) {
        for (device, span) in job.spans() {
            let same = |(i, own): &(usize, &String)| {
                *own == device && self.account.spans[*i].phase == span.phase
            };
            let found = self.devices.iter().enumerate().find(same).map(|(i, _)| i);
            let Some(i) = found else {
                self.devices.push(device.to_owned());
                self.account.spans.push(*span);
                continue;
            };
            self.account.spans[i].add(span);
        }
        self.sent.extend(job.sent.iter().cloned());
        add_account(&mut self.account, &job.account);
    }
}

/// All but the spans.
fn add_account(total: &mut Account, job: &Account) {
    total.joules_source = total.joules_source.and(job.joules_source);
    total.queue_s = total.queue_s.max(job.queue_s);
    total.ttft_s = match (total.ttft_s, job.ttft_s) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
    total.prefill_tokens += job.prefill_tokens;
    total.prefill_s = total.prefill_s.max(job.prefill_s);
    total.decode_tokens += job.decode_tokens;
    total.decode_s = total.decode_s.max(job.decode_s);
    total.joules = total.joules.zip(job.joules).map(|(a, b)| a + b);
    total.moves += job.moves;
    total.replays += job.replays;
    // Each was estimated without the others.
    total.expected = None;
}

/// Counts a job among those of the same request.
pub fn add(total: &mut Usage, job: &Usage) {
    let longer = |a: &mut Duration, b: Duration| *a = (*a).max(b);
    total.prompt_tokens += job.prompt_tokens;
    total.cached_tokens += job.cached_tokens;
    total.completion_tokens += job.completion_tokens;
    total.reasoning_tokens += job.reasoning_tokens;
    total.drafted_tokens += job.drafted_tokens;
    total.accepted_tokens += job.accepted_tokens;
    longer(&mut total.load, job.load);
    longer(&mut total.queue, job.queue);
    longer(&mut total.prefill, job.prefill);
    longer(&mut total.decode, job.decode);
    match (&mut total.report, &job.report) {
        (Some(total), Some(job)) => total.add(job),
        (None, Some(job)) => total.report = Some(job.clone()),
        (_, None) => {}
    }
}
