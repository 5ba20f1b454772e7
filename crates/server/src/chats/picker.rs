//! `/api/troika/picker`: the models to choose from, and whether each fits the memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse as _;
use serde_json::{Value, json};
use troika_base::{Bytes, KvType};
use troika_engine::model_spec;
use troika_library::Library;

use super::{Handled, View};
use crate::backend;
use crate::job::ModelInfo;
use crate::{ApiError, Backend, Verdict};

/// Tokens of a conversation that a model should have room for.
const TOKENS: u64 = 4096;

/// What a model takes beside weights and cache: a step's buffers, and the vocabulary.
const OTHER_BYTES: u64 = 64 << 20;

/// Bytes that a token takes in the cache, by the digest of its model: a file is looked into once.
#[derive(Clone, Debug, Default)]
pub(super) struct Shapes(Arc<Mutex<BTreeMap<String, Option<u64>>>>);

/// What is known of the memory.
struct Room {
    /// The most that one pool has for models.
    most: u64,
    /// What all have together, for a model that is shared among devices.
    all: u64,
}

/// `GET /api/troika/picker`.
pub(super) async fn picker(State(view): State<View>) -> Handled {
    let models = view.backend.models().await?;
    let default = choice(&*view.backend, &models);
    let kv = view.shapes.of(view.backend.library(), &models).await;
    let room = view.backend.state().as_ref().map(room);
    let loaded: BTreeMap<_, _> = view
        .backend
        .loaded()
        .into_iter()
        .map(|loaded| (loaded.info.name, loaded.memory_bytes))
        .collect();
    let told = models.iter().zip(kv).map(|(model, kv)| {
        let fit = match loaded.get(&model.name) {
            Some(&bytes) => fit(Verdict::Fits, Some(bytes), "it is in memory"),
            None => estimate(model, kv, room.as_ref()),
        };
        json!({
            "name": model.name,
            "bytes": model.file_bytes,
            "parameters": model.n_parameter,
            "quantization": model.quantization,
            "context": model.n_ctx_train,
            "loaded": loaded.contains_key(&model.name),
            "chat": model.capabilities.chat,
            "fit": fit,
        })
    });
    let told: Vec<_> = told.collect();
    Ok(Json(json!({"models": told, "default": default})).into_response())
}

/// The model that answers if nobody chooses one.
///
/// # Errors
/// If the models cannot be listed.
pub(super) async fn default(view: &View) -> Result<Option<String>, ApiError> {
    let models = view.backend.models().await?;
    Ok(choice(&*view.backend, &models))
}

/// One that is loaded, or else the largest that is likely to fit; of those that have a template, if any has.
fn choice(backend: &dyn Backend, models: &[ModelInfo]) -> Option<String> {
    let room = backend.state().as_ref().map(room);
    let loaded: Vec<_> = backend
        .loaded()
        .into_iter()
        .map(|it| it.info.name)
        .collect();
    let most = room.map_or(u64::MAX, |room| room.most);
    let best = models.iter().max_by_key(|model| {
        let fits = model.file_bytes < most / 10 * 9;
        let size = match fits {
            true => i128::from(model.file_bytes),
            false => -i128::from(model.file_bytes),
        };
        (
            model.capabilities.chat,
            loaded.contains(&model.name),
            fits,
            size,
        )
    });
    best.map(|model| model.name.clone())
}

fn room(state: &backend::State) -> Room {
    let pools = state.snapshot.pools.iter();
    let rooms = pools.map(|pool| {
        let room = pool.capacity.0.saturating_sub(pool.reserve.0);
        room.saturating_sub(pool.others.0)
    });
    let rooms: Vec<u64> = rooms.collect();
    Room {
        most: rooms.iter().copied().max().unwrap_or(0),
        all: rooms.iter().fold(0, |all, room| all.saturating_add(*room)),
    }
}

/// Whether a model that is not loaded would fit. Models that are loaded would make room for it.
fn estimate(model: &ModelInfo, kv: Option<u64>, room: Option<&Room>) -> Value {
    let tokens = TOKENS.min(model.n_ctx_train as u64);
    let cache = kv.unwrap_or(0).saturating_mul(tokens);
    let need = model
        .file_bytes
        .saturating_add(cache)
        .saturating_add(OTHER_BYTES);
    let Some(room) = room else {
        return fit(
            Verdict::Unknown,
            Some(need),
            "this server does not know its memory",
        );
    };
    let of = |there: u64| format!("about {} of the {} for models", Bytes(need), Bytes(there));
    if need <= room.most / 10 * 9 {
        fit(Verdict::Fits, Some(need), &of(room.most))
    } else if need <= room.all {
        fit(Verdict::Tight, Some(need), &of(room.all))
    } else {
        let why = format!(
            "it needs about {}, and there are {}",
            Bytes(need),
            Bytes(room.all)
        );
        fit(Verdict::DoesNotFit, Some(need), &why)
    }
}

fn fit(verdict: Verdict, bytes: Option<u64>, why: &str) -> Value {
    json!({"verdict": verdict, "memory_bytes": bytes, "why": why})
}

impl Shapes {
    /// What a token of each model takes in the cache; `None` where the file does not say.
    async fn of(&self, library: Option<Arc<Library>>, models: &[ModelInfo]) -> Vec<Option<u64>> {
        let wanted = models
            .iter()
            .map(|model| (model.name.clone(), model.digest.clone()));
        let wanted: Vec<_> = wanted.collect();
        let unknown = vec![None; wanted.len()];
        let Some(library) = library else {
            return unknown;
        };
        let known = Arc::clone(&self.0);
        let found = tokio::task::spawn_blocking(move || {
            let of = |(name, digest): &(String, String)| {
                if let Some(known) = lock(&known).get(digest) {
                    return *known;
                }
                let file = library.find(name).and_then(|entry| entry.open()).ok();
                let spec = file.and_then(|file| model_spec(&file).ok());
                let bytes = spec.map(|spec| spec.kv_bytes_per_token(KvType::F16));
                lock(&known).insert(digest.clone(), bytes);
                bytes
            };
            let all: Vec<_> = wanted.iter().map(of).collect();
            // Models come and go.
            lock(&known).retain(|digest, _| wanted.iter().any(|(_, it)| it == digest));
            all
        });
        found.await.unwrap_or(unknown)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // What is guarded is whole after every statement.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
