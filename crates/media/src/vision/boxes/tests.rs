//! Tables of boxes in every form that a card can describe.

use troika_device_npu::exec::Data;

use super::*;
use crate::card::{Card, Job, Resize};

/// A section of a card, and what a model of 100 by 100 pixels has given for a picture of the same size.
fn read_of(
    section: &str,
    rows: Tensor,
    scores: Option<Tensor>,
    classes: Option<Tensor>,
) -> Vec<Detection> {
    let text = format!(
        "kind = \"detect\"\n[picture]\nsize = [100, 100]\n[boxes]\noutput = \"b\"\n{section}"
    );
    let card = Card::parse(&text, "a.toml", None).expect("is sound");
    assert_eq!(card.picture.resize, Resize::Stretch);
    let image = image::RgbImage::new(100, 100);
    let mut resizer = fast_image_resize::Resizer::new();
    let (_, placement) = crate::vision::input::tensor(&card.picture, &image, &mut resizer);
    let Job::Detect(boxes) = card.job else {
        panic!("is for boxes");
    };
    let found = Found {
        rows: Rows::table("b", rows, boxes.table).expect("is a table"),
        scores: scores.map(|scores| match classes {
            Some(_) => Rows::list("s", scores).expect("is a list"),
            None => Rows::table("s", scores, Table::Rows).expect("is a table"),
        }),
        classes: classes.map(|classes| Rows::list("c", classes).expect("is a list")),
    };
    read(&boxes, &[], &found, &placement, (100, 100)).expect("is read")
}

/// Index, score in hundredths, corners.
fn brief(detections: &[Detection]) -> Vec<(usize, u32, [f32; 4])> {
    let of = |d: &Detection| (d.index, (d.score * 100.0).round() as u32, d.corners);
    detections.iter().map(of).collect()
}

#[test]
fn a_box_is_the_same_in_every_form() {
    let want = [10.0, 20.0, 40.0, 80.0];
    for (section, row) in [
        ("format = \"xyxy\"", [10.0, 20.0, 40.0, 80.0]),
        ("format = \"yxyx\"", [20.0, 10.0, 80.0, 40.0]),
        ("format = \"xywh\"", [10.0, 20.0, 30.0, 60.0]),
        ("format = \"cxcywh\"", [25.0, 50.0, 30.0, 60.0]),
        (
            "format = \"xyxy\"\nunits = \"fraction\"",
            [0.1, 0.2, 0.4, 0.8],
        ),
    ] {
        let row = [&row[..], &[0.5]].concat();
        let section = format!("row = [\"box\", \"score\"]\n{section}");
        let found = read_of(&section, Tensor::f32([1, 1, 5], row), None, None);
        let near = |a: &[f32; 4], b: &[f32; 4]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-4);
        assert!(
            found.len() == 1 && near(&found[0].corners, &want),
            "{section}: {found:?}"
        );
    }
}

#[test]
fn scores_stand_in_the_row_or_beside_it() {
    let corners = [10.0, 20.0, 40.0, 80.0];
    let with = |numbers: &[f32]| {
        let row = [&corners[..], numbers].concat();
        Tensor::f32([1, 1, row.len()], row)
    };
    let alone = || with(&[]);
    let of = |section: &str, rows, scores, classes| {
        let found = read_of(section, rows, scores, classes);
        found
            .first()
            .map(|d| (d.index, (d.score * 100.0).round() as u32))
    };
    // Half likely to be anything at all, and then the second class by 0.8.
    assert_eq!(
        of(
            "row = [\"box\", \"objectness\", \"scores\"]",
            with(&[0.5, 0.1, 0.8]),
            None,
            None
        ),
        Some((1, 40))
    );
    assert_eq!(
        of(
            "row = [\"box\", \"score\", \"class\"]",
            with(&[0.7, 3.0]),
            None,
            None
        ),
        Some((3, 70))
    );
    let sigmoid = "row = [\"box\", \"scores\"]\nactivation = \"sigmoid\"";
    assert_eq!(of(sigmoid, with(&[-1.0, 0.0]), None, None), Some((1, 50)));
    // Logits of two classes and "nothing", which wins, or is one of the losers.
    let softmax =
        "row = [\"box\"]\nscores_output = \"s\"\nactivation = \"softmax\"\nnothing = \"last\"";
    let logits = |values: [f32; 3]| Some(Tensor::f32([1, 1, 3], values.to_vec()));
    assert_eq!(of(softmax, alone(), logits([1.0, 0.0, 9.0]), None), None);
    assert_eq!(
        of(softmax, alone(), logits([9.0, 0.0, 1.0]), None),
        Some((0, 100))
    );
    let first = softmax.replace("last", "first");
    assert_eq!(
        of(&first, alone(), logits([1.0, 0.0, 9.0]), None),
        Some((1, 100))
    );
    // Class and score each in an output of its own, the class as an integer.
    let apart = "row = [\"box\"]\nscores_output = \"s\"\nclasses_output = \"c\"";
    let class = Tensor {
        shape: vec![1, 1],
        data: Data::I64(vec![7]),
    };
    let score = Tensor::f32([1, 1], vec![0.9]);
    assert_eq!(of(apart, alone(), Some(score), Some(class)), Some((7, 90)));
}

#[test]
fn what_overlaps_is_dropped_by_class_and_the_limit_holds() {
    let rows = [
        [0.0, 0.0, 10.0, 10.0, 0.6, 0.0],
        // Two thirds of the first.
        [0.0, 2.0, 10.0, 12.0, 0.9, 0.0],
        [0.0, 0.0, 10.0, 10.0, 0.5, 1.0],
        [50.0, 50.0, 60.0, 60.0, 0.8, 0.0],
    ];
    let of = |more: &str| {
        let section = format!("row = [\"box\", \"score\", \"class\"]\n{more}");
        let found = read_of(&section, Tensor::f32([1, 4, 6], rows.concat()), None, None);
        brief(&found)
            .into_iter()
            .map(|(index, score, _)| (index, score))
            .collect::<Vec<_>>()
    };
    assert_eq!(of(""), [(0, 90), (0, 80), (0, 60), (1, 50)]);
    assert_eq!(of("overlap = 0.5"), [(0, 90), (0, 80), (1, 50)]);
    assert_eq!(of("overlap = 0.7"), [(0, 90), (0, 80), (0, 60), (1, 50)]);
    assert_eq!(of("overlap = 0.5\nlimit = 2"), [(0, 90), (0, 80)]);
    assert_eq!(of("score = 0.6"), [(0, 90), (0, 80), (0, 60)]);
    assert_eq!(of("score = 0.95"), []);
}

#[test]
fn nonsense_from_a_model_is_dropped_or_told() {
    let nan = f32::NAN;
    let rows = vec![
        nan,
        0.0,
        10.0,
        10.0,
        0.9,
        0.0, //
        0.0,
        0.0,
        10.0,
        10.0,
        nan,
        0.0, //
        0.0,
        0.0,
        f32::INFINITY,
        10.0,
        0.9,
        0.0, //
        10.0,
        10.0,
        0.0,
        0.0,
        0.9,
        0.0, //
        0.0,
        0.0,
        10.0,
        10.0,
        0.9,
        -3.0, //
        200.0,
        200.0,
        300.0,
        300.0,
        0.9,
        0.0, //
        1.0,
        2.0,
        3.0,
        4.0,
        0.9,
        0.0,
    ];
    let section = "row = [\"box\", \"score\", \"class\"]";
    let found = read_of(section, Tensor::f32([1, 7, 6], rows), None, None);
    assert_eq!(brief(&found), [(0, 90, [1.0, 2.0, 3.0, 4.0])]);
    assert!(read_of(section, Tensor::f32([1, 0, 6], vec![]), None, None).is_empty());
    for shape in [vec![2, 1, 6], vec![12], vec![1, 1, 2, 6]] {
        let tensor = Tensor::f32(shape, vec![0.0; 12]);
        assert!(Rows::table("b", tensor, Table::Rows).is_err());
    }
}
