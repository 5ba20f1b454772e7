//! `machine.json`: what is known of this computer, kept from one run to the next.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::model::Machine;

/// A file that is larger was not written by us.
const BYTES_MAX: u64 = 16 << 20;

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A later Troika wrote it.
    #[error("{} has version {found}, and this program knows {known}: use the later program, or move the file away", path.display())]
    Newer {
        /// Which file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The last that we know.
        known: u32,
    },
    /// It is no machine. The file was moved out of the way, so the next attempt finds none.
    #[error("{} is damaged ({why}){}", path.display(), moved(moved_to.as_deref()))]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Where it is now; `None` if it could not be moved.
        moved_to: Option<PathBuf>,
        /// What is wrong with it.
        why: String,
    },
    /// The system says no.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The system says no.
    #[error("cannot write {}", path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// The end of a sentence on a damaged file.
fn moved(to: Option<&Path>) -> String {
    match to {
        Some(to) => format!("; it was moved to {}", to.display()),
        None => "; delete it".to_owned(),
    }
}

/// As much of a file as tells who wrote it.
#[derive(Deserialize)]
struct Head {
    version: u32,
}

impl Machine {
    /// Reads a machine that [`Machine::save`] wrote; `None` if there is no file.
    ///
    /// # Errors
    /// If a later program wrote the file, it cannot be read, or it is damaged: then it is moved aside, as
    /// `machine.json.damaged`, and whoever can do without goes on.
    pub fn load(path: &Path) -> Result<Option<Self>, StoreError> {
        let bytes = match read(path) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => {
                return Err(aside(
                    path,
                    format!("it is larger than {} MiB", BYTES_MAX >> 20),
                ));
            }
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(source) => {
                return Err(StoreError::Read {
                    path: path.to_owned(),
                    source,
                });
            }
        };
        if let Ok(Head { version }) = serde_json::from_slice(&bytes)
            && version > Self::VERSION
        {
            return Err(StoreError::Newer {
                path: path.to_owned(),
                found: version,
                known: Self::VERSION,
            });
        }
        serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| aside(path, error.to_string()))
    }

    /// Writes the machine. The file is either the old one or the new one, whatever happens meanwhile.
    ///
    /// # Errors
    /// If the directory cannot be made or written to.
    pub fn save(&self, path: &Path) -> Result<(), StoreError> {
        write(path, self).map_err(|source| StoreError::Write {
            path: path.to_owned(),
            source,
        })
    }
}

/// The bytes of a file; `None` if there are too many.
fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    // Opening a pipe would wait for whoever writes to it.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(
            ErrorKind::InvalidInput,
            "it is no regular file",
        ));
    }
    let file = File::open(path)?;
    let mut bytes = Vec::new();
    file.take(BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= BYTES_MAX).then_some(bytes))
}

fn aside(path: &Path, why: String) -> StoreError {
    let mut name = OsString::from(path);
    name.push(".damaged");
    let to = PathBuf::from(name);
    StoreError::Damaged {
        moved_to: fs::rename(path, &to).is_ok().then_some(to),
        path: path.to_owned(),
        why,
    }
}

/// Writes a value as JSON. The file is either the old one or the new one, whatever happens meanwhile.
pub(crate) fn write(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let directory = match path.parent() {
        Some(directory) if directory != Path::new("") => directory,
        _ => Path::new("."),
    };
    fs::create_dir_all(directory)?;
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    serde_json::to_writer_pretty(&mut file, value)?;
    file.write_all(b"\n")?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    // The new name has to be on the disk as well; not every system lets a directory be opened.
    if let Ok(directory) = File::open(directory) {
        let _ = directory.sync_all();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::{self, Root};

    fn machine() -> Machine {
        probe::read(&Root::recorded("== /proc/meminfo\nMemTotal: 1024 kB\n"))
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("new/machine.json");
        assert_eq!(Machine::load(&path).expect("is no error"), None);
        for _ in 0..2 {
            machine().save(&path).expect("is written");
        }
        let loaded = Machine::load(&path).expect("is read");
        assert_eq!(loaded, Some(machine()));
        let files = fs::read_dir(home.path().join("new"))
            .expect("is there")
            .count();
        assert_eq!(files, 1, "no temporary file is left");
    }

    #[test]
    fn damaged_files_are_set_aside() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("machine.json");
        let half = serde_json::to_vec(&machine()).expect("is JSON");
        for bytes in [
            &b""[..],
            b"{}",
            b"[1]",
            b"{\"version\": \"x\"}",
            &half[..half.len() / 2],
            &[0xff; 9],
        ] {
            fs::write(&path, bytes).expect("is written");
            let Err(StoreError::Damaged { moved_to, .. }) = Machine::load(&path) else {
                panic!("{bytes:?} is no machine");
            };
            let moved_to = moved_to.expect("was moved");
            assert_eq!(fs::read(&moved_to).expect("is kept"), bytes);
            assert!(!path.exists());
        }
    }

    #[test]
    fn newer_files_are_left_alone() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("machine.json");
        fs::write(&path, br#"{"version": 99, "cpu": "of another form"}"#).expect("is written");
        let error = Machine::load(&path).expect_err("is refused");
        assert!(error.to_string().contains("version 99"), "{error}");
        assert!(path.exists());
    }

    #[test]
    fn what_is_no_file_is_an_error() {
        let home = tempfile::tempdir().expect("a directory");
        assert!(matches!(
            Machine::load(home.path()),
            Err(StoreError::Read { .. })
        ));
        assert!(matches!(
            machine().save(&home.path().join("a\0b")),
            Err(StoreError::Write { .. })
        ));
    }
}
