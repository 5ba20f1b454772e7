//! Directories that are listed and files that appear whole or not at all.

use std::fs::{self, File, Metadata};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::Error;

/// The regular files of a directory with the names that are text, in the names' order; links are followed. Hidden files
/// are left out: among them are the ones that are being written. No directory is no files.
pub(crate) fn files(directory: &Path) -> Result<Vec<(String, PathBuf, Metadata)>, Error> {
    const ACTION: &str = "read the directory of the models";
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io(ACTION)(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.map_err(Error::io(ACTION))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = entry.path();
        // One that vanished in between, or a link to nowhere, is not there.
        let Ok(about) = fs::metadata(&path) else {
            continue;
        };
        if about.is_file() && !name.starts_with('.') {
            files.push((name, path, about));
        }
    }
    files.sort_by(|(a, ..), (b, ..)| a.cmp(b));
    Ok(files)
}

/// Reads a file that is no longer than `bytes_max`.
pub(crate) fn read(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(bytes_max + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}

/// Writes a file, whole or not at all; one of this name is replaced.
pub(crate) fn write(directory: &Path, name: &str, bytes: &[u8]) -> Result<(), Error> {
    const ACTION: &str = "write to the directory of the models";
    let mut file = temporary(directory)?;
    file.write_all(bytes).map_err(Error::io(ACTION))?;
    persist(file, &directory.join(name))
}

/// An empty file without a name that counts, gone when it is dropped.
pub(crate) fn temporary(directory: &Path) -> Result<NamedTempFile, Error> {
    const ACTION: &str = "make a file in the directory of the models";
    fs::create_dir_all(directory).map_err(Error::io(ACTION))?;
    NamedTempFile::new_in(directory).map_err(Error::io(ACTION))
}

/// Brings a file to disk, then gives it its name: what is there under the name is never half of it.
pub(crate) fn persist(file: NamedTempFile, target: &Path) -> Result<(), Error> {
    const ACTION: &str = "bring a file to the disk";
    file.as_file().sync_all().map_err(Error::io(ACTION))?;
    file.persist(target)
        .map_err(|error| Error::io(ACTION)(error.error))?;
    sync_parent(target).map_err(Error::io(ACTION))
}

/// Gives a file a second name, which nothing has yet. Where the file system knows no second names, the file is renamed.
pub(crate) fn link(file: &Path, target: &Path) -> Result<(), Error> {
    const ACTION: &str = "give a file its name";
    if let Some(directory) = target.parent() {
        fs::create_dir_all(directory).map_err(Error::io(ACTION))?;
    }
    let linked = fs::hard_link(file, target).or_else(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Err(error),
        _ if target.exists() => Err(io::ErrorKind::AlreadyExists.into()),
        _ => fs::rename(file, target),
    });
    linked.map_err(Error::io(ACTION))?;
    sync_parent(target).map_err(Error::io(ACTION))
}

/// Removes a file, which may be gone already.
pub(crate) fn remove(path: &Path) -> Result<(), Error> {
    const ACTION: &str = "delete a file of the model";
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io(ACTION)(error)),
        _ => sync_parent(path).map_err(Error::io(ACTION)),
    }
}

/// Makes a change of names survive a loss of power, where the platform has a way to ask for it.
#[cfg(unix)]
fn sync_parent(path: &Path) -> io::Result<()> {
    path.parent()
        .map_or(Ok(()), |directory| File::open(directory)?.sync_all())
}

#[cfg(not(unix))]
fn sync_parent(_: &Path) -> io::Result<()> {
    Ok(())
}
