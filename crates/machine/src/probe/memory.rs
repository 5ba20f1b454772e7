//! Main memory: how much, how much of it is ours, and what it is made of.

use crate::model::MemoryFacts;

use super::dmi;
use super::notes::Notes;
use super::root::{Absent, Root};

/// Kernels write "no limit" of the older kind as a number near 2⁶³.
const NO_LIMIT: u64 = 1 << 60;

/// Main memory, and what can be computed from its modules.
#[derive(Debug)]
pub(super) struct Memory {
    pub(super) facts: MemoryFacts,
    /// What its pins can move, in 10⁹ bytes a second.
    pub(super) peak_gbs: Option<f64>,
}

/// Reads the memory. In a container its limit is what counts.
pub(super) fn read(root: &Root, notes: &mut Notes) -> Memory {
    let text = root.text("/proc/meminfo").unwrap_or_default();
    let total = field(&text, "MemTotal");
    let available = field(&text, "MemAvailable").or_else(|| field(&text, "MemFree"));
    if total.is_none() {
        notes.add("memory.total", "/proc/meminfo does not tell it", "");
    }
    let mut facts = MemoryFacts {
        total_bytes: total.unwrap_or(0),
        available_bytes: available,
        channels: None,
        kind: None,
        mega_transfers: None,
    };
    confine_all(root, &mut facts);
    let peak_gbs = modules(root, &mut facts, notes);
    Memory { facts, peak_gbs }
}

/// All memory that is ours to use, and what of it can be had now; in bytes.
pub(crate) fn now(root: &Root) -> (Option<u64>, Option<u64>) {
    let text = root.text("/proc/meminfo").unwrap_or_default();
    let mut facts = MemoryFacts {
        total_bytes: field(&text, "MemTotal").unwrap_or(0),
        available_bytes: field(&text, "MemAvailable").or_else(|| field(&text, "MemFree")),
        channels: None,
        kind: None,
        mega_transfers: None,
    };
    confine_all(root, &mut facts);
    let total = Some(facts.total_bytes).filter(|&total| total > 0);
    (total, facts.available_bytes)
}

fn confine_all(root: &Root, facts: &mut MemoryFacts) {
    for group in groups(root) {
        confine(root, &group, facts);
    }
}

/// A line such as `MemTotal:       32594420 kB`.
pub(crate) fn field(text: &str, name: &str) -> Option<u64> {
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let kib: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// A control group, which may have a limit.
struct Group {
    directory: String,
    limit: &'static str,
    used: &'static str,
}

/// The group that we are in and those around it, of both versions.
fn groups(root: &Root) -> Vec<Group> {
    let mut groups = Vec::new();
    let own = root.text("/proc/self/cgroup").unwrap_or_default();
    // Deeper than any real one.
    for line in own.lines().take(64) {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        let (base, limit, used) = if controllers.is_empty() {
            ("/sys/fs/cgroup", "memory.max", "memory.current")
        } else if controllers.split(',').any(|name| name == "memory") {
            (
                "/sys/fs/cgroup/memory",
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
            )
        } else {
            continue;
        };
        // Inside a container the path may be the host's, and then only the base is there.
        let mut path = path.trim_end_matches('/');
        loop {
            groups.push(Group {
                directory: format!("{base}{path}"),
                limit,
                used,
            });
            match path.rfind('/') {
                Some(at) if groups.len() < 256 => path = &path[..at],
                _ => break,
            }
        }
    }
    groups
}

fn confine(root: &Root, group: &Group, facts: &mut MemoryFacts) {
    let number = |name: &str| root.number::<u64>(&format!("{}/{name}", group.directory));
    let Some(limit) = number(group.limit).filter(|&limit| limit < NO_LIMIT) else {
        return;
    };
    if facts.total_bytes == 0 || limit < facts.total_bytes {
        facts.total_bytes = limit;
    }
    // Cached files count as used and are given back when memory is short.
    let stat = root.text(&format!("{}/memory.stat", group.directory));
    let cached = stat.ok().and_then(|stat| {
        let line = stat
            .lines()
            .find_map(|line| line.strip_prefix("inactive_file "))?;
        line.trim().parse::<u64>().ok()
    });
    let used = number(group.used)
        .unwrap_or(0)
        .saturating_sub(cached.unwrap_or(0));
    let left = limit.saturating_sub(used);
    facts.available_bytes = Some(facts.available_bytes.map_or(left, |free| free.min(left)));
}

/// What the memory is made of, from the firmware's tables; and what its pins can move.
fn modules(root: &Root, facts: &mut MemoryFacts, notes: &mut Notes) -> Option<f64> {
    let mut peak_gbs = None;
    let (why, remedy) = match root.bytes("/sys/firmware/dmi/tables/DMI") {
        Ok(table) => {
            let modules = dmi::memory(&table);
            facts.channels = modules.channels;
            facts.kind = modules.kind;
            facts.mega_transfers = modules.mega_transfers;
            if let (Some(width), Some(speed)) = (modules.width_bytes, modules.mega_transfers) {
                peak_gbs = Some(f64::from(width) * f64::from(speed) / 1e3);
            }
            ("the firmware's tables do not tell it", "")
        }
        Err(Absent::Denied) => (
            "reading the firmware's tables needs root",
            "run `troika devices` once as root",
        ),
        Err(Absent::Missing) => ("the firmware has no tables of it", ""),
    };
    match (facts.channels, &facts.kind) {
        (None, None) => notes.add("memory.modules", why, remedy),
        (None, Some(_)) => notes.add("memory.channels", why, remedy),
        (Some(_), None) => notes.add("memory.kind", why, remedy),
        (Some(_), Some(_)) => {}
    }
    peak_gbs
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMINFO: &str =
        "== /proc/meminfo\nMemTotal: 32768 kB\nMemFree: 100 kB\nMemAvailable: 16384 kB\n";

    fn memory(files: &str) -> (u64, Option<u64>) {
        let root = Root::recorded(&format!("{MEMINFO}{files}"));
        let facts = read(&root, &mut Notes::default()).facts;
        (
            facts.total_bytes >> 10,
            facts.available_bytes.map(|bytes| bytes >> 10),
        )
    }

    #[test]
    fn the_machine_s_memory_is_ours_without_a_limit() {
        assert_eq!(memory(""), (32768, Some(16384)));
        assert_eq!(
            memory(
                "== /proc/self/cgroup\n0::/user.slice\n== /sys/fs/cgroup/user.slice/memory.max\nmax\n"
            ),
            (32768, Some(16384))
        );
        // The older version's way to say that there is none.
        assert_eq!(
            memory(
                "== /proc/self/cgroup\n4:memory:/\n== /sys/fs/cgroup/memory/memory.limit_in_bytes\n9223372036854771712\n"
            ),
            (32768, Some(16384))
        );
    }

    #[test]
    fn a_container_s_limit_counts() {
        assert_eq!(
            memory(
                "== /proc/self/cgroup\n0::/\n== /sys/fs/cgroup/memory.max\n8388608\n\
                 == /sys/fs/cgroup/memory.current\n3145728\n== /sys/fs/cgroup/memory.stat\nanon 1\ninactive_file 1048576\n"
            ),
            (8192, Some(6144))
        );
        // The host's path, of which the container sees only the base.
        assert_eq!(
            memory(
                "== /proc/self/cgroup\n4:memory:/docker/abc\n\
                 == /sys/fs/cgroup/memory/memory.limit_in_bytes\n8388608\n"
            ),
            (8192, Some(8192))
        );
        // The tightest of those around us.
        assert_eq!(
            memory(
                "== /proc/self/cgroup\n0::/a/b\n== /sys/fs/cgroup/a/b/memory.max\n8388608\n\
                 == /sys/fs/cgroup/a/memory.max\n4194304\n"
            ),
            (4096, Some(4096))
        );
    }

    #[test]
    fn nonsense_is_no_memory() {
        let root = Root::recorded(
            "== /proc/meminfo\nMemTotal: 99999999999999999999 kB\nMemAvailable: x kB\n",
        );
        let mut notes = Notes::default();
        let facts = read(&root, &mut notes).facts;
        assert_eq!((facts.total_bytes, facts.available_bytes), (0, None));
        assert!(
            notes
                .into_list()
                .iter()
                .any(|unknown| unknown.what == "memory.total")
        );
    }
}
