//! Receipts: what left this machine, when, to whom, by which rule and for how much. Never what it said.
//!
//! Whoever sends [begins](Ledger::begin) a receipt before the first byte leaves, and [ends](Ledger::end) it with what became
//! of it; a crash in between leaves the beginning, so nothing that left is without a line.

mod book;
mod head;
mod line;
mod read;
mod tally;

pub use line::{Hash, NoHash, Why};
pub use read::{ReceiptsError, Summary, find, read, verify};
pub use tally::{Amount, By, Ended, Receipt, Sum, Tally, this_month};

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use jiff::Timestamp;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use troika_job::Cost;

use self::book::{Book, Wish, locked};
use crate::config::{Api, Redact};

/// The name of the file, in the directory of the program's state.
pub const FILE: &str = "receipts.jsonl";

/// How many values of each kind were taken out of what left.
pub type Redactions = BTreeMap<Redact, u64>;

/// Where receipts are written, for those who send.
pub trait Ledger: fmt::Debug + Send + Sync {
    /// Notes that bytes are about to leave. Each attempt has a receipt of its own. Nothing may leave before this is done:
    /// the line is on the disk then. Does not block; dropped before it is done, the line may be there or not.
    ///
    /// # Errors
    /// If the line cannot be written. Then nothing may leave.
    fn begin(&self, intent: Intent) -> Beginning<'_>;

    /// Notes what became of it, also when the client left or the connection was never made. Does not block, and is on the
    /// disk soon after. An id that has ended already is ignored.
    fn end(&self, id: ReceiptId, end: End);

    /// What was spent, in one currency, by UTC's days.
    fn spent(&self, currency: &str) -> Spent;
}

/// A receipt that is being begun.
pub type Beginning<'a> = Pin<Box<dyn Future<Output = Result<ReceiptId, LedgerError>> + Send + 'a>>;

/// A receipt that has begun: the number of its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ReceiptId(pub u64);

/// What is about to leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    /// The request's number.
    pub request_id: String,
    /// The endpoint's name.
    pub to: String,
    /// The host of its URL, with the port if that is not the scheme's: whom the bytes reach.
    pub host: String,
    /// What it speaks.
    pub api: Api,
    /// The rule that let it go.
    pub rule: String,
    /// The model, as it is called there.
    pub model: String,
    /// Bytes of the request's body.
    pub bytes_out: u64,
    /// What it may cost at most. Until the receipt ends, budgets count this as spent; so they do for ever if it never ends.
    pub cost_at_most: Option<Cost>,
    /// What was taken out before.
    pub redacted: Redactions,
}

/// What became of what left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// How it went.
    pub outcome: Outcome,
    /// The HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// Bytes of the request's body that left: none if there was no connection, all of them if that is not known.
    pub bytes_out: u64,
    /// Bytes of the answer's body that came.
    pub bytes_in: u64,
    /// Tokens of the prompt, if the endpoint said so.
    pub prompt_tokens: Option<u64>,
    /// Tokens of the answer, if the endpoint said so.
    pub completion_tokens: Option<u64>,
    /// What it cost; `None` where that is not known.
    pub cost: Option<Cost>,
}

/// How a request to a remote endpoint went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// A whole answer came.
    Answered,
    /// The endpoint refused it.
    Refused,
    /// The connection was not made or broke, or the answer made no sense.
    Failed,
    /// No answer came in time.
    Late,
    /// The client left, or the answer was not wanted any more.
    Cancelled,
}

/// What was spent in one currency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Spent {
    /// On this day of UTC.
    pub today: Decimal,
    /// In this month of UTC.
    pub this_month: Decimal,
}

/// Why no receipt can be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// The file cannot be written.
    #[error("no receipt can be written, so nothing leaves this machine: {0}")]
    Unwritable(String),
}

/// When a line is on the disk. Whenever a process dies, what it wrote stays; this is about machines that die.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// The beginning of a receipt is on the disk before a byte leaves, which takes as long as the disk takes.
    #[default]
    BeforeLeaving,
    /// It is on the disk a moment later: a machine that loses its power then forgets what just left.
    Soon,
}

/// The file of receipts, open for writing. Closed when it is dropped; what was noted is on the disk then.
#[derive(Debug)]
pub struct Receipts {
    wishes: Option<Sender<Wish>>,
    thread: Option<JoinHandle<()>>,
    tally: Arc<Mutex<Tally>>,
}

impl Receipts {
    /// Opens a file of receipts, or makes it. Reads and checks all of it.
    ///
    /// # Errors
    /// If another process writes it, if a line of it is not what was written, or if it cannot be read or written. Nothing
    /// may leave then.
    pub fn open(path: &Path, durability: Durability) -> Result<Self, ReceiptsError> {
        let book = Book::open(path, durability)?;
        let tally = book.tally();
        let (wishes, asked) = mpsc::channel();
        let builder = thread::Builder::new().name("receipts".to_owned());
        let thread = builder.spawn(move || book.run(&asked));
        let thread = thread.map_err(ReceiptsError::io("start a thread for", path))?;
        Ok(Self {
            wishes: Some(wishes),
            thread: Some(thread),
            tally,
        })
    }

    /// What all lines add up to so far, to look at.
    pub fn tally<T>(&self, look: impl FnOnce(&Tally) -> T) -> T {
        look(&locked(&self.tally))
    }

    fn wish(&self, wish: Wish) {
        if let Some(wishes) = &self.wishes {
            // The thread is gone only if it panicked; whoever waits finds out.
            let _ = wishes.send(wish);
        }
    }
}

impl Ledger for Receipts {
    fn begin(&self, intent: Intent) -> Beginning<'_> {
        Box::pin(async move {
            let gone = || LedgerError::Unwritable("their thread is gone".to_owned());
            let (reply, begun) = oneshot::channel();
            let back = self.wishes.clone().ok_or_else(gone)?;
            let intent = Box::new(intent);
            self.wish(Wish::Begin {
                intent,
                reply,
                back,
            });
            Ok(begun.await.map_err(|_| gone())??.arrived())
        })
    }

    fn end(&self, id: ReceiptId, end: End) {
        self.wish(Wish::End(id, Box::new(end)));
    }

    fn spent(&self, currency: &str) -> Spent {
        locked(&self.tally).spent(currency, Timestamp::now())
    }
}

impl Drop for Receipts {
    fn drop(&mut self) {
        self.wishes = None;
        if let Some(thread) = self.thread.take() {
            // It told the log why, if it panicked.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests;
