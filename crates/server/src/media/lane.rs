//! A model's thread: what it is asked waits in a short queue, the most urgent first, and is done one after the other.
//!
//! The thread opens the model when the first errand comes and ends, and the model with it, when none has come for a while.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use troika_base::DeviceKind;
use troika_machine::meter::DeviceMeters;
use troika_scheduler::Class;

use super::locked;
use super::outlet::{Begun, Failed, Lost, Work};
use super::shelf::{Facts, Item, Open, Place, Shelf, Stamp, device_name};
use crate::job::KeepAlive;
use crate::{ApiError, Backend, Beside, ErrorKind};

/// Something to do, on its way to the model.
pub(super) struct Task {
    pub(super) class: Class,
    pub(super) came: Instant,
    pub(super) work: Box<dyn Work>,
}

/// Why a task was not taken.
pub(super) enum NotTaken {
    /// As many wait as may.
    Full,
    /// The thread has ended; another one is to begin with it.
    Ended(Task),
}

/// What a model's thread needs.
pub(super) struct Bench {
    pub(super) shelf: Arc<Shelf>,
    pub(super) item: Item,
    pub(super) place: Place,
    pub(super) keep_alive: KeepAlive,
    pub(super) meters: Option<Arc<DeviceMeters>>,
    pub(super) books: Option<Weak<dyn Backend>>,
}

impl Bench {
    /// Whether a meter tells what a device uses.
    fn is_metered(&self, device: &str) -> bool {
        let meters = self.meters.iter();
        let mut coverage = meters.flat_map(|meters| meters.coverage());
        coverage.any(|coverage| coverage.device == device && coverage.basis.is_some())
    }

    /// Has a run counted in the device's accounts, if somebody keeps them.
    fn book(&self, device: &str, class: Class) -> Option<Beside> {
        let books = self.books.as_ref()?.upgrade()?;
        books.beside(device, class, self.is_metered(device))
    }
}

/// The queue of a model's thread.
pub(super) struct Lane {
    state: Mutex<State>,
    changed: Condvar,
    /// Tasks that may wait.
    room: usize,
}

struct State {
    waiting: Vec<Task>,
    /// The thread waits for a task.
    is_idle: bool,
    has_ended: bool,
    /// Of the model, while it is open.
    facts: Option<Arc<Facts>>,
}

impl Lane {
    /// Starts the thread with its first task.
    ///
    /// # Errors
    /// If the system has no thread left.
    pub(super) fn start(bench: Bench, first: Task, room: usize) -> io::Result<Arc<Self>> {
        let lane = Arc::new(Self {
            state: Mutex::new(State {
                waiting: vec![first],
                is_idle: true,
                has_ended: false,
                facts: None,
            }),
            changed: Condvar::new(),
            room,
        });
        let thread = std::thread::Builder::new().name("troika-onnx".to_owned());
        let own = Arc::clone(&lane);
        thread.spawn(move || own.work(&bench))?;
        Ok(lane)
    }

    /// Takes a task, if there is room for it.
    pub(super) fn push(&self, task: Task) -> Result<(), NotTaken> {
        let mut state = locked(&self.state);
        if state.has_ended {
            return Err(NotTaken::Ended(task));
        }
        let room = self.room + usize::from(state.is_idle);
        if state.waiting.len() >= room {
            // Those whose clients have left need no room.
            let has_left = |task: &Task| matches!(task.work.check(), Err(Failed::Left));
            state.waiting.retain(|task| !has_left(task));
        }
        if state.waiting.len() >= room {
            return Err(NotTaken::Full);
        }
        state.waiting.push(task);
        self.changed.notify_one();
        Ok(())
    }

    /// What is open, if anything is.
    pub(super) fn facts(&self) -> Option<Arc<Facts>> {
        locked(&self.state).facts.clone()
    }

    /// The thread ends as soon as it can. What waits is not done.
    pub(super) fn end(&self) {
        let mut state = locked(&self.state);
        state.has_ended = true;
        state.waiting.clear();
        self.changed.notify_one();
    }

    /// The most urgent task, of these the one that came first; `None` when it is time to end.
    fn next(&self, keep_alive: KeepAlive) -> Option<Task> {
        let until = match keep_alive {
            KeepAlive::For(time) => Instant::now().checked_add(time),
            KeepAlive::Forever => None,
        };
        let mut state = locked(&self.state);
        state.is_idle = true;
        loop {
            if state.has_ended {
                return None;
            }
            let tasks = state.waiting.iter().enumerate();
            let urgent = tasks.min_by_key(|(_, task)| (std::cmp::Reverse(task.class), task.came));
            if let Some((index, _)) = urgent {
                state.is_idle = false;
                return Some(state.waiting.remove(index));
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            state = match left {
                Some(Duration::ZERO) => {
                    state.has_ended = true;
                    return None;
                }
                Some(left) => {
                    let waited = self.changed.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => {
                    let waited = self.changed.wait(state);
                    waited.unwrap_or_else(PoisonError::into_inner)
                }
            };
        }
    }

    fn work(&self, bench: &Bench) {
        let mut seat = Seat {
            lane: self,
            bench,
            open: None,
        };
        while let Some(task) = self.next(bench.keep_alive) {
            // What a library leaves behind when it panics is dropped with the model.
            let done = catch_unwind(AssertUnwindSafe(|| seat.serve(task)));
            if done.is_err() {
                tracing::error!(model = bench.item.name, "an ONNX model's thread panicked");
                seat.seat(None);
            }
        }
        if seat.seat(None).is_some() {
            tracing::info!(model = bench.item.name, "an ONNX model was closed");
        }
    }
}

/// The model, where it works.
struct Seat<'b> {
    lane: &'b Lane,
    bench: &'b Bench,
    /// With the file's state at that time.
    open: Option<(Option<Stamp>, Open)>,
}

impl Seat<'_> {
    /// Seats a model, or none; who asks for the list sees it at once. Returns the one that was there.
    fn seat(&mut self, open: Option<(Option<Stamp>, Open)>) -> Option<(Option<Stamp>, Open)> {
        let facts = open.as_ref().map(|(_, open)| Arc::clone(&open.facts));
        locked(&self.lane.state).facts = facts;
        std::mem::replace(&mut self.open, open)
    }

    fn serve(&mut self, mut task: Task) {
        let queue = task.came.elapsed();
        let done = match task.work.check() {
            Ok(()) => self.run(&mut *task.work, task.class, queue),
            Err(failed) => Err(failed),
        };
        match done {
            Ok(joules) => task.work.done(joules),
            Err(Failed::Left) => {}
            Err(Failed::Refused(error)) => task.work.refuse(error),
            Err(Failed::Model(why)) => {
                let name = &self.bench.item.name;
                let why = self.bench.shelf.plain(&why);
                let message = format!("the model `{name}` failed: {why}");
                task.work
                    .refuse(ApiError::new(ErrorKind::Internal, message));
            }
        }
    }

    /// Does it, on another device if the first one fails. Returns the joules, if they are known.
    fn run(
        &mut self,
        work: &mut dyn Work,
        class: Class,
        queue: Duration,
    ) -> Result<Option<f64>, Failed> {
        let mut load = self.opened()?;
        loop {
            let facts = self.facts()?;
            let begun = Begun {
                device: facts.device.clone(),
                library: facts.library.clone(),
                lost: facts.lost.clone(),
                queue,
                load,
            };
            let meters = self.bench.meters.as_ref();
            let metered = meters.map(|meters| meters.work(&[&facts.device]));
            let booked = self.bench.book(&facts.device, class);
            let Some((_, open)) = &mut self.open else {
                return Err(ApiError::internal().into());
            };
            let done = work.run(&mut open.model, begun);
            let joules = metered.and_then(|metered| metered.finish().joules());
            if let Some(booked) = booked {
                booked.ended(joules);
            }
            let failure = match done {
                Ok(()) => return Ok(joules.map(|joules| joules.0)),
                Err(Failed::Model(why)) => why,
                Err(other) => return Err(other),
            };
            // What failed once may be in any state.
            self.seat(None);
            tracing::warn!(
                model = self.bench.item.name,
                device = facts.device,
                why = failure,
                "an ONNX model failed"
            );
            let is_bound = matches!(self.bench.place, Place::Require(_));
            if is_bound || work.has_told() || facts.device == device_name(DeviceKind::Cpu) {
                return Err(Failed::Model(failure));
            }
            load += self.opened_on_cpu(&facts, &failure)?;
        }
    }

    fn facts(&self) -> Result<Arc<Facts>, Failed> {
        match &self.open {
            Some((_, open)) => Ok(Arc::clone(&open.facts)),
            None => Err(ApiError::internal().into()),
        }
    }

    /// Opens the model unless it is, and its file still the same. Returns how long that took.
    fn opened(&mut self) -> Result<Duration, ApiError> {
        let Bench {
            shelf, item, place, ..
        } = self.bench;
        let stamp = Stamp::of(&item.path);
        if stamp.is_some() && self.open.as_ref().is_some_and(|(of, _)| *of == stamp) {
            return Ok(Duration::ZERO);
        }
        self.seat(None);
        let started = Instant::now();
        let open = shelf.open(item, *place)?;
        let (device, library) = (&open.facts.device, &open.facts.library);
        tracing::info!(
            model = item.name,
            device,
            library,
            "an ONNX model was opened"
        );
        self.seat(Some((stamp, open)));
        Ok(started.elapsed())
    }

    /// Opens it where nothing can be missing; what failed is among the ways that were lost.
    fn opened_on_cpu(&mut self, failed: &Facts, why: &str) -> Result<Duration, ApiError> {
        let Bench { shelf, item, .. } = self.bench;
        let started = Instant::now();
        let mut open = shelf.open(item, Place::Require(DeviceKind::Cpu))?;
        let mut facts = Facts::clone(&open.facts);
        let lost = Lost {
            candidate: format!("{} on {}", failed.library, failed.device),
            why: shelf.plain(why),
        };
        facts
            .lost
            .splice(0..0, failed.lost.iter().cloned().chain([lost]));
        open.facts = Arc::new(facts);
        self.seat(Some((Stamp::of(&item.path), open)));
        Ok(started.elapsed())
    }
}
