//! `machine.json`: what is known of this computer, kept from one run to the next.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::model::Machine;

/// Why a machine's file is of no use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The system refuses.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The system refuses.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is not what was written.
    #[error("{} is no description of a machine; remove it, and `troika devices --measure` writes a new one", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// Where, and what was expected.
        #[source]
        source: serde_json::Error,
    },
    /// Another program wrote it.
    #[error("{} has version {found}, and this program reads {}; remove it, and `troika devices --measure` writes a new one", path.display(), Machine::VERSION)]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u64,
    },
}

impl Machine {
    /// Reads what was saved; `None` if nothing was.
    ///
    /// # Errors
    /// If there is a file that cannot be read, is damaged, or is of another version.
    pub fn load(path: &Path) -> Result<Option<Self>, StoreError> {
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => {
                let path = path.to_owned();
                return Err(StoreError::Read { path, source });
            }
        };
        let damaged = |source| StoreError::Form {
            path: path.to_owned(),
            source,
        };
        let value: serde_json::Value = serde_json::from_slice(&text).map_err(damaged)?;
        // Told before what a newer form lacks of ours.
        match value["version"].as_u64() {
            Some(found) if found != u64::from(Self::VERSION) => {
                let path = path.to_owned();
                Err(StoreError::Version { path, found })
            }
            _ => serde_json::from_value(value).map(Some).map_err(damaged),
        }
    }

    /// Saves it, whole or not at all. The directory is made if need be.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn save(&self, path: &Path) -> Result<(), StoreError> {
        self.write(path).map_err(|source| StoreError::Write {
            path: path.to_owned(),
            source,
        })
    }

    fn write(&self, path: &Path) -> io::Result<()> {
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        fs::create_dir_all(directory)?;
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        serde_json::to_writer_pretty(&mut file, self)?;
        file.write_all(b"\n")?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::tests::machine;
    use crate::measure::{Findings, Measurement, Quantity};

    #[test]
    fn a_machine_comes_back_from_its_file_and_damage_is_told() {
        let directory = tempfile::tempdir().expect("a place for files");
        let path = directory.path().join("new/machine.json");
        assert!(matches!(Machine::load(&path), Ok(None)));
        let mut saved = machine();
        let measured = Measurement::of_samples("cpu0", Quantity::ReadGbs, vec![40.0, 50.0]);
        saved.record(Findings {
            measurements: measured.into_iter().collect(),
            unknown: Vec::new(),
        });
        saved.save(&path).expect("writes");
        assert_eq!(Machine::load(&path).expect("reads"), Some(saved));
        for (text, want) in [
            ("{", "remove it"),
            ("[1]", "remove it"),
            ("{\"version\": 99}", "version 99"),
            ("{\"version\": 1}", "remove it"),
            ("\u{feff}", "remove it"),
        ] {
            fs::write(&path, text).expect("writes");
            let error = Machine::load(&path).expect_err("is damaged");
            assert!(error.to_string().contains(want), "{text}: {error}");
        }
    }
}
