//! The file of examples: one JSON object a line.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;
use serde_json::Value;
use troika_engine::chat::ChatMessage;
use troika_server::job::{ChatPrompt, Prompt};

/// Bytes of a line at most: more than any context holds.
const LINE_MAX: u64 = 16 << 20;

/// Lines at most whose faults are told; whoever has more has one fault in many lines.
const FAULTS_SHOWN: usize = 5;

/// A job, and what its answer should be.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Example {
    /// Where it stands, from 1.
    pub(super) line: usize,
    /// What the answer follows.
    pub(super) prompt: Prompt,
    /// What it should be, if the file says.
    pub(super) reference: Option<String>,
}

/// A line. Further fields are the owner's own.
#[derive(Deserialize)]
struct Line {
    messages: Option<Vec<ChatMessage>>,
    prompt: Option<String>,
    answer: Option<Value>,
}

/// Reads all examples.
///
/// # Errors
/// If the file cannot be read, or lines of it are no examples: which, and why.
pub(super) fn read(path: &Path) -> anyhow::Result<Vec<Example>> {
    let shown = path.display();
    let file = File::open(path).with_context(|| format!("cannot read the examples {shown}"))?;
    let mut reader = BufReader::new(file);
    let (mut examples, mut faults) = (Vec::new(), Vec::new());
    for line in 1.. {
        let mut bytes = Vec::new();
        let mut limited = reader.by_ref().take(LINE_MAX);
        let read = limited.read_until(b'\n', &mut bytes);
        let read = read.with_context(|| format!("cannot read the examples {shown}"))?;
        if read == 0 {
            break;
        }
        ensure!(
            bytes.len() < LINE_MAX as usize,
            "{shown}, line {line}: it is longer than {} MiB",
            LINE_MAX >> 20
        );
        if bytes.trim_ascii().is_empty() {
            continue;
        }
        match parse(&bytes) {
            Ok((prompt, reference)) => examples.push(Example {
                line,
                prompt,
                reference,
            }),
            Err(why) => faults.push(format!("line {line}: {why}")),
        }
    }
    if !faults.is_empty() {
        let more = match faults.len().saturating_sub(FAULTS_SHOWN) {
            0 => String::new(),
            more => format!("\nand {more} more lines"),
        };
        faults.truncate(FAULTS_SHOWN);
        bail!(
            "{shown} has lines that are no examples\n{}{more}",
            faults.join("\n")
        );
    }
    Ok(examples)
}

/// An example's prompt and reference, or what is wrong with the line. Never quotes the line.
fn parse(bytes: &[u8]) -> Result<(Prompt, Option<String>), String> {
    let line: Line = serde_json::from_slice(bytes).map_err(|error| {
        // The position is in a line of its own, so its first number says nothing.
        let what = error.to_string();
        let what = what.split(" at line ").next().unwrap_or_default();
        match error.column() {
            0 => what.to_owned(),
            column => format!("{what}, at character {column}"),
        }
    })?;
    let prompt = match (line.messages, line.prompt) {
        (Some(messages), None) => chat(messages)?,
        (None, Some(text)) if !text.is_empty() => Prompt::Text(text),
        (None, Some(_)) => return Err("`prompt` is empty".to_owned()),
        (Some(_), Some(_)) => return Err("it has both `messages` and `prompt`".to_owned()),
        (None, None) => return Err("it has neither `messages` nor `prompt`".to_owned()),
    };
    let reference = match line.answer {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) if text.trim().is_empty() => {
            return Err("`answer` is empty".to_owned());
        }
        Some(Value::String(text)) => Some(text),
        Some(value) => Some(value.to_string()),
    };
    Ok((prompt, reference))
}

fn chat(messages: Vec<ChatMessage>) -> Result<Prompt, String> {
    let Some(last) = messages.last() else {
        return Err("`messages` is empty".to_owned());
    };
    if last.role == "assistant" {
        return Err(
            "the last message is the assistant's; what it should say goes into `answer`".to_owned(),
        );
    }
    if messages
        .iter()
        .any(|message| message.content.as_text().is_none())
    {
        return Err("a message has parts that are not text".to_owned());
    }
    let chat = ChatPrompt {
        messages,
        ..ChatPrompt::default()
    };
    Ok(Prompt::Chat(Box::new(chat)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_lines_are_named_with_their_reason() {
        for (line, want) in [
            ("{\"messages\": [}", "expected value, at character 15"),
            ("{\"messages\": []}", "`messages` is empty"),
            (
                "{\"answer\": \"x\"}",
                "it has neither `messages` nor `prompt`",
            ),
            (
                "{\"prompt\": \"a\", \"messages\": []}",
                "it has both `messages` and `prompt`",
            ),
            ("{\"prompt\": \"\"}", "`prompt` is empty"),
            (
                "{\"prompt\": \"a\", \"answer\": \" \"}",
                "`answer` is empty",
            ),
            (
                "{\"messages\": [{\"content\": \"a\"}]}",
                "missing field `role`, at character 30",
            ),
            (
                "{\"messages\": [{\"role\": \"assistant\", \"content\": \"a\"}]}",
                "the last message is the assistant's; what it should say goes into `answer`",
            ),
        ] {
            assert_eq!(parse(line.as_bytes()), Err(want.to_owned()), "{line}");
        }
        assert!(parse(b"\xff").is_err());
    }

    #[test]
    fn references_are_text_or_json() {
        for (answer, want) in [
            ("\"Paris\"", Some("Paris")),
            ("42", Some("42")),
            ("{\"a\": [1]}", Some("{\"a\":[1]}")),
            ("null", None),
        ] {
            let line = format!("{{\"prompt\": \"a\", \"answer\": {answer}, \"id\": 7}}");
            let (_, reference) = parse(line.as_bytes()).expect("is an example");
            assert_eq!(reference.as_deref(), want);
        }
    }

    #[test]
    fn a_file_tells_of_its_first_broken_lines() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("jobs.jsonl");
        let good = "{\"prompt\": \"a\", \"answer\": \"b\"}\n";
        std::fs::write(&path, format!("{good}\n{good}")).expect("is written");
        let lines: Vec<_> = read(&path)
            .expect("is sound")
            .iter()
            .map(|e| e.line)
            .collect();
        assert_eq!(lines, [1, 3]);
        std::fs::write(&path, format!("{good}{}", "nonsense\n".repeat(7))).expect("is written");
        let error = read(&path).expect_err("is broken").to_string();
        assert!(
            error.contains("\nline 2: expected ident") && error.ends_with("and 2 more lines"),
            "{error}"
        );
    }
}
