//! The file of the head, beside the receipts: how many lines there were, and the hash of the last.
//!
//! A chain of hashes cannot tell by itself that its end was cut off; this file can, unless it is changed as well.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::line::Hash;

/// The state of the chain when its file was safe on the disk last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// How many lines there were.
    pub(super) lines: u64,
    /// The hash of the last.
    pub(super) hash: Hash,
}

impl Head {
    fn path(receipts: &Path) -> PathBuf {
        receipts.with_extension("head")
    }

    /// The head of a file of receipts; `None` if it is not there, or makes no sense.
    ///
    /// # Errors
    /// If it is there and cannot be read.
    pub(super) fn read(receipts: &Path) -> io::Result<Option<Self>> {
        match fs::read(Self::path(receipts)) {
            Ok(bytes) => Ok(str::from_utf8(&bytes).ok().and_then(Self::parse)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let (lines, hash) = text.strip_suffix('\n')?.split_once(' ')?;
        Some(Self {
            lines: lines.parse().ok()?,
            hash: hash.parse().ok()?,
        })
    }

    /// Writes it: all of it or nothing, whenever the power goes.
    pub(super) fn write(&self, receipts: &Path) -> io::Result<()> {
        let (path, new) = (Self::path(receipts), receipts.with_extension("head.new"));
        let mut file = File::create(&new)?;
        writeln!(file, "{} {}", self.lines, self.hash)?;
        file.sync_data()?;
        fs::rename(new, path)
    }
}
