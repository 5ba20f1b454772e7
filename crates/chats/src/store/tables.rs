//! The tables of the file, and what is done to them in one transaction.

use redb::{ReadableTable, Table, TableDefinition, WriteTransaction};

use super::record::{Chat, Ending, Message, Owner, Params};
use super::{PART_BYTES, Result, StoreError, database};
use crate::fold::fold;

/// What is true of the whole file: its format and its bytes of text.
pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// Conversations by number, as JSON.
pub(super) const CHATS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("chats");
/// An owner's conversations, the newest first: owner, 2^64 - 1 less the time, number.
pub(super) const NEWEST: TableDefinition<'_, (&str, u64, &str), ()> =
    TableDefinition::new("newest");
/// Messages by conversation and number, as JSON without their texts.
pub(super) const MESSAGES: TableDefinition<'_, (&str, u64), &[u8]> =
    TableDefinition::new("messages");
/// Texts by conversation, message, kind and part.
pub(super) const TEXTS: TableDefinition<'_, (&str, u64, u8, u32), &str> =
    TableDefinition::new("texts");
/// Texts to look for words in, folded, by conversation and message; the title is message 0.
pub(super) const FOLDED: TableDefinition<'_, (&str, u64), &str> = TableDefinition::new("folded");
/// Answers that are being written.
pub(super) const WRITING: TableDefinition<'_, (&str, u64), ()> = TableDefinition::new("writing");

const BYTES: &str = "bytes";

/// Which text of a message.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Content = 0,
    Reasoning = 1,
}

/// An owner as it stands in keys. A key's name is never empty.
pub(super) fn owner_key(owner: Owner<'_>) -> &str {
    owner.unwrap_or_default()
}

fn place(chat: &Chat, updated: u64) -> (&str, u64, &str) {
    (
        owner_key(chat.owner.as_deref()),
        u64::MAX - updated,
        &chat.id,
    )
}

/// A conversation, if there is one of this number and it is this owner's.
pub(super) fn chat(
    chats: &impl ReadableTable<&'static str, &'static [u8]>,
    owner: Owner<'_>,
    id: &str,
) -> Result<Chat> {
    let record = chats.get(id).map_err(database)?;
    let record = record.ok_or(StoreError::NoChat)?;
    let mut chat: Chat = serde_json::from_slice(record.value())?;
    if chat.owner.as_deref() != owner {
        return Err(StoreError::NoChat);
    }
    id.clone_into(&mut chat.id);
    Ok(chat)
}

/// The numbers of an owner's conversations, the newest first.
pub(super) fn all(
    newest: &impl ReadableTable<(&'static str, u64, &'static str), ()>,
    owner: Owner<'_>,
) -> Result<Vec<String>> {
    let owner = owner_key(owner);
    let mut all = Vec::new();
    for entry in newest.range((owner, 0, "")..).map_err(database)? {
        let (key, _) = entry.map_err(database)?;
        let (whose, _, id) = key.value();
        if whose != owner {
            break;
        }
        all.push(id.to_owned());
    }
    Ok(all)
}

/// A message with its texts.
pub(super) fn message(
    texts: &impl ReadableTable<(&'static str, u64, u8, u32), &'static str>,
    id: &str,
    n: u64,
    record: &[u8],
) -> Result<Message> {
    let mut message: Message = serde_json::from_slice(record)?;
    message.n = n;
    message.content = text(texts, id, n, Kind::Content)?;
    message.reasoning = text(texts, id, n, Kind::Reasoning)?;
    Ok(message)
}

/// A text of a message, all its parts.
pub(super) fn text(
    texts: &impl ReadableTable<(&'static str, u64, u8, u32), &'static str>,
    id: &str,
    n: u64,
    kind: Kind,
) -> Result<String> {
    let kind = kind as u8;
    let mut whole = String::new();
    let parts = texts.range((id, n, kind, 0)..=(id, n, kind, u32::MAX));
    for part in parts.map_err(database)? {
        let (_, part) = part.map_err(database)?;
        whole.push_str(part.value());
    }
    Ok(whole)
}

impl Chat {
    /// What its record counts for.
    pub(super) fn bytes(&self) -> u64 {
        let texts = [&self.title, &self.model, &self.params.system];
        let texts = texts.into_iter().flatten().map(String::len);
        texts.sum::<usize>() as u64 + size_of::<Params>() as u64
    }
}

/// The tables in a transaction that writes.
pub(super) struct Writer<'t> {
    meta: Table<'t, &'static str, u64>,
    chats: Table<'t, &'static str, &'static [u8]>,
    newest: Table<'t, (&'static str, u64, &'static str), ()>,
    messages: Table<'t, (&'static str, u64), &'static [u8]>,
    texts: Table<'t, (&'static str, u64, u8, u32), &'static str>,
    folded: Table<'t, (&'static str, u64), &'static str>,
    writing: Table<'t, (&'static str, u64), ()>,
    bytes_max: u64,
}

impl<'t> Writer<'t> {
    pub(super) fn new(transaction: &'t WriteTransaction, bytes_max: u64) -> Result<Self> {
        Ok(Self {
            meta: transaction.open_table(META).map_err(database)?,
            chats: transaction.open_table(CHATS).map_err(database)?,
            newest: transaction.open_table(NEWEST).map_err(database)?,
            messages: transaction.open_table(MESSAGES).map_err(database)?,
            texts: transaction.open_table(TEXTS).map_err(database)?,
            folded: transaction.open_table(FOLDED).map_err(database)?,
            writing: transaction.open_table(WRITING).map_err(database)?,
            bytes_max,
        })
    }

    pub(super) fn chat(&self, owner: Owner<'_>, id: &str) -> Result<Chat> {
        chat(&self.chats, owner, id)
    }

    pub(super) fn all(&self, owner: Owner<'_>) -> Result<Vec<String>> {
        all(&self.newest, owner)
    }

    /// # Errors
    /// If there is no such message.
    pub(super) fn has(&self, id: &str, n: u64) -> Result<()> {
        let record = self.messages.get((id, n)).map_err(database)?;
        record.map(|_| ()).ok_or(StoreError::NoMessage)
    }

    /// Writes a conversation's record; it stood at the time `before` in the list.
    pub(super) fn put(&mut self, chat: &Chat, before: Option<u64>) -> Result<()> {
        if let Some(before) = before {
            self.newest.remove(place(chat, before)).map_err(database)?;
        }
        self.newest
            .insert(place(chat, chat.updated), ())
            .map_err(database)?;
        let record = serde_json::to_vec(chat)?;
        self.chats.insert(&*chat.id, &*record).map_err(database)?;
        Ok(())
    }

    /// The conversation can be found by its title.
    pub(super) fn put_title(&mut self, chat: &Chat) -> Result<()> {
        self.fold(&chat.id, 0, chat.title.as_deref().unwrap_or_default())
    }

    pub(super) fn put_message(&mut self, id: &str, message: &Message) -> Result<()> {
        let record = serde_json::to_vec(message)?;
        self.messages
            .insert((id, message.n), &*record)
            .map_err(database)?;
        Ok(())
    }

    /// Adds to a text.
    pub(super) fn put_text(&mut self, id: &str, n: u64, kind: Kind, text: &str) -> Result<()> {
        self.add_bytes(text.len() as u64)?;
        let kind = kind as u8;
        let last = {
            let mut parts = self
                .texts
                .range((id, n, kind, 0)..=(id, n, kind, u32::MAX))
                .map_err(database)?;
            let last = parts.next_back().transpose().map_err(database)?;
            last.map(|(key, _)| key.value().3)
        };
        let mut part = last.map_or(0, |last| last + 1);
        let mut rest = text;
        while !rest.is_empty() {
            let (head, tail) = rest.split_at(rest.floor_char_boundary(PART_BYTES));
            self.texts
                .insert((id, n, kind, part), head)
                .map_err(database)?;
            part += 1;
            rest = tail;
        }
        Ok(())
    }

    /// A text can be found.
    pub(super) fn fold(&mut self, id: &str, n: u64, text: &str) -> Result<()> {
        self.folded
            .insert((id, n), &*fold(text))
            .map_err(database)?;
        Ok(())
    }

    pub(super) fn writing(&mut self, id: &str, n: u64) -> Result<()> {
        self.writing.insert((id, n), ()).map_err(database)?;
        Ok(())
    }

    /// An answer has ended: the parts that it was written in become as few as may be.
    pub(super) fn end(&mut self, id: &str, n: u64, ending: Ending) -> Result<Message> {
        self.writing.remove((id, n)).map_err(database)?;
        let record = {
            let record = self.messages.get((id, n)).map_err(database)?;
            record.ok_or(StoreError::NoMessage)?.value().to_vec()
        };
        let mut message = message(&self.texts, id, n, &record)?;
        message.ending = Some(ending);
        self.put_message(id, &message)?;
        self.fold(id, n, &message.content)?;
        for (kind, text) in [
            (Kind::Content, &message.content),
            (Kind::Reasoning, &message.reasoning),
        ] {
            // A long one has mostly long parts.
            if text.len() <= PART_BYTES {
                self.take_text(id, n, kind)?;
                self.put_text(id, n, kind, text)?;
            }
        }
        Ok(message)
    }

    fn take_text(&mut self, id: &str, n: u64, kind: Kind) -> Result<()> {
        let kind = kind as u8;
        let range = (id, n, kind, 0)..=(id, n, kind, u32::MAX);
        let mut taken = 0;
        for part in self
            .texts
            .extract_from_if(range, |_, _| true)
            .map_err(database)?
        {
            let (_, part) = part.map_err(database)?;
            taken += part.value().len() as u64;
        }
        self.take_bytes(taken)
    }

    /// Removes a conversation and all that belongs to it.
    pub(super) fn delete(&mut self, chat: &Chat) -> Result<()> {
        let id = &*chat.id;
        self.newest
            .remove(place(chat, chat.updated))
            .map_err(database)?;
        self.chats.remove(id).map_err(database)?;
        let all = || (id, 0)..=(id, u64::MAX);
        self.messages
            .retain_in(all(), |_, _| false)
            .map_err(database)?;
        self.folded
            .retain_in(all(), |_, _| false)
            .map_err(database)?;
        self.writing
            .retain_in(all(), |_, ()| false)
            .map_err(database)?;
        let mut taken = chat.bytes();
        let range = (id, 0, 0, 0)..=(id, u64::MAX, u8::MAX, u32::MAX);
        for part in self
            .texts
            .extract_from_if(range, |_, _| true)
            .map_err(database)?
        {
            let (_, part) = part.map_err(database)?;
            taken += part.value().len() as u64;
        }
        self.take_bytes(taken)
    }

    /// # Errors
    /// If there is no room for more.
    pub(super) fn add_bytes(&mut self, bytes: u64) -> Result<()> {
        let all = self.bytes()?.saturating_add(bytes);
        if all > self.bytes_max && bytes > 0 {
            let bytes_max = self.bytes_max;
            return Err(StoreError::Full { bytes_max });
        }
        self.meta.insert(BYTES, all).map_err(database)?;
        Ok(())
    }

    pub(super) fn take_bytes(&mut self, bytes: u64) -> Result<()> {
        let all = self.bytes()?.saturating_sub(bytes);
        self.meta.insert(BYTES, all).map_err(database)?;
        Ok(())
    }

    fn bytes(&self) -> Result<u64> {
        let bytes = self.meta.get(BYTES).map_err(database)?;
        Ok(bytes.map_or(0, |bytes| bytes.value()))
    }
}
