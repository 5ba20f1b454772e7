//! The smaller model that guesses for another one: which, and whether it can.

use std::sync::Arc;

use troika_engine::{Opened, same_vocabulary};
use troika_gguf::ModelFile;
use troika_library::{Entry, Library};
use troika_scheduler::{ModelFacts, ModelId};

use super::driver::Driver;
use super::facts::{self, Context, Role};
use super::guess::Draft;
use super::models::{OpenError, open_adapted};

/// Where guesses come from, and where models are.
pub(super) struct Drafts {
    pub(super) draft: Draft,
    pub(super) library: Arc<Library>,
}

/// A smaller model without its weights.
pub(super) struct DraftModel {
    pub(super) opened: Arc<Opened>,
    /// What it takes on each device.
    pub(super) facts: ModelFacts,
    entry: Entry,
}

impl DraftModel {
    pub(super) fn name(&self) -> &str {
        &self.entry.name
    }

    /// The file with its weights.
    ///
    /// # Errors
    /// As [`open_adapted`].
    pub(super) fn open(&self) -> Result<ModelFile, OpenError> {
        open_adapted(&self.entry)
    }
}

impl Drafts {
    /// The smaller model that guesses for this one, if one does. Reads files.
    ///
    /// # Errors
    /// If it was named for this one and cannot; the message says why. One that was named for all guesses for those that it
    /// can.
    pub(super) fn model_for(
        &self,
        target: &Entry,
        opened: &Opened,
        (driver, context): (&Driver, Context),
    ) -> Result<Option<DraftModel>, String> {
        let Draft::Model { name, only } = &self.draft else {
            return Ok(None);
        };
        let is_target = |name: &String| {
            let found = self.library.find(name);
            found.is_ok_and(|found| found.name == target.name)
        };
        if only.as_ref().is_some_and(|only| !is_target(only)) || is_target(name) {
            return Ok(None);
        }
        match (self.open(name, opened, driver, context), only) {
            (Ok(draft), _) => Ok(Some(draft)),
            (Err(error), Some(_)) => Err(format!("`{name}` cannot draft for it: {error}")),
            (Err(error), None) => {
                tracing::warn!(model = target.name, draft = name, %error, "nothing is drafted for this model");
                Ok(None)
            }
        }
    }

    fn open(
        &self,
        name: &str,
        target: &Opened,
        driver: &Driver,
        context: Context,
    ) -> Result<DraftModel, Box<dyn std::error::Error>> {
        let entry = self.library.find(name)?;
        let file = open_adapted(&entry)?;
        let opened = Opened::new(&file)?;
        same_vocabulary(opened.tokenizer(), target.tokenizer())?;
        let model = (ModelId(0), &*entry.name);
        let (devices, pools) = (driver.devices(), driver.pools());
        let of = (&file, opened.spec());
        let facts = facts::of_file(model, of, devices, pools, (context, Role::Drafter))?;
        Ok(DraftModel {
            opened: Arc::new(opened),
            facts,
            entry,
        })
    }
}
