//! Names of classes: in the card, or in a text file with one in each line.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use super::Error;

/// More classes than any model has.
const LABELS_MAX: usize = 100_000;
/// Characters of a name.
const LABEL_CHARS_MAX: usize = 200;
/// Of a file of labels.
const BYTES_MAX: u64 = 4 << 20;

/// The names, if they can be shown.
pub(super) fn checked(labels: Vec<String>, origin: &str, key: &str) -> Result<Vec<String>, Error> {
    if labels.is_empty() || labels.len() > LABELS_MAX {
        let reason = format!("has {} names; 1 to {LABELS_MAX} are possible", labels.len());
        return Err(Error::value(origin, key, reason));
    }
    for (number, label) in (1..).zip(&labels) {
        if label.chars().count() > LABEL_CHARS_MAX || label.chars().any(char::is_control) {
            let reason = format!(
                "has a name (the {number}th) with control characters or more than {LABEL_CHARS_MAX} characters"
            );
            return Err(Error::value(origin, key, reason));
        }
    }
    Ok(labels)
}

/// The names in a file, one in each line. Empty lines at its end are none.
pub(super) fn read(
    file: &Path,
    directory: Option<&Path>,
    origin: &str,
) -> Result<Vec<String>, Error> {
    let Some(directory) = directory else {
        let reason = "names a file, and this card has no directory; write the names into it";
        return Err(Error::value(origin, "labels_file", reason.to_owned()));
    };
    let text = text(&directory.join(file), BYTES_MAX)?;
    let lines = text.trim_end().lines().map(|line| line.trim().to_owned());
    checked(lines.collect(), origin, "labels_file")
}

/// A text file of a bearable size.
pub(super) fn text(path: &Path, bytes_max: u64) -> Result<String, Error> {
    let io = |source: io::Error| Error::Io {
        path: path.to_owned(),
        source,
    };
    let mut text = String::new();
    let file = File::open(path).map_err(io)?;
    let read = file.take(bytes_max + 1).read_to_string(&mut text);
    if read.map_err(io)? as u64 > bytes_max {
        return Err(Error::TooLarge {
            path: path.to_owned(),
            bytes_max,
        });
    }
    Ok(text)
}
