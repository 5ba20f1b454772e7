//! Meters that are files of the Linux kernel: energy counters (RAPL), sensors (hwmon), batteries.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::{Gauge, MeterError, Reading};

/// Energy counters of Intel's and AMD's processors: a directory of `/sys/class/powercap`.
///
/// Source: the kernel's Documentation/power/powercap. The counter starts again from 0 beyond `max_energy_range_uj`.
#[derive(Debug)]
pub(super) struct Rapl {
    energy: PathBuf,
    range_j: Option<f64>,
}

impl Rapl {
    /// `place` is the zone's directory, or the counter in it.
    pub(super) fn open(place: &Path) -> Self {
        let directory = match place.file_name() {
            Some(name) if name == "energy_uj" => place.parent().unwrap_or(place),
            _ => place,
        };
        let range = read_number(&directory.join("max_energy_range_uj"));
        Self {
            energy: directory.join("energy_uj"),
            // Without it, a counter that goes round is told as one that was set back.
            range_j: range.ok().map(|uj| uj / 1e6),
        }
    }
}

impl Gauge for Rapl {
    fn read(&mut self) -> Result<Reading, MeterError> {
        Ok(Reading::Counter {
            joules: read_number(&self.energy)? / 1e6,
            range: self.range_j,
        })
    }
}

/// A sensor: `energy1_input` in microjoules, `power1_average` or `power1_input` in microwatts.
///
/// Source: the kernel's Documentation/hwmon/sysfs-interface.
#[derive(Debug)]
pub(super) struct Hwmon {
    path: PathBuf,
    counts: bool,
}

impl Hwmon {
    /// `place` is the sensor, or the directory that has it: a counter is taken before an average, and that before a moment's
    /// power.
    pub(super) fn open(place: &Path) -> Self {
        const NAMES: [&str; 3] = ["energy1_input", "power1_average", "power1_input"];
        let inside = NAMES.map(|name| place.join(name));
        let path = match inside.into_iter().find(|path| path.exists()) {
            Some(path) => path,
            None => place.to_owned(),
        };
        let counts = path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("energy"));
        Self { path, counts }
    }
}

impl Gauge for Hwmon {
    fn read(&mut self) -> Result<Reading, MeterError> {
        let value = read_number(&self.path)? / 1e6;
        Ok(if self.counts {
            // 64 bits of microjoules do not come to an end.
            Reading::Counter {
                joules: value,
                range: None,
            }
        } else {
            Reading::Watts(value)
        })
    }
}

/// A battery: a directory of `/sys/class/power_supply`. It tells what the whole machine draws, while nothing else feeds it.
///
/// Source: the kernel's Documentation/ABI/testing/sysfs-class-power; currents are negative on some machines.
#[derive(Debug)]
pub(super) struct BatteryDrain {
    directory: PathBuf,
}

impl BatteryDrain {
    pub(super) fn open(place: &Path) -> Self {
        Self {
            directory: place.to_owned(),
        }
    }
}

impl Gauge for BatteryDrain {
    fn read(&mut self) -> Result<Reading, MeterError> {
        let status = read_text(&self.directory.join("status"))?;
        if status != "Discharging" {
            return Err(MeterError::NotDischarging {
                status: status.to_lowercase(),
            });
        }
        let microwatts = match read_number(&self.directory.join("power_now")) {
            Ok(microwatts) => microwatts,
            Err(_) => {
                let microamperes = read_number(&self.directory.join("current_now"))?;
                let microvolts = read_number(&self.directory.join("voltage_now"))?;
                microamperes * microvolts / 1e6
            }
        };
        Ok(Reading::Watts(microwatts.abs() / 1e6))
    }
}

/// All batteries together: what the machine draws from those that feed it.
#[derive(Debug)]
pub(super) struct Batteries(pub(super) Vec<BatteryDrain>);

impl Gauge for Batteries {
    fn read(&mut self) -> Result<Reading, MeterError> {
        let mut sum = None;
        let mut failure = None;
        for battery in &mut self.0 {
            match battery.read() {
                Ok(Reading::Watts(watts)) => sum = Some(sum.unwrap_or(0.0) + watts),
                Ok(Reading::Counter { .. }) => {}
                Err(error) if error.is_passing() => failure = Some(error),
                // One that feeds the machine may be among those that cannot be read.
                Err(error) => return Err(error),
            }
        }
        match (sum, failure) {
            (Some(watts), _) => Ok(Reading::Watts(watts)),
            (None, failure) => Err(failure.unwrap_or(MeterError::Reset)),
        }
    }
}

fn read_number(path: &Path) -> Result<f64, MeterError> {
    let text = read_text(path)?;
    // Whole numbers: what a float would take more (inf, 1e3) is none of the kernel's.
    let number: Result<i64, _> = text.parse();
    number
        .map(|number| number as f64)
        .map_err(|_| MeterError::Nonsense {
            path: path.to_owned(),
            text: text.chars().take(40).collect(),
        })
}

fn read_text(path: &Path) -> Result<String, MeterError> {
    match fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).trim().to_owned()),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Err(MeterError::Denied {
            path: path.to_owned(),
        }),
        Err(source) => Err(MeterError::Unreadable {
            path: path.to_owned(),
            source,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory with these files, as the kernel writes them.
    fn recorded(files: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().expect("a place for files");
        for (name, text) in files {
            fs::write(directory.path().join(name), text).expect("writes");
        }
        directory
    }

    #[test]
    fn rapl_counts_to_its_range() {
        let zone = recorded(&[
            ("name", "package-0\n"),
            ("energy_uj", "123456789\n"),
            ("max_energy_range_uj", "262143328850\n"),
        ]);
        let want = Reading::Counter {
            joules: 123.456789,
            range: Some(262_143.328850),
        };
        for place in [zone.path().to_owned(), zone.path().join("energy_uj")] {
            assert_eq!(Rapl::open(&place).read().expect("reads"), want);
        }
    }

    #[test]
    fn rapl_says_what_is_wrong() {
        let none = recorded(&[]);
        let error = Rapl::open(none.path()).read().expect_err("is not there");
        assert!(matches!(error, MeterError::Unreadable { .. }), "{error}");
        let odd = recorded(&[("energy_uj", "12 joules")]);
        let error = Rapl::open(odd.path()).read().expect_err("is no number");
        assert!(error.to_string().contains("12 joules"), "{error}");
        let denied = MeterError::Denied {
            path: "/sys/class/powercap/intel-rapl:0/energy_uj".into(),
        };
        assert!(denied.remedy().contains("chmod a+r /sys/class/powercap"));
    }

    #[cfg(unix)]
    #[test]
    fn a_file_for_root_alone_is_told_as_such() {
        use std::os::unix::fs::PermissionsExt as _;
        let zone = recorded(&[("energy_uj", "1")]);
        let path = zone.path().join("energy_uj");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).expect("may");
        // Root reads everything.
        if fs::read(&path).is_err() {
            let error = Rapl::open(zone.path()).read().expect_err("is denied");
            assert!(matches!(error, MeterError::Denied { .. }), "{error}");
        }
    }

    #[test]
    fn sensors_count_before_they_average() {
        let amdgpu = recorded(&[("power1_average", "35000000\n"), ("name", "amdgpu\n")]);
        assert_eq!(
            Hwmon::open(amdgpu.path()).read().expect("reads"),
            Reading::Watts(35.0)
        );
        let xe = recorded(&[("power1_input", "7000000"), ("energy1_input", "5500000\n")]);
        let counter = Reading::Counter {
            joules: 5.5,
            range: None,
        };
        assert_eq!(Hwmon::open(xe.path()).read().expect("reads"), counter);
        let one = Hwmon::open(&xe.path().join("power1_input")).read();
        assert_eq!(one.expect("reads"), Reading::Watts(7.0));
        assert!(Hwmon::open(&xe.path().join("power9_input")).read().is_err());
    }

    #[test]
    fn batteries_tell_while_they_feed_the_machine() {
        let by_power = recorded(&[("status", "Discharging\n"), ("power_now", "8125000\n")]);
        let by_current = recorded(&[
            ("status", "Discharging\n"),
            ("current_now", "-1000000\n"),
            ("voltage_now", "12000000\n"),
        ]);
        for (battery, want) in [(&by_power, 8.125), (&by_current, 12.0)] {
            let reading = BatteryDrain::open(battery.path()).read().expect("reads");
            assert_eq!(reading, Reading::Watts(want));
        }
        let places = [&by_power, &by_current].map(|place| BatteryDrain::open(place.path()));
        let both = Batteries(places.into()).read().expect("reads");
        assert_eq!(both, Reading::Watts(20.125));
        let full = recorded(&[("status", "Full\n"), ("power_now", "0\n")]);
        let error = BatteryDrain::open(full.path()).read().expect_err("is fed");
        assert!(error.is_passing() && error.to_string().contains("full"));
        let places = [&full, &by_current].map(|place| BatteryDrain::open(place.path()));
        let one = Batteries(places.into()).read().expect("reads");
        assert_eq!(one, Reading::Watts(12.0));
        let error = Batteries(vec![BatteryDrain::open(full.path())]).read();
        assert!(error.expect_err("is fed").is_passing());
    }
}
