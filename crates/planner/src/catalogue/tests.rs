//! The catalogue as a whole: what is built in is sound, names are found, defects are seen, a user's rows win.

use std::time::Instant;

use super::*;

const SOURCE: &str = "source = { url = 'https://example.org', date = 2026-01-02 }";

fn today() -> Date {
    "2026-11-21".parse().expect("is a day")
}

fn chip_row(name: &str, more: &str) -> String {
    format!(
        "[[chip]]\nname = '{name}'\nvendor = 'nvidia'\nkind = 'gpu'\nclass = 'desktop'\nfamily = 'ampere'\n\
         memory = 'own'\n{more}\n{SOURCE}\n"
    )
}

/// A catalogue of the built-in thresholds and these rows.
fn catalogue(rows: &str) -> Catalogue {
    let thresholds = files::BUILT_IN
        .iter()
        .find(|(path, _)| *path == "thresholds.toml");
    let (path, text) = thresholds.expect("is built in");
    let files = [(*path, *text), ("models.toml", rows)];
    let files = files.map(|(path, text)| (Arc::from(path), toml::from_str(text).expect("parses")));
    Catalogue::of_files(files.into_iter()).expect("has thresholds")
}

#[test]
fn what_is_built_in_is_sound() {
    let defects = validate(Catalogue::builtin(), Date::today().max(today()));
    let text: Vec<_> = defects.iter().map(Defect::to_string).collect();
    assert!(
        text.is_empty(),
        "{} defects:\n{}",
        text.len(),
        text.join("\n")
    );
}

/// Parsing takes its part of the 200 ms that a plan may take; unoptimised, some ten times as long.
#[test]
fn what_is_built_in_is_parsed_quickly() {
    let bytes: usize = files::BUILT_IN.iter().map(|(_, text)| text.len()).sum();
    let start = Instant::now();
    for (path, text) in files::BUILT_IN {
        let _: File = toml::from_str(text).unwrap_or_else(|error| panic!("{path}: {error}"));
    }
    let elapsed = start.elapsed();
    println!("{bytes} bytes in {elapsed:?}");
    assert!(elapsed.as_secs_f64() < 4.0, "{elapsed:?}");
}

#[test]
fn chips_are_found_as_people_write_them() {
    let rows = [
        chip_row(
            "NVIDIA GeForce RTX 3090",
            "aliases = ['3090']\nmemory_gb = 24.0",
        ),
        chip_row("NVIDIA GeForce RTX 3060 12GB", "memory_gb = 12.0"),
        chip_row("NVIDIA GeForce RTX 3060 8GB", "memory_gb = 8.0"),
        chip_row("NVIDIA GeForce RTX 3080 Laptop GPU", "memory_gb = 16.0"),
    ];
    let catalogue = catalogue(&rows.concat());
    for (name, want) in [
        ("3090", "NVIDIA GeForce RTX 3090"),
        ("GA102 [GeForce RTX 3090]", "NVIDIA GeForce RTX 3090"),
        ("NVIDIA RTX-3090 24GB", "NVIDIA GeForce RTX 3090"),
        ("rtx 3060 8gb", "NVIDIA GeForce RTX 3060 8GB"),
        ("RTX 3080 mobile", "NVIDIA GeForce RTX 3080 Laptop GPU"),
    ] {
        let found = catalogue.chip(name).map(|found| found.row.name.as_str());
        assert_eq!(found, Ok(want), "{name}");
    }
    let unknown = |name: &str| catalogue.chip(name).expect_err(name);
    let ambiguous = unknown("RTX 3060");
    assert!(ambiguous.is_ambiguous);
    assert_eq!(ambiguous.closest.len(), 2);
    // A laptop's is not the desktop's, and no 3090 has 48 GB.
    let laptops = "NVIDIA GeForce RTX 3080 Laptop GPU".to_owned();
    assert!(unknown("RTX 3080").closest.contains(&laptops));
    assert_eq!(
        unknown("RTX 3090 48GB").closest[0],
        "NVIDIA GeForce RTX 3090"
    );
    assert_eq!(unknown("RTX 3900").closest[0], "NVIDIA GeForce RTX 3090");
    for name in ["", " ", "ß", &"x".repeat(100_000)] {
        assert!(!unknown(name).is_ambiguous, "{name:.20}");
    }
}

#[test]
fn defects_are_seen() {
    let check = |rows: &str, want: &str| {
        let defects = validate(&catalogue(rows), today());
        let found = defects.iter().any(|defect| defect.what.contains(want));
        assert!(found, "{want:?} is not among {defects:?}");
    };
    let one = |more: &str| chip_row("One", more);
    assert_eq!(validate(&catalogue(&one("")), today()), []);
    check(
        &[one(""), chip_row("o.n.e", "")].concat(),
        "is a name of One too",
    );
    check(&one("").replace("https", "http"), "no https");
    check(&one("").replace("2026-01-02", "2026-11-22"), "today is");
    check(&one("bandwidth_gbs = 1008000.0"), "bandwidth_gbs");
    check(&one("tdp_w = nan"), "tdp_w");
    check(&one("memory_kind = 'GDDR6'"), "lower case");
    check(
        &one("aliases = ['One 24GB']\nmemory_gb = 16.0"),
        "says 24 GB",
    );
    check(&one("").replace("'gpu'", "'soc'"), "is shared");
    let rate = |text: &str| one(&format!("rates = [ {text} ]"));
    let int8 = "unit = 'matrix', format = 'int8'";
    check(
        &rate(&format!(
            "{{ block = 'gpu', {int8}, dense = 10.0, sparse = 30.0 }}"
        )),
        "not twice",
    );
    check(&rate(&format!("{{ block = 'gpu', {int8} }}")), "neither");
    check(
        &rate(&format!(
            "{{ block = 'npu', {int8}, dense = 48.0 }}, {{ block = 'platform', {int8}, dense = 40.0 }}"
        )),
        "less than its NPU's",
    );
    let price =
        format!("[[price]]\nitem = 'Two'\nkind = 'new'\nusd = 10.0\nlow_usd = 11.0\n{SOURCE}\n");
    check(&price, "no chip and no part");
    check(&price, "low_usd");
    let offer = format!(
        "[[offer]]\nprovider = 'p'\nname = 'n'\nchip = 'Two'\ncount = 1\nnode_usd_hour = 0.0\nbilling = 'hour'\n{SOURCE}\n"
    );
    check(&offer, "no chip has the name");
    check(&offer, "the price of a chip");
    let model = format!(
        "[[model]]\nname = 'llama'\narchitecture = 'llama'\nparams_b = 8.03\nn_layer = 33\nn_embd = 4096\nn_head = 32\n\
         n_head_kv = 8\nhead_dim = 128\nn_ff = 14336\nn_vocab = 128256\nn_ctx = 8192\ntied = false\n{SOURCE}\n"
    );
    // One layer more is 2.7 % of it: caught with the heads that follow.
    check(
        &model.replace("n_head_kv = 8", "n_head_kv = 32"),
        "its shape has",
    );
    check(
        &model.replace("n_head_kv = 8", "n_head_kv = 5"),
        "cannot share",
    );
    check("[thresholds]\nreadable_tps = 20.0", "readable_tps");
}

#[test]
fn a_users_rows_win() {
    let directory = tempfile::tempdir().expect("a place to write");
    let path = directory.path().join("catalogue");
    let built_in = Catalogue::with_user_rows(&path).expect("nothing is there");
    assert_eq!(built_in.chips().len(), Catalogue::builtin().chips().len());

    let row = |gb: f64| chip_row("My Card", &format!("memory_gb = {gb:.1}"));
    let file = add(&path, &row(20.0), today()).expect("is added");
    let mine = Catalogue::with_user_rows(&path).expect("is read");
    assert_eq!(
        mine.chip("my card").expect("is there").row.memory_gb,
        Some(20.0)
    );

    let before = std::fs::read_to_string(&file).expect("is text");
    assert!(matches!(
        add(&path, &row(24.0), today()),
        Err(AddError::Defects(_))
    ));
    assert!(matches!(
        add(&path, &row(-1.0), today()),
        Err(AddError::Defects(_))
    ));
    assert!(matches!(
        add(&path, "chip = 1", today()),
        Err(AddError::Form(_))
    ));
    assert!(matches!(add(&path, "", today()), Err(AddError::Nothing)));
    assert_eq!(std::fs::read_to_string(&file).expect("is text"), before);

    std::fs::write(path.join("a.toml"), "[thresholds]\nreadable_tps = 5.0").expect("is written");
    let mine = Catalogue::with_user_rows(&path).expect("is read");
    assert_eq!(mine.thresholds().readable_tps, 5.0);
    assert_eq!(
        mine.thresholds().fluent_tps,
        built_in.thresholds().fluent_tps
    );
    std::fs::write(path.join("b.toml"), "[[chip]]\nname = 1").expect("is written");
    let error = Catalogue::with_user_rows(&path).expect_err("is no chip");
    assert!(error.to_string().contains("b.toml"), "{error}");
}

#[test]
fn a_row_survives_being_written() {
    let text = chip_row(
        "Card",
        "memory_gb = 24.0\nannounced = 2020-09-01\nrates = [ { block = 'gpu', unit = 'matrix', format = 'int8', dense = 1.0 } ]",
    );
    let file: File = toml::from_str(&text).expect("parses");
    let again: File = toml::from_str(&chip_text(&file.chip[0])).expect("parses");
    assert_eq!(file.chip, again.chip);
}
