//! Which model a file holds: whether what was computed from one file, keys and values or a compiled graph, belongs to
//! another one.

use std::fmt;

use sha2::{Digest, Sha256};
use troika_gguf::{Error, ModelFile, TensorInfo};

/// A digest of all that decides over a model's keys and values: hyperparameters, the list of tensors, and of every
/// tensor some bytes. It tells models apart that differ by training or quantization, which change every tensor that
/// they touch nearly everywhere; whoever forges a model on purpose can keep it. Reading whole files for more than that
/// would take as long as loading them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fingerprint([u8; 32]);

/// Bytes that are read at each of [`PLACES`] of a tensor.
const SAMPLE: usize = 256;
/// Where they are read: so many parts of the way through.
const PLACES: u64 = 3;

impl Fingerprint {
    /// Reads the samples of a file.
    ///
    /// # Errors
    /// If the file cannot be read any more.
    pub fn of(file: &ModelFile) -> Result<Self, Error> {
        let mut hash = Sha256::new_with_prefix("troika model 1\n");
        // Keys of the architecture: how many heads, which rotation. Names and words leave keys and values as they are.
        let architecture = file.metadata().str("general.architecture")?;
        hash.update(architecture);
        for (key, value) in file.metadata().iter() {
            let name = key.strip_prefix(architecture);
            if name.is_some_and(|name| name.starts_with('.')) {
                hash.update(format!("\n{key} {value:?}"));
            }
        }
        for file in [Some(file), file.adapter()].into_iter().flatten() {
            for tensor in file.tensors() {
                let TensorInfo {
                    name, shape, dtype, ..
                } = tensor;
                hash.update(format!("\n{name:?} {dtype} {shape:?} "));
                sample(file, tensor, &mut hash)?;
            }
        }
        Ok(Self(hash.finalize().into()))
    }

    /// What was stored.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// To be stored.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

fn sample(file: &ModelFile, tensor: &TensorInfo, hash: &mut Sha256) -> Result<(), Error> {
    let mut bytes = [0; SAMPLE];
    let len = SAMPLE.min(usize::try_from(tensor.bytes).unwrap_or(SAMPLE));
    let last = tensor.bytes - len as u64;
    for place in 0..PLACES {
        file.read(tensor, last / (PLACES - 1) * place, &mut bytes[..len])?;
        hash.update(&bytes[..len]);
    }
    Ok(())
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}
