//! Whose energy it was: what a meter saw goes to the devices that worked meanwhile.
//!
//! A meter may cover several devices, as the one of a package covers its cores, its graphics and its NPU. What it saw while
//! one of them worked, is that one's; while several worked, it is divided among them evenly, moment by moment, and so by
//! the time that each was busy. What it saw while none worked is nobody's: the rest of the machine.

use std::collections::BTreeMap;
use std::sync::Arc;

/// The accounts of all devices.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    devices: Vec<Account>,
    /// The devices that each meter covers.
    meters: Vec<Vec<usize>>,
    works: BTreeMap<u64, WorkAccount>,
    next: u64,
}

/// What a device used while it worked.
#[derive(Clone, Debug, Default)]
pub(super) struct Account {
    pub(super) joules: f64,
    /// Times that something of it is missing.
    pub(super) gaps: u64,
    /// Why, the last time.
    pub(super) why: Option<Arc<str>>,
    /// Works on it now.
    works: usize,
}

/// What a piece of work used.
#[derive(Clone, Debug, Default)]
pub(super) struct WorkAccount {
    pub(super) devices: Vec<usize>,
    pub(super) joules: f64,
    /// Why something of it is missing.
    pub(super) missing: Option<Arc<str>>,
}

impl Ledger {
    /// Accounts for so many devices, and which of them each meter covers.
    pub(super) fn new(devices: usize, meters: Vec<Vec<usize>>) -> Self {
        Self {
            devices: vec![Account::default(); devices],
            meters,
            ..Self::default()
        }
    }

    pub(super) fn account(&self, device: usize) -> &Account {
        &self.devices[device]
    }

    /// Whether nothing works on what a meter covers.
    pub(super) fn rests(&self, meter: usize) -> bool {
        self.meters[meter]
            .iter()
            .all(|&device| self.devices[device].works == 0)
    }

    /// Work begins on devices, each named once.
    pub(super) fn begin(&mut self, devices: Vec<usize>) -> u64 {
        for &device in &devices {
            self.devices[device].works += 1;
        }
        let id = self.next;
        self.next += 1;
        let work = WorkAccount {
            devices,
            ..WorkAccount::default()
        };
        self.works.insert(id, work);
        id
    }

    /// The devices of a work that has not ended.
    pub(super) fn devices_of(&self, id: u64) -> Vec<usize> {
        let work = self.works.get(&id);
        work.map(|work| work.devices.clone()).unwrap_or_default()
    }

    /// Work has ended; `None` if it had ended before.
    pub(super) fn end(&mut self, id: u64) -> Option<WorkAccount> {
        let work = self.works.remove(&id)?;
        for &device in &work.devices {
            self.devices[device].works -= 1;
        }
        Some(work)
    }

    /// A meter saw so many joules since it was asked last.
    pub(super) fn share(&mut self, meter: usize, joules: f64) {
        let covered = &self.meters[meter];
        let busy = covered.iter().filter(|&&d| self.devices[d].works > 0);
        let each = joules / busy.count().max(1) as f64;
        for &device in covered {
            let account = &mut self.devices[device];
            if account.works == 0 {
                continue;
            }
            account.joules += each;
            let part = each / account.works as f64;
            for work in self.works.values_mut() {
                if work.devices.contains(&device) {
                    work.joules += part;
                }
            }
        }
    }

    /// A meter told nothing of the time since it was asked last.
    pub(super) fn miss(&mut self, meter: usize, why: &str) {
        let why: Arc<str> = why.into();
        for &device in &self.meters[meter] {
            let account = &mut self.devices[device];
            if account.works == 0 {
                continue;
            }
            account.gaps += 1;
            account.why = Some(Arc::clone(&why));
            for work in self.works.values_mut() {
                if work.devices.contains(&device) {
                    work.missing.get_or_insert_with(|| Arc::clone(&why));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A package of `cpu0`, `gpu0` and `npu0`, and a card of its own.
    fn ledger() -> Ledger {
        Ledger::new(4, vec![vec![0, 1, 2], vec![3]])
    }

    fn joules(ledger: &Ledger) -> [f64; 4] {
        [0, 1, 2, 3].map(|device| ledger.account(device).joules)
    }

    #[test]
    fn a_package_is_divided_by_the_time_that_each_was_busy() {
        let mut ledger = ledger();
        ledger.share(0, 100.0);
        assert_eq!(joules(&ledger), [0.0; 4], "the rest is nobody's");
        let cpu = ledger.begin(vec![0]);
        ledger.share(0, 10.0);
        let npu = ledger.begin(vec![2]);
        // Busy together, then the NPU alone.
        ledger.share(0, 8.0);
        assert_eq!(ledger.end(cpu).expect("worked").joules, 14.0);
        ledger.share(0, 2.0);
        assert_eq!(ledger.end(npu).expect("worked").joules, 6.0);
        ledger.share(0, 50.0);
        assert_eq!(joules(&ledger), [14.0, 0.0, 6.0, 0.0]);
        assert!(ledger.rests(0) && ledger.end(npu).is_none());
    }

    #[test]
    fn work_on_several_devices_has_the_sum() {
        let mut ledger = ledger();
        let both = ledger.begin(vec![0, 3]);
        let card = ledger.begin(vec![3]);
        ledger.share(0, 5.0);
        // Two works on one device.
        ledger.share(1, 20.0);
        assert_eq!(ledger.end(both).expect("worked").joules, 15.0);
        assert_eq!(ledger.end(card).expect("worked").joules, 10.0);
        assert_eq!(joules(&ledger), [5.0, 0.0, 0.0, 20.0]);
    }

    #[test]
    fn what_is_missing_is_missing_for_those_who_worked() {
        let mut ledger = ledger();
        let cpu = ledger.begin(vec![0]);
        let card = ledger.begin(vec![3]);
        ledger.miss(0, "it is gone");
        ledger.share(1, 1.0);
        let cpu = ledger.end(cpu).expect("worked");
        assert_eq!(cpu.missing.as_deref(), Some("it is gone"));
        assert_eq!(ledger.end(card).expect("worked").missing, None);
        let gaps = [0, 1, 2, 3].map(|device| ledger.account(device).gaps);
        assert_eq!(gaps, [1, 0, 0, 0]);
    }
}
