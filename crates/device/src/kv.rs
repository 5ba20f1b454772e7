//! Which parts of a paged KV cache can be read and written from outside.

use std::ops::Range;

use crate::{Error, KvShape, PAGE_TOKENS};

/// Makes sure that `tokens` of a sequence with these pages are in a cache of `n_page` pages of this shape, and that
/// `n_value` numbers are as many as they have: for [`Resident::read_kv`](crate::Resident::read_kv) and
/// [`Resident::write_kv`](crate::Resident::write_kv).
///
/// # Errors
/// [`Error::Cache`] with what is wrong.
pub fn check_kv(
    shape: KvShape,
    n_page: usize,
    pages: &[usize],
    tokens: &Range<usize>,
    n_value: usize,
) -> Result<(), Error> {
    let refuse = |reason: String| Err(Error::Cache { reason });
    let (have, need) = (pages.len(), tokens.end.div_ceil(PAGE_TOKENS));
    if tokens.start > tokens.end || have < need {
        return refuse(format!("tokens {tokens:?} of a sequence of {have} pages"));
    }
    if let Some(page) = pages.iter().find(|&&page| page >= n_page) {
        return refuse(format!("page {page} of a cache of {n_page}"));
    }
    // No more tokens than the cache has, so that this is no overflow.
    let want = tokens.len() * shape.token_values();
    match n_value == want {
        true => Ok(()),
        false => refuse(format!("{n_value} values for {want} of tokens {tokens:?}")),
    }
}
