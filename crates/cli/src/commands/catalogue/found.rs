//! What a search of the catalogue found, in tables.

use serde::Serialize;
use troika_planner::catalogue::{Catalogue, Chip, Model, Offer, Part, PartKind, strict};

use crate::output::{self, Align};

/// The rows that have all of some words.
#[derive(Serialize)]
pub(super) struct Found<'c> {
    chips: Vec<&'c Chip>,
    models: Vec<&'c Model>,
    parts: Vec<&'c Part>,
    offers: Vec<&'c Offer>,
}

impl<'c> Found<'c> {
    /// Searches names, vendors and families, and the memory of chips: `24gb` finds those that have it.
    pub(super) fn of(catalogue: &'c Catalogue, words: &str) -> Self {
        let words: Vec<String> = words
            .split(|c: char| !c.is_alphanumeric() && c != '.' && c != '+')
            .map(strict)
            .filter(|word| !word.is_empty())
            .collect();
        let has_all = |texts: &[&str], sizes: &[f64]| {
            let texts: Vec<String> = texts.iter().map(|text| strict(text)).collect();
            words.iter().all(|word| {
                let size = word
                    .strip_suffix("gb")
                    .and_then(|gb| gb.parse::<f64>().ok());
                texts.iter().any(|text| text.contains(word))
                    || size.is_some_and(|gb| sizes.contains(&gb))
            })
        };
        let names = |name: &'c str, aliases: &'c [String]| {
            std::iter::once(name)
                .chain(aliases.iter().map(String::as_str))
                .collect::<Vec<_>>()
        };
        Self {
            chips: catalogue
                .chips()
                .iter()
                .filter(|chip| {
                    let mut texts = names(&chip.name, &chip.aliases);
                    texts.extend([chip.vendor.as_str(), &chip.family]);
                    texts.extend(chip.npu_family.as_deref());
                    let sizes: Vec<f64> = chip
                        .memory_gb
                        .iter()
                        .chain(&chip.memory_options_gb)
                        .copied()
                        .collect();
                    has_all(&texts, &sizes)
                })
                .collect(),
            models: catalogue
                .models()
                .iter()
                .filter(|model| {
                    let mut texts = names(&model.name, &model.aliases);
                    texts.push(&model.architecture);
                    has_all(&texts, &[])
                })
                .collect(),
            parts: catalogue
                .parts()
                .iter()
                .filter(|part| {
                    let mut texts = names(&part.name, &part.aliases);
                    texts.extend(part.chips.iter().map(String::as_str));
                    has_all(&texts, part.memory_gb.as_slice())
                })
                .collect(),
            offers: catalogue
                .offers()
                .iter()
                .filter(|offer| has_all(&[&offer.provider, &offer.name, &offer.chip], &[]))
                .collect(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.chips.is_empty()
            && self.models.is_empty()
            && self.parts.is_empty()
            && self.offers.is_empty()
    }

    /// A table for each kind, of `limit` rows at most.
    pub(super) fn text(&self, limit: usize) -> String {
        use Align::{Left, Right};
        let tables = [
            section(
                [Left, Left, Left, Right, Right, Right],
                ["chip", "class", "family", "memory GB", "GB/s", "watts"],
                &self.chips,
                limit,
                |chip| {
                    [
                        output::line(&chip.name, 60),
                        format!("{:?}", chip.class).to_lowercase(),
                        chip.family.clone(),
                        memory(chip),
                        number(chip.bandwidth_gbs),
                        number(chip.tdp_w),
                    ]
                },
            ),
            section(
                [Left, Right, Right, Right, Right],
                ["model", "parameters", "active", "layers", "context"],
                &self.models,
                limit,
                |model| {
                    [
                        output::line(&model.name, 60),
                        output::count((model.params_b * 1e9) as u64),
                        model
                            .active_b
                            .map_or_else(dash, |b| output::count((b * 1e9) as u64)),
                        model.n_layer.to_string(),
                        model.n_ctx.to_string(),
                    ]
                },
            ),
            section(
                [Left, Left, Right, Left],
                ["part or machine", "kind", "US$", "priced"],
                &self.parts,
                limit,
                |part| {
                    [
                        output::line(&part.name, 60),
                        kind(part.kind).to_owned(),
                        format!("{:.0}", part.usd),
                        part.source.date.to_string(),
                    ]
                },
            ),
            section(
                [Left, Left, Left, Right, Right, Left],
                ["provider", "offer", "chip", "count", "US$/chip·h", "priced"],
                &self.offers,
                limit,
                |offer| {
                    [
                        output::line(&offer.provider, 20),
                        output::line(&offer.name, 40),
                        output::line(&offer.chip, 50),
                        offer.count.to_string(),
                        output::number(offer.chip_usd_hour()),
                        offer.source.date.to_string(),
                    ]
                },
            ),
        ];
        let tables: Vec<String> = tables
            .into_iter()
            .filter(|table| !table.is_empty())
            .collect();
        tables.join("\n")
    }
}

/// A part's kind in words.
fn kind(kind: PartKind) -> &'static str {
    match kind {
        PartKind::PowerSupply => "power supply",
        PartKind::Board => "board",
        PartKind::Processor => "processor",
        PartKind::Cooler => "cooler",
        PartKind::Memory => "memory",
        PartKind::Storage => "storage",
        PartKind::Case => "case",
        PartKind::Cable => "cable",
        PartKind::MiniPc => "mini PC",
        PartKind::Laptop => "laptop",
        PartKind::Desktop => "desktop",
        PartKind::BoardComputer => "single-board computer",
    }
}

/// Rows of a kind as a table, or nothing if there are none.
fn section<T, const N: usize>(
    align: [Align; N],
    heading: [&str; N],
    rows: &[&T],
    limit: usize,
    cells: impl Fn(&T) -> [String; N],
) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut lines = vec![heading.map(str::to_owned)];
    lines.extend(rows.iter().take(limit).map(|row| cells(row)));
    let mut text = output::table(align, &lines);
    if rows.len() > limit {
        text.push_str(&format!("... and {} more\n", rows.len() - limit));
    }
    text
}

fn dash() -> String {
    "-".to_owned()
}

/// A figure, or a dash where none is known.
pub(super) fn number(value: Option<f64>) -> String {
    value.map_or_else(dash, plain)
}

/// A figure without trailing zeros.
pub(super) fn plain(value: f64) -> String {
    let rounded = (value * 100.0).round() / 100.0;
    rounded.to_string()
}

/// The sizes of memory that a chip has or can be had with.
pub(super) fn memory(chip: &Chip) -> String {
    match (chip.memory_gb, chip.memory_options_gb.as_slice()) {
        (Some(gb), _) => plain(gb),
        (None, []) => dash(),
        (None, [gb]) => plain(*gb),
        (None, [first, .., last]) => format!("{}-{}", plain(*first), plain(*last)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_words_have_to_be_there() {
        let catalogue = Catalogue::builtin();
        let chips = |words: &str| -> Vec<&str> {
            let found = Found::of(catalogue, words);
            found.chips.iter().map(|chip| chip.name.as_str()).collect()
        };
        assert!(chips("rtx 3090").contains(&"NVIDIA GeForce RTX 3090"));
        assert!(chips("ampere 24gb").contains(&"NVIDIA GeForce RTX 3090"));
        assert!(!chips("ampere 24gb").contains(&"NVIDIA GeForce RTX 3070"));
        assert!(Found::of(catalogue, "no such thing at all").is_empty());
        let models = Found::of(catalogue, "qwen3 8b").models;
        assert!(models.iter().any(|model| model.name == "qwen3-8b"));
    }

    #[test]
    fn tables_are_cut_to_the_limit() {
        let found = Found::of(Catalogue::builtin(), "nvidia geforce");
        let text = found.text(3);
        assert!(text.starts_with("chip "), "{text}");
        assert!(text.contains("... and "), "{text}");
    }

    #[test]
    fn figures_are_plain() {
        for (value, want) in [(1008.0, "1008"), (936.2, "936.2"), (0.125, "0.13")] {
            assert_eq!(plain(value), want);
        }
    }
}
