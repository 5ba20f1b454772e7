//! The models on this machine, behind the door that the interfaces know.
//!
//! A job's way ([`submit`]): [`Host::submit`] finds the model ([`models`] opens it if need be), [`prompt`] renders, encodes and fits the
//! prompt, and [`driver`] tells the scheduler of it. From then on the scheduler says which device does what and when, and
//! the devices' threads ([`lane`]) do it and tell the client of each token.

mod around;
mod away;
mod clock;
mod devices;
mod draft_model;
mod drafter;
mod drafting;
mod driver;
mod facts;
mod guess;
mod info;
mod lane;
mod loader;
mod models;
mod order;
mod prepare;
mod prompt;
mod records;
mod refusal;
mod request;
mod resident;
mod spills;
mod style;
mod submit;
mod voice;

#[cfg(test)]
pub(crate) mod tests;
#[cfg(test)]
mod tests_of_adapters;
#[cfg(test)]
mod tests_of_ahead;
#[cfg(test)]
mod tests_of_around;
#[cfg(test)]
mod tests_of_away;
#[cfg(test)]
mod tests_of_compiling;
#[cfg(test)]
mod tests_of_devices;
#[cfg(test)]
mod tests_of_draft_models;
#[cfg(test)]
mod tests_of_drafts;
#[cfg(test)]
mod tests_of_encoders;

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Instant, SystemTime};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::oneshot;
use troika_base::{DeviceKind, DeviceProfile, KvType, TokenId};
use troika_device::{Device, PAGE_TOKENS};
use troika_library::{Entry, Library, Manifest};
use troika_machine::probe::Root;
use troika_machine::watch::Watcher;
use troika_scheduler::{Class, DeviceId, Event, Policy, PoolFacts, PoolId, Power, Scheduler};

use crate::backend::{Placement, State};
use crate::job::{
    Caller, ChatPrompt, EmbedJob, Embedded, Job, KeepAlive, LoadedModel, ModelInfo, Prompt, Wishes,
};
use crate::{Answer, ApiError, Backend, Beside, ModelDetails, wishes};
use around::Surroundings;
use clock::Alarm;
use draft_model::Drafts;
use driver::{Driver, Lane, Machine};
use facts::Context;
use info::{details, from_library, info};
use lane::{AtWork, Worker};
use loader::Loader;
use models::{Handle, Models, open_adapted};
use order::queue;
use request::{Asked, Client, Embedding};

pub use around::Around;
pub use away::{Carried, Courier, Errand, Offer, Outlook};
pub use devices::{HostDevice, ram, ram_shared};
pub use guess::Draft;

/// What a [`Host`] may do.
#[derive(Clone, Debug, Default)]
pub struct HostSettings {
    /// Tokens of context that models are loaded with; what the model and the memory allow if absent.
    pub n_ctx: Option<usize>,
    /// Tokens that each model's KV cache holds, over all sequences; what seems sensible and fits if absent.
    pub kv_tokens: Option<usize>,
    /// How KV caches are kept. A device that does not keep them so gets no model.
    pub kv_type: KvType,
    /// What the scheduler may do. Its pages are as long as the engine's, whatever it says here.
    pub scheduler: troika_scheduler::Settings,
    /// What there is around the devices.
    pub around: Around,
    /// Where guesses at the next tokens of answers come from.
    pub draft: Draft,
}

/// The models on this machine.
#[derive(Clone)]
pub struct Host {
    library: Arc<Library>,
    models: Arc<Models>,
    driver: Arc<Driver>,
    /// It tells the driver what changes around the devices, as long as it is there.
    _watcher: Option<Arc<Watcher>>,
}

impl Host {
    /// Serves the library's models on one processor of which nothing is known, in the machine's memory.
    ///
    /// # Errors
    /// If the system has no thread left.
    pub fn new(
        library: Arc<Library>,
        device: Arc<dyn Device>,
        settings: HostSettings,
    ) -> std::io::Result<Self> {
        let profile = DeviceProfile::unknown(device.description(), DeviceKind::Cpu);
        let device = HostDevice::new(device, profile, PoolId(0));
        Self::over(library, vec![device], vec![ram(None)], settings)
    }

    /// Serves the library's models on these devices, whose memory is in these pools.
    ///
    /// # Errors
    /// If the system has no thread left.
    pub fn over(
        library: Arc<Library>,
        devices: Vec<HostDevice>,
        pools: Vec<PoolFacts>,
        settings: HostSettings,
    ) -> std::io::Result<Self> {
        let mut scheduler = settings.scheduler.clone();
        scheduler.limits.page_tokens = PAGE_TOKENS as u32;
        let (around, spent_wh) = Surroundings::open(&settings.around);
        scheduler.spent_wh = spent_wh;
        let facts = devices.iter().map(|device| device.facts.clone()).collect();
        let schedule = Scheduler::new(scheduler, facts, pools.clone());
        let machine = Machine {
            devices,
            pools,
            schedule: Box::new(schedule),
            keep_alive: settings.scheduler.keep_alive,
            around,
        };
        Self::driving(machine, library, &settings)
    }

    fn driving(
        machine: Machine,
        library: Arc<Library>,
        settings: &HostSettings,
    ) -> std::io::Result<Self> {
        let alarm = Arc::new(Alarm::default());
        let driver = Arc::new(Driver::new(machine, Arc::clone(&alarm)));
        for (index, device) in (0..).zip(driver.devices()) {
            driver.equip(lane(DeviceId(index), device, &driver)?);
        }
        clock::start(alarm, Arc::downgrade(&driver))?;
        // The first step has the devices probed.
        driver.wake();
        let watched = settings.around.machine.as_ref();
        let watcher = watched.map(|machine| {
            let driver = Arc::downgrade(&driver);
            Watcher::start(machine, Root::real(), move |change| {
                if let Some(driver) = driver.upgrade() {
                    driver.changed(change);
                }
            })
        });
        let context = Context {
            n_ctx: settings.n_ctx,
            kv_tokens: settings.kv_tokens,
            kv_type: settings.kv_type,
        };
        let drafts = Drafts {
            draft: settings.draft.clone(),
            library: Arc::clone(&library),
        };
        let models = Models::new(Arc::clone(&driver), context, drafts)?;
        Ok(Self {
            models: Arc::new(models),
            library,
            driver,
            _watcher: watcher.transpose()?.map(Arc::new),
        })
    }

    /// Tells the scheduler what somebody else watches: power, heat, a meter's day.
    pub fn tell(&self, events: Vec<Event>) {
        self.driver.post(events);
    }

    /// Where the machine's power comes from, as the scheduler was told.
    pub(crate) fn power(&self) -> Power {
        self.driver.power()
    }

    /// Runs what reads files, renders or encodes on a thread where it may take its time.
    async fn aside<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Library) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let library = Arc::clone(&self.library);
        let done = tokio::task::spawn_blocking(move || work(&library)).await;
        done.unwrap_or_else(|_| {
            tracing::error!("a request panicked");
            Err(ApiError::internal())
        })
    }

    /// The model of this name, opened.
    async fn open(&self, model: String) -> Result<Arc<Handle>, ApiError> {
        let models = Arc::clone(&self.models);
        self.aside(move |library| {
            let entry: Entry = library.find(&model).map_err(|error| from_library(&error))?;
            let info = info(&entry)?;
            models.get(&entry, info)
        })
        .await
    }

    async fn embed_all(&self, job: EmbedJob, caller: Caller) -> Result<Embedded, ApiError> {
        let arrived = Instant::now();
        let handle = self.open(job.model.clone()).await?;
        let usual = wishes::usual_of_embedding(job.inputs.len());
        let order = self.order(&job.wishes, &caller, usual, arrived, &[])?;
        if let Some(dimensions) = job.dimensions
            && !(1..=handle.info.n_embd).contains(&dimensions)
        {
            let message = format!("{dimensions} is not between 1 and {}", handle.info.n_embd);
            return Err(ApiError::invalid(message).at("dimensions"));
        }
        let driver = Arc::clone(&self.driver);
        let (inputs, overflow, keep_alive) = (job.inputs, job.overflow, job.keep_alive);
        let request_id = job.wishes.request_id;
        let queue_all = move |_: &Library| {
            let n_ctx = handle.n_ctx_on(order.device);
            let encode = |input| prompt::encode(&handle, input, overflow, n_ctx, Some(1));
            // All of them are read before the first is queued: nothing is done for a request that makes no sense.
            let encoded = inputs.iter().map(encode).collect::<Result<Vec<_>, _>>()?;
            let mut pending = Vec::with_capacity(encoded.len());
            for input in encoded {
                let (vector, done) = oneshot::channel();
                let asked = Asked {
                    tokens: input.tokens,
                    answers: None,
                    n_ctx,
                    namespace: namespace(&caller),
                    request_id: request_id.clone(),
                    arrived,
                    keep_alive: keep_alive.map(Into::into),
                    leaves: None,
                };
                let work = troika_scheduler::Work::Embed;
                let job = (Arc::clone(&handle), asked, Client::Vector(vector));
                pending.push((queue(&driver, job, &order, work)?, done));
            }
            Ok(pending)
        };
        let pending = self.aside(queue_all).await?;
        let mut embedded = Embedded::default();
        for (_queued, done) in pending {
            let done = done.await.unwrap_or_else(|_| Err(ApiError::internal()));
            let Embedding { mut vector, usage } = done?;
            if let Some(dimensions) = job.dimensions {
                vector = troika_engine::shorten(vector, dimensions);
            }
            embedded.vectors.push(vector);
            crate::job::add(&mut embedded.usage, &usage);
        }
        embedded.usage.prefill = arrived.elapsed().saturating_sub(embedded.usage.load);
        Ok(embedded)
    }

    async fn warm(&self, model: String, keep_alive: Option<KeepAlive>) -> Result<(), ApiError> {
        let handle = self.open(model).await?;
        let order = self.order(
            &Wishes::default(),
            &Caller::default(),
            Class::Interactive,
            Instant::now(),
            &[],
        )?;
        let (loaded, done) = oneshot::channel();
        let asked = Asked {
            // The scheduler counts one token for it, which nobody reads.
            tokens: vec![TokenId(0)],
            answers: None,
            n_ctx: handle.n_ctx,
            namespace: String::new(),
            request_id: String::new(),
            arrived: Instant::now(),
            keep_alive: keep_alive.map(Into::into),
            leaves: None,
        };
        let work = troika_scheduler::Work::Load;
        let job = (handle, asked, Client::Load(loaded));
        let _queued = queue(&self.driver, job, &order, work)?;
        done.await.unwrap_or_else(|_| Err(ApiError::internal()))
    }
}

/// Starts a device's two threads; they end with the driver.
fn lane(id: DeviceId, device: &HostDevice, driver: &Arc<Driver>) -> std::io::Result<Lane> {
    let (orders, inbox) = channel();
    let (loads, to_load) = channel();
    let name = device.facts.name.clone();
    let at_work = AtWork::default();
    let worker = Worker::new(
        id,
        name.clone(),
        Arc::clone(&device.device),
        driver,
        at_work.clone(),
    );
    let loader = Loader {
        id,
        device: device.clone(),
        driver: Arc::downgrade(driver),
        lane: orders.clone(),
    };
    let thread = |role: &str| std::thread::Builder::new().name(format!("troika-{role}{name}"));
    thread("").spawn(move || worker.run(&inbox))?;
    thread("load-").spawn(move || loader.run(&to_load))?;
    Ok(Lane {
        orders,
        loads,
        epoch: 0,
        at_work,
    })
}

impl Backend for Host {
    fn submit(&self, job: Job, caller: Caller) -> BoxFuture<'_, Result<Answer, ApiError>> {
        self.submit_with(job, caller, None, None).boxed()
    }

    fn embed(&self, job: EmbedJob, caller: Caller) -> BoxFuture<'_, Result<Embedded, ApiError>> {
        self.embed_all(job, caller).boxed()
    }

    fn count_tokens(
        &self,
        model: String,
        prompt: Prompt,
    ) -> BoxFuture<'_, Result<usize, ApiError>> {
        async move {
            let handle = self.open(model).await?;
            let count = move |_: &Library| {
                prompt::encode_whole(&handle, &prompt).map(|encoded| encoded.tokens.len())
            };
            self.aside(count).await
        }
        .boxed()
    }

    fn render(&self, model: String, prompt: ChatPrompt) -> BoxFuture<'_, Result<String, ApiError>> {
        async move {
            let handle = self.open(model).await?;
            let render = move |_: &Library| {
                let name = &handle.info.name;
                prompt::render(&handle, &prompt)?.ok_or_else(|| {
                    ApiError::unsupported(format!("model `{name}` has no chat template"))
                })
            };
            self.aside(render).await
        }
        .boxed()
    }

    fn load(
        &self,
        model: String,
        keep_alive: Option<KeepAlive>,
    ) -> BoxFuture<'_, Result<(), ApiError>> {
        self.warm(model, keep_alive).boxed()
    }

    fn unload(&self, model: String) -> BoxFuture<'_, Result<(), ApiError>> {
        async move {
            let find = move |library: &Library| library.find(&model).map_err(|e| from_library(&e));
            if let Some(handle) = self.models.named(&self.aside(find).await?.name) {
                self.driver.post(vec![Event::Cool(handle.id)]);
            }
            Ok(())
        }
        .boxed()
    }

    fn models(&self) -> BoxFuture<'_, Result<Vec<ModelInfo>, ApiError>> {
        self.aside(|library| {
            let entries = library.list().map_err(|error| from_library(&error))?;
            // A file that is damaged is no model; asking for it says what is wrong.
            Ok(entries
                .iter()
                .filter_map(|entry| info(entry).ok())
                .collect())
        })
        .boxed()
    }

    fn show(&self, model: String) -> BoxFuture<'_, Result<ModelDetails, ApiError>> {
        self.aside(move |library| {
            let entry = library.find(&model).map_err(|error| from_library(&error))?;
            details(&entry)
        })
        .boxed()
    }

    fn loaded(&self) -> Vec<LoadedModel> {
        let models = self.driver.in_memory().into_iter();
        let loaded = models.map(|model| LoadedModel {
            info: model.handle.info.clone(),
            memory_bytes: model.bytes,
            n_ctx: model.handle.n_ctx,
            expires: model.leaves_in.map(|left| SystemTime::now() + left),
        });
        loaded.collect()
    }

    fn create(&self, name: String, manifest: Manifest) -> BoxFuture<'_, Result<(), ApiError>> {
        self.aside(move |library| {
            let created = library.create_checked(&name, manifest, |entry| {
                let adapted = open_adapted(entry).map(drop);
                adapted.map_err(|error| troika_library::Error::BadSetting {
                    field: "adapters",
                    reason: error.to_string(),
                })
            });
            created.map(drop).map_err(|error| from_library(&error))
        })
        .boxed()
    }

    fn copy(&self, from: String, to: String) -> BoxFuture<'_, Result<(), ApiError>> {
        self.aside(move |library| {
            let copied = library.copy(&from, &to);
            copied.map(drop).map_err(|error| from_library(&error))
        })
        .boxed()
    }

    fn delete(&self, model: String) -> BoxFuture<'_, Result<(), ApiError>> {
        async move {
            // Not found by its file, which may be damaged.
            let deleted =
                move |library: &Library| library.delete(&model).map_err(|e| from_library(&e));
            let name = self.aside(deleted).await?;
            self.models.forget(&name);
            Ok(())
        }
        .boxed()
    }

    fn library(&self) -> Option<Arc<Library>> {
        Some(Arc::clone(&self.library))
    }

    fn state(&self) -> Option<State> {
        let compiling = self.models.compiling();
        Some(State {
            compiling,
            ..self.driver.state()
        })
    }

    fn beside(&self, device: &str, class: Class, is_metered: bool) -> Option<Beside> {
        self.driver.beside(device, class, is_metered)
    }

    fn placements(&self, request_id: &str) -> Option<Vec<Placement>> {
        self.driver.placements(request_id)
    }

    fn set_policy(&self, policy: Policy) -> bool {
        self.driver.post(vec![Event::PolicyIs(policy)]);
        true
    }
}

/// Prompts are cached for each key alone: how fast an answer begins would tell what others asked.
fn namespace(caller: &Caller) -> String {
    caller.key.clone().unwrap_or_default()
}
