//! How much a schema grows when the parser merges what stands side by side.
//!
//! `allOf`, and any keyword beside `$ref` or `anyOf`, makes one schema of several, with references written out. Thirty
//! definitions that each merge the next one twice come to a thousand million; so it is counted first.

use foldhash::HashMap;
use serde_json::{Map, Value};

use super::{Address, address, resolve};

/// Schemas that all merging together may come to.
pub(super) const MERGED_MAX: u64 = 20_000;

/// Keywords that say the whole of a schema in other schemas or values.
const IN_PLACE: [&str; 6] = ["$ref", "allOf", "anyOf", "const", "enum", "oneOf"];

/// Keywords that say nothing of the answer.
const ANNOTATIONS: [&str; 13] = [
    "$comment",
    "$defs",
    "$id",
    "$schema",
    "default",
    "definitions",
    "deprecated",
    "description",
    "discriminator",
    "examples",
    "readOnly",
    "title",
    "writeOnly",
];

/// Sizes of schemas with their references written out.
pub(super) struct Sizes<'s> {
    root: &'s Value,
    /// `None` while it is being counted, which is where a definition leads back to itself.
    known: HashMap<Address, Option<u64>>,
}

impl<'s> Sizes<'s> {
    pub(super) fn new(root: &'s Value) -> Self {
        Self {
            root,
            known: HashMap::default(),
        }
    }

    /// What merging at this schema comes to; 0 if there is nothing to merge.
    pub(super) fn merged(&mut self, schema: &Value, keywords: &Map<String, Value>) -> u64 {
        let in_place = |keyword: &&String| IN_PLACE.contains(&keyword.as_str());
        let parts = keywords.keys().filter(in_place).count();
        let others = keywords
            .keys()
            .any(|keyword| !IN_PLACE.contains(&keyword.as_str()) && !is_annotation(keyword));
        let all_of = keywords.get("allOf").and_then(Value::as_array);
        let merges = all_of.map_or(0, Vec::len).saturating_sub(1) + parts + usize::from(others);
        // Values alone are merged with a type in no time.
        let only_values = !keywords
            .keys()
            .any(|keyword| ["$ref", "allOf", "anyOf", "oneOf"].contains(&keyword.as_str()));
        if merges < 2 || only_values {
            return 0;
        }
        let options = ["anyOf", "oneOf"]
            .iter()
            .filter_map(|keyword| keywords.get(*keyword)?.as_array())
            .map(|options| options.len().max(1) as u64)
            .fold(1, u64::saturating_mul);
        // Each option is merged with all that stands beside them.
        let beside: u64 = keywords
            .iter()
            .filter(|(keyword, _)| !["anyOf", "oneOf"].contains(&keyword.as_str()))
            .map(|(keyword, value)| self.inside(keyword, value))
            .fold(1, u64::saturating_add);
        self.of(schema)
            .saturating_add(options.saturating_mul(beside))
    }

    /// Schemas in a schema, itself included. As deep as its definitions lead.
    fn of(&mut self, schema: &Value) -> u64 {
        match self.known.get(&address(schema)) {
            Some(Some(size)) => return *size,
            Some(None) => return 1,
            None => {}
        }
        let Some(keywords) = schema.as_object() else {
            return 1;
        };
        self.known.insert(address(schema), None);
        let size = keywords
            .iter()
            .map(|(keyword, value)| self.inside(keyword, value))
            .fold(1, u64::saturating_add);
        self.known.insert(address(schema), Some(size));
        size
    }

    /// Schemas that a keyword holds or leads to.
    fn inside(&mut self, keyword: &str, value: &Value) -> u64 {
        match (keyword, value) {
            ("$ref", Value::String(target)) => {
                resolve(self.root, target).map_or(0, |schema| self.of(schema))
            }
            ("$defs" | "definitions" | "default" | "examples", _) => 0,
            ("enum", Value::Array(values)) => values.len() as u64,
            (_, Value::Array(schemas)) => schemas
                .iter()
                .map(|schema| self.of(schema))
                .fold(0, u64::saturating_add),
            ("properties" | "patternProperties", Value::Object(schemas)) => schemas
                .values()
                .map(|schema| self.of(schema))
                .fold(0, u64::saturating_add),
            (_, Value::Object(_)) => self.of(value),
            _ => 0,
        }
    }
}

fn is_annotation(keyword: &str) -> bool {
    ANNOTATIONS.contains(&keyword)
}
