//! What is looked at: settings, files, the machine. In tests, all of it is made up.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use troika_base::Bytes;
use troika_machine::Machine;
use troika_server::Settings;

use crate::home::Home;

/// A disk, as a file on it sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Space {
    /// What may still be written.
    pub(super) free: Bytes,
    pub(super) total: Bytes,
}

/// What is looked at.
pub(super) struct Patient {
    pub(super) home: Home,
    pub(super) settings: Settings,
    /// Why the settings are not those that were asked for.
    pub(super) wrong_settings: Option<String>,
    pub(super) machine: Machine,
    /// The root of the system's files.
    pub(super) root: PathBuf,
    pub(super) now: SystemTime,
    /// The disk that a directory is on.
    pub(super) space: fn(&Path) -> Option<Space>,
    /// A variable of the environment that says something.
    pub(super) env: fn(&str) -> Option<String>,
}

impl Patient {
    /// This machine.
    pub(super) fn here(
        home: Home,
        settings: Settings,
        wrong_settings: Option<String>,
        machine: Machine,
    ) -> Self {
        Self {
            home,
            settings,
            wrong_settings,
            machine,
            root: PathBuf::from("/"),
            now: SystemTime::now(),
            space,
            env: |name| std::env::var(name).ok().filter(|value| !value.is_empty()),
        }
    }

    /// A file of the system, by its whole path.
    pub(super) fn system(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// The text of a file of the system.
    pub(super) fn text(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.system(path)).ok()
    }
}

/// The nearest directory on the way to a path that is there.
pub(super) fn nearest(path: &Path) -> &Path {
    let mut ways = path.ancestors().filter(|way| !way.as_os_str().is_empty());
    ways.find(|way| way.exists()).unwrap_or(Path::new("."))
}

#[cfg(unix)]
fn space(path: &Path) -> Option<Space> {
    let about = rustix::fs::statvfs(path).ok()?;
    Some(Space {
        free: Bytes(about.f_bavail.saturating_mul(about.f_frsize)),
        total: Bytes(about.f_blocks.saturating_mul(about.f_frsize)),
    })
}

#[cfg(not(unix))]
fn space(_: &Path) -> Option<Space> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_yet_is_on_the_disk_of_what_is() {
        let home = tempfile::tempdir().expect("a directory");
        let deep = home.path().join("a/b/c");
        assert_eq!(nearest(&deep), home.path());
        assert_eq!(nearest(Path::new("no-such-home")), Path::new("."));
    }

    #[cfg(unix)]
    #[test]
    fn disks_tell_their_room() {
        let home = tempfile::tempdir().expect("a directory");
        let space = space(home.path()).expect("is on a disk");
        assert!(space.free <= space.total && space.total.0 > 0, "{space:?}");
    }
}
