//! Cores, threads and sockets, and which cores are the fast ones.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::CoreKind;

use super::cpu::CpuInfo;
use super::root::Root;

/// Processors that are looked at.
const PROCESSORS_MAX: u32 = 8192;
/// Cores that reach less than this share of the fastest's speed are of another kind. Turbo bins of equal cores differ by
/// less, cores of another design by more.
const ALIKE: f64 = 0.8;

/// How the processors are arranged.
#[derive(Debug, Default)]
pub(super) struct Topology {
    /// Those that are on.
    pub(super) numbers: Vec<u32>,
    /// Sockets.
    pub(super) packages: u32,
    /// Kinds, the fastest first.
    pub(super) kinds: Vec<CoreKind>,
}

/// A processor as the kernel counts them: a hardware thread.
#[derive(Debug)]
struct Thread {
    number: u32,
    /// The same for the threads of a core.
    core: String,
    package: i64,
    khz_max: Option<u64>,
    /// Speed, by clock or by the kernel's own measure; comparable within a machine.
    speed: Option<f64>,
}

/// Reads the arrangement.
pub(super) fn read(root: &Root, info: &CpuInfo) -> Topology {
    let mut told: BTreeMap<u32, (Option<&str>, Option<&str>)> = BTreeMap::new();
    for (number, block) in info.processors() {
        let value = |key: &str| block.get(key).map(|value| &**value);
        told.insert(number, (value("physical id"), value("core id")));
    }
    let numbers = numbers(root, told.keys().copied());
    let threads: Vec<Thread> = numbers
        .iter()
        .map(|&number| thread(root, number, told.get(&number).copied()))
        .collect();
    let packages: BTreeSet<i64> = threads.iter().map(|thread| thread.package).collect();
    Topology {
        kinds: kinds(root, &threads),
        packages: packages.len().try_into().unwrap_or(u32::MAX),
        numbers,
    }
}

/// The processors that are on.
fn numbers(root: &Root, told: impl Iterator<Item = u32>) -> Vec<u32> {
    if let Some(list) = root.line("/sys/devices/system/cpu/online") {
        let numbers = parse_list(&list);
        if !numbers.is_empty() {
            return numbers;
        }
    }
    let names = root.list("/sys/devices/system/cpu");
    let listed = names
        .iter()
        .filter_map(|name| name.strip_prefix("cpu")?.parse().ok());
    let mut numbers: Vec<u32> = listed.collect();
    if numbers.is_empty() {
        numbers = told.collect();
    }
    numbers.truncate(PROCESSORS_MAX as usize);
    numbers
}

fn thread(root: &Root, number: u32, told: Option<(Option<&str>, Option<&str>)>) -> Thread {
    let directory = format!("/sys/devices/system/cpu/cpu{number}");
    let file = |name: &str| format!("{directory}/{name}");
    let (told_package, told_core) = told.unwrap_or_default();
    let package = root
        .number(&file("topology/physical_package_id"))
        .or_else(|| told_package?.parse().ok())
        .unwrap_or(0)
        // Some Arm firmware says -1 for "I do not know".
        .max(0);
    let siblings = ["core_cpus_list", "thread_siblings_list"]
        .iter()
        .find_map(|name| root.line(&file(&format!("topology/{name}"))));
    let core = match (siblings, told_core) {
        (Some(siblings), _) => siblings,
        (None, Some(core)) => format!("{package}/{core}"),
        (None, None) => number.to_string(),
    };
    let khz_max = root.number(&file("cpufreq/cpuinfo_max_freq"));
    let capacity: Option<f64> = root.number(&file("cpu_capacity"));
    Thread {
        number,
        core,
        package,
        khz_max,
        speed: capacity
            .filter(|capacity| capacity.is_finite() && *capacity > 0.0)
            .or_else(|| khz_max.map(|khz| khz as f64)),
    }
}

/// The kinds of cores: as the kernel tells them on Intel's hybrids, else by speed.
fn kinds(root: &Root, threads: &[Thread]) -> Vec<CoreKind> {
    let listed = |name: &str| -> BTreeSet<u32> {
        let list = root.line(&format!("/sys/devices/{name}/cpus"));
        parse_list(&list.unwrap_or_default()).into_iter().collect()
    };
    let big = listed("cpu_core");
    let of = |numbers: &BTreeSet<u32>| -> Vec<&Thread> {
        let inside = |thread: &&Thread| numbers.contains(&thread.number);
        threads.iter().filter(inside).collect()
    };
    let fast = of(&big);
    if !fast.is_empty() && fast.len() < threads.len() {
        let rest = threads
            .iter()
            .filter(|thread| !big.contains(&thread.number));
        // The two slow kinds tell their clocks truly, while the kernel's measure may be missing for some.
        let mut groups = vec![fast];
        groups.extend(by_speed(rest.collect(), |thread| {
            thread.khz_max.map(|khz| khz as f64)
        }));
        return named(groups);
    }
    named(by_speed(threads.iter().collect(), |thread| thread.speed))
}

/// Threads in groups of about the same speed, the fastest first. Without speeds all are alike.
fn by_speed(
    mut threads: Vec<&Thread>,
    speed: impl Fn(&Thread) -> Option<f64>,
) -> Vec<Vec<&Thread>> {
    if threads.iter().any(|thread| speed(thread).is_none()) {
        return vec![threads];
    }
    let of = |thread: &Thread| speed(thread).unwrap_or_default();
    threads.sort_by(|a, b| of(b).total_cmp(&of(a)));
    let mut groups: Vec<Vec<&Thread>> = Vec::new();
    for thread in threads {
        match groups.last_mut() {
            Some(group) if of(thread) >= ALIKE * of(group[0]) => group.push(thread),
            _ => groups.push(vec![thread]),
        }
    }
    groups
}

fn named(mut groups: Vec<Vec<&Thread>>) -> Vec<CoreKind> {
    groups.retain(|group| !group.is_empty());
    let names: &[&str] = match groups.len() {
        1 => &["core"],
        _ => &["performance", "efficiency", "low-power"],
    };
    let kinds = groups.iter().enumerate().map(|(index, group)| {
        let cores: BTreeSet<&str> = group.iter().map(|thread| &*thread.core).collect();
        let khz_max = group.iter().filter_map(|thread| thread.khz_max).max();
        CoreKind {
            name: names[index.min(names.len() - 1)].to_owned(),
            cores: cores.len().try_into().unwrap_or(u32::MAX),
            threads: group.len().try_into().unwrap_or(u32::MAX),
            mhz_max: khz_max.map(|khz| khz as f64 / 1e3),
        }
    });
    kinds.collect()
}

/// Numbers as the kernel lists them: `0-3,8,10-11`.
pub(super) fn parse_list(text: &str) -> Vec<u32> {
    let mut numbers = BTreeSet::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (Ok(first), Ok(last)) = (first.trim().parse::<u32>(), last.trim().parse::<u32>())
        else {
            continue;
        };
        numbers.extend(first..=last.min(first.saturating_add(PROCESSORS_MAX)));
        if numbers.len() > PROCESSORS_MAX as usize {
            break;
        }
    }
    numbers.into_iter().take(PROCESSORS_MAX as usize).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_parsed() {
        for (text, want) in [
            ("0-3,8", vec![0, 1, 2, 3, 8]),
            ("5", vec![5]),
            ("", vec![]),
            ("3-1,x,-", vec![]),
            ("1,1,0-1\n", vec![0, 1]),
        ] {
            assert_eq!(parse_list(text), want, "{text}");
        }
        assert_eq!(parse_list("0-4294967295").len(), PROCESSORS_MAX as usize);
    }

    /// Two threads on each of the first cores, one on the others.
    fn tree(cores: &[(&str, &str, u32)]) -> Root {
        let mut text = String::new();
        for (number, (siblings, file, value)) in cores.iter().enumerate() {
            let cpu = format!("/sys/devices/system/cpu/cpu{number}");
            text += &format!(
                "== {cpu}/topology/core_cpus_list\n{siblings}\n== {cpu}/{file}\n{value}\n"
            );
        }
        Root::recorded(&text)
    }

    fn kinds_of(root: &Root) -> Vec<(String, u32, u32)> {
        let topology = read(root, &CpuInfo::parse(""));
        let kinds = topology.kinds.into_iter();
        kinds
            .map(|kind| (kind.name, kind.cores, kind.threads))
            .collect()
    }

    #[test]
    fn slow_cores_are_another_kind() {
        const KHZ: &str = "cpufreq/cpuinfo_max_freq";
        let mixed = tree(&[
            ("0-1", KHZ, 5_100_000),
            ("0-1", KHZ, 5_100_000),
            ("2", KHZ, 3_300_000),
            ("3", KHZ, 3_300_000),
        ]);
        assert_eq!(
            kinds_of(&mixed),
            [
                ("performance".to_owned(), 1, 2),
                ("efficiency".to_owned(), 2, 2)
            ]
        );
        // Turbo bins make no kinds.
        let alike = tree(&[("0", KHZ, 5_700_000), ("1", KHZ, 5_400_000)]);
        assert_eq!(kinds_of(&alike), [("core".to_owned(), 2, 2)]);
        let arm = tree(&[("0", "cpu_capacity", 530), ("1", "cpu_capacity", 1024)]);
        assert_eq!(
            kinds_of(&arm),
            [
                ("performance".to_owned(), 1, 1),
                ("efficiency".to_owned(), 1, 1)
            ]
        );
    }

    #[test]
    fn cpuinfo_alone_is_enough() {
        let info = CpuInfo::parse(
            "processor : 0\nphysical id : 0\ncore id : 0\n\nprocessor : 1\nphysical id : 0\ncore id : 0\n\n\
             processor : 2\nphysical id : 1\ncore id : 0\n",
        );
        let topology = read(&Root::recorded(""), &info);
        assert_eq!(topology.packages, 2);
        assert_eq!(topology.kinds[0].cores, 2);
        assert_eq!(topology.kinds[0].threads, 3);
    }
}
