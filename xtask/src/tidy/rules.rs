//! The rules. Each looks at the whole tree and returns what breaks it; exceptions are listed with their reason.

use super::{File, Finding, Tree};

type Rule = fn(&Tree) -> Vec<Finding>;

/// All rules with the names that findings carry.
pub(super) const RULES: &[(&str, Rule)] = &[
    ("header", header),
    ("length", length),
    ("leftover", leftover),
    ("room", room),
    ("unsafe", forbids_unsafe),
    ("lints", inherits_lints),
    ("place", place),
    ("link", link),
    ("adr", adr),
    ("changelog", changelog),
];

/// A file longer than this is an error.
const LINES_MAX: usize = 700;
/// A file longer than this is worth a look for its seam.
const LINES_BUDGET: usize = 600;

/// Files that may be longer, and why.
const LONG_FILES: &[(&str, &str)] = &[];

/// This file, which names what it looks for.
const SELF: &str = "xtask/src/tidy/rules.rs";

/// Crates that may hold `unsafe`, and why.
const UNSAFE_CRATES: &[(&str, &str)] = &[
    ("crates/kernels", "the only home of SIMD and AMX"),
    (
        "crates/device-npu",
        "calls OpenVINO's C library, in one folder that allows it",
    ),
    (
        "crates/device-gpu",
        "runs kernels without checks of indices, and asks Vulkan for its budget",
    ),
];

fn excepted(list: &[(&str, &str)], path: &str) -> bool {
    list.iter().any(|(excepted, _)| path.starts_with(excepted))
}

/// Every source file says what it is.
fn header(tree: &Tree) -> Vec<Finding> {
    tree.with_ending(".rs")
        .filter(|file| !file.path.contains("/fixtures/"))
        .filter(|file| !file.text.starts_with("//!"))
        .map(|file| {
            file.error(
                1,
                "opens without `//!` that says what it is and what it is not",
            )
        })
        .collect()
}

/// No file grows beyond what fits a head.
fn length(tree: &Tree) -> Vec<Finding> {
    tree.with_ending(".rs")
        .filter(|file| !excepted(LONG_FILES, &file.path))
        .filter_map(|file| {
            let count = file.text.lines().count();
            let long = count > LINES_BUDGET;
            long.then(|| Finding {
                warning: count <= LINES_MAX,
                ..file.error(
                    count,
                    format!("{count} lines, at most {LINES_MAX}; look for the seam"),
                )
            })
        })
        .collect()
}

/// What is left to do stands in an issue.
fn leftover(tree: &Tree) -> Vec<Finding> {
    const WORDS: [&str; 3] = ["TODO", "FIXME", "XXX:"];
    const SOURCES: [&str; 5] = [".rs", ".py", ".sh", ".toml", ".yml"];
    let is_source = |file: &&File| {
        SOURCES.iter().any(|ending| file.path.ends_with(ending)) && file.path != SELF
    };
    let mut findings = Vec::new();
    for file in tree.files.iter().filter(is_source) {
        for (number, line) in file.lines() {
            if let Some(word) = WORDS.iter().find(|word| line.contains(**word)) {
                findings
                    .push(file.error(number, format!("a bare {word}: do it, or open an issue")));
            }
        }
    }
    findings
}

/// Code that depends on the instruction set lives in `crates/kernels`.
fn room(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let outside = |file: &&File| !file.path.starts_with("crates/kernels/") && file.path != SELF;
    for file in tree.with_ending(".rs").filter(outside) {
        for (number, line) in file.lines() {
            if line.contains("target_arch") || line.contains("target_feature") {
                findings.push(file.error(
                    number,
                    "asks for the instruction set outside crates/kernels",
                ));
            }
        }
    }
    findings
}

/// The compiler refuses `unsafe` everywhere but in the crates listed.
fn forbids_unsafe(tree: &Tree) -> Vec<Finding> {
    tree.files
        .iter()
        .filter(|file| file.path.ends_with("/src/lib.rs") || file.path.ends_with("/src/main.rs"))
        .filter(|file| !excepted(UNSAFE_CRATES, &file.path))
        .filter(|file| !file.text.contains("#![forbid(unsafe_code)]"))
        .map(|file| file.error(1, "lacks `#![forbid(unsafe_code)]`"))
        .collect()
}

/// Every crate takes the workspace's lints.
fn inherits_lints(tree: &Tree) -> Vec<Finding> {
    tree.with_ending("/Cargo.toml")
        // A fuzz crate is a workspace of its own, as cargo-fuzz wants it.
        .filter(|file| !file.path.ends_with("/fuzz/Cargo.toml"))
        .filter(|file| !file.text.contains("[lints]\nworkspace = true"))
        .map(|file| file.error(0, "lacks `[lints]` with `workspace = true`"))
        .collect()
}

/// No path of one person's machine and no address of a registry stands in the project.
fn place(tree: &Tree) -> Vec<Finding> {
    const ROOTS: [&str; 6] = ["work", "tmp", "home", "root", "farm", "Users"];
    const REGISTRIES: [&str; 4] = ["crates", "npm", "debian", "pypi"];
    let mut findings = Vec::new();
    let names_none = |file: &&File| file.path != "Cargo.lock" && file.path != SELF;
    for file in tree.files.iter().filter(names_none) {
        for (number, line) in file.lines() {
            let machine = ROOTS.iter().any(|root| has_absolute_path(line, root));
            if machine {
                findings.push(file.error(number, "a path of one machine"));
            }
            let host = line.split_once("://").map_or("", |(_, rest)| rest);
            let host = host.split(['/', ' ', '"']).next().unwrap_or_default();
            if REGISTRIES.iter().any(|registry| host.contains(registry)) {
                findings.push(file.error(number, "the address of a package registry"));
            }
        }
    }
    findings
}

/// Whether the line has `/root/...` that does not go on from something before it.
fn has_absolute_path(line: &str, root: &str) -> bool {
    line.match_indices(&format!("/{root}/")).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| {
            c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '/' | '*' | '~' | '}' | '>' | ')')
        })
    })
}

/// Every relative link in the documents, and every document that the code refers to, is there.
fn link(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.with_ending(".md") {
        for (number, line) in file.lines() {
            for target in markdown_links(line) {
                let target = target.split('#').next().unwrap_or_default();
                if target.is_empty() || target.contains(':') {
                    continue;
                }
                if resolve(&file.path, target).is_none_or(|path| !tree.contains(&path)) {
                    findings.push(file.error(
                        number,
                        format!("links to `{target}`, which is not in the project"),
                    ));
                }
            }
        }
    }
    for file in tree.with_ending(".rs").filter(|file| file.path != SELF) {
        for (number, line) in file.lines() {
            for path in document_paths(line) {
                if !tree.contains(path) {
                    findings.push(file.error(
                        number,
                        format!("refers to `{path}`, which is not in the project"),
                    ));
                }
            }
        }
    }
    findings
}

/// The targets of `[text](target)` in a line.
fn markdown_links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](")
        .skip(1)
        .filter_map(|rest| rest.split([')', ' ']).next())
}

/// The paths `docs/….md` in a line of code.
fn document_paths(line: &str) -> impl Iterator<Item = &str> {
    line.match_indices("docs/").filter_map(|(start, _)| {
        let rest = &line[start..];
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "/_-.".contains(c)));
        let path = rest[..end.unwrap_or(rest.len())].trim_end_matches('.');
        path.ends_with(".md").then_some(path)
    })
}

/// The path from the root that a link in `from` leads to; `None` when it leaves the project.
fn resolve(from: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            _ => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// Each decision has a number of its own.
fn adr(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut taken = std::collections::BTreeMap::new();
    for file in tree.with_ending(".md") {
        let Some(name) = file.path.strip_prefix("docs/adr/") else {
            continue;
        };
        let number = name.split('-').next().unwrap_or_default();
        if number.len() != 4 || number.parse::<u16>().is_err() {
            findings.push(file.error(0, "is not named `NNNN-words.md`"));
        } else if let Some(other) = taken.insert(number, &file.path) {
            findings.push(file.error(0, format!("has the number of {other}")));
        }
    }
    findings
}

/// The changelog speaks of the version that the workspace has.
fn changelog(tree: &Tree) -> Vec<Finding> {
    let version = tree.get("Cargo.toml").and_then(|manifest| {
        let line = manifest
            .text
            .lines()
            .find_map(|line| line.strip_prefix("version = \""))?;
        line.strip_suffix('"')
    });
    let (Some(version), Some(changelog)) = (version, tree.get("CHANGELOG.md")) else {
        return vec![Finding {
            path: "CHANGELOG.md".to_owned(),
            line: 0,
            message: "is missing, or Cargo.toml has no version".to_owned(),
            warning: false,
        }];
    };
    if changelog.text.contains(&format!("## [{version}]")) {
        return Vec::new();
    }
    vec![changelog.error(1, format!("does not mention version {version}"))]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree of one file, or of several.
    fn tree(files: &[(&str, &str)]) -> Tree {
        let mut files: Vec<File> = files
            .iter()
            .map(|&(path, text)| File {
                path: path.to_owned(),
                text: text.to_owned(),
            })
            .collect();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Tree { files }
    }

    /// The lines of errors that a rule finds in one file.
    #[track_caller]
    fn check(rule: Rule, path: &str, text: &str, lines: &[usize]) {
        let findings = rule(&tree(&[(path, text)]));
        let found: Vec<usize> = findings.iter().map(|finding| finding.line).collect();
        assert_eq!(found, lines, "{findings:?}");
    }

    #[test]
    fn files_open_with_what_they_are() {
        check(header, "crates/a/src/b.rs", "//! B.\nfn b() {}\n", &[]);
        check(header, "crates/a/src/b.rs", "use x;\n//! late\n", &[1]);
        check(header, "crates/a/tests/fixtures/b.rs", "fn b() {}\n", &[]);
    }

    #[test]
    fn long_files_warn_before_they_fail() {
        for (count, expect) in [
            (600, None),
            (601, Some(true)),
            (700, Some(true)),
            (701, Some(false)),
        ] {
            let findings = length(&tree(&[("a.rs", &"x\n".repeat(count))]));
            assert_eq!(findings.first().map(|f| f.warning), expect, "{count} lines");
        }
    }

    #[test]
    fn leftovers_are_found() {
        let text = format!("ok\n// {}: later\n", "TODO");
        check(leftover, "a.rs", &text, &[2]);
        check(leftover, "a.md", &text, &[]);
    }

    #[test]
    fn instruction_sets_stay_in_their_room() {
        let text = "//! A.\n#[cfg(target_arch = \"x86_64\")]\n";
        check(room, "crates/engine/src/a.rs", text, &[2]);
        check(room, "crates/kernels/src/a.rs", text, &[]);
    }

    #[test]
    fn crates_forbid_unsafe_and_take_the_lints() {
        check(forbids_unsafe, "crates/a/src/lib.rs", "//! A.\n", &[1]);
        check(forbids_unsafe, "crates/kernels/src/lib.rs", "//! A.\n", &[]);
        check(inherits_lints, "crates/a/Cargo.toml", "[package]\n", &[0]);
        check(
            inherits_lints,
            "crates/a/Cargo.toml",
            "[lints]\nworkspace = true\n",
            &[],
        );
    }

    #[test]
    fn machines_and_registries_are_not_named() {
        let path = |root: &str| format!("see /{root}/x");
        check(place, "a.md", &path("tmp"), &[1]);
        check(place, "a.md", &format!("(/{}/me)", "home"), &[1]);
        check(place, "a.md", "target/tmp/x bench/work/y ../work/", &[]);
        check(
            place,
            "a.toml",
            &format!("url = \"https://index.{}.io/\"", "crates"),
            &[1],
        );
        check(place, "a.md", "https://example.org/crates", &[]);
    }

    #[test]
    fn links_lead_somewhere() {
        let tree = |text: &str| {
            let files = [
                ("docs/a.md", text),
                ("docs/adr/0001-b.md", ""),
                ("README.md", ""),
            ];
            link(&self::tree(&files)).len()
        };
        assert_eq!(
            tree("[b](adr/0001-b.md) [r](../README.md#x) [d](adr) [w](https://example.org)"),
            0
        );
        assert_eq!(tree("[b](b.md)"), 1);
        assert_eq!(tree("[b](../../README.md)"), 1);
        check(link, "a.rs", "//! See docs/none.md.\n", &[1]);
    }

    #[test]
    fn decisions_have_numbers_of_their_own() {
        let files = [
            ("docs/adr/0001-a.md", ""),
            ("docs/adr/0001-b.md", ""),
            ("docs/adr/c.md", ""),
        ];
        assert_eq!(adr(&tree(&files)).len(), 2);
    }

    #[test]
    fn the_changelog_keeps_up() {
        let manifest = ("Cargo.toml", "[workspace.package]\nversion = \"0.2.0\"\n");
        let found = |text| changelog(&tree(&[manifest, ("CHANGELOG.md", text)])).len();
        assert_eq!(found("## [0.2.0] - 2026-01-01"), 0);
        assert_eq!(found("## [0.1.0]"), 1);
        assert_eq!(changelog(&tree(&[manifest])).len(), 1);
    }
}
