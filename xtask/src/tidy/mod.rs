//! `cargo xtask tidy`: the house rules that no compiler knows.
//!
//! Each rule is a plain function over the project's files in `rules.rs`; here they are read and the findings printed.

mod rules;

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};

use self::rules::RULES;

/// The project's files: what git tracks or would track.
struct Tree {
    /// In the order of their paths.
    files: Vec<File>,
}

struct File {
    /// From the workspace's root, with `/` on every platform.
    path: String,
    /// The contents, empty for a file that is not text.
    text: String,
}

/// A place where a rule is broken.
#[derive(PartialEq, Eq, Debug)]
struct Finding {
    path: String,
    /// From 1; 0 for the file as a whole.
    line: usize,
    message: String,
    /// A warning is shown and does not fail the check.
    warning: bool,
}

pub(crate) fn run() -> anyhow::Result<()> {
    let tree = Tree::read(&crate::workspace_root()?)?;
    let mut error_count = 0;
    for (name, rule) in RULES {
        for finding in rule(&tree) {
            let Finding {
                path,
                line,
                message,
                warning,
            } = finding;
            let kind = if warning { "warning" } else { "error" };
            eprintln!("{kind}[{name}]: {path}:{line}: {message}");
            error_count += usize::from(!warning);
        }
    }
    ensure!(error_count == 0, "tidy found {error_count} errors");
    println!("tidy: {} files, {} rules", tree.files.len(), RULES.len());
    Ok(())
}

impl Tree {
    fn read(root: &Path) -> anyhow::Result<Self> {
        let output = Command::new("git")
            .args([
                "ls-files",
                "-z",
                "--cached",
                "--others",
                "--exclude-standard",
            ])
            .current_dir(root)
            .output()
            .context("cannot run git, which knows the project's files")?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "git ls-files failed: {errors}");
        let paths = String::from_utf8(output.stdout).context("a path is not UTF-8")?;
        let mut files = Vec::new();
        for path in paths.split_terminator('\0') {
            // Deleted but not yet committed, or a link to elsewhere.
            let full = root.join(path);
            if !full.is_file() {
                continue;
            }
            let bytes = std::fs::read(&full).with_context(|| format!("cannot read {path}"))?;
            files.push(File {
                path: path.to_owned(),
                text: String::from_utf8(bytes).unwrap_or_default(),
            });
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        files.dedup_by(|a, b| a.path == b.path);
        Ok(Self { files })
    }

    fn get(&self, path: &str) -> Option<&File> {
        let index = self
            .files
            .binary_search_by(|file| file.path.as_str().cmp(path));
        index.ok().map(|index| &self.files[index])
    }

    /// Whether a file or a directory of this path belongs to the project.
    fn contains(&self, path: &str) -> bool {
        let inside = format!("{path}/");
        self.get(path).is_some() || self.files.iter().any(|file| file.path.starts_with(&inside))
    }

    /// The files with this ending, such as `.rs`.
    fn with_ending<'a>(&'a self, ending: &'a str) -> impl Iterator<Item = &'a File> {
        self.files
            .iter()
            .filter(move |file| file.path.ends_with(ending))
    }
}

impl File {
    /// The lines with their numbers from 1.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(i, line)| (i + 1, line))
    }

    fn error(&self, line: usize, message: impl Into<String>) -> Finding {
        Finding {
            path: self.path.clone(),
            line,
            message: message.into(),
            warning: false,
        }
    }
}
