//! What an answer's form can be given as, and how much of it is taken.

use serde_json::Value;

use super::{ConstraintError, schema};

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
    /// Calls of tools, as [`tool_grammar`](crate::chat::AnswerFormat::tool_grammar) writes them: Lark in which schemas
    /// say how their JSON is spaced. A client's own grammar may not say that.
    Calls(String),
}

/// Bytes of a schema. The largest that hosted services take have 120,000 characters of names and values.
const SCHEMA_BYTES_MAX: usize = 256 << 10;

/// Values in a schema: objects, lists, texts, numbers.
const SCHEMA_VALUES_MAX: usize = 20_000;

/// Bytes of all tools together. They are schemas for the most part.
const CALLS_BYTES_MAX: usize = SCHEMA_BYTES_MAX;

/// Bytes of a grammar in text. The parser's work grows with the square of an expression in it.
const LARK_BYTES_MAX: usize = 16 << 10;
const REGEX_BYTES_MAX: usize = 4 << 10;

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
    Calls(String),
}

impl Source {
    /// What it is called in messages.
    pub(super) fn what(&self) -> &'static str {
        match self {
            Self::Schema(_) => "JSON schema",
            Self::Regex(_) => "regular expression",
            Self::Lark(_) => "Lark grammar",
            Self::Calls(_) => "grammar of the tools",
        }
    }

    /// The text.
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Schema(text) | Self::Regex(text) | Self::Lark(text) | Self::Calls(text) => text,
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
                check_shape(schema)?;
                Source::Schema(schema.to_string())
            }
            Self::Regex(text) => Source::Regex(text.clone()),
            Self::Lark(text) => Source::Lark(text.clone()),
            Self::Calls(text) => Source::Calls(text.clone()),
        };
        let max = match source {
            Source::Schema(_) => SCHEMA_BYTES_MAX,
            Source::Regex(_) => REGEX_BYTES_MAX,
            Source::Lark(_) => LARK_BYTES_MAX,
            Source::Calls(_) => CALLS_BYTES_MAX,
        };
        if source.text().len() > max {
            return Err(ConstraintError::TooLarge {
                what: source.what(),
                max,
                of: "bytes",
            });
        }
        // What is nested in calls are schemas, which are checked one by one.
        if matches!(source, Source::Regex(_) | Source::Lark(_))
            && text_depth(source.text()) > TEXT_DEPTH_MAX
        {
            return Err(ConstraintError::TooDeep {
                what: source.what(),
                max: TEXT_DEPTH_MAX,
            });
        }
        Ok(source)
    }
}

/// Whether a schema is one that answers can be held to, as far as that is seen without compiling it.
///
/// # Errors
/// If it is malformed, asks for what is not supported, or is too large or too deep; the message says what is wrong and
/// where.
pub fn check_schema(schema: &Value) -> Result<(), ConstraintError> {
    check_shape(schema)?;
    schema::checked(schema.clone()).map(drop)
}

/// Everything that handles JSON recurses over it, down to its `drop`; this does not.
fn check_shape(schema: &Value) -> Result<(), ConstraintError> {
    let what = "JSON schema";
    let mut level = vec![schema];
    let (mut depth, mut values) = (0, 0);
    while !level.is_empty() {
        depth += 1;
        values += level.len();
        if depth > SCHEMA_DEPTH_MAX {
            let max = SCHEMA_DEPTH_MAX;
            return Err(ConstraintError::TooDeep { what, max });
        }
        if values > SCHEMA_VALUES_MAX {
            return Err(ConstraintError::TooLarge {
                what,
                max: SCHEMA_VALUES_MAX,
                of: "values",
            });
        }
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
