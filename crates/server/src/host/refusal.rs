//! What a client is told where the scheduler says no.

use std::time::Duration;

use troika_scheduler::Refusal;

use crate::{ApiError, ErrorKind};

/// When to come again where memory is short, or no device is offered just now.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// A refusal, as an interface tells it.
pub(super) fn told(refusal: &Refusal) -> ApiError {
    let kind = match *refusal {
        // Whole seconds are what a header tells, and none of them means at once.
        Refusal::QueueFull { retry_after, .. } => ErrorKind::Overloaded {
            retry_after: retry_after.max(Duration::from_secs(1)),
        },
        Refusal::Deadline { .. } | Refusal::DeadlinePassed => ErrorKind::Deadline,
        Refusal::RequiredDevice { .. } => ErrorKind::RequiredDevice,
        Refusal::Memory { .. } => ErrorKind::Unavailable {
            retry_after: RETRY_AFTER,
        },
        // A file that no device can load is the same tomorrow.
        Refusal::NoDevice { .. } | Refusal::Model { .. } => ErrorKind::Conflict,
        Refusal::Failed { .. } => ErrorKind::Internal,
    };
    ApiError::new(kind, refusal.to_string())
}
