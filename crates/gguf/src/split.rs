//! Models in several files: `NAME-00001-of-00003.gguf` and the others beside it.
//!
//! The first part has the metadata, and perhaps no tensor. Parts are taken as one file, in which one follows the other.

use std::path::{Path, PathBuf};

use crate::{Error, Metadata};

/// The parts that follow the one at `path`, if that is the first of several by its name and its metadata; otherwise none.
///
/// # Errors
/// If `split.count` is no integer.
pub(crate) fn later_parts(path: &Path, metadata: &Metadata) -> Result<Vec<PathBuf>, Error> {
    let count = metadata.opt_u64("split.count")?.unwrap_or(1);
    let part = |index: u64| format!("-{index:05}-of-{count:05}.gguf");
    let name = path.file_name().and_then(|name| name.to_str());
    let Some(base) = name.and_then(|name| name.strip_suffix(&part(1))) else {
        return Ok(Vec::new());
    };
    let paths = (2..=count).map(|index| path.with_file_name(format!("{base}{}", part(index))));
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
