//! A patient in perfect health, to which each test does what it is about; and what is said of it as a whole.

use std::fs;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use tempfile::TempDir;
use troika_base::Bytes;
use troika_machine::Machine;

use super::patient::Space;
use super::*;

/// A home, a system and a machine, made up.
pub(super) struct Bed {
    home: TempDir,
    system: TempDir,
    pub(super) patient: Patient,
}

impl Bed {
    pub(super) fn new() -> Self {
        let home = tempfile::tempdir().expect("a directory");
        let system = tempfile::tempdir().expect("a directory");
        let mut settings = Settings::at(home.path());
        // Whichever is free: tests run beside each other, and beside servers.
        settings.port = 0;
        let patient = Patient {
            home: Home::at(home.path()),
            settings,
            wrong_settings: None,
            machine: recorded("desktop-rx-7900-xtx"),
            root: system.path().to_owned(),
            now: UNIX_EPOCH + Duration::from_secs(1_800_000_000),
            space: |_| {
                Some(Space {
                    free: Bytes(100 << 30),
                    total: Bytes(1 << 40),
                })
            },
            env: |_| None,
        };
        Self {
            home,
            system,
            patient,
        }
    }

    pub(super) fn home(&self) -> &Path {
        self.home.path()
    }

    /// Makes a directory of the system.
    pub(super) fn make(&self, path: &str) {
        fs::create_dir_all(self.system.path().join(path)).expect("is made");
    }

    /// Writes a file of the system.
    pub(super) fn write(&self, path: &str, text: &str) {
        let path = self.system.path().join(path);
        fs::create_dir_all(path.parent().expect("is below")).expect("is made");
        fs::write(path, text).expect("is written");
    }
}

/// A machine that was recorded.
pub(super) fn recorded(name: &str) -> Machine {
    let path = format!(
        "{}/../machine/fixtures/{name}.tree",
        env!("CARGO_MANIFEST_DIR")
    );
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    probe::read(&Root::recorded(&text))
}

#[test]
fn a_healthy_home_has_no_fault() {
    let mut bed = Bed::new();
    // Its drivers would be those of the machine that runs the test.
    bed.patient.machine.processors.truncate(1);
    let report = Report::of(all(&bed.patient));
    let faults: Vec<_> = report
        .checks
        .iter()
        .filter(|check| check.level < Level::Note)
        .collect();
    // The limits are this machine's own.
    assert!(
        faults.iter().all(|check| check.name == "limits"),
        "{faults:?}"
    );
    let names: std::collections::BTreeSet<_> =
        report.checks.iter().map(|check| check.name).collect();
    assert_eq!(names.len(), report.checks.len(), "each is looked at once");
}

#[test]
fn settings_that_make_no_sense_are_a_fault() {
    let mut bed = Bed::new();
    bed.patient.wrong_settings = Some("config.toml: there is no setting `prot`".to_owned());
    let found = settings::check(&bed.patient);
    assert_eq!(found.level, Level::Fault);
    assert!(found.what.contains("prot"), "{found:?}");
}

fn report() -> Report {
    Report::of(vec![
        Check::ok("home", "/srv/troika"),
        Check::note("network", "a proxy"),
        Check::fault("port", "127.0.0.1:11435 is taken by nginx (process 42)").mend("Stop it."),
        Check::warning("gpu", "a name \u{1b}[31m of a device that goes on and on and on, until a line is far too long for most who read")
            .mend("Install its driver."),
        Check::ok("clock", "it was set by the network"),
    ])
}

#[test]
fn the_worst_comes_first() {
    insta::assert_snapshot!(report().text(false, false));
    assert_eq!((report().faults, report().warnings), (1, 1));
    let well = Report::of(vec![Check::ok("home", "/srv/troika")]);
    assert!(well.text(false, false).ends_with("\nAll is well.\n"));
}

#[test]
fn quiet_leaves_out_what_is_well_and_colours_are_asked_for() {
    let quiet = report().text(true, false);
    assert!(
        quiet.contains("nginx") && !quiet.contains("home"),
        "{quiet}"
    );
    assert_eq!(
        Report::of(vec![Check::ok("home", "")]).text(true, false),
        ""
    );
    let coloured = report().text(false, true);
    assert!(coloured.starts_with("\u{1b}[31mfault"), "{coloured}");
    assert!(
        !coloured.contains("name \u{1b}"),
        "what is quoted has no commands"
    );
}
