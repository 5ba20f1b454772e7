//! A threshold goes into `hybrid.toml`, which is a person's: everything else in it stays as it is written.

use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, bail};
use toml_edit::{DocumentMut, Item, Table, value};
use troika_remote::Config;
use troika_remote::config::{Cascade, Judge};

use crate::home::folder_of;

/// Refuses what [`write()`] could not do, before anything is computed: the judge holds for all models of the file.
///
/// # Errors
/// If another model's threshold is for another judge.
pub(super) fn check(path: &Path, own: &Cascade, new: &Cascade, model: &str) -> anyhow::Result<()> {
    let is_same = own.judge == new.judge && own.samples == samples(own, new);
    let others = own.thresholds.keys().filter(|name| *name != model);
    let others: Vec<_> = others.map(|name| format!("`{name}`")).collect();
    if !is_same && !others.is_empty() {
        bail!(
            "{} has thresholds of {} for the judge `{}` with {} samples, and there is one judge for all models; take that \
             one, or remove those thresholds and calibrate these models, too",
            path.display(),
            others.join(", "),
            own.judge.name(),
            own.samples
        );
    }
    Ok(())
}

/// Writes the threshold of a model, and the judge that it is for.
///
/// # Errors
/// If the file cannot be read or written, or would make no sense.
pub(super) fn write(
    path: &Path,
    model: &str,
    threshold: f64,
    cascade: &Cascade,
) -> anyhow::Result<()> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let new = edited(&text, model, threshold, cascade)
        .with_context(|| format!("cannot write into {}", path.display()))?;
    replace(path, &new).with_context(|| format!("cannot write {}", path.display()))
}

/// The text with the threshold in it.
fn edited(text: &str, model: &str, threshold: f64, cascade: &Cascade) -> anyhow::Result<String> {
    let mut document: DocumentMut = text.parse()?;
    let table = table(document.as_table_mut(), "cascade")?;
    let own = Config::parse(text)?.cascade;
    if own.judge != cascade.judge {
        set(table, "judge", value(cascade.judge.name()));
    }
    let samples = samples(&own, cascade);
    if own.samples != samples {
        set(table, "samples", value(i64::try_from(samples)?));
    }
    let thresholds = self::table(table, "thresholds")?;
    set(thresholds, model, value(threshold));
    let new = document.to_string();
    let read = Config::parse(&new)?.cascade;
    if read.thresholds.get(model) != Some(&threshold) || read.judge != cascade.judge {
        bail!("it would not say what it should");
    }
    Ok(new)
}

/// The samples that the file is to name: those that it has, unless the judge compares them.
fn samples(own: &Cascade, new: &Cascade) -> usize {
    match new.judge {
        Judge::Samples => new.samples,
        Judge::Logprob | Judge::Verifier => own.samples,
    }
}

/// Sets a value and leaves the comments around it.
fn set(table: &mut Table, key: &str, mut new: Item) {
    if let (Some(old), Some(new)) = (table.get(key).and_then(Item::as_value), new.as_value_mut()) {
        *new.decor_mut() = old.decor().clone();
    }
    match table.get_mut(key) {
        Some(item) => *item = new,
        None => {
            table.insert(key, new);
        }
    }
}

/// The table of this name, made where it is not there; one written as `name = { .. }` becomes a section of its own.
fn table<'a>(parent: &'a mut Table, name: &str) -> anyhow::Result<&'a mut Table> {
    let item = parent.entry(name).or_insert_with(|| {
        let mut table = Table::new();
        // Without values of its own it has no line of its own.
        table.set_implicit(name == "cascade");
        Item::Table(table)
    });
    if let Some(inline) = item.as_inline_table() {
        *item = Item::Table(inline.clone().into_table());
    }
    item.as_table_mut()
        .with_context(|| format!("`{name}` is no table"))
}

/// Puts the text in the place of the file: whoever reads it meanwhile sees the old one or the new one.
fn replace(path: &Path, text: &str) -> anyhow::Result<()> {
    let directory = folder_of(path);
    std::fs::create_dir_all(directory)?;
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    if let Ok(metadata) = std::fs::metadata(path) {
        file.as_file().set_permissions(metadata.permissions())?;
    }
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cascade(judge: Judge) -> Cascade {
        Cascade {
            judge,
            ..Cascade::default()
        }
    }

    #[test]
    fn comments_and_order_stay() {
        let text = "\
# Mine.
[cascade] # the judge
judge = \"logprob\"

[cascade.thresholds]
# found on Monday
\"a\" = 0.5 # a guess
b = 0.25

[hybrid]
currency = \"EUR\" # for now
";
        let new = edited(text, "a", 0.75, &cascade(Judge::Logprob)).expect("is written");
        assert_eq!(new, text.replace("0.5 #", "0.75 #"));
        let new = edited(text, "qwen3-4b:q8", 0.9, &cascade(Judge::Logprob)).expect("is written");
        let want = text.replace("b = 0.25\n", "b = 0.25\n\"qwen3-4b:q8\" = 0.9\n");
        assert_eq!(new, want);
    }

    #[test]
    fn what_is_not_there_is_made() {
        let new = edited("", "m", 0.797_591, &cascade(Judge::Logprob)).expect("is written");
        assert_eq!(new, "[cascade.thresholds]\nm = 0.797591\n");
        let text = "cascade = { judge = \"logprob\", thresholds = { m = 0.5 } }\n";
        let new = edited(text, "m", 1.0, &cascade(Judge::Samples)).expect("is written");
        let read = Config::parse(&new).expect("is sound").cascade;
        assert_eq!((read.judge, read.thresholds["m"]), (Judge::Samples, 1.0));
        assert!(edited("cascade = 3", "m", 1.0, &cascade(Judge::Samples)).is_err());
    }

    #[test]
    fn one_judge_for_all_models() {
        let path = Path::new("hybrid.toml");
        let mut own = cascade(Judge::Logprob);
        own.thresholds.insert("m".to_owned(), 0.5);
        assert!(check(path, &own, &cascade(Judge::Samples), "m").is_ok());
        assert!(check(path, &own, &cascade(Judge::Logprob), "other").is_ok());
        let error = check(path, &own, &cascade(Judge::Samples), "other").expect_err("two judges");
        assert!(error.to_string().contains("`m`"), "{error}");
        // Samples are nothing to a judge that takes none.
        let more = |judge| Cascade {
            samples: 9,
            ..cascade(judge)
        };
        assert!(check(path, &own, &more(Judge::Logprob), "other").is_ok());
        own.judge = Judge::Samples;
        assert!(check(path, &own, &more(Judge::Samples), "other").is_err());
    }

    #[test]
    fn the_file_is_replaced_as_a_whole() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("new").join("hybrid.toml");
        for threshold in [0.5, 0.25] {
            write(&path, "m", threshold, &cascade(Judge::Logprob)).expect("is written");
            let text = std::fs::read_to_string(&path).expect("is there");
            assert_eq!(
                Config::parse(&text).expect("is sound").cascade.thresholds["m"],
                threshold
            );
        }
    }
}
