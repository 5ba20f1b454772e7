//! What stands beside a compiled model's files: their sizes and checksums, and what is known of them.

use std::fs::{self, File};
use std::io::{self, Read as _, Write};
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::key::{Key, hex};
use super::loss::Loss;
use crate::Error;

/// The manifest's own name.
pub(super) const FILE: &str = "manifest.json";

/// A file of a compiled model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Its path in the model's directory, with `/`.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256 in hexadecimal digits.
    pub sha256: String,
}

/// What is known of a compiled model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// All that decides over the model, as [`Key::text`].
    pub key: String,
    /// The file that it was made from, for people.
    pub model: String,
    /// Its files, in order of their names.
    pub files: Vec<FileEntry>,
    /// What was lost; `None` if nobody compared.
    pub loss: Option<Loss>,
    /// When it was made, in seconds since 1970.
    pub made_at: u64,
    /// How long that took.
    pub seconds: f64,
}

impl Manifest {
    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// What stands after `word` in the key: `backend`, `version`, `weights`, `n_ctx`, `chunk`.
    pub fn key_line(&self, word: &str) -> Option<&str> {
        let mut lines = self.key.lines();
        lines.find_map(|line| line.strip_prefix(word)?.strip_prefix(' '))
    }

    /// Reads the manifest of a directory.
    pub(super) fn read(directory: &Path) -> Result<Self, Damage> {
        let text = fs::read_to_string(directory.join(FILE))
            .map_err(|error| Damage(format!("{FILE}: {error}")))?;
        serde_json::from_str(&text).map_err(|error| Damage(format!("{FILE}: {error}")))
    }

    /// Writes the manifest as the last file of a directory.
    pub(super) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut *out, self)?;
        out.write_all(b"\n")?;
        out.flush()
    }

    /// Compares every file with its checksum.
    pub(super) fn verify(&self, directory: &Path, key: &Key) -> Result<(), Damage> {
        if self.key != key.text() {
            return Err(Damage(format!("{FILE} is of another model")));
        }
        for file in &self.files {
            let damage = |what: &dyn std::fmt::Display| Damage(format!("{}: {what}", file.name));
            // A path from a file leads nowhere but into its directory.
            let name = Path::new(&file.name);
            if !name
                .components()
                .all(|part| matches!(part, Component::Normal(_)))
            {
                return Err(damage(&"the path leads out of the directory"));
            }
            let path = directory.join(name);
            let (bytes, sha256) = checksum(&path).map_err(|error| damage(&error))?;
            if bytes != file.bytes {
                return Err(damage(&format_args!(
                    "it has {bytes} bytes instead of {}",
                    file.bytes
                )));
            }
            if sha256 != file.sha256 {
                return Err(damage(&"its checksum is another"));
            }
        }
        Ok(())
    }
}

/// What does not hold of a directory.
#[derive(Debug)]
pub(super) struct Damage(pub(super) String);

/// Every file of a directory, with its checksum, synced to the disk.
pub(super) fn take_stock(directory: &Path) -> Result<Vec<FileEntry>, Error> {
    let mut files = Vec::new();
    for path in walk(directory)? {
        let failed = |source| Error::Io {
            path: path.clone(),
            source,
        };
        let (bytes, sha256) = checksum(&path).map_err(failed)?;
        File::open(&path)
            .and_then(|file| file.sync_all())
            .map_err(failed)?;
        let inside = path.strip_prefix(directory).unwrap_or(&path);
        let parts: Vec<_> = inside
            .components()
            .map(|part| part.as_os_str().to_string_lossy())
            .collect();
        files.push(FileEntry {
            name: parts.join("/"),
            bytes,
            sha256,
        });
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

/// The regular files below a directory; links and devices are refused.
fn walk(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut files = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        let failed = |source| Error::Io {
            path: directory.clone(),
            source,
        };
        for entry in fs::read_dir(&directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let kind = entry.file_type().map_err(failed)?;
            if kind.is_dir() {
                directories.push(entry.path());
            } else if kind.is_file() {
                files.push(entry.path());
            } else {
                return Err(Error::Invalid {
                    what: entry.path().display().to_string(),
                    reason: "a compiled model is made of plain files".to_owned(),
                });
            }
        }
    }
    Ok(files)
}

/// Length and SHA-256 of a file.
fn checksum(path: &Path) -> io::Result<(u64, String)> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut bytes = 0;
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok((bytes, hex(&hash.finalize())));
        }
        hash.update(&buffer[..read]);
        bytes += read as u64;
    }
}
