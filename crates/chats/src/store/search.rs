//! Lists of conversations, and words in them.

use redb::{ReadableDatabase as _, ReadableTable};

use super::record::{Found, Listed, Owner};
use super::tables::{self, CHATS, FOLDED, Kind, NEWEST, TEXTS};
use super::{Result, Store, StoreError, database};
use crate::fold::Terms;

impl Store {
    /// An owner's conversations, the newest first: at most `limit` of those that have all words of `query` in their title or
    /// messages, from the place on that `before` names. Case and accents do not matter.
    ///
    /// # Errors
    /// If `before` is no place, or the file cannot be read.
    pub fn list(
        &self,
        owner: Owner<'_>,
        query: &str,
        limit: usize,
        before: Option<&str>,
    ) -> Result<Listed> {
        let read = self.database.begin_read().map_err(database)?;
        let newest = read.open_table(NEWEST).map_err(database)?;
        let chats = read.open_table(CHATS).map_err(database)?;
        let folded = read.open_table(FOLDED).map_err(database)?;
        let texts = read.open_table(TEXTS).map_err(database)?;
        let terms = Terms::of(query);
        let owner_key = tables::owner_key(owner);
        let (time, after) = before.map_or(Ok((0, "")), place)?;
        let mut listed = Listed::default();
        for entry in newest.range((owner_key, time, after)..).map_err(database)? {
            let (key, ()) = entry.map(|(key, _)| (key, ())).map_err(database)?;
            let (whose, at, id) = key.value();
            if whose != owner_key {
                break;
            }
            // The list goes on after the place.
            if before.is_some() && (at, id) == (time, after) {
                continue;
            }
            let where_found = match &terms {
                Some(terms) => match find(&folded, terms, id)? {
                    Some(n) => Some((terms, n)),
                    None => continue,
                },
                None => None,
            };
            if listed.chats.len() == limit {
                let last = listed.chats.last();
                listed.next = last.map(|last| name(u64::MAX - last.chat.updated, &last.chat.id));
                break;
            }
            let chat = tables::chat(&chats, owner, id)?;
            let snippet = where_found.map(|(terms, n)| {
                let text = match n {
                    0 => chat.title.clone().unwrap_or_default(),
                    n => tables::text(&texts, id, n, Kind::Content)?,
                };
                Ok::<_, StoreError>(terms.snippet(&text))
            });
            let snippet = snippet.transpose()?;
            listed.chats.push(Found { chat, snippet });
        }
        Ok(listed)
    }
}

/// The message of a conversation that has the most of the words, if the conversation has all of them. The title is message 0.
fn find(
    folded: &impl ReadableTable<(&'static str, u64), &'static str>,
    terms: &Terms,
    id: &str,
) -> Result<Option<u64>> {
    let mut found = 0;
    let mut best = (0, 0);
    for entry in folded.range((id, 0)..=(id, u64::MAX)).map_err(database)? {
        let (key, text) = entry.map_err(database)?;
        let new = terms.found_in(text.value(), found);
        if new.count_ones() > best.0 {
            best = (new.count_ones(), key.value().1);
        }
        found |= new;
        if found == terms.all() {
            return Ok(Some(best.1));
        }
    }
    Ok(None)
}

/// Names a place in the list.
fn name(time: u64, id: &str) -> String {
    format!("{time:x}-{id}")
}

/// The place that a name names.
fn place(name: &str) -> Result<(u64, &str)> {
    let parts = name.split_once('-');
    let place = parts.and_then(|(time, id)| Some((u64::from_str_radix(time, 16).ok()?, id)));
    place.ok_or(StoreError::NoPlace)
}
