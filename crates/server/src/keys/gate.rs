//! The layer that asks for keys: who is this, may they do that, and have they any of their share left?

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::Response;
use tokio::sync::Semaphore;

use super::bucket::Bucket;
use super::file::{Key, KeyFile, KeysError, Scope, Stamp};
use super::secret::{self, Fingerprint, Presented};
use crate::dialect::Dialect;
use crate::job::Caller;
use crate::listen::Peer;
use crate::observe::Tally;
use crate::{ApiError, ErrorKind, metrics};

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Wrong secrets that one address may try in a minute, before the slow hash is spared.
const WRONG_PER_MINUTE: u32 = 10;
/// Addresses whose wrong secrets are remembered.
const ADDRESSES_MAX: usize = 4096;
/// Slow hashes at a time; each takes a core and 19 MiB.
const HASHES_AT_ONCE: usize = 2;

/// The keys in use, which follow the file. Clones share them.
#[derive(Clone, Debug)]
pub struct Keys(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    file: KeyFile,
    state: Mutex<Current>,
    hashing: Semaphore,
    wrong: Mutex<HashMap<Option<IpAddr>, Bucket>>,
}

/// What was last read of the file.
#[derive(Debug, Default)]
struct Current {
    /// By id. `None` until there is a file: no key is needed. Once there was one, keys are needed for good.
    entries: Option<Entries>,
    stamp: Option<Stamp>,
    looked: Option<Instant>,
}

type Entries = BTreeMap<String, Arc<Entry>>;

/// A key in use.
#[derive(Debug)]
struct Entry {
    key: Key,
    /// Of the secret that the slow hash has proved right. A key has one secret, so any other is wrong.
    proved: OnceLock<Fingerprint>,
    /// Held while a secret is tried, so that many first requests at once cost one slow hash.
    trying: tokio::sync::Mutex<()>,
    requests: Option<Mutex<Bucket>>,
    tokens: Option<Mutex<Bucket>>,
}

impl std::fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Fingerprint")
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind these locks is whole at all times.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Keys {
    /// The keys of a file, which is read now and again when it changes.
    ///
    /// # Errors
    /// If the file is there and cannot be read.
    pub fn open(file: KeyFile) -> Result<Self, KeysError> {
        let stamp = file.stamp();
        let keys = file.load()?;
        if file.is_exposed() {
            tracing::warn!("other users of this machine can read the file of keys; `chmod 600` it");
        }
        let current = Current {
            entries: keys.map(|keys| entries(keys, None)),
            stamp,
            looked: Some(Instant::now()),
        };
        Ok(Self(Arc::new(Shared {
            file,
            state: Mutex::new(current),
            hashing: Semaphore::new(HASHES_AT_ONCE),
            wrong: Mutex::default(),
        })))
    }

    /// Whether requests need a key.
    pub fn are_needed(&self) -> bool {
        locked(&self.0.state).entries.is_some()
    }

    /// Counts tokens that a caller has used.
    pub(crate) fn charge(&self, caller: &Caller, tokens: usize) {
        let Some(name) = &caller.key else { return };
        let state = locked(&self.0.state);
        let mut entries = state.entries.iter().flat_map(BTreeMap::values);
        let entry = entries.find(|entry| entry.key.name == *name);
        if let Some(bucket) = entry.and_then(|entry| entry.tokens.as_ref()) {
            locked(bucket).charge(tokens as f64, Instant::now());
        }
    }

    /// Reads the file again if it changed. A file that became unreadable changes nothing, one that is gone leaves no key.
    async fn refresh(&self) {
        let now = Instant::now();
        {
            let mut state = locked(&self.0.state);
            if state.looked.is_some_and(|at| now.duration_since(at) < LOOK) {
                return;
            }
            state.looked = Some(now);
        }
        let shared = Arc::clone(&self.0);
        let refreshed = tokio::task::spawn_blocking(move || shared.read_again()).await;
        if refreshed.is_err() {
            tracing::error!("the file of keys could not be read again");
        }
    }

    /// Who asks. `Ok(None)` where no keys are in use.
    async fn identify(
        &self,
        headers: &HeaderMap,
        peer: Option<IpAddr>,
    ) -> Result<Option<Arc<Entry>>, ApiError> {
        self.refresh().await;
        let unknown = || unauthenticated("this API key is unknown; `troika keys add` makes one");
        let text = credential(headers);
        let presented = text.and_then(Presented::parse);
        let entry = {
            let state = locked(&self.0.state);
            let Some(entries) = &state.entries else {
                return Ok(None);
            };
            presented.and_then(|key| entries.get(key.id).cloned())
        };
        if text.is_none() {
            return Err(unauthenticated(
                "this server needs an API key; send it as `Authorization: Bearer tk-...` or `x-api-key: tk-...`",
            ));
        }
        let (Some(presented), Some(entry)) = (presented, entry) else {
            return Err(unknown());
        };
        match self
            .is_right(text.unwrap_or_default(), &presented, &entry, peer)
            .await?
        {
            true => Ok(Some(entry)),
            false => Err(unknown()),
        }
    }

    /// Whether the secret is the key's.
    async fn is_right(
        &self,
        text: &str,
        presented: &Presented<'_>,
        entry: &Arc<Entry>,
        peer: Option<IpAddr>,
    ) -> Result<bool, ApiError> {
        let fingerprint = presented.fingerprint();
        let known = || entry.proved.get().map(|proved| proved.is(&fingerprint));
        if let Some(right) = known() {
            return Ok(right);
        }
        let _trying = entry.trying.lock().await;
        if let Some(right) = known() {
            return Ok(right);
        }
        self.count_attempt(peer)?;
        let _slot = self.0.hashing.acquire().await;
        let (text, tried) = (text.to_owned(), Arc::clone(entry));
        let hashed = tokio::task::spawn_blocking(move || {
            Presented::parse(&text).is_some_and(|presented| presented.matches(&tried.key.hash))
        });
        let right = hashed.await.map_err(|_| ApiError::internal())?;
        if right {
            // Set by us alone, under the lock.
            let _ = entry.proved.set(fingerprint);
            if let Some(bucket) = locked(&self.0.wrong).get_mut(&peer) {
                bucket.refund(1.0);
            }
        }
        Ok(right)
    }

    /// # Errors
    /// If this address has tried too many wrong secrets of late.
    fn count_attempt(&self, peer: Option<IpAddr>) -> Result<(), ApiError> {
        let now = Instant::now();
        let mut wrong = locked(&self.0.wrong);
        if wrong.len() >= ADDRESSES_MAX && !wrong.contains_key(&peer) {
            wrong.retain(|_, bucket| !bucket.is_full(now));
        }
        // More addresses than that are one attacker, who shares one bucket.
        let peer = if wrong.len() < ADDRESSES_MAX || wrong.contains_key(&peer) {
            peer
        } else {
            None
        };
        let bucket = wrong
            .entry(peer)
            .or_insert_with(|| Bucket::new(WRONG_PER_MINUTE, now));
        bucket.take(1.0, now).map_err(|retry_after| {
            let kind = ErrorKind::RateLimited { retry_after };
            ApiError::new(kind, "too many wrong API keys from this address")
        })
    }
}

impl Shared {
    fn read_again(&self) {
        let stamp = self.file.stamp();
        if stamp == locked(&self.state).stamp {
            return;
        }
        let loaded = self.file.load();
        let mut state = locked(&self.state);
        state.stamp = stamp;
        match loaded {
            Ok(keys) => {
                let was = state.entries.take();
                if keys.is_none() && was.is_some() {
                    tracing::warn!(
                        "the file of keys is gone; every request is refused until it is back"
                    );
                }
                let needed = keys.is_some() || was.is_some();
                let now = entries(keys.unwrap_or_default(), was.as_ref());
                tracing::info!(keys = now.len(), "API keys were read again");
                state.entries = needed.then_some(now);
            }
            Err(error) => tracing::error!(%error, "the keys stay as they were"),
        }
    }
}

/// Keys by id. One that did not change goes on as it was.
fn entries(keys: Vec<Key>, was: Option<&Entries>) -> Entries {
    let now = Instant::now();
    let bucket = |share: Option<u32>| share.map(|share| Mutex::new(Bucket::new(share, now)));
    let entry = |key: Key| {
        let same = was.and_then(|was| was.get(&key.id));
        let same = same.filter(|entry| entry.key == key).cloned();
        let entry = same.unwrap_or_else(|| {
            Arc::new(Entry {
                requests: bucket(key.requests_per_minute),
                tokens: bucket(key.tokens_per_minute),
                proved: OnceLock::new(),
                trying: tokio::sync::Mutex::default(),
                key: key.clone(),
            })
        });
        (key.id, entry)
    };
    keys.into_iter().map(entry).collect()
}

impl Entry {
    /// Lets one more request through.
    fn admit(&self, scope: Scope) -> Result<(), ApiError> {
        if !self.key.scopes.contains(&scope) {
            let message = format!(
                "this API key has no scope `{}`, which the route needs",
                scope.name()
            );
            return Err(ApiError::new(ErrorKind::Forbidden, message));
        }
        let now = Instant::now();
        let spent = |what| {
            move |retry_after| {
                let kind = ErrorKind::RateLimited { retry_after };
                ApiError::new(kind, format!("this API key has used up its {what} for now"))
            }
        };
        if let Some(tokens) = &self.tokens {
            locked(tokens).take(0.0, now).map_err(spent("tokens"))?;
        }
        if let Some(requests) = &self.requests {
            locked(requests).take(1.0, now).map_err(spent("requests"))?;
        }
        Ok(())
    }
}

/// What a route needs; `None` if anyone may.
fn needed(method: &Method, path: &str) -> Option<Scope> {
    match path.trim_end_matches('/') {
        "" | "/health" | "/ready" => None,
        // What asks for a key must come without one.
        path if path.starts_with("/page/") => None,
        "/metrics" | "/api/troika/status" | "/api/troika/receipts" => Some(Scope::Admin),
        "/api/create" | "/api/copy" | "/api/delete" | "/api/pull" | "/api/push" => {
            Some(Scope::Models)
        }
        "/api/troika/policy" if method == Method::PUT => Some(Scope::Admin),
        "/api/troika/pulls" => Some(Scope::Models),
        path if path.starts_with("/api/troika/pulls/") => Some(Scope::Models),
        path if path.starts_with("/api/blobs/") => Some(Scope::Models),
        path if path.starts_with("/v1/models/") && method == Method::DELETE => Some(Scope::Models),
        _ => Some(Scope::Inference),
    }
}

/// The key that a client sends, wherever its library puts it.
fn credential(headers: &HeaderMap) -> Option<&str> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| {
        let (scheme, key) = value.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
    });
    let own = headers
        .get("x-api-key")
        .and_then(|value| value.to_str().ok());
    // Some libraries send both, one of them a placeholder.
    let ours = |key: &Option<&str>| key.is_some_and(|key| key.starts_with(secret::PREFIX));
    bearer.filter(|key| ours(&Some(key))).or(own).or(bearer)
}

fn unauthenticated(message: &str) -> ApiError {
    ApiError::new(ErrorKind::Unauthenticated, message)
}

/// Layer: lets through who may, and tells the handler who it is.
pub(crate) async fn layer(State(keys): State<Keys>, mut request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let mut caller = Caller::default();
    if let Some(scope) = needed(request.method(), path) {
        let peer = request.extensions().get::<Peer>();
        let peer = peer.map(|peer| peer.0.ip().to_canonical());
        let entry = keys.identify(request.headers(), peer).await;
        let admitted = entry.and_then(|entry| match entry {
            Some(entry) => entry.admit(scope).map(|()| Caller {
                key: Some(entry.key.name.clone()),
                class: entry.key.default_class,
            }),
            None => Ok(Caller::default()),
        });
        match admitted {
            Ok(admitted) => caller = admitted,
            Err(error) => {
                metrics::refused(error.kind);
                return Dialect::of(path).refuse(&error);
            }
        }
    }
    Tally::current().caller_is(&caller);
    request.extensions_mut().insert(caller);
    next.run(request).await
}

#[cfg(test)]
mod tests;
