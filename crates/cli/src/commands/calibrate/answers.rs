//! Answers that were given already, in a file beside the examples: a run that was broken off goes on where it was.
//!
//! One JSON object a line, each for a key that says what was asked of whom. A last line that is not whole is one that was
//! being written, and is asked again.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// An answer, and what it took.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Answered {
    /// What was asked of whom: [`key`].
    pub(super) key: String,
    /// How sure it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) score: Option<f64>,
    /// Why that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) why: Option<String>,
    /// The answer.
    pub(super) answer: String,
    /// Tokens of the prompt.
    pub(super) prompt_tokens: usize,
    /// Tokens of the answer.
    pub(super) completion_tokens: usize,
    /// Tokens of the reference, as the model counts them.
    pub(super) reference_tokens: usize,
    /// What the devices of this machine used for it, samples and verifier included, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) joules: Option<f64>,
    /// Seconds from the question to the whole answer.
    pub(super) seconds: f64,
    /// What a remote took for it, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) cost: Option<Decimal>,
}

/// The file.
#[derive(Debug)]
pub(super) struct Answers {
    path: PathBuf,
    file: File,
    known: BTreeMap<String, Answered>,
}

impl Answers {
    /// Opens the file that belongs to the examples; a new one if there is none, or an empty one if `fresh`.
    ///
    /// # Errors
    /// If it cannot be read or written.
    pub(super) fn open(examples: &Path, fresh: bool) -> anyhow::Result<Self> {
        let path = examples.with_extension("answers.jsonl");
        let context = || format!("cannot keep answers in {}", path.display());
        let options = || {
            OpenOptions::new()
                .read(true)
                .append(true)
                .create(true)
                .open(&path)
        };
        let mut file = options().with_context(context)?;
        let mut text = Vec::new();
        file.read_to_end(&mut text).with_context(context)?;
        if fresh {
            file.set_len(0).with_context(context)?;
            text.clear();
        }
        let (known, whole) = parse(&text);
        if whole < text.len() {
            file.set_len(whole as u64).with_context(context)?;
        }
        file.seek(SeekFrom::End(0)).with_context(context)?;
        Ok(Self { path, file, known })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// How many are known.
    pub(super) fn known(&self) -> usize {
        self.known.len()
    }

    /// The answer to a key.
    pub(super) fn get(&self, key: &str) -> Option<&Answered> {
        self.known.get(key)
    }

    /// Keeps an answer.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(super) fn keep(&mut self, answered: Answered) -> anyhow::Result<()> {
        let mut line = serde_json::to_vec(&answered).context("an answer is no JSON")?;
        line.push(b'\n');
        self.file
            .write_all(&line)
            .with_context(|| format!("cannot keep answers in {}", self.path.display()))?;
        self.known.insert(answered.key.clone(), answered);
        Ok(())
    }
}

/// The answers in a text, and how many bytes of it are whole lines. A line that is none of ours is passed over.
fn parse(text: &[u8]) -> (BTreeMap<String, Answered>, usize) {
    let whole = text
        .iter()
        .rposition(|&byte| byte == b'\n')
        .map_or(0, |at| at + 1);
    let lines = text[..whole].split(|&byte| byte == b'\n');
    let answers = lines.filter_map(|line| serde_json::from_slice::<Answered>(line).ok());
    let known = answers
        .map(|answered| (answered.key.clone(), answered))
        .collect();
    (known, whole)
}

/// Names what is asked of whom.
pub(super) fn key(asked: &Value) -> String {
    let digest = Sha256::digest(asked.to_string());
    digest.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answered(key: &str) -> Answered {
        Answered {
            key: key.to_owned(),
            score: Some(0.1 + 0.2),
            why: None,
            answer: "Paris\n".to_owned(),
            prompt_tokens: 3,
            completion_tokens: 1,
            reference_tokens: 1,
            joules: None,
            seconds: 0.5,
            cost: None,
        }
    }

    #[test]
    fn answers_outlive_a_run_that_was_broken_off() {
        let directory = tempfile::tempdir().expect("a directory");
        let examples = directory.path().join("jobs.jsonl");
        let mut answers = Answers::open(&examples, false).expect("opens");
        answers.keep(answered("a")).expect("is kept");
        answers.keep(answered("b")).expect("is kept");
        let path = answers.path().to_owned();
        drop(answers);
        // The power goes off in the middle of a line.
        let text = std::fs::read_to_string(&path).expect("is text");
        std::fs::write(&path, &text[..text.len() - 10]).expect("is written");
        let mut answers = Answers::open(&examples, false).expect("opens");
        assert_eq!(answers.get("a"), Some(&answered("a")));
        assert_eq!(answers.get("b"), None);
        answers.keep(answered("c")).expect("is kept");
        drop(answers);
        let answers = Answers::open(&examples, false).expect("opens");
        assert_eq!(
            (answers.known(), answers.get("c")),
            (2, Some(&answered("c")))
        );
        drop(answers);
        assert_eq!(Answers::open(&examples, true).expect("opens").known(), 0);
    }

    #[test]
    fn whatever_changes_the_answer_changes_the_key() {
        let asked = json!({"model": "m", "seed": 1});
        assert_eq!(key(&asked), key(&asked.clone()));
        assert_ne!(key(&asked), key(&json!({"model": "m", "seed": 2})));
        assert_eq!(key(&asked).len(), 64);
    }
}
