//! Parts lists: what a computer around some cards costs, and whether its parts go together.
//!
//! Parts and prices are the catalogue's. A part of which there is no price is named as lacking; none is made up.

use serde::Serialize;
use troika_base::DeviceProfile;

use super::rig;
use crate::catalogue::{self, Catalogue, Chip, Condition, Date, Part, PartKind};

/// Memory that a computer around cards has at least, in GB: files pass through it on their way to a card.
const HOST_MEMORY_GB: f64 = 16.0;
/// Its disk, in GB: a few dozen models.
const HOST_STORAGE_GB: f64 = 500.0;
/// What board, memory, disk and fans take at work, in watts, beside processor and cards.
const HOST_REST_W: f64 = 50.0;

/// What kind of machine somebody gets for their money.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sort {
    /// A mini PC.
    MiniPc,
    /// A laptop.
    Laptop,
    /// A desktop computer or workstation, sold whole.
    Desktop,
    /// A single-board computer.
    BoardComputer,
    /// A computer built around one card.
    OneCard,
    /// A computer built around two cards.
    TwoCards,
    /// A chip; what is around it is not in the price.
    Chip,
}

impl Sort {
    /// A phrase for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::MiniPc => "mini PC",
            Self::Laptop => "laptop",
            Self::Desktop => "desktop",
            Self::BoardComputer => "single-board computer",
            Self::OneCard => "computer with one GPU",
            Self::TwoCards => "computer with two GPUs",
            Self::Chip => "chip",
        }
    }
}

/// A line of a parts list.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Line {
    /// What is bought.
    pub what: String,
    /// For what: `power supply`.
    pub role: &'static str,
    /// New, refurbished or used.
    pub condition: Condition,
    /// Price of one, in US dollars.
    pub usd: f64,
    /// How many.
    pub count: u32,
    /// The day of the price.
    pub date: Date,
}

/// Something that has to be right about a computer.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Check {
    /// `power supply`, `link of card 2`.
    pub what: String,
    /// What it comes to, in words with numbers.
    pub finding: String,
    /// Whether it is right; absent where a fact is missing.
    pub holds: Option<bool>,
}

/// What buying something costs.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Outlay {
    /// What one gets.
    pub sort: Sort,
    /// The parts.
    pub lines: Vec<Line>,
    /// US dollars of all lines.
    pub usd: f64,
    /// With the lowest prices seen.
    pub low_usd: f64,
    /// With the highest.
    pub high_usd: f64,
    /// The day of the oldest price.
    pub oldest: Date,
    /// Parts that it needs and of which no price is known.
    pub lacking: Vec<String>,
    /// What was checked.
    pub checks: Vec<Check>,
    /// Watts at rest of what is around the devices, where known.
    pub host_idle_w: Option<f64>,
    /// 10⁹ bytes a second between its cards.
    pub link_gbs: Option<f64>,
    /// The processor beside its cards, with its memory; absent where too little is known of it to compute with.
    #[serde(skip)]
    pub host: Option<DeviceProfile>,
}

impl Outlay {
    /// A machine that is sold whole.
    pub(super) fn of_machine(part: &Part) -> Self {
        let sort = match part.kind {
            PartKind::MiniPc => Sort::MiniPc,
            PartKind::Laptop => Sort::Laptop,
            PartKind::BoardComputer => Sort::BoardComputer,
            _ => Sort::Desktop,
        };
        let mut outlay = Self::empty(sort, part.source.date);
        outlay.add(part, "machine");
        outlay.host_idle_w = part.idle_w;
        outlay.checks.push(Check {
            what: "memory".to_owned(),
            finding: match part.memory_gb {
                Some(gb) => format!("{gb} GB, soldered or as sold"),
                None => "not stated".to_owned(),
            },
            holds: part.memory_gb.map(|_| true),
        });
        outlay
    }

    /// A chip that is priced by itself.
    pub(super) fn of_chip(catalogue: &Catalogue, chip: &Chip) -> Option<Self> {
        let price = *catalogue.prices_of(&chip.name).first()?;
        let mut outlay = Self::empty(Sort::Chip, price.source.date);
        outlay.add_price(&chip.name, price, 1);
        Some(outlay)
    }

    fn empty(sort: Sort, oldest: Date) -> Self {
        Self {
            sort,
            lines: Vec::new(),
            usd: 0.0,
            low_usd: 0.0,
            high_usd: 0.0,
            oldest,
            lacking: Vec::new(),
            checks: Vec::new(),
            host_idle_w: None,
            link_gbs: None,
            host: None,
        }
    }

    /// What somebody says that something costs.
    pub(super) fn given(what: &str, usd: f64, today: Date) -> Self {
        let mut outlay = Self::empty(Sort::Chip, today);
        let (role, new) = ("as described", Condition::New);
        outlay.add_line(what, role, new, [None, None], usd, 1, today);
        outlay
    }

    fn add(&mut self, part: &Part, role: &'static str) {
        let date = part.source.date;
        self.add_line(
            &part.name,
            role,
            part.condition,
            [part.low_usd, part.high_usd],
            part.usd,
            1,
            date,
        );
    }

    fn add_price(&mut self, chip: &str, price: &crate::catalogue::Price, count: u32) {
        let ends = [price.low_usd, price.high_usd];
        self.add_line(
            chip,
            "chip",
            price.kind,
            ends,
            price.usd,
            count,
            price.source.date,
        );
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the fields of a line, from rows of two kinds"
    )]
    fn add_line(
        &mut self,
        what: &str,
        role: &'static str,
        condition: Condition,
        [low, high]: [Option<f64>; 2],
        usd: f64,
        count: u32,
        date: Date,
    ) {
        let n = f64::from(count);
        self.usd += n * usd;
        self.low_usd += n * low.unwrap_or(usd);
        self.high_usd += n * high.unwrap_or(usd);
        self.oldest = self.oldest.min(date);
        self.lines.push(Line {
            what: what.to_owned(),
            role,
            condition,
            usd,
            count,
            date,
        });
    }

    /// The cheapest part of a kind that is good enough, or a note that none is.
    fn take<'c>(
        &mut self,
        catalogue: &'c Catalogue,
        (kind, role): (PartKind, &'static str),
        enough: impl Fn(&Part) -> bool,
    ) -> Option<&'c Part> {
        let parts = catalogue
            .parts()
            .iter()
            .filter(|part| part.kind == kind && enough(part));
        let part = parts.min_by(|a, b| a.usd.total_cmp(&b.usd));
        match part {
            Some(part) => self.add(part, role),
            None => self.lacking.push(role.to_owned()),
        }
        part
    }
}

/// A computer built around some cards of one kind; `None` where the card has no price.
pub(super) fn around(catalogue: &Catalogue, cards: &[&Chip]) -> Option<Outlay> {
    let card = cards.first()?;
    let count = cards.len();
    // The usual price is that of the cheapest condition in which the card is sold.
    let prices = catalogue.prices_of(&card.name);
    let price = prices.into_iter().min_by(|a, b| a.usd.total_cmp(&b.usd))?;
    let sort = if count > 1 {
        Sort::TwoCards
    } else {
        Sort::OneCard
    };
    let mut outlay = Outlay::empty(sort, price.source.date);
    outlay.add_price(&card.name, price, count as u32);
    let slots = |part: &Part| {
        part.slots
            .iter()
            .filter(|slot| slot.starts_with("pcie"))
            .count()
    };
    let sold = |kind, fits: &dyn Fn(&Part) -> bool| {
        catalogue
            .parts()
            .iter()
            .any(|part| part.kind == kind && fits(part))
    };
    let board = outlay.take(catalogue, (PartKind::Board, "board"), |board| {
        // A board for which no processor is listed makes no computer.
        slots(board) >= count
            && sold(PartKind::Processor, &|processor| {
                processor.socket == board.socket
            })
    });
    let processor = outlay.take(catalogue, (PartKind::Processor, "processor"), |processor| {
        board.is_some_and(|board| processor.socket == board.socket)
    });
    let memory = outlay.take(catalogue, (PartKind::Memory, "memory"), |memory| {
        memory.memory_gb.is_some_and(|gb| {
            gb >= HOST_MEMORY_GB
                && board
                    .and_then(|board| board.memory_max_gb)
                    .is_none_or(|max| gb <= max)
        }) && board.is_none_or(|board| {
            board.memory_kind.is_none() || memory.memory_kind == board.memory_kind
        })
    });
    outlay.take(catalogue, (PartKind::Storage, "disk"), |disk| {
        disk.storage_gb.is_some_and(|gb| gb >= HOST_STORAGE_GB)
    });
    let case = outlay.take(catalogue, (PartKind::Case, "case"), |_| true);
    // Some cases are priced with the cooler that goes into them.
    if case.is_none_or(|case| !case.name.contains("cooler")) {
        outlay.take(catalogue, (PartKind::Cooler, "cooler"), |_| true);
    }
    power(&mut outlay, catalogue, card, count, processor);
    links(&mut outlay, card, count, board);
    outlay.checks.push(Check {
        what: "memory".to_owned(),
        finding: match memory.and_then(|memory| memory.memory_gb) {
            Some(gb) => format!(
                "{gb} GB beside the cards; files pass through it, at least {HOST_MEMORY_GB} GB"
            ),
            None => "no fitting memory is listed".to_owned(),
        },
        holds: memory.map(|_| true),
    });
    outlay.host_idle_w = processor.and_then(|processor| processor.idle_w);
    let chip = processor.and_then(|part| Some(catalogue.chip(&part.name).ok()?.row));
    outlay.host = chip
        .zip(memory.and_then(|memory| memory.memory_gb))
        .and_then(|(chip, gb)| rig::host(chip, gb));
    Some(outlay)
}

/// Chooses the power supply: cards, processor and the rest may take no more than its share of the watts.
fn power(
    outlay: &mut Outlay,
    catalogue: &Catalogue,
    card: &Chip,
    count: usize,
    processor: Option<&Part>,
) {
    let load = catalogue.thresholds().supply_load;
    let Some(card_w) = card.tdp_w else {
        outlay.lacking.push("power supply".to_owned());
        outlay.checks.push(Check {
            what: "power supply".to_owned(),
            finding: format!("the power that {} takes is not known", card.name),
            holds: None,
        });
        return;
    };
    let processor_w = processor.and_then(|processor| processor.draw_w);
    let draw_w = count as f64 * card_w + processor_w.unwrap_or(0.0) + HOST_REST_W;
    let need_w = draw_w / load;
    let supply = outlay.take(
        catalogue,
        (PartKind::PowerSupply, "power supply"),
        |supply| supply.supply_w.is_some_and(|watts| watts >= need_w),
    );
    let cards = format!(
        "{count} × {card_w:.0} W + processor {:.0} W + {HOST_REST_W:.0} W",
        processor_w.unwrap_or(0.0)
    );
    outlay.checks.push(Check {
        what: "power supply".to_owned(),
        finding: match supply.and_then(|supply| supply.supply_w) {
            Some(watts) => {
                format!("{cards} = {draw_w:.0} W, over {load} = {need_w:.0} W, has {watts:.0} W")
            }
            None => format!(
                "{cards} = {draw_w:.0} W, over {load} = {need_w:.0} W: none so big is listed"
            ),
        },
        holds: Some(supply.is_some()),
    });
}

/// Looks at what each card's slot carries when all are taken.
fn links(outlay: &mut Outlay, card: &Chip, count: usize, board: Option<&Part>) {
    let Some(board) = board else {
        return;
    };
    let mut slots: Vec<_> = board
        .slots
        .iter()
        .filter_map(|slot| Some((slot, catalogue::link_gbs(slot)?)))
        .collect();
    slots.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    for (number, (slot, slot_gbs)) in (1..).zip(slots.iter().take(count)) {
        let joined = card
            .link
            .as_deref()
            .and_then(|own| catalogue::joined_gbs(slot, own));
        let gbs = joined.unwrap_or(*slot_gbs);
        if count > 1 {
            outlay.link_gbs = Some(outlay.link_gbs.map_or(gbs, |least| least.min(gbs)));
        }
        let of = card.link.as_deref().unwrap_or("unknown link");
        outlay.checks.push(Check {
            what: format!("link of card {number}"),
            finding: format!("{slot} for a card of {of}: {gbs:.1} GB/s"),
            // Four lanes of PCIe 4 load 24 GB in three seconds, and layers pass but kilobytes.
            holds: Some(gbs >= 7.8),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::{catalogue, catalogue_with};

    #[test]
    fn two_cards_get_a_supply_that_is_big_enough_and_a_board_with_two_slots() {
        let catalogue = catalogue();
        let card = catalogue.chip("Test Card 24").expect("is there").row;
        let one = around(&catalogue, &[card]).expect("is priced");
        let two = around(&catalogue, &[card, card]).expect("is priced");
        assert_eq!(two.lacking, [""; 0]);
        let has = |outlay: &Outlay, what: &str| outlay.lines.iter().any(|line| line.what == what);
        // 350 + 65 + 50 = 465 W over 0.77 is 604 W; with two cards 815 W, 1058 W.
        assert!(
            has(&one, "Supply 650") && has(&two, "Supply 1200"),
            "{:#?}",
            two.lines
        );
        assert!(has(&one, "Board 1") && has(&two, "Board 2"));
        assert!(two.usd > one.usd + 700.0 && two.low_usd < two.usd);
        assert!(
            two.checks.iter().all(|check| check.holds == Some(true)),
            "{:#?}",
            two.checks
        );
    }

    #[test]
    fn what_no_part_can_do_is_lacking() {
        let more = "[[chip]]\nname = 'Furnace'\nvendor = 'nvidia'\nkind = 'gpu'\nclass = 'desktop'\nfamily = 'ada'\nmemory = 'own'\n\
                    memory_gb = 8.0\nbandwidth_gbs = 100.0\ntdp_w = 2000.0\nlink = 'pcie4x16'\nSOURCE\n\
                    [[price]]\nitem = 'Furnace'\nkind = 'new'\nusd = 5.0\nSOURCE\n";
        let catalogue = catalogue_with(more);
        let card = catalogue.chip("Furnace").expect("is there").row;
        let outlay = around(&catalogue, &[card]).expect("is priced");
        assert_eq!(outlay.lacking, ["power supply"]);
        assert!(outlay.checks.iter().any(|check| check.holds == Some(false)));
    }

    #[test]
    fn a_card_without_a_price_makes_no_list() {
        let catalogue = catalogue();
        let card = catalogue.chip("Test Unpriced").expect("is there").row;
        assert_eq!(around(&catalogue, &[card]), None);
    }
}
