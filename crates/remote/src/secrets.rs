//! Keys of endpoints: where they are, and how they stay unseen.
//!
//! A key is never in `hybrid.toml`, on a command line, in a log or in a message: a [`Secret`] prints as what it is not. The
//! system's keyring is reached through the system's own tools, which take keys by their standard input. The libraries for
//! it bring a second runtime or link to D-Bus, and cost more to build than all the rest of this crate.

use std::fmt;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;

/// What the keyring's entries are filed under.
const SERVICE: &str = "troika";

/// A file that is longer holds something else.
const KEY_BYTES_MAX: usize = 16_384;

/// A key. It cannot be printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

impl Secret {
    /// A key as it was read, without the line's end.
    ///
    /// # Errors
    /// If it is empty, or has characters that no header may have.
    pub fn new(text: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(KeyError::Malformed("it is empty"));
        }
        if text.len() > KEY_BYTES_MAX {
            return Err(KeyError::Malformed("it is too long for a key"));
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(KeyError::Malformed("it has characters that a key has not"));
        }
        Ok(Self(text.into()))
    }

    /// The key itself, for the header that carries it.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Where a key is: `env:NAME`, `keyring:NAME` or `file:PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// In a variable of the environment.
    Env(String),
    /// In the system's keyring, by this account of the service `troika`.
    Keyring(String),
    /// In a file that nobody but its owner may read.
    File(PathBuf),
}

/// Why there is no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the messages say it")]
pub enum KeyError {
    #[error("a key is at `env:NAME`, `keyring:NAME` or `file:PATH`; `{0}` is none of these")]
    Unknown(String),
    #[error("the environment has no variable `{0}`; set it to the key")]
    NoVariable(String),
    #[error("the keyring has no key `{0}`; store it with `troika remote add --store-key`")]
    NotStored(String),
    #[error("the keyring cannot be used: {0}")]
    NoKeyring(String),
    #[error("the key's file cannot be read: {0}")]
    NoFile(String),
    #[error("others may read the key's file; take their rights away with `chmod 600`")]
    Readable,
    #[error("the key is not usable: {0}")]
    Malformed(&'static str),
}

impl FromStr for KeySource {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        // What was given may be the key itself, by mistake: only what looks like a place is repeated.
        let unknown = || KeyError::Unknown("...".to_owned());
        let (kind, name) = text.split_once(':').ok_or_else(unknown)?;
        let is_name = |name: &str| {
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/');
            !name.is_empty() && name.chars().all(plain)
        };
        match kind {
            "env" if is_name(name) => Ok(Self::Env(name.to_owned())),
            "keyring" if is_name(name) => Ok(Self::Keyring(name.to_owned())),
            "file" if !name.is_empty() => Ok(Self::File(name.into())),
            "env" | "keyring" | "file" => Err(KeyError::Unknown(format!("{kind}:..."))),
            _ => Err(unknown()),
        }
    }
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env:{name}"),
            Self::Keyring(name) => write!(f, "keyring:{name}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
        }
    }
}

impl KeySource {
    /// The key. May wait for the keyring to be unlocked.
    ///
    /// # Errors
    /// If it is not there, or not usable.
    pub fn read(&self) -> Result<Secret, KeyError> {
        match self {
            Self::Env(name) => match std::env::var(name) {
                Ok(text) => Secret::new(&text),
                Err(_) => Err(KeyError::NoVariable(name.clone())),
            },
            Self::Keyring(name) => Secret::new(&keyring::read(name)?),
            Self::File(path) => read_file(path),
        }
    }

    /// Puts a key there: into the keyring, or into a new file for its owner alone.
    ///
    /// # Errors
    /// If that is not possible; the environment cannot be written to.
    pub fn store(&self, key: &Secret) -> Result<(), KeyError> {
        match self {
            Self::Env(_) => Err(KeyError::NoKeyring(
                "the environment keeps nothing; use `--key keyring:NAME`".to_owned(),
            )),
            Self::Keyring(name) => keyring::store(name, key),
            Self::File(path) => write_file(path, key),
        }
    }
}

fn read_file(path: &Path) -> Result<Secret, KeyError> {
    let failed = |error: std::io::Error| KeyError::NoFile(error.to_string());
    let file = std::fs::File::open(path).map_err(failed)?;
    let about = file.metadata().map_err(failed)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        if about.permissions().mode() & 0o077 != 0 {
            return Err(KeyError::Readable);
        }
    }
    if about.len() > KEY_BYTES_MAX as u64 {
        return Err(KeyError::Malformed("its file is too long for a key"));
    }
    let text = std::io::read_to_string(file).map_err(failed)?;
    Secret::new(&text)
}

fn write_file(path: &Path, key: &Secret) -> Result<(), KeyError> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    let write = || -> std::io::Result<()> {
        let mut file = options.open(path)?;
        writeln!(file, "{}", key.expose())?;
        file.sync_all()
    };
    write().map_err(|error| KeyError::NoFile(error.to_string()))
}

/// The system's keyring, through the system's tool: `secret-tool` of libsecret, or macOS' `security`.
mod keyring {
    use super::{Command, KeyError, SERVICE, Secret, Stdio};
    use std::io::Write as _;

    pub(super) fn read(name: &str) -> Result<String, KeyError> {
        let mut command = match () {
            () if cfg!(target_os = "macos") => {
                let mut command = Command::new("/usr/bin/security");
                command.args(["find-generic-password", "-s", SERVICE, "-a", name, "-w"]);
                command
            }
            () if cfg!(windows) => return Err(absent()),
            () => {
                let mut command = Command::new("secret-tool");
                command.args(["lookup", "service", SERVICE, "account", name]);
                command
            }
        };
        let output = command.stdin(Stdio::null()).output().map_err(missing)?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        match output.status.success() && !text.trim().is_empty() {
            true => Ok(text),
            false => Err(KeyError::NotStored(name.to_owned())),
        }
    }

    pub(super) fn store(name: &str, key: &Secret) -> Result<(), KeyError> {
        let (mut command, input) = match () {
            () if cfg!(target_os = "macos") => {
                let mut command = Command::new("/usr/bin/security");
                // It reads commands there; a key is of characters that need no more than these quotes.
                command.arg("-i");
                let key = key.expose().replace('\\', "\\\\").replace('"', "\\\"");
                let line = format!("add-generic-password -U -s {SERVICE} -a {name} -w \"{key}\"\n");
                (command, line)
            }
            () if cfg!(windows) => return Err(absent()),
            () => {
                let mut command = Command::new("secret-tool");
                let label = format!("--label=Troika: {name}");
                command.args(["store", &label, "service", SERVICE, "account", name]);
                (command, key.expose().to_owned())
            }
        };
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(missing)?;
        let mut pipe = child.stdin.take().expect("asked for");
        let written = pipe.write_all(input.as_bytes());
        drop(pipe);
        let output = child.wait_with_output().map_err(missing)?;
        match (written, output.status.success()) {
            (Ok(()), true) => Ok(()),
            (Err(error), _) => Err(KeyError::NoKeyring(error.to_string())),
            (_, false) => {
                let said = String::from_utf8_lossy(&output.stderr);
                let said = said.replace(key.expose(), "...");
                let line = said.lines().next().unwrap_or("its tool failed").to_owned();
                Err(KeyError::NoKeyring(line))
            }
        }
    }

    fn missing(error: std::io::Error) -> KeyError {
        let what = match error.kind() {
            std::io::ErrorKind::NotFound => {
                "`secret-tool` is not installed (package libsecret-tools); or use `env:NAME` or `file:PATH`"
                    .to_owned()
            }
            _ => error.to_string(),
        };
        KeyError::NoKeyring(what)
    }

    fn absent() -> KeyError {
        KeyError::NoKeyring(
            "this system has no tool for it; use `env:NAME` or `file:PATH`".to_owned(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_not_printed() {
        let key = Secret::new(" sk-very-secret\n").unwrap();
        assert_eq!(key.expose(), "sk-very-secret");
        assert_eq!(
            format!("{key:?} {:?}", Some(&key)),
            "Secret(..) Some(Secret(..))"
        );
        for text in ["", "  ", "a b", "sk-\u{7}", "schlüssel"] {
            assert!(Secret::new(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn places_are_read_and_keys_given_by_mistake_are_not_repeated() {
        for text in ["env:A_KEY", "keyring:big-one", "file:/etc/troika/key"] {
            assert_eq!(text.parse::<KeySource>().unwrap().to_string(), text);
        }
        for text in [
            "sk-very-secret",
            "sk:very-secret",
            "env:",
            "env:very secret",
            "keyring:very;secret",
        ] {
            let message = text.parse::<KeySource>().unwrap_err().to_string();
            assert!(!message.contains("secret"), "{message}");
        }
    }

    #[test]
    fn a_file_is_its_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let source = KeySource::File(folder.path().join("key"));
        let key = Secret::new("sk-1").unwrap();
        assert!(matches!(source.read(), Err(KeyError::NoFile(_))));
        source.store(&key).unwrap();
        assert_eq!(source.read().unwrap(), key);
        assert!(
            source.store(&key).is_err(),
            "a file that is there is not overwritten"
        );
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let path = folder.path().join("key");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
            assert_eq!(source.read(), Err(KeyError::Readable));
        }
    }

    #[test]
    fn a_variable_that_is_not_set_is_named() {
        let error = KeySource::Env("TROIKA_NO_SUCH_KEY".to_owned())
            .read()
            .unwrap_err();
        assert!(error.to_string().contains("TROIKA_NO_SUCH_KEY"));
    }
}
