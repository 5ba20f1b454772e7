//! Whether the models are whole, and what was left behind on the way.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use troika_base::Bytes;

use super::Check;
use super::patient::Patient;
use crate::home::Home;
use crate::output;

const NAME: &str = "models";
const LEFTOVERS: &str = "leftovers";

/// What is younger may still be on its way.
const OLD: Duration = Duration::from_secs(24 * 3600);
/// Models that are named one by one.
const NAMED_MAX: usize = 5;
/// Where pulls keep what they have of a file, each in a directory of its own.
const PULLS: &str = ".pulls";
/// How deep below the models' directory something may be left.
const DEPTH: usize = 3;

pub(super) fn check(patient: &Patient) -> [Check; 2] {
    [whole(patient), leftovers(patient)]
}

/// Whether each model's header can be read.
fn whole(patient: &Patient) -> Check {
    let directory = &patient.settings.models_dir;
    let survey = match Home::library_in(directory.clone()).survey() {
        Ok(survey) => survey,
        Err(error) => {
            return Check::fault(NAME, format!("{:#}", anyhow::Error::new(error))).mend(format!(
                "Look who owns {} and may read it.",
                directory.display()
            ));
        }
    };
    let damaged = survey.damaged.iter();
    let mut bad: Vec<_> = damaged
        .map(|model| format!("{} ({})", model.name, model.reason))
        .collect();
    let n_models = survey.entries.len() - 1;
    for entry in &survey.entries {
        let adapters = entry.adapters.iter();
        let opened = entry.open().and_then(|_| {
            let mut adapters = adapters.map(|adapter| adapter.open().map(drop));
            adapters.try_for_each(|opened| opened)
        });
        if let Err(error) = opened {
            let error = anyhow::Error::new(error);
            let reason = error.root_cause().to_string();
            bad.push(format!("{} ({})", entry.name, output::line(&reason, 120)));
        }
    }
    match (bad.len(), n_models) {
        (0, 0) => Check::ok(NAME, "none is installed but the one inside"),
        (0, n) => Check::ok(NAME, format!("{n} installed, and all can be read")),
        (n, _) => {
            bad.truncate(NAMED_MAX);
            let more = match n.checked_sub(NAMED_MAX) {
                Some(more) if more > 0 => format!(", and {more} more"),
                _ => String::new(),
            };
            Check::fault(NAME, format!("damaged: {}{more}", bad.join(", "))).mend(format!(
                "Pull or copy them anew, or delete them from {}.",
                directory.display()
            ))
        }
    }
}

/// Files of pulls and uploads that nobody goes on with.
fn leftovers(patient: &Patient) -> Check {
    let directory = &patient.settings.models_dir;
    let mut found = Vec::new();
    gather(directory, DEPTH, &mut found);
    let is_old = |at: &SystemTime| patient.now.duration_since(*at).is_ok_and(|age| age > OLD);
    found.retain(|(_, _, modified)| is_old(modified));
    if found.is_empty() {
        return Check::ok(LEFTOVERS, "no pull or upload was left unfinished");
    }
    let bytes = found.iter().map(|(_, bytes, _)| bytes).sum();
    let what = format!(
        "{} of pulls or uploads that were begun more than a day ago and not finished",
        Bytes(bytes)
    );
    let paths: Vec<_> = found
        .iter()
        .take(NAMED_MAX)
        .map(|(path, ..)| path.display().to_string())
        .collect();
    Check::note(LEFTOVERS, what).mend(format!(
        "The same `troika pull` goes on where it stopped; what nobody wants can be deleted: {}",
        paths.join(", ")
    ))
}

fn gather(directory: &Path, depth: usize, found: &mut Vec<(PathBuf, u64, SystemTime)>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let (Ok(about), path) = (entry.metadata(), entry.path()) else {
            continue;
        };
        if about.is_dir() && depth > 1 {
            gather(&path, depth - 1, found);
        } else if let (true, Some(unfinished), Ok(modified)) =
            (about.is_file(), unfinished(&path), about.modified())
        {
            found.push((unfinished.to_owned(), about.len(), modified));
        }
    }
    found.sort();
}

/// What is on its way in, if this is a file of its: an upload under a passing name, or a pull's directory with its bytes.
fn unfinished(path: &Path) -> Option<&Path> {
    let name = path.file_name()?.to_str()?;
    let pull = path.parent()?;
    let is_pull = name == "data" && pull.parent()?.ends_with(PULLS);
    match (is_pull, name.starts_with(".tmp")) {
        (true, _) => Some(pull),
        (false, true) => Some(path),
        (false, false) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::Level;
    use crate::commands::doctor::tests::Bed;
    use crate::model::STORIES;

    #[test]
    fn damaged_models_are_named() {
        let bed = Bed::new();
        let models = &bed.patient.settings.models_dir;
        fs::create_dir_all(models).expect("is made");
        fs::write(models.join("good.gguf"), STORIES).expect("is written");
        assert_eq!(whole(&bed.patient).level, Level::Ok);
        fs::write(models.join("half.gguf"), &STORIES[..STORIES.len() / 2]).expect("is written");
        fs::write(models.join("page.gguf"), "<!doctype html>").expect("is written");
        let found = whole(&bed.patient);
        assert_eq!(found.level, Level::Fault);
        for name in ["half", "page"] {
            assert!(found.what.contains(name), "{found:?}");
        }
        assert!(!found.what.contains("good"), "{found:?}");
    }

    #[test]
    fn what_was_left_long_ago_is_told() {
        let mut bed = Bed::new();
        let blobs = bed.patient.settings.models_dir.join("blobs");
        fs::create_dir_all(&blobs).expect("is made");
        fs::write(blobs.join(".tmpAbCd"), [0; 2048]).expect("is written");
        let pull = bed.patient.settings.models_dir.join(".pulls/0123");
        fs::create_dir_all(&pull).expect("is made");
        fs::write(pull.join("data"), [0; 1024]).expect("is written");
        fs::write(pull.join("lock"), "").expect("is written");
        bed.patient.now = SystemTime::now();
        assert_eq!(leftovers(&bed.patient).level, Level::Ok, "it may go on");
        bed.patient.now += OLD + OLD;
        let found = leftovers(&bed.patient);
        assert_eq!(found.level, Level::Note);
        assert!(found.what.contains("3.0 KiB"), "{found:?}");
        for name in [".tmpAbCd", ".pulls/0123"] {
            assert!(found.mend.contains(name), "{found:?}");
        }
        assert!(!found.mend.contains("data"), "{found:?}");
    }

    #[test]
    fn models_that_cannot_be_listed_are_a_fault() {
        let mut bed = Bed::new();
        let file = bed.home().join("file");
        fs::write(&file, "").expect("is written");
        bed.patient.settings.models_dir = file;
        assert_eq!(whole(&bed.patient).level, Level::Fault);
    }
}
