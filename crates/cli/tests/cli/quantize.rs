//! `troika quantize` with the model inside: what is told of each tensor.

use crate::{code, directory, json, stderr, troika};

#[test]
fn each_tensors_loss_is_told() {
    let home = directory("quantize");
    let (text, out) = (home.join("text.txt"), home.join("out.gguf"));
    let story = "Once upon a time, there was a little girl named Lily. She loved to play outside. ";
    std::fs::write(&text, story.repeat(2)).expect("is written");
    let [text, out] = [&text, &out].map(|path| path.to_str().expect("is text"));
    let args = [
        "quantize",
        "stories",
        out,
        "--type",
        "Q4_0",
        "--allow-requantize",
    ];
    let measured = ["--text", text, "--kl-tensors", "--json"];
    let output = troika(&[&args[..], &measured].concat());
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    let report = json(&output);
    let all = report["kl_mean"].as_f64().expect("is a number");
    assert!(all > 0.0, "{report}");
    let tensors = report["tensors"].as_array().expect("is a list");
    let mut largest: f64 = 0.0;
    for tensor in tensors {
        match tensor["from"] == tensor["to"] {
            true => assert!(tensor["kl_mean"].is_null(), "{tensor}"),
            false => largest = largest.max(tensor["kl_mean"].as_f64().expect("is a number")),
        }
    }
    assert!(largest > 0.0 && largest < all, "{largest} of {all}");

    // It is about a text.
    let output = troika(&[&args[..], &["--kl-tensors"]].concat());
    assert_eq!(code(&output), Some(2));
    assert!(stderr(&output).contains("--text"), "{}", stderr(&output));
}

#[test]
fn a_size_is_met_by_what_tensors_do_to_the_predictions() {
    let home = directory("quantize-sensitivity");
    let (text, out) = (home.join("text.txt"), home.join("out.gguf"));
    let story = "Once upon a time, there was a little girl named Lily. She loved to play outside. ";
    std::fs::write(&text, story).expect("is written");
    let [text, out] = [&text, &out].map(|path| path.to_str().expect("is text"));
    let args = ["quantize", "stories", out, "--allow-requantize", "--json"];
    let by = ["--bpw", "3.3", "--sensitivity", text];
    let look = ["--text", text];
    let output = troika(&[&args[..], &by[..], &look].concat());
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    let report = json(&output);
    let bits = report["bits_per_weight"].as_f64().expect("is a number");
    assert!((3.25..=3.3).contains(&bits), "{bits}");
    let measured = report["kl_mean"].as_f64().expect("is a number");
    // The trial is gone.
    let left = std::fs::read_dir(&home).expect("is there").count();
    assert_eq!(left, 2, "the text and the model");

    // On the text that it was chosen by, it is the better one.
    let output = troika(&[&args[..], &by[..2], &look].concat());
    let by_errors = json(&output)["kl_mean"].as_f64().expect("is a number");
    assert!(measured < by_errors, "{measured} of {by_errors}");

    // A mix leaves nothing to choose.
    let output = troika(&[&args[..], &["--type", "Q4_K_M"], &by[2..]].concat());
    assert_eq!(code(&output), Some(2));
    assert!(
        stderr(&output).contains("--sensitivity"),
        "{}",
        stderr(&output)
    );
}
