//! `calc`, and the measurements of `plan`.

use std::path::Path;

use crate::{code, directory, json, stderr, stdout, troika, troika_in};

/// Every example of the guide is run, and prints what stands there.
#[test]
fn the_guides_examples_are_true() {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guide/money.md");
    let guide = std::fs::read_to_string(guide).expect("the guide is there");
    let mut examples = 0;
    for block in guide.split("```console\n").skip(1) {
        let (block, _) = block.split_once("```").expect("the block ends");
        for example in block.split("$ troika ").skip(1) {
            let (command, want) = example.split_once('\n').expect("a command is a line");
            let args: Vec<_> = command.split_whitespace().collect();
            let output = troika(&args);
            assert_eq!(code(&output), Some(0), "{command}\n{}", stderr(&output));
            assert_eq!(stdout(&output), want, "{command}");
            examples += 1;
        }
    }
    assert_eq!(examples, 6);
}

#[test]
fn what_makes_no_sense_is_wrong_use() {
    for (command, want) in [
        ("calc tops --macs 0 --clock 1GHz", "above zero"),
        (
            "calc tops --macs 12288 --clock 1.95",
            "did you mean 1.95GHz",
        ),
        ("calc tops-to-tflops 48 --to fp16", "48 of what?"),
        (
            "calc tops-to-tflops 48 --format int8 --to fp16",
            "int8 and fp16 are not comparable",
        ),
        ("calc power --watts -3", "cannot be below zero"),
        ("calc power --watts 3 --hours 25", "up to 24"),
        (
            "calc egress --gb 5 --tiers 10:0.09",
            "the last tier ends at 10 GB",
        ),
        ("calc egress --gb 5", "required"),
        (
            "calc memory --params 8B --quant Q17",
            "`Q17` is not a quantization",
        ),
        ("calc memory stories --quant Q8_0", "leave --quant out"),
        ("calc memory", "required"),
    ] {
        let args: Vec<_> = command.split_whitespace().collect();
        let output = troika(&args);
        assert_eq!(code(&output), Some(2), "{command}\n{}", stderr(&output));
        assert!(
            stderr(&output).contains(want),
            "{command}\n{}",
            stderr(&output)
        );
    }
    for command in [
        "calc memory no-such-model --quant Q8_0",
        "calc memory ./none.gguf",
        "calc egress --gb 1 --provider nobody",
    ] {
        let args: Vec<_> = command.split_whitespace().collect();
        let output = troika(&args);
        assert_eq!(code(&output), Some(1), "{command}\n{}", stderr(&output));
    }
}

#[test]
fn calculators_answer_in_json() {
    let output = troika(&[
        "calc", "power", "--watts", "700", "--days", "30", "--price", "0.1", "--json",
    ]);
    let cost = json(&output);
    assert_eq!(
        (&cost["kwh_month"], &cost["usd_month"]),
        (&504.0.into(), &50.4.into())
    );
    let output = troika(&["calc", "memory", "stories", "--ctx", "512", "--json"]);
    let memory = json(&output);
    assert_eq!(memory["total_is_whole"], true);
    assert!(
        memory["weights_bytes"]
            .as_u64()
            .is_some_and(|bytes| bytes > 1 << 20)
    );
}

#[test]
fn measurements_are_imported_once_and_listed() {
    let home = directory("imports");
    let file = home.join("bench.json");
    let bench = r#"[{"n_prompt":0,"n_gen":128,"avg_ts":51.5,"model_type":"llama 8B Q4_0","backends":"CUDA","gpu_info":"a \u001b[31mGPU"},{"n_gen":1}]"#;
    std::fs::write(&file, bench).expect("is written");
    let path = file.to_str().expect("is text");

    let output = troika_in(&home, &["plan", "import", path, "--dry-run"], b"");
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    assert!(!home.join("measurements.jsonl").exists());
    for (added, before) in [(1, 0), (0, 1)] {
        let output = troika_in(&home, &["plan", "import", path, "--json"], b"");
        let answer = json(&output);
        assert_eq!(
            (&answer["added"], &answer["known_before"]),
            (&added.into(), &before.into())
        );
        assert!(
            stderr(&output).contains("entry 2: there is no `avg_ts`"),
            "{}",
            stderr(&output)
        );
    }
    let meter = b"time,watts\n0,10\n2,20\n4,30\n";
    let output = troika_in(&home, &["plan", "import", "-", "--device", "wall"], meter);
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));

    // A line that was torn, and one of a later program, cost only themselves.
    let store = home.join("measurements.jsonl");
    let mut text = std::fs::read_to_string(&store).expect("is there");
    text.push_str("{\"version\":9}\n{\"version\":1,\"sou");
    std::fs::write(&store, text).expect("is written");
    let output = troika_in(&home, &["plan", "import", path, "-m", "another"], b"");
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    let output = troika_in(&home, &["plan", "measurements", "--json"], b"");
    let list = json(&output);
    let got: Vec<_> = list
        .as_array()
        .expect("a list")
        .iter()
        .map(|m| {
            (
                m["what"].as_str().unwrap_or_default(),
                m["value"].as_f64().unwrap_or(0.0),
            )
        })
        .collect();
    assert_eq!(
        got,
        [
            ("decode_tps", 51.5),
            ("energy_j", 80.0),
            ("watts_mean", 20.0),
            ("watts_max", 30.0),
            ("decode_tps", 51.5)
        ]
    );
    assert!(stderr(&output).contains("version 9"), "{}", stderr(&output));
    let output = troika_in(&home, &["plan", "measurements", "GPU"], b"");
    assert_eq!(stdout(&output).lines().count(), 3);
    assert!(!stdout(&output).contains('\u{1b}'));
}

#[test]
fn files_that_are_no_results_are_refused() {
    let home = directory("no-imports");
    for (text, want) in [
        (&b""[..], "the file is empty"),
        (b"| model | size |", "this is none of the results"),
        (b"\x7fELF\xff", "is not text"),
        (b"[{\"avg_ts\":", "line 1, column"),
        (b"time,watts\n", "neither seconds"),
    ] {
        let output = troika_in(&home, &["plan", "import", "-"], text);
        assert_eq!(code(&output), Some(1));
        assert!(stderr(&output).contains(want), "{}", stderr(&output));
    }
    let output = troika_in(&home, &["plan", "import", "none.json"], b"");
    assert_eq!(code(&output), Some(1));
    assert!(!home.join("measurements.jsonl").exists());
}
