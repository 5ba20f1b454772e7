//! What is wrong with `hybrid.toml`: every mistake with its line, its field, and what would be right.

use std::fmt;
use std::io;
use std::path::PathBuf;

use toml::de::{DeTable, DeValue};

/// Why a configuration is not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It says what makes no sense.
    #[error("{}", told(.path.as_ref(), .faults))]
    Wrong {
        /// The file, if it came from one.
        path: Option<PathBuf>,
        /// The mistakes, at least one, in the file's order where lines are known.
        faults: Vec<Fault>,
    },
}

/// A mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Its line, from 1; `None` if the configuration was no text.
    pub line: Option<usize>,
    /// The field at fault: `rule[1].when.ttft_s`; empty where it is none.
    pub field: String,
    /// What is wrong, and what would be right. Never a secret: keys are named in the file, and not in it.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.line, &*self.field) {
            (Some(line), "") => write!(f, "line {line}: {}", self.message),
            (Some(line), field) => write!(f, "line {line}, {field}: {}", self.message),
            (None, "") => f.write_str(&self.message),
            (None, field) => write!(f, "{field}: {}", self.message),
        }
    }
}

fn told(path: Option<&PathBuf>, faults: &[Fault]) -> String {
    let mut lines: Vec<_> = faults.iter().map(Fault::to_string).collect();
    match (path, lines.len()) {
        (Some(path), 1) => format!("{}: {}", path.display(), lines[0]),
        (Some(path), n) => {
            lines.insert(0, format!("{} has {n} mistakes:", path.display()));
            lines.join("\n  ")
        }
        (None, _) => lines.join("\n"),
    }
}

impl ConfigError {
    /// One mistake, in this field: `remote[0].url`. Its line is found when it is known which text it was.
    pub fn at(field: impl Into<String>, message: impl Into<String>) -> Self {
        let mut faults = Faults::default();
        faults.add(field, message);
        Self::Wrong {
            path: None,
            faults: faults.0,
        }
    }

    /// The same, of this file.
    #[must_use]
    pub fn in_file(self, file: impl Into<PathBuf>) -> Self {
        match self {
            Self::Wrong { faults, .. } => Self::Wrong {
                path: Some(file.into()),
                faults,
            },
            unreadable @ Self::Unreadable { .. } => unreadable,
        }
    }

    /// The same, with the lines that its fields have in this text.
    #[must_use]
    pub fn in_text(self, text: &str) -> Self {
        let (path, mut faults) = match self {
            Self::Wrong { path, faults } => (path, faults),
            unreadable @ Self::Unreadable { .. } => return unreadable,
        };
        for fault in faults.iter_mut().filter(|fault| fault.line.is_none()) {
            fault.line = line_of(text, &fault.field);
        }
        faults.sort_by_key(|fault| fault.line.unwrap_or(0));
        Self::Wrong { path, faults }
    }
}

/// Mistakes, as they are found.
#[derive(Debug, Default)]
pub(crate) struct Faults(Vec<Fault>);

impl Faults {
    pub(crate) fn add(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.0.push(Fault {
            line: None,
            field: field.into(),
            message: message.into(),
        });
    }

    /// Something, if nothing is wrong.
    pub(crate) fn or<T>(self, sound: T) -> Result<T, ConfigError> {
        match self.0.is_empty() {
            true => Ok(sound),
            false => Err(ConfigError::Wrong {
                path: None,
                faults: self.0,
            }),
        }
    }
}

/// What the parser says of a text that is no TOML, or not of the shape of a configuration.
pub(super) fn of_parser(text: &str, path: &str, error: &toml::de::Error) -> ConfigError {
    let field = match path {
        "." => "",
        path => path,
    };
    let mut message = error.message().to_owned();
    // Serde tells what is known between backticks, behind what is not.
    let mut quoted = message.split('`').skip(1).step_by(2);
    if message.starts_with("unknown ")
        && let Some(name) = quoted.next()
        && let Some(near) = nearest(name, quoted)
    {
        message.push_str(&format!("; did you mean `{near}`?"));
    }
    if message.starts_with("invalid type: ") && field.contains(".when.") {
        message.push_str("; a bound is written as `\">8000\"`");
    }
    let line = error.span().map(|span| line_at(text, span.start));
    ConfigError::Wrong {
        path: None,
        faults: vec![Fault {
            line,
            field: field.to_owned(),
            message,
        }],
    }
}

/// The name that is meant, if one is near enough.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // A name of a file may be as long as the file; what is that long is no typing error.
    let name = (name.len() <= 64).then(|| name.to_lowercase())?;
    known
        .map(|known| (strsim::jaro_winkler(&name, &known.to_lowercase()), known))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, known)| known)
}

fn line_at(text: &str, byte: usize) -> usize {
    let before = text.as_bytes().get(..byte).unwrap_or(text.as_bytes());
    1 + before.iter().filter(|byte| **byte == b'\n').count()
}

/// The line of the field, or of the nearest thing around it that the text has.
fn line_of(text: &str, field: &str) -> Option<usize> {
    let table = DeTable::parse(text).ok()?;
    let mut found = None;
    let mut rest = field;
    let mut table = Some(table.get_ref());
    while let Some(inside) = table.take() {
        let end = rest.find(['.', '[']).unwrap_or(rest.len());
        let Some((key, value)) = inside.get_key_value(&rest[..end]) else {
            break;
        };
        let mut value = value;
        found = Some(match value.get_ref() {
            // The span of a table's own heading; its key's span is where it was first named.
            DeValue::Table(_) | DeValue::Array(_) => value.span().start.max(key.span().start),
            _ => key.span().start,
        });
        rest = &rest[end..];
        while let Some(index) = rest.strip_prefix('[')
            && let Some((index, behind)) = index.split_once(']')
            && let DeValue::Array(items) = value.get_ref()
            && let Some(item) = index.parse().ok().and_then(|index: usize| items.get(index))
        {
            found = Some(item.span().start);
            value = item;
            rest = behind;
        }
        if let DeValue::Table(inside) = value.get_ref()
            && let Some(behind) = rest.strip_prefix('.')
        {
            rest = behind;
            table = Some(inside);
        }
    }
    found.map(|byte| line_at(text, byte))
}
