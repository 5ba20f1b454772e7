//! Jobs that may leave this machine: where to, who carries them, and what comes back.
//!
//! The host never sees what is sent, nor to whom: an [`Errand`] names endpoints by numbers of seconds and money, and its
//! [`Courier`] has the job as it may leave. A job without an errand has no courier, so nothing here can send it.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Weak};
use std::time::Instant;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::runtime::Handle as Runtime;
use tokio::task::AbortHandle;
use troika_scheduler::{DeviceId, Elsewhere, JobId, RemoteFacts, Returned};

use super::driver::Driver;
use crate::job::Usage;
use crate::{ApiError, ErrorKind, EventSender};

/// An endpoint as a place for one job.
#[derive(Clone, Debug, PartialEq)]
pub struct Offer {
    /// Its name, `NAME` in `remote:NAME`.
    pub name: String,
    /// Seconds until its first token, the way there included.
    pub ttft_s: f64,
    /// Tokens a second of each answer.
    pub tps: f64,
    /// How far off these may be, as a factor.
    pub spread: f64,
    /// What the job is expected to cost there, in the owner's currency; `None` where nobody knows the price.
    pub money: Option<f64>,
    /// Jobs that it takes at the same time; any number if absent.
    pub concurrent: Option<usize>,
    /// Why it takes no job now, whichever it is. An endpoint that does not take this one alone is not offered.
    pub why_not: Option<String>,
}

/// What a job takes along that may leave this machine.
pub struct Errand {
    /// Where it may go, at least one; a courier is told their places in this list.
    pub offers: Vec<Offer>,
    /// Who carries it there.
    pub courier: Arc<dyn Courier>,
}

/// Carries one job, which it holds as it may leave, to endpoints.
pub trait Courier: Send + Sync {
    /// Brings the job to the endpoint at this place among the [`Errand::offers`], and what it answers to `events`: all but
    /// [`Event::Done`](crate::job::Event::Done) and errors, which the host tells. It begins with
    /// [`Event::Placed`](crate::job::Event::Placed). Dropping what is returned calls the job back: its client has left.
    ///
    /// It is called again, with another place, if the job came back undone and nothing was told of an answer.
    fn carry(&self, to: usize, events: EventSender) -> BoxFuture<'_, Carried>;
}

/// What became of a job that was carried away.
#[derive(Debug)]
pub enum Carried {
    /// It is done.
    Done(Usage),
    /// It is not done.
    Failed {
        /// Why.
        error: ApiError,
        /// Whether the client was told a part of an answer: then the error ends it. Else the job is done elsewhere.
        said: bool,
    },
}

impl Carried {
    /// What the scheduler is told; `sent` is when the job left.
    pub(super) fn told(&self, sent: Instant) -> Returned {
        match self {
            Self::Done(usage) => {
                let measured = usage.report.as_ref().and_then(|r| r.account.ttft_s);
                let measured =
                    measured.and_then(|s| std::time::Duration::try_from_secs_f64(s).ok());
                let has_answered = usage.completion_tokens > 0;
                Returned::Done {
                    read: usage.prompt_tokens.saturating_sub(usage.cached_tokens) as u64,
                    written: usage.completion_tokens as u64,
                    ttft: measured.or_else(|| has_answered.then_some(usage.prefill)),
                    took: sent.elapsed(),
                }
            }
            Self::Failed { error, said } => Returned::Failed {
                why: error.message.clone(),
                said: *said,
                is_down: is_down(error.kind),
            },
        }
    }
}

/// Whether an endpoint that answers with such an error has the same for other jobs.
fn is_down(kind: ErrorKind) -> bool {
    !matches!(
        kind,
        ErrorKind::Invalid
            | ErrorKind::ContextOverflow
            | ErrorKind::Unsupported
            | ErrorKind::TooLarge
            | ErrorKind::Deadline
            | ErrorKind::Conflict
    )
}

/// An errand of a job in the driver's books.
pub(super) struct Leaves {
    courier: Arc<dyn Courier>,
    /// Where to, in the order of the offers, by the scheduler's numbers.
    pub(super) places: Vec<Elsewhere>,
    runtime: Runtime,
    driver: Weak<Driver>,
}

impl Leaves {
    /// The endpoints get their numbers here, and the scheduler hears how they are.
    ///
    /// # Panics
    /// Outside of a runtime.
    pub(super) fn new(errand: Errand, driver: &Arc<Driver>) -> Self {
        Self {
            places: driver.places(&errand.offers),
            courier: errand.courier,
            runtime: Runtime::current(),
            driver: Arc::downgrade(driver),
        }
    }

    /// Sends the job. It is called back when what is returned is dropped. `None` if it may not go there.
    pub(super) fn send(&self, job: JobId, to: DeviceId, events: EventSender) -> Option<CallBack> {
        let at = self.places.iter().position(|place| place.device == to)?;
        let (courier, driver) = (Arc::clone(&self.courier), Weak::clone(&self.driver));
        let sent = Instant::now();
        let task = self.runtime.spawn(async move {
            let carried = AssertUnwindSafe(courier.carry(at, events)).catch_unwind();
            let carried = carried.await.unwrap_or_else(|_| {
                tracing::error!("what carries a job away panicked; the log says where");
                // Nobody knows what the client has heard.
                Carried::Failed {
                    error: ApiError::internal(),
                    said: true,
                }
            });
            if let Some(driver) = driver.upgrade() {
                driver.carried(job, to, sent, carried);
            }
        });
        Some(CallBack(task.abort_handle()))
    }
}

/// Calls a job back when it is dropped, if it is not back by then.
pub(super) struct CallBack(AbortHandle);

impl Drop for CallBack {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Offer {
    /// As endpoints are called where devices are named.
    pub(super) fn device_name(&self) -> String {
        format!("{REMOTE}{}", self.name)
    }

    pub(super) fn facts(&self, device: DeviceId) -> RemoteFacts {
        RemoteFacts {
            device,
            name: self.device_name(),
            concurrent: self.concurrent,
            closed: self.why_not.clone(),
        }
    }

    pub(super) fn place(&self, device: DeviceId) -> Elsewhere {
        Elsewhere {
            device,
            ttft_s: self.ttft_s,
            tps: self.tps,
            spread: self.spread,
            money: self.money,
        }
    }
}

/// What the names of endpoints begin with where devices are named.
pub(super) const REMOTE: &str = "remote:";

/// What would become of a job on this machine if it came now. What is not known here is absent.
#[derive(Debug, Default)]
pub struct Outlook {
    /// Tokens of its prompt.
    pub prompt_tokens: Option<usize>,
    /// Seconds until its first token.
    pub ttft_s: Option<f64>,
    /// Seconds until its end.
    pub total_s: Option<f64>,
    /// Jobs that wait here.
    pub queue: usize,
    /// Its prompt as the model reads it, so that it need not be encoded again.
    pub(super) seen: Option<super::prompt::Seen>,
}
