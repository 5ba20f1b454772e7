//! An external meter: a table that its program writes row by row, followed while it grows.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::{Gauge, MeterError, Reading};

/// The power that a line tells, in watts; `None` for names of columns, remarks and nonsense.
///
/// Lines come in order, the first ones of the file first.
pub type WattsOf = Box<dyn FnMut(&str) -> Option<f64> + Send>;

/// A row that is older tells nothing of now.
const STALE: Duration = Duration::from_secs(10);

/// As much of the beginning is looked at for the names of the columns.
const HEAD_BYTES: u64 = 16 << 10;

/// As much is read at a time; of a file that grew by more, the end.
const TAIL_BYTES: u64 = 64 << 10;

/// No row is longer.
const LINE_BYTES_MAX: usize = 4 << 10;

/// A meter that is a growing file. It covers whatever hangs on it, most often the whole machine.
pub struct LogGauge {
    path: PathBuf,
    watts_of: WattsOf,
    /// What was read so far; `None` before the first look.
    at: Option<Place>,
    /// A line whose end is not written yet.
    rest: Vec<u8>,
    /// The newest power, and when it came.
    newest: Option<(Instant, f64)>,
}

/// A place in a file.
#[derive(Clone, Copy, Debug)]
struct Place {
    bytes: u64,
    /// Tells a file from another one of the same name.
    created: Option<SystemTime>,
}

impl LogGauge {
    /// Follows a file, which need not be there yet.
    pub fn follow(path: &Path, watts_of: WattsOf) -> Self {
        Self {
            path: path.to_owned(),
            watts_of,
            at: None,
            rest: Vec::new(),
            newest: None,
        }
    }

    /// Reads what is new.
    fn catch_up(&mut self) -> std::io::Result<()> {
        // Opening a pipe would wait for whoever writes to it.
        let metadata = fs::metadata(&self.path)?;
        if !metadata.is_file() {
            return Err(std::io::Error::other("it is no regular file"));
        }
        let (len, created) = (metadata.len(), metadata.created().ok());
        let is_same = |at: &Place| at.bytes <= len && at.created == created;
        let mut file = File::open(&self.path)?;
        let from = match self.at.filter(is_same) {
            Some(at) => at.bytes,
            None => {
                self.rest.clear();
                let mut head = Vec::new();
                file.by_ref().take(HEAD_BYTES).read_to_end(&mut head)?;
                // These rows may be old; they tell the columns alone.
                self.lines(&head);
                self.rest.clear();
                0
            }
        };
        let is_first = self.at.is_none();
        let start = from.max(len.saturating_sub(TAIL_BYTES));
        if start > from {
            self.rest.clear();
        }
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        if let Some(watts) = self.lines(&bytes) {
            // Rows that were there before anybody looked are as old as the file's last change.
            let age = match metadata.modified() {
                Ok(modified) if is_first => modified.elapsed().unwrap_or_default(),
                _ => Duration::ZERO,
            };
            self.newest = Instant::now().checked_sub(age).map(|then| (then, watts));
        }
        self.at = Some(Place {
            bytes: start + bytes.len() as u64,
            created,
        });
        Ok(())
    }

    /// Takes in bytes of the file; returns the last power among them.
    fn lines(&mut self, bytes: &[u8]) -> Option<f64> {
        let mut newest = None;
        self.rest.extend_from_slice(bytes);
        let ends = self.rest.iter().rposition(|&byte| byte == b'\n');
        let complete = self.rest.drain(..ends.map_or(0, |end| end + 1));
        let text = String::from_utf8_lossy(complete.as_slice()).into_owned();
        drop(complete);
        for line in text.lines() {
            newest = (self.watts_of)(line).or(newest);
        }
        if self.rest.len() > LINE_BYTES_MAX {
            self.rest.clear();
        }
        newest
    }
}

impl Gauge for LogGauge {
    fn read(&mut self) -> Result<Reading, MeterError> {
        self.catch_up().map_err(|source| MeterError::Unreadable {
            path: self.path.clone(),
            source,
        })?;
        match self.newest {
            Some((then, watts)) if then.elapsed() <= STALE => Ok(Reading::Watts(watts)),
            Some((then, _)) => Err(MeterError::Stale {
                path: self.path.clone(),
                seconds: then.elapsed().as_secs_f64(),
            }),
            None => Err(MeterError::Unreadable {
                path: self.path.clone(),
                source: std::io::Error::other("no row of it tells a power of now"),
            }),
        }
    }
}

impl std::fmt::Debug for LogGauge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LogGauge({}, {:?})", self.path.display(), self.newest)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn gauge(path: &Path) -> LogGauge {
        let watts = |line: &str| line.split_once(',')?.1.trim().parse().ok();
        LogGauge::follow(path, Box::new(watts))
    }

    fn append(path: &Path, text: &str) {
        let file = File::options().append(true).create(true).open(path);
        let mut file = file.expect("opens");
        file.write_all(text.as_bytes()).expect("writes");
    }

    #[test]
    fn a_growing_file_is_followed() {
        let directory = tempfile::tempdir().expect("a place for files");
        let path = directory.path().join("plug.csv");
        let mut gauge = gauge(&path);
        assert!(gauge.read().is_err(), "it is not there yet");
        append(&path, "time,watts\n");
        let error = gauge.read().expect_err("has no row yet").to_string();
        assert!(error.contains("plug.csv"), "{error}");
        for (more, want) in [
            ("1,40.5\n", 40.5),
            // The end of a row is still to come.
            ("2,41", 40.5),
            ("0\n3,4", 410.0),
            ("2\nnonsense\n", 42.0),
        ] {
            append(&path, more);
            assert_eq!(
                gauge.read().expect("reads"),
                Reading::Watts(want),
                "{more:?}"
            );
        }
        // Written anew by its program.
        fs::write(&path, "1,7\n").expect("writes");
        assert_eq!(gauge.read().expect("reads"), Reading::Watts(7.0));
        fs::remove_file(&path).expect("is there");
        assert!(gauge.read().is_err());
        assert!(
            super::LogGauge::follow(directory.path(), Box::new(|_| None))
                .read()
                .is_err()
        );
    }

    #[test]
    fn old_rows_are_not_repeated() {
        let directory = tempfile::tempdir().expect("a place for files");
        let path = directory.path().join("plug.csv");
        append(&path, "1,40\n");
        let then = SystemTime::now() - Duration::from_secs(60);
        let file = File::options().write(true).open(&path).expect("opens");
        file.set_modified(then).expect("may");
        let mut gauge = gauge(&path);
        let error = gauge.read().expect_err("is old");
        assert!(matches!(error, MeterError::Stale { .. }), "{error}");
        append(&path, "2,50\n");
        assert_eq!(gauge.read().expect("reads"), Reading::Watts(50.0));
        gauge.newest = Some((Instant::now() - Duration::from_secs(11), 50.0));
        assert!(matches!(gauge.read(), Err(MeterError::Stale { .. })));
    }

    #[test]
    fn of_a_large_file_the_end_is_read() {
        let directory = tempfile::tempdir().expect("a place for files");
        let path = directory.path().join("plug.csv");
        let mut text = "time,watts\n".to_owned();
        for i in 0..20_000 {
            text.push_str(&format!("{i},{}\n", i % 100));
        }
        append(&path, &text);
        assert_eq!(gauge(&path).read().expect("reads"), Reading::Watts(99.0));
        let endless = directory.path().join("endless.csv");
        append(&endless, &"x".repeat(300_000));
        let mut gauge = gauge(&endless);
        assert!(gauge.read().is_err() && gauge.rest.is_empty());
    }
}
