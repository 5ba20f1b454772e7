//! What any page of the guide has somebody type: does the program know these verbs and flags?
//!
//! Nothing is done by these commands: each is parsed with `--help` at its end, before which an unknown word is an error.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::words;

/// A command of a page.
#[derive(Debug)]
pub(crate) struct Typed {
    /// File and line.
    place: String,
    /// The words after `troika`.
    words: Vec<String>,
    /// Whether it stands in a block, whole, or may be a mention: `troika serve --record`.
    is_whole: bool,
}

/// What is typed in a file: in blocks of a terminal, and in code within the text.
///
/// # Panics
/// If the file cannot be read.
pub(crate) fn commands(file: &Path) -> Vec<Typed> {
    let text = std::fs::read_to_string(file).expect("the page is there");
    let lines: Vec<_> = text.lines().map(str::to_owned).collect();
    let name = file.file_name().expect("has a name").to_string_lossy();
    let mut typed = Vec::new();
    let mut language = None;
    let mut at = 0;
    while at < lines.len() {
        let line = &lines[at];
        let place = format!("{name}:{}", at + 1);
        at += 1;
        if let Some(fence) = line.trim_start().strip_prefix("```") {
            language = match language {
                None => Some(fence.trim().to_owned()),
                Some(_) => None,
            };
            continue;
        }
        let command = match language.as_deref() {
            None => {
                // Between back quotes, every other part is code.
                let code = line.split('`').skip(1).step_by(2);
                typed.extend(code.flat_map(|code| of_troika(code, &place, false)));
                continue;
            }
            Some("sh" | "bash") => line,
            Some("console" | "text") => match line.strip_prefix("$ ") {
                Some(command) => command,
                None => continue,
            },
            Some(_) => continue,
        };
        let (command, taken) = words::whole_command(command, &lines[at..]);
        at += taken;
        typed.append(&mut of_troika(&command, &place, true));
    }
    typed
}

/// The commands in a line that are the program's.
fn of_troika(line: &str, place: &str, is_whole: bool) -> Vec<Typed> {
    let mut typed = Vec::new();
    for words in words::commands(line) {
        let is_before = |word: &&String| word.contains('=') || matches!(&word[..], "sudo" | "exec");
        let before = words.iter().take_while(is_before).count();
        let words = &words[before..];
        let cargo = ["cargo", "run", "--release", "--"];
        let words = match words {
            [first, rest @ ..] if first == "troika" => rest,
            [first, ..] if first == "cargo" && words.len() > 4 && words[..4] == cargo => {
                &words[4..]
            }
            _ => continue,
        };
        typed.push(Typed {
            place: place.to_owned(),
            words: words.to_vec(),
            is_whole,
        });
    }
    typed
}

/// The verbs of which a page says that the program may not have them yet.
///
/// # Panics
/// If the file cannot be read.
pub(crate) fn expected_verbs(file: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(file).expect("the page is there");
    let marks = text
        .lines()
        .filter_map(|line| line.strip_prefix("<!-- run once there is: troika "));
    let verbs = marks.filter_map(|rest| rest.split_whitespace().next());
    verbs.map(str::to_owned).collect()
}

/// What is wrong with them, place by place. Nothing is, as long as the program has no such verb, with those that are
/// `expected`.
pub(crate) fn mistakes(typed: &[Typed], expected: &[String]) -> Vec<String> {
    let is_missing = |verb: &&String| mistake(&[(*verb).clone()], true).is_some();
    let missing: Vec<_> = expected.iter().filter(is_missing).collect();
    let mut once: BTreeMap<(&[String], bool), Vec<&str>> = BTreeMap::new();
    for typed in typed {
        if typed
            .words
            .first()
            .is_none_or(|verb| !missing.contains(&verb))
        {
            let places = once.entry((&typed.words, typed.is_whole)).or_default();
            places.push(&typed.place);
        }
    }
    let once: Vec<_> = once.into_iter().collect();
    std::thread::scope(|scope| {
        let threads: Vec<_> = once
            .chunks(once.len().div_ceil(4).max(1))
            .map(|part| scope.spawn(move || part.iter().filter_map(told).collect::<Vec<_>>()))
            .collect();
        let found = threads
            .into_iter()
            .map(|thread| thread.join().expect("ends"));
        found.flatten().collect()
    })
}

fn told(((words, is_whole), places): &((&[String], bool), Vec<&str>)) -> Option<String> {
    let said = mistake(words, *is_whole)?;
    Some(format!(
        "{}: troika {}: {said}",
        places.join(", "),
        words.join(" ")
    ))
}

/// What the program says to these words, if it does not take them.
fn mistake(words: &[String], is_whole: bool) -> Option<String> {
    let help = match words.first().map(String::as_str) {
        Some("help") => None,
        _ => Some("--help"),
    };
    let output = Command::new(env!("CARGO_BIN_EXE_troika"))
        .args(words)
        .args(help)
        .env("TROIKA_HOME", "no-such-home")
        .env("TROIKA_OFFLINE", "true")
        .env("TROIKA_GPU", "off")
        .stdin(Stdio::null())
        .output()
        .expect("the program starts");
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().next().unwrap_or_default();
    let is_mention = !is_whole && said.contains("a value is required");
    (!output.status.success() && !is_mention).then(|| said.to_owned())
}
