//! What the command line asks for: which model, and which prompt.

use std::io::Read;
use std::path::Path;

use anyhow::{Context as _, ensure};
use troika_library as library;

use crate::exit::WrongUse;
use crate::home::Home;
use crate::model::{self, Found, Source};

/// A prompt longer than this is a mistake: no context holds it.
const PROMPT_BYTES_MAX: u64 = 64 << 20;

/// The words and flags that matter here.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Words<'a> {
    pub(super) model: Option<&'a str>,
    pub(super) first: Option<&'a str>,
    pub(super) second: Option<&'a str>,
    pub(super) file: Option<&'a Path>,
}

/// A model and what to do with it.
#[derive(Debug, PartialEq)]
pub(super) struct Request {
    pub(super) source: Source,
    pub(super) task: Task,
    /// A word that could have been meant as a model's name.
    pub(super) taken_as_prompt: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Task {
    /// One answer to this prompt.
    Answer(String),
    Chat,
}

impl Request {
    /// Sorts the words out and reads what is to be read.
    ///
    /// # Errors
    /// If there is no such model, or the prompt cannot be read, or there is none.
    pub(super) fn new(
        words: &Words<'_>,
        home: &Home,
        stdin_is_terminal: bool,
        stdin: &mut dyn Read,
    ) -> anyhow::Result<Self> {
        let (source, prompt) = words.sort(home)?;
        let lone = words.model.is_none() && words.second.is_none();
        let taken_as_prompt = prompt
            .filter(|&word| lone && word != "-" && !word.contains(char::is_whitespace))
            .map(str::to_owned);
        let from_stdin = [prompt, words.file.and_then(Path::to_str)]
            .iter()
            .filter(|word| **word == Some("-"))
            .count();
        if from_stdin > 1 {
            return Err(WrongUse("stdin cannot be both the prompt and the file".to_owned()).into());
        }
        let mut parts = Vec::new();
        match prompt {
            Some("-") => parts.push(read(stdin, "stdin")?),
            Some(prompt) => parts.push(prompt.to_owned()),
            None => {}
        }
        match words.file {
            Some(path) if path == Path::new("-") => parts.push(read(stdin, "stdin")?),
            Some(path) => {
                let name = path.display().to_string();
                let mut file =
                    std::fs::File::open(path).with_context(|| format!("cannot read {name}"))?;
                parts.push(read(&mut file, &name)?);
            }
            None => {}
        }
        let task = match &*parts {
            [] if stdin_is_terminal => Task::Chat,
            [] => {
                let prompt = read(stdin, "stdin")?;
                if prompt.is_empty() {
                    return Err(WrongUse(
                        "there is no prompt: none is given, and stdin is empty".to_owned(),
                    )
                    .into());
                }
                Task::Answer(prompt)
            }
            parts => Task::Answer(parts.join("\n\n")),
        };
        Ok(Self {
            source,
            task,
            taken_as_prompt,
        })
    }
}

impl<'a> Words<'a> {
    /// Which word is the model and which the prompt.
    fn sort(&self, home: &Home) -> anyhow::Result<(Source, Option<&'a str>)> {
        match (self.model, self.first, self.second) {
            (Some(_), Some(_), Some(_)) => Err(WrongUse(
                "--model names the model, so there is one word left to give, the prompt: put it in quotes".to_owned(),
            )
            .into()),
            (Some(name), prompt, None) => Ok((model::need(name, home)?, prompt)),
            (None, Some(name), Some(prompt)) => match model::need(name, home) {
                Ok(source) => Ok((source, Some(prompt))),
                Err(error) if name.contains(char::is_whitespace) => Err(error
                    .context("of two words the first is the model; put all of a prompt in quotes")),
                Err(error) => Err(error),
            },
            (None, Some(word), None) => match model::find(word, home) {
                Found::Model(source) => Ok((source, None)),
                Found::NoSuchFile => Err(model::no_such_file(word)),
                Found::Other(library::Error::NotFound { .. }) => Ok((Source::BuiltIn, Some(word))),
                Found::Other(error) => Err(error.into()),
            },
            (_, None, _) => Ok((Source::BuiltIn, None)),
        }
    }
}

/// Reads a text to its end, less one line break there, which editors and `echo` add.
fn read(from: &mut dyn Read, name: &str) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    from.take(PROMPT_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .with_context(|| format!("cannot read {name}"))?;
    ensure!(
        bytes.len() as u64 <= PROMPT_BYTES_MAX,
        "{name} is longer than {} MiB, and no context holds that",
        PROMPT_BYTES_MAX >> 20
    );
    let mut text = String::from_utf8(bytes)
        .map_err(|error| error.utf8_error())
        .with_context(|| format!("{name} is not UTF-8 text"))?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(words: Words<'_>, stdin: &[u8]) -> anyhow::Result<Request> {
        let nowhere = Home::at(Path::new("no-such-directory"));
        Request::new(&words, &nowhere, false, &mut &*stdin)
    }

    fn answer(words: Words<'_>, stdin: &[u8]) -> String {
        match request(words, stdin).expect("is well formed").task {
            Task::Answer(prompt) => prompt,
            Task::Chat => panic!("asked for a chat"),
        }
    }

    #[test]
    fn prompts_come_from_words_stdin_and_files() {
        let first = |first| Words {
            first: Some(first),
            ..Words::default()
        };
        let dash = Some(Path::new("-"));
        assert_eq!(
            answer(first("Once upon a time"), b"unread"),
            "Once upon a time"
        );
        assert_eq!(answer(first("-"), b"from stdin\n"), "from stdin");
        assert_eq!(answer(Words::default(), b"piped\r\n"), "piped");
        assert_eq!(
            answer(
                Words {
                    file: dash,
                    ..first("Sum up:")
                },
                b"text\n\n"
            ),
            "Sum up:\n\ntext\n"
        );
        let both = Words {
            model: Some("stories"),
            ..first("Hi")
        };
        assert_eq!(answer(both, b""), "Hi");
        let both = Words {
            second: Some("Hi"),
            ..first("stories")
        };
        assert_eq!(answer(both, b""), "Hi");
    }

    #[test]
    fn a_lone_word_is_noticed() {
        let lone = |word| {
            let words = Words {
                first: Some(word),
                ..Words::default()
            };
            request(words, b"x")
                .expect("is well formed")
                .taken_as_prompt
        };
        assert_eq!(lone("llama3").as_deref(), Some("llama3"));
        for word in ["Once upon", "-", "stories"] {
            assert_eq!(lone(word), None, "{word}");
        }
    }

    #[test]
    fn mistakes_are_told() {
        let words = |model, first, second| Words {
            model,
            first,
            second,
            file: None,
        };
        let dashes = Words {
            file: Some(Path::new("-")),
            ..words(None, Some("-"), None)
        };
        for (words, stdin, is_wrong_use) in [
            (words(None, None, None), &b""[..], true),
            (words(None, None, None), b"\xff", false),
            (words(Some("stories"), Some("a"), Some("b")), b"", true),
            (words(None, Some("nope"), Some("prompt")), b"", false),
            (words(None, Some("nope.gguf"), None), b"", false),
            (words(Some("nope"), None, None), b"", false),
            (dashes, b"x", true),
        ] {
            let error = request(words, stdin).expect_err("is a mistake");
            assert_eq!(error.is::<WrongUse>(), is_wrong_use, "{words:?}: {error}");
        }
    }
}
