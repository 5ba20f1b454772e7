//! One file with all conversations.
//!
//! Writing is one transaction each, on the disk when it returns; a process that dies loses what it had not handed over.
//! `store/open.rs` opens the file and sees to its faults, `store/tables.rs` says what is in it, `store/search.rs` lists and
//! looks for words. All calls block: callers that may not wait have a thread of their own for them.

mod open;
mod record;
mod search;
mod tables;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use redb::{Database, ReadableDatabase as _, ReadableTable as _};

pub use crate::fold::Part;
pub use open::Opened;
pub use record::{
    Change, Chat, Draft, Ending, Finish, Found, Listed, Message, New, Owner, Params, Role, Usage,
};
use tables::{CHATS, Kind, MESSAGES, TEXTS, WRITING, Writer};

/// Messages of one conversation at most.
const MESSAGES_MAX: u64 = 20_000;

/// Text is kept in parts of this many bytes at most, so that one that grows is not written again.
const PART_BYTES: usize = 1 << 20;

/// All conversations.
#[derive(Debug)]
pub struct Store {
    database: Database,
    /// Bytes of text at most.
    bytes_max: u64,
}

/// Why something cannot be kept or found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// There is none, or it is another key's.
    #[error("there is no such conversation")]
    NoChat,
    /// There is none of this number.
    #[error("there is no such message in the conversation")]
    NoMessage,
    /// The list does not go on there.
    #[error("`before` names no place in the list")]
    NoPlace,
    /// A conversation is as long as it may be.
    #[error("the conversation has {MESSAGES_MAX} messages, which is the most; begin a new one")]
    Long,
    /// All conversations together are as long as they may be.
    #[error("the conversations have {bytes_max} bytes together, which is the most; delete some")]
    Full {
        /// The most.
        bytes_max: u64,
    },
    /// Another process has the file.
    #[error("another process has the conversations open, maybe another `troika serve`")]
    InUse,
    /// A newer version of the program made the file.
    #[error(
        "the conversations are of format {found}, and this program knows {known}; take a newer one"
    )]
    Newer {
        /// The file's format.
        found: u64,
        /// The newest that is known here.
        known: u64,
    },
    /// The file cannot be read or written.
    #[error("the file of conversations cannot be used")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The database says so.
    #[error("the conversations cannot be read or written: {0}")]
    Database(#[source] Box<redb::Error>),
    /// A record is none.
    #[error("a record of the conversations is damaged")]
    Record(#[from] serde_json::Error),
}

/// An error of the database, whichever of its types it is.
fn database(error: impl Into<redb::Error>) -> StoreError {
    StoreError::Database(Box::new(error.into()))
}

type Result<T> = std::result::Result<T, StoreError>;

impl Store {
    /// Keeps a new conversation under this number.
    ///
    /// # Errors
    /// If the file cannot be written, or is full.
    pub fn create(&self, owner: Owner<'_>, id: &str, new: New, now: u64) -> Result<Chat> {
        let chat = Chat {
            id: id.to_owned(),
            owner: owner.map(str::to_owned),
            title: new.title,
            model: new.model,
            params: new.params,
            created: now,
            updated: now,
            leaf: None,
            next: 1,
        };
        self.write(|to| {
            to.add_bytes(chat.bytes())?;
            to.put_title(&chat)?;
            to.put(&chat, None)
        })?;
        Ok(chat)
    }

    /// A conversation with its messages, oldest first.
    ///
    /// # Errors
    /// If there is none of this owner, or the file cannot be read.
    pub fn get(&self, owner: Owner<'_>, id: &str) -> Result<(Chat, Vec<Message>)> {
        let read = self.database.begin_read().map_err(database)?;
        let chat = tables::chat(&read.open_table(CHATS).map_err(database)?, owner, id)?;
        let records = read.open_table(MESSAGES).map_err(database)?;
        let texts = read.open_table(TEXTS).map_err(database)?;
        let mut messages = Vec::new();
        for entry in records.range((id, 0)..=(id, u64::MAX)).map_err(database)? {
            let (key, record) = entry.map_err(database)?;
            let (_, n) = key.value();
            messages.push(tables::message(&texts, id, n, record.value())?);
        }
        Ok((chat, messages))
    }

    /// A conversation, and the messages that lead to one of them, oldest first.
    ///
    /// # Errors
    /// If there is none of this owner, no such message, or the file cannot be read.
    pub fn branch(
        &self,
        owner: Owner<'_>,
        id: &str,
        leaf: Option<u64>,
    ) -> Result<(Chat, Vec<Message>)> {
        let read = self.database.begin_read().map_err(database)?;
        let chat = tables::chat(&read.open_table(CHATS).map_err(database)?, owner, id)?;
        let records = read.open_table(MESSAGES).map_err(database)?;
        let texts = read.open_table(TEXTS).map_err(database)?;
        let mut branch = Vec::new();
        let mut next = leaf;
        while let Some(n) = next {
            let record = records.get((id, n)).map_err(database)?;
            let record = record.ok_or(StoreError::NoMessage)?;
            let message = tables::message(&texts, id, n, record.value())?;
            // A parent is older than its children, so that this ends whatever the file says.
            next = message.parent.filter(|parent| *parent < n);
            branch.push(message);
        }
        branch.reverse();
        Ok((chat, branch))
    }

    /// Changes a conversation.
    ///
    /// # Errors
    /// If there is none of this owner, no such leaf, or the file cannot be written.
    pub fn change(&self, owner: Owner<'_>, id: &str, change: Change) -> Result<Chat> {
        self.write(|to| {
            let mut chat = to.chat(owner, id)?;
            let (before, was) = (chat.updated, chat.bytes());
            if let Some(leaf) = change.leaf {
                to.has(id, leaf)?;
                chat.leaf = Some(leaf);
            }
            chat.model = change.model.or(chat.model);
            chat.params = change.params.unwrap_or(chat.params);
            if change.title.is_some() {
                chat.title = change.title;
                to.put_title(&chat)?;
            }
            to.add_bytes(chat.bytes())?;
            to.take_bytes(was)?;
            to.put(&chat, Some(before))?;
            Ok(chat)
        })
    }

    /// Deletes a conversation with all its messages.
    ///
    /// # Errors
    /// If there is none of this owner, or the file cannot be written.
    pub fn delete(&self, owner: Owner<'_>, id: &str) -> Result<()> {
        self.write(|to| {
            let chat = to.chat(owner, id)?;
            to.delete(&chat)
        })
    }

    /// Deletes all conversations of an owner.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn delete_all(&self, owner: Owner<'_>) -> Result<()> {
        self.write(|to| {
            for id in to.all(owner)? {
                let chat = to.chat(owner, &id)?;
                to.delete(&chat)?;
            }
            Ok(())
        })
    }

    /// The numbers of an owner's conversations, the newest first.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn all(&self, owner: Owner<'_>) -> Result<Vec<String>> {
        let read = self.database.begin_read().map_err(database)?;
        tables::all(&read.open_table(tables::NEWEST).map_err(database)?, owner)
    }

    /// Adds a message, which becomes the leaf. A question names a conversation that has no title. An answer is being written
    /// from now on, until [`Store::end`].
    ///
    /// # Errors
    /// If there is no such conversation of this owner or no such parent, it is too long, or the file cannot be written.
    pub fn add(&self, owner: Owner<'_>, id: &str, draft: Draft, now: u64) -> Result<Message> {
        self.write(|to| {
            let mut chat = to.chat(owner, id)?;
            if let Some(parent) = draft.parent {
                to.has(id, parent)?;
            }
            if chat.next > MESSAGES_MAX {
                return Err(StoreError::Long);
            }
            let message = Message {
                n: chat.next,
                parent: draft.parent,
                role: draft.role,
                content: draft.content,
                reasoning: String::new(),
                model: draft.model,
                created: now,
                ending: None,
            };
            let before = chat.updated;
            chat.next += 1;
            chat.updated = now.max(before);
            chat.leaf = Some(message.n);
            match message.role {
                Role::User => {
                    if chat.title.is_none() {
                        chat.title = title_of(&message.content);
                        to.put_title(&chat)?;
                        to.add_bytes(chat.title.as_ref().map_or(0, String::len) as u64)?;
                    }
                    to.put_text(id, message.n, Kind::Content, &message.content)?;
                    to.fold(id, message.n, &message.content)?;
                }
                Role::Assistant => {
                    if message.model.is_some() {
                        chat.model.clone_from(&message.model);
                    }
                    to.writing(id, message.n)?;
                }
            }
            to.put_message(id, &message)?;
            to.put(&chat, Some(before))?;
            Ok(message)
        })
    }

    /// Adds to an answer that is being written.
    ///
    /// # Errors
    /// If it was deleted meanwhile, or the file cannot be written.
    pub fn append(&self, id: &str, n: u64, content: &str, reasoning: &str) -> Result<()> {
        self.write(|to| {
            to.has(id, n)?;
            to.put_text(id, n, Kind::Reasoning, reasoning)?;
            to.put_text(id, n, Kind::Content, content)
        })
    }

    /// An answer has ended. What was written of it is all there is, and can be found.
    ///
    /// # Errors
    /// If it was deleted meanwhile, or the file cannot be written.
    pub fn end(&self, id: &str, n: u64, ending: Ending) -> Result<Message> {
        self.write(|to| to.end(id, n, ending))
    }

    /// Does something in one transaction.
    fn write<T>(&self, act: impl FnOnce(&mut Writer<'_>) -> Result<T>) -> Result<T> {
        let transaction = self.database.begin_write().map_err(database)?;
        let done = {
            let mut writer = Writer::new(&transaction, self.bytes_max)?;
            act(&mut writer)?
        };
        transaction.commit().map_err(database)?;
        Ok(done)
    }

    /// Ends the answers that were being written when the process died.
    fn settle(&self) -> Result<()> {
        let open: Vec<(String, u64)> = {
            let read = self.database.begin_read().map_err(database)?;
            let writing = read.open_table(WRITING).map_err(database)?;
            let mut open = Vec::new();
            for entry in writing.iter().map_err(database)? {
                let (key, _) = entry.map_err(database)?;
                let (id, n) = key.value();
                open.push((id.to_owned(), n));
            }
            open
        };
        for (id, n) in open {
            self.write(|to| to.end(&id, n, Finish::Stopped.into()))?;
        }
        Ok(())
    }
}

/// What a conversation is called that begins with this question: its first words.
fn title_of(question: &str) -> Option<String> {
    const CHARS: usize = 60;
    let is_mark =
        |c: char| c.is_whitespace() || c.is_control() || matches!(c, '#' | '>' | '*' | '`' | '-');
    let mut lines = question
        .lines()
        .map(|line| line.trim_start_matches(is_mark));
    let line = lines.find(|line| !line.trim().is_empty())?;
    let mut title = String::new();
    let mut count = 0;
    for word in line.split_whitespace() {
        let length = word.chars().count();
        if count + length >= CHARS && count > 0 {
            title.push('…');
            return Some(title);
        }
        if count > 0 {
            title.push(' ');
        }
        title.extend(word.chars().filter(|c| !c.is_control()).take(CHARS));
        count += length + 1;
    }
    Some(title)
}
