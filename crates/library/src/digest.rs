//! The digest of a file that was uploaded, which is all the name that it has.

use std::fmt::{self, Write as _};
use std::str::FromStr;

use crate::Error;

const PREFIX: &str = "sha256";

/// A SHA-256 digest: 64 lower-case hexadecimal digits, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest(String);

impl Digest {
    /// Of a hash's 32 bytes.
    pub fn of(hash: &[u8]) -> Self {
        Self(hex(hash))
    }

    /// The name of the file.
    pub(crate) fn blob_file(&self) -> String {
        format!("{PREFIX}-{}", self.0)
    }

    /// The digest that a file is named after, if it is.
    pub(crate) fn from_blob_file(file: &str) -> Option<Self> {
        let digest: Self = file.parse().ok()?;
        (digest.blob_file() == file).then_some(digest)
    }
}

impl FromStr for Digest {
    type Err = Error;

    /// Reads `sha256:` or `sha256-` and 64 digits.
    fn from_str(text: &str) -> Result<Self, Error> {
        let digits = text.strip_prefix(PREFIX).ok_or(Error::BadDigest)?;
        let digits = digits.strip_prefix([':', '-']).ok_or(Error::BadDigest)?;
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if digits.len() != 64 || !digits.bytes().all(is_digit) {
            return Err(Error::BadDigest);
        }
        Ok(Self(digits.to_owned()))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}:{}", self.0)
    }
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("text can be written to");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_digests_are_digests() {
        let digits = "0123456789abcdef".repeat(4);
        let digest: Digest = format!("sha256:{digits}").parse().expect("is one");
        assert_eq!(digest.to_string(), format!("sha256:{digits}"));
        assert_eq!(Digest::from_blob_file(&digest.blob_file()), Some(digest));
        for text in [
            String::new(),
            digits.clone(),
            format!("md5:{digits}"),
            format!("sha256{digits}"),
            format!("sha256:{}", &digits[1..]),
            format!("sha256:{digits}0"),
            format!("sha256:{}", digits.to_uppercase()),
            format!("sha256:../{}", &digits[3..]),
            format!("sha256:é{}", &digits[2..]),
        ] {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
    }
}
