//! Limits that the system puts on programs: memory, open files, memory that stays.

use troika_base::Bytes;
use troika_machine::probe::{self, Root};

use super::Check;
use super::patient::Patient;
use crate::commands::serve::OTHER_FILES;

const MEMORY: &str = "memory";
const FILES: &str = "limits";

/// Not even a small model has room in less.
const MEMORY_MIN: Bytes = Bytes(1 << 30);
/// What AMD's driver for NPUs pins counts against the limit of locked memory, whose usual 8 MiB hold no model.
const LOCKED_MIN: u64 = 1 << 30;

pub(super) fn check(patient: &Patient) -> [Check; 2] {
    let total = machine_memory(patient);
    let pins = patient.machine.processors.iter();
    let pins = pins.filter_map(|part| part.driver.as_deref());
    [
        memory(&patient.machine.memory, total),
        files(
            resources(),
            patient.settings.max_connections as u64 + OTHER_FILES,
            pins.into_iter().any(|driver| driver == "amdxdna"),
        ),
    ]
}

/// The memory that all programs have together.
fn machine_memory(patient: &Patient) -> Option<u64> {
    let text = patient.text("/proc/meminfo")?;
    // Read as everywhere, but without the groups that confine this program.
    let alone = Root::recorded(&format!("== /proc/meminfo\n{text}"));
    Some(probe::read(&alone).memory.total_bytes).filter(|&total| total > 0)
}

/// `facts` is what is ours, and `total` what the machine has, if that is known.
fn memory(facts: &troika_machine::MemoryFacts, total: Option<u64>) -> Check {
    let ours = Bytes(facts.total_bytes);
    if ours.0 == 0 {
        return Check::note(MEMORY, "the system does not tell how much there is");
    }
    let free = facts.available_bytes.map(Bytes);
    let shown = match free {
        Some(free) => format!("{free} free of {ours}"),
        None => format!("{ours}, and the system does not tell what is free"),
    };
    let limited = total.filter(|&total| total > ours.0);
    let what = match limited {
        Some(total) => format!(
            "{shown}: a control group's limit, where the machine has {}",
            Bytes(total)
        ),
        None => shown,
    };
    match (free, limited) {
        (Some(free), None) if free < MEMORY_MIN => {
            Check::warning(MEMORY, what).mend("Close other programs, or take a smaller model: `troika plan` finds one.")
        }
        (Some(free), Some(_)) if free < MEMORY_MIN => Check::warning(MEMORY, what)
            .mend("Raise the limit: `MemoryMax=` of the service, `--memory` of the container."),
        (_, Some(_)) => Check::note(MEMORY, what)
            .mend("Raise the limit (`MemoryMax=` of the service, `--memory` of the container) if models do not fit."),
        _ => Check::ok(MEMORY, what),
    }
}

/// Limits of this process: the hard ones of open files and of locked memory.
#[derive(Clone, Copy, Debug)]
struct Resources {
    files: u64,
    locked: u64,
}

#[cfg(unix)]
fn resources() -> Option<Resources> {
    // Soft limits are raised up to the hard ones when they are in the way.
    let (_, files) = rlimit::Resource::NOFILE.get().ok()?;
    let locked = rlimit::Resource::MEMLOCK
        .get()
        .map_or(u64::MAX, |(_, hard)| hard);
    Some(Resources { files, locked })
}

#[cfg(not(unix))]
fn resources() -> Option<Resources> {
    None
}

/// `needed` is how many files a server opens at most; `pins` is whether a driver here locks memory.
fn files(limits: Option<Resources>, needed: u64, pins: bool) -> Check {
    let Some(limits) = limits else {
        return Check::ok(FILES, "this system has none on open files");
    };
    if limits.files < needed {
        let what = format!(
            "{} open files are allowed, and the server may need {needed}",
            limits.files
        );
        return Check::warning(FILES, what).mend(
            "Raise the limit (`LimitNOFILE=` of the service, `ulimit -Hn` in a shell), or lower `max_connections`.",
        );
    }
    if pins && limits.locked < LOCKED_MIN {
        let what = format!(
            "{} may be locked in memory, too little for a model on AMD's NPU",
            Bytes(limits.locked)
        );
        return Check::warning(FILES, what)
            .mend("Raise the limit: `LimitMEMLOCK=infinity` of the service, `memlock` in /etc/security/limits.conf.");
    }
    Check::ok(
        FILES,
        format!("{needed} open files are allowed, as many as the server may need"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::Level;
    use crate::commands::doctor::tests::Bed;

    fn facts(total: u64, available: u64) -> troika_machine::MemoryFacts {
        troika_machine::MemoryFacts {
            total_bytes: total,
            available_bytes: Some(available),
            channels: None,
            kind: None,
            mega_transfers: None,
        }
    }

    #[test]
    fn limits_of_memory_are_told() {
        const GIB: u64 = 1 << 30;
        for (total, available, machine, want, word) in [
            (16 * GIB, 9 * GIB, Some(16 * GIB), Level::Ok, "9.0 GiB free"),
            (
                16 * GIB,
                GIB / 2,
                Some(16 * GIB),
                Level::Warning,
                "512.0 MiB",
            ),
            (
                4 * GIB,
                3 * GIB,
                Some(16 * GIB),
                Level::Note,
                "control group",
            ),
            (
                GIB,
                GIB / 4,
                Some(16 * GIB),
                Level::Warning,
                "control group",
            ),
            (0, 0, None, Level::Note, "does not tell"),
        ] {
            let found = memory(&facts(total, available), machine);
            assert_eq!(found.level, want, "{found:?}");
            assert!(found.what.contains(word), "{found:?}");
        }
    }

    #[test]
    fn the_machines_own_memory_is_read_past_the_group() {
        let bed = Bed::new();
        bed.write(
            "proc/meminfo",
            "MemTotal: 8388608 kB\nMemAvailable: 4194304 kB\n",
        );
        assert_eq!(machine_memory(&bed.patient), Some(8 << 30));
    }

    #[test]
    fn low_limits_of_files_and_locked_memory_are_told() {
        let limits = |files, locked| Some(Resources { files, locked });
        let level = |limits, pins| files(limits, 2304, pins).level;
        assert_eq!(level(limits(1024, u64::MAX), false), Level::Warning);
        assert_eq!(level(limits(1 << 20, 8 << 20), false), Level::Ok);
        assert_eq!(level(limits(1 << 20, 8 << 20), true), Level::Warning);
        assert_eq!(level(limits(1 << 20, u64::MAX), true), Level::Ok);
        assert_eq!(level(None, true), Level::Ok);
    }
}
