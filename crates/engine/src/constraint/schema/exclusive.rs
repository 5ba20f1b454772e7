//! Whether the options of a `oneOf` exclude each other.
//!
//! "Exactly one of" is no grammar's to say; "one of" is. The two are the same where no value can be two of the options,
//! which is what the unions of typed languages look like: other types, other constants, or objects that bear a tag.

use serde_json::{Map, Value};

use super::resolve;

/// Options of a `oneOf` that are compared with each other; the cost is quadratic.
const OPTIONS_MAX: usize = 64;

/// References in a row that are followed when schemas are compared.
const REFERENCES_MAX: usize = 8;

/// Whether no value can be two of these schemas, as far as it is plain to see.
pub(super) fn are_exclusive(root: &Value, options: &Value) -> bool {
    let options = options.as_array().into_iter().flatten();
    let options: Vec<_> = options.map(|option| Shape::of(root, option)).collect();
    options.len() <= OPTIONS_MAX
        && options.iter().enumerate().all(|(index, one)| {
            let others = &options[..index];
            others.iter().all(|other| one.excludes(other, root))
        })
}

/// What tells one option of a `oneOf` from another.
struct Shape<'s> {
    keywords: Option<&'s Map<String, Value>>,
}

impl<'s> Shape<'s> {
    fn of(root: &'s Value, mut schema: &'s Value) -> Self {
        for _ in 0..REFERENCES_MAX {
            match schema.get("$ref").and_then(Value::as_str) {
                Some(target) => match resolve(root, target) {
                    Some(found) => schema = found,
                    None => break,
                },
                None => break,
            }
        }
        Self {
            keywords: schema.as_object(),
        }
    }

    fn keyword(&self, name: &str) -> Option<&'s Value> {
        self.keywords?.get(name)
    }

    /// Whether it is plain from types, constants or a required property that no value is both.
    fn excludes(&self, other: &Self, root: &'s Value) -> bool {
        if let (Some(one), Some(other)) = (self.types(), other.types())
            && one.iter().all(|one| !other.contains(one))
        {
            return true;
        }
        if let (Some(one), Some(other)) = (self.values(), other.values()) {
            return one.iter().all(|one| !other.contains(one));
        }
        let tagged = |name: &&str| {
            let value = |shape: &Self| {
                let property = shape.keyword("properties")?.get(name)?;
                Shape::of(root, property).values()
            };
            match (value(self), value(other)) {
                (Some(one), Some(other)) => one.iter().all(|one| !other.contains(one)),
                _ => false,
            }
        };
        let is_object = |shape: &Self| shape.types().is_some_and(|types| types == ["object"]);
        is_object(self)
            && is_object(other)
            && self
                .required()
                .filter(|name| other.required().any(|also| also == *name))
                .any(|name| tagged(&name))
    }

    /// Its types, whole numbers being numbers; `None` if it does not say.
    fn types(&self) -> Option<Vec<&'s str>> {
        let name = |value: &'s Value| match value.as_str()? {
            "integer" => Some("number"),
            name => Some(name),
        };
        match self.keyword("type")? {
            Value::Array(types) => types.iter().map(name).collect(),
            one => Some(vec![name(one)?]),
        }
    }

    /// The strings that it allows, if it is a list of them.
    fn values(&self) -> Option<Vec<&'s str>> {
        if let Some(value) = self.keyword("const") {
            return Some(vec![value.as_str()?]);
        }
        self.keyword("enum")?
            .as_array()?
            .iter()
            .map(Value::as_str)
            .collect()
    }

    fn required(&self) -> impl Iterator<Item = &'s str> {
        let names = self.keyword("required").and_then(Value::as_array);
        names.into_iter().flatten().filter_map(Value::as_str)
    }
}
