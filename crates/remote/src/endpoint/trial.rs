//! Trying an endpoint out, with a sentence of ours.

use std::time::Duration;

use serde::Serialize;
use tokio::sync::mpsc;
use troika_job::{Cost, Event, Part};

use super::outgoing::Outgoing;
use super::{Remotes, SendError, Tag};
use crate::receipts::Redactions;
use crate::rules::RemoteIndex;

/// What a trial showed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Tried {
    /// The model, as it is called here.
    pub model: String,
    /// Seconds from the request to the first of its answer.
    pub ttft_s: f64,
    /// Tokens per second from then on, if the endpoint counts them.
    pub tps: Option<f64>,
    /// Tokens that it answered with; 0 if it does not say.
    pub tokens: usize,
    /// Pieces in which the answer came: a single one is no stream.
    pub pieces: usize,
    /// Whether it said anything.
    pub answered: bool,
    /// What it cost, if that is known.
    #[serde(serialize_with = "as_text")]
    pub cost: Option<Cost>,
}

fn as_text<S: serde::Serializer>(cost: &Option<Cost>, to: S) -> Result<S::Ok, S::Error> {
    let text = cost
        .as_ref()
        .map(|it| format!("{} {}", it.amount, it.currency));
    text.serialize(to)
}

impl Remotes {
    /// Sends an endpoint a sentence of ours, measures the answer, and keeps the measurement. The limits hold, and there is
    /// a receipt, by the rule `test`.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn try_out(&self, to: RemoteIndex, model: &str) -> Result<Tried, SendError> {
        let remote = self.remote(to)?;
        let refused = |error| SendError {
            said: false,
            error,
            retry: false,
        };
        let outgoing = Outgoing::sentence(model, &remote.config, remote.is_strict());
        let outgoing = outgoing.map_err(refused)?;
        let tag = Tag {
            request_id: "test".to_owned(),
            rule: "test".to_owned(),
            redacted: Redactions::default(),
            prompt_tokens: None,
        };
        let (events, mut told) = mpsc::unbounded_channel();
        let usage = self.converse(remote, &outgoing, &tag, &events).await;
        self.save_some_time();
        let usage = usage.map_err(|(said, trouble)| SendError {
            said,
            retry: false,
            error: trouble.into_error(&remote.config.name, |_| false),
        })?;
        let (mut pieces, mut answered) = (0, false);
        while let Ok(event) = told.try_recv() {
            if let Ok(Event::Delta(delta)) = event {
                pieces += 1;
                answered |= delta
                    .parts
                    .iter()
                    .any(|it| !matches!(it, Part::ToolCall(_)));
            }
        }
        let tokens = usage.completion_tokens;
        let report = usage.report.unwrap_or_default();
        let measurable = tokens > 1 && usage.decode > Duration::from_millis(20);
        Ok(Tried {
            model: model.to_owned(),
            ttft_s: usage.prefill.as_secs_f64(),
            tps: measurable.then(|| (tokens - 1) as f64 / usage.decode.as_secs_f64()),
            tokens,
            pieces,
            answered,
            cost: report.sent.into_iter().find_map(|it| it.cost),
        })
    }
}
