//! What an answer's form can be given as, and how much of it is taken.

use serde_json::Value;

use super::ConstraintError;

/// The form that an answer must have.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Grammar {
    /// Any JSON object.
    JsonObject,
    /// JSON that this schema describes.
    JsonSchema(Value),
    /// Text that this regular expression matches from its first character to its last.
    Regex(String),
    /// Text of this grammar, in llguidance's form of Lark; it begins with the rule `start`.
    Lark(String),
}

/// Bytes of a grammar. The largest schemas that hosted services take have 120,000 characters of names and values.
pub(super) const SOURCE_BYTES_MAX: usize = 256 << 10;

/// Levels of JSON: two or three for each level of what is described.
const SCHEMA_DEPTH_MAX: usize = 64;

/// Open brackets of a grammar in text.
const TEXT_DEPTH_MAX: usize = 64;

/// A grammar within bounds, as the cache knows it and the compiler takes it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Source {
    /// A schema as text: keys in their order, since properties are written in theirs.
    Schema(String),
    Regex(String),
    Lark(String),
}

impl Source {
    /// What it is called in messages.
    pub(super) fn what(&self) -> &'static str {
        match self {
            Self::Schema(_) => "JSON schema",
            Self::Regex(_) => "regular expression",
            Self::Lark(_) => "Lark grammar",
        }
    }

    /// The text.
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Schema(text) | Self::Regex(text) | Self::Lark(text) => text,
        }
    }
}

impl Grammar {
    /// The grammar's text, if it is within bounds.
    ///
    /// # Errors
    /// [`ConstraintError::TooLarge`] or [`ConstraintError::TooDeep`].
    pub(super) fn source(&self) -> Result<Source, ConstraintError> {
        let source = match self {
            Self::JsonObject => Source::Schema(r#"{"type":"object"}"#.to_owned()),
            Self::JsonSchema(schema) => {
                check_depth(schema)?;
                Source::Schema(schema.to_string())
            }
            Self::Regex(text) => Source::Regex(text.clone()),
            Self::Lark(text) => Source::Lark(text.clone()),
        };
        if source.text().len() > SOURCE_BYTES_MAX {
            return Err(ConstraintError::TooLarge {
                what: source.what(),
                max: SOURCE_BYTES_MAX,
            });
        }
        if !matches!(source, Source::Schema(_)) && text_depth(source.text()) > TEXT_DEPTH_MAX {
            return Err(ConstraintError::TooDeep {
                what: source.what(),
                max: TEXT_DEPTH_MAX,
            });
        }
        Ok(source)
    }
}

/// Everything that handles JSON recurses over it, down to its `drop`; this does not.
fn check_depth(schema: &Value) -> Result<(), ConstraintError> {
    let mut level = vec![schema];
    let mut depth = 0;
    while !level.is_empty() {
        if depth == SCHEMA_DEPTH_MAX {
            return Err(ConstraintError::TooDeep {
                what: "JSON schema",
                max: SCHEMA_DEPTH_MAX,
            });
        }
        depth += 1;
        let inside = level.iter().flat_map(|value| children(value));
        level = inside.collect();
    }
    Ok(())
}

fn children(value: &Value) -> Box<dyn Iterator<Item = &Value> + '_> {
    match value {
        Value::Array(items) => Box::new(items.iter()),
        Value::Object(members) => Box::new(members.values()),
        _ => Box::new(std::iter::empty()),
    }
}

/// How many brackets are open at once. Those in strings count too, which no grammar in use comes near to mind.
fn text_depth(text: &str) -> usize {
    let (mut open, mut deepest) = (0usize, 0);
    for byte in text.bytes() {
        match byte {
            b'(' | b'[' | b'{' => open += 1,
            b')' | b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(open);
    }
    deepest
}
