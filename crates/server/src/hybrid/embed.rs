//! Texts to embed that may leave. The scheduler weighs no endpoint for them, since vectors of different models cannot be
//! compared: where it is to choose, this machine comes first.

use troika_remote::config::Action;
use troika_remote::{Leave, Public, Tag};

use super::current::Current;
use crate::job::{Caller, EmbedJob, Embedded};
use crate::{ApiError, Backend};

/// How what came of the second place is told after what came of the first.
const THEN: &str = "and then";

/// Embeds texts here or there, as the rule says.
pub(super) async fn embed(
    host: &dyn Backend,
    now: &Current,
    job: &Public<EmbedJob>,
    leave: &Leave,
    caller: Caller,
) -> Result<Embedded, ApiError> {
    let here = || host.embed(job.stay(), caller.clone());
    if leave.action == Action::Remote {
        return match send(now, job, leave).await {
            Ok(embedded) => Ok(embedded),
            Err(there) => here().await.map_err(|here| there.and_then(THEN, &here)),
        };
    }
    match here().await {
        Err(error) if error.kind.may_do_better_elsewhere() => {
            let there = send(now, job, leave).await;
            there.map_err(|there| error.and_then(THEN, &there))
        }
        done => done,
    }
}

/// To the first endpoint that takes it, without what the rule names: vectors are of what is left.
async fn send(now: &Current, job: &Public<EmbedJob>, leave: &Leave) -> Result<Embedded, ApiError> {
    let redacted = now.redactor.apply_embed(job, &leave.redact);
    let redacted = redacted.map_err(|why| ApiError::unsupported(why.to_string()))?;
    let tag = Tag {
        redacted: redacted.map.counts().clone(),
        request_id: job.get().wishes.request_id.clone(),
        rule: leave.rule.clone(),
        ..Tag::default()
    };
    let mut last = ApiError::internal();
    for &to in &leave.to {
        match now.remotes.embed(to, &redacted.job, &tag).await {
            Ok(embedded) => return Ok(embedded),
            Err(failed) => last = failed.error,
        }
    }
    Err(last)
}
