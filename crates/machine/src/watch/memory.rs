//! How much memory others use: of the machine, and of cards.

use std::collections::BTreeMap;

use troika_base::Bytes;

use super::{Known, PoolUse};
use crate::probe::{self, Root};

/// Files that this program has open are looked at up to so many.
const FILES_MAX: usize = 4096;

/// The machine's memory. In a container its limit is what counts.
pub(super) fn ram(root: &Root) -> Known<PoolUse> {
    let (total, available) = probe::memory_now(root);
    let (Some(total), Some(available)) = (total, available) else {
        return Err("/proc/meminfo does not tell it".to_owned());
    };
    Ok(PoolUse {
        total: Bytes(total),
        used: Bytes(total.saturating_sub(available)),
        ours: ours(root).map(Bytes),
    })
}

/// What this program has of the machine's memory. Pages of files, such as the weights of a mapped model, are left out: the
/// kernel counts them as available, since it can drop them.
fn ours(root: &Root) -> Option<u64> {
    let status = root.text("/proc/self/status").ok()?;
    let anonymous = probe::kib_field(&status, "RssAnon")?;
    let shared = probe::kib_field(&status, "RssShmem").unwrap_or(0);
    Some(anonymous + shared)
}

/// The memory of a card whose driver tells of it by files: AMD's.
pub(super) fn card(root: &Root, address: &str) -> Known<PoolUse> {
    let file = |name: &str| format!("/sys/bus/pci/devices/{address}/{name}");
    let number = |name: &str| root.number::<u64>(&file(name));
    let (Some(total), Some(used)) = (number("mem_info_vram_total"), number("mem_info_vram_used"))
    else {
        return Err("its driver does not tell how much of its memory is in use".to_owned());
    };
    Ok(PoolUse {
        total: Bytes(total),
        used: Bytes(used),
        ours: of_files(root, address).map(Bytes),
    })
}

/// What this program has of a card's memory, as the open files of the card tell it; `None` if none does.
///
/// Source: the kernel's Documentation/gpu/drm-usage-stats.rst.
fn of_files(root: &Root, address: &str) -> Option<u64> {
    const OPEN: &str = "/proc/self/fdinfo";
    // One client may have several files.
    let mut clients: BTreeMap<String, u64> = BTreeMap::new();
    for number in root.list(OPEN).into_iter().take(FILES_MAX) {
        let Ok(text) = root.text(&format!("{OPEN}/{number}")) else {
            continue;
        };
        let value = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key))?;
            Some(line.strip_prefix(':')?.trim())
        };
        if value("drm-pdev") != Some(address) {
            continue;
        }
        let bytes = ["drm-resident-vram", "drm-memory-vram", "drm-resident-vram0"];
        let bytes = bytes.into_iter().find_map(|key| size(value(key)?));
        if let (Some(client), Some(bytes)) = (value("drm-client-id"), bytes) {
            clients.insert(client.to_owned(), bytes);
        }
    }
    (!clients.is_empty()).then(|| {
        clients
            .values()
            .fold(0, |sum: u64, &b| sum.saturating_add(b))
    })
}

/// `1024 KiB`, `3 MiB`, or bytes.
fn size(text: &str) -> Option<u64> {
    let (number, unit) = text.split_once(' ').unwrap_or((text, ""));
    let factor = match unit.trim() {
        "" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}
