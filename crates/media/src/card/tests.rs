//! What a card may say and what it may not.

use super::*;

const CARD: &str = r#"kind = "classify"
labels = ["cat", "dog"]

[picture]
size = [32, 16]
mean = [0.485, 0.456, 0.406]

[scores]
activation = "softmax"
"#;

fn parse(text: &str) -> Result<Card, Error> {
    Card::parse(text, "a.toml", None)
}

#[test]
fn what_is_not_said_has_its_default() {
    let card = parse(CARD).expect("is sound");
    let picture = &card.picture;
    assert_eq!((picture.size.width, picture.size.height), (32, 16));
    assert_eq!(
        (picture.layout, picture.colour),
        (Layout::Nchw, Colour::Rgb)
    );
    assert_eq!(
        (picture.resize, picture.invert),
        (Resize::Stretch, Invert::Never)
    );
    assert_eq!((picture.scale.get() * 255.0, picture.std.of(2)), (1.0, 1.0));
    assert_eq!(picture.mean.of(1), 0.456);
    assert_eq!(card.labels, ["cat", "dog"]);
    assert_eq!(card.job.kind(), Kind::Classify);
    let Job::Classify(scores) = card.job else {
        panic!("is for classes");
    };
    assert_eq!(scores.activation, Activation::Softmax);
}

/// A change to the card, and what is said of it.
fn refused(from: &str, to: &str, says: &[&str]) {
    let text = CARD.replacen(from, to, 1);
    assert_ne!(text, CARD, "{from}");
    let said = parse(&text).expect_err("is refused").to_string();
    for part in says {
        assert!(said.contains(part), "{to}: {said}");
    }
}

#[test]
fn what_is_wrong_is_told_with_its_line() {
    refused(
        "size",
        "sise",
        &["a.toml, line 5", "unknown field `sise`", "`size`"],
    );
    refused("kind", "sort", &["line 1", "unknown field `sort`"]);
    refused(
        "\"classify\"",
        "\"clasify\"",
        &["line 1", "`kind`", "unknown variant"],
    );
    refused("[32, 16]", "[32]", &["line 5", "picture.size"]);
    refused(
        "[32, 16]",
        "[0, 16]",
        &["line 5", "picture.size", "1 to 8192"],
    );
    refused("[32, 16]", "[32, 900000]", &["line 5", "1 to 8192"]);
    refused("[32, 16]", "\"32x16\"", &["line 5", "picture.size"]);
    refused("0.485,", "nan,", &["line 6", "picture.mean", "NaN"]);
    refused("0.485,", "", &["line 6", "not 2"]);
    refused("mean", "scale = 0.0\nmean", &["line 6", "other than 0"]);
    refused("\"softmax\"", "softmax", &["line 9"]);
    refused(
        "\"softmax\"",
        "\"soft\"",
        &["line 9", "scores.activation", "unknown variant `soft`"],
    );
    refused(
        "labels = [\"cat\", \"dog\"]",
        "labels = [1]",
        &["line 2", "labels[0]"],
    );
    let whole = parse("kind = \"classify\"")
        .expect_err("lacks a picture")
        .to_string();
    assert!(whole.contains("missing field `picture`"), "{whole}");
    let json = parse("{}").expect_err("is no TOML").to_string();
    assert!(json.starts_with("a.toml, line 1"), "{json}");
}

#[test]
fn what_contradicts_itself_is_told_with_its_key() {
    refused(
        "kind = \"classify\"",
        "kind = \"segment\"",
        &["`scores` belongs to `kind = \"classify\"`"],
    );
    refused(
        "[scores]\nactivation = \"softmax\"",
        "",
        &["`scores` is missing"],
    );
    refused(
        "size",
        "colour = \"grey\"\nsize",
        &["`picture.mean` has 3 numbers, and a pixel has 1"],
    );
    refused(
        "mean = [0.485, 0.456, 0.406]",
        "std = [1.0, 0.0, 1.0]",
        &["`picture.std`", "has a 0"],
    );
    refused(
        "size",
        "numbers = \"u8\"\nsize",
        &["`picture.numbers`", "take them out"],
    );
    refused("[\"cat\", \"dog\"]", "[]", &["`labels` has 0 names"]);
    refused("\"cat\"", "\"c\\u001bat\"", &["`labels`", "1th"]);
    refused(
        "labels",
        "labels_file = \"l.txt\"\nlabels",
        &["`labels_file` stands beside"],
    );
    refused(
        "labels = [\"cat\", \"dog\"]",
        "labels_file = \"l.txt\"",
        &["has no directory"],
    );
    let crop = "kind = \"segment\"\n[picture]\nsize = [8, 8]\nresize = \"crop\"\n[mask]\n";
    let said = parse(crop).expect_err("is refused").to_string();
    assert!(said.contains("`picture.resize` is \"crop\""), "{said}");
}

#[test]
fn boxes_make_sense_together() {
    let of = |boxes: &str| {
        let text = format!("kind = \"detect\"\n[picture]\nsize = [8, 8]\n[boxes]\n{boxes}");
        parse(&text).map(|_| ()).map_err(|error| error.to_string())
    };
    for fine in [
        "row = [\"box\", \"scores\"]",
        "row = [\"box\", \"objectness\", \"scores\"]\nactivation = \"sigmoid\"\noverlap = 0.5",
        "row = [\"skip\", \"box\", \"class\", \"score\"]",
        "row = [\"box\"]\noutput = \"b\"\nscores_output = \"s\"\nnothing = \"last\"\nactivation = \"softmax\"",
        "row = [\"box\"]\noutput = \"b\"\nscores_output = \"s\"\nclasses_output = \"c\"\nunits = \"fraction\"",
    ] {
        assert_eq!(of(fine), Ok(()), "{fine}");
    }
    for (wrong, says) in [
        ("row = []", "line 5, `boxes.row`: a row has one \"box\""),
        ("row = [\"box\", \"box\", \"scores\"]", "one \"box\""),
        (
            "row = [\"box\", \"scores\", \"class\"]",
            "either \"scores\"",
        ),
        ("row = [\"box\", \"score\", \"score\"]", "only \"skip\""),
        ("row = [\"box\"]", "has no scores"),
        (
            "row = [\"box\", \"scores\"]\nscores_output = \"s\"",
            "keep one",
        ),
        (
            "row = [\"box\", \"score\"]\nclasses_output = \"c\"",
            "`boxes.classes_output` goes together",
        ),
        (
            "row = [\"box\", \"score\"]\nnothing = \"first\"",
            "needs a score for each class",
        ),
        (
            "row = [\"box\", \"score\"]\nactivation = \"softmax\"",
            "needs a score for each class",
        ),
        (
            "row = [\"box\", \"scores\"]\noverlap = 1.5",
            "line 6, `boxes.overlap`: expected a number from 0 to 1",
        ),
        (
            "row = [\"box\", \"scores\"]\nlimit = 0",
            "line 6, `boxes.limit`",
        ),
    ] {
        let said = of(wrong).expect_err(wrong);
        assert!(said.contains(says), "{wrong}: {said}");
    }
}

#[test]
fn labels_stand_in_a_file_beside_the_card() {
    let directory = tempfile::tempdir().expect("a directory");
    let card = directory.path().join("a.toml");
    let text = CARD.replace("labels = [\"cat\", \"dog\"]", "labels_file = \"names.txt\"");
    std::fs::write(&card, text).expect("is written");
    let absent = Card::open(&card).expect_err("there is no file of names");
    assert!(absent.to_string().contains("names.txt"), "{absent}");
    std::fs::write(directory.path().join("names.txt"), "cat\r\n dog \n\n").expect("is written");
    assert_eq!(Card::open(&card).expect("is sound").labels, ["cat", "dog"]);
    std::fs::write(&card, vec![b'#'; BYTES_MAX as usize + 1]).expect("is written");
    assert!(matches!(Card::open(&card), Err(Error::TooLarge { .. })));
}
