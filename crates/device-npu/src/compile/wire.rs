//! What a worker and its parent say to each other: JSON, a line each.
//!
//! Makers' libraries write to standard output what they please, so every line of ours begins with a word of ours, and
//! whatever does not is noise.

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::loss::Loss;
use crate::{Absent, CompileOptions, CompileProgress, Error};

/// What begins a line of the child's.
const WORD: &str = "troika-npu ";

/// What a worker is to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The GGUF file.
    pub model: PathBuf,
    /// The backend's name.
    pub backend: String,
    /// The backend's version as the parent knows it; another one would be another key.
    pub version: String,
    /// What to compile.
    pub options: CompileOptions,
    /// An empty directory for the result.
    pub directory: PathBuf,
    /// Whether the result is to be compared with the CPU's.
    pub compares: bool,
}

/// What a child says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Message {
    Progress(CompileProgress),
    Done { loss: Option<Loss> },
    Failed(Failure),
}

impl Message {
    /// A line of its own, whatever stands before it.
    pub(super) fn line(&self) -> String {
        let json =
            serde_json::to_string(self).expect("numbers and strings are JSON. This is a bug.");
        format!("\n{WORD}{json}\n")
    }

    /// The message in a line, if it is one.
    pub(super) fn parse(line: &str) -> Option<Self> {
        serde_json::from_str(line.trim_end().strip_prefix(WORD)?).ok()
    }
}

/// An [`Error`] on its way.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Failure {
    Absent(Absent),
    Unsupported {
        model: String,
        reason: String,
    },
    Invalid {
        what: String,
        reason: String,
    },
    Library {
        library: String,
        doing: String,
        message: String,
    },
    Io {
        path: PathBuf,
        /// The system's own number, where there is one.
        number: Option<i32>,
        message: String,
    },
    Cancelled,
    Other {
        message: String,
    },
}

/// Both ways at once: these variants are the same in both, and the rest of each is a match of its own.
macro_rules! both_ways {
    (
        same: $($variant:ident $fields:tt),*;
        there: { $($there:pat => $failure:expr),* $(,)? }
        back: { $($back:pat => $error:expr),* $(,)? }
    ) => {
        impl From<Error> for Failure {
            fn from(error: Error) -> Self {
                match error {
                    $(Error::$variant $fields => Self::$variant $fields,)*
                    $($there => $failure,)*
                }
            }
        }

        impl From<Failure> for Error {
            fn from(failure: Failure) -> Self {
                match failure {
                    $(Failure::$variant $fields => Self::$variant $fields,)*
                    $($back => $error,)*
                }
            }
        }
    };
}

both_ways! {
    same:
        Absent(absent),
        Unsupported { model, reason },
        Invalid { what, reason },
        Library { library, doing, message };
    there: {
        Error::Io { path, source } => Self::Io {
            path,
            number: source.raw_os_error(),
            message: source.to_string(),
        },
        Error::Cancelled | Error::Device(troika_device::Error::Cancelled) => Self::Cancelled,
        other => Self::Other {
            message: other.to_string(),
        },
    }
    back: {
        Failure::Io { path, number, message } => Self::Io {
            path,
            source: number.map_or_else(|| io::Error::other(message), io::Error::from_raw_os_error),
        },
        Failure::Cancelled => Self::Cancelled,
        Failure::Other { message } => Self::Device(troika_device::Error::Failed {
            device: "the compiler's process".to_owned(),
            reason: message,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Phase;

    fn through(error: Error) -> Error {
        let line = Message::Failed(error.into()).line();
        match Message::parse(line.trim_start()) {
            Some(Message::Failed(failure)) => failure.into(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn errors_keep_what_they_are() {
        let full = Error::Io {
            path: PathBuf::from("weights.bin"),
            source: io::Error::from_raw_os_error(28),
        };
        match through(full) {
            Error::Io { path, source } => {
                assert_eq!(path, PathBuf::from("weights.bin"));
                assert_eq!(source.raw_os_error(), Some(28));
            }
            other => panic!("{other}"),
        }
        for error in [
            Error::Absent(Absent::NoCompiler {
                why: "no loader".to_owned(),
            }),
            Error::Unsupported {
                model: "a".to_owned(),
                reason: "it has\n\"experts\"".to_owned(),
            },
            Error::Cancelled,
            Error::Library {
                library: "x 1".to_owned(),
                doing: "compiling".to_owned(),
                message: "ä\u{0}".to_owned(),
            },
        ] {
            let text = error.to_string();
            assert_eq!(through(error).to_string(), text);
        }
    }

    #[test]
    fn noise_is_no_message() {
        for line in [
            "",
            "troika-npu",
            "troika-npu {}",
            "{\"done\":{\"loss\":null}}",
            "[QNN] troika-npu {\"done\":{\"loss\":null}}",
        ] {
            assert!(Message::parse(line).is_none(), "{line}");
        }
        let progress = CompileProgress {
            phase: Phase::Compile,
            done: 0,
            total: 0,
        };
        let line = Message::Progress(progress).line();
        assert!(line.starts_with('\n') && line.ends_with('\n'));
        assert!(matches!(
            Message::parse(line.trim_start()),
            Some(Message::Progress(heard)) if heard == progress
        ));
    }
}
