//! Sending a job: its requests, their repetitions, and the numbers of all of them.

use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use troika_job::{Event, EventSender, Job, Placed, Report, Sent, Usage};
use troika_scheduler::Account;

use super::exchange::{Answered, Exchange, Listener, Told};
use super::outgoing::Outgoing;
use super::patience::luck;
use super::remote::Remote;
use super::trouble::Trouble;
use super::{Remotes, SendError, Tag};
use crate::privacy::Public;
use crate::rules::{Asks, RemoteIndex};
use crate::wire::Counts;

/// So many letters of a message in a row that are also in the prompt are no accident.
const REPEATED_CHARS: usize = 24;

/// From fewer tokens, or in less time, nobody tells how fast they come.
const TPS_TOKENS_MIN: usize = 8;
const TPS_TIME_MIN: Duration = Duration::from_millis(20);

impl Remotes {
    /// Sends a job to an endpoint, and tells `events` the answer as it comes: all but [`Event::Done`], for which the
    /// numbers come back. Dropping the future gives the request up, there as here.
    ///
    /// Requests are repeated while nothing was said, where that may help. Nothing is told of an error.
    ///
    /// # Errors
    /// If there is no answer, or it broke off.
    pub async fn send(
        &self,
        to: RemoteIndex,
        job: &Public<Job>,
        tag: &Tag,
        events: &EventSender,
    ) -> Result<Usage, SendError> {
        let remote = self.remote(to)?;
        let strict = remote.is_strict();
        let refused = |error| SendError {
            said: false,
            error,
            retry: true,
        };
        let outgoing = Outgoing::of(job, &remote.config, strict).map_err(refused)?;
        let class = job.get().wishes.class.unwrap_or_default();
        let sent = self.converse(remote, &outgoing, tag, events).await;
        self.save_some_time();
        sent.map(|mut usage| {
            if let Some(report) = &mut usage.report {
                report.class = class;
            }
            usage
        })
        .map_err(|(said, trouble)| {
            let retry = !said && trouble.is_better_elsewhere();
            let name = &remote.config.name;
            let error = trouble.into_error(name, |message| repeats(job.get(), message));
            SendError { said, error, retry }
        })
    }

    /// Sends requests, which together are one job, and tells their answers.
    ///
    /// # Errors
    /// The first trouble, and whether something was told before it.
    pub(super) async fn converse(
        &self,
        remote: &Remote,
        outgoing: &[Outgoing],
        tag: &Tag,
        events: &EventSender,
    ) -> Result<Usage, (bool, Trouble)> {
        let listener = Listener::new(events);
        let place = remote.device();
        let placed = Placed {
            prefill: place.clone(),
            decode: place,
        };
        let at_once = remote.config.limits.concurrent.unwrap_or(outgoing.len());
        let mut asked = Vec::with_capacity(outgoing.len());
        for (i, outgoing) in outgoing.iter().enumerate() {
            let exchange = Exchange {
                remote,
                ledger: &*self.ledger,
                tag,
                outgoing,
            };
            // The others wait for their places; the job as a whole does not.
            let first = (i == 0).then_some(&placed);
            asked.push(ask(exchange, &listener, first).boxed());
        }
        let answers: Result<Vec<_>, Trouble> = stream::iter(asked)
            .buffer_unordered(at_once.max(1))
            .try_collect()
            .await;
        let told = listener.told();
        match answers {
            Ok(answers) => Ok(usage(remote, tag, &answers, told)),
            Err(trouble) => Err((told.first.is_some(), trouble)),
        }
    }
}

/// Sends one request until it is answered, or not worth another try.
async fn ask(
    exchange: Exchange<'_>,
    listener: &Listener<'_>,
    first: Option<&Placed>,
) -> Result<Answered, Trouble> {
    let remote = exchange.remote;
    let mut tries = 0;
    loop {
        let pass = remote.admit(first.is_none() || tries > 0).await?;
        if let Some(placed) = first.filter(|_| tries == 0) {
            listener.note(Event::Placed(placed.clone()))?;
        }
        let mut said = false;
        let trouble = match exchange.stream(listener, &mut said).await {
            Ok(answered) => {
                pass.answered(answered.ttft, tps(&answered));
                return Ok(answered);
            }
            Err(trouble) => trouble,
        };
        pass.failed(&trouble);
        let wait = remote.patience.again(tries, trouble.rest(), luck());
        let Some(wait) = wait.filter(|_| !said && trouble.is_transient()) else {
            return Err(trouble);
        };
        let name = &*remote.config.name;
        tracing::debug!(remote = name, ?wait, "a request failed, and is repeated");
        tries += 1;
        tokio::time::sleep(wait).await;
    }
}

/// Tokens per second after the first, if they can be told.
fn tps(answered: &Answered) -> Option<f64> {
    let tokens = answered.counts.completion?;
    let measurable = tokens >= TPS_TOKENS_MIN && answered.writing >= TPS_TIME_MIN;
    measurable.then(|| (tokens - 1) as f64 / answered.writing.as_secs_f64())
}

/// The numbers of a job's answers together. Devices have no part in it.
fn usage(remote: &Remote, tag: &Tag, answers: &[Answered], told: Told) -> Usage {
    let sum = |of: fn(&Counts) -> Option<usize>| {
        answers
            .iter()
            .map(|it| of(&it.counts).unwrap_or(0))
            .sum::<usize>()
    };
    let prompt_tokens = sum(|it| it.prompt);
    let cached_tokens = sum(|it| it.cached);
    let completion_tokens = sum(|it| it.completion);
    let ttft = told.first.unwrap_or_default();
    let decode = told.last.unwrap_or_default().saturating_sub(ttft);
    let sent = answers.iter().map(|it| Sent {
        to: remote.config.name.clone(),
        rule: tag.rule.clone(),
        bytes_out: it.bytes_out,
        bytes_in: it.bytes_in,
        cost: remote.cost(it.counts),
    });
    let account = Account {
        ttft_s: told.first.map(|it| it.as_secs_f64()),
        prefill_tokens: prompt_tokens.saturating_sub(cached_tokens) as u64,
        prefill_s: ttft.as_secs_f64(),
        decode_tokens: completion_tokens as u64,
        decode_s: decode.as_secs_f64(),
        ..Account::default()
    };
    Usage {
        prompt_tokens,
        cached_tokens,
        completion_tokens,
        reasoning_tokens: sum(|it| it.reasoning),
        prefill: ttft,
        decode,
        report: Some(Box::new(Report {
            account,
            sent: sent.collect(),
            ..Report::default()
        })),
        ..Usage::default()
    }
}

/// Whether a message has words of the prompt in it.
pub(super) fn repeats(job: &impl Asks, message: &str) -> bool {
    let letters: Vec<_> = message
        .char_indices()
        .map(|(at, _)| at)
        .chain([message.len()])
        .collect();
    let texts = job.texts();
    letters.windows(REPEATED_CHARS + 1).any(|it| {
        let words = &message[it[0]..it[REPEATED_CHARS]];
        texts.iter().any(|text| text.contains(words))
    })
}
