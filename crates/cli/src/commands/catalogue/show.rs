//! Everything that is known of one row of the catalogue.

use anyhow::bail;
use serde::Serialize;
use troika_planner::catalogue::{
    Basis, Catalogue, Chip, Country, Date, Model, Offer, Part, Price, Rate, Source, Support, strict,
};

use super::found::{memory, plain};
use crate::output::{self, Align, Console};

/// Offers to show: the cheapest ones.
const OFFERS_MAX: usize = 8;

/// A row and what else is known of it.
#[derive(Serialize)]
#[serde(untagged)]
enum Shown<'c> {
    Chip(ChipSheet<'c>),
    Model {
        model: &'c Model,
        /// By the shape; the row's own figure is proved by it.
        computed_params_b: Option<f64>,
    },
    Part {
        part: &'c Part,
        prices: Vec<&'c Price>,
    },
    Country {
        country: &'c Country,
    },
}

#[derive(Serialize)]
struct ChipSheet<'c> {
    chip: &'c Chip,
    prices: Vec<&'c Price>,
    offers: Vec<&'c Offer>,
    support: Vec<&'c Support>,
    parts: Vec<&'c Part>,
}

pub(super) fn run(name: &str, catalogue: &Catalogue, console: &Console) -> anyhow::Result<()> {
    let shown = find(name, catalogue)?;
    if console.json {
        return output::json(&shown);
    }
    output::answer(match &shown {
        Shown::Chip(sheet) => chip_text(sheet, catalogue),
        Shown::Model {
            model,
            computed_params_b,
        } => model_text(model, *computed_params_b),
        Shown::Part { part, prices } => part_text(part, prices),
        Shown::Country { country } => country_text(country),
    })
}

/// The row of a name: a chip before a model before a part before a country.
fn find<'c>(name: &str, catalogue: &'c Catalogue) -> anyhow::Result<Shown<'c>> {
    let chip = match catalogue.chip(name) {
        Ok(found) => {
            let chip = found.row;
            let parts = catalogue.parts().iter();
            return Ok(Shown::Chip(ChipSheet {
                chip,
                prices: catalogue.prices_of(&chip.name),
                offers: catalogue.offers_of(&chip.name),
                support: catalogue.support_of(chip).collect(),
                parts: parts
                    .filter(|part| part.chips.contains(&chip.name))
                    .collect(),
            }));
        }
        Err(unknown) => unknown,
    };
    let model = match catalogue.model(name) {
        Ok(found) => {
            return Ok(Shown::Model {
                model: found.row,
                computed_params_b: found.row.computed_params_b(),
            });
        }
        Err(unknown) => unknown,
    };
    let key = strict(name);
    let mut parts = catalogue.parts().iter();
    if let Some(part) = parts.find(|part| strict(&part.name) == key) {
        let prices = catalogue.prices_of(&part.name);
        return Ok(Shown::Part { part, prices });
    }
    if let Ok(country) = catalogue.country(name) {
        return Ok(Shown::Country { country });
    }
    if chip.is_ambiguous {
        bail!(chip);
    }
    if model.is_ambiguous {
        bail!(model);
    }
    let closest: Vec<String> = chip.closest.into_iter().chain(model.closest).collect();
    let name = output::line(name, 80);
    match closest.is_empty() {
        true => bail!("the catalogue has nothing called {name:?}, nor anything like it"),
        false => bail!(
            "the catalogue has nothing called {name:?}; closest: {}",
            closest.join(", ")
        ),
    }
}

/// Names and values below each other.
#[derive(Default)]
struct Facts(Vec<[String; 2]>);

impl Facts {
    fn add(&mut self, name: &str, value: impl Into<String>) {
        let value = output::printable(&value.into()).into_owned();
        if !value.is_empty() {
            self.0.push([name.to_owned(), value]);
        }
    }

    fn number(&mut self, name: &str, value: Option<f64>, unit: &str) {
        if let Some(value) = value {
            self.add(name, format!("{} {unit}", plain(value)));
        }
    }

    fn source(&mut self, source: &Source) {
        self.add("source", from(source));
        self.add("note", source.note.clone().unwrap_or_default());
    }

    fn text(&self) -> String {
        output::table([Align::Left, Align::Left], &self.0)
    }
}

fn from(source: &Source) -> String {
    format!("{} ({})", source.url, source.date)
}

fn words<T: std::fmt::Debug>(value: T) -> String {
    format!("{value:?}").to_lowercase()
}

fn chip_text(sheet: &ChipSheet<'_>, catalogue: &Catalogue) -> String {
    let chip = sheet.chip;
    let mut facts = Facts::default();
    facts.add("name", &chip.name);
    facts.add("also", chip.aliases.join(", "));
    facts.add(
        "kind",
        format!(
            "{} for {}, {}",
            words(chip.kind),
            words(chip.class),
            chip.vendor
        ),
    );
    let npu = chip.npu_family.as_ref().map(|npu| format!(", NPU {npu}"));
    facts.add(
        "family",
        format!("{}{}", chip.family, npu.unwrap_or_default()),
    );
    facts.add(
        "announced",
        chip.announced
            .map(|day| day.to_string())
            .unwrap_or_default(),
    );
    facts.add(
        "released",
        chip.released.map(|day| day.to_string()).unwrap_or_default(),
    );
    let kind = chip.memory_kind.as_deref().unwrap_or("of unknown kind");
    facts.add(
        "memory",
        format!("{} GB {kind}, {}", memory(chip), words(chip.memory)),
    );
    facts.number("bandwidth", chip.bandwidth_gbs, "GB/s");
    let blocks = chip.block_bandwidth_gbs.unwrap_or_default();
    facts.number("  of the CPU", blocks.cpu, "GB/s");
    facts.number("  of the GPU", blocks.gpu, "GB/s");
    facts.number("  of the NPU", blocks.npu, "GB/s");
    let limits = chip.limits.unwrap_or_default();
    facts.number("NPU session", limits.npu_session_gb, "GB at most");
    facts.number(
        "NPU memory",
        limits.npu_share.map(|share| share * 100.0),
        "% of all",
    );
    facts.number(
        "GPU memory",
        limits.gpu_share.map(|share| share * 100.0),
        "% of all",
    );
    facts.number("power", chip.tdp_w, "W");
    facts.number("at rest", chip.idle_w, "W");
    facts.number("cores", chip.cores.map(f64::from), "");
    facts.number("clock", chip.boost_mhz, "MHz");
    facts.add("link", chip.link.clone().unwrap_or_default());
    facts.source(&chip.source);
    let mut text = facts.text();
    text.push_str(&rates_text(&chip.rates));
    text.push_str(&prices_text(&sheet.prices, catalogue));
    text.push_str(&offers_text(&sheet.offers));
    text.push_str(&support_text(&sheet.support));
    if !sheet.parts.is_empty() {
        let parts = sheet.parts.iter();
        let parts: Vec<_> = parts
            .map(|part| format!("{} (US$ {:.0})", part.name, part.usd))
            .collect();
        text.push_str(&format!("\nin: {}\n", parts.join(", ")));
    }
    text
}

fn rates_text(rates: &[Rate]) -> String {
    if rates.is_empty() {
        return String::new();
    }
    let mut rows = vec![["10¹² operations/s", "dense", "sparse", ""].map(str::to_owned)];
    for rate in rates {
        let figure = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), plain);
        let basis = match rate.basis {
            Some(Basis::Unstated) => "density or format not stated",
            None => "",
        };
        rows.push([
            format!(
                "{} {} {}",
                words(rate.block),
                words(rate.unit),
                words(rate.format)
            ),
            figure(rate.dense),
            figure(rate.sparse),
            basis.to_owned(),
        ]);
    }
    use Align::{Left, Right};
    format!("\n{}", output::table([Left, Right, Right, Left], &rows))
}

fn prices_text(prices: &[&Price], catalogue: &Catalogue) -> String {
    if prices.is_empty() {
        return String::new();
    }
    let mut rows = vec![["to buy", "US$", "range", "source"].map(str::to_owned)];
    let stale_days = catalogue.thresholds().stale_price_days;
    for price in prices {
        let range = match (price.low_usd, price.high_usd) {
            (None, None) => String::new(),
            (low, high) => format!(
                "{:.0}-{:.0}",
                low.unwrap_or(price.usd),
                high.unwrap_or(price.usd)
            ),
        };
        let age_days = f64::from(price.source.date.days_until(Date::today()));
        let stale = if age_days > stale_days { ", old" } else { "" };
        rows.push([
            words(price.kind),
            format!("{:.0}", price.usd),
            range,
            format!("{}{stale}", from(&price.source)),
        ]);
    }
    use Align::{Left, Right};
    format!("\n{}", output::table([Left, Right, Right, Left], &rows))
}

fn offers_text(offers: &[&Offer]) -> String {
    if offers.is_empty() {
        return String::new();
    }
    let mut rows = vec![
        [
            "to rent",
            "count",
            "US$/node·h",
            "US$/chip·h",
            "spot",
            "source",
        ]
        .map(str::to_owned),
    ];
    for offer in offers.iter().take(OFFERS_MAX) {
        rows.push([
            format!("{} {}", offer.provider, offer.name),
            offer.count.to_string(),
            output::number(offer.node_usd_hour),
            output::number(offer.chip_usd_hour()),
            offer
                .spot_usd_hour
                .map_or_else(|| "-".to_owned(), output::number),
            from(&offer.source),
        ]);
    }
    use Align::{Left, Right};
    let mut text = format!(
        "\n{}",
        output::table([Left, Right, Right, Right, Right, Left], &rows)
    );
    if offers.len() > OFFERS_MAX {
        text.push_str(&format!("... and {} more\n", offers.len() - OFFERS_MAX));
    }
    text
}

fn support_text(support: &[&Support]) -> String {
    if support.is_empty() {
        return String::new();
    }
    let heading = ["software", "llm", "embed", "asr", "vision", "train", "note"];
    let mut rows = vec![heading.map(str::to_owned)];
    for row in support {
        let jobs = row.jobs;
        rows.push([
            row.runtime.clone(),
            words(jobs.llm),
            words(jobs.embed),
            words(jobs.asr),
            words(jobs.vision),
            words(jobs.train),
            remarks(row),
        ]);
    }
    format!("\n{}", output::table([Align::Left; 7], &rows))
}

fn remarks(row: &Support) -> String {
    let contexts = row
        .context_max
        .map(|tokens| format!("contexts of {tokens} tokens at most"));
    let all = contexts.into_iter().chain(row.note.clone());
    all.collect::<Vec<_>>().join("; ")
}

fn model_text(model: &Model, computed: Option<f64>) -> String {
    let mut facts = Facts::default();
    facts.add("name", &model.name);
    facts.add("also", model.aliases.join(", "));
    facts.add(
        "architecture",
        format!("{}, {}", model.architecture, words(model.task)),
    );
    facts.number("parameters", Some(model.params_b), "· 10⁹");
    facts.number("  by the shape", computed, "· 10⁹");
    facts.number("  active", model.active_b, "· 10⁹");
    facts.add(
        "layers",
        format!(
            "{}, {} of them see all tokens",
            model.n_layer,
            model.full_layers()
        ),
    );
    facts.add(
        "width",
        format!("{}, feed-forward {}", model.n_embd, model.n_ff),
    );
    facts.add(
        "heads",
        format!(
            "{} of {}, {} for keys and values",
            model.n_head, model.head_dim, model.n_head_kv
        ),
    );
    if let Some(experts) = model.experts {
        facts.add(
            "experts",
            format!(
                "{} of {}, {} wide each",
                experts.active, experts.count, experts.n_ff
            ),
        );
    }
    if let Some(window) = model.attention {
        facts.add("window", format!("{} tokens", window.window));
    }
    if let Some(mla) = model.mla {
        facts.add(
            "latent",
            format!(
                "{} + {} values a token and layer",
                mla.kv_rank, mla.rope_dim
            ),
        );
    }
    facts.add("vocabulary", model.n_vocab.to_string());
    facts.add("context", format!("{} tokens", model.n_ctx));
    facts.add("licence", model.licence.clone().unwrap_or_default());
    facts.source(&model.source);
    facts.text()
}

fn part_text(part: &Part, prices: &[&Price]) -> String {
    let mut facts = Facts::default();
    facts.add("name", &part.name);
    facts.add("kind", words(part.kind));
    facts.number("price", Some(part.usd), "US$");
    facts.add("condition", words(part.condition));
    facts.add("chips", part.chips.join(", "));
    facts.number("gives", part.supply_w, "W");
    facts.number("takes", part.draw_w, "W");
    facts.number("at rest", part.idle_w, "W");
    facts.add("slots", part.slots.join(", "));
    facts.add("socket", part.socket.clone().unwrap_or_default());
    facts.number("memory", part.memory_gb, "GB");
    facts.number("memory", part.memory_max_gb, "GB at most");
    facts.number("bandwidth", part.bandwidth_gbs, "GB/s");
    facts.number("storage", part.storage_gb, "GB");
    facts.number("battery", part.battery_wh, "Wh");
    for price in prices {
        facts.add(
            &words(price.kind),
            format!("US$ {:.0}, {}", price.usd, from(&price.source)),
        );
    }
    facts.source(&part.source);
    facts.text()
}

fn country_text(country: &Country) -> String {
    let mut facts = Facts::default();
    facts.add("name", format!("{} ({})", country.name, country.code));
    facts.number(
        "electricity",
        Some(country.usd_kwh * 100.0),
        "US cents a kWh, households",
    );
    facts.number(
        "  businesses",
        country.business_usd_kwh.map(|usd| usd * 100.0),
        "US cents a kWh",
    );
    facts.number("emissions", country.gco2_kwh, "g CO₂ a kWh");
    facts.source(&country.source);
    facts.text()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(name: &str) -> Shown<'static> {
        find(name, Catalogue::builtin()).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    #[test]
    fn names_are_found_by_kind() {
        assert!(matches!(shown("rtx 3090"), Shown::Chip(sheet) if !sheet.support.is_empty()));
        assert!(
            matches!(shown("llama3.1:8b"), Shown::Model { model, .. } if model.name == "llama-3.1-8b")
        );
        assert!(matches!(shown("Mac mini M4 24 GB"), Shown::Part { .. }));
        assert!(matches!(shown("Germany"), Shown::Country { country } if country.code == "DE"));
    }

    #[test]
    fn unknown_names_offer_the_closest() {
        let message = |name: &str| match find(name, Catalogue::builtin()) {
            Ok(_) => panic!("{name} is not known"),
            Err(error) => error.to_string(),
        };
        assert!(
            message("RTX 3900").contains("RTX 3090"),
            "{}",
            message("RTX 3900")
        );
        assert!(
            message("qwen9-8b").contains("qwen3-8b"),
            "{}",
            message("qwen9-8b")
        );
        assert!(message("€").contains("nothing called"));
    }

    #[test]
    fn a_sheet_has_its_source() {
        let Shown::Chip(sheet) = shown("H100 SXM5") else {
            panic!("is a chip");
        };
        let text = chip_text(&sheet, Catalogue::builtin());
        for part in ["https://", "gpu matrix fp16", "to rent", "cuda"] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
    }
}
