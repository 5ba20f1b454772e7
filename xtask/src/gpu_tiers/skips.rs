//! The list of what tests may skip, and where: `crates/device-gpu/tests/skips.txt`.

use std::path::Path;

use anyhow::{Context as _, bail};

use crate::tiers::Skipped;

/// Where it is, from the workspace's root.
pub(super) const FILE: &str = "crates/device-gpu/tests/skips.txt";

/// What may be skipped.
#[derive(Debug)]
pub(super) struct Skips(Vec<Skip>);

/// A line: `T1/8 name_of_test`, or `T1 name_of_test` for subgroups of every size.
#[derive(Debug)]
struct Skip {
    tier: String,
    subgroup: Option<u32>,
    test: String,
}

impl Skips {
    /// Reads the list.
    ///
    /// # Errors
    /// If it is not there, or a line is none.
    pub(super) fn read(root: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(root.join(FILE))
            .with_context(|| format!("cannot read {FILE}"))?;
        Self::parse(&text)
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let line = |(i, line): (usize, &str)| {
            let line = line.split('#').next().unwrap_or_default();
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                [] => Ok(None),
                [place, test] => Skip::new(place, test)
                    .map(Some)
                    .with_context(|| format!("{FILE}:{}", i + 1)),
                _ => bail!("{FILE}:{}: a line is `TIER[/SUBGROUP] TEST  # why`", i + 1),
            }
        };
        let skips: anyhow::Result<Vec<_>> = text.lines().enumerate().map(line).collect();
        Ok(Self(skips?.into_iter().flatten().collect()))
    }

    /// Tests that are not in the list for this place.
    pub(super) fn unexpected(
        &self,
        tier: &str,
        subgroup: u32,
        skipped: &[Skipped],
    ) -> Vec<Skipped> {
        let expected = |test: &str| {
            self.0.iter().any(|skip| {
                skip.tier == tier
                    && skip.subgroup.is_none_or(|size| size == subgroup)
                    && skip.test == test
            })
        };
        let lost = skipped.iter().filter(|skipped| !expected(&skipped.test));
        lost.cloned().collect()
    }
}

impl Skip {
    fn new(place: &str, test: &str) -> anyhow::Result<Self> {
        let (tier, subgroup) = match place.split_once('/') {
            Some((tier, subgroup)) => {
                let subgroup = subgroup.parse();
                (tier, Some(subgroup.context("after `/` comes a size")?))
            }
            None => (place, None),
        };
        Ok(Self {
            tier: tier.to_owned(),
            subgroup,
            test: test.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_listed_may_be_skipped() {
        let skips = Skips::parse("# about\n\nT1 coop  # no matrices\nT2/4 wide\n").expect("sound");
        let skipped = |test: &str| Skipped {
            test: test.to_owned(),
            why: "because".to_owned(),
        };
        let both = [skipped("coop"), skipped("wide")];
        assert_eq!(skips.unexpected("T1", 8, &both), [skipped("wide")]);
        assert_eq!(skips.unexpected("T2", 4, &both), [skipped("coop")]);
        assert_eq!(skips.unexpected("T2", 8, &both), both);
    }

    #[test]
    fn a_line_that_is_none_is_refused() {
        for bad in ["T1", "T1 a b", "T1/x a"] {
            let error = Skips::parse(bad).expect_err(bad).to_string();
            assert!(error.contains("skips.txt:1"), "{error}");
        }
    }
}
