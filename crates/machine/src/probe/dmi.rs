//! Memory modules from the firmware's tables (SMBIOS 3.7, structure type 17).

use std::collections::{BTreeMap, BTreeSet};

/// What the modules have in common.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Modules {
    /// Channels that have a module.
    pub(super) channels: Option<u32>,
    /// `DDR5`.
    pub(super) kind: Option<String>,
    /// Transfers a second and channel, in 10⁶: of the slowest module.
    pub(super) mega_transfers: Option<u32>,
    /// What the channels move in a transfer, together.
    pub(super) width_bytes: Option<u32>,
}

/// A populated slot.
struct Module {
    /// `Controller0-ChannelA-DIMM0`, `P0 CHANNEL A`: where it is, in the maker's words.
    place: String,
    kind: u8,
    mega_transfers: u32,
    /// Without the bits for correction; 0 where it isn't told.
    width_bits: u32,
}

/// Reads the modules from a table. What is cut off or contradicts itself is passed over.
pub(super) fn memory(table: &[u8]) -> Modules {
    let modules: Vec<Module> = structures(table)
        .filter(|(kind, _, _)| *kind == 17)
        .filter_map(|(_, fields, strings)| module(fields, strings))
        .collect();
    let kinds: BTreeSet<u8> = modules.iter().map(|module| module.kind).collect();
    let speeds = modules.iter().map(|module| module.mega_transfers);
    let channels = channels(&modules);
    let widths = channels.iter().flat_map(BTreeMap::values).copied();
    let width_bits: u32 = widths.clone().fold(0, u32::saturating_add);
    Modules {
        width_bytes: (width_bits > 0 && widths.clone().all(|bits| bits > 0))
            .then_some(width_bits / 8),
        channels: channels.map(|channels| u32::try_from(channels.len()).unwrap_or(u32::MAX)),
        kind: match kinds.first() {
            Some(&kind) if kinds.len() == 1 => kind_name(kind).map(str::to_owned),
            _ => None,
        },
        mega_transfers: speeds.filter(|&speed| speed > 0).min(),
    }
}

/// The structures of a table: kind, fields with their header, strings.
fn structures(table: &[u8]) -> impl Iterator<Item = (u8, &[u8], &[u8])> {
    let mut rest = table;
    std::iter::from_fn(move || {
        let (&kind, &length) = (rest.first()?, rest.get(1)?);
        let length = usize::from(length);
        if length < 4 || length > rest.len() {
            return None;
        }
        let (fields, tail) = rest.split_at(length);
        // The strings end with an empty one.
        let end = tail.windows(2).position(|pair| pair == [0, 0])?;
        rest = &tail[end + 2..];
        Some((kind, fields, &tail[..end]))
    })
}

fn module(fields: &[u8], strings: &[u8]) -> Option<Module> {
    let word = |at: usize| Some(u16::from_le_bytes([*fields.get(at)?, *fields.get(at + 1)?]));
    let long = |at: usize| Some(u32::from(word(at)?) | u32::from(word(at + 2)?) << 16);
    let text = |at: usize| {
        let number = usize::from(*fields.get(at)?).checked_sub(1)?;
        let text = strings.split(|&byte| byte == 0).nth(number)?;
        Some(String::from_utf8_lossy(text).into_owned())
    };
    // An empty slot has no size.
    if word(0x0c)? == 0 {
        return None;
    }
    // Speed as configured, else as the module can; 0xffff says that a longer field holds it.
    let speed = |short: usize, extended: usize| match word(short) {
        Some(0xffff) => long(extended).filter(|&speed| speed < 1 << 31),
        Some(0) | None => None,
        Some(speed) => Some(u32::from(speed)),
    };
    let place = [text(0x10), text(0x11)].into_iter().flatten();
    Some(Module {
        place: place.collect::<Vec<_>>().join(" "),
        kind: *fields.get(0x12)?,
        mega_transfers: speed(0x20, 0x58).or_else(|| speed(0x15, 0x54)).unwrap_or(0),
        width_bits: word(0x0a)
            .filter(|&bits| bits != 0xffff)
            .map_or(0, u32::from),
    })
}

/// Channels with their width in bits, where the places of all modules name them.
fn channels(modules: &[Module]) -> Option<BTreeMap<String, u32>> {
    let mut channels = BTreeMap::new();
    for module in modules {
        let width = channels.entry(channel(&module.place)?).or_insert(0);
        *width = module.width_bits.max(*width);
    }
    (!channels.is_empty()).then_some(channels)
}

/// The part of a place that names the channel: `controller0-channela` of `Controller0-ChannelA-DIMM0`; `dimm_a` of `DIMM_A2`.
fn channel(place: &str) -> Option<String> {
    let place = place.to_ascii_lowercase();
    if let Some(at) = place.find("channel") {
        let name = place[at + "channel".len()..].trim_start_matches([' ', '_', '-']);
        let name = name.chars().next().filter(char::is_ascii_alphanumeric)?;
        // What stands before tells channels of the same letter apart, but for the slot's own name.
        let before = place[..at]
            .rsplit(' ')
            .find(|word| !word.is_empty() && !word.starts_with("dimm"));
        return Some(format!("{} {name}", before.unwrap_or_default()));
    }
    let slot = place
        .split_whitespace()
        .find_map(|word| word.strip_prefix("dimm"))?;
    let slot = slot.trim_start_matches(['_', ' ', '-']);
    slot.chars()
        .next()
        .filter(char::is_ascii_alphabetic)
        .map(|letter| format!("dimm {letter}"))
}

fn kind_name(kind: u8) -> Option<&'static str> {
    Some(match kind {
        0x18 => "DDR3",
        0x1a => "DDR4",
        0x1b => "LPDDR",
        0x1c => "LPDDR2",
        0x1d => "LPDDR3",
        0x1e => "LPDDR4",
        0x20 => "HBM",
        0x21 => "HBM2",
        0x22 => "DDR5",
        0x23 => "LPDDR5",
        0x24 => "HBM3",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A structure of type 17 as firmware writes it.
    fn slot(size: u16, kind: u8, speed: u16, place: &str) -> Vec<u8> {
        let mut fields = vec![0_u8; 0x5c];
        fields[0] = 17;
        fields[1] = 0x5c;
        fields[0x0a] = 64;
        fields[0x0c..0x0e].copy_from_slice(&size.to_le_bytes());
        fields[0x10] = 1;
        fields[0x12] = kind;
        fields[0x20..0x22].copy_from_slice(&speed.to_le_bytes());
        fields.extend_from_slice(place.as_bytes());
        fields.extend_from_slice(&[0, 0]);
        fields
    }

    #[test]
    fn modules_are_counted_by_channel() {
        let bios = [0_u8, 4, 0, 0, b'x', 0, 0];
        let table = [
            &bios[..],
            &slot(16384, 0x22, 5600, "Controller0-ChannelA-DIMM0"),
            &slot(0, 0x02, 0, "Controller0-ChannelB-DIMM0"),
            &slot(16384, 0x22, 4800, "Controller1-ChannelA-DIMM0"),
        ]
        .concat();
        assert_eq!(
            memory(&table),
            Modules {
                channels: Some(2),
                kind: Some("DDR5".to_owned()),
                mega_transfers: Some(4800),
                width_bytes: Some(16),
            }
        );
        let table = [
            slot(8192, 0x1a, 3200, "DIMM_A2"),
            slot(8192, 0x1a, 3200, "DIMM_B2"),
        ]
        .concat();
        assert_eq!(memory(&table).channels, Some(2));
        let both = [
            slot(8192, 0x1a, 3200, "DIMM_A1"),
            slot(8192, 0x1a, 3200, "DIMM_A2"),
        ]
        .concat();
        assert_eq!(memory(&both).channels, Some(1));
    }

    #[test]
    fn what_is_not_told_is_unknown() {
        let table = [slot(8192, 0x22, 0, "Motherboard"), slot(8192, 0x1a, 0, "")].concat();
        assert_eq!(memory(&table), Modules::default());
        assert_eq!(memory(&[]), Modules::default());
    }

    #[test]
    fn cut_tables_are_read_as_far_as_they_go() {
        let table = slot(16384, 0x22, 5600, "ChannelA");
        for end in 0..table.len() {
            let _ = memory(&table[..end]);
        }
    }
}
