//! What constraining an answer costs: `cargo run --release -p troika-engine --example mask_cost -- MODEL.gguf [MODEL.gguf …]`.
//!
//! For each grammar: time to compile it, to compile it again, and to compute the masks of some random answers. A real
//! model leaves out less of its vocabulary than chance does; so strings are weighed down here, and their masks, which
//! are the costly ones, are in the numbers.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a program for the terminal"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use troika_engine::constraint::{ConstraintFactory, Grammar};
use troika_engine::sampler::{Sampler, SamplingParams};
use troika_engine::tokenizer::Tokenizer;
use troika_gguf::ModelFile;

fn grammars() -> Vec<(&'static str, Grammar)> {
    let schema = |value: Value| Grammar::JsonSchema(value);
    let person = json!({"type": "object", "properties": {
        "name": {"type": "string"}, "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "email": {"type": "string", "format": "email"}, "born": {"type": "string", "format": "date-time"}},
        "required": ["name", "age", "email", "born"], "additionalProperties": false});
    let tree = json!({"$defs": {"node": {"type": "object", "properties": {"value": {"type": "string"},
        "children": {"type": "array", "items": {"$ref": "#/$defs/node"}}},
        "required": ["value", "children"], "additionalProperties": false}}, "$ref": "#/$defs/node"});
    let many: serde_json::Map<String, Value> = (0..100)
        .map(|n| (format!("property_{n}"), json!({"type": ["string", "null"]})))
        .collect();
    let words: Vec<String> = (0..1000)
        .map(|n| format!("value-{}", n * 7919 % 10007))
        .collect();
    vec![
        ("json object", Grammar::JsonObject),
        ("flat object", schema(person)),
        ("recursive tree", schema(tree)),
        ("100 optional strings", schema(json!({"type": "object", "properties": many}))),
        ("enum of 1000", schema(json!({"type": "array", "items": {"enum": words}}))),
        ("pattern", schema(json!({"type": "array", "items": {"type": "string", "pattern": "^[A-Z][a-z]+( [A-Z][a-z]+)*$"}}))),
        ("bounded strings", schema(json!({"type": "array", "items": {"type": "string", "minLength": 5, "maxLength": 200}}))),
        ("regex", Grammar::Regex(r"(\d{1,3}\.){3}\d{1,3}( [a-z ]+)?".to_owned())),
        ("lark", Grammar::Lark("start: expr\nexpr: term ((\"+\" | \"-\") term)*\nterm: atom ((\"*\" | \"/\") atom)*\natom: /[0-9]+/ | \"(\" expr \")\"\n".to_owned())),
    ]
}

fn main() {
    for path in std::env::args().skip(1) {
        let file = ModelFile::open(path.as_ref()).unwrap();
        let tokenizer = Arc::new(Tokenizer::from_metadata(file.metadata()).unwrap());
        let start = Instant::now();
        let factory = ConstraintFactory::new(Arc::clone(&tokenizer)).unwrap();
        println!(
            "{}: {} tokens, factory in {:.0} ms",
            file.name(),
            tokenizer.n_vocab(),
            start.elapsed().as_secs_f64() * 1e3
        );
        println!(
            "{:>22} {:>10} {:>10} {:>7} {:>9} {:>9} {:>9} {:>9} {:>11}",
            "grammar",
            "compile ms",
            "again ms",
            "masks",
            "mean µs",
            "p50 µs",
            "p99 µs",
            "max µs",
            "sample µs"
        );
        for (name, grammar) in grammars() {
            measure(name, &grammar, &factory, &tokenizer);
        }
    }
}

fn measure(name: &str, grammar: &Grammar, factory: &ConstraintFactory, tokenizer: &Tokenizer) {
    let timed = || {
        let start = Instant::now();
        let constraint = factory.compile(grammar).unwrap();
        (constraint, start.elapsed())
    };
    let (_, first) = timed();
    let (_, again) = timed();
    let (mut masks, mut accepts, mut samples) = (Vec::new(), Duration::ZERO, Duration::ZERO);
    for seed in 0..10 {
        let (mut constraint, _) = timed();
        let params = SamplingParams {
            seed: Some(seed),
            temperature: 1.0,
            ..SamplingParams::default()
        };
        let mut sampler = Sampler::new(params, tokenizer.n_vocab()).unwrap();
        for step in 0..200u32 {
            let logits = logits(tokenizer, seed as u32 * 1000 + step);
            let start = Instant::now();
            let mask = constraint.mask().unwrap();
            masks.push(start.elapsed());
            let start = Instant::now();
            let sampled = sampler.sample_masked(&logits, mask).unwrap();
            samples += start.elapsed();
            if tokenizer.is_end_of_generation(sampled.token) {
                break;
            }
            let start = Instant::now();
            constraint.accept(sampled.token).unwrap();
            accepts += start.elapsed();
            if constraint.is_finished() {
                break;
            }
        }
    }
    let count = masks.len();
    let total: Duration = masks.iter().sum::<Duration>() + accepts;
    masks.sort();
    let us = |time: Duration| time.as_secs_f64() * 1e6;
    println!(
        "{name:>22} {:>10.2} {:>10.3} {count:>7} {:>9.1} {:>9.1} {:>9.1} {:>9.1} {:>11.1}",
        us(first) / 1e3,
        us(again) / 1e3,
        us(total) / count as f64,
        us(masks[count / 2]),
        us(masks[count * 99 / 100]),
        us(masks[count - 1]),
        us(samples) / count as f64,
    );
}

/// Scores without sense, the same for the same step; what closes strings and lists is made less likely.
fn logits(tokenizer: &Tokenizer, step: u32) -> Vec<f32> {
    let mut bytes = Vec::new();
    (0..tokenizer.n_vocab() as u32)
        .map(|id| {
            let mixed = (id ^ step.wrapping_mul(0x9e37_79b9)).wrapping_mul(0x85eb_ca6b);
            bytes.clear();
            tokenizer.token_bytes(troika_base::TokenId(id), &mut bytes);
            let closes = bytes.iter().any(|byte| b"\"]})".contains(byte));
            (mixed >> 16) as f32 / 4096.0 - if closes { 6.0 } else { 0.0 }
        })
        .collect()
}
