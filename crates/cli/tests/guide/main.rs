//! The guide, held against the program: the commands of its ten pages are run and their output compared, and the flags that
//! any page names are known.
//!
//! A page is Markdown as people read it. What the test needs to know beyond that stands in comments above a block, which no
//! reader sees ([`page`] has their forms). `TROIKA_GUIDE=write` writes output that differs anew instead of failing.

mod compare;
mod page;
mod scene;
mod typed;
mod words;

use std::path::{Path, PathBuf};

use page::{Block, Mark, Page, Step};
use scene::{Outcome, Scene};

/// Where a reader begins.
const CONTENTS: &str = "README.md";

/// The ten pages, in the order of the path, each as a test of its own.
macro_rules! pages {
    ($($test:ident = $file:literal,)*) => {
        const PAGES: &[&str] = &[$($file),*];
        $(#[test]
        fn $test() {
            check($file);
        })*
    };
}

pages! {
    first_run = "01-first-run.md",
    your_own_file = "02-your-own-file.md",
    getting_models = "03-getting-models.md",
    the_page = "04-the-page.md",
    from_your_programs = "05-from-your-programs.md",
    forms_and_vectors = "06-forms-and-vectors.md",
    what_fits = "07-what-fits.md",
    keys_and_a_team = "08-keys-and-a-team.md",
    what_leaves = "09-what-leaves.md",
    a_server_that_stays = "10-a-server-that-stays.md",
}

/// The path in the table of contents is the path that is tested, page by page.
#[test]
fn the_contents_name_the_pages_in_order() {
    let contents = std::fs::read_to_string(guide().join(CONTENTS)).expect("the contents are there");
    let mut rest = &contents[..];
    for file in PAGES {
        let at = rest.find(&format!("]({file})"));
        let at = at.unwrap_or_else(|| panic!("{CONTENTS} does not name {file}, or not in order"));
        rest = &rest[at..];
    }
    let numbered = |name: &String| name.as_bytes().first().is_some_and(u8::is_ascii_digit);
    let mut there: Vec<_> = names(&guide()).into_iter().filter(numbered).collect();
    there.sort();
    assert_eq!(there, PAGES, "the numbered pages are those that are tested");
    for file in names(&guide()) {
        let is_named = file == CONTENTS || contents.contains(&format!("]({file})"));
        assert!(is_named, "{CONTENTS} does not name {file}");
    }
}

/// Whatever a page has somebody type, the program understands.
#[test]
fn verbs_and_flags_of_all_pages_are_known() {
    let mut files: Vec<_> = names(&guide())
        .iter()
        .map(|name| guide().join(name))
        .collect();
    files.push(guide().join("../../README.md"));
    files.sort();
    let commands: Vec<_> = files
        .iter()
        .flat_map(|file| typed::commands(file))
        .collect();
    let expected: Vec<_> = files
        .iter()
        .flat_map(|file| typed::expected_verbs(file))
        .collect();
    let mistakes = typed::mistakes(&commands, &expected);
    assert!(mistakes.is_empty(), "{}", mistakes.join("\n"));
    println!("{} commands in {} files", commands.len(), files.len());
    assert!(
        commands.len() > 100,
        "few commands were found: {}",
        commands.len()
    );
}

fn guide() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guide")
}

/// The pages in a folder, by name.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("the guide is there");
    let names = entries.map(|entry| entry.expect("is readable").file_name());
    let names = names.map(|name| name.into_string().expect("is text"));
    names.filter(|name| name.ends_with(".md")).collect()
}

/// Runs a page from its first command to its last, in a home of its own.
fn check(file: &str) {
    if let Some(why) = scene::cannot_play() {
        return skipped(&why);
    }
    let path = guide().join(file);
    let mut page = Page::read(&path);
    let mut scene = Scene::new(file.trim_end_matches(".md"));
    let mut differences = Vec::new();
    for block in page.blocks() {
        if let Some(why) = why_not(&block, &scene) {
            skipped(&format!("{file}:{}: {why}", block.line));
            continue;
        }
        if let Some(name) = block.file() {
            scene.write(name, &block.text());
        }
        if let Some(text) = block.idle() {
            panic!(
                "{file}:{}: nothing below is {text:?}, which may vary",
                block.line
            );
        }
        for step in block.steps() {
            if let Some(outcome) = play(&mut scene, &block, &step) {
                differences.push((step, outcome));
            }
        }
    }
    if std::env::var_os("TROIKA_GUIDE").is_some_and(|value| value == "write") {
        for (step, outcome) in differences.into_iter().rev() {
            page.replace(&step.output, &outcome.text);
        }
        page.write(&path);
        return;
    }
    let told = |(step, outcome): &(Step, Outcome)| {
        format!(
            "{file}:{}: $ {}\n--- on the page\n{}\n--- in truth ({})\n{}",
            step.line, step.command, step.expected, outcome.status, outcome.text
        )
    };
    let told: Vec<_> = differences.iter().map(told).collect();
    assert!(
        told.is_empty(),
        "{}\n\n`TROIKA_GUIDE=write cargo test -p troika-cli --test guide` writes the output anew.",
        told.join("\n\n")
    );
}

/// Runs one command; its outcome, if that is not what the page says.
fn play(scene: &mut Scene, block: &Block, step: &Step) -> Option<Outcome> {
    let agrees =
        |text: &str| !block.has_output() || compare::agrees(&step.expected, text, block.varies());
    let outcome = scene.run(&step.command, &agrees);
    // A page may show an error; it may not hide one.
    let may_fail = step.expected.contains("error: ") || block.marks.contains(&Mark::MayFail);
    let is_as_told = agrees(&outcome.text) && (outcome.succeeded || may_fail);
    (!is_as_told).then_some(outcome)
}

/// Why a block is passed over, if it is.
fn why_not(block: &Block, scene: &Scene) -> Option<String> {
    block.marks.iter().find_map(|mark| match mark {
        Mark::NotRun(why) => Some(why.clone()),
        Mark::OnceThereIs(verb) if !scene.knows(verb) => Some(format!("there is no `{verb}`")),
        Mark::OnceThereIs(_) | Mark::MayFail | Mark::Varies(_) | Mark::File(_) => None,
    })
}

#[expect(clippy::print_stdout, reason = "a skipped block says so")]
fn skipped(why: &str) {
    println!("skipped: {why}");
}
