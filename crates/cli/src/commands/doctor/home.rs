//! Whether Troika's directory can be written to, and is its user's own.

use std::fs::Metadata;
use std::io;
use std::path::Path;

use super::Check;
use super::patient::{Patient, nearest};

const NAME: &str = "home";

pub(super) fn check(patient: &Patient) -> Check {
    let home = patient.home.path();
    let place = nearest(home);
    if !place.is_dir() {
        let what = format!(
            "{} cannot be a directory: {} is a file",
            home.display(),
            place.display()
        );
        return Check::fault(NAME, what)
            .mend("Move the file away, or set TROIKA_HOME to another place.");
    }
    // A file that is gone again when this ends: asking is the only answer that holds on all file systems.
    let written = tempfile::NamedTempFile::new_in(place);
    let own = match written.and_then(|file| file.as_file().metadata()) {
        Ok(own) => own,
        Err(error) => return unwritable(place, &error),
    };
    if place != home {
        return Check::ok(
            NAME,
            format!("{} is made when it is needed", home.display()),
        );
    }
    match std::fs::metadata(home) {
        Ok(about) => owned(home, &about, &own),
        Err(error) => unwritable(home, &error),
    }
}

fn unwritable(place: &Path, error: &io::Error) -> Check {
    let place = place.display();
    let mend = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "Make room there, or set TROIKA_HOME to a directory on another disk.".to_owned()
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            "The disk is mounted read-only; set TROIKA_HOME to a directory on another.".to_owned()
        }
        _ => format!(
            "Give it to the user who runs Troika (`sudo chown -R USER {place}`), or set TROIKA_HOME to another place."
        ),
    };
    Check::fault(NAME, format!("nothing can be written to {place}: {error}")).mend(mend)
}

/// Whose it is. `own` is a file that we have just made.
#[cfg(unix)]
fn owned(home: &Path, about: &Metadata, own: &Metadata) -> Check {
    use std::os::unix::fs::MetadataExt as _;
    if about.uid() == own.uid() {
        return Check::ok(NAME, home.display().to_string());
    }
    let what = format!(
        "{} belongs to user {}, and this is user {}: what one of them writes the other may not be able to change",
        home.display(),
        about.uid(),
        own.uid()
    );
    Check::warning(NAME, what).mend(
        "Run Troika as the owner (`sudo -u troika TROIKA_HOME=... troika ...` for the service's), or set TROIKA_HOME.",
    )
}

#[cfg(not(unix))]
fn owned(home: &Path, _: &Metadata, _: &Metadata) -> Check {
    Check::ok(NAME, home.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::Level;
    use crate::commands::doctor::tests::Bed;

    #[test]
    fn a_home_that_cannot_be_is_a_fault() {
        let mut bed = Bed::new();
        assert_eq!(check(&bed.patient).level, Level::Ok);
        let file = bed.home().join("file");
        std::fs::write(&file, "").expect("is written");
        bed.patient.home = crate::home::Home::at(&file.join("home"));
        assert_eq!(check(&bed.patient).level, Level::Fault);
        bed.patient.home = crate::home::Home::at(&file);
        assert_eq!(check(&bed.patient).level, Level::Fault);
    }

    #[test]
    fn a_home_that_is_not_there_yet_is_none() {
        let mut bed = Bed::new();
        bed.patient.home = crate::home::Home::at(&bed.home().join("new/home"));
        let found = check(&bed.patient);
        assert_eq!(found.level, Level::Ok, "{found:?}");
        assert!(!bed.home().join("new").exists(), "nothing is made");
    }

    #[test]
    fn what_keeps_from_writing_is_told_with_what_helps() {
        for (kind, word) in [
            (io::ErrorKind::StorageFull, "Make room"),
            (io::ErrorKind::ReadOnlyFilesystem, "read-only"),
            (io::ErrorKind::PermissionDenied, "chown"),
        ] {
            let found = unwritable(Path::new("/home"), &kind.into());
            assert_eq!(found.level, Level::Fault);
            assert!(found.mend.contains(word), "{found:?}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn somebody_elses_home_is_a_warning() {
        let bed = Bed::new();
        let about = |path: &Path| std::fs::metadata(path).expect("is there");
        // Root's, and for root a stranger's: that of this process's files is what differs.
        let own = about(bed.home());
        let found = owned(bed.home(), &about(Path::new("/proc")), &own);
        use std::os::unix::fs::MetadataExt as _;
        let want = if own.uid() == 0 {
            Level::Ok
        } else {
            Level::Warning
        };
        assert_eq!(found.level, want);
    }
}
