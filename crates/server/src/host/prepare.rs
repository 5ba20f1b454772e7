//! Compiles models for the devices that run nothing else, one after the other, while the models run elsewhere.
//!
//! The scheduler hears of a form only when it is there: until then the device is one that the model does not run on, with
//! the reason. So nobody waits minutes for a compiler, and nothing is placed where it may never come to be.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, Weak};
use std::time::Instant;

use troika_device::{Cancelled, LoadProgress, Preparation};
use troika_gguf::ModelFile;
use troika_scheduler::{DeviceId, Event, ModelFacts, ModelId};

use super::driver::Driver;
use super::models::{Handle, does_not_load, lock};
use crate::backend::{Compiling, Stage};

/// What waits, runs and has failed.
type Board = Mutex<BTreeMap<(ModelId, DeviceId), Entry>>;

struct Entry {
    stage: Stage,
    progress: LoadProgress,
    why: Option<String>,
}

/// Has models compiled.
pub(super) struct Preparer {
    orders: Sender<(Arc<Handle>, DeviceId)>,
    board: Arc<Board>,
}

impl Preparer {
    /// Starts the thread that waits for the compilers; it ends with the driver.
    ///
    /// # Errors
    /// If the system has no thread left.
    pub(super) fn start(driver: &Arc<Driver>) -> std::io::Result<Self> {
        let (orders, inbox) = channel();
        let board = Arc::default();
        let worker = Worker {
            driver: Arc::downgrade(driver),
            board: Arc::clone(&board),
        };
        std::thread::Builder::new()
            .name("troika-prepare".to_owned())
            .spawn(move || worker.run(&inbox))?;
        Ok(Self { orders, board })
    }

    /// Takes out of a model's facts the devices on which it never runs, and returns those that it must be compiled for.
    pub(super) fn needed(
        driver: &Driver,
        file: &ModelFile,
        facts: &mut ModelFacts,
    ) -> Vec<DeviceId> {
        let mut needed = Vec::new();
        let devices: Vec<_> = facts.forms.keys().copied().collect();
        for id in devices {
            let Some(device) = driver.devices().get(usize::from(id.0)) else {
                continue;
            };
            let why = match device.device.preparation(file) {
                Ok(Preparation::Ready) => continue,
                Ok(Preparation::Needed) => {
                    needed.push(id);
                    continue;
                }
                Ok(Preparation::Impossible(why)) => why,
                Err(error) => error.to_string(),
            };
            facts.forms.remove(&id);
            facts.impossible.insert(id, why);
        }
        needed
    }

    /// What the scheduler may be told of a model that is still to be compiled for some devices.
    pub(super) fn as_yet(facts: &ModelFacts, needed: &[DeviceId]) -> ModelFacts {
        let mut facts = facts.clone();
        for id in needed {
            facts.forms.remove(id);
            let why = "it is being compiled for this device; until that is done, it runs elsewhere";
            facts.impossible.insert(*id, why.to_owned());
        }
        facts
    }

    /// Has a model compiled for these devices.
    pub(super) fn order(&self, handle: &Arc<Handle>, needed: &[DeviceId]) {
        for &device in needed {
            let entry = Entry {
                stage: Stage::Waiting,
                progress: LoadProgress::default(),
                why: None,
            };
            lock(&self.board).insert((handle.id, device), entry);
            // If the thread has ended, so has the driver.
            let _ = self.orders.send((Arc::clone(handle), device));
        }
    }

    /// Nobody can ask for a model any more: what compiles it ends.
    pub(super) fn forget(&self, model: ModelId) {
        lock(&self.board).retain(|(of, _), _| *of != model);
    }

    /// What waits, runs and has failed.
    pub(super) fn state(&self, driver: &Driver) -> Vec<Compiling> {
        let board = lock(&self.board);
        let entries = board.iter();
        let entries = entries.map(|((model, device), entry)| Compiling {
            model: model.0,
            device: driver.name(*device).to_owned(),
            stage: entry.stage,
            done: entry.progress.done,
            total: entry.progress.total,
            why: entry.why.clone(),
        });
        entries.collect()
    }
}

struct Worker {
    driver: Weak<Driver>,
    board: Arc<Board>,
}

impl Worker {
    fn run(&self, inbox: &Receiver<(Arc<Handle>, DeviceId)>) {
        while let Ok((handle, device)) = inbox.recv() {
            self.prepare(&handle, device);
        }
    }

    fn prepare(&self, handle: &Handle, id: DeviceId) {
        let Some(device) = self.device(id) else {
            return;
        };
        let name = &handle.info.name;
        let start = Instant::now();
        // It may be gone from the board before its turn has come.
        let begin = |entry: &mut Entry| entry.stage = Stage::Compiling;
        if self.edit(handle.id, id, begin).is_break() {
            return;
        }
        let mut progress =
            |progress| self.edit(handle.id, id, |entry: &mut Entry| entry.progress = progress);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let file = handle.open().map_err(|error| error.to_string())?;
            let done = device.prepare(&file, &mut progress);
            done.map_err(|error| error.to_string())
        }));
        let outcome = outcome.unwrap_or_else(|_| {
            let panic = std::io::Error::other("what compiles it panicked; the log says where");
            Err(does_not_load(name, &panic).message)
        });
        let Some(driver) = self.driver.upgrade() else {
            return;
        };
        let form = handle.facts.forms.get(&id).cloned();
        let form = outcome.and_then(|()| form.ok_or_else(|| "it does not fit there".to_owned()));
        let (device, seconds) = (driver.name(id), start.elapsed().as_secs_f64());
        match &form {
            Ok(_) => {
                tracing::info!(model = name, device, seconds, "model compiled");
                lock(&self.board).remove(&(handle.id, id));
            }
            Err(why) => {
                tracing::warn!(model = name, device, %why, "model not compiled; it runs elsewhere");
                let failed = |entry: &mut Entry| {
                    entry.stage = Stage::Failed;
                    entry.why = Some(why.clone());
                };
                if self.edit(handle.id, id, failed).is_break() {
                    return;
                }
            }
        }
        driver.post(vec![Event::FormIs {
            model: handle.id,
            device: id,
            form,
        }]);
    }

    fn device(&self, id: DeviceId) -> Option<Arc<dyn troika_device::Device>> {
        let driver = self.driver.upgrade()?;
        let device = driver.devices().get(usize::from(id.0))?;
        Some(Arc::clone(&device.device))
    }

    /// Edits what the board says of a model. It breaks where that is nobody's wish any more.
    fn edit(
        &self,
        model: ModelId,
        device: DeviceId,
        edit: impl FnOnce(&mut Entry),
    ) -> ControlFlow<Cancelled> {
        let is_wanted = self.driver.strong_count() > 0;
        match lock(&self.board).get_mut(&(model, device)) {
            Some(entry) if is_wanted => {
                edit(entry);
                ControlFlow::Continue(())
            }
            _ => ControlFlow::Break(Cancelled),
        }
    }
}
