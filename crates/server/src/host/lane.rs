//! The thread of a device: it owns the models that are there, runs the steps that it is ordered, and tells what came.
//!
//! Nobody else touches a model or its cache. A job that goes wrong ends alone. A step that goes wrong loses the device:
//! nothing is known then of what it holds, so all of that goes, and the scheduler has the jobs done elsewhere, or here
//! again after a probe, from their tokens.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use troika_base::{Bytes, TokenId};
use troika_device::{Device, Interrupt};
use troika_engine::{KvImage, probe_watched};
use troika_machine::meter::Work;
use troika_scheduler::{DeviceId, Event, JobId, ModelId, SeqId, Slice, StepReport, Wrote};

use super::clock::Clock;
use super::driver::Driver;
use super::models::lock;
use super::request::Request;
use super::resident::{Computed, Resident, Seat, StepError};
use crate::{ApiError, metrics};

/// What a device is to do.
pub(super) enum Order {
    /// Only see that the device was given up.
    Nothing,
    /// Answer the known question.
    Probe,
    /// A model is loaded: it is this thread's from now on.
    Adopt {
        resident: Box<Resident>,
        took: Duration,
    },
    /// Let a model go, and keep what it has cached if that is worth it.
    Unload { model: ModelId, keep_prefixes: bool },
    /// Give a job's sequences what the cache has of them.
    Start {
        model: ModelId,
        request: Arc<Request>,
        turn: u64,
    },
    /// Run a step.
    Step {
        model: ModelId,
        slices: Vec<Slice>,
        may_draft: bool,
    },
    /// Send a job's caches to another device.
    Move {
        job: JobId,
        model: ModelId,
        from: Address,
        to: Address,
    },
    /// Go on with a job that another device has sent.
    Take(Box<Parcel>),
    /// Let a sequence's cache go.
    Release(SeqId),
    /// Forget a job.
    Drop(JobId),
}

/// What breaks off the step that a device's thread is at, if it is at one.
#[derive(Clone, Default)]
pub(super) struct AtWork(Arc<Mutex<Vec<Interrupt>>>);

impl AtWork {
    pub(super) fn interrupt(&self) {
        for interrupt in &*lock(&self.0) {
            interrupt.raise();
        }
    }

    fn begins(&self, interrupts: Vec<Interrupt>) {
        *lock(&self.0) = interrupts;
    }

    fn ends(&self) {
        lock(&self.0).clear();
    }
}

/// Where a device's orders go, as long as it is not lost.
#[derive(Clone)]
pub(super) struct Address {
    pub(super) orders: Sender<Orders>,
    pub(super) epoch: u64,
}

impl Address {
    fn send(&self, order: Order) {
        let epoch = self.epoch;
        // A thread that has ended leaves only when the driver does.
        let _ = self.orders.send(Orders { epoch, order });
    }
}

/// A job on its way from one device to another.
pub(super) struct Parcel {
    model: ModelId,
    request: Arc<Request>,
    /// By which it is the first device's.
    turn: u64,
    caches: BTreeMap<u32, KvImage>,
    /// The first device.
    from: Address,
}

/// An order, void once the device was lost after it.
pub(super) struct Orders {
    pub(super) epoch: u64,
    pub(super) order: Order,
}

/// What a device's thread has.
pub(super) struct Worker {
    id: DeviceId,
    name: String,
    device: Arc<dyn Device>,
    driver: Weak<Driver>,
    clock: Arc<Clock>,
    at_work: AtWork,
    epoch: u64,
    residents: BTreeMap<ModelId, Resident>,
}

impl Worker {
    pub(super) fn new(
        id: DeviceId,
        name: String,
        device: Arc<dyn Device>,
        driver: &Arc<Driver>,
        at_work: AtWork,
    ) -> Self {
        Self {
            id,
            name,
            device,
            driver: Arc::downgrade(driver),
            clock: Arc::clone(driver.clock()),
            at_work,
            epoch: 0,
            residents: BTreeMap::new(),
        }
    }

    /// Runs until the driver is gone.
    pub(super) fn run(mut self, inbox: &Receiver<Orders>) {
        while let Ok(Orders { epoch, order }) = inbox.recv() {
            if epoch < self.epoch {
                continue;
            }
            if epoch > self.epoch {
                // Somebody has given the device up while it was busy.
                self.residents.clear();
                self.epoch = epoch;
            }
            let done = catch_unwind(AssertUnwindSafe(|| self.carry_out(order)));
            match done {
                Ok(Ok(())) => {}
                Ok(Err(why)) => self.lose(why),
                Err(_) => self.lose("a step panicked".to_owned()),
            }
        }
    }

    /// The device is at fault, or we are: nothing of what it holds can be relied on.
    fn lose(&mut self, why: String) {
        self.residents.clear();
        if let Some(driver) = self.driver.upgrade() {
            self.epoch = driver.lose(self.id, self.epoch, why);
        }
    }

    /// Tells the scheduler what came of an order, unless the device was lost meanwhile.
    fn answer(&self, event: Event) {
        if let Some(driver) = self.driver.upgrade() {
            driver.answer(self.id, self.epoch, event);
        }
    }

    fn carry_out(&mut self, order: Order) -> Result<(), String> {
        match order {
            Order::Nothing => {}
            Order::Probe => {
                let at_work = &self.at_work;
                let outcome = probe_watched(&*self.device, &mut |step| {
                    at_work.begins(step.into_iter().collect());
                });
                let outcome = outcome.map_err(|error| error.to_string());
                self.at_work.ends();
                let device = self.id;
                self.answer(Event::Probed { device, outcome });
            }
            Order::Adopt { resident, took } => self.adopt(*resident, took),
            Order::Unload {
                model,
                keep_prefixes,
            } => {
                if let Some(mut resident) = self.residents.remove(&model) {
                    metrics::kv_pages(&resident.handle.info.name, &self.name, 0, 0);
                    if let Some(driver) = self.driver.upgrade().filter(|_| keep_prefixes) {
                        resident.spill(&driver.around().spills);
                    }
                }
                let device = self.id;
                self.answer(Event::Unloaded { device, model });
            }
            Order::Start {
                model,
                request,
                turn,
            } => self.start(model, &request, turn)?,
            Order::Step {
                model,
                slices,
                may_draft,
            } => self.step(model, &slices, may_draft)?,
            Order::Move {
                job,
                model,
                from,
                to,
            } => {
                if let Err(why) = self.send(job, model, from, &to) {
                    self.answer(Event::MoveFailed { job, why });
                }
            }
            Order::Take(parcel) => {
                let (job, to) = (parcel.request.id, self.id);
                let event = match self.take(*parcel) {
                    Ok(free_pages) => Event::Moved {
                        job,
                        to,
                        free_pages,
                    },
                    Err(why) => Event::MoveFailed { job, why },
                };
                self.answer(event);
            }
            Order::Release(seq) => {
                for resident in self.residents.values_mut() {
                    resident.release(seq);
                }
            }
            Order::Drop(job) => {
                for resident in self.residents.values_mut() {
                    resident.seats.remove(&job);
                }
            }
        }
        Ok(())
    }

    fn adopt(&mut self, resident: Resident, took: Duration) {
        let all = resident.bytes();
        let form = resident.handle.facts.forms.get(&self.id);
        let bytes = form.map_or_else(|| vec![all], |form| divided(all, &form.bytes));
        let event = Event::Loaded {
            device: self.id,
            model: resident.handle.id,
            bytes,
            pages: resident.pages(),
            took,
        };
        self.residents.insert(resident.handle.id, resident);
        self.answer(event);
    }

    fn resident(&mut self, model: ModelId) -> Result<&mut Resident, String> {
        let found = self.residents.get_mut(&model);
        found.ok_or_else(|| format!("an order for model {}, which is not here", model.0))
    }

    fn start(&mut self, model: ModelId, request: &Arc<Request>, turn: u64) -> Result<(), String> {
        let device = self.id;
        let resident = self.resident(model)?;
        let held = resident.start(request, turn);
        let event = Event::Started {
            job: request.id,
            held: u32::try_from(held).unwrap_or(u32::MAX),
            free_pages: resident.free_pages(),
            device,
        };
        self.answer(event);
        Ok(())
    }

    /// Copies a job's caches out and sends them to another device. The job stays until they are there.
    fn send(
        &mut self,
        job: JobId,
        model: ModelId,
        from: Address,
        to: &Address,
    ) -> Result<(), String> {
        let resident = self.resident(model)?;
        let (request, turn, caches) = resident.export(job)?;
        to.send(Order::Take(Box::new(Parcel {
            model,
            request,
            turn,
            caches,
            from,
        })));
        Ok(())
    }

    /// Goes on with a job that another device has sent. Returns the free pages.
    fn take(&mut self, parcel: Parcel) -> Result<u32, String> {
        let resident = self.resident(parcel.model)?;
        let job = parcel.request.id;
        resident.import(&parcel.request, parcel.turn, &parcel.caches)?;
        parcel.from.send(Order::Drop(job));
        Ok(resident.free_pages())
    }

    /// The meters of a device that is there begin to count.
    fn meter(&self) -> Option<Work> {
        let driver = self.driver.upgrade()?;
        let meters = driver.around().meters.as_ref()?;
        Some(meters.work(&driver.workers(self.id)))
    }

    fn step(&mut self, model: ModelId, slices: &[Slice], may_draft: bool) -> Result<(), String> {
        let start = self.clock.now();
        let (name, device, at_work) = (self.name.clone(), self.id, self.at_work.clone());
        let work = self.meter();
        let resident = self.resident(model)?;
        let slices = &*resident.read_now(slices);
        at_work.begins(resident.interrupts());
        let computed = resident.compute(slices, may_draft);
        at_work.ends();
        let mut said = Said::default();
        match computed {
            Ok(computed) => said.hand_out(resident, slices, &computed)?,
            Err(StepError::OutOfPages) if is_alone(resident, slices) => {
                said.cut_off(resident, slices)
            }
            Err(StepError::OutOfPages) => {
                let free_pages = resident.free_pages();
                self.answer(Event::OutOfPages { device, free_pages });
                return Ok(());
            }
            Err(StepError::Failed(why)) => return Err(why),
        }
        let free_pages = resident.free_pages();
        let pages = resident.pages();
        metrics::kv_pages(
            &resident.handle.info.name,
            &name,
            pages.saturating_sub(free_pages),
            pages,
        );
        resident.tell_lag(&name);
        let report = StepReport {
            took: self.clock.now() - start,
            joules: work.and_then(|work| work.finish().joules()),
            wrote: said.wrote,
            drafted: said.drafted,
            failed: said.failed,
            free_pages,
        };
        self.answer(Event::StepDone { device, report });
        Ok(())
    }
}

/// `all` bytes over pools, by what a model was expected to take of each.
fn divided(all: Bytes, expected: &[Bytes]) -> Vec<Bytes> {
    let sum = expected.iter().map(|bytes| bytes.0).sum::<u64>();
    let mut left = all;
    let mut parts: Vec<_> = expected
        .iter()
        .map(|bytes| {
            let share = bytes.0 as f64 / sum.max(1) as f64;
            let part = Bytes((all.0 as f64 * share) as u64).min(left);
            left = Bytes(left.0 - part.0);
            part
        })
        .collect();
    // What rounding leaves.
    if let Some(first) = parts.first_mut() {
        *first += left;
    }
    parts
}

/// Whether the one sequence of a step is the only one that has pages, and has all of its prompt in them.
fn is_alone(resident: &Resident, slices: &[Slice]) -> bool {
    let holders: usize = resident.seats.values().map(|seat| seat.held.len()).sum();
    matches!(slices, [slice] if slice.complete) && holders == 1
}

/// What came of a step, as the scheduler hears it.
#[derive(Default)]
struct Said {
    wrote: Vec<Wrote>,
    drafted: u32,
    failed: Vec<JobId>,
}

impl Said {
    /// What a step has computed goes to those who asked for it.
    fn hand_out(
        &mut self,
        resident: &mut Resident,
        slices: &[Slice],
        computed: &Computed,
    ) -> Result<(), String> {
        let Computed { outputs, guesses } = computed;
        let (mut logits, mut hidden) = (outputs.logits.rows(), outputs.hidden.rows());
        for (slice, guesses) in slices.iter().zip(guesses) {
            self.drafted += guesses.len() as u32;
            if guesses.is_empty() {
                resident.remember(slice.seq, slice.n_tok);
            }
            // It is there: the step has just been computed with it, and each job has its own.
            let Some(seat) = resident.seats.get_mut(&slice.seq.job) else {
                // Another sequence of the job failed in this step; its rows are passed over.
                if slice.complete {
                    logits.nth(guesses.len());
                }
                continue;
            };
            let rows = seat.output(slice).hidden(slice.n_tok as usize).len();
            seat.pool(hidden.by_ref().take(rows));
            if !slice.complete {
                continue;
            }
            let outcome = match seat.request.is_embedding() {
                true => embed(seat),
                false => {
                    let rows: Vec<_> = logits.by_ref().take(1 + guesses.len()).collect();
                    if rows.len() <= guesses.len() {
                        return Err("a step returned too few rows of logits".to_owned());
                    }
                    speak(seat, slice.seq.choice, (guesses, &rows))
                }
            };
            if let Ok(spoken) = &outcome
                && !guesses.is_empty()
            {
                // Those that were wrong are gone by now.
                resident.remember(slice.seq, 1 + n_right(spoken, slice.seq.choice));
            }
            self.note(resident, slice.seq.job, outcome);
        }
        Ok(())
    }

    fn note(&mut self, resident: &mut Resident, job: JobId, outcome: Result<Vec<Wrote>, ApiError>) {
        let Some(seat) = resident.seats.get_mut(&job) else {
            return;
        };
        match outcome {
            Ok(spoken) => {
                for wrote in spoken.iter().filter(|wrote| wrote.has_ended) {
                    seat.held.remove(&wrote.seq.choice);
                    seat.drafted.remove(&wrote.seq.choice);
                }
                self.wrote.extend(spoken);
                if seat.held.is_empty() {
                    resident.seats.remove(&job);
                }
            }
            Err(error) => {
                seat.request.fail(error);
                resident.seats.remove(&job);
                self.failed.push(job);
                self.wrote.retain(|wrote| wrote.seq.job != job);
            }
        }
    }

    /// The cache is full, and one answer alone fills it: it ends as if its context were full.
    fn cut_off(&mut self, resident: &mut Resident, slices: &[Slice]) {
        for slice in slices {
            if let Some(seat) = resident.seats.remove(&slice.seq.job) {
                seat.request.cut_off(slice.seq.choice);
            }
            self.wrote.push(Wrote {
                seq: slice.seq,
                n_tok: 1,
                has_ended: true,
            });
        }
    }
}

/// Guesses of a sequence that were right.
fn n_right(spoken: &[Wrote], choice: u32) -> u32 {
    let own = spoken.iter().find(|wrote| wrote.seq.choice == choice);
    own.map_or(0, |wrote| wrote.n_tok - 1)
}

/// The next token of one answer, and those after it that were guessed rightly; after a prompt, the first ones of all its
/// answers. What was guessed wrongly goes from the cache.
fn speak(
    seat: &mut Seat,
    choice: u32,
    (guesses, rows): (&[TokenId], &[&[f32]]),
) -> Result<Vec<Wrote>, ApiError> {
    let request = Arc::clone(&seat.request);
    let held = seat.held.get(&choice).map_or(0, |held| held.tokens().len());
    let held = held.saturating_sub(guesses.len());
    if !request.is_read_by(held) {
        // The scheduler counts otherwise than the cache.
        tracing::error!(
            model = request.handle.info.name,
            held,
            "an answer was asked of half a prompt"
        );
        return Err(ApiError::internal());
    }
    let turn = seat.turn;
    let spoken = catch_unwind(AssertUnwindSafe(|| {
        request.speak(turn, choice, held, (guesses, rows))
    }));
    let spoken = match spoken {
        Ok(spoken) => spoken.map_err(|error| ApiError::invalid(error.to_string()))?,
        Err(_) => {
            tracing::error!(model = request.handle.info.name, "an answer panicked");
            return Err(ApiError::internal());
        }
    };
    seat.truncate(choice, held + n_right(&spoken, choice) as usize);
    for other in spoken.iter().filter(|wrote| wrote.seq.choice != choice) {
        seat.fork(other.seq.choice);
    }
    Ok(spoken)
}

/// A text is read to its end: its vector is done.
fn embed(seat: &mut Seat) -> Result<Vec<Wrote>, ApiError> {
    let vector = seat.vector();
    let vector = vector.map_err(|error| ApiError::invalid(error.to_string()))?;
    seat.request.embedded(vector);
    seat.held.clear();
    let seq = SeqId {
        job: seat.request.id,
        choice: 0,
    };
    Ok(vec![Wrote {
        seq,
        n_tok: 1,
        has_ended: true,
    }])
}
