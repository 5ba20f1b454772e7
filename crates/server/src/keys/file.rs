//! `keys.toml`: one table for each key. Written whole, under a temporary name, readable by its owner alone.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use troika_scheduler::Class;

use super::secret::Made;

/// What a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Ask models, and see which there are.
    Inference,
    /// Create, copy and delete models.
    Models,
    /// See how the server does.
    Admin,
}

impl Scope {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Inference, Self::Models, Self::Admin];

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Inference => "inference",
            Self::Models => "models",
            Self::Admin => "admin",
        }
    }
}

/// A key, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// Whose it is, or what for.
    pub name: String,
    /// The part of the key that finds it here.
    pub id: String,
    /// The Argon2id hash of the other part.
    pub hash: String,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// When it was made, in RFC 3339.
    pub created: String,
    /// Requests a minute at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_minute: Option<u32>,
    /// Tokens a minute at most, read and written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_minute: Option<u32>,
    /// How urgent its jobs are that say nothing of it; as the endpoint has it if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_class: Option<Class>,
}

/// What a new key shall be.
#[derive(Clone, Debug, Default)]
pub struct NewKey {
    /// Its name: letters, digits, `.`, `_` and `-`.
    pub name: String,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// Requests a minute at most.
    pub requests_per_minute: Option<u32>,
    /// Tokens a minute at most.
    pub tokens_per_minute: Option<u32>,
    /// How urgent its jobs are that say nothing of it.
    pub default_class: Option<Class>,
}

/// Trouble with the keys.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeysError {
    /// The file cannot be read or written.
    #[error("cannot use the keys in {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file holds something else.
    #[error("{} does not hold keys: {message}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where and why.
        message: String,
    },
    /// The name is none.
    #[error("{0:?} is no name for a key; use up to 64 letters, digits, `.`, `_` and `-`")]
    BadName(String),
    /// The name is taken.
    #[error("there is a key {0:?} already; remove it first, or take another name")]
    Taken(String),
    /// Nobody has that name.
    #[error("there is no key {0:?}; `troika keys list` shows them")]
    Unknown(String),
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    #[serde(default)]
    key: Vec<Key>,
}

/// Which state of the file was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    modified: Option<SystemTime>,
    bytes: u64,
}

/// The file of keys, which need not be there.
#[derive(Clone, Debug)]
pub struct KeyFile(PathBuf);

impl KeyFile {
    /// The file at this path.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The keys; `None` if there is no file.
    ///
    /// # Errors
    /// If the file is unreadable or holds something else.
    pub fn load(&self) -> Result<Option<Vec<Key>>, KeysError> {
        let text = match fs::read_to_string(&self.0) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.io(error)),
        };
        // The message of the parser would quote the line, and a line may hold a hash.
        let damaged = |error: toml::de::Error| KeysError::Damaged {
            path: self.0.clone(),
            message: match error.span() {
                Some(span) => {
                    let line = 1 + text[..span.start].matches('\n').count();
                    format!("line {line}: {}", error.message())
                }
                None => error.message().to_owned(),
            },
        };
        let contents: Contents = toml::from_str(&text).map_err(damaged)?;
        Ok(Some(contents.key))
    }

    /// Makes a key and returns its text, which is written nowhere.
    ///
    /// # Errors
    /// If the name is none or taken, or the file cannot be used.
    pub fn add(&self, new: NewKey) -> Result<String, KeysError> {
        let of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if !(1..=64).contains(&new.name.len()) || !new.name.bytes().all(of_name) {
            return Err(KeysError::BadName(new.name));
        }
        let _lock = self.lock()?;
        let mut keys = self.load()?.unwrap_or_default();
        if keys.iter().any(|key| key.name == new.name) {
            return Err(KeysError::Taken(new.name));
        }
        let mut made = Made::new();
        while keys.iter().any(|key| key.id == made.id) {
            made = Made::new();
        }
        keys.push(Key {
            name: new.name,
            id: made.id,
            hash: made.hash,
            scopes: new.scopes,
            created: jiff::Timestamp::now().strftime("%FT%TZ").to_string(),
            requests_per_minute: new.requests_per_minute,
            tokens_per_minute: new.tokens_per_minute,
            default_class: new.default_class,
        });
        self.store(keys)?;
        Ok(made.text)
    }

    /// Removes a key; returns how many are left.
    ///
    /// # Errors
    /// If there is no such key, or the file cannot be used.
    pub fn remove(&self, name: &str) -> Result<usize, KeysError> {
        let _lock = self.lock()?;
        let mut keys = self.load()?.unwrap_or_default();
        let before = keys.len();
        keys.retain(|key| key.name != name);
        let left = keys.len();
        if left == before {
            return Err(KeysError::Unknown(name.to_owned()));
        }
        self.store(keys)?;
        Ok(left)
    }

    pub(super) fn stamp(&self) -> Option<Stamp> {
        let metadata = fs::metadata(&self.0).ok()?;
        Some(Stamp {
            modified: metadata.modified().ok(),
            bytes: metadata.len(),
        })
    }

    /// Whether others than the owner may read the file.
    #[cfg(unix)]
    pub(super) fn is_exposed(&self) -> bool {
        use std::os::unix::fs::PermissionsExt as _;
        fs::metadata(&self.0).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0)
    }

    #[cfg(not(unix))]
    pub(super) fn is_exposed(&self) -> bool {
        false
    }

    fn directory(&self) -> &Path {
        match self.0.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        }
    }

    /// Keeps two changes at once from losing one.
    fn lock(&self) -> Result<File, KeysError> {
        let locked = || {
            fs::create_dir_all(self.directory())?;
            let lock = File::create(self.0.with_extension("lock"))?;
            lock.lock()?;
            Ok(lock)
        };
        locked().map_err(|error| self.io(error))
    }

    fn store(&self, key: Vec<Key>) -> Result<(), KeysError> {
        let text = toml::to_string(&Contents { key }).expect("keys are plain values");
        let written = || {
            // Such files are their owner's alone from the beginning.
            let mut file = tempfile::NamedTempFile::new_in(self.directory())?;
            file.write_all(text.as_bytes())?;
            file.as_file().sync_all()?;
            file.persist(&self.0)?;
            #[cfg(unix)]
            File::open(self.directory())?.sync_all()?;
            Ok(())
        };
        written().map_err(|error: io::Error| self.io(error))
    }

    fn io(&self, source: io::Error) -> KeysError {
        let path = self.0.clone();
        KeysError::Io { path, source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> NewKey {
        NewKey {
            name: name.to_owned(),
            scopes: vec![Scope::Inference],
            requests_per_minute: Some(60),
            tokens_per_minute: None,
            default_class: Some(Class::Background),
        }
    }

    #[test]
    fn keys_are_added_listed_and_removed() {
        let home = tempfile::tempdir().unwrap();
        let file = KeyFile::at(home.path().join("deep/keys.toml"));
        assert_eq!(file.load().unwrap(), None);
        let text = file.add(named("laptop")).unwrap();
        file.add(named("phone")).unwrap();
        let keys = file.load().unwrap().unwrap();
        assert_eq!(keys.len(), 2);
        assert_eq!(keys[0].name, "laptop");
        assert_eq!(keys[0].default_class, Some(Class::Background));
        assert!(text.contains(&keys[0].id));
        assert!(!file.is_exposed());
        let stored = fs::read_to_string(file.path()).unwrap();
        assert!(!stored.contains(text.rsplit('-').next().unwrap()));
        assert!(matches!(file.add(named("phone")), Err(KeysError::Taken(_))));
        assert_eq!(file.remove("laptop").unwrap(), 1);
        assert!(matches!(file.remove("laptop"), Err(KeysError::Unknown(_))));
        assert_eq!(file.remove("phone").unwrap(), 0);
        assert_eq!(file.load().unwrap(), Some(Vec::new()), "the file stays");
    }

    #[test]
    fn names_are_plain() {
        let file = KeyFile::at("/nowhere/keys.toml");
        for name in ["", "two words", "a/b", "naïve", &"x".repeat(65)] {
            let refused = file.add(named(name));
            assert!(matches!(refused, Err(KeysError::BadName(_))), "{name}");
        }
    }

    #[test]
    fn a_damaged_file_is_named_and_not_quoted() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("keys.toml");
        fs::write(
            &path,
            "[[key]]\nname = \"a\"\nhash = \"$argon2id$canary\" x\n",
        )
        .unwrap();
        let message = KeyFile::at(path).load().unwrap_err().to_string();
        assert!(message.contains("line 3"), "{message}");
        assert!(!message.contains("canary"), "{message}");
    }
}
