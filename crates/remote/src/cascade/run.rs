//! A job through the cascade: the local answer if it is sure, and else the remote's.

use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use serde::Serialize;
use troika_job::{ApiError, ErrorKind, Event, EventSender, Failed, Job, Report, Usage};

use super::attempt::{Attempt, attempt};
use super::{Local, Sureness, threshold};
use crate::config::Cascade;

/// A job that was answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Ran {
    /// The tokens and times of the answer that was given; for one of the remote's, the time that the local try took counts
    /// as time in the queue. The report is of everything: what devices of this machine did for the local try is in its
    /// account, and what left in [`Report::sent`].
    pub usage: Usage,
    /// Whose answer it is.
    pub verdict: Verdict,
}

/// Whose answer was given, and why.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "answer")]
pub enum Verdict {
    /// The local one: it was sure.
    Local {
        /// How sure.
        score: f64,
        /// How sure it had to be.
        threshold: f64,
    },
    /// The remote's.
    Remote {
        /// Why the local one was not given.
        why: String,
        /// How sure that was, if it is known.
        score: Option<f64>,
    },
    /// The local one, though it was not sure: the remote had none.
    LocalUnsure {
        /// Why it was not sure.
        why: String,
        /// Why the remote had none.
        remote: String,
    },
}

/// Answers a job here if the answer is sure, and by `escalate` if it is not. Tells `events` of everything but
/// [`Event::Done`], and of nothing that is taken back: of the local try until it is judged, only where it runs.
///
/// `escalate` streams its own events into the sender that it is given. It is called at most once; where it fails before
/// anything was said, the local answer is given after all. A model without a threshold is not even tried before.
///
/// # Errors
/// The remote's after it began to speak. The local model's if what is wrong is the request itself, or if the remote has no
/// answer either.
pub async fn run<'a>(
    cascade: &Cascade,
    local: &dyn Local,
    job: Job,
    events: &EventSender,
    escalate: impl FnOnce(EventSender) -> BoxFuture<'a, Result<Usage, Failed>> + Send,
) -> Result<Ran, ApiError> {
    let started = Instant::now();
    let Some(threshold) = threshold(cascade, &job.model) else {
        let why = format!(
            "nobody has found out how sure `{}` has to be (`troika calibrate`)",
            job.model
        );
        return match escalate(events.clone()).await {
            Ok(usage) => Ok(Ran::remote(usage, why, None)),
            Err(failed) if failed.said => Err(failed.error),
            Err(failed) => unjudged(local, job, events, why, failed.error).await,
        };
    };
    let tried = attempt(cascade, local, &job, Some(threshold), Some(events)).await;
    let tried = match tried {
        Ok(tried) => tried,
        Err(error) if !error.kind.may_do_better_elsewhere() => return Err(error),
        Err(error) => {
            let why = format!("it failed here: {error}");
            return match escalate(events.clone()).await {
                Ok(usage) => Ok(Ran::remote(usage.after(started.elapsed(), None), why, None)),
                Err(failed) if failed.said => Err(failed.error),
                // What is wrong here is what the client can do something about.
                Err(_) => Err(error),
            };
        }
    };
    let why = match tried.sureness {
        Sureness::Score(score) if score >= threshold => {
            let usage = tried.tell(events, started.elapsed());
            let verdict = Verdict::Local { score, threshold };
            return Ok(Ran { usage, verdict });
        }
        Sureness::Score(score) => format!("its score {score:.4} is below {threshold}"),
        Sureness::Unknown(ref why) => why.clone(),
    };
    let spent = started.elapsed();
    match escalate(events.clone()).await {
        Ok(usage) => {
            let score = tried.sureness.score();
            let usage = usage.after(spent, tried.usage.report);
            Ok(Ran::remote(usage, why, score))
        }
        Err(failed) if failed.said => Err(failed.error),
        Err(failed) if tried.is_cut => unjudged(local, job, events, why, failed.error).await,
        Err(failed) => {
            let usage = tried.tell(events, started.elapsed());
            let remote = failed.error.to_string();
            let verdict = Verdict::LocalUnsure { why, remote };
            Ok(Ran { usage, verdict })
        }
    }
}

/// The local answer as it comes, with no judge: there is no other.
async fn unjudged(
    local: &dyn Local,
    job: Job,
    events: &EventSender,
    why: String,
    remote: ApiError,
) -> Result<Ran, ApiError> {
    let mut answer = local.submit(job).await?;
    while let Some(event) = answer.next().await {
        match event? {
            Event::Done(usage) => {
                let remote = remote.to_string();
                let verdict = Verdict::LocalUnsure { why, remote };
                return Ok(Ran { usage, verdict });
            }
            event => {
                // A client that is gone drops all of this.
                let _ = events.send(Ok(event));
            }
        }
    }
    Err(ApiError::new(
        ErrorKind::Internal,
        "the job ended without an answer; the server's log says why",
    ))
}

impl Ran {
    fn remote(usage: Usage, why: String, score: Option<f64>) -> Self {
        let verdict = Verdict::Remote { why, score };
        Self { usage, verdict }
    }
}

impl Attempt {
    /// Tells the client all of it at once, so long after the job arrived.
    fn tell(mut self, events: &EventSender, after: Duration) -> Usage {
        for event in self.events {
            // A client that is gone is noticed by whoever reads the other end.
            let _ = events.send(Ok(event));
        }
        if let Some(report) = &mut self.usage.report {
            report.account.ttft_s = Some(after.as_secs_f64());
        }
        self.usage
    }
}

/// What the remote's numbers become after a local try.
trait After {
    fn after(self, spent: Duration, tried: Option<Box<Report>>) -> Self;
}

impl After for Usage {
    fn after(mut self, spent: Duration, tried: Option<Box<Report>>) -> Self {
        self.queue += spent;
        let remote = self.report.take().unwrap_or_default();
        let ttft_s = remote.account.ttft_s.map(|ttft| ttft + spent.as_secs_f64());
        let mut report = match tried {
            Some(mut tried) => {
                tried.class = remote.class;
                tried.sent.extend(remote.sent);
                tried
            }
            // Without a try, or one that nobody has added up.
            None => remote,
        };
        report.account.ttft_s = ttft_s;
        self.report = Some(report);
        self
    }
}
