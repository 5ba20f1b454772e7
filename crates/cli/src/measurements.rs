//! `measurements.jsonl` in Troika's home: what was measured elsewhere and imported.
//!
//! A measurement to a line, only ever appended to. Lines are written whole, under a lock, and brought to the disk; a line that
//! a loss of power tore is passed over by whoever reads.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::PathBuf;

use anyhow::Context as _;
use troika_planner::import::{Measurement, Skipped, record};

use crate::home::Home;

/// More than anybody measures; a file beyond is not ours.
const BYTES_MAX: u64 = 256 << 20;

/// The file of measurements. It need not exist.
pub(crate) struct Measurements {
    path: PathBuf,
}

impl Measurements {
    pub(crate) fn of(home: &Home) -> Self {
        Self {
            path: home.path().join("measurements.jsonl"),
        }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// All measurements, and the lines that are none.
    ///
    /// # Errors
    /// If the file is there and cannot be read.
    pub(crate) fn load(&self) -> anyhow::Result<(Vec<Measurement>, Vec<Skipped>)> {
        let text = match File::open(&self.path) {
            Ok(mut file) => read(&mut file).with_context(|| self.cannot("read")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            Err(error) => Err(error).with_context(|| self.cannot("read")),
        }?;
        Ok(record::read(&text))
    }

    /// Adds measurements that are not there yet, and tells how many those were.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(crate) fn add(&self, measurements: &[Measurement]) -> anyhow::Result<usize> {
        self.append(measurements)
            .with_context(|| self.cannot("write"))
    }

    fn append(&self, measurements: &[Measurement]) -> io::Result<usize> {
        if let Some(directory) = self.path.parent() {
            fs::create_dir_all(directory)?;
        }
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(&self.path)?;
        // Held until the file is closed; two imports at once do not mix their lines.
        file.lock()?;
        let there = read(&mut file)?;
        let mut known: HashSet<&str> = there.lines().collect();
        let lines: Vec<String> = measurements.iter().map(record::write).collect();
        let new: Vec<&str> = lines
            .iter()
            .map(String::as_str)
            .filter(|line| known.insert(line))
            .collect();
        let mut text = String::new();
        if !there.is_empty() && !there.ends_with('\n') {
            text.push('\n');
        }
        for line in &new {
            text.push_str(line);
            text.push('\n');
        }
        if !new.is_empty() {
            file.seek(SeekFrom::End(0))?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
        }
        Ok(new.len())
    }

    fn cannot(&self, action: &str) -> String {
        format!("cannot {action} {}", self.path.display())
    }
}

/// The text of the file; bytes that are none are replaced, so that they cost only their line.
fn read(file: &mut File) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.take(BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
