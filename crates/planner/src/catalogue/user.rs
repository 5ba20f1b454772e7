//! A user's own rows: `TROIKA_HOME/catalogue/*.toml`.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::check::{Defect, validate};
use super::chip::Chip;
use super::files::File;
use super::source::Date;
use super::{Catalogue, Error};

/// The file that [`add`] writes to.
const FILE: &str = "user.toml";
/// A file of rows is some kilobytes; one of more than this is something else.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// The files of a directory that end in `.toml`, by name; none if there is no such directory.
pub(super) fn files(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let read = |source| Error::Read {
        path: directory.to_owned(),
        source,
    };
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(read(error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(read)?.path();
        if path.extension().is_some_and(|ending| ending == "toml") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// The text of a file of rows.
pub(super) fn read(path: &Path) -> Result<String, Error> {
    let read = |source| Error::Read {
        path: path.to_owned(),
        source,
    };
    let bytes = fs::metadata(path).map_err(read)?;
    if !bytes.is_file() || bytes.len() > FILE_BYTES_MAX {
        let reason = format!("it is no file of at most {} MiB", FILE_BYTES_MAX >> 20);
        return Err(read(io::Error::new(io::ErrorKind::InvalidInput, reason)));
    }
    fs::read_to_string(path).map_err(read)
}

/// Why rows were not added.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AddError {
    /// The text has not the form of rows.
    #[error("these are no rows of a catalogue")]
    Form(#[source] Box<toml::de::Error>),
    /// There is nothing in it.
    #[error("there is no row to add")]
    Nothing,
    /// The rows are there, but not right.
    #[error("the rows are not right:{}", list(.0))]
    Defects(Vec<Defect>),
    /// The rows that are there already cannot be read.
    #[error(transparent)]
    There(#[from] Error),
    /// The file cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

fn list(defects: &[Defect]) -> String {
    defects
        .iter()
        .map(|defect| format!("\n  {}: {}", defect.row, defect.what))
        .collect()
}

/// Adds rows, in the catalogue's form, to a user's directory, and returns the file they are in now.
///
/// They are checked together with all other rows first, and the file is replaced whole: either all are added or none.
///
/// # Errors
/// [`AddError`]; the file is then as it was.
pub fn add(directory: &Path, text: &str, today: Date) -> Result<PathBuf, AddError> {
    let rows: File = toml::from_str(text).map_err(|error| AddError::Form(Box::new(error)))?;
    if rows.is_empty() {
        return Err(AddError::Nothing);
    }
    let path = directory.join(FILE);
    let mut all = match path.try_exists() {
        Ok(false) => String::new(),
        _ => read(&path)?,
    };
    if !all.is_empty() && !all.ends_with("\n\n") {
        all.push('\n');
    }
    all.push_str(text.trim());
    all.push('\n');

    // The other rows, and these in place of the file's.
    let mut catalogue = Catalogue::with_files(
        super::user::files(directory)?
            .iter()
            .filter(|other| **other != path),
    )?;
    let name = path.to_string_lossy().as_ref().into();
    let file = toml::from_str(&all).map_err(|error| AddError::Form(Box::new(error)))?;
    catalogue
        .extend(file, &name, true)
        .map_err(|error| AddError::Form(Box::new(error)))?;
    catalogue.index();
    let mut defects = validate(&catalogue, today);
    defects.retain(|defect| defect.file == *name);
    if !defects.is_empty() {
        return Err(AddError::Defects(defects));
    }
    write(directory, &path, &all).map_err(|source| AddError::Write {
        path: path.clone(),
        source,
    })?;
    Ok(path)
}

/// Replaces a file whole.
fn write(directory: &Path, path: &Path, text: &str) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// A chip as a row of TOML.
pub fn chip_text(chip: &Chip) -> String {
    #[derive(Serialize)]
    struct Rows<'c> {
        chip: [&'c Chip; 1],
    }
    toml::to_string(&Rows { chip: [chip] })
        .expect("a chip's row has no form that TOML lacks. This is a bug.")
}
