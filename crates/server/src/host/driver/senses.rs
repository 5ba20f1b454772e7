//! What changes around the devices, on its way to the scheduler.

use std::sync::Arc;

use troika_base::Bytes;
use troika_machine::watch::{Change, PoolUse};
use troika_scheduler::{Class, DeviceId, Event, PoolId};

use super::{Books, Driver};
use crate::Beside;
use crate::host::around;
use crate::host::devices::memory;
use crate::host::models::lock;

/// Other programs' use of memory is told again when it has changed by this much.
const OTHERS_STEP: u64 = 32 << 20;
/// Looks of which one takes note of the day's energy.
const SPEND_EVERY: u64 = 10;

/// The pool whose memory is the machine's.
const RAM: &str = "ram";

impl Driver {
    /// What has to be looked at from time to time.
    pub(in crate::host) fn look_around(&self) {
        // Whether the machine slept is told by when somebody looked last.
        self.clock.now();
        self.around.look();
        let is_watched = lock(&self.books).is_ram_watched;
        let memory = if is_watched { None } else { memory() };
        let mut books = lock(&self.books);
        books.looks += 1;
        // Somebody may have begun to watch it in the meantime, who knows better.
        let memory = memory.filter(|_| !books.is_ram_watched);
        let event = memory.and_then(|memory| self.others_by_far(&mut books, memory.available));
        let is_time_to_spend = books.looks.is_multiple_of(SPEND_EVERY);
        if event.is_some() || is_time_to_spend {
            self.step(&mut books, event.into_iter().collect());
        }
        if is_time_to_spend {
            let devices = books.schedule.snapshot().devices;
            drop(books);
            self.around.spend(&devices);
        }
    }

    /// Tells the scheduler what has changed.
    pub(in crate::host) fn changed(&self, change: Change) {
        let mut books = lock(&self.books);
        let event = match change {
            Change::Power { power, why } => {
                if power.is_none() {
                    tracing::debug!(%why, "where the power comes from is not known");
                }
                Some(around::power(power))
            }
            Change::Heat { device, heat, why } => {
                if heat.is_none() {
                    tracing::debug!(device, %why, "how warm the device is, is not known");
                }
                let heat = around::heat(heat);
                let device = self.device(&device);
                device.map(|device| Event::HeatIs { device, heat })
            }
            Change::Memory { pool, memory, why } => {
                if memory.is_none() {
                    tracing::debug!(pool, %why, "what other programs take of the memory is not known");
                }
                self.memory_changed(&mut books, &pool, memory)
            }
            Change::NewDay(_) => Some(Event::Midnight),
            // The clock has seen to it; what waits is looked at now rather than in a second.
            Change::Resumed { .. } => None,
            // The list of changes may grow; what nobody knows here, changes nothing here.
            _ => return,
        };
        self.step(&mut books, event.into_iter().collect());
    }

    fn memory_changed(
        &self,
        books: &mut Books,
        name: &str,
        memory: Option<PoolUse>,
    ) -> Option<Event> {
        let is_ram = name == RAM;
        if is_ram {
            books.is_ram_watched = memory.is_some();
        }
        let index = self.pools.iter().position(|pool| pool.name == name)?;
        let pool = PoolId(u16::try_from(index).ok()?);
        let memory = memory?;
        let held = || books.held(pool, &self.devices);
        let others = memory
            .others()
            .unwrap_or_else(|| Bytes(memory.used.0.saturating_sub(held())));
        let bytes = self.around.others(is_ram, others);
        Some(Event::OthersUse { pool, bytes })
    }

    /// What other programs take of the machine's memory, where nobody watches it closely and it has changed: what is
    /// neither there for us nor ours.
    fn others_by_far(&self, books: &mut Books, available: u64) -> Option<Event> {
        let device = self.devices.iter().find(|device| device.is_in_ram())?;
        let pool = *device.facts.pools.first()?;
        let capacity = self.pools.get(usize::from(pool.0))?.capacity.0;
        let held = books.held(pool, &self.devices);
        let others = capacity.saturating_sub(held.saturating_add(available));
        let told = books.others.entry(pool).or_default();
        if others.abs_diff(*told) < OTHERS_STEP {
            return None;
        }
        *told = others;
        let bytes = Bytes(others);
        Some(Event::OthersUse { pool, bytes })
    }
}

impl Driver {
    /// An always-on model begins to run on a device of this name; `None` if there is none, or if it is not there.
    pub(in crate::host) fn beside(
        self: &Arc<Self>,
        name: &str,
        class: Class,
        is_metered: bool,
    ) -> Option<Beside> {
        let device = self.device(name)?;
        if self.devices.get(usize::from(device.0))?.is_virtual {
            return None;
        }
        let run = self.new_job();
        self.post(vec![Event::BesideBegan {
            device,
            run,
            class,
            is_metered,
        }]);
        let driver = Arc::downgrade(self);
        Some(Beside::new(move |joules| {
            if let Some(driver) = driver.upgrade() {
                let ended = Event::BesideEnded {
                    device,
                    run,
                    joules,
                };
                driver.post(vec![ended]);
            }
        }))
    }

    /// The names of the devices that work when this one does: itself, or its parts.
    pub(in crate::host) fn workers(&self, device: DeviceId) -> Vec<&str> {
        let facts = self.devices.get(usize::from(device.0));
        let facts = facts.map(|device| &device.facts);
        match facts.map(|facts| &facts.parts[..]) {
            None => Vec::new(),
            Some([]) => facts.map(|facts| &*facts.name).into_iter().collect(),
            Some(parts) => parts.iter().map(|&part| self.name(part)).collect(),
        }
    }
}
