//! Reads a file again while it comes, behind what is whole of it: its digest is summed in order, and each piece held
//! against its check.
//!
//! Pieces come in any order and a digest has one, so it cannot be summed as bytes arrive. It could be summed at the end;
//! behind the connections it is done when they are, from memory that the system has not given back yet.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc::UnboundedSender;

use crate::Error;
use crate::check::Check;
use crate::store::Store;

/// Fits the cache beside what is computed from it; a multiple of what a check takes at once.
const BUFFER_BYTES: usize = 256 << 10;

/// So often may a piece come back other than it was written.
const DAMAGES_MAX: u32 = 3;

/// What the reader has found.
#[derive(Debug)]
pub(crate) enum Found {
    /// A piece is not what was written; it is missing again.
    Damaged,
    /// All pieces are right, and this is the file's digest.
    Whole([u8; 32]),
    /// It cannot go on.
    Failed(Error),
}

/// Follows until the end, or until the store calls off. Blocks.
pub(crate) fn follow(store: &Arc<Store>, told: &UnboundedSender<Found>) {
    let mut sum = Sha256::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut damages = 0;
    let mut piece = 0;
    while piece < store.count() {
        let Some(want) = store.wait_for(piece) else {
            return;
        };
        let mut next = sum.clone();
        match read(store, piece, &mut next, &mut buffer) {
            Ok(check) if check == want => {
                (sum, damages) = (next, 0);
                piece += 1;
                continue;
            }
            Ok(_) => tracing::warn!(piece, "a piece on disk is not what was written"),
            Err(error) => tracing::warn!(piece, error = error.whole(), "a piece cannot be read"),
        }
        damages += 1;
        if damages > DAMAGES_MAX {
            // Whoever listened may have gone.
            let _ = told.send(Found::Failed(Error::BadDisk));
            return;
        }
        store.is_damaged(piece);
        let _ = told.send(Found::Damaged);
    }
    let _ = told.send(Found::Whole(sum.finalize().into()));
}

/// Reads a piece into the sum, and gives the check of its bytes.
fn read(store: &Store, piece: usize, sum: &mut Sha256, buffer: &mut [u8]) -> Result<u64, Error> {
    let range = store.range_of(piece);
    let mut check = Check::new();
    let mut at = range.start;
    while at < range.end {
        let length = usize::try_from(range.end - at).unwrap_or(usize::MAX);
        let bytes = &mut buffer[..length.min(BUFFER_BYTES)];
        store.read(at, bytes)?;
        check.update(bytes);
        sum.update(&*bytes);
        at += bytes.len() as u64;
    }
    Ok(check.finish())
}
