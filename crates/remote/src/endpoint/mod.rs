//! Remote endpoints: what sends, and the only place here that opens a connection.
//!
//! [`Remotes::send`] takes what the judge let go, and tells the answer as it comes. On the way: `outgoing.rs` is what may
//! leave, `remote.rs` who may ask an endpoint now, `exchange.rs` one request with its receipt, `client.rs` HTTP,
//! `trouble.rs` what went wrong and what follows from it. `wire` has the words.

mod breaker;
mod client;
mod embed;
mod exchange;
mod outgoing;
mod patience;
mod profile;
mod remote;
mod sending;
#[cfg(test)]
mod tests;
mod trial;
mod trouble;
mod url;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use troika_job::{ApiError, Cost, Failed};

pub use profile::Profile;
pub use trial::Tried;

use crate::config::{Config, ConfigError};
use crate::receipts::{Ledger, Redactions};
use crate::rules::RemoteIndex;
use crate::wire::Counts;
use client::Client;
use profile::{All, Measured, Store};
use remote::{Health, Remote};
use url::Base;

/// How often measurements are written down, at most.
const SAVE_EVERY: Duration = Duration::from_secs(10);

/// The endpoints of a configuration.
#[derive(Debug)]
pub struct Remotes {
    list: Vec<Remote>,
    ledger: Arc<dyn Ledger>,
    store: Arc<Store>,
    saved: Mutex<Instant>,
    /// Something was measured that is not written down.
    changed: AtomicBool,
}

/// What a request's receipt says of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tag {
    /// The request's number.
    pub request_id: String,
    /// The rule that let it go.
    pub rule: String,
    /// What was taken out before.
    pub redacted: Redactions,
    /// Tokens of the prompt, if somebody counted; else the bound of its cost is its bytes.
    pub prompt_tokens: Option<usize>,
}

/// Why an endpoint gave no answer.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{error}")]
pub struct SendError {
    /// The client was told a part of the answer, so that nobody else can give it any more.
    pub said: bool,
    /// What went wrong, for the client.
    pub error: ApiError,
    /// Another endpoint, or this machine, may do better: nothing was said, and the request itself is not at fault.
    pub retry: bool,
}

impl From<SendError> for Failed {
    fn from(failed: SendError) -> Self {
        Self {
            said: failed.said,
            error: failed.error,
        }
    }
}

impl Remotes {
    /// The endpoints of a configuration, and what was measured of them before, which is kept in the folder `state`. Nothing
    /// is connected, and no key read.
    ///
    /// # Errors
    /// If a URL or the place of a key makes no sense, or the system has no certificates to trust.
    pub fn open(
        config: &Config,
        state: &Path,
        ledger: Arc<dyn Ledger>,
    ) -> Result<Self, ConfigError> {
        let store = Store::new(state);
        let mut known = store.read();
        let mut list = Vec::with_capacity(config.remote.len());
        let mut tls = None;
        for (i, remote) in config.remote.iter().enumerate() {
            let wrong =
                |field: &str, what: String| ConfigError::at(format!("remote[{i}].{field}"), what);
            let base = Base::parse(&remote.url, remote.allow_plain_http);
            let base = base.map_err(|what| wrong("url", what))?;
            if base.is_https() && tls.is_none() {
                let read = client::tls();
                tls = Some(read.map_err(|error| {
                    wrong(
                        "url",
                        format!("this system has no certificates to trust: {error}"),
                    )
                })?);
            }
            let tls = match base.is_https() {
                true => tls.clone().expect("read above"),
                false => client::no_tls(),
            };
            let client = Client::new(base, remote.api, tls, patience::Patience::default().connect);
            let mut health = Health::default();
            health.measured = known.remove(&remote.name).unwrap_or_default();
            if health.measured.url != remote.url {
                health.measured = Measured::of(&remote.url);
            }
            let remote = Remote::new(remote.clone(), client, &config.hybrid.currency, health);
            list.push(remote.map_err(|error| wrong("key", error.to_string()))?);
        }
        Ok(Self {
            list,
            ledger,
            store: Arc::new(store),
            saved: Mutex::new(Instant::now()),
            changed: AtomicBool::new(false),
        })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// What is known of an endpoint, and whether it would take a request now.
    pub fn profile(&self, of: RemoteIndex) -> Profile {
        match self.list.get(of.0) {
            Some(remote) => remote.profile(Instant::now()),
            None => Profile {
                why_not: Some("there is no such remote any more".to_owned()),
                ..Profile::default()
            },
        }
    }

    /// What a job costs at an endpoint whose prompt has so many tokens, none of them in its cache, and its answers so many
    /// at most. `None` where the price is not known.
    pub fn cost(&self, at: RemoteIndex, prompt: usize, answer: usize) -> Option<Cost> {
        let counts = Counts {
            prompt: Some(prompt),
            completion: Some(answer),
            ..Counts::default()
        };
        self.list.get(at.0)?.cost(counts)
    }

    fn remote(&self, index: RemoteIndex) -> Result<&Remote, SendError> {
        let gone = || SendError {
            said: false,
            error: ApiError::not_found("there is no such remote any more; try again"),
            retry: true,
        };
        self.list.get(index.0).ok_or_else(gone)
    }

    fn measured(&self) -> All {
        let of = |remote: &Remote| (remote.config.name.clone(), remote.health().measured.clone());
        self.list.iter().map(of).collect()
    }

    /// Writes the measurements down, if that was not done just now. They are not worth waiting for.
    fn save_some_time(&self) {
        self.changed.store(true, Ordering::Relaxed);
        {
            let mut saved = self.saved.lock().unwrap_or_else(PoisonError::into_inner);
            if saved.elapsed() < SAVE_EVERY {
                return;
            }
            *saved = Instant::now();
        }
        self.changed.store(false, Ordering::Relaxed);
        let (store, all) = (self.store.clone(), self.measured());
        tokio::task::spawn_blocking(move || save(&store, &all));
    }
}

impl Drop for Remotes {
    fn drop(&mut self) {
        // Whoever only looked leaves the file to those who measured.
        if self.changed.load(Ordering::Relaxed) {
            save(&self.store, &self.measured());
        }
    }
}

fn save(store: &Store, all: &All) {
    if let Err(error) = store.write(all) {
        tracing::warn!(%error, "the measurements of remotes cannot be written");
    }
}
