//! What a client is told where a job stays, fails, and an endpoint might have done it: why none was asked.

use troika_remote::rules::Explanation;

use crate::ApiError;

/// Why a job stays, where that may matter.
#[derive(Clone, Debug)]
pub(super) struct Kept(Option<String>);

/// `served`: whether an endpoint has the job's model at all.
pub(super) fn kept(served: bool, why: &Explanation) -> Kept {
    Kept(served.then(|| why.to_string()))
}

impl Kept {
    /// The error, and why nobody else was asked, if somebody else might have done better.
    pub(super) fn told(&self, mut error: ApiError) -> ApiError {
        if let Some(why) = &self.0
            && error.kind.may_do_better_elsewhere()
        {
            error.message = format!("{}; no remote endpoint was asked: {why}", error.message);
        }
        error
    }
}
