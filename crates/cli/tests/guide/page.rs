//! A page of the guide: its fenced blocks, the comments above them, and what there is to type.
//!
//! | comment above a block | |
//! |---|---|
//! | `<!-- not run: REASON -->` | the test passes over the block |
//! | `<!-- run once there is: troika VERB -->` | it does so while the program has no such verb |
//! | `<!-- may fail: REASON -->` | a command may end with another code than 0 |
//! | `<!-- varies: numbers, "a text" -->` | numbers and their units, and these texts, may be others |
//! | `<!-- file: NAME -->` | the reader is told to save the block under this name, and so does the test |
//!
//! In output, a line with nothing but `…` stands for any lines, and `…` within a line for any text.

use std::ops::Range;
use std::path::Path;

use crate::words;

/// What the test is told about a block.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Mark {
    /// Not to be run, and why.
    NotRun(String),
    /// To be run where the program has this verb.
    OnceThereIs(String),
    /// That a command may fail where the test runs.
    MayFail,
    /// What may be different each time: `None` for numbers, or a text.
    Varies(Vec<Option<String>>),
    /// What is to be saved, and under which name.
    File(String),
}

/// A fenced block.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    /// The line of its fence, counted from 1.
    pub(crate) line: usize,
    /// What is said above it.
    pub(crate) marks: Vec<Mark>,
    language: String,
    body: Vec<String>,
}

/// One command, and what comes of it.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    /// The line of the command, counted from 1.
    pub(crate) line: usize,
    /// What is typed; several lines where a quote is open or a backslash ends one.
    pub(crate) command: String,
    /// What the page shows below it.
    pub(crate) expected: String,
    /// The lines of that, counted from 0.
    pub(crate) output: Range<usize>,
}

/// A page, line by line.
#[derive(Debug)]
pub(crate) struct Page {
    lines: Vec<String>,
}

impl Page {
    /// The page in a file.
    ///
    /// # Panics
    /// If there is none.
    pub(crate) fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path);
        Self::of(&text.unwrap_or_else(|error| panic!("{}: {error}", path.display())))
    }

    fn of(text: &str) -> Self {
        Self {
            lines: text.lines().map(str::to_owned).collect(),
        }
    }

    /// Its blocks, in order.
    ///
    /// # Panics
    /// If a fence does not end, or a comment above a block that is run says something unknown.
    pub(crate) fn blocks(&self) -> Vec<Block> {
        let mut blocks = Vec::new();
        let mut comments: Vec<&str> = Vec::new();
        let mut at = 0;
        while at < self.lines.len() {
            let line = self.lines[at].trim();
            if let Some(language) = line.strip_prefix("```") {
                let body: Vec<_> = self.lines[at + 1..]
                    .iter()
                    .take_while(|line| line.trim() != "```")
                    .cloned()
                    .collect();
                let end = at + 1 + body.len();
                assert!(
                    end < self.lines.len(),
                    "the block at line {} does not end",
                    at + 1
                );
                blocks.push(Block {
                    line: at + 1,
                    marks: comments.drain(..).map(|said| mark(said, at + 1)).collect(),
                    language: language.to_owned(),
                    body,
                });
                at = end;
            } else if line.starts_with("<!--") && line.ends_with("-->") {
                comments.push(line);
            } else if !line.is_empty() {
                comments.clear();
            }
            at += 1;
        }
        blocks
    }

    /// Puts other lines in the place of these.
    pub(crate) fn replace(&mut self, lines: &Range<usize>, text: &str) {
        let text = text
            .trim_end()
            .lines()
            .map(|line| line.trim_end().to_owned());
        self.lines.splice(lines.clone(), text);
    }

    /// Writes the page where it was.
    ///
    /// # Panics
    /// If that fails.
    pub(crate) fn write(&self, path: &Path) {
        std::fs::write(path, self.lines.join("\n") + "\n").expect("the page is written");
    }
}

impl Block {
    /// Whether it shows what a command answers, or commands alone.
    pub(crate) fn has_output(&self) -> bool {
        self.language == "console"
    }

    /// What may differ in its output.
    pub(crate) fn varies(&self) -> &[Option<String>] {
        let varies = self.marks.iter().find_map(|mark| match mark {
            Mark::Varies(what) => Some(&what[..]),
            _ => None,
        });
        varies.unwrap_or_default()
    }

    /// What may differ and does not stand in it; then nobody would know any more what that mark was for.
    pub(crate) fn idle(&self) -> Option<&str> {
        let all = self.text();
        let is_there = |text: &&String| text.split('…').all(|part| all.contains(part));
        let texts = self.varies().iter().flatten();
        texts
            .filter(|text| !is_there(text))
            .map(String::as_str)
            .next()
    }

    /// The name under which it is to be saved.
    pub(crate) fn file(&self) -> Option<&str> {
        self.marks.iter().find_map(|mark| match mark {
            Mark::File(name) => Some(&name[..]),
            _ => None,
        })
    }

    /// What stands in it.
    pub(crate) fn text(&self) -> String {
        self.body.join("\n") + "\n"
    }

    /// What there is to type in it, in order.
    ///
    /// # Panics
    /// If a console does not begin with a command, or nobody knows whether there is something to type.
    pub(crate) fn steps(&self) -> Vec<Step> {
        match &self.language[..] {
            "console" => self.session(),
            "sh" | "bash" | "shell" => self.script(),
            "json" | "toml" | "text" if !self.body.iter().any(|line| line.starts_with("$ ")) => {
                Vec::new()
            }
            other => panic!(
                "a block of {other:?} at line {}: is it to be run?",
                self.line
            ),
        }
    }

    /// Commands after `$ `, each with its output.
    fn session(&self) -> Vec<Step> {
        let is_command = |line: &str| line.starts_with("$ ");
        let mut steps = Vec::new();
        let mut at = 0;
        while at < self.body.len() {
            let first = self.body[at].strip_prefix("$ ");
            let first =
                first.unwrap_or_else(|| panic!("no command at line {}", self.line + 1 + at));
            let (command, taken) = words::whole_command(first, &self.body[at + 1..]);
            let begin = at + 1 + taken;
            let shown = self.body[begin..]
                .iter()
                .take_while(|line| !is_command(line));
            let shown: Vec<_> = shown.map(String::as_str).collect();
            steps.push(Step {
                line: self.line + 1 + at,
                command,
                expected: shown.join("\n"),
                output: self.line + begin..self.line + begin + shown.len(),
            });
            at = begin + shown.len();
        }
        steps
    }

    /// Commands alone, one after the other.
    fn script(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut at = 0;
        while at < self.body.len() {
            let (command, taken) = words::whole_command(&self.body[at], &self.body[at + 1..]);
            let line = self.line + 1 + at;
            at += 1 + taken;
            if command.trim().is_empty() || command.trim_start().starts_with('#') {
                continue;
            }
            steps.push(Step {
                line,
                command,
                expected: String::new(),
                output: 0..0,
            });
        }
        steps
    }
}

/// What a comment says.
fn mark(comment: &str, line: usize) -> Mark {
    let said = comment
        .trim_start_matches("<!--")
        .trim_end_matches("-->")
        .trim();
    let (key, value) = said.split_once(": ").unwrap_or((said, ""));
    let value = value.trim().to_owned();
    match key {
        "not run" if !value.is_empty() => Mark::NotRun(value),
        "run once there is" if value.starts_with("troika ") => Mark::OnceThereIs(value),
        "may fail" if !value.is_empty() => Mark::MayFail,
        "file" if !value.is_empty() => Mark::File(value),
        "varies" if !value.is_empty() => Mark::Varies(varying(&value)),
        _ => panic!("nobody knows what {comment} means, above line {line}"),
    }
}

/// `numbers` and quoted texts.
fn varying(list: &str) -> Vec<Option<String>> {
    let mut what = Vec::new();
    for (index, part) in list.split('"').enumerate() {
        if index % 2 == 1 {
            what.push(Some(part.to_owned()));
        } else if part.contains("numbers") {
            what.push(None);
        } else {
            assert!(
                part.trim_matches([',', ' ']).is_empty(),
                "what is {part:?} in `varies`?"
            );
        }
    }
    what
}

#[test]
fn blocks_are_found_with_their_marks() {
    let page = Page::of(
        "Text.\n\n<!-- varies: numbers, \"a, b\" -->\n```console\n$ troika show \\\n  x\n7\n8\n$ true\n```\n\
         <!-- not run: lost -->\nText between.\n```sh\n# first\necho 'a\nb'\n\nls\n```\n",
    );
    let blocks = page.blocks();
    assert_eq!(blocks.len(), 2);
    assert_eq!(blocks[0].varies(), [None, Some("a, b".to_owned())]);
    let steps = blocks[0].steps();
    assert_eq!(steps[0].command, "troika show \\\n  x");
    assert_eq!(
        (&steps[0].expected[..], &steps[0].output),
        ("7\n8", &(6..8))
    );
    assert_eq!(
        (&steps[1].command[..], &steps[1].expected[..]),
        ("true", "")
    );
    assert_eq!(blocks[1].marks, [], "it stands above text");
    let typed: Vec<_> = blocks[1]
        .steps()
        .into_iter()
        .map(|step| step.command)
        .collect();
    assert_eq!(typed, ["echo 'a\nb'", "ls"]);
}

#[test]
#[should_panic(expected = "nobody knows")]
fn a_comment_with_a_slip_is_not_passed_over() {
    let _ = Page::of("<!-- notrun: x -->\n```sh\nls\n```\n").blocks();
}

#[test]
fn output_is_replaced_where_it_stands() {
    let mut page = Page::of("```console\n$ a\nold\n$ b\nkept\n```");
    let steps = page.blocks()[0].steps();
    page.replace(&steps[0].output, "new\nnewer\n");
    assert_eq!(
        page.lines,
        ["```console", "$ a", "new", "newer", "$ b", "kept", "```"]
    );
}
