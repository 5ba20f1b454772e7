//! What is wrong with a request, before an interface gives it its own body.

use std::time::Duration;

/// Why a request gets no answer. Each interface turns it into the status and the body that its own clients expect.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// What kind of trouble, which decides the status.
    pub kind: ErrorKind,
    /// What is wrong, where, and what to do. Never a path of this machine, a prompt or a secret.
    pub message: String,
    /// The field at fault, as the client wrote it: `messages[2].content`.
    pub param: Option<String>,
}

/// Kinds of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// 400: the request makes no sense.
    Invalid,
    /// 400: the prompt is longer than the context.
    ContextOverflow,
    /// 400: it makes sense and is not to be had here (images, ...).
    Unsupported,
    /// 401: no API key, or an unknown one.
    Unauthenticated,
    /// 403: the key may not do this, or the request comes from a page of another site.
    Forbidden,
    /// 400: the response that the request goes on from is not stored.
    PreviousNotFound,
    /// 404: no such model.
    ModelNotFound,
    /// 404: no such route, or nothing of this name or id.
    NotFound,
    /// 405: the route has other methods.
    MethodNotAllowed,
    /// 408: the request's body did not come in time.
    Timeout,
    /// 409: the state does not allow it (a model of this name exists).
    Conflict,
    /// 412: the answer would come after the deadline that the request sets.
    Deadline,
    /// 412: the device that the request requires cannot do it.
    RequiredDevice,
    /// 413: the body is too long.
    TooLarge,
    /// 429: this key has used up its share for now.
    RateLimited {
        /// When to try again.
        retry_after: Duration,
    },
    /// 429: the queue is full.
    Overloaded {
        /// When to try again.
        retry_after: Duration,
    },
    /// 500: our own mistake.
    Internal,
    /// 503: the server is going down, or memory for the model is short.
    Unavailable {
        /// When to try again.
        retry_after: Duration,
    },
}

impl ErrorKind {
    /// The HTTP status.
    pub fn status(self) -> u16 {
        match self {
            Self::Invalid | Self::ContextOverflow | Self::Unsupported | Self::PreviousNotFound => {
                400
            }
            Self::Unauthenticated => 401,
            Self::Forbidden => 403,
            Self::ModelNotFound | Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::Timeout => 408,
            Self::Conflict => 409,
            // Not a status that clients' libraries answer by trying again.
            Self::Deadline | Self::RequiredDevice => 412,
            Self::TooLarge => 413,
            Self::RateLimited { .. } | Self::Overloaded { .. } => 429,
            Self::Internal => 500,
            Self::Unavailable { .. } => 503,
        }
    }

    /// Whether a job that fails so in one place may go well in another: nothing is wrong with the request itself, nor does
    /// it ask for this place.
    pub fn may_do_better_elsewhere(self) -> bool {
        matches!(
            self,
            Self::ContextOverflow
                | Self::Unsupported
                | Self::ModelNotFound
                | Self::Conflict
                | Self::Deadline
                | Self::Overloaded { .. }
                | Self::Internal
                | Self::Unavailable { .. }
        )
    }

    /// When to try again, for the header `Retry-After`.
    pub fn retry_after(self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after }
            | Self::Overloaded { retry_after }
            | Self::Unavailable { retry_after } => Some(retry_after),
            _ => None,
        }
    }
}

/// A place gave no whole answer to a job.
#[derive(Clone, Debug, PartialEq)]
pub struct Failed {
    /// The client was told a part of the answer, so that no other place can begin again.
    pub said: bool,
    /// What went wrong.
    pub error: ApiError,
}

impl Failed {
    /// Nothing was told of an answer yet.
    pub fn unsaid(error: ApiError) -> Self {
        Self { said: false, error }
    }

    /// Another place was tried after it and failed, too. Once that has begun to speak, its error is the one that counts.
    #[must_use]
    pub fn and_then(self, place: &str, other: Self) -> Self {
        match other.said {
            true => other,
            false => Self::unsaid(self.error.and_then(place, &other.error)),
        }
    }
}

impl ApiError {
    /// Any kind.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            param: None,
        }
    }

    /// The request makes no sense.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// It is not to be had here.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, message)
    }

    /// No such model.
    pub fn no_model(name: &str) -> Self {
        Self::new(
            ErrorKind::ModelNotFound,
            format!("there is no model `{name}`"),
        )
        .at("model")
    }

    /// No such route, response or file.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }

    /// Our own mistake. What it was goes to the log, not to the client.
    pub fn internal() -> Self {
        Self::new(
            ErrorKind::Internal,
            "something went wrong in the server; its log says what",
        )
    }

    /// What came of trying another place is told with it.
    #[must_use]
    pub fn and_then(mut self, place: &str, other: &Self) -> Self {
        self.message = format!("{}; {place}: {}", self.message, other.message);
        self
    }

    /// Names the field at fault.
    #[must_use]
    pub fn at(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// Names the field at fault as an interface has it, where it was named as a [`Job`](crate::Job) has it.
    #[must_use]
    pub fn renamed(self, field: &str, param: &str) -> Self {
        match self.param.as_deref() {
            Some(named) if named == field => self.at(param),
            _ => self,
        }
    }
}
