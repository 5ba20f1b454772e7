//! The one thread that writes receipts.
//!
//! All that is waiting is written at once, and is on the disk before those who begin a receipt may go on. What ends one is
//! written at once, and is on the disk a moment later, with the head.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::oneshot;

use super::head::Head;
use super::line::{EndLine, Entry, Hash, Line};
use super::read::{ReceiptsError, walk};
use super::tally::Tally;
use super::{Durability, End, Intent, LedgerError, Outcome, ReceiptId};

/// Lines that are written at once at most.
const BATCH: usize = 256;
/// Quiet time after which what was written is made safe, and the head with it.
const QUIET: Duration = Duration::from_millis(100);
/// The same, where it is never quiet.
const SAFE_AFTER: Duration = Duration::from_secs(1);

/// What the thread is asked.
#[derive(Debug)]
pub(super) enum Wish {
    /// Something wants to leave.
    Begin {
        intent: Box<Intent>,
        reply: oneshot::Sender<Result<Begun, LedgerError>>,
        /// The way back here, if nobody waits for the reply any more.
        back: Sender<Self>,
    },
    /// This became of it.
    End(ReceiptId, Box<End>),
}

/// A receipt that has begun, on its way to whoever wants to send. Lost on that way, it ends: nothing left.
#[derive(Debug)]
pub(super) struct Begun {
    id: ReceiptId,
    back: Option<Sender<Wish>>,
}

impl Begun {
    pub(super) fn arrived(mut self) -> ReceiptId {
        self.back = None;
        self.id
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        let nothing = End {
            outcome: Outcome::Cancelled,
            status: None,
            bytes_out: 0,
            bytes_in: 0,
            prompt_tokens: None,
            completion_tokens: None,
            cost: None,
        };
        if let Some(back) = self.back.take() {
            // The thread is gone only with everybody who could wait.
            let _ = back.send(Wish::End(self.id, Box::new(nothing)));
        }
    }
}

/// The file and the state of its chain.
#[derive(Debug)]
pub(super) struct Book {
    path: PathBuf,
    file: File,
    /// Held as long as this process may write.
    _lock: File,
    durability: Durability,
    bytes: u64,
    head: Head,
    /// Since when something is written that may not be on the disk, or that the head's file does not know.
    unsafe_since: Option<Instant>,
    tally: Arc<Mutex<Tally>>,
    /// Ends that could not be written yet.
    owed: Vec<(ReceiptId, Box<End>)>,
    /// Why nothing is written any more.
    broken: Option<String>,
}

/// Lines that are to be written, and the head after them.
struct Draft {
    head: Head,
    text: String,
    lines: Vec<Line>,
    begun: Vec<(oneshot::Sender<Result<Begun, LedgerError>>, Begun)>,
    ends: Vec<(ReceiptId, Box<End>)>,
}

impl Draft {
    fn after(head: Head) -> Self {
        Self {
            head,
            text: String::new(),
            lines: Vec::new(),
            begun: Vec::new(),
            ends: Vec::new(),
        }
    }

    /// Adds a line, and tells its number.
    fn add(&mut self, entry: Entry) -> ReceiptId {
        let n = self.head.lines + 1;
        let at = Timestamp::now();
        let line = Line { n, at, entry };
        let (text, hash) = line.seal(self.head.hash);
        self.text.push_str(&text);
        self.lines.push(line);
        self.head = Head { lines: n, hash };
        ReceiptId(n)
    }
}

impl Book {
    /// Opens the file, or makes it, and checks every line of it. What a process that died left unfinished is put aside.
    pub(super) fn open(path: &Path, durability: Durability) -> Result<Self, ReceiptsError> {
        let lock = lock(path)?;
        let file = OpenOptions::new().append(true).create(true).open(path);
        let file = file.map_err(ReceiptsError::io("open", path))?;
        let head = Head::read(path).map_err(ReceiptsError::io("read the head of", path))?;
        let length = file.metadata().map_err(ReceiptsError::io("read", path))?;
        if length.len() == 0 && head.is_none() {
            let (lines, hash) = (0, Hash::origin());
            let made = Head { lines, hash }.write(path);
            made.map_err(ReceiptsError::io("write the head of", path))?;
        }
        let chain = walk(path, |_| ())?;
        let (lines, hash) = (chain.summary.lines, chain.summary.head);
        let mut book = Self {
            path: path.to_owned(),
            file,
            _lock: lock,
            durability,
            bytes: chain.bytes,
            head: Head { lines, hash },
            unsafe_since: None,
            tally: Arc::new(Mutex::new(chain.tally)),
            owed: Vec::new(),
            broken: None,
        };
        if !chain.tail.is_empty() {
            let mended = book.put_aside(&chain.tail);
            mended.map_err(ReceiptsError::io("mend", path))?;
        }
        book.make_safe().map_err(ReceiptsError::io("write", path))?;
        Ok(book)
    }

    /// What all lines add up to, as they are written.
    pub(super) fn tally(&self) -> Arc<Mutex<Tally>> {
        Arc::clone(&self.tally)
    }

    /// Moves an unfinished line to a file of its own, and says so in the chain.
    fn put_aside(&mut self, tail: &[u8]) -> io::Result<()> {
        let aside = self.path.with_extension("torn");
        let mut aside = OpenOptions::new().append(true).create(true).open(aside)?;
        aside.write_all(tail)?;
        aside.write_all(b"\n")?;
        aside.sync_data()?;
        self.file.set_len(self.bytes)?;
        let bytes = tail.len() as u64;
        tracing::warn!(
            bytes,
            "a receipt was unfinished when a process died; its bytes were put aside"
        );
        let mut draft = Draft::after(self.head);
        draft.add(Entry::Torn { bytes });
        self.append(&draft)
    }

    /// Does what is asked until nobody can ask any more.
    pub(super) fn run(mut self, wishes: &Receiver<Wish>) {
        loop {
            let wish = match self.unsafe_since {
                Some(_) => wishes.recv_timeout(QUIET),
                None => wishes.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match wish {
                Ok(wish) => {
                    let more = wishes.try_iter().take(BATCH - 1);
                    self.serve(std::iter::once(wish).chain(more));
                }
                Err(RecvTimeoutError::Timeout) => self.settle(),
                Err(RecvTimeoutError::Disconnected) => break,
            }
            let due = |since: Instant| since.elapsed() > SAFE_AFTER;
            if self.unsafe_since.is_some_and(due) {
                self.settle();
            }
        }
        self.settle();
    }

    /// Writes what is asked for, all at once.
    fn serve(&mut self, wishes: impl Iterator<Item = Wish>) {
        let mut draft = Draft::after(self.head);
        let owed = mem::take(&mut self.owed);
        let owed = owed.into_iter().map(|(id, end)| Wish::End(id, end));
        for wish in owed.chain(wishes) {
            match wish {
                Wish::Begin {
                    intent,
                    reply,
                    back,
                } => {
                    let id = draft.add(Entry::Intent((*intent).into()));
                    let back = Some(back);
                    draft.begun.push((reply, Begun { id, back }));
                }
                Wish::End(id, end) => {
                    let is_new = draft.ends.iter().all(|(other, _)| *other != id);
                    if is_new && locked(&self.tally).is_open(id.0) {
                        draft.add(Entry::End(EndLine::new(id.0, (*end).clone())));
                        draft.ends.push((id, end));
                    }
                }
            }
        }
        let written = match &self.broken {
            Some(why) => Err(why.clone()),
            None => self.append(&draft).map_err(|error| error.to_string()),
        };
        let written = match (written, self.durability) {
            (Ok(()), Durability::BeforeLeaving) if !draft.begun.is_empty() => self.sync(),
            (written, _) => written,
        };
        match written {
            Ok(()) => {
                for (reply, begun) in draft.begun {
                    // Nobody may wait any more; it ends then.
                    let _ = reply.send(Ok(begun));
                }
            }
            Err(why) => self.refuse(draft, &why),
        }
    }

    /// Tells those who want to send that they may not, and keeps what became of others for later.
    fn refuse(&mut self, draft: Draft, why: &str) {
        tracing::error!(
            why,
            "no receipt can be written, so nothing leaves this machine"
        );
        for (reply, begun) in draft.begun {
            // If its line is there after all, it ends when one can be written again.
            begun.arrived();
            let _ = reply.send(Err(LedgerError::Unwritable(why.to_owned())));
        }
        if self.broken.is_none() {
            self.owed = draft.ends;
            self.unsafe_since.get_or_insert_with(Instant::now);
        }
    }

    /// Writes lines after all others; nothing of them is there if that fails.
    fn append(&mut self, draft: &Draft) -> io::Result<()> {
        if draft.text.is_empty() {
            return Ok(());
        }
        if self.file.metadata()?.len() != self.bytes {
            let why = "somebody else wrote to the receipts; `troika receipts verify` says where";
            self.broken = Some(why.to_owned());
            return Err(io::Error::other(why));
        }
        if let Err(error) = self.file.write_all(draft.text.as_bytes()) {
            if let Err(worse) = self.file.set_len(self.bytes) {
                self.broken = Some(format!(
                    "{error}, and what was written of it stays: {worse}"
                ));
            }
            return Err(error);
        }
        self.bytes += draft.text.len() as u64;
        self.head = draft.head;
        self.unsafe_since.get_or_insert_with(Instant::now);
        let mut tally = locked(&self.tally);
        for line in &draft.lines {
            tally
                .add(line.clone())
                .expect("only what is open was ended. This is a bug.");
        }
        Ok(())
    }

    /// Has the disk keep all lines. What a disk failed to keep once may be gone, whatever it says the next time.
    fn sync(&mut self) -> Result<(), String> {
        self.file.sync_data().map_err(|error| {
            let why = format!("the disk did not keep a receipt: {error}");
            self.broken = Some(why.clone());
            why
        })
    }

    /// Writes what is owed, and has the disk keep everything.
    fn settle(&mut self) {
        if !self.owed.is_empty() {
            self.serve(std::iter::empty());
        }
        if self.broken.is_some() {
            self.unsafe_since = None;
        } else if let Err(error) = self.make_safe() {
            tracing::error!(%error, "receipts cannot be made safe");
            self.unsafe_since = Some(Instant::now());
        }
    }

    /// The lines first, and then the head: it never promises what is not on the disk.
    fn make_safe(&mut self) -> io::Result<()> {
        self.sync().map_err(io::Error::other)?;
        self.head.write(&self.path)?;
        self.unsafe_since = (!self.owed.is_empty()).then(Instant::now);
        Ok(())
    }
}

/// Locks the receipts for this process.
fn lock(path: &Path) -> Result<File, ReceiptsError> {
    let path = path.with_extension("lock");
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(false).open(&path);
    let file = file.map_err(ReceiptsError::io("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(ReceiptsError::Busy),
        Err(TryLockError::Error(error)) => Err(ReceiptsError::io("lock", &path)(error)),
    }
}

/// Nothing is left half counted by a thread that panics.
pub(super) fn locked(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}
