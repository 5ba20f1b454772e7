//! Models that are on their way onto this machine: `/api/troika/pulls`.

/// Models that are on their way onto this machine: `/api/troika/pulls`.
#[derive(Clone, Debug, Default)]
pub struct Pulls;
