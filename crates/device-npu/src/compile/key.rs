//! What decides over a compiled model, as a name for its directory.

use std::fmt::{self, Write as _};

use sha2::{Digest as _, Sha256};
use troika_device::Fingerprint;

use crate::{Backend, CompileOptions};

/// Changes with what this program itself puts into a compiled model.
const FORM: u32 = 1;

/// The name of a compiled model in the [`Store`](super::Store): equal keys, the same files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    text: String,
    hash: String,
}

impl Key {
    /// Of a model, compiled by a backend of this version with these options.
    pub fn new(model: Fingerprint, backend: &dyn Backend, options: &CompileOptions) -> Self {
        let CompileOptions {
            weights,
            n_ctx,
            chunk,
        } = options;
        let text = format!(
            "form {FORM}\nmodel {model}\nbackend {}\nversion {}\nweights {weights}\nn_ctx {n_ctx}\nchunk {chunk}\n",
            backend.name(),
            backend.version(),
        );
        Self::of_text(text)
    }

    pub(super) fn of_text(text: String) -> Self {
        let digest = Sha256::digest(&text);
        Self {
            hash: hex(&digest),
            text,
        }
    }

    /// All that went into it, a line each.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// SHA-256 of the text, in 64 hexadecimal digits.
    pub fn hash(&self) -> &str {
        &self.hash
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.hash)
    }
}

/// Bytes in hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
