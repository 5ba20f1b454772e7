//! Whole answers by the model that is in the program.

use serde_json::{Value, json};
use troika_engine::constraint::Grammar;
use troika_engine::sampler::SamplingParams;
use troika_engine::{Finish, GenerateOptions, Session};

use crate::common::{cpu, encode, generate, load, stories};
use crate::validator::is_valid;

fn options(grammar: Grammar, seed: u64) -> GenerateOptions {
    GenerateOptions {
        max_tokens: Some(200),
        sampling: SamplingParams {
            seed: Some(seed),
            ..SamplingParams::default()
        },
        grammar: Some(grammar),
        ..GenerateOptions::default()
    }
}

#[test]
fn an_answer_is_json_by_its_schema() {
    let schema = json!({"type": "object", "properties": {
        "hero": {"type": "string", "maxLength": 20},
        "age": {"type": "integer", "minimum": 1, "maximum": 99},
        "brave": {"type": "boolean"}},
        "required": ["hero", "age", "brave"], "additionalProperties": false});
    let (file, device) = (stories(), cpu(1));
    let mut model = load(&file, &device);
    let prompt = encode(&model, "Once upon a time ");
    let mut texts = Vec::new();
    for seed in [1, 1, 2, 3] {
        let mut session = Session::new(&mut model);
        let options = options(Grammar::JsonSchema(schema.clone()), seed);
        let (tokens, text, summary) = generate(&mut session, &prompt, &options);
        let value: Value = serde_json::from_str(&text).expect("is JSON");
        assert!(is_valid(&schema, &schema, &value), "{text}");
        assert_eq!(summary.finish, Finish::EndOfText);
        assert_eq!(tokens.len(), summary.generated_tokens);
        texts.push(text);
    }
    assert_eq!(texts[0], texts[1], "same seed, same text");
}

#[test]
fn a_grammar_that_is_refused_writes_nothing() {
    let (file, device) = (stories(), cpu(1));
    let mut model = load(&file, &device);
    let prompt = encode(&model, "Once");
    let mut session = Session::new(&mut model);
    let options = options(Grammar::Regex("(".to_owned()), 1);
    let result = session.generate(&prompt, &options, &mut |_| unreachable!("nothing is done"));
    let error = result.expect_err("no expression");
    assert!(error.to_string().contains("unclosed group"), "{error}");
    assert!(session.tokens().is_empty());
}
