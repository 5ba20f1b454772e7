//! From a machine's name to its parts: `dual-3090`, `ryzen-ai-370+4090:32gb`.

use troika_base::{Bytes, DeviceKind};
use troika_planner::catalogue::{
    Block, Catalogue, Chip, Kind, blocks, profile, split_count, strict,
};

use super::{MachineError, Part};

/// What a name says.
#[derive(Debug)]
pub(super) struct Described {
    pub(super) parts: Vec<Part>,
    /// Memory of the processor.
    pub(super) ram: Bytes,
    pub(super) notes: Vec<String>,
}

/// The processor that is taken where a name tells of cards alone: a usual one of the price of a good card's machine.
const HOST: &str = "AMD Ryzen 7 7700X";
/// Gigabytes of memory of a desktop computer of which nothing is said.
const DESKTOP_GB: f64 = 64.0;
/// Gigabytes that a laptop is taken to have if it is sold so.
const LAPTOP_GB: f64 = 32.0;
const GIB: f64 = (1u64 << 30) as f64;

/// Takes a machine's name apart.
pub(super) fn describe(name: &str, catalogue: &Catalogue) -> Result<Described, MachineError> {
    let (plain, ram_gb) = split_memory(name)?;
    let mut notes = Vec::new();
    let mut chips = chips(plain, catalogue)?;
    let is_host = |chip: &Chip| matches!(chip.kind, Kind::Soc | Kind::Cpu);
    match chips.iter().filter(|chip| is_host(chip)).count() {
        0 => {
            let host = catalogue
                .chip(HOST)
                .map_err(|error| MachineError::Unknown(error.to_string()))?
                .row;
            notes.push(format!(
                "no processor is named: taken to be an {}",
                host.name
            ));
            chips.insert(0, host);
        }
        1 => {}
        _ => {
            return Err(MachineError::Unknown(format!(
                "{name:?} names more than one processor; a machine has one"
            )));
        }
    }
    let host = chips.iter().find(|chip| is_host(chip));
    let host = host.expect("one was added. This is a bug.");
    let gb = ram_gb.unwrap_or_else(|| {
        let gb = usual_memory_gb(host);
        notes.push(format!("{gb:.0} GB of memory are assumed"));
        gb
    });
    let parts = chips.iter().flat_map(|chip| parts(chip, gb)).collect();
    Ok(Described {
        parts,
        ram: Bytes((gb * GIB) as u64),
        notes,
    })
}

/// Splits `:32gb` off.
fn split_memory(name: &str) -> Result<(&str, Option<f64>), MachineError> {
    let Some((plain, size)) = name.rsplit_once(':') else {
        return Ok((name, None));
    };
    let lower = size.trim().to_ascii_lowercase();
    let number = lower.trim_end_matches("ib").trim_end_matches('b');
    let gb = number.trim_end_matches('g').trim().parse::<f64>().ok();
    match gb.filter(|gb| gb.is_finite() && (1.0..=4096.0).contains(gb)) {
        Some(gb) => Ok((plain, Some(gb))),
        None => Err(MachineError::Unknown(format!(
            "{size:?} is no size of memory; write it like {plain}:32gb"
        ))),
    }
}

/// The chips of a name whose parts are joined by `+`. A chip may have one in its own name.
fn chips<'c>(name: &str, catalogue: &'c Catalogue) -> Result<Vec<&'c Chip>, MachineError> {
    let pieces: Vec<&str> = name.split('+').collect();
    let mut chips = Vec::new();
    let mut at = 0;
    while at < pieces.len() {
        let longest = (at + 1..=pieces.len())
            .rev()
            .find_map(|end| counted(&pieces[at..end].join("+"), catalogue).map(|ok| (end, ok)));
        match longest {
            Some((end, (count, chip))) => {
                chips.extend(std::iter::repeat_n(chip, count));
                at = end;
            }
            None => {
                let (_, plain) = count_of(pieces[at]);
                let Err(error) = catalogue.chip(plain) else {
                    unreachable!("what the catalogue knows was found. This is a bug.");
                };
                return Err(MachineError::Unknown(error.to_string()));
            }
        }
    }
    Ok(chips)
}

fn counted<'c>(name: &str, catalogue: &'c Catalogue) -> Option<(usize, &'c Chip)> {
    let (count, plain) = count_of(name);
    Some((count, find(plain, catalogue)?))
}

/// Cards of a machine, at most.
const COUNT_MAX: usize = 16;

/// Splits `dual-`, `2x-` and the like off.
fn count_of(name: &str) -> (usize, &str) {
    let name = name.trim();
    for (word, count) in [("dual", 2), ("triple", 3), ("quad", 4)] {
        let rest = name.get(..word.len()).zip(name.get(word.len()..));
        if let Some((start, rest)) = rest
            && start.eq_ignore_ascii_case(word)
            && rest.starts_with(['-', ' ', '_'])
        {
            return (count, &rest[1..]);
        }
    }
    let (count, rest) = split_count(name);
    (count.min(COUNT_MAX), rest)
}

/// The chip of a name: as the catalogue finds it, else the one whose name has all of its words and fewest others.
fn find<'c>(name: &str, catalogue: &'c Catalogue) -> Option<&'c Chip> {
    if let Ok(found) = catalogue.chip(name) {
        return Some(found.row);
    }
    let wanted = words(name);
    if wanted.is_empty() || wanted.iter().all(|word| word.len() < 3) {
        return None;
    }
    let fits = |chip: &&Chip| {
        let has = words(&chip.name);
        wanted.iter().all(|word| has.contains(word))
    };
    // Chips of today are meant rather than those of a data centre with the same number.
    let rank = |chip: &&Chip| (words(&chip.name).len(), strict(&chip.name));
    let mut found: Vec<&Chip> = catalogue.chips().iter().filter(fits).collect();
    found.sort_by_key(rank);
    match found.as_slice() {
        [] => None,
        [only] => Some(only),
        [first, second, ..] => {
            let is_clear = words(&first.name).len() < words(&second.name).len();
            is_clear.then_some(*first)
        }
    }
}

fn words(name: &str) -> Vec<String> {
    name.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect()
}

/// The size that a machine is taken to have: of those that are sold, the smallest that is not small.
fn usual_memory_gb(host: &Chip) -> f64 {
    if host.kind == Kind::Cpu {
        return DESKTOP_GB;
    }
    let mut sizes = host.memory_options_gb.clone();
    sizes.sort_by(f64::total_cmp);
    let enough = sizes.iter().find(|&&gb| gb >= LAPTOP_GB).or(sizes.last());
    enough.copied().or(host.memory_gb).unwrap_or(LAPTOP_GB)
}

/// A chip's blocks as parts of a machine whose processor has so much memory.
fn parts(chip: &Chip, ram_gb: f64) -> Vec<Part> {
    let in_package = matches!(chip.kind, Kind::Soc | Kind::Cpu);
    let memory_gb = if in_package {
        Some(ram_gb)
    } else {
        chip.memory_gb
    };
    let of_block = |block: Block| {
        let mut profile = profile(chip, block, memory_gb);
        if in_package && profile.kind == DeviceKind::Cpu {
            profile.memory = Some(Bytes((ram_gb * GIB) as u64));
        }
        let session_gb = chip.limits.and_then(|limits| limits.npu_session_gb);
        Part {
            profile,
            session_max: session_gb
                .filter(|_| block == Block::Npu)
                .map(|gb| Bytes((gb * GIB) as u64)),
            package: in_package.then_some(0),
        }
    };
    blocks(chip).into_iter().map(of_block).collect()
}
