//! A file that appears whole under its name or not at all.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::source::sync_directory;

/// A file beside its target that is removed again unless it is renamed over it.
pub(crate) struct Temporary {
    path: PathBuf,
    pub(crate) file: File,
    keep: bool,
}

impl Temporary {
    /// Creates an empty file beside `target`, under a name that no one else has.
    pub(crate) fn create(target: &Path) -> io::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let mut name = OsString::from(".");
        name.push(target.file_name().ok_or(io::ErrorKind::InvalidInput)?);
        name.push(format!(
            ".{}-{}.tmp",
            process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        ));
        let path = target.with_file_name(name);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)?;
        Ok(Self {
            path,
            file,
            keep: false,
        })
    }

    /// Brings the file to disk, then gives it the target's name.
    pub(crate) fn persist(mut self, target: &Path) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.path, target)?;
        self.keep = true;
        let directory = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        sync_directory(directory)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.keep {
            // The write failed already and that is what is reported.
            let _ = fs::remove_file(&self.path);
        }
    }
}
