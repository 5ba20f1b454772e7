//! Brings models to a device, beside its steps.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Weak};
use std::time::Instant;

use troika_device::{Cancelled, LoadOptions, LoadProgress};
use troika_engine::{Error, Model};
use troika_scheduler::{DeviceId, Event};

use super::devices::HostDevice;
use super::drafter::Drafter;
use super::driver::Driver;
use super::lane::{Order, Orders};
use super::models::{Handle, does_not_load};
use super::resident::Resident;

/// A model to load.
pub(super) struct LoadOrder {
    /// Void once the device was lost after it.
    pub(super) epoch: u64,
    pub(super) handle: Arc<Handle>,
    pub(super) kv_tokens: u32,
}

/// Loads models on one device, one after the other, and hands them to the thread that runs their steps.
pub(super) struct Loader {
    pub(super) id: DeviceId,
    pub(super) device: HostDevice,
    pub(super) driver: Weak<Driver>,
    pub(super) lane: Sender<Orders>,
}

impl Loader {
    /// Runs until the driver is gone.
    pub(super) fn run(self, inbox: &Receiver<LoadOrder>) {
        while let Ok(order) = inbox.recv() {
            self.bring(&order);
        }
    }

    fn bring(&self, order: &LoadOrder) {
        let start = Instant::now();
        let loaded = catch_unwind(AssertUnwindSafe(|| self.load(order)));
        let (why, is_final) = match loaded {
            Ok(Ok(resident)) => {
                let order = Orders {
                    epoch: order.epoch,
                    order: Order::Adopt {
                        resident: Box::new(resident),
                        took: start.elapsed(),
                    },
                };
                // If the thread has ended, so has the driver.
                let _ = self.lane.send(order);
                return;
            }
            Ok(Err((why, is_final))) => (why, is_final),
            Err(_) => {
                let name = &order.handle.info.name;
                let panic = std::io::Error::other("the loader panicked; the log says where");
                (does_not_load(name, &panic).message, true)
            }
        };
        if let Some(driver) = self.driver.upgrade() {
            let event = Event::LoadFailed {
                device: self.id,
                model: order.handle.id,
                why,
                is_final,
            };
            driver.answer(self.id, order.epoch, event);
        }
    }

    /// The model with what was cached of it before, or why there is none and whether that is the model's fault.
    fn load(&self, order: &LoadOrder) -> Result<Resident, (String, bool)> {
        let name = &order.handle.info.name;
        let file = order.handle.open();
        let file = file.map_err(|error| (does_not_load(name, &error).message, true))?;
        let options = LoadOptions::new(order.kv_tokens as usize).with_kv_type(order.handle.kv_type);
        let is_void = || {
            let driver = self.driver.upgrade();
            driver.is_none_or(|driver| driver.is_void(self.id, order.epoch))
        };
        // Nobody waits for a model on a device that was given up meanwhile.
        let mut progress = |_| match is_void() {
            true => ControlFlow::Break(Cancelled),
            false => ControlFlow::Continue(()),
        };
        let opened = &order.handle.opened;
        let form = order.handle.facts.forms.get(&self.id);
        let paced = self.device.at_pace(form.map(|form| form.gait));
        let device = paced.as_deref().map_or(&*self.device.device, |paced| paced);
        let model = Model::load_opened(opened, &file, device, options, &mut progress);
        let model = model.map_err(|error| {
            let is_passing = matches!(
                error,
                Error::Device(
                    troika_device::Error::OutOfMemory { .. }
                        | troika_device::Error::Cancelled
                        | troika_device::Error::Failed { .. }
                )
            );
            (does_not_load(name, &error).message, !is_passing)
        })?;
        let drafter = match model.drafts() {
            true => self.drafter(&order.handle, options, &mut progress),
            false => None,
        };
        let mut resident = Resident::new(Arc::clone(&order.handle), model, drafter, paced);
        if let Some(driver) = self.driver.upgrade() {
            resident.unspill(&driver.around().spills);
        }
        Ok(resident)
    }

    /// The smaller model that guesses for this one, with a cache for as many tokens. Where it does not load, nothing but time
    /// is lost.
    fn drafter(
        &self,
        handle: &Handle,
        options: LoadOptions,
        progress: &mut dyn FnMut(LoadProgress) -> ControlFlow<Cancelled>,
    ) -> Option<Drafter> {
        let draft = handle.draft.as_ref()?;
        let form = draft.facts.forms.get(&self.id)?;
        let paced = self.device.at_pace(Some(form.gait));
        let device = paced.as_deref().map_or(&*self.device.device, |paced| paced);
        let file = draft.open().map_err(|error| error.to_string());
        let loaded = file.and_then(|file| {
            let loaded = Model::load_opened(&draft.opened, &file, device, options, progress);
            loaded.map_err(|error| error.to_string())
        });
        match loaded {
            Ok(model) => Some(Drafter::new(model, handle.tokenizer.n_vocab())),
            Err(error) => {
                let (model, device) = (&handle.info.name, &self.device.facts.name);
                tracing::warn!(model, draft = draft.name(), device, %error, "the draft model does not load here: nothing is drafted");
                None
            }
        }
    }
}
