//! The owner's file as it stands, and what is made of it: rules, endpoints, and what is taken out of prompts.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rust_decimal::Decimal;
use troika_remote::Remotes;
use troika_remote::receipts::{self, Durability, Ledger as _, Receipts};
use troika_remote::redact::Redactor;
use troika_remote::rules::{HybridFile, Loaded};
use troika_scheduler::Worth;

use super::HybridError;
use crate::receipts::Beyond;

/// The state of the file that jobs are judged by. A job ends with the one that it began with.
pub(super) struct Current {
    pub(super) loaded: Arc<Loaded>,
    pub(super) remotes: Remotes,
    pub(super) redactor: Redactor,
    receipts: Arc<Receipts>,
}

impl Current {
    /// Whether an endpoint serves a model.
    pub(super) fn serves(&self, model: &str) -> bool {
        let mut remotes = self.loaded.config.remote.iter();
        remotes.any(|remote| remote.model(model).is_some())
    }

    /// Money that may still be spent, by the tighter of the budgets; `None` where the owner sets none.
    pub(super) fn money_left(&self) -> Option<Decimal> {
        let hybrid = &self.loaded.config.hybrid;
        let spent = self.receipts.spent(&hybrid.currency);
        let today = hybrid.budget_per_day.map(|budget| budget - spent.today);
        let month = hybrid
            .budget_per_month
            .map(|budget| budget - spent.this_month);
        match (today, month) {
            (Some(today), Some(month)) => Some(today.min(month)),
            (today, month) => today.or(month),
        }
    }
}

/// The file, looked at again and again.
pub(super) struct Watched {
    file: HybridFile,
    /// Where measurements and receipts are kept.
    state: PathBuf,
    /// Tells the scheduler what money is worth to the owner.
    worth: Box<dyn Fn(Worth) + Send + Sync>,
    made: Mutex<Made>,
}

/// What was made of the file.
#[derive(Default)]
struct Made {
    generation: Option<u64>,
    /// `None` where the file names no endpoint.
    current: Option<Arc<Current>>,
    /// Open since the first endpoint was named.
    receipts: Option<Arc<Receipts>>,
}

impl Watched {
    /// # Errors
    /// If the file names endpoints that make no sense, or no receipts can be written.
    pub(super) fn open(
        file: HybridFile,
        state: PathBuf,
        worth: Box<dyn Fn(Worth) + Send + Sync>,
    ) -> Result<Self, HybridError> {
        let watched = Self {
            file,
            state,
            worth,
            made: Mutex::default(),
        };
        let loaded = watched.file.current();
        watched.make(&mut watched.made(), loaded)?;
        Ok(watched)
    }

    /// What holds now; `None` where nothing is beyond this machine. Where the file has changed, and what it says cannot be
    /// done, what held before still does.
    pub(super) fn now(&self) -> Option<Arc<Current>> {
        let loaded = self.file.current();
        let mut made = self.made();
        if made.generation != Some(loaded.generation)
            && let Err(error) = self.make(&mut made, loaded)
        {
            tracing::warn!(%error, "endpoints and rules stay as they were");
        }
        made.current.clone()
    }

    /// Where what leaves is noted, and what the owner says of money.
    pub(super) fn beyond(&self) -> Beyond {
        let receipts = self.now().map(|now| Arc::clone(&now.receipts));
        Beyond {
            receipts: receipts.or_else(|| self.made().receipts.clone()),
            hybrid: self.file.current().config.hybrid.clone(),
            home: Some(self.state.clone()),
        }
    }

    fn made(&self) -> std::sync::MutexGuard<'_, Made> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn make(&self, made: &mut Made, loaded: Arc<Loaded>) -> Result<(), HybridError> {
        // A file that can't be followed is not tried again until it changes.
        made.generation = Some(loaded.generation);
        let hybrid = &loaded.config.hybrid;
        if let (Ok(second), Ok(kwh)) = (hybrid.second_worth.try_into(), hybrid.kwh_price.try_into())
        {
            (self.worth)(Worth { second, kwh });
        }
        made.current = match loaded.config.remote.is_empty() {
            true => None,
            false => Some(Arc::new(self.current(&mut made.receipts, loaded)?)),
        };
        Ok(())
    }

    fn current(
        &self,
        open: &mut Option<Arc<Receipts>>,
        loaded: Arc<Loaded>,
    ) -> Result<Current, HybridError> {
        let receipts = match open {
            Some(receipts) => Arc::clone(receipts),
            None => {
                let path = self.state.join(receipts::FILE);
                let fresh = Arc::new(Receipts::open(&path, Durability::default())?);
                Arc::clone(open.insert(fresh))
            }
        };
        let ledger = Arc::clone(&receipts) as _;
        Ok(Current {
            remotes: Remotes::open(&loaded.config, &self.state, ledger)?,
            redactor: Redactor::new(&loaded.config.redact)?,
            receipts,
            loaded,
        })
    }
}
