//! Jobs that compete: what endpoints offer, and how a job is brought where the scheduler says.

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use troika_remote::RemoteIndex;

use super::way::Way;
use crate::EventSender;
use crate::host::{Carried, Courier, Offer};

/// Tokens of an answer whose length nobody limits, for what it may be expected to cost.
const ANSWER_TOKENS: usize = 512;

/// What the endpoints offer that a job may go to, in the order of its leave.
pub(super) fn offers(way: &Way) -> Vec<Offer> {
    way.leave.to.iter().map(|&to| offer(way, to)).collect()
}

fn offer(way: &Way, to: RemoteIndex) -> Offer {
    let remote = &way.now.loaded.config.remote[to.0];
    let profile = way.now.remotes.profile(to);
    let job = way.job.get();
    let answer = job
        .max_tokens
        .map_or(ANSWER_TOKENS, |max| max.min(ANSWER_TOKENS))
        * job.n.max(1);
    let money = way
        .prompt_tokens
        .and_then(|prompt| way.now.remotes.cost(to, prompt, answer));
    let unmeasured = || {
        let name = &remote.name;
        Some(format!(
            "nobody has measured it yet (`troika remote test {name}`)"
        ))
    };
    let (ttft_s, tps) = (profile.ttft_s, profile.tps);
    let is_measured = ttft_s.is_some() && tps.is_some();
    // What fails is tried again: that takes its time.
    let tries = 1.0 / (1.0 - profile.error_rate.unwrap_or(0.0)).max(0.1);
    Offer {
        name: remote.name.clone(),
        ttft_s: ttft_s.unwrap_or(f64::INFINITY) * tries,
        tps: tps.unwrap_or(0.0),
        spread: 1.0 + profile.spread.unwrap_or(1.0),
        money: money.and_then(|cost| cost.amount.try_into().ok()),
        concurrent: remote.limits.concurrent,
        why_not: match is_measured {
            true => profile.why_not,
            false => unmeasured(),
        },
    }
}

impl Courier for Way {
    fn carry(&self, to: usize, events: EventSender) -> BoxFuture<'_, Carried> {
        async move {
            match self.send_to(self.leave.to[to], &events).await {
                Ok(usage) => Carried::Done(usage),
                Err(failed) => Carried::Failed {
                    error: failed.error,
                    said: failed.said,
                },
            }
        }
        .boxed()
    }
}
