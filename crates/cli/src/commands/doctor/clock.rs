//! Whether the clock can be right: certificates, receipts and shares of a minute go by it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Check;
use super::patient::Patient;

const NAME: &str = "clock";

/// When this was written: no clock is right that tells an earlier time. The first of January 2026.
const EARLIEST: Duration = Duration::from_secs(1_767_225_600);
/// Nor one that tells a time beyond any certificate. The first of January 2100.
const LATEST: Duration = Duration::from_secs(4_102_444_800);

pub(super) fn check(patient: &Patient) -> Check {
    const MEND: &str = "Let the system set it: `sudo timedatectl set-ntp true`. A clock that forgets has an empty cell on its board.";
    let since = patient.now.duration_since(UNIX_EPOCH).unwrap_or_default();
    if !(EARLIEST..LATEST).contains(&since) {
        let what = format!(
            "the clock says {}, which cannot be: certificates will not be believed",
            year(patient.now)
        );
        return Check::fault(NAME, what).mend(MEND);
    }
    // What sets the clock leaves this file as soon as it has.
    let is_kept = patient.system("/run/systemd/timesync").is_dir();
    let is_set = patient
        .system("/run/systemd/timesync/synchronized")
        .exists();
    match (is_kept, is_set) {
        (true, false) => Check::warning(
            NAME,
            "the system's clock has not been set by the network since the start",
        )
        .mend(MEND),
        (true, true) => Check::ok(NAME, "it was set by the network"),
        (false, _) => Check::ok(NAME, "it tells a time that can be"),
    }
}

/// `the year 1970`, to a year more or less.
fn year(now: SystemTime) -> String {
    /// Of an average year.
    const SECONDS: u64 = 31_556_952;
    match now.duration_since(UNIX_EPOCH) {
        Ok(since) => format!("the year {}", 1970 + since.as_secs() / SECONDS),
        Err(_) => "a year before 1970".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::Level;
    use crate::commands::doctor::tests::Bed;

    #[test]
    fn times_that_cannot_be_are_faults() {
        let mut bed = Bed::new();
        assert_eq!(check(&bed.patient).level, Level::Ok);
        for now in [
            UNIX_EPOCH,
            UNIX_EPOCH - Duration::from_secs(1),
            UNIX_EPOCH + EARLIEST - Duration::from_secs(1),
            UNIX_EPOCH + LATEST,
        ] {
            bed.patient.now = now;
            assert_eq!(check(&bed.patient).level, Level::Fault, "{now:?}");
        }
        assert_eq!(year(UNIX_EPOCH + EARLIEST), "the year 2026");
    }

    #[test]
    fn a_clock_that_nobody_has_set_is_a_warning() {
        let bed = Bed::new();
        bed.make("run/systemd/timesync");
        assert_eq!(check(&bed.patient).level, Level::Warning);
        bed.write("run/systemd/timesync/synchronized", "");
        assert_eq!(check(&bed.patient).level, Level::Ok);
    }
}
