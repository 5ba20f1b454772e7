//! `troika embed` with the model inside.

use std::path::Path;

use serde_json::Value;

use crate::{code, json, stderr, stdout, troika, troika_in};

const TEXTS: [&str; 2] = [
    "Once upon a time there was a little girl.",
    "The dog ran to the park.",
];

fn vector(line: &str) -> Vec<f64> {
    let number = |number: &str| number.parse().expect("is a number");
    line.split(' ').map(number).collect()
}

fn length(vector: &[f64]) -> f64 {
    vector.iter().map(|x| x * x).sum::<f64>().sqrt()
}

#[test]
fn texts_become_lines_of_numbers() {
    let output = troika(&["embed", "stories", TEXTS[0], TEXTS[1]]);
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    let answer = stdout(&output);
    let vectors: Vec<_> = answer.lines().map(vector).collect();
    assert_eq!(vectors.len(), 2);
    assert_ne!(vectors[0], vectors[1]);
    for vector in &vectors {
        assert!((length(vector) - 1.0).abs() < 1e-5, "{vector:?}");
    }

    // The same from stdin, with empty lines between, on another number of threads.
    let home = Path::new("no-such-home");
    let lines = format!("{}\n\n  \n{}", TEXTS[0], TEXTS[1]);
    let piped = troika_in(
        home,
        &["embed", "-m", "stories", "-t", "3"],
        lines.as_bytes(),
    );
    assert_eq!(stdout(&piped), answer);
    // And for the model inside, which need not be named. Alone, as in a batch: to the bit where there is no matrix unit.
    let alone = vector(stdout(&troika(&["embed", TEXTS[0]])).trim());
    let likeness: f64 = alone.iter().zip(&vectors[0]).map(|(a, b)| a * b).sum();
    assert!(likeness > 0.9999, "{likeness}");

    let list = json(&troika(&["embed", "stories", TEXTS[0], TEXTS[1], "--json"]));
    let list = list.as_array().expect("is a list");
    assert_eq!(list.len(), 2);
    for (i, (entry, vector)) in list.iter().zip(&vectors).enumerate() {
        assert_eq!(entry["index"], i);
        assert!(entry["tokens"].as_u64() > Some(3), "{entry}");
        let values: Option<Vec<f64>> = entry["embedding"]
            .as_array()
            .and_then(|list| list.iter().map(Value::as_f64).collect());
        let values = values.expect("is a list of numbers");
        assert!(values.iter().zip(vector).all(|(a, b)| (a - b).abs() < 1e-6));
    }
}

#[test]
fn vectors_are_pooled_and_shortened_as_asked() {
    let of = |flags: &[&str]| {
        let output = troika(&[&["embed", "stories", TEXTS[0]], flags].concat());
        assert_eq!(code(&output), Some(0), "{}", stderr(&output));
        vector(stdout(&output).trim())
    };
    let (whole, last) = (of(&[]), of(&["--pooling", "last"]));
    assert_eq!(whole, last, "the story model was not made for this");
    let (mean, first) = (of(&["--pooling", "mean"]), of(&["--pooling", "first"]));
    assert!(mean != last && mean != first && first != last);
    let short = of(&["--dimensions", "8"]);
    assert_eq!(short.len(), 8);
    assert!((length(&short) - 1.0).abs() < 1e-5, "{short:?}");
    let scale = length(&whole[..8]);
    for (short, whole) in short.iter().zip(&whole) {
        assert!((short * scale - whole).abs() < 1e-5, "{short} {whole}");
    }
}

#[test]
fn what_cannot_be_embedded_is_refused() {
    let home = Path::new("no-such-home");
    let long = "and then ".repeat(600);
    for (args, stdin, want, says) in [
        (&["stories"][..], "", 2, "no text"),
        (&["stories"], "\n \n", 2, "no text"),
        (
            &["stories", "--dimensions", "100000"],
            "a",
            2,
            "the model's vectors have",
        ),
        (&["stories", "--dimensions", "0"], "a", 2, "from 1"),
        (
            &["stories", "--pooling", "max"],
            "a",
            2,
            "mean, first, last",
        ),
        (
            &["no-such-model", "a text"],
            "",
            1,
            "no model \"no-such-model\"",
        ),
        (&["no-such.gguf"], "a", 1, "no-such.gguf"),
        (&["stories"], &long, 1, "text 1 has"),
    ] {
        let args = [&["embed"], args].concat();
        let output = troika_in(home, &args, stdin.as_bytes());
        let said = stderr(&output);
        assert_eq!(code(&output), Some(want), "{args:?}: {said}");
        assert!(said.contains(says), "{args:?}: {said}");
        assert_eq!(stdout(&output), "");
    }
    let binary = troika_in(home, &["embed", "stories"], b"\xff\xfe");
    assert!(stderr(&binary).contains("cannot read stdin"));
}
