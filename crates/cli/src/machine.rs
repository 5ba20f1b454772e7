//! This machine's memory, and ours.
//!
//! A few numbers for people and no more: measuring machines is a room of its own.

use troika_base::Bytes;

/// Memory of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Memory {
    pub(crate) total: Bytes,
    /// What a program can have without others being swapped out.
    pub(crate) available: Bytes,
}

/// The machine's memory now; `None` where the system does not tell.
pub(crate) fn memory() -> Option<Memory> {
    let mut system = sysinfo::System::new();
    system.refresh_memory();
    (system.total_memory() > 0).then(|| Memory {
        total: Bytes(system.total_memory()),
        available: Bytes(system.available_memory()),
    })
}

/// The most memory that this process has held at a time; known on Linux only.
pub(crate) fn rss_peak() -> Option<Bytes> {
    field(&std::fs::read_to_string("/proc/self/status").ok()?, "VmHWM")
}

/// A line such as `VmHWM:     1234 kB`.
fn field(text: &str, name: &str) -> Option<Bytes> {
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let kib: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(Bytes(kib.checked_mul(1024)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_and_nonsense_is_not() {
        let text =
            "VmPeak:\t 9 kB\nVmHWM:\t    1234 kB\nVmRSS: x kB\nVmSwap: 99999999999999999999 kB\n";
        assert_eq!(field(text, "VmHWM"), Some(Bytes(1234 * 1024)));
        for name in ["VmRSS", "VmSwap", "Vm", "None"] {
            assert_eq!(field(text, name), None, "{name}");
        }
    }
}
