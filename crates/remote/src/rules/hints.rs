//! What makes a job private whatever the rules say: its label, its key, its model, its content.

use super::content::Content;
use super::explain::Hint;
use super::rule::ModelPattern;
use super::way::remote_of;
use super::{Asks, Facts, PRIVACY_HEADER, is_private};
use crate::config::{Faults, Hybrid};

/// What makes jobs private.
#[derive(Debug)]
pub(super) struct Hints {
    keys: Vec<String>,
    models: Vec<ModelPattern>,
    content: Content,
}

impl Hints {
    pub(super) fn new(hybrid: &Hybrid, faults: &mut Faults) -> Self {
        for (i, key) in hybrid.private_keys.iter().enumerate() {
            if key.trim().is_empty() {
                faults.add(format!("hybrid.private_keys[{i}]"), "it names no key");
            }
        }
        let models = hybrid.private_models.iter().enumerate();
        let models = models.filter_map(|(i, text)| {
            ModelPattern::new(text, || format!("hybrid.private_models[{i}]"), faults)
        });
        Self {
            keys: hybrid.private_keys.clone(),
            models: models.collect(),
            content: Content::new(&hybrid.private_content, faults),
        }
    }

    /// All that makes the job private. Each is looked at, so that nobody removes one and is surprised by the next.
    pub(super) fn of(&self, what: &impl Asks, facts: &Facts) -> Vec<Hint> {
        let mut found = Vec::new();
        // The label is read where the request comes in; should it be lost between, it still counts.
        let labels: Vec<_> = facts.header(PRIVACY_HEADER).collect();
        if what.local_only() || labels.contains(&"local-only") {
            found.push(Hint::Asked);
        }
        if labels
            .iter()
            .any(|label| is_private(label) && *label != "local-only")
        {
            found.push(Hint::UnknownLabel);
        }
        if let Some(name) = what.device()
            && remote_of(name).is_none()
        {
            let name = name.to_owned();
            found.push(Hint::Device { name });
        }
        if let Some(key) = &facts.key
            && self.keys.contains(key)
        {
            found.push(Hint::Key { name: key.clone() });
        }
        let models = self.models.iter();
        found.extend(
            models
                .filter(|it| it.matches(what.model()))
                .map(|it| Hint::Model {
                    entry: it.text.clone(),
                }),
        );
        if !what.is_text() {
            found.push(Hint::NotText);
        }
        if !self.content.is_empty() {
            let content = self.content.matches(&what.texts());
            found.extend(content.into_iter().map(|index| Hint::Content { index }));
        }
        found
    }
}
