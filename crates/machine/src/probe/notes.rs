//! What could not be had, collected on the way.

use crate::model::Unknown;

/// The list of what is missing.
#[derive(Debug, Default)]
pub(super) struct Notes(Vec<Unknown>);

impl Notes {
    /// Adds a fact that could not be had. Nothing is listed twice.
    pub(super) fn add(&mut self, what: &str, why: &str, remedy: &str) {
        if self.0.iter().all(|unknown| unknown.what != what) {
            self.0.push(Unknown {
                what: what.to_owned(),
                why: why.to_owned(),
                remedy: remedy.to_owned(),
            });
        }
    }

    pub(super) fn into_list(self) -> Vec<Unknown> {
        self.0
    }
}
