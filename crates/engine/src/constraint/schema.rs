//! JSON schemas before the parser sees them.
//!
//! The parser refuses what it does not know, but seldom says where, and some of what it takes it should not: it reads its
//! own options from the schema. So every schema that is reachable from the root is looked at here first. What is wrong
//! is named with its place, and two things are put into words that the parser understands: a `oneOf` whose options
//! exclude each other is an `anyOf`, and a bound that no answer can reach is none.
//!
//! This is no validation against the metaschema: what is only malformed is left to the parser.

mod exclusive;
mod place;

use foldhash::{HashMap, HashSet};

use llguidance::derivre::{RegexAst, RegexBuilder};
use llguidance::regex_to_lark;
use serde_json::{Map, Value};

use super::ConstraintError;
use super::error::first_lines;
use place::{Name, Place, Places};

/// Keywords that restrict answers and that the parser does not know.
const UNSUPPORTED: [&str; 17] = [
    "$dynamicRef",
    "$recursiveRef",
    "contains",
    "dependencies",
    "dependentRequired",
    "dependentSchemas",
    "else",
    "if",
    "maxContains",
    "minContains",
    "not",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
    "uniqueItems",
    // The parser's own options, by which a schema could ask to be followed loosely.
    "x-guidance",
];

const TYPES: [&str; 7] = [
    "array", "boolean", "integer", "null", "number", "object", "string",
];

const FORMATS: [&str; 11] = [
    "date",
    "date-time",
    "duration",
    "email",
    "hostname",
    "ipv4",
    "ipv6",
    "time",
    "unknown",
    "uri",
    "uuid",
];

/// What a schema may ask for at least: longer answers do not fit in a context.
const AT_LEAST_MAX: u64 = 1 << 16;

/// An upper bound beyond this one is none: it is far longer than any answer.
const AT_MOST_MAX: u64 = 1 << 24;

const NO_SCHEMA: &str = "a schema is an object, `true` or `false`";

/// A schema that the parser can be given.
///
/// # Errors
/// [`ConstraintError::Invalid`] with the place.
pub(super) fn checked(mut root: Value) -> Result<Value, ConstraintError> {
    match root {
        Value::Bool(true) => return Ok(Value::Object(Map::new())),
        Value::Bool(false) => return Err(invalid("#", "`false` allows no answer at all")),
        Value::Object(_) => {}
        _ => return Err(invalid("#", NO_SCHEMA)),
    }
    let mut walk = Walk {
        root: &root,
        places: Places::default(),
        todo: Vec::new(),
        seen: HashSet::default(),
        edits: HashMap::default(),
    };
    walk.push(Place::Target("#"), &root);
    while let Some((place, schema)) = walk.todo.pop() {
        walk.visit(place, schema)
            .map_err(|reason| invalid(&walk.places.pointer(place), reason))?;
    }
    let edits = walk.edits;
    apply(&edits, &mut root);
    Ok(root)
}

/// Checks a pattern as schemas have them: it may match anywhere, and `\d` and `\w` are ASCII.
fn check_search_pattern(pattern: &str) -> Result<(), String> {
    check_escapes(pattern)?;
    build(&RegexAst::SearchRegex(regex_to_lark(pattern, "dw")))
}

/// Checks a regular expression that is the whole grammar.
pub(super) fn check_pattern(pattern: &str) -> Result<(), String> {
    if pattern.is_empty() {
        return Err("it is empty".to_owned());
    }
    check_escapes(pattern)?;
    build(&RegexAst::Regex(regex_to_lark(pattern, "")))
}

fn build(ast: &RegexAst) -> Result<(), String> {
    let built = RegexBuilder::new().mk(ast);
    built
        .map(drop)
        .map_err(|error| first_lines(&format!("{error:#}")))
}

/// On its way to the parser a pattern loses a backslash at its end.
fn check_escapes(pattern: &str) -> Result<(), String> {
    let backslashes = pattern.len() - pattern.trim_end_matches('\\').len();
    match backslashes % 2 {
        0 => Ok(()),
        _ => Err("it ends with a backslash that escapes nothing".to_owned()),
    }
}

fn invalid(at: &str, reason: impl Into<String>) -> ConstraintError {
    ConstraintError::Invalid {
        what: "JSON schema",
        at: Some(at.to_owned()),
        reason: reason.into(),
    }
}

/// Looks at schemas from the root on, at each once. A list of what is still to be seen takes the place of recursion.
struct Walk<'s> {
    root: &'s Value,
    places: Places<'s>,
    todo: Vec<(usize, &'s Value)>,
    seen: HashSet<Address>,
    edits: HashMap<Address, Vec<Edit>>,
}

/// Where a value lies in memory: which of the values in the tree it is.
type Address = usize;

fn address(value: &Value) -> Address {
    std::ptr::from_ref(value).addr()
}

/// A change of one schema.
#[derive(Clone, Copy)]
enum Edit {
    Remove(&'static str),
    OneOfIsAnyOf,
}

impl<'s> Walk<'s> {
    fn push(&mut self, place: Place<'s>, schema: &'s Value) {
        if self.seen.insert(address(schema)) {
            self.todo.push((self.places.add(place), schema));
        }
    }

    /// Checks one schema and takes note of those inside. An error is the reason alone.
    fn visit(&mut self, place: usize, schema: &'s Value) -> Result<(), String> {
        let keywords = match schema {
            Value::Object(keywords) => keywords,
            Value::Bool(_) => return Ok(()),
            _ => return Err(NO_SCHEMA.to_owned()),
        };
        for (keyword, value) in keywords {
            if let Some(edit) = edit(self.root, keywords, keyword, value) {
                self.edits.entry(address(schema)).or_default().push(edit);
            } else {
                check(keywords, keyword, value)?;
            }
            if keyword == "$ref" {
                self.follow(value)?;
            }
            self.go_inside(place, keyword, value);
        }
        Ok(())
    }

    fn follow(&mut self, reference: &'s Value) -> Result<(), String> {
        let target = reference.as_str().unwrap_or_default();
        if !target.starts_with('#') {
            return Err(format!(
                "`$ref` leads to {}, outside of this schema; nothing is fetched, so put it into `$defs`",
                short(reference)
            ));
        }
        let schema = resolve(self.root, target)
            .ok_or_else(|| format!("`$ref` leads to {}, where nothing is", short(reference)))?;
        self.push(Place::Target(target), schema);
        Ok(())
    }

    /// Takes note of the schemas that a keyword holds.
    fn go_inside(&mut self, parent: usize, keyword: &'s str, value: &'s Value) {
        let place = |name| Place::Inside {
            parent,
            keyword,
            name,
        };
        match (keyword, value) {
            ("items" | "prefixItems" | "allOf" | "anyOf" | "oneOf", Value::Array(schemas)) => {
                for (index, schema) in schemas.iter().enumerate() {
                    self.push(place(Name::Index(index)), schema);
                }
            }
            ("properties" | "patternProperties", Value::Object(schemas)) => {
                for (name, schema) in schemas {
                    self.push(place(Name::Key(name)), schema);
                }
            }
            ("items" | "additionalProperties" | "additionalItems", schema) => {
                self.push(place(Name::Only), schema);
            }
            _ => {}
        }
    }
}

/// What is to be changed about a keyword before the parser gets it.
fn edit(root: &Value, keywords: &Map<String, Value>, keyword: &str, value: &Value) -> Option<Edit> {
    let is_no_bound = || value.as_u64().is_some_and(|most| most > AT_MOST_MAX);
    match keyword {
        "maxItems" if is_no_bound() => Some(Edit::Remove("maxItems")),
        "maxLength" if is_no_bound() => Some(Edit::Remove("maxLength")),
        "maxProperties" if is_no_bound() => Some(Edit::Remove("maxProperties")),
        // Says nothing, and generators of schemas write it all the same.
        "uniqueItems" if *value == Value::Bool(false) => Some(Edit::Remove("uniqueItems")),
        "oneOf" if !keywords.contains_key("anyOf") => {
            exclusive::are_exclusive(root, value).then_some(Edit::OneOfIsAnyOf)
        }
        _ => None,
    }
}

/// Checks what one keyword asks for.
fn check(keywords: &Map<String, Value>, keyword: &str, value: &Value) -> Result<(), String> {
    match keyword {
        "type" => check_type(value),
        "enum" if value.as_array().is_none_or(Vec::is_empty) => {
            Err("`enum` is a list of one value or more".to_owned())
        }
        "format" if may_be_string(keywords) => check_format(value),
        "pattern" => {
            let pattern = value.as_str().ok_or("`pattern` is a string")?;
            check_search_pattern(pattern).map_err(|reason| format!("`pattern`: {reason}"))
        }
        "patternProperties" => {
            let patterns = value
                .as_object()
                .ok_or("`patternProperties` is an object")?;
            patterns.keys().try_for_each(|pattern| {
                check_search_pattern(pattern)
                    .map_err(|reason| format!("`patternProperties`: {reason}"))
            })
        }
        "minItems" | "minLength" | "minProperties" => check_at_least(keyword, value),
        _ if UNSUPPORTED.contains(&keyword) => Err(format!("`{keyword}` is not supported")),
        _ => Ok(()),
    }
}

/// Makes the changes. As deep as the schema, which is bounded; from the inside out, since a change moves what is inside.
fn apply(edits: &HashMap<Address, Vec<Edit>>, value: &mut Value) {
    if edits.is_empty() {
        return;
    }
    let here = edits.get(&address(value));
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| apply(edits, item)),
        Value::Object(members) => {
            members.values_mut().for_each(|member| apply(edits, member));
            for edit in here.into_iter().flatten() {
                match edit {
                    // The order of keywords has a meaning to the parser.
                    Edit::Remove(keyword) => drop(members.shift_remove(*keyword)),
                    Edit::OneOfIsAnyOf => {
                        let renamed = |(keyword, value): (String, Value)| match keyword.as_str() {
                            "oneOf" => ("anyOf".to_owned(), value),
                            _ => (keyword, value),
                        };
                        *members = std::mem::take(members).into_iter().map(renamed).collect();
                    }
                }
            }
        }
        _ => {}
    }
}

/// What a reference within the schema leads to.
fn resolve<'s>(root: &'s Value, target: &str) -> Option<&'s Value> {
    root.pointer(target.strip_prefix('#')?)
}

fn may_be_string(keywords: &Map<String, Value>) -> bool {
    match keywords.get("type") {
        Some(Value::String(name)) => name == "string",
        Some(Value::Array(names)) => names.iter().any(|name| name == "string"),
        _ => true,
    }
}

fn check_type(value: &Value) -> Result<(), String> {
    let is_type = |value: &Value| value.as_str().is_some_and(|name| TYPES.contains(&name));
    let ok = match value {
        Value::Array(names) => !names.is_empty() && names.iter().all(is_type),
        name => is_type(name),
    };
    match ok {
        true => Ok(()),
        false => Err(format!(
            "`type` is one of {} or a list of them, not {}",
            TYPES.join(", "),
            short(value)
        )),
    }
}

fn check_format(value: &Value) -> Result<(), String> {
    match value.as_str() {
        Some(name) if FORMATS.contains(&name) => Ok(()),
        _ => Err(format!(
            "the format {} is not supported; supported are {}, or write a `pattern`",
            short(value),
            FORMATS.join(", ")
        )),
    }
}

fn check_at_least(keyword: &str, value: &Value) -> Result<(), String> {
    match value.as_u64() {
        Some(least) if least <= AT_LEAST_MAX => Ok(()),
        _ => Err(format!(
            "`{keyword}` is a whole number from 0 to {AT_LEAST_MAX}, not {}",
            short(value)
        )),
    }
}

/// Characters of a value that a message quotes.
const QUOTED_CHARS_MAX: usize = 80;

fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(QUOTED_CHARS_MAX) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text,
    }
}
