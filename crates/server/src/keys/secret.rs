//! What a key looks like: `tk-`, eight digits that name it, `-`, and 64 more, which are 256 random bits.
//!
//! The name part finds the key in the file at once, so that the slow hash is tried against one key alone.

use argon2::Argon2;
use argon2::password_hash::rand_core::{OsRng, RngCore as _};
use argon2::password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString};
use sha2::{Digest as _, Sha256};

pub(super) const PREFIX: &str = "tk-";
/// A longer one is none of ours, and is not hashed.
const LENGTH_MAX: usize = 128;

/// A key in its two parts.
#[derive(Clone, Copy)]
pub(super) struct Presented<'t> {
    pub(super) id: &'t str,
    secret: &'t str,
}

/// The SHA-256 of a secret: enough to recognise one that the slow hash has proved right.
#[derive(Clone, Copy)]
pub(super) struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Whether they are the same, in a time that does not tell where they differ.
    pub(super) fn is(&self, other: &Self) -> bool {
        subtle::ConstantTimeEq::ct_eq(&self.0[..], &other.0[..]).into()
    }
}

impl<'t> Presented<'t> {
    /// The parts of a text that looks like a key.
    pub(super) fn parse(text: &'t str) -> Option<Self> {
        let (id, secret) = text
            .strip_prefix(PREFIX)
            .filter(|rest| rest.len() <= LENGTH_MAX)?
            .split_once('-')?;
        Some(Self { id, secret })
    }

    pub(super) fn fingerprint(&self) -> Fingerprint {
        Fingerprint(Sha256::digest(self.secret).into())
    }

    /// Whether this is the secret that was hashed. Takes tens of milliseconds and 19 MiB, on purpose.
    pub(super) fn matches(&self, hash: &str) -> bool {
        let verified = PasswordHash::new(hash)
            .and_then(|hash| Argon2::default().verify_password(self.secret.as_bytes(), &hash));
        verified.is_ok()
    }
}

/// A new key: its name part, the whole of it, and the hash of its secret.
pub(super) struct Made {
    pub(super) id: String,
    pub(super) text: String,
    pub(super) hash: String,
}

impl Made {
    pub(super) fn new() -> Self {
        let mut id = [0; 4];
        let mut secret = [0; 32];
        OsRng.fill_bytes(&mut id);
        OsRng.fill_bytes(&mut secret);
        // Digits alone, so that nothing in it needs quoting.
        let (id, secret) = (hex(&id), hex(&secret));
        let salt = SaltString::generate(&mut OsRng);
        let hash = Argon2::default()
            .hash_password(secret.as_bytes(), &salt)
            .expect("a secret of this length and a fresh salt can be hashed");
        Self {
            text: format!("{PREFIX}{id}-{secret}"),
            hash: hash.to_string(),
            id,
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_recognised_and_no_other_is() {
        let made = Made::new();
        let key = Presented::parse(&made.text).unwrap();
        assert_eq!(key.id, made.id);
        assert!(key.matches(&made.hash));
        assert!(made.hash.starts_with("$argon2id$"));
        assert!(!made.hash.contains(key.secret));
        let wrong = format!("{}x", made.text);
        let wrong = Presented::parse(&wrong).unwrap();
        assert!(!wrong.matches(&made.hash));
        assert!(!wrong.fingerprint().is(&key.fingerprint()));
        assert!(!key.matches("no hash"));
    }

    #[test]
    fn other_texts_are_no_keys() {
        let long = format!("tk-12345678-{}", "x".repeat(1000));
        for text in ["", "tk-", "tk-12345678", "sk-12345678-abc", &long] {
            assert!(Presented::parse(text).is_none(), "{text}");
        }
    }
}
