//! What can go wrong between a recording and what is heard in it.

use std::io;

/// Why sound was not read, understood or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file or the stream could not be read.
    #[error("cannot read {what}: {source}")]
    Read {
        /// The file.
        what: String,
        /// What the system says.
        source: io::Error,
    },
    /// It is no sound, or of a form that is not known here.
    #[error(
        "{what} is not sound that can be read here ({reason}); WAV, FLAC, MP3 and Ogg Vorbis can"
    )]
    Format {
        /// The file.
        what: String,
        /// What was looked for and not found.
        reason: String,
    },
    /// It is sound, and of a kind that is refused.
    #[error("{what}: {reason}")]
    Unsupported {
        /// The file.
        what: String,
        /// Which part of it, and what is taken.
        reason: String,
    },
    /// It began as sound and does not go on as such.
    #[error("{what} is damaged at {at_s:.2} s: {reason}")]
    Damaged {
        /// The file.
        what: String,
        /// Seconds from its beginning.
        at_s: f64,
        /// What does not hold.
        reason: String,
    },
    /// There is not a single sample in it.
    #[error("{what} is empty: there is no sound in it")]
    Empty {
        /// The file.
        what: String,
    },
    /// There is more of it than the caller takes at once.
    #[error("{what} is longer than {limit_s} s; read it piece by piece")]
    TooLong {
        /// The file.
        what: String,
        /// Seconds that are taken.
        limit_s: u64,
    },
    /// The model is another than the one that is needed.
    #[error("this is not a model of the kind `{wanted}`: {reason}")]
    OtherModel {
        /// `silero-vad`, `gtcrn`.
        wanted: &'static str,
        /// Which input or output is not as it should be.
        reason: String,
    },
    /// The model gave something that is no number, or not as many numbers as it should.
    #[error("the model gave nonsense at {at_s:.2} s: {reason}")]
    Nonsense {
        /// Seconds from the beginning.
        at_s: f64,
        /// What it gave.
        reason: String,
    },
    /// Settings that contradict each other.
    #[error("{0}")]
    Settings(String),
    /// What runs the model failed.
    #[error(transparent)]
    Model(#[from] troika_device_npu::Error),
    /// The result could not be written.
    #[error("cannot write {what}: {source}")]
    Write {
        /// The file.
        what: String,
        /// What the system says.
        source: io::Error,
    },
}
