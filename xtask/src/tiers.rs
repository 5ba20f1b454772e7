//! What came of tests that need things which not every machine has: how many ran, and why the others did not.
//!
//! A test that misses something prints `skipped: <why>` and passes, so that nobody has to have everything. Counted as
//! passed it would hide that nothing was tested; here it is counted for what it is.

use std::process::Command;

use anyhow::{Context as _, bail};

/// What came of the tests of a tier.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tests {
    passed: usize,
    failed: usize,
    pub(crate) skipped: Vec<Skipped>,
    /// What all tests have said, if any of them failed.
    output: String,
}

/// A test that did not run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Skipped {
    pub(crate) test: String,
    pub(crate) why: String,
}

impl Tests {
    /// Runs a `cargo test` whose test programs are given `--show-output` here, and reads what they write.
    ///
    /// # Errors
    /// If they do not get to an end: they do not build, or one of them dies.
    pub(crate) fn run(cargo: &mut Command) -> anyhow::Result<Self> {
        let output = cargo
            .arg("--show-output")
            .output()
            .context("cargo does not start")?;
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&output.stderr));
        let tests = Self::read(&text);
        if !output.status.success() && tests.failed == 0 {
            bail!("the tests did not get to an end:\n{text}");
        }
        Ok(tests)
    }

    fn read(text: &str) -> Self {
        let mut tests = Self::default();
        let mut speaker = "";
        for line in text.lines() {
            if let Some(name) = line
                .strip_prefix("---- ")
                .and_then(|rest| rest.strip_suffix(" stdout ----"))
            {
                speaker = name;
            }
            if let Some((_, why)) = line.split_once("skipped: ") {
                tests.skipped.push(Skipped {
                    test: speaker.to_owned(),
                    why: why.to_owned(),
                });
            }
            let Some((_, counts)) = line.split_once("test result: ") else {
                continue;
            };
            let count = |word: &str| {
                let mut parts = counts.split([';', '.']).map(str::trim);
                let number = parts.find_map(|part| part.strip_suffix(word));
                number
                    .and_then(|number| number.trim().parse().ok())
                    .unwrap_or(0)
            };
            tests.passed += count("passed");
            tests.failed += count("failed");
        }
        // A test that misses two things, or the same thing twice, is one test.
        tests.skipped.sort_unstable();
        tests.skipped.dedup_by(|a, b| a.test == b.test);
        if tests.failed > 0 {
            text.clone_into(&mut tests.output);
        }
        tests
    }

    fn ran(&self) -> usize {
        self.passed.saturating_sub(self.skipped.len())
    }

    /// Whether something ran, and nothing failed.
    pub(crate) fn are_good(&self) -> bool {
        self.failed == 0 && self.ran() > 0
    }

    /// Prints the counts, each reason once, and all that was said if a test failed.
    pub(crate) fn tell(&self) {
        if self.failed > 0 {
            println!("{}", self.output);
        }
        println!(
            "  {} ran, {} failed, {} skipped",
            self.ran() + self.failed,
            self.failed,
            self.skipped.len()
        );
        let mut told: Vec<&str> = self.skipped.iter().map(|s| s.why.as_str()).collect();
        told.sort_unstable();
        told.dedup();
        for why in told {
            println!("  skipped: {why}");
        }
        if self.ran() + self.failed == 0 {
            println!("  nothing ran, which is no success");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "running 3 tests\ntest a ... ok\ntest b ... ok\ntest c ... ok\n\nsuccesses:\n\n\
        ---- a stdout ----\nskipped: no library\nskipped: no file\n\n---- b stdout ----\non a GPU\n\n\
        test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 9 filtered out; finished in 0.1s\n";

    #[test]
    fn skipped_tests_do_not_count() {
        let read = Tests::read(TEXT);
        assert_eq!((read.passed, read.ran(), read.failed), (3, 2, 0));
        assert_eq!(read.skipped.len(), 1, "two reasons, one test");
        assert_eq!(read.skipped[0].test, "a");
        assert!(read.are_good());
        let none = Tests::read(&TEXT.replace("3 passed", "1 passed"));
        assert!(!none.are_good());
        let bad = Tests::read(&TEXT.replace("0 failed", "1 failed"));
        assert!(!bad.are_good() && bad.output.contains("running"));
    }

    #[test]
    fn several_programs_add_up() {
        let read = Tests::read(&format!("{TEXT}{}", TEXT.replace("- a s", "- z s")));
        assert_eq!((read.passed, read.ran()), (6, 4));
    }
}
