//! What is wrong with what costs money.

use std::collections::HashSet;

use super::super::trade::{Country, Egress, Offer, Part, PartKind, Price};
use super::super::{Catalogue, Identity as _, strict};
use super::{OfRow, Report};

pub(super) fn check(catalogue: &Catalogue, report: &mut Report) {
    let chips: HashSet<String> = catalogue
        .chips()
        .iter()
        .map(|chip| strict(&chip.name))
        .collect();
    let parts: HashSet<String> = catalogue
        .parts()
        .iter()
        .map(|part| strict(&part.name))
        .collect();
    report.duplicates(&catalogue.offers);
    report.duplicates(&catalogue.egress);
    report.duplicates(&catalogue.prices);
    report.duplicates(&catalogue.countries);
    let with_names = catalogue.parts.with_files();
    report.shared_names(with_names.map(|(file, part)| (file, &part.name, &part.aliases)));
    for (file, row) in catalogue.offers.with_files() {
        offer(row, &chips, &mut report.of(file, &row.identity()));
    }
    for (file, row) in catalogue.egress.with_files() {
        egress(row, &mut report.of(file, &row.identity()));
    }
    for (file, row) in catalogue.prices.with_files() {
        let mut of = report.of(file, &row.item);
        of.expect(
            chips.contains(&strict(&row.item)) || parts.contains(&strict(&row.item)),
            || "no chip and no part has that name".to_owned(),
        );
        price(row, &mut of);
    }
    for (file, row) in catalogue.parts.with_files() {
        part(row, &chips, &mut report.of(file, &row.name));
    }
    for (file, row) in catalogue.countries.with_files() {
        country(row, &mut report.of(file, &row.code));
    }
}

fn chip_is_there(name: &str, chips: &HashSet<String>, of: &mut OfRow<'_>) {
    of.expect(chips.contains(&strict(name)), || {
        format!("no chip has the name {name:?}")
    });
}

fn offer(offer: &Offer, chips: &HashSet<String>, of: &mut OfRow<'_>) {
    of.source(&offer.source);
    chip_is_there(&offer.chip, chips, of);
    of.range("count", f64::from(offer.count), 1.0, 1_024.0);
    of.range("the price of a chip", offer.chip_usd_hour(), 0.01, 100.0);
    of.range(
        "spot_usd_hour",
        offer.spot_usd_hour,
        0.001,
        offer.node_usd_hour * 1.001,
    );
    of.range("minimum_s", offer.minimum_s, 0.0, 366.0 * 86_400.0);
    of.range("sla", offer.sla, 0.9, 1.0);
    of.range("vcpus", offer.vcpus, 0.25, 4_096.0);
    of.range("memory_gb", offer.memory_gb, 0.5, 65_536.0);
}

fn egress(egress: &Egress, of: &mut OfRow<'_>) {
    of.source(&egress.source);
    of.range("free_gb_month", egress.free_gb_month, 0.0, 1e7);
    let ends: Vec<_> = egress
        .tiers
        .iter()
        .map(|tier| tier.up_to_gb.unwrap_or(f64::INFINITY))
        .collect();
    of.expect(
        ends.is_sorted_by(|a, b| a < b) && ends.last() == Some(&f64::INFINITY),
        || "its tiers have to ascend, and the last has no end".to_owned(),
    );
    for tier in &egress.tiers {
        of.range("usd_gb", tier.usd_gb, 0.0, 0.5);
    }
}

fn prices(usd: f64, low_usd: Option<f64>, high_usd: Option<f64>, of: &mut OfRow<'_>) {
    of.range("usd", usd, 1.0, 1_000_000.0);
    of.range("low_usd", low_usd, 1.0, usd);
    of.range("high_usd", high_usd, usd, 1_000_000.0);
}

fn price(price: &Price, of: &mut OfRow<'_>) {
    of.source(&price.source);
    prices(price.usd, price.low_usd, price.high_usd, of);
}

fn part(part: &Part, chips: &HashSet<String>, of: &mut OfRow<'_>) {
    of.source(&part.source);
    prices(part.usd, part.low_usd, part.high_usd, of);
    for chip in &part.chips {
        chip_is_there(chip, chips, of);
    }
    of.range("supply_w", part.supply_w, 10.0, 3_500.0);
    of.range("draw_w", part.draw_w, 0.1, 3_500.0);
    of.range("idle_w", part.idle_w, 0.01, part.draw_w.unwrap_or(500.0));
    of.range("memory_gb", part.memory_gb, 0.5, 4_096.0);
    of.range("memory_max_gb", part.memory_max_gb, 1.0, 8_192.0);
    of.range("bandwidth_gbs", part.bandwidth_gbs, 1.0, 2_000.0);
    of.range("storage_gb", part.storage_gb, 8.0, 100_000.0);
    of.range("battery_wh", part.battery_wh, 5.0, 100.0);
    let has = |field: &str, is_there: bool, of: &mut OfRow<'_>| {
        of.expect(is_there, || format!("a {:?} has {field}", part.kind));
    };
    match part.kind {
        PartKind::PowerSupply => has("supply_w", part.supply_w.is_some(), of),
        PartKind::Board => {
            has("slots", !part.slots.is_empty(), of);
            has("a socket", part.socket.is_some(), of);
            has("memory_max_gb", part.memory_max_gb.is_some(), of);
        }
        PartKind::Processor => {
            has("a socket", part.socket.is_some(), of);
            has("draw_w", part.draw_w.is_some(), of);
        }
        PartKind::Memory => has("memory_gb", part.memory_gb.is_some(), of),
        PartKind::Storage => has("storage_gb", part.storage_gb.is_some(), of),
        kind if kind.is_machine() => {
            has("chips", !part.chips.is_empty(), of);
            has("memory_gb", part.memory_gb.is_some(), of);
        }
        _ => {}
    }
    for slot in &part.slots {
        of.expect(is_slot(slot), || {
            format!("{slot:?} is no slot such as pcie5x8")
        });
    }
}

/// `pcie4x16`: a generation and a number of lanes.
fn is_slot(slot: &str) -> bool {
    let Some((generation, lanes)) = slot
        .strip_prefix("pcie")
        .and_then(|slot| slot.split_once('x'))
    else {
        return false;
    };
    matches!(generation, "2" | "3" | "4" | "5" | "6")
        && matches!(lanes, "1" | "2" | "4" | "8" | "16")
}

fn country(country: &Country, of: &mut OfRow<'_>) {
    of.source(&country.source);
    let is_code = country
        .code
        .split('-')
        .all(|part| part.len() >= 2 && part.bytes().all(|b| b.is_ascii_uppercase()));
    of.expect(is_code, || {
        "a country's code is two capital letters".to_owned()
    });
    of.range("usd_kwh", country.usd_kwh, 0.001, 1.0);
    of.range("business_usd_kwh", country.business_usd_kwh, 0.001, 1.0);
    of.range("gco2_kwh", country.gco2_kwh, 0.0, 1_300.0);
}
