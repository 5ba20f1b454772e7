//! Four connections that fetch what is missing of a file, each a row of pieces at a time.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::try_join_all;
use http::{StatusCode, Uri};
use tokio::task::JoinHandle;

use crate::Error;
use crate::check::Check;
use crate::client::{Client, Given};
use crate::sites::host;
use crate::store::Store;

/// Enough to fill a line whose hosts give each connection a share; more would be rude.
const CONNECTIONS: usize = 4;

/// Pieces of a row at most: with 64 MiB, what asking costs is nothing beside the bytes.
const ROW: usize = 16;

/// Bytes that are written at once; a multiple of what a check takes. Each connection has two buffers.
const BUFFER_BYTES: usize = 512 << 10;

/// Where a file is.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) uri: Uri,
    /// Its length.
    pub(crate) bytes: u64,
    /// The tag that its host gave it, where no digest says what it is.
    pub(crate) tag: Option<String>,
    /// Whether the host gives a part of it.
    pub(crate) has_ranges: bool,
}

/// A file on its way.
pub(crate) struct Download<'a> {
    pub(crate) client: &'a Client,
    pub(crate) source: &'a Source,
    pub(crate) store: Arc<Store>,
    /// Bytes of pieces that are not whole yet.
    pub(crate) partial: Arc<AtomicU64>,
    /// Where the address led the last time, so that not every row is redirected anew.
    near: Mutex<Option<Uri>>,
}

impl<'a> Download<'a> {
    pub(crate) fn new(client: &'a Client, source: &'a Source, store: Arc<Store>) -> Self {
        Self {
            client,
            source,
            store,
            partial: Arc::default(),
            near: Mutex::default(),
        }
    }

    /// Bytes that are here.
    pub(crate) fn done_bytes(&self) -> u64 {
        self.store.done_bytes() + self.partial.load(Ordering::Relaxed)
    }

    /// Fetches all that is missing. What is whole stays, whatever happens.
    ///
    /// # Errors
    /// If a connection gives up; the others stop then.
    pub(crate) async fn run(&self) -> Result<(), Error> {
        let connections = if self.source.has_ranges {
            CONNECTIONS
        } else {
            1
        };
        let workers = (0..connections).map(|_| async {
            while let Some(row) = self.store.take(self.row()) {
                self.bring(row).await?;
            }
            Ok(())
        });
        try_join_all(workers).await.map(drop)
    }

    /// How many pieces to take: fewer at the end, so that the connections end together.
    fn row(&self) -> usize {
        match self.source.has_ranges {
            true => (self.store.missing() / (2 * CONNECTIONS)).clamp(1, ROW),
            false => usize::MAX,
        }
    }

    /// Fetches a row of pieces, in as many tries as bring something.
    async fn bring(&self, row: Range<usize>) -> Result<(), Error> {
        let _rest = GiveBack {
            store: &self.store,
            row: row.clone(),
        };
        let patience = &self.client.patience;
        let mut tries = 0;
        while let Some(next) = row.clone().find(|&piece| !self.store.is_done(piece)) {
            let Err(error) = self.once(next..row.end).await else {
                continue;
            };
            if !error.is_transient() {
                return Err(error);
            }
            let brought = self.store.is_done(next);
            tries = if brought { 1 } else { tries + 1 };
            if tries >= patience.tries {
                return Err(error);
            }
            tracing::debug!(error = error.whole(), tries, "asked again");
            tokio::time::sleep(patience.pause_after(tries)).await;
        }
        Ok(())
    }

    async fn once(&self, row: Range<usize>) -> Result<(), Error> {
        let range = self.store.range_of(row.start).start..self.store.range_of(row.end - 1).end;
        let mut given = self.ask(&range).await?;
        let at = self.begins(&given, &range)?;
        let mut filler = Filler::new(self, row.start, at);
        while filler.at < range.end {
            let Some(bytes) = self.client.next(&mut given).await? else {
                return Err(Error::Cut {
                    host: host(&given.from),
                    why: "its answer is shorter than it said".to_owned(),
                });
            };
            let left = usize::try_from(range.end - filler.at).unwrap_or(usize::MAX);
            filler.take(&bytes[..bytes.len().min(left)]).await?;
        }
        filler.settle().await
    }

    /// Asks where the last answer came from, and where the file is if that is no good any more.
    async fn ask(&self, range: &Range<u64>) -> Result<Given, Error> {
        const ACCEPT: &str = "application/octet-stream, */*";
        let wanted = self
            .source
            .has_ranges
            .then_some((range.start, range.end - 1));
        let near = self.near().clone();
        if let Some(near) = near {
            match self.client.get(&near, wanted, ACCEPT).await {
                // Addresses that were made for one pull end.
                Err(Error::Denied { .. } | Error::NotThere { .. } | Error::Status { .. }) => {
                    *self.near() = None;
                }
                other => return other,
            }
        }
        let given = self.client.get(&self.source.uri, wanted, ACCEPT).await;
        let given = given.map_err(|error| match error {
            // There is no such range: the file is shorter by now.
            Error::Status { host, status: 416 } => Error::Changed { host },
            other => other,
        })?;
        if given.from != self.source.uri {
            *self.near() = Some(given.from.clone());
        }
        Ok(given)
    }

    /// Where in the file an answer begins, if it is the file that is wanted.
    fn begins(&self, given: &Given, range: &Range<u64>) -> Result<u64, Error> {
        given.refuse_web_page()?;
        let host = || host(&given.from);
        let tag = tag_of(given);
        if self.source.tag.is_some() && tag != self.source.tag {
            return Err(Error::Changed { host: host() });
        }
        let (start, total) = match given.response.status() {
            StatusCode::PARTIAL_CONTENT => {
                let told = given.header("content-range").and_then(content_range);
                told.ok_or_else(|| Error::Nonsense {
                    host: host(),
                    why: "a part of the file without its place".to_owned(),
                })?
            }
            _ => (
                0,
                length_of(given).ok_or_else(|| Error::NoLength { host: host() })?,
            ),
        };
        if total != self.source.bytes {
            return Err(Error::WrongLength {
                host: host(),
                want: self.source.bytes,
                have: total,
            });
        }
        // From the start is what a host does that has no ranges; anything else was not asked for.
        match start == range.start || start == 0 {
            true => Ok(start),
            false => Err(Error::Nonsense {
                host: host(),
                why: format!("byte {start} in place of byte {}", range.start),
            }),
        }
    }

    fn near(&self) -> std::sync::MutexGuard<'_, Option<Uri>> {
        self.near.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The length of a whole answer.
pub(crate) fn length_of(given: &Given) -> Option<u64> {
    given.header("content-length")?.parse().ok()
}

/// What a host calls this state of a file. A weak tag is of what a person would call the same, not of the same bytes.
pub(crate) fn tag_of(given: &Given) -> Option<String> {
    let tag = given.header("etag").filter(|tag| !tag.starts_with("W/"));
    tag.or_else(|| given.header("last-modified"))
        .map(str::to_owned)
}

/// Where a part begins, and how long the whole is: `bytes 0-99/1000`.
pub(crate) fn content_range(text: &str) -> Option<(u64, u64)> {
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (start, _) = range.split_once('-')?;
    Some((start.trim().parse().ok()?, total.trim().parse().ok()?))
}

/// Pieces that were taken go back if they were not brought.
struct GiveBack<'a> {
    store: &'a Store,
    row: Range<usize>,
}

impl Drop for GiveBack<'_> {
    fn drop(&mut self) {
        self.store.give_back(self.row.clone());
    }
}

/// A buffer and the check so far, after they were written.
type Written = Result<(Vec<u8>, Check), Error>;

/// Puts what comes into its places: one buffer is filled while the other is written.
struct Filler {
    store: Arc<Store>,
    partial: Arc<AtomicU64>,
    /// The piece that is next.
    piece: usize,
    /// Where in the file the next byte belongs.
    at: u64,
    buffer: Vec<u8>,
    /// Bytes of this piece that `partial` counts.
    counted: u64,
    check: Option<Check>,
    writing: Option<JoinHandle<Written>>,
}

impl Filler {
    fn new(download: &Download<'_>, piece: usize, at: u64) -> Self {
        Self {
            store: Arc::clone(&download.store),
            partial: Arc::clone(&download.partial),
            piece,
            at,
            buffer: Vec::new(),
            counted: 0,
            check: Some(Check::new()),
            writing: None,
        }
    }

    async fn take(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            let range = self.store.range_of(self.piece);
            if self.at < range.start {
                // From a host without ranges, what is here already comes again.
                let skipped = bytes.len().min(to_usize(range.start - self.at));
                self.at += skipped as u64;
                bytes = &bytes[skipped..];
                continue;
            }
            let room = to_usize(range.end - self.at).min(BUFFER_BYTES - self.buffer.len());
            let (now, later) = bytes.split_at(bytes.len().min(room));
            self.buffer.extend_from_slice(now);
            self.at += now.len() as u64;
            self.count(now.len() as u64);
            bytes = later;
            if self.at == range.end || self.buffer.len() == BUFFER_BYTES {
                self.flush(self.at == range.end).await?;
            }
        }
        Ok(())
    }

    /// Has the buffer written, after the one before it.
    async fn flush(&mut self, ends_piece: bool) -> Result<(), Error> {
        let spare = self.written().await?;
        let buffer = std::mem::replace(&mut self.buffer, spare);
        let mut check = self.check.take().unwrap_or_else(Check::new);
        let (store, piece) = (Arc::clone(&self.store), self.piece);
        let offset = self.at - buffer.len() as u64;
        let partial = Arc::clone(&self.partial);
        let counted = self.counted;
        self.writing = Some(tokio::task::spawn_blocking(move || {
            store.write(offset, &buffer)?;
            check.update(&buffer);
            if ends_piece {
                store.done(piece, check.finish())?;
                partial.fetch_sub(counted, Ordering::Relaxed);
                check = Check::new();
            }
            Ok((buffer, check))
        }));
        if ends_piece {
            self.counted = 0;
            self.piece += 1;
            // The end of a piece is waited for: the next try begins after it.
            self.buffer = self.written().await?;
        }
        Ok(())
    }

    /// Waits for what is being written, and gives its buffer, empty.
    async fn written(&mut self) -> Result<Vec<u8>, Error> {
        let Some(writing) = self.writing.take() else {
            return Ok(Vec::with_capacity(BUFFER_BYTES));
        };
        let joined = writing.await;
        let (mut buffer, check) = joined.map_err(|error| Error::Io {
            action: "write what was pulled",
            source: std::io::Error::other(error),
        })??;
        buffer.clear();
        self.check = Some(check);
        Ok(buffer)
    }

    async fn settle(mut self) -> Result<(), Error> {
        self.written().await.map(drop)
    }

    fn count(&mut self, bytes: u64) {
        self.counted += bytes;
        self.partial.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        self.partial.fetch_sub(self.counted, Ordering::Relaxed);
    }
}

fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parts_place_is_read() {
        for (text, want) in [
            ("bytes 0-99/1000", Some((0, 1000))),
            ("bytes 100-199/1000", Some((100, 1000))),
            ("bytes 0-99/*", None),
            ("bytes */1000", None),
            ("items 0-99/1000", None),
            ("", None),
        ] {
            assert_eq!(content_range(text), want, "{text}");
        }
    }
}
