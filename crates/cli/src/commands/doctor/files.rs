//! Whether others may read what is secret, or write what decides what Troika does.

use std::path::{Path, PathBuf};

use troika_server::keys::{KeyFile, Keys};

use super::patient::Patient;
use super::{Check, Level};
use crate::commands::serve;

const NAME: &str = "keys";

/// Files in a home that hold what is nobody else's business, by the beginnings of their names.
const PRIVATE: [&str; 3] = ["keys", "receipts", "chats"];

pub(super) fn check(patient: &Patient) -> Check {
    let settings = &patient.settings;
    // What serve says about the keys, before it serves.
    let keys = Keys::open(KeyFile::at(&settings.keys_file));
    let keys = match keys {
        Ok(keys) => keys,
        Err(error) => {
            let what = format!("{:#}", anyhow::Error::new(error));
            return Check::fault(NAME, what).mend(
                "Put back a copy of the file, or move it away and make new keys with `troika keys add NAME`.",
            );
        }
    };
    if let Err(error) = serve::check_exposure(settings, &keys) {
        return Check::fault(NAME, format!("`troika serve` would not start: {error}"))
            .mend("Make a key: `troika keys add NAME`.");
    }
    if let Some(found) = exposed(patient) {
        return found;
    }
    match keys.are_needed() {
        true => Check::ok(
            NAME,
            format!("{} is its owner's alone", settings.keys_file.display()),
        ),
        false => Check::ok(
            NAME,
            "there are none, and none is needed on this machine alone",
        ),
    }
}

/// The worst of what is too open.
fn exposed(patient: &Patient) -> Option<Check> {
    let home = patient.home.path();
    let mut open: Vec<(Level, PathBuf)> = files(patient)
        .into_iter()
        .filter_map(|path| {
            let is_private = is_private(&path) || path == patient.settings.keys_file;
            Some((openness(&path, is_private)?, path))
        })
        .collect();
    open.sort();
    let (level, _) = open.first()?;
    let named: Vec<_> = open
        .iter()
        .map(|(_, path)| {
            path.strip_prefix(home)
                .unwrap_or(path)
                .display()
                .to_string()
        })
        .collect();
    let what = match level {
        Level::Fault => "other users of this machine may change",
        _ => "other users of this machine may read",
    };
    let paths: Vec<_> = open
        .iter()
        .map(|(_, path)| path.display().to_string())
        .collect();
    let what = format!("{what} {}", named.join(", "));
    Some(Check::new(NAME, *level, what).mend(format!("chmod go-rwx {}", paths.join(" "))))
}

/// What stands in the home itself, the home, and files of the settings that are elsewhere.
fn files(patient: &Patient) -> Vec<PathBuf> {
    let home = patient.home.path();
    let entries = std::fs::read_dir(home).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries
        .map(|entry| entry.path())
        .filter(|path| path.is_file())
        .collect();
    files.push(home.to_owned());
    files.push(patient.settings.keys_file.clone());
    files.push(patient.settings.hybrid_file.clone());
    files.push(patient.settings.chats_file.clone());
    files.sort();
    files.dedup();
    files
}

fn is_private(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| PRIVATE.iter().any(|start| name.starts_with(start))) && path.is_file()
}

/// How bad it is that others may do with a file what they may.
#[cfg(unix)]
fn openness(path: &Path, is_private: bool) -> Option<Level> {
    use std::os::unix::fs::MetadataExt as _;
    let mode = std::fs::metadata(path).ok()?.mode();
    match mode {
        // Who may write to keys or rules may let himself in, or prompts out. The sticky bit keeps a directory's files safe.
        mode if mode & 0o002 != 0 && mode & 0o1000 == 0 => Some(Level::Fault),
        mode if mode & 0o020 != 0 && mode & 0o1000 == 0 => Some(Level::Warning),
        mode if is_private && mode & 0o044 != 0 => Some(Level::Warning),
        _ => None,
    }
}

#[cfg(not(unix))]
fn openness(_: &Path, _: bool) -> Option<Level> {
    None
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::commands::doctor::tests::Bed;

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).expect("is ours");
    }

    #[test]
    fn what_others_may_do_is_told() {
        let bed = Bed::new();
        mode(bed.home(), 0o755);
        assert_eq!(check(&bed.patient).level, Level::Ok);
        for (name, bits, want) in [
            ("keys.toml", 0o600, Level::Ok),
            ("keys.toml", 0o644, Level::Warning),
            ("keys.toml", 0o666, Level::Fault),
            ("chats.redb", 0o640, Level::Warning),
            ("hybrid.toml", 0o644, Level::Ok),
            ("hybrid.toml", 0o664, Level::Warning),
            ("config.toml", 0o646, Level::Fault),
        ] {
            let path = bed.home().join(name);
            fs::write(&path, "").expect("is written");
            mode(&path, bits);
            let found = check(&bed.patient);
            assert_eq!(found.level, want, "{name} {bits:o}: {found:?}");
            assert_eq!(found.mend.contains(name), want != Level::Ok, "{found:?}");
            fs::remove_file(&path).expect("is there");
        }
        mode(bed.home(), 0o777);
        assert_eq!(check(&bed.patient).level, Level::Fault);
    }

    #[test]
    fn keys_that_keep_the_server_from_starting_are_faults() {
        let mut bed = Bed::new();
        let keys = bed.home().join("keys.toml");
        fs::write(&keys, "[[key]]\nname = 1\n").expect("is written");
        let found = check(&bed.patient);
        assert_eq!(found.level, Level::Fault, "{found:?}");
        fs::remove_file(&keys).expect("is there");
        bed.patient.settings.host = "0.0.0.0".parse().expect("an address");
        let found = check(&bed.patient);
        assert_eq!(found.level, Level::Fault);
        assert!(found.mend.contains("troika keys add"), "{found:?}");
    }
}
