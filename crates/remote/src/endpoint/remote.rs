//! One endpoint as it runs: who may ask it now, what was measured of it, and its key.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rust_decimal::Decimal;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use troika_job::Cost;

use super::breaker::Breaker;
use super::client::Client;
use super::patience::Patience;
use super::profile::{Measured, Profile};
use super::trouble::{Blame, Trouble};
use crate::config;
use crate::secrets::{KeyError, KeySource, Secret};
use crate::wire::Counts;

/// The window of `requests_per_minute`.
const MINUTE: Duration = Duration::from_secs(60);

/// When to come back to an endpoint whose places are all taken: one may be free any moment.
const SOON: Duration = Duration::from_secs(1);

/// An endpoint.
#[derive(Debug)]
pub(crate) struct Remote {
    pub(crate) config: config::Remote,
    pub(crate) client: Client,
    pub(crate) patience: Patience,
    pub(crate) currency: String,
    key: Option<KeySource>,
    /// The key, once it was read.
    secret: Mutex<Option<Secret>>,
    places: Option<Arc<Semaphore>>,
    health: Mutex<Health>,
}

#[derive(Debug, Default)]
pub(crate) struct Health {
    pub(crate) breaker: Breaker,
    pub(crate) measured: Measured,
    /// The last minute's requests, where they are limited.
    recent: VecDeque<Instant>,
}

impl Remote {
    pub(crate) fn new(
        config: config::Remote,
        client: Client,
        currency: &str,
        health: Health,
    ) -> Result<Self, KeyError> {
        let mut patience = Patience::default();
        if let Some(seconds) = config.limits.timeout_s {
            patience.first_byte = Duration::from_secs(seconds);
        }
        let places = config.limits.concurrent;
        Ok(Self {
            key: config.key.as_deref().map(str::parse).transpose()?,
            places: places.map(|n| Arc::new(Semaphore::new(n.min(Semaphore::MAX_PERMITS)))),
            config,
            client,
            patience,
            currency: currency.to_owned(),
            secret: Mutex::default(),
            health: Mutex::new(health),
        })
    }

    /// It takes what its documents say, and nothing else.
    pub(crate) fn is_strict(&self) -> bool {
        self.config.api == config::Api::Openai && self.client.base().is_openais()
    }

    /// How it is called where devices are named.
    pub(crate) fn device(&self) -> String {
        format!("remote:{}", self.config.name)
    }

    pub(crate) fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of it, and whether it would take a request now.
    pub(crate) fn profile(&self, now: Instant) -> Profile {
        let mut profile = self.health().measured.profile();
        let why_not = self.why_not(now);
        profile.is_open = why_not.is_none();
        profile.why_not = why_not;
        profile
    }

    fn why_not(&self, now: Instant) -> Option<String> {
        if let Some(KeySource::Env(name)) = &self.key
            && std::env::var_os(name).is_none()
        {
            return Some(KeyError::NoVariable(name.clone()).to_string());
        }
        let mut health = self.health();
        if let Err(shut) = health.breaker.look(now) {
            return Some(shut.to_string());
        }
        let per_minute = self.config.limits.requests_per_minute;
        if let Some(wait) = health.wait(per_minute, now) {
            let seconds = wait.as_secs_f64().ceil();
            return Some(format!(
                "it has had its requests of this minute; the next is in {seconds} s"
            ));
        }
        let full = self
            .places
            .as_ref()
            .is_some_and(|it| it.available_permits() == 0);
        full.then(|| "it answers as many requests as it may".to_owned())
    }

    /// Lets a request through. With `wait`, it waits for its place rather than being refused.
    ///
    /// # Errors
    /// If the endpoint is not to be asked now.
    pub(crate) async fn admit(&self, wait: bool) -> Result<Pass<'_>, Trouble> {
        let place = match &self.places {
            None => None,
            Some(places) => {
                let place = match wait {
                    true => places.clone().acquire_owned().await.ok(),
                    false => places.clone().try_acquire_owned().ok(),
                };
                Some(place.ok_or(Trouble::Full(SOON))?)
            }
        };
        loop {
            let full = {
                let mut health = self.health();
                let now = Instant::now();
                match health.wait(self.config.limits.requests_per_minute, now) {
                    None => {
                        health.breaker.pass(now).map_err(Trouble::Shut)?;
                        if self.config.limits.requests_per_minute.is_some() {
                            health.recent.push_back(now);
                        }
                        None
                    }
                    Some(time) => Some(time),
                }
            };
            match full {
                None => break,
                Some(time) if wait => tokio::time::sleep(time).await,
                Some(time) => return Err(Trouble::Full(time)),
            }
        }
        Ok(Pass {
            remote: self,
            settled: false,
            _place: place,
        })
    }

    /// The key, if it has one. A keyring may ask its owner first, so it is read beside.
    ///
    /// # Errors
    /// If it should have one and it is not there.
    pub(crate) async fn secret(&self) -> Result<Option<Secret>, Trouble> {
        let Some(source) = &self.key else {
            return Ok(None);
        };
        if let Some(secret) = self.kept().clone() {
            return Ok(Some(secret));
        }
        let source = source.clone();
        let read = tokio::task::spawn_blocking(move || source.read()).await;
        let gone = |_| KeyError::NoKeyring("reading it broke off".to_owned());
        let secret = read.map_err(gone).flatten().map_err(Trouble::NoKey)?;
        *self.kept() = Some(secret.clone());
        Ok(Some(secret))
    }

    fn kept(&self) -> MutexGuard<'_, Option<Secret>> {
        self.secret.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What tokens cost here; `None` if that or their number is not known.
    pub(crate) fn cost(&self, counts: Counts) -> Option<Cost> {
        let price = self.config.price?;
        let prompt = counts.prompt?;
        let cached = counts.cached.unwrap_or(0).min(prompt);
        let million = Decimal::from(1_000_000);
        let of = |tokens: usize, price: Decimal| Decimal::from(tokens).checked_mul(price);
        let amount = of(prompt - cached, price.input)?
            .checked_add(of(cached, price.cached.unwrap_or(price.input))?)?
            .checked_add(of(counts.completion?, price.output)?)?;
        Some(Cost {
            amount: amount.checked_div(million)?.normalize(),
            currency: self.currency.clone(),
        })
    }
}

impl Health {
    /// How long until another request is within the limit; `None` if it is now.
    fn wait(&mut self, per_minute: Option<u32>, now: Instant) -> Option<Duration> {
        let limit = per_minute? as usize;
        while self
            .recent
            .front()
            .is_some_and(|&at| now.duration_since(at) >= MINUTE)
        {
            self.recent.pop_front();
        }
        let first = *self.recent.front().filter(|_| self.recent.len() >= limit)?;
        Some(MINUTE.saturating_sub(now.duration_since(first)))
    }
}

/// A request that is under way. Dropped without a word of how it went, it says nothing of the endpoint.
#[derive(Debug)]
pub(crate) struct Pass<'a> {
    remote: &'a Remote,
    settled: bool,
    _place: Option<OwnedSemaphorePermit>,
}

impl Pass<'_> {
    /// It was answered.
    pub(crate) fn answered(mut self, ttft: Duration, tps: Option<f64>) {
        self.settled = true;
        let mut health = self.remote.health();
        health.breaker.answered();
        health.measured.answered(ttft, tps);
    }

    /// It was answered, and that says nothing of how fast text comes.
    pub(crate) fn worked(mut self) {
        self.settled = true;
        self.remote.health().breaker.answered();
    }

    /// It was not.
    pub(crate) fn failed(mut self, trouble: &Trouble) {
        let now = Instant::now();
        let mut health = self.remote.health();
        match trouble.blame() {
            // As if it had not been there; so says the drop.
            Blame::Nobody => return,
            Blame::Request => health.breaker.answered(),
            Blame::Endpoint => {
                health.breaker.failed(now);
                health.measured.failed();
            }
        }
        self.settled = true;
        if let Some(time) = trouble.rest() {
            health.breaker.rest(now, time);
        }
        drop(health);
        if trouble.is_about_the_key() {
            // It may have been changed where it is kept.
            *self.remote.kept() = None;
        }
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if !self.settled {
            self.remote.health().breaker.left(Instant::now());
        }
    }
}
