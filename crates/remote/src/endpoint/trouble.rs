//! What can go wrong with a request: whose fault it is, whether to try again, and how the client is told.

use std::time::Duration;

use http::{HeaderMap, StatusCode};
use troika_job::{ApiError, ErrorKind};

use super::breaker::Shut;
use crate::receipts::{LedgerError, Outcome};
use crate::secrets::KeyError;
use crate::wire::{Fault, Refusal};

/// When to try again where the endpoint did not say.
const LATER: Duration = Duration::from_secs(10);

/// When to try again what only the owner can put right.
const MUCH_LATER: Duration = Duration::from_secs(300);

/// Something went wrong.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// There is no key to send.
    NoKey(KeyError),
    /// No receipt can be written.
    NoReceipt(LedgerError),
    /// It is not asked at all.
    Shut(Shut),
    /// It does as much as it may.
    Full(Duration),
    /// There is no connection.
    Connect(String),
    /// There was none in time.
    ConnectLate,
    /// The answer did not begin in time.
    FirstByteLate(Duration),
    /// The answer did not go on in time.
    Stalled(Duration),
    /// The connection broke.
    Cut(String),
    /// The answer is longer than any.
    TooLong,
    /// It sends elsewhere: to this host, if it says so.
    Redirect(Option<String>),
    /// It refused.
    Status(Box<Status>),
    /// The answer makes no sense, or breaks off with an error.
    Fault(Fault),
    /// The client left.
    Gone,
}

/// A status that is no success, and what came with it.
#[derive(Debug)]
pub(crate) struct Status {
    pub(crate) status: StatusCode,
    pub(crate) refusal: Refusal,
    pub(crate) retry_after: Option<Duration>,
    /// The endpoint's own word on whether to repeat the request.
    pub(crate) should_retry: Option<bool>,
}

/// Whose fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blame {
    Endpoint,
    Request,
    Nobody,
}

impl Status {
    pub(crate) fn new(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        let text = |name: &str| headers.get(name).and_then(|it| it.to_str().ok());
        let ms = text("retry-after-ms").and_then(|it| it.parse().ok());
        let seconds = text("retry-after").and_then(|it| it.trim().parse::<f64>().ok());
        // Also a date, which says nothing to whom the clock there is not known.
        let seconds = seconds.filter(|it| (0.0..1e9).contains(it));
        Self {
            status,
            refusal: Refusal::read(body),
            retry_after: ms
                .map(Duration::from_millis)
                .or(seconds.map(Duration::from_secs_f64)),
            should_retry: match text("x-should-retry") {
                Some("true") => Some(true),
                Some("false") => Some(false),
                _ => None,
            },
        }
    }

    fn is_transient(&self) -> bool {
        if self.refusal.is_about_money() {
            return false;
        }
        let transient = matches!(
            self.status.as_u16(),
            408 | 409 | 425 | 429 | 500 | 502 | 503 | 504 | 520..=524 | 529
        );
        self.should_retry.unwrap_or(transient)
    }

    fn is_crowded(&self) -> bool {
        matches!(self.status.as_u16(), 429 | 503 | 529)
    }
}

/// Kinds of errors in the middle of an answer that pass.
fn passes(refusal: &Refusal) -> bool {
    let kinds = [
        "overloaded_error",
        "rate_limit_error",
        "api_error",
        "server_error",
        "timeout_error",
    ];
    kinds.iter().any(|kind| refusal.is(kind))
        || refusal
            .status
            .is_some_and(|status| matches!(status, 408 | 429 | 500..=599))
}

impl Trouble {
    /// Whether the same request may do better in a moment.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Connect(_) | Self::ConnectLate | Self::Cut(_) => true,
            Self::Status(status) => status.is_transient(),
            Self::Fault(Fault::Refused(refusal)) => passes(refusal),
            // Waiting once more would take as long again.
            Self::FirstByteLate(_) | Self::Stalled(_) => false,
            Self::Fault(_) | Self::TooLong | Self::Redirect(_) => false,
            Self::NoKey(_) | Self::NoReceipt(_) | Self::Shut(_) | Self::Full(_) | Self::Gone => {
                false
            }
        }
    }

    /// Whether another endpoint, or this machine, may do better: not if the request itself is at fault.
    pub(crate) fn is_better_elsewhere(&self) -> bool {
        match self {
            Self::Status(status) => {
                let status = status.status.as_u16();
                // What one service refuses, another may take: a longer context, another form.
                !matches!(status, 400 | 422) || self.is_overflow()
            }
            Self::Gone => false,
            _ => true,
        }
    }

    /// How long the endpoint wants to be left alone.
    pub(crate) fn rest(&self) -> Option<Duration> {
        match self {
            Self::Status(status) if status.is_crowded() => status.retry_after,
            _ => None,
        }
    }

    pub(crate) fn blame(&self) -> Blame {
        match self {
            Self::NoKey(_) | Self::NoReceipt(_) | Self::Shut(_) | Self::Full(_) | Self::Gone => {
                Blame::Nobody
            }
            Self::Fault(Fault::Withheld) => Blame::Request,
            Self::Status(status) => match status.status.as_u16() {
                401 | 403 | 408 | 500.. => Blame::Endpoint,
                _ => Blame::Request,
            },
            _ => Blame::Endpoint,
        }
    }

    pub(crate) fn outcome(&self) -> Outcome {
        match self {
            Self::Status(_) | Self::Fault(Fault::Withheld | Fault::Refused(_)) => Outcome::Refused,
            Self::ConnectLate | Self::FirstByteLate(_) | Self::Stalled(_) => Outcome::Late,
            Self::Gone => Outcome::Cancelled,
            _ => Outcome::Failed,
        }
    }

    /// Whether the endpoint does not know the key.
    pub(crate) fn is_about_the_key(&self) -> bool {
        matches!(self, Self::Status(status) if matches!(status.status.as_u16(), 401 | 403))
    }

    fn is_overflow(&self) -> bool {
        matches!(self, Self::Status(status) if status.refusal.is_overflow())
    }

    /// What the client is told. `repeats` says whether words are the prompt's, which are not told again: errors end in
    /// logs.
    pub(crate) fn into_error(self, name: &str, repeats: impl Fn(&str) -> bool) -> ApiError {
        let at = |kind, message: String| ApiError::new(kind, format!("remote `{name}` {message}"));
        let later = |time: Option<Duration>| ErrorKind::Unavailable {
            retry_after: time.unwrap_or(LATER),
        };
        let seconds = |time: Duration| time.as_secs_f64().ceil();
        match self {
            Self::NoKey(error) => at(later(Some(MUCH_LATER)), format!("has no key: {error}")),
            Self::NoReceipt(error) => at(later(None), format!("was not asked: {error}")),
            Self::Shut(shut) => at(later(shut.wait()), format!("is not asked now: {shut}")),
            Self::Full(wait) => at(
                ErrorKind::Overloaded { retry_after: wait },
                "does as much as its `limits` in hybrid.toml let it".to_owned(),
            ),
            Self::Connect(why) => at(later(None), format!("cannot be reached: {why}")),
            Self::ConnectLate => at(later(None), "could not be reached in time".to_owned()),
            Self::FirstByteLate(time) => at(
                later(None),
                format!(
                    "did not begin to answer within {} s; `limits.timeout_s` of hybrid.toml sets this",
                    seconds(time)
                ),
            ),
            Self::Stalled(time) => at(
                later(None),
                format!(
                    "said nothing more for {} s in the middle of its answer",
                    seconds(time)
                ),
            ),
            Self::Cut(why) => at(later(None), format!("broke the connection: {why}")),
            Self::TooLong => at(later(None), "answers without end".to_owned()),
            Self::Redirect(to) => {
                let to = to.map(|to| format!(" to {to}")).unwrap_or_default();
                let message = format!(
                    "redirects{to}, which is not followed; give the address that answers as `url` in hybrid.toml"
                );
                at(later(Some(MUCH_LATER)), message)
            }
            Self::Status(status) => status.into_error(name, repeats),
            Self::Fault(Fault::Garbled(why)) => {
                at(later(None), format!("is not understood: {why}"))
            }
            Self::Fault(Fault::Refused(refusal)) => {
                let said = said(&refusal, repeats);
                at(later(None), format!("broke off its answer{said}"))
            }
            Self::Fault(Fault::Withheld) => at(
                ErrorKind::Unsupported,
                "keeps the answer back for what is in it (its filter of contents)".to_owned(),
            ),
            Self::Gone => at(later(None), "was not waited for".to_owned()),
        }
    }
}

impl Status {
    fn into_error(self, name: &str, repeats: impl Fn(&str) -> bool) -> ApiError {
        let said = said(&self.refusal, repeats);
        let status = self.status.as_u16();
        let later = |time: Duration| self.retry_after.unwrap_or(time);
        let (kind, what) = match status {
            400 | 413 | 422 if self.refusal.is_overflow() => (
                ErrorKind::ContextOverflow,
                "finds the prompt longer than its context",
            ),
            400 | 422 => (ErrorKind::Invalid, "refuses the request"),
            401 | 403 => (
                ErrorKind::Unavailable {
                    retry_after: MUCH_LATER,
                },
                "does not accept its key; `key` of hybrid.toml says where that is",
            ),
            402 => (
                ErrorKind::Unavailable {
                    retry_after: MUCH_LATER,
                },
                "wants to be paid first",
            ),
            404 => (
                ErrorKind::ModelNotFound,
                "has no such model, or nothing at this address; see `models` and `url` of hybrid.toml",
            ),
            413 => (ErrorKind::TooLarge, "finds the request too long"),
            429 if self.refusal.is_about_money() => (
                ErrorKind::Unavailable {
                    retry_after: MUCH_LATER,
                },
                "has no money of yours left",
            ),
            429 => (
                ErrorKind::Overloaded {
                    retry_after: later(LATER),
                },
                "is asked too often",
            ),
            503 | 529 => (
                ErrorKind::Unavailable {
                    retry_after: later(LATER),
                },
                "is overloaded",
            ),
            500.. => (
                ErrorKind::Unavailable {
                    retry_after: later(LATER),
                },
                "failed",
            ),
            _ => (
                ErrorKind::Unavailable {
                    retry_after: later(LATER),
                },
                "gave no answer",
            ),
        };
        let mut error = ApiError::new(
            kind,
            format!("remote `{name}` {what} (HTTP {status}){said}"),
        );
        error.param = self.refusal.param.filter(|_| kind == ErrorKind::Invalid);
        error
    }
}

/// `: ` and the endpoint's own words, if there are any that may be told.
fn said(refusal: &Refusal, repeats: impl Fn(&str) -> bool) -> String {
    match &*refusal.message {
        "" => String::new(),
        message if repeats(message) => {
            ": its message repeats the prompt, and is left out".to_owned()
        }
        message => format!(": {message}"),
    }
}
