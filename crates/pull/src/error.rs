//! What can go wrong with a pull, in words for the person who waits for it.

use std::io;

use troika_base::Bytes;

/// Why a model cannot be looked at or fetched. Messages name hosts, files and repositories, and never a secret or a path of
/// this machine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What was asked for makes no sense.
    #[error(
        "{text:?} names no model to pull: {why}; write `hf:OWNER/REPO`, `hf:OWNER/REPO:Q4_K_M`, `ollama:NAME:TAG` or \
         `https://HOST/FILE.gguf`"
    )]
    BadReference {
        /// What was given, shortened.
        text: String,
        /// What is wrong with it.
        why: String,
    },
    /// An address of the environment makes no sense.
    #[error("{setting}: {why}")]
    BadSetting {
        /// The variable.
        setting: &'static str,
        /// What is wrong.
        why: String,
    },
    /// Plain HTTP beyond this machine.
    #[error(
        "plain HTTP to {host} lets everyone between change the file; use https, or say --allow-plain-http"
    )]
    PlainHttp {
        /// The host.
        host: String,
    },
    /// There is no connection.
    #[error("cannot reach {host}: {why}; is this machine online?")]
    Unreachable {
        /// The host.
        host: String,
        /// What the system said.
        why: String,
    },
    /// Nothing came for too long.
    #[error("{host} sent nothing for {seconds} s")]
    Stalled {
        /// The host.
        host: String,
        /// How long.
        seconds: u64,
    },
    /// A connection ended before its answer did.
    #[error("the connection to {host} broke off: {why}")]
    Cut {
        /// The host.
        host: String,
        /// What is known of it.
        why: String,
    },
    /// Nothing of this name is there.
    #[error("{what} is not there: {host} says {status}")]
    NotThere {
        /// Repository, file, model.
        what: String,
        /// The host.
        host: String,
        /// The status.
        status: u16,
    },
    /// The host wants to know who asks.
    #[error(
        "{host} does not give {what} to everybody (it says {status}); if you may have it, accept its terms there and set \
         HF_TOKEN"
    )]
    Denied {
        /// Repository, file, model.
        what: String,
        /// The host.
        host: String,
        /// The status.
        status: u16,
    },
    /// Any other answer than was asked for.
    #[error("{host} answers with status {status}")]
    Status {
        /// The host.
        host: String,
        /// The status.
        status: u16,
    },
    /// An address that leads on and on, or where it must not.
    #[error("{host} redirects {how}")]
    Redirected {
        /// The host that did.
        host: String,
        /// `in a circle`, `to plain HTTP`, ...
        how: String,
    },
    /// A page for people in place of a file.
    #[error(
        "{host} sent a web page in place of the file; a proxy or a page to log in may stand between"
    )]
    WebPage {
        /// The host.
        host: String,
    },
    /// An answer that is not what the protocol says.
    #[error("what {host} sent cannot be understood: {why}")]
    Nonsense {
        /// The host.
        host: String,
        /// What is wrong with it.
        why: String,
    },
    /// A file of which nobody knows where it ends.
    #[error("{host} does not say how long the file is, so nobody could tell when it is whole")]
    NoLength {
        /// The host.
        host: String,
    },
    /// The file is not the one that the pull began with.
    #[error("the file changed on {host} while it was fetched; pull it again to have the new one")]
    Changed {
        /// The host.
        host: String,
    },
    /// Fewer or more bytes than were announced.
    #[error("{host} has {have} bytes of the file, {want} were announced")]
    WrongLength {
        /// The host.
        host: String,
        /// As announced.
        want: u64,
        /// As sent.
        have: u64,
    },
    /// Other bytes than were announced.
    #[error(
        "the file that came has the digest {have}, {want} was announced; it was thrown away. Pull it again; if that \
         gives the same, its source is damaged"
    )]
    WrongDigest {
        /// As announced.
        want: String,
        /// As computed.
        have: String,
    },
    /// The disk gives back other bytes than were written.
    #[error("the disk gives back other bytes than were written to it; it may be failing")]
    BadDisk,
    /// No room.
    #[error("the disk is full: {} more are needed, {} are free", Bytes(*needs), Bytes(*free))]
    DiskFull {
        /// Bytes.
        needs: u64,
        /// Bytes.
        free: u64,
    },
    /// Somebody else fetches the same.
    #[error("another program is pulling the same file; wait for it, or stop it")]
    Busy,
    /// There is no such file in a repository, or too many.
    #[error("{what}: {why}")]
    Choice {
        /// The repository.
        what: String,
        /// What is there to choose from.
        why: String,
    },
    /// What came is no model.
    #[error("{name} is no model that can be read here")]
    NotAModel {
        /// The file.
        name: String,
        /// What is wrong with it.
        #[source]
        source: Box<troika_gguf::Error>,
    },
    /// The library refuses it.
    #[error(transparent)]
    Library(#[from] troika_library::Error),
    /// The system's doing.
    #[error("cannot {action}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn io(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, source }
    }

    /// Whether trying again in a moment may help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Stalled { .. } | Self::Cut { .. } => true,
            Self::Status { status, .. } => matches!(status, 408 | 425 | 429 | 500..),
            _ => false,
        }
    }

    /// The message with all its causes, on one line.
    pub fn whole(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        text
    }
}

/// What came from outside, short enough for a message.
pub(crate) fn shortened(text: &str) -> String {
    const CHARACTERS_MAX: usize = 120;
    match text.char_indices().nth(CHARACTERS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
