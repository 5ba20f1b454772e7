//! Always-on work over HTTP: voice activity, noise suppression, masks, labels and boxes, by the ONNX models of a folder.
//!
//! A request's way: [`audio`] or [`vision`] reads it and says what is to be done; [`Media::submit`] finds the model on the
//! [`shelf`] and gives the errand to the [`lane`] of that model, a thread of its own; what comes back over the [`outlet`]
//! becomes the answer. Language models do not come this way: they have the [`Backend`].

mod ask;
mod audio;
mod lane;
mod outlet;
mod shelf;
mod texts;
mod told;
mod vision;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use troika_base::DeviceKind;
use troika_device_npu::exec;
use troika_machine::meter::DeviceMeters;
use troika_scheduler::{Class, UnknownName};

use crate::dialect::Dialect;
use crate::job::{Caller, KeepAlive, Wishes};
use crate::{ApiError, Backend, ErrorKind, Settings, metrics, wishes};
use lane::{Bench, Lane, NotTaken, Task};
use outlet::{Errand, Failed, Inlet, Outlet};
use shelf::{Item, Kind, Loaded, Opener, Place, Shelf, device_name};
use told::Running;

/// When to try again if a model has as much to do as may wait for it.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The ONNX models of a folder, and what they are asked. Clones share them.
#[derive(Clone)]
pub struct Media(Arc<Inner>);

struct Inner {
    shelf: Arc<Shelf>,
    keep_alive: KeepAlive,
    queue_length: usize,
    meters: Option<Arc<DeviceMeters>>,
    /// Who is told of runs, so that they are in its devices' accounts.
    books: OnceLock<Weak<dyn Backend>>,
    lanes: Mutex<HashMap<(String, Place), Arc<Lane>>>,
}

impl Media {
    /// The models of the settings' folder. Nothing is opened before somebody asks for it.
    pub fn new(settings: &Settings, meters: Option<Arc<DeviceMeters>>) -> Self {
        Self::with(settings, meters, Arc::new(exec::open))
    }

    fn with(settings: &Settings, meters: Option<Arc<DeviceMeters>>, opener: Opener) -> Self {
        Self(Arc::new(Inner {
            shelf: Arc::new(Shelf::new(settings.onnx_dir.clone(), opener)),
            keep_alive: settings.keep_alive,
            queue_length: settings.queue_length,
            meters,
            books: OnceLock::new(),
            lanes: Mutex::default(),
        }))
    }

    /// Has runs counted in the accounts of whoever schedules; the first one that is named counts them.
    fn booked_by(&self, backend: &Arc<dyn Backend>) {
        self.0.books.get_or_init(|| Arc::downgrade(backend));
    }

    /// Gives a model an errand that is one of the request's jobs.
    ///
    /// # Errors
    /// As [`Self::send`].
    fn submit<T: Send + 'static>(
        &self,
        order: Order,
        run: impl FnMut(&mut Loaded, &mut Outlet<T>) -> Result<(), Failed> + Send + 'static,
    ) -> Result<Running<T>, ApiError> {
        let (name, class) = (order.item.name.clone(), order.class());
        let due = order.due(Instant::now());
        let inlet = self.send(order, run);
        let inlet = inlet.inspect_err(|error| metrics::refused(error.kind))?;
        Ok(Running::new(name, class, due, inlet))
    }

    /// Gives a model an errand. Returns when it waits for its turn; what happens then, the returned end tells. Dropping
    /// that cancels the errand.
    ///
    /// # Errors
    /// If as many errands wait as may.
    fn send<T: Send + 'static>(
        &self,
        order: Order,
        run: impl FnMut(&mut Loaded, &mut Outlet<T>) -> Result<(), Failed> + Send + 'static,
    ) -> Result<Inlet<T>, ApiError> {
        let came = Instant::now();
        let (outlet, inlet) = Outlet::channel(order.due(came));
        let task = Task {
            class: order.class(),
            came,
            work: Box::new(Errand { outlet, run }),
        };
        self.push(order.item, order.place, task)?;
        Ok(inlet)
    }

    fn push(&self, item: Item, place: Place, task: Task) -> Result<(), ApiError> {
        let inner = &*self.0;
        let key = (item.name.clone(), place);
        let mut lanes = locked(&inner.lanes);
        let task = match lanes.get(&key) {
            None => task,
            Some(lane) => match lane.push(task) {
                Ok(()) => return Ok(()),
                Err(NotTaken::Full) => return Err(full(&item.name)),
                Err(NotTaken::Ended(task)) => task,
            },
        };
        let bench = Bench {
            shelf: Arc::clone(&inner.shelf),
            item,
            place,
            keep_alive: inner.keep_alive,
            meters: inner.meters.clone(),
            books: inner.books.get().cloned(),
        };
        let lane = Lane::start(bench, task, inner.queue_length).map_err(|error| {
            tracing::error!(%error, "no thread for an ONNX model");
            let kind = ErrorKind::Unavailable {
                retry_after: RETRY_AFTER,
            };
            ApiError::new(kind, "the system has no thread left; try again")
        })?;
        lanes.insert(key, lane);
        Ok(())
    }

    /// What there is, with what would run it.
    fn list(&self, place: Place, wanted: fn(Kind) -> bool) -> Vec<Value> {
        let inner = &*self.0;
        let lane_of = |item: &Item| {
            let lanes = locked(&inner.lanes);
            lanes.get(&(item.name.clone(), place))?.facts()
        };
        let items = inner.shelf.items().into_iter();
        items
            .filter_map(|item| {
                let open = lane_of(&item);
                let is_open = open.is_some();
                let facts = open.map_or_else(|| inner.shelf.facts_of_late(&item, place), Ok);
                if facts.as_ref().is_ok_and(|facts| !wanted(facts.kind)) {
                    return None;
                }
                let mut told = match facts {
                    Ok(facts) => serde_json::to_value(&*facts).unwrap_or_default(),
                    Err(error) => json!({"error": error.message}),
                };
                told["name"] = item.name.into();
                told["open"] = is_open.into();
                Some(told)
            })
            .collect()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let lanes = locked(&self.lanes);
        #[expect(clippy::iter_over_hash_type, reason = "all of them end, in any order")]
        for lane in lanes.values() {
            lane.end();
        }
    }
}

fn full(name: &str) -> ApiError {
    let kind = ErrorKind::Overloaded {
        retry_after: RETRY_AFTER,
    };
    let message = format!("as many requests wait for `{name}` as may (`queue_length`); try again");
    ApiError::new(kind, message)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind these locks is whole at all times.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Which model is to do something, where and when.
struct Order {
    item: Item,
    place: Place,
    wishes: Wishes,
}

impl Order {
    fn class(&self) -> Class {
        self.wishes.class.unwrap_or_default()
    }

    /// When it is worth nothing any more.
    fn due(&self, came: Instant) -> Option<Instant> {
        let deadline = self.wishes.deadline;
        deadline.and_then(|deadline| came.checked_add(deadline))
    }
}

/// What handlers are given.
#[derive(Clone)]
struct Door {
    media: Media,
    backend: Arc<dyn Backend>,
}

impl Door {
    /// What the request's headers wish, and where that leads.
    ///
    /// # Errors
    /// If they name a device that there never is.
    fn wished(&self, caller: &Caller) -> Result<(Wishes, Place), ApiError> {
        let wishes = wishes::settled(Wishes::default(), caller, Class::Interactive);
        let place = place(&wishes, &*self.backend)?;
        Ok((wishes, place))
    }

    /// Finds a model, as `find` says. It may be opened to be found, so that is not done here.
    async fn order(
        &self,
        (wishes, place): (Wishes, Place),
        find: impl FnOnce(&Shelf) -> Result<Item, ApiError> + Send + 'static,
    ) -> Result<Order, ApiError> {
        let shelf = Arc::clone(&self.media.0.shelf);
        let item = aside(move || find(&shelf)).await??;
        Ok(Order {
            item,
            place,
            wishes,
        })
    }
}

/// Where a job is to run, by its own wishes or else by the owner's.
fn place(wishes: &Wishes, backend: &dyn Backend) -> Result<Place, ApiError> {
    match &wishes.device {
        Some(name) => Ok(Place::Require(device(name)?)),
        None => {
            let preferred = backend
                .state()
                .and_then(|state| state.snapshot.policy.prefer);
            Ok(preferred.map_or(Place::Any, Place::Prefer))
        }
    }
}

/// Does what takes a while beside the threads of connections.
async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        tracing::error!(%error, "work beside the connections' threads failed");
        ApiError::internal()
    })
}

fn device(name: &str) -> Result<DeviceKind, ApiError> {
    const KINDS: [DeviceKind; 3] = [DeviceKind::Npu, DeviceKind::Gpu, DeviceKind::Cpu];
    let found = KINDS.into_iter().find(|kind| device_name(*kind) == name);
    found.ok_or_else(|| {
        let known = KINDS.map(device_name).join(", ");
        let unknown = UnknownName::new("device", name, known);
        ApiError::invalid(unknown.to_string()).at(wishes::DEVICE)
    })
}

/// The routes.
pub(crate) fn routes(media: Media, backend: Arc<dyn Backend>) -> Router {
    media.booked_by(&backend);
    Router::new()
        .route("/api/troika/onnx", get(list))
        .route("/api/troika/vision", get(list_vision).post(vision::look))
        .route("/api/troika/audio/activity", post(audio::listen))
        .route("/api/troika/audio/denoise", post(audio::denoise))
        .route("/v1/audio/transcriptions", post(no_transcription))
        .route("/v1/audio/translations", post(no_transcription))
        .route("/v1/audio/speech", post(no_speech))
        .method_not_allowed_fallback(crate::app::wrong_method)
        .with_state(Door { media, backend })
}

/// An error on its way to the client.
struct Refused(ApiError);

impl From<ApiError> for Refused {
    fn from(error: ApiError) -> Self {
        Self(error)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        Dialect::OpenAi.refuse(&self.0)
    }
}

type Handled = Result<Response, Refused>;

/// Who asks; where no keys are in use, nobody in particular.
fn caller(extension: Option<Extension<Caller>>) -> Caller {
    extension.map_or_else(Caller::default, |Extension(caller)| caller)
}

async fn list(State(door): State<Door>, extension: Option<Extension<Caller>>) -> Handled {
    door.list(extension, |_| true).await
}

async fn list_vision(State(door): State<Door>, extension: Option<Extension<Caller>>) -> Handled {
    door.list(extension, Kind::sees).await
}

impl Door {
    async fn list(self, extension: Option<Extension<Caller>>, wanted: fn(Kind) -> bool) -> Handled {
        let (_, place) = self.wished(&caller(extension))?;
        let models = aside(move || self.media.list(place, wanted)).await?;
        Ok(Json(json!({"object": "list", "data": models})).into_response())
    }
}

async fn no_transcription() -> Refused {
    Refused(ApiError::unsupported(
        "there is no model here that writes down what is said; POST /api/troika/audio/activity tells when somebody \
         speaks, and POST /api/troika/audio/denoise takes the noise out",
    ))
}

async fn no_speech() -> Refused {
    Refused(ApiError::unsupported(
        "there is no model here that speaks; of sound, there are POST /api/troika/audio/activity and \
         POST /api/troika/audio/denoise",
    ))
}

#[cfg(test)]
mod tests;
