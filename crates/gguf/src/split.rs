//! Models in several files: `NAME-00001-of-00003.gguf` and the others beside it.
//!
//! The first part has the metadata, and perhaps no tensor. Parts are taken as one file, in which one follows the other.

use std::path::{Path, PathBuf};

use crate::{Error, Metadata};

/// A file's name that says that it is one of several: `NAME-00002-of-00003`, without the ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartName<'a> {
    /// What all parts have in common.
    pub base: &'a str,
    /// Which one it is, from 1.
    pub number: u32,
    /// How many there are: 2 or more.
    pub count: u32,
}

impl<'a> PartName<'a> {
    /// Reads a name without its ending; `None` of a file that stands alone.
    pub fn of(stem: &'a str) -> Option<Self> {
        let number = |text: &str| {
            let is_number = text.len() == 5 && text.bytes().all(|it| it.is_ascii_digit());
            is_number.then(|| text.parse::<u32>().ok()).flatten()
        };
        let (rest, count) = stem.rsplit_once("-of-")?;
        let (base, own) = rest.rsplit_once('-')?;
        let (own, count) = (number(own)?, number(count)?);
        let is_part = count > 1 && (1..=count).contains(&own);
        is_part.then_some(Self {
            base,
            number: own,
            count,
        })
    }

    /// The name of another part, or of the same under another base.
    pub fn write(base: &str, number: u32, count: u32) -> String {
        format!("{base}-{number:05}-of-{count:05}")
    }
}

/// The parts that follow the one at `path`, if that is the first of several by its name and its metadata; otherwise none.
///
/// # Errors
/// If `split.count` is no integer.
pub(crate) fn later_parts(path: &Path, metadata: &Metadata) -> Result<Vec<PathBuf>, Error> {
    let count = metadata.opt_u64("split.count")?.unwrap_or(1);
    let name = path.file_name().and_then(|name| name.to_str());
    let stem = name.and_then(|name| name.strip_suffix(".gguf"));
    let own = stem.and_then(PartName::of);
    let Some(own) = own.filter(|own| own.number == 1 && u64::from(own.count) == count) else {
        return Ok(Vec::new());
    };
    let part = |number| PartName::write(own.base, number, own.count) + ".gguf";
    let paths = (2..=own.count).map(|number| path.with_file_name(part(number)));
    Ok(paths.collect())
}

/// Checks that a file is part `want`, from 1, of as many as the first part says.
///
/// # Errors
/// If it says otherwise.
pub(crate) fn require_part(
    want: usize,
    first: &Metadata,
    part: &Metadata,
    file: &str,
) -> Result<(), Error> {
    let count = first.opt_u64("split.count")?;
    let is_part = part.opt_u64("split.no")? == Some(want as u64 - 1);
    if is_part && part.opt_u64("split.count")? == count {
        return Ok(());
    }
    Err(Error::OtherPart {
        want,
        file: file.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_parts_are_read_and_written() {
        let part = PartName::of("a-b-Q4_K_M-00002-of-00003").unwrap();
        assert_eq!((part.base, part.number, part.count), ("a-b-Q4_K_M", 2, 3));
        assert_eq!(
            PartName::write(part.base, 1, 3),
            "a-b-Q4_K_M-00001-of-00003"
        );
        for alone in [
            "a",
            "a-00001-of-00001",
            "a-00004-of-00003",
            "a-00000-of-00003",
            "a-1-of-3",
            "a-00001-of-3",
            "one-of-00003",
            "a-+0001-of-00003",
        ] {
            assert_eq!(PartName::of(alone), None, "{alone}");
        }
    }
}
