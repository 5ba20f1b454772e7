//! What of a file is here: a hidden directory with its bytes at their places, and a journal of the pieces that are whole.
//!
//! A record of the journal has the number of a piece and a check of its bytes. It is written after them and without
//! waiting for the disk: what the system has taken survives the end of the program, and whatever a loss of power makes of
//! the two, the check tells when the piece is read again. So a record needs no order on the disk, and nothing waits for it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{Error, space};

/// Where the directories are, in the library's. The library lists no directory, and nobody lists what begins with a dot.
pub(crate) const FOLDER: &str = ".pulls";

/// Bytes of a piece. Four connections write four at a time, so that a crash costs 16 MiB at most.
pub(crate) const PIECE_BYTES: u64 = 4 << 20;

/// A longer file is no model, and would have more pieces than fit a journal.
const BYTES_MAX: u64 = 4 << 40;

/// What nobody went on with for so long is forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(30 * 24 * 3600);

const RECORD_BYTES: usize = 16;
/// Makes a record of zeros none.
const GUARD: u32 = 0x7472_6f69;

/// What a file is known by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// A digest, or an address with the tag that its host gave the file. Two files with the same are the same.
    pub(crate) what: String,
    /// Its length.
    pub(crate) bytes: u64,
}

impl Identity {
    /// The name of the directory: nothing from outside is in it but as a hash.
    fn folder(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(self.what.as_bytes());
        hash.update(self.bytes.to_le_bytes());
        let hash = hash.finalize();
        hash[..16]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

/// What of a file is here. Whoever has one is the only one that has it.
#[derive(Debug)]
pub(crate) struct Store {
    directory: PathBuf,
    data: File,
    pub(crate) bytes: u64,
    piece_bytes: u64,
    books: Mutex<Books>,
    /// Something in the books changed.
    changed: Condvar,
    /// Closed, and so unlocked, with the store.
    _lock: File,
}

#[derive(Debug)]
struct Books {
    journal: File,
    pieces: Vec<Piece>,
    done_bytes: u64,
    /// Nobody waits for more.
    is_over: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece {
    Missing,
    Taken,
    Done(u64),
}

/// The same, on disk.
#[derive(Serialize, Deserialize, PartialEq)]
struct Facts {
    identity: Identity,
    piece_bytes: u64,
}

impl Store {
    /// Opens what is here of a file, or begins with nothing. Room is taken for all of it.
    ///
    /// # Errors
    /// [`Error::Busy`], [`Error::DiskFull`], or the system's.
    pub(crate) fn open(
        models: &Path,
        identity: &Identity,
        piece_bytes: u64,
    ) -> Result<Self, Error> {
        const ACTION: &str = "make a file in the directory of the models";
        if identity.bytes > BYTES_MAX {
            return Err(Error::DiskFull {
                needs: identity.bytes,
                free: space::free(models).unwrap_or(0),
            });
        }
        let directory = models.join(FOLDER).join(identity.folder());
        fs::create_dir_all(&directory).map_err(|error| space::writing(error, 1, models))?;
        let lock = open_file(&directory.join("lock")).map_err(Error::io(ACTION))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(Error::Busy),
            Err(fs::TryLockError::Error(error)) => return Err(Error::io("lock a pull")(error)),
        }
        let facts = Facts {
            identity: identity.clone(),
            piece_bytes,
        };
        let (data_path, journal_path) = (directory.join("data"), directory.join("done"));
        let is_known = read_facts(&directory) == Some(facts_text(&facts));
        let has_all = || fs::metadata(&data_path).is_ok_and(|it| it.len() == identity.bytes);
        if !is_known || !has_all() {
            // The journal first: one without its data would tell of what is not there.
            remove(&journal_path).map_err(Error::io(ACTION))?;
            remove(&data_path).map_err(Error::io(ACTION))?;
            begin(&directory, &facts, &data_path).inspect_err(|_| empty(&directory))?;
        }
        let data = open_file(&data_path).map_err(Error::io(ACTION))?;
        let count = usize::try_from(identity.bytes.div_ceil(piece_bytes)).unwrap_or(usize::MAX);
        let mut pieces = vec![Piece::Missing; count];
        let journal = open_journal(&journal_path, &mut pieces).map_err(Error::io(ACTION))?;
        let store = Self {
            directory,
            data,
            bytes: identity.bytes,
            piece_bytes,
            books: Mutex::new(Books {
                journal,
                done_bytes: 0,
                pieces,
                is_over: false,
            }),
            changed: Condvar::new(),
            _lock: lock,
        };
        let done = store.sum_of_done();
        store.books().done_bytes = done;
        Ok(store)
    }

    /// How much of a file is here, if nobody fetches it now.
    pub(crate) fn have(models: &Path, identity: &Identity, piece_bytes: u64) -> u64 {
        let directory = models.join(FOLDER).join(identity.folder());
        let mut pieces =
            vec![Piece::Missing; identity.bytes.min(BYTES_MAX).div_ceil(piece_bytes) as usize];
        let Ok(mut journal) = File::open(directory.join("done")) else {
            return 0;
        };
        if read_records(&mut journal, &mut pieces).is_err() {
            return 0;
        }
        let length = |index: usize| {
            let start = index as u64 * piece_bytes;
            piece_bytes.min(identity.bytes - start)
        };
        let done = pieces.iter().enumerate();
        let done = done.filter(|(_, piece)| matches!(piece, Piece::Done(_)));
        done.map(|(index, _)| length(index)).sum()
    }

    /// The file with the bytes.
    pub(crate) fn data_path(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// Where a piece is in the file.
    pub(crate) fn range_of(&self, piece: usize) -> Range<u64> {
        let start = piece as u64 * self.piece_bytes;
        start..(start + self.piece_bytes).min(self.bytes)
    }

    /// The number of pieces.
    pub(crate) fn count(&self) -> usize {
        self.books().pieces.len()
    }

    /// Bytes of pieces that are whole.
    pub(crate) fn done_bytes(&self) -> u64 {
        self.books().done_bytes
    }

    /// The first pieces that nobody fetches yet, in a row, at most so many; they are the caller's now.
    pub(crate) fn take(&self, most: usize) -> Option<Range<usize>> {
        let mut books = self.books();
        let missing = |piece: &Piece| *piece == Piece::Missing;
        let start = books.pieces.iter().position(missing)?;
        let row = books.pieces[start..].iter().take(most.max(1));
        let end = start + row.take_while(|piece| missing(piece)).count();
        books.pieces[start..end].fill(Piece::Taken);
        Some(start..end)
    }

    /// How many pieces nobody fetches yet.
    pub(crate) fn missing(&self) -> usize {
        let books = self.books();
        let missing = books.pieces.iter().filter(|it| **it == Piece::Missing);
        missing.count()
    }

    /// Pieces that were taken and not brought may be taken by others.
    pub(crate) fn give_back(&self, pieces: Range<usize>) {
        let mut books = self.books();
        for piece in &mut books.pieces[pieces] {
            if *piece == Piece::Taken {
                *piece = Piece::Missing;
            }
        }
    }

    /// Whether a piece is whole.
    pub(crate) fn is_done(&self, piece: usize) -> bool {
        matches!(self.books().pieces[piece], Piece::Done(_))
    }

    /// Writes bytes at their place.
    pub(crate) fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        debug_assert!(offset + bytes.len() as u64 <= self.bytes, "beyond the file");
        let written = space::write_at(&self.data, offset, bytes);
        written.map_err(|error| self.writing(error))
    }

    /// A piece is whole: that is noted down.
    pub(crate) fn done(&self, piece: usize, check: u64) -> Result<(), Error> {
        let mut record = [0; RECORD_BYTES];
        let number = u32::try_from(piece).expect("few enough pieces. This is a bug.");
        record[..4].copy_from_slice(&number.to_le_bytes());
        record[4..8].copy_from_slice(&guard(number, check).to_le_bytes());
        record[8..].copy_from_slice(&check.to_le_bytes());
        let range = self.range_of(piece);
        let mut books = self.books();
        // One write: whole or, at the journal's end, cut off, which is no record.
        let written = books.journal.write_all(&record);
        written.map_err(|error| self.writing(error))?;
        books.pieces[piece] = Piece::Done(check);
        books.done_bytes += range.end - range.start;
        drop(books);
        self.changed.notify_all();
        Ok(())
    }

    /// A piece turned out to be damaged, and is missing again.
    pub(crate) fn is_damaged(&self, piece: usize) {
        let range = self.range_of(piece);
        let mut books = self.books();
        if matches!(books.pieces[piece], Piece::Done(_)) {
            books.pieces[piece] = Piece::Missing;
            books.done_bytes -= range.end - range.start;
        }
    }

    /// Waits until a piece is whole, and gives its check; `None` if the wait is called off.
    pub(crate) fn wait_for(&self, piece: usize) -> Option<u64> {
        let mut books = self.books();
        loop {
            match books.pieces[piece] {
                _ if books.is_over => return None,
                Piece::Done(check) => return Some(check),
                _ => {
                    let woken = self.changed.wait(books);
                    books = woken.unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    /// Calls off all waits.
    pub(crate) fn call_off(&self) {
        self.books().is_over = true;
        self.changed.notify_all();
    }

    /// Reads bytes at their place.
    pub(crate) fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        let read = space::read_at(&self.data, offset, out);
        read.map_err(Error::io("read what was pulled"))
    }

    /// Has the disk take what was written so far.
    pub(crate) fn sync(&self) -> Result<(), Error> {
        self.data.sync_data().map_err(|error| self.writing(error))
    }

    /// Everything is forgotten: the file has another name by now, or was not the one that was wanted.
    pub(crate) fn clear(&self) {
        empty(&self.directory);
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sum_of_done(&self) -> u64 {
        let books = self.books();
        let pieces = books.pieces.iter().enumerate();
        let done = pieces.filter(|(_, piece)| matches!(piece, Piece::Done(_)));
        let ranges = done.map(|(index, _)| self.range_of(index));
        ranges.map(|range| range.end - range.start).sum()
    }

    fn writing(&self, error: io::Error) -> Error {
        space::writing(error, self.piece_bytes, &self.directory)
    }
}

/// Removes a directory of ours. What cannot be removed is swept one day.
fn empty(directory: &Path) {
    for name in ["done", "what.json", "data", "lock"] {
        let _ = fs::remove_file(directory.join(name));
    }
    let _ = fs::remove_dir(directory);
}

/// Removes what nobody went on with for a month. What cannot be removed is in nobody's way but the disk's.
pub(crate) fn sweep(models: &Path) {
    let Ok(folders) = fs::read_dir(models.join(FOLDER)) else {
        return;
    };
    for folder in folders.flatten() {
        let path = folder.path();
        let latest = ["done", "data", "lock"].map(|name| {
            let about = fs::symlink_metadata(path.join(name));
            about.and_then(|it| it.modified()).ok()
        });
        let latest = latest.into_iter().flatten().max();
        let is_old = |time: SystemTime| time.elapsed().is_ok_and(|age| age > FORGOTTEN_AFTER);
        let is_free = || File::open(path.join("lock")).is_ok_and(|lock| lock.try_lock().is_ok());
        if latest.is_some_and(is_old) && is_free() {
            let _ = fs::remove_dir_all(&path);
        }
    }
}

/// Writes down what the directory is for, and makes the file of the bytes.
fn begin(directory: &Path, facts: &Facts, data_path: &Path) -> Result<(), Error> {
    let bytes = facts.identity.bytes;
    if let Some(free) = space::free(directory)
        && free < bytes.saturating_add(space::SPARE_BYTES)
    {
        return Err(Error::DiskFull { needs: bytes, free });
    }
    let failed = |error| space::writing(error, bytes, directory);
    fs::write(directory.join("what.json"), facts_text(facts)).map_err(failed)?;
    let data = open_file(data_path).map_err(failed)?;
    let reserved = space::reserve(&data, bytes);
    reserved.map_err(|error| {
        // A file of that length without its room would pass for one that has it.
        let _ = fs::remove_file(data_path);
        failed(error)
    })
}

fn open_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options.open(path)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn facts_text(facts: &Facts) -> String {
    serde_json::to_string(facts).expect("facts are JSON. This is a bug.")
}

fn read_facts(directory: &Path) -> Option<String> {
    let mut text = String::new();
    let file = File::open(directory.join("what.json")).ok()?;
    file.take(1 << 20).read_to_string(&mut text).ok()?;
    Some(text)
}

/// Opens the journal to write on, and reads what it tells. What follows its last whole record is cut off.
fn open_journal(path: &Path, pieces: &mut [Piece]) -> io::Result<File> {
    let options = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .clone();
    let mut journal = options.open(path)?;
    let whole = read_records(&mut journal, pieces)?;
    journal.set_len(whole)?;
    Ok(journal)
}

/// Reads records up to the first that is none, and gives how many bytes they take. Of two of a piece, the later counts.
fn read_records(journal: &mut File, pieces: &mut [Piece]) -> io::Result<u64> {
    let most = pieces.len().saturating_mul(RECORD_BYTES * 4) as u64;
    let mut records = Vec::new();
    journal.take(most).read_to_end(&mut records)?;
    let mut whole = 0;
    for record in records.as_chunks::<RECORD_BYTES>().0 {
        let word = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|i| record[at + i]));
        let (number, guarded) = (word(0), word(4));
        let check = u64::from(word(8)) | u64::from(word(12)) << 32;
        let Some(piece) = pieces.get_mut(number as usize) else {
            break;
        };
        if guarded != guard(number, check) {
            break;
        }
        *piece = Piece::Done(check);
        whole += RECORD_BYTES as u64;
    }
    Ok(whole)
}

fn guard(number: u32, check: u64) -> u32 {
    GUARD ^ number.rotate_left(16) ^ check as u32 ^ (check >> 32) as u32
}

#[cfg(test)]
mod tests;
