//! Logits of a text in a file, so that a model in few bits can be compared with one that does not fit beside it.
//!
//! Layout, in docs/formats/logits.md as well; all numbers little-endian:
//! - `TKLG`, then u32 each: version, `n_vocab`, `n_ctx`, windows;
//! - for each window its `n_ctx` tokens, u32 each, then for each token of the second half but the last a row: f32 the
//!   highest logit, f32 a step, and for each token of the vocabulary u16 how many steps its logit is below the highest;
//! - SHA-256 of all before.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;
use troika_base::TokenId;

const MAGIC: [u8; 4] = *b"TKLG";
const VERSION: u32 = 1;
const HEADER_BYTES: u64 = 20;
const DIGEST_BYTES: u64 = 32;

/// Logits further below the highest than this are written as if they were that far: a probability of e⁻³² is none.
const DEPTH: f32 = 32.0;

/// Why logits could not be written, or what was written cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordingError {
    /// The operating system refused.
    #[error("cannot {action} the logits in {file}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file's name.
        file: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// The file is something else, or not whole.
    #[error("{file} holds no logits that can be used: {reason}")]
    Damaged {
        /// The file's name.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// The reference has another vocabulary.
    #[error(
        "the logits in {file} are of a vocabulary of {have} tokens, and this model's has {want}: it is no other form of the same model"
    )]
    OtherVocabulary {
        /// The file's name.
        file: String,
        /// Tokens of this model's vocabulary.
        want: usize,
        /// Tokens in the file.
        have: usize,
    },
}

/// What a file of logits is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) n_vocab: u32,
    pub(crate) n_ctx: u32,
    pub(crate) windows: u32,
}

impl Extent {
    /// Rows of a window.
    pub(crate) fn rows(&self) -> u32 {
        self.n_ctx - 1 - self.n_ctx / 2
    }

    /// Bytes of the whole file; `None` beyond all measure.
    fn bytes(&self) -> Option<u64> {
        let row = 8 + 2 * u64::from(self.n_vocab);
        let window = 4 * u64::from(self.n_ctx) + u64::from(self.rows()).checked_mul(row)?;
        let windows = u64::from(self.windows).checked_mul(window)?;
        windows.checked_add(HEADER_BYTES + DIGEST_BYTES)
    }
}

/// Writes logits to a file, which appears whole or not at all.
#[derive(Debug)]
pub struct Recorder {
    path: PathBuf,
    out: BufWriter<NamedTempFile>,
    digest: Sha256,
    row: Vec<u8>,
}

impl Recorder {
    /// Begins a file that will be called `path`.
    ///
    /// # Errors
    /// If nothing can be written beside it.
    pub fn create(path: &Path) -> Result<Self, RecordingError> {
        let parent = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        let temporary = NamedTempFile::new_in(parent.unwrap_or(Path::new(".")));
        let temporary = temporary.map_err(io_error("write", path))?;
        Ok(Self {
            path: path.to_owned(),
            out: BufWriter::with_capacity(1 << 20, temporary),
            digest: Sha256::new(),
            row: Vec::new(),
        })
    }

    pub(crate) fn begin(&mut self, extent: Extent) -> Result<(), RecordingError> {
        let mut header = Vec::from(MAGIC);
        for number in [VERSION, extent.n_vocab, extent.n_ctx, extent.windows] {
            header.extend(number.to_le_bytes());
        }
        self.put(&header)
    }

    pub(crate) fn window(&mut self, tokens: &[TokenId]) -> Result<(), RecordingError> {
        let bytes: Vec<u8> = tokens
            .iter()
            .flat_map(|token| token.0.to_le_bytes())
            .collect();
        self.put(&bytes)
    }

    pub(crate) fn row(&mut self, logits: &[f32]) -> Result<(), RecordingError> {
        let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let lowest = logits.iter().copied().fold(f32::INFINITY, f32::min);
        let step = (highest - lowest).min(DEPTH) / f32::from(u16::MAX);
        let inverse = if step > 0.0 { 1.0 / step } else { 0.0 };
        let mut row = std::mem::take(&mut self.row);
        row.clear();
        row.extend(highest.to_le_bytes());
        row.extend(step.to_le_bytes());
        for logit in logits {
            // Saturates at the depth.
            let below = ((highest - logit) * inverse).round() as u16;
            row.extend(below.to_le_bytes());
        }
        let put = self.put(&row);
        self.row = row;
        put
    }

    /// Gives the file its name.
    pub(crate) fn finish(mut self) -> Result<(), RecordingError> {
        let failed = io_error("write", &self.path);
        let digest = std::mem::take(&mut self.digest).finalize();
        self.out.write_all(&digest).map_err(&failed)?;
        let temporary = self
            .out
            .into_inner()
            .map_err(|error| failed(error.into_error()))?;
        temporary.as_file().sync_all().map_err(&failed)?;
        temporary
            .persist(&self.path)
            .map_err(|error| failed(error.error))?;
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), RecordingError> {
        self.digest.update(bytes);
        self.out
            .write_all(bytes)
            .map_err(io_error("write", &self.path))
    }
}

/// Logits that were written, to be read from the beginning on.
#[derive(Debug)]
pub struct Recording {
    name: String,
    input: BufReader<File>,
    digest: Sha256,
    extent: Extent,
    row: Vec<u8>,
}

impl Recording {
    /// Opens a file and checks its header against its length. What it holds is checked when all of it was read.
    ///
    /// # Errors
    /// If it is something else, or not whole.
    pub fn open(path: &Path) -> Result<Self, RecordingError> {
        let failed = io_error("read", path);
        let file = File::open(path).map_err(&failed)?;
        let bytes = file.metadata().map_err(&failed)?.len();
        let mut recording = Self {
            name: path.display().to_string(),
            input: BufReader::with_capacity(1 << 20, file),
            digest: Sha256::new(),
            extent: Extent {
                n_vocab: 0,
                n_ctx: 0,
                windows: 0,
            },
            row: Vec::new(),
        };
        if bytes < HEADER_BYTES {
            return Err(recording.damaged("it is too short".to_owned()));
        }
        let header = recording.take(HEADER_BYTES as usize)?;
        let number = |at: usize| {
            let bytes = header[at..at + 4].try_into();
            u32::from_le_bytes(bytes.expect("four bytes. This is a bug."))
        };
        if header[..4] != MAGIC || number(4) != VERSION {
            return Err(recording.damaged("it begins otherwise; `--kl-base` writes one".to_owned()));
        }
        let extent = Extent {
            n_vocab: number(8),
            n_ctx: number(12),
            windows: number(16),
        };
        if extent.n_ctx < 4 || extent.n_vocab == 0 || extent.windows == 0 {
            return Err(recording.damaged("it has no rows".to_owned()));
        }
        if extent.bytes() != Some(bytes) {
            return Err(recording.damaged(format!("it has {bytes} bytes, which is not all of it")));
        }
        recording.extent = extent;
        Ok(recording)
    }

    /// Tokens of a window.
    pub fn n_ctx(&self) -> usize {
        self.extent.n_ctx as usize
    }

    /// Windows of text.
    pub fn windows(&self) -> usize {
        self.extent.windows as usize
    }

    /// # Errors
    /// If the logits are of another vocabulary.
    pub(crate) fn check_vocabulary(&self, n_vocab: usize) -> Result<(), RecordingError> {
        let have = self.extent.n_vocab as usize;
        match have == n_vocab {
            true => Ok(()),
            false => Err(RecordingError::OtherVocabulary {
                file: self.name.clone(),
                want: n_vocab,
                have,
            }),
        }
    }

    pub(crate) fn window(&mut self) -> Result<Vec<TokenId>, RecordingError> {
        let bytes = self.take(4 * self.n_ctx())?;
        let tokens = bytes.as_chunks::<4>().0.iter();
        let tokens: Vec<_> = tokens
            .map(|bytes| TokenId(u32::from_le_bytes(*bytes)))
            .collect();
        match tokens.iter().all(|token| token.0 < self.extent.n_vocab) {
            true => Ok(tokens),
            false => Err(self.damaged("it has tokens outside its vocabulary".to_owned())),
        }
    }

    /// The next row's logits, into `logits`.
    pub(crate) fn row(&mut self, logits: &mut Vec<f32>) -> Result<(), RecordingError> {
        let bytes = self.take(8 + 2 * self.extent.n_vocab as usize)?;
        let (head, steps) = bytes.split_at(8);
        let float = |bytes: &[u8]| {
            let bytes = bytes.try_into();
            f32::from_le_bytes(bytes.expect("four bytes. This is a bug."))
        };
        let (highest, step) = (float(&head[..4]), float(&head[4..]));
        let below = steps.as_chunks::<2>().0.iter();
        logits.clear();
        logits.extend(below.map(|below| highest - step * f32::from(u16::from_le_bytes(*below))));
        self.row = bytes;
        Ok(())
    }

    /// Checks what was read.
    ///
    /// # Errors
    /// If it is not what was written.
    pub(crate) fn finish(mut self) -> Result<(), RecordingError> {
        let have = std::mem::take(&mut self.digest).finalize();
        let want = self.take(DIGEST_BYTES as usize)?;
        match have[..] == want[..] {
            true => Ok(()),
            false => Err(self.damaged("its checksum is another".to_owned())),
        }
    }

    /// The next bytes, in the buffer of the last row.
    fn take(&mut self, count: usize) -> Result<Vec<u8>, RecordingError> {
        let mut bytes = std::mem::take(&mut self.row);
        bytes.resize(count, 0);
        self.input
            .read_exact(&mut bytes)
            .map_err(|source| RecordingError::Io {
                action: "read",
                file: self.name.clone(),
                source,
            })?;
        self.digest.update(&bytes);
        Ok(bytes)
    }

    fn damaged(&self, reason: String) -> RecordingError {
        RecordingError::Damaged {
            file: self.name.clone(),
            reason,
        }
    }
}

fn io_error(action: &'static str, path: &Path) -> impl Fn(io::Error) -> RecordingError + use<> {
    let file = path.display().to_string();
    move |source| RecordingError::Io {
        action,
        file: file.clone(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXTENT: Extent = Extent {
        n_vocab: 3,
        n_ctx: 4,
        windows: 1,
    };

    fn write(path: &Path) {
        let mut recorder = Recorder::create(path).expect("is made");
        recorder.begin(EXTENT).expect("is written");
        recorder
            .window(&[TokenId(0), TokenId(1), TokenId(2), TokenId(1)])
            .expect("is written");
        recorder.row(&[1.5, -3.0, -1e9]).expect("is written");
        recorder.finish().expect("is written");
    }

    #[test]
    fn logits_come_back_to_a_ten_thousandth() {
        let directory = tempfile::tempdir().expect("is made");
        let path = directory.path().join("logits");
        write(&path);
        let mut recording = Recording::open(&path).expect("is read");
        assert_eq!(recording.extent, EXTENT);
        assert_eq!(recording.window().expect("is read")[2], TokenId(2));
        let mut row = Vec::new();
        recording.row(&mut row).expect("is read");
        assert!(
            (row[0] - 1.5).abs() < 1e-6 && (row[1] + 3.0).abs() < 3e-4,
            "{row:?}"
        );
        assert!((row[2] - (1.5 - DEPTH)).abs() < 1e-3, "{row:?}");
        recording.finish().expect("is sound");
        assert_eq!(
            std::fs::read_dir(directory.path())
                .expect("is there")
                .count(),
            1
        );
    }

    #[test]
    fn damage_is_found() {
        let directory = tempfile::tempdir().expect("is made");
        let path = directory.path().join("logits");
        write(&path);
        let sound = std::fs::read(&path).expect("is read");
        for (bytes, says) in [
            (sound[..sound.len() - 1].to_vec(), "not all of it"),
            (
                b"GGUF and so on, and on, and on".to_vec(),
                "begins otherwise",
            ),
            (Vec::new(), "too short"),
        ] {
            std::fs::write(&path, bytes).expect("is written");
            let error = Recording::open(&path).expect_err("is damaged").to_string();
            assert!(error.contains(says), "{error}");
        }
        let mut flipped = sound;
        let at = flipped.len() - 33;
        flipped[at] ^= 1;
        std::fs::write(&path, flipped).expect("is written");
        let mut recording = Recording::open(&path).expect("has its length");
        recording.window().expect("is read");
        recording.row(&mut Vec::new()).expect("is read");
        let error = recording.finish().expect_err("is damaged").to_string();
        assert!(error.contains("checksum"), "{error}");
    }
}
