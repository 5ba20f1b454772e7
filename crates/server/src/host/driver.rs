//! Drives the scheduler: tells it what happens, and has done what it wants.
//!
//! One lock holds the scheduler and the books about its jobs. Under it nothing computes, reads or waits: actions become
//! messages to the devices' threads and to the clients. A device's thread tells what came of a step itself, and finds its
//! next order in its queue when it returns; so between two steps there is no third thread.

mod away;
mod books;
mod senses;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use troika_base::Bytes;
use troika_scheduler::{
    Account, Action, DeviceId, Event, JobId, JobSpec, KeepAlive, ModelId, OwnerId, PoolFacts,
    Schedule, Time,
};

use super::around::Surroundings;
use super::clock::{Alarm, Clock};
use super::devices::HostDevice;
use super::lane::{AtWork, Order, Orders};
use super::loader::LoadOrder;
use super::models::{Handle, lock};
use super::records::Records;
use super::refusal;
use super::request::Request;
use crate::backend::{Placement, State};
use crate::job::{Placed, Report};
use crate::{ApiError, metrics};
use books::{Books, Standing};

/// What the driver drives.
pub(super) struct Machine {
    pub(super) devices: Vec<HostDevice>,
    pub(super) pools: Vec<PoolFacts>,
    pub(super) schedule: Box<dyn Schedule + Send>,
    /// How long a model stays after its last job, where nobody says otherwise.
    pub(super) keep_alive: KeepAlive,
    pub(super) around: Surroundings,
}

/// A device's two threads, as the driver knows them.
pub(super) struct Lane {
    pub(super) orders: Sender<Orders>,
    pub(super) loads: Sender<LoadOrder>,
    /// How often the device was lost: orders of an earlier epoch are void, and so is what comes of them.
    pub(super) epoch: u64,
    /// The step that its thread is at.
    pub(super) at_work: AtWork,
}

/// Drives the scheduler.
pub(super) struct Driver {
    clock: Arc<Clock>,
    around: Surroundings,
    devices: Vec<HostDevice>,
    pools: Vec<PoolFacts>,
    keep_alive: KeepAlive,
    next_job: AtomicU64,
    alarm: Arc<Alarm>,
    books: Mutex<Books>,
}

/// A model in memory.
pub(super) struct InMemory {
    pub(super) handle: Arc<Handle>,
    /// Over all devices.
    pub(super) bytes: u64,
    /// Time until it goes if nobody asks for it; `None` for never, or not while it is in use.
    pub(super) leaves_in: Option<Duration>,
}

impl Driver {
    /// Without threads: [`Driver::equip`] gives it these.
    pub(super) fn new(machine: Machine, alarm: Arc<Alarm>) -> Self {
        Self {
            clock: Arc::new(Clock::new(Instant::now())),
            around: machine.around,
            devices: machine.devices,
            pools: machine.pools,
            keep_alive: machine.keep_alive,
            next_job: AtomicU64::new(0),
            alarm,
            books: Mutex::new(Books {
                schedule: machine.schedule,
                lanes: Vec::new(),
                jobs: BTreeMap::new(),
                models: BTreeMap::new(),
                owners: BTreeMap::new(),
                records: Records::default(),
                remotes: Vec::new(),
                news: Vec::new(),
                others: BTreeMap::new(),
                is_ram_watched: false,
                looks: 0,
            }),
        }
    }

    /// Gives a device its threads; the devices in their order.
    pub(super) fn equip(&self, lane: Lane) {
        lock(&self.books).lanes.push(lane);
    }

    pub(super) fn devices(&self) -> &[HostDevice] {
        &self.devices
    }

    pub(super) fn pools(&self) -> &[PoolFacts] {
        &self.pools
    }

    /// The device of this name.
    pub(super) fn device(&self, name: &str) -> Option<DeviceId> {
        let found = self
            .devices
            .iter()
            .position(|device| device.facts.name == name);
        found
            .and_then(|index| u16::try_from(index).ok())
            .map(DeviceId)
    }

    /// A device's or an endpoint's name.
    fn name_of(&self, books: &Books, device: DeviceId) -> String {
        let beyond = usize::from(device.0).checked_sub(self.devices.len());
        let remote = beyond.and_then(|at| books.remotes.get(at));
        remote
            .map_or_else(|| self.name(device), |remote| &remote.name)
            .to_owned()
    }

    /// A device's name.
    pub(super) fn name(&self, device: DeviceId) -> &str {
        let device = self.devices.get(usize::from(device.0));
        device.map_or("", |device| &device.facts.name)
    }

    /// A number that no job had before.
    pub(super) fn new_job(&self) -> JobId {
        JobId(self.next_job.fetch_add(1, Ordering::Relaxed))
    }

    /// A moment by the scheduler's clock.
    pub(super) fn time(&self, at: Instant) -> Time {
        self.clock.of(at)
    }

    /// The scheduler's clock.
    pub(super) fn clock(&self) -> &Arc<Clock> {
        &self.clock
    }

    /// What is around the devices.
    pub(super) fn around(&self) -> &Surroundings {
        &self.around
    }

    /// Whether orders that a device was given in an epoch are void.
    pub(super) fn is_void(&self, device: DeviceId, epoch: u64) -> bool {
        lock(&self.books).epoch(device) != epoch
    }

    /// Tells the scheduler what has happened, and has done what it wants. What came of orders, [`Driver::answer`] tells.
    pub(super) fn post(&self, events: Vec<Event>) {
        let mut books = lock(&self.books);
        self.step(&mut books, events);
    }

    /// A step of the scheduler under the lock, so that its clock never goes back and its actions go out in their order.
    fn step(&self, books: &mut MutexGuard<'_, Books>, events: Vec<Event>) {
        let now = self.clock.now();
        for event in &events {
            self.note(books, event, now);
        }
        let actions = books.schedule.step(now, events);
        for action in actions {
            self.carry_out(books, action, now);
        }
        let news = std::mem::take(&mut books.news);
        if !news.is_empty() {
            return self.step(books, news);
        }
        let wake_at = books.schedule.wake_at();
        self.alarm.set(wake_at.map(|at| self.clock.when(at)));
    }

    /// Tells what came of a device's orders, unless these are void by now.
    pub(super) fn answer(&self, device: DeviceId, epoch: u64, event: Event) {
        let mut books = lock(&self.books);
        if books.epoch(device) == epoch {
            self.step(&mut books, vec![event]);
        }
    }

    /// A device is lost: what it held is gone, and whatever it was ordered is void. Returns its new epoch.
    pub(super) fn lose(&self, device: DeviceId, epoch: u64, why: String) -> u64 {
        let mut books = lock(&self.books);
        if books.epoch(device) == epoch {
            tracing::error!(device = self.name(device), %why, "device lost; its jobs go on from their tokens");
            self.void(&mut books, device);
            self.step(&mut books, vec![Event::Lost { device, why }]);
        }
        books.epoch(device)
    }

    /// Whatever a device was ordered so far is void, and nothing is there.
    fn void(&self, books: &mut Books, device: DeviceId) {
        if let Some(lane) = books.lanes.get_mut(usize::from(device.0)) {
            lane.epoch += 1;
        }
        let models: Vec<_> = books.models.keys().copied().collect();
        for model in models {
            self.unloaded(books, device, model);
        }
    }

    /// Queues a job. Whether its model is loaded, or it has begun at once: else it waits for the load.
    ///
    /// # Errors
    /// If the scheduler refuses it at once.
    pub(super) fn submit(&self, request: &Arc<Request>, spec: JobSpec) -> Result<bool, ApiError> {
        let mut books = lock(&self.books);
        let (job, model) = (request.id, spec.model);
        if let Some(standing) = books.models.get_mut(&model) {
            standing.waiting += 1;
        }
        books.jobs.insert(job, Arc::clone(request));
        self.step(&mut books, vec![Event::Submitted { job, spec }]);
        let is_loaded = books
            .models
            .get(&model)
            .is_some_and(|m| !m.loaded.is_empty());
        match request.take_refusal() {
            Some(error) => Err(error),
            None => Ok(is_loaded),
        }
    }

    /// Nobody waits for a job any more, if it is not done.
    pub(super) fn cancel(&self, job: JobId) {
        let mut books = lock(&self.books);
        if let Some(request) = self.take(&mut books, job, self.clock.now()) {
            request.abandon();
            self.step(&mut books, vec![Event::Cancelled(job)]);
        }
    }

    /// The owner's number of a key.
    pub(super) fn owner(&self, key: &str) -> OwnerId {
        let mut books = lock(&self.books);
        let next = OwnerId(u32::try_from(books.owners.len()).unwrap_or(u32::MAX));
        *books.owners.entry(key.to_owned()).or_insert(next)
    }

    /// A model can be asked for from now on.
    pub(super) fn knows(&self, handle: &Arc<Handle>) {
        let standing = Standing {
            handle: Arc::clone(handle),
            loaded: BTreeMap::new(),
            waiting: 0,
            running: 0,
            idle_since: Time::default(),
            keep_alive: self.keep_alive,
        };
        lock(&self.books).models.insert(handle.id, standing);
    }

    /// The models in memory, by name.
    pub(super) fn in_memory(&self) -> Vec<InMemory> {
        let books = lock(&self.books);
        let now = self.clock.now();
        let ready = books.schedule.snapshot().devices.into_iter();
        let ready = ready.flat_map(|device| device.models);
        let ready = ready.filter(|model| model.state == "ready");
        let mut bytes: BTreeMap<ModelId, u64> = BTreeMap::new();
        for model in ready {
            *bytes.entry(model.model).or_default() += model.bytes.0;
        }
        let found = bytes.into_iter().filter_map(|(model, bytes)| {
            let standing = books.models.get(&model)?;
            let is_idle = standing.waiting + standing.running == 0;
            let leaves_in = match standing.keep_alive {
                KeepAlive::For(time) if is_idle => Some((standing.idle_since + time) - now),
                _ => None,
            };
            Some(InMemory {
                handle: Arc::clone(&standing.handle),
                bytes,
                leaves_in,
            })
        });
        let mut found: Vec<_> = found.collect();
        found.sort_by(|a, b| a.handle.info.name.cmp(&b.handle.info.name));
        found
    }

    /// What every device and every queue is doing.
    pub(super) fn state(&self) -> State {
        let books = lock(&self.books);
        let models = books.models.iter();
        let names = models.map(|(id, standing)| (id.0, standing.handle.info.name.clone()));
        let requests = books.jobs.iter();
        let requests = requests.map(|(job, request)| (job.0, request.request_id.clone()));
        State {
            snapshot: books.schedule.snapshot(),
            models: names.collect(),
            requests: requests.collect(),
            posing: self.around.posing.clone(),
            machine_watts: self.around.watts(),
            compiling: Vec::new(),
        }
    }

    /// How the jobs of a request were placed.
    pub(super) fn placements(&self, request_id: &str) -> Option<Vec<Placement>> {
        let books = lock(&self.books);
        let devices = self.devices.iter().map(|device| &device.facts.name);
        let remotes = books.remotes.iter().map(|remote| &remote.name);
        let names: Vec<_> = devices.chain(remotes).cloned().collect();
        books.records.of_request(request_id, &names)
    }

    /// The scheduler's time has come, though nothing has happened.
    pub(super) fn wake(&self) {
        self.post(Vec::new());
    }

    /// Keeps the books about what has happened.
    fn note(&self, books: &mut Books, event: &Event, now: Time) {
        match event {
            Event::Loaded {
                device,
                model,
                bytes,
                took,
                ..
            } => {
                books.loaded(*device, *model, bytes.clone(), (now, self.keep_alive));
                if let Some(standing) = books.models.get(model) {
                    let name = &standing.handle.info.name;
                    metrics::model_loaded(name, self.name(*device), *took);
                    let memory = bytes.iter().copied().sum::<Bytes>();
                    tracing::info!(model = name, device = self.name(*device), %memory, seconds = took.as_secs_f64(), "model loaded");
                }
            }
            Event::Unloaded { device, model } => self.unloaded(books, *device, *model),
            Event::StepDone { report, .. } => {
                for &job in &report.failed {
                    self.take(books, job, now);
                }
            }
            _ => {}
        }
    }

    fn unloaded(&self, books: &mut Books, device: DeviceId, model: ModelId) {
        let Some(standing) = books.models.get_mut(&model) else {
            return;
        };
        if standing.loaded.remove(&device).is_some() {
            let name = &standing.handle.info.name;
            metrics::model_unloaded(name, self.name(device));
            tracing::info!(model = name, device = self.name(device), "model unloaded");
        }
    }

    /// Has an action done: a message to a device or to a client.
    fn carry_out(&self, books: &mut Books, action: Action, now: Time) {
        match action {
            Action::Probe(device) => self.order(books, device, Order::Probe),
            Action::Abandon(device) => {
                self.void(books, device);
                // Its thread comes back from a step that does not end by itself.
                books.interrupt(device);
                // With the first order of the new epoch, all of the old one goes.
                self.order(books, device, Order::Nothing);
            }
            Action::Load {
                device,
                model,
                kv_tokens,
            } => {
                let Some(standing) = books.models.get(&model) else {
                    return;
                };
                let handle = Arc::clone(&standing.handle);
                if let Some(lane) = books.lanes.get(usize::from(device.0)) {
                    let epoch = lane.epoch;
                    // A thread that has ended leaves only when the driver does.
                    let _ = lane.loads.send(LoadOrder {
                        epoch,
                        handle,
                        kv_tokens,
                    });
                }
            }
            Action::Unload {
                device,
                model,
                keep_prefixes,
            } => {
                let order = Order::Unload {
                    model,
                    keep_prefixes,
                };
                self.order(books, device, order);
            }
            Action::Start { device, model, job } => {
                let Some(request) = books.jobs.get(&job).cloned() else {
                    return;
                };
                if request.begin(Instant::now()) {
                    books.began(model);
                }
                let turn = request.next_turn();
                self.order(
                    books,
                    device,
                    Order::Start {
                        model,
                        request,
                        turn,
                    },
                );
            }
            Action::Step {
                device,
                model,
                slices,
                may_draft,
            } => {
                let order = Order::Step {
                    model,
                    slices,
                    may_draft,
                };
                self.order(books, device, order);
            }
            Action::Move {
                job,
                model,
                from,
                to,
                ..
            } => {
                if let (Some(source), Some(target)) = (books.address(from), books.address(to)) {
                    self.order(
                        books,
                        from,
                        Order::Move {
                            job,
                            model,
                            from: source,
                            to: target,
                        },
                    );
                }
            }
            Action::Release { device, seq } => self.order(books, device, Order::Release(seq)),
            Action::Drop { device, job } => self.order(books, device, Order::Drop(job)),
            Action::Send { job, to } => self.send(books, job, to),
            Action::Refuse { job, refusal } => {
                if let Some(request) = self.take(books, job, now) {
                    request.refuse(refusal::told(&refusal));
                }
            }
            Action::Place(decision) => {
                let Some(request) = books.jobs.get(&decision.job).cloned() else {
                    return;
                };
                // Of what goes to an endpoint, the courier tells.
                if usize::from(decision.prefill.0) < self.devices.len() {
                    request.placed(Placed {
                        prefill: self.name(decision.prefill).to_owned(),
                        decode: self.name(decision.decode).to_owned(),
                    });
                }
                books.records.placed(&request, *decision);
            }
            Action::Finish { job, account } => {
                if let Some(request) = self.take(books, job, now) {
                    books.records.finished(&request, &account);
                    request.finish(self.report(books, *account));
                }
            }
            // The list of actions may grow; what nobody knows here, nobody here can do.
            other => tracing::error!(?other, "the scheduler wants what this driver does not know"),
        }
    }

    /// Takes a job out of the books: it is done, or nobody waits for it.
    fn take(&self, books: &mut Books, job: JobId, now: Time) -> Option<Arc<Request>> {
        let request = books.jobs.remove(&job)?;
        let standing = books.models.get_mut(&request.handle.id);
        if let Some(standing) = standing.filter(|_| !request.is_away()) {
            match request.has_begun() {
                true => standing.running = standing.running.saturating_sub(1),
                false => standing.waiting = standing.waiting.saturating_sub(1),
            }
            standing.keep_alive = request.keep_alive.unwrap_or(standing.keep_alive);
            standing.idle_since = now;
            standing.report();
        }
        if request.has_wandered() {
            for (device, _) in (0..).map(DeviceId).zip(&self.devices) {
                self.order(books, device, Order::Drop(job));
            }
        }
        Some(request)
    }

    fn order(&self, books: &Books, device: DeviceId, order: Order) {
        if let Some(lane) = books.lanes.get(usize::from(device.0)) {
            let epoch = lane.epoch;
            // A thread that has ended leaves only when the driver does.
            let _ = lane.orders.send(Orders { epoch, order });
        }
    }

    fn report(&self, books: &Books, account: Account) -> Report {
        let spans = account.spans.iter();
        let devices = spans.map(|span| self.name_of(books, span.device));
        Report {
            devices: devices.collect(),
            account,
            ..Report::default()
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.alarm.stop();
    }
}
