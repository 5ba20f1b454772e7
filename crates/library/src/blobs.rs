//! Files that are uploaded: named by their digest, and only once it was found to be right.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

use crate::{Digest, Error, disk};

/// What was uploaded and made no model of for this long was forgotten, as was an upload that never ended.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(24 * 3600);

/// The directory of uploaded files.
#[derive(Clone, Debug)]
pub(crate) struct Blobs(pub(crate) PathBuf);

impl Blobs {
    /// Where the file with this digest is or would be.
    pub(crate) fn path(&self, digest: &Digest) -> PathBuf {
        self.0.join(digest.blob_file())
    }

    pub(crate) fn begin(&self, digest: Digest, bytes_max: u64) -> Result<Upload, Error> {
        Ok(Upload {
            file: disk::temporary(&self.0)?,
            hash: Sha256::new(),
            bytes: 0,
            bytes_max,
            target: self.path(&digest),
            digest,
        })
    }

    /// Removes what was forgotten. What cannot be removed is left: it is in nobody's way but the disk's.
    pub(crate) fn sweep(&self, is_needed: impl Fn(&Digest) -> bool) {
        let Ok(files) = fs::read_dir(&self.0) else {
            return;
        };
        for file in files.flatten() {
            let name = file.file_name().to_string_lossy().into_owned();
            let needed = Digest::from_blob_file(&name).is_some_and(|digest| is_needed(&digest));
            if !needed && is_old(&file.path()) {
                let _ = fs::remove_file(file.path());
            }
        }
    }
}

fn is_old(path: &Path) -> bool {
    let modified = fs::symlink_metadata(path).and_then(|about| about.modified());
    modified.is_ok_and(|time| time.elapsed().is_ok_and(|age| age > FORGOTTEN_AFTER))
}

/// A file on its way in. Dropped before [`Upload::finish`], it leaves nothing behind.
#[derive(Debug)]
pub struct Upload {
    file: NamedTempFile,
    hash: Sha256,
    bytes: u64,
    bytes_max: u64,
    digest: Digest,
    target: PathBuf,
}

impl Upload {
    /// Takes more of the file.
    ///
    /// # Errors
    /// If it is longer than allowed, or the disk is full.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.bytes = self.bytes.saturating_add(bytes.len() as u64);
        if self.bytes > self.bytes_max {
            return Err(Error::TooLarge {
                bytes_max: self.bytes_max,
            });
        }
        self.hash.update(bytes);
        self.file
            .write_all(bytes)
            .map_err(Error::io("write the upload"))
    }

    /// Checks the digest and gives the file its name.
    ///
    /// # Errors
    /// [`Error::WrongDigest`], or if it cannot be brought to disk.
    pub fn finish(self) -> Result<(), Error> {
        let have = Digest::of(&self.hash.finalize());
        if have != self.digest {
            return Err(Error::WrongDigest {
                want: self.digest.to_string(),
                have: have.to_string(),
            });
        }
        disk::persist(self.file, &self.target)
    }
}
