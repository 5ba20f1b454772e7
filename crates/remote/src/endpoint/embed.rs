//! Sending a job of embedding: one request, one body.

use troika_job::{EmbedJob, Embedded, Report, Sent, Usage};

use super::exchange::{Answered, Exchange};
use super::outgoing::Outgoing;
use super::patience::luck;
use super::trouble::Trouble;
use super::{Remotes, SendError, Tag};
use crate::privacy::Public;
use crate::rules::RemoteIndex;

impl Remotes {
    /// Has texts embedded by an endpoint. Dropping the future gives the request up, there as here.
    ///
    /// # Errors
    /// If there is no answer, or not one vector for each text.
    pub async fn embed(
        &self,
        to: RemoteIndex,
        job: &Public<EmbedJob>,
        tag: &Tag,
    ) -> Result<Embedded, SendError> {
        let remote = self.remote(to)?;
        let refused = |error| SendError {
            said: false,
            error,
            retry: true,
        };
        let outgoing = Outgoing::embedding(job, &remote.config, remote.is_strict());
        let outgoing = outgoing.map_err(refused)?;
        let exchange = Exchange {
            remote,
            ledger: &*self.ledger,
            tag,
            outgoing: &outgoing,
        };
        let embedded = ask(&exchange, job.get().inputs.len()).await;
        self.save_some_time();
        embedded.map_err(|trouble| SendError {
            said: false,
            retry: trouble.is_better_elsewhere(),
            error: trouble.into_error(&remote.config.name, |message| {
                super::sending::repeats(job.get(), message)
            }),
        })
    }
}

async fn ask(exchange: &Exchange<'_>, n: usize) -> Result<Embedded, Trouble> {
    let remote = exchange.remote;
    let mut tries = 0;
    loop {
        let pass = remote.admit(tries > 0).await?;
        let trouble = match exchange.vectors(n).await {
            Ok(answered) => {
                // Its time says nothing of the first token of a text.
                pass.worked();
                return Ok(embedded(exchange, answered));
            }
            Err(trouble) => trouble,
        };
        pass.failed(&trouble);
        let wait = remote.patience.again(tries, trouble.rest(), luck());
        let Some(wait) = wait.filter(|_| trouble.is_transient()) else {
            return Err(trouble);
        };
        tries += 1;
        tokio::time::sleep(wait).await;
    }
}

fn embedded(exchange: &Exchange<'_>, answered: Answered) -> Embedded {
    let remote = exchange.remote;
    let sent = Sent {
        to: remote.config.name.clone(),
        rule: exchange.tag.rule.clone(),
        bytes_out: answered.bytes_out,
        bytes_in: answered.bytes_in,
        cost: remote.cost(answered.counts),
    };
    let usage = Usage {
        prompt_tokens: answered.counts.prompt.unwrap_or(0),
        prefill: answered.ttft,
        report: Some(Box::new(Report {
            sent: vec![sent],
            ..Report::default()
        })),
        ..Usage::default()
    };
    Embedded {
        vectors: answered.vectors,
        usage,
    }
}
