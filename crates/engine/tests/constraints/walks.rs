//! Random answers: whatever is chosen among the tokens of the masks, what comes out is of the form.

use fancy_regex::Regex;
use proptest::prelude::*;
use serde_json::{Value, json};
use troika_base::TokenId;
use troika_engine::constraint::{Constraint, ConstraintError, ConstraintFactory, Grammar};
use troika_engine::tokenizer::Tokenizer;
use troika_gguf::ModelFile;

use crate::validator::is_valid;
use crate::{STORIES, common, compile, factory};

/// Schemas as applications send them.
fn schemas() -> Vec<Value> {
    vec![
        json!({"type": "object", "properties": {
            "name": {"type": "string"},
            "age": {"type": "integer", "minimum": 0, "maximum": 150},
            "tags": {"type": "array", "items": {"enum": ["red", "green", 7, null]}, "maxItems": 3}},
            "required": ["name", "age", "tags"], "additionalProperties": false}),
        json!({"$defs": {"node": {"type": "object", "properties": {
            "value": {"type": ["number", "null"]},
            "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
            "required": ["value", "next"], "additionalProperties": false}}, "$ref": "#/$defs/node"}),
        json!({"type": "object", "title": "Event", "properties": {
            "at": {"type": "string", "format": "date-time", "description": "when"},
            "id": {"type": "string", "format": "uuid"},
            "by": {"type": "string", "format": "email"},
            "code": {"type": "string", "pattern": "^[A-Z]{2}-\\d{3}$"},
            "note": {"type": "string", "minLength": 2, "maxLength": 12}},
            "required": ["at", "id", "by", "code"]}),
        json!({"type": "array", "items": {"type": "number", "exclusiveMinimum": -1.5, "maximum": 2.25},
            "minItems": 1, "maxItems": 4, "uniqueItems": false}),
        json!({"type": "array", "prefixItems": [{"const": "a"}, {"type": "boolean"}], "items": false, "minItems": 2}),
        json!({"type": "integer", "multipleOf": 7, "minimum": -70, "maximum": 7000}),
        json!({"type": "integer", "minimum": i64::MIN, "maximum": i64::MAX}),
        json!({"allOf": [{"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
            {"properties": {"b": {"type": "boolean"}}, "required": ["b"]}], "type": "object"}),
        // A union with a tag, as typed languages write it.
        json!({"$defs": {
            "cat": {"type": "object", "properties": {"kind": {"const": "cat", "type": "string"}, "lives": {"type": "integer"}},
                "required": ["kind", "lives"], "additionalProperties": false},
            "dog": {"type": "object", "properties": {"kind": {"const": "dog"}, "name": {"type": "string"}},
                "required": ["kind", "name"], "additionalProperties": false}},
            "oneOf": [{"$ref": "#/$defs/cat"}, {"$ref": "#/$defs/dog"}], "discriminator": {"propertyName": "kind"}}),
        json!({"type": "object", "properties": {"\"q\\é": {"type": "boolean"}},
            "additionalProperties": {"type": "integer"}}),
        json!(true),
    ]
}

/// Chooses like a model that has something to say and then comes to an end.
struct Chooser {
    state: u64,
}

impl Chooser {
    fn number(&mut self, below: usize) -> usize {
        self.state = self
            .state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.state >> 33) as usize % below
    }

    fn choose(&mut self, step: usize, tokens: &[TokenId], tokenizer: &Tokenizer) -> TokenId {
        let end = tokens
            .iter()
            .find(|&&token| tokenizer.is_end_of_generation(token));
        if let Some(&end) = end
            && (step > 30 || self.number(4) == 0)
        {
            return end;
        }
        let rank = |token: TokenId| {
            let mut bytes = Vec::new();
            tokenizer.token_bytes(token, &mut bytes);
            match bytes[..] {
                [b'"' | b'}' | b']'] => 0,
                [b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b',' | b':' | b'-' | b'@'] => 1,
                _ => 2,
            }
        };
        if step > 30 {
            let best = tokens.iter().map(|&token| rank(token)).min().expect("some");
            let best: Vec<_> = tokens
                .iter()
                .filter(|&&token| rank(token) == best)
                .collect();
            return *best[self.number(best.len())];
        }
        tokens[self.number(tokens.len())]
    }
}

/// A random answer; `None` if it came to no end. `is_complete` says of a text whether it may end there.
fn walk(
    mut constraint: Constraint,
    tokenizer: &Tokenizer,
    seed: u64,
    is_complete: &dyn Fn(&str) -> bool,
) -> Option<String> {
    let mut chooser = Chooser { state: seed };
    let mut bytes = Vec::new();
    for step in 0..600 {
        let mask = constraint.mask().expect("something may come").clone();
        let tokens: Vec<_> = mask.tokens().collect();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        for &token in &tokens {
            if tokenizer.is_end_of_generation(token) {
                assert!(is_complete(&text), "may not end: {text}");
            } else {
                assert!(!tokenizer.is_control(token), "{token} after {text}");
            }
        }
        let other = TokenId(chooser.number(tokenizer.n_vocab()) as u32);
        let taken = constraint.clone().accept(other);
        match mask.allows(other) {
            true => assert_eq!(taken, Ok(())),
            false => assert_eq!(
                taken,
                Err(ConstraintError::Refused { token: other }),
                "after {text}"
            ),
        }
        let token = chooser.choose(step, &tokens, tokenizer);
        constraint.accept(token).expect("the mask has it");
        if tokenizer.is_end_of_generation(token) {
            assert!(constraint.is_finished());
            return Some(text);
        }
        tokenizer.token_bytes(token, &mut bytes);
        if constraint.is_finished() {
            let text = String::from_utf8(bytes).expect("whole characters");
            assert!(is_complete(&text), "{text}");
            return Some(text);
        }
    }
    None
}

fn walk_schema(constraint: Constraint, tokenizer: &Tokenizer, seed: u64, schema: &Value) -> bool {
    let is_complete = |text: &str| {
        match serde_json::from_str::<Value>(text) {
            Ok(value) => is_valid(schema, schema, &value),
            // JSON's numbers have no end; this parser's do.
            Err(error) => error.to_string().contains("number out of range"),
        }
    };
    walk(constraint, tokenizer, seed, &is_complete).is_some()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn answers_are_what_their_schema_describes(seed in any::<u64>(), index in 0..schemas().len()) {
        let schema = &schemas()[index];
        let constraint = compile(&Grammar::JsonSchema(schema.clone())).expect("is supported");
        walk_schema(constraint, &STORIES.0, seed, schema);
    }

    #[test]
    fn texts_match_their_expression(seed in any::<u64>()) {
        for (regex, whole) in [
            (r"[a-z]+( [a-z]+){0,3}\.", r"^[a-z]+( [a-z]+){0,3}\.$"),
            (r"(yes|no|maybe)", "^(yes|no|maybe)$"),
            (r"\d{2,4}/\d+", r"^\d{2,4}/\d+$"),
        ] {
            let whole = Regex::new(whole).expect("a pattern");
            let is_complete = |text: &str| whole.is_match(text).expect("is matched");
            let constraint = compile(&Grammar::Regex(regex.to_owned())).expect("is supported");
            walk(constraint, &STORIES.0, seed, &is_complete);
        }
    }
}

#[test]
fn most_answers_come_to_an_end() {
    let mut ended = 0;
    for schema in schemas() {
        for seed in 0..4 {
            let constraint = compile(&Grammar::JsonSchema(schema.clone())).expect("is supported");
            ended += usize::from(walk_schema(constraint, &STORIES.0, seed, &schema));
        }
    }
    assert!(ended * 10 >= schemas().len() * 4 * 8, "only {ended} ended");
}

#[test]
fn objects_are_objects_and_sums_are_sums() {
    for seed in 0..8 {
        let constraint = compile(&Grammar::JsonObject).expect("is supported");
        walk_schema(constraint, &STORIES.0, seed, &json!({"type": "object"}));
        let sum = "start: term (\"+\" term)*\nterm: /[0-9]+/ | \"(\" start \")\"\n";
        let constraint = compile(&Grammar::Lark(sum.to_owned())).expect("is supported");
        let is_complete = |text: &str| {
            let closed = text.matches('(').count() == text.matches(')').count();
            closed && text.ends_with(|end: char| end.is_ascii_digit() || end == ')')
        };
        walk(constraint, &STORIES.0, seed, &is_complete);
    }
}

/// The vocabularies of real models, where the shared data is.
#[test]
fn other_vocabularies_write_the_same_forms() {
    for name in ["llama-bpe", "llama-spm"] {
        let Some(path) = common::shared(&format!("vocab/ggml-vocab-{name}.gguf")) else {
            return;
        };
        let file = ModelFile::open(&path).expect("a model file");
        let (tokenizer, factory) =
            factory(Tokenizer::from_metadata(file.metadata()).expect("is sound"));
        for schema in schemas() {
            let grammar = Grammar::JsonSchema(schema.clone());
            let constraint = factory.compile(&grammar).expect("is supported");
            walk_schema(constraint, &tokenizer, 1, &schema);
        }
    }
}

#[test]
fn a_clone_goes_its_own_way() {
    let mut one = compile(&Grammar::Regex("ab|ac".to_owned())).expect("is supported");
    let token = |text| STORIES.0.token_id(text).expect("is a token");
    one.accept(token("a")).expect("begins both");
    let mut other = one.clone();
    one.accept(token("b")).expect("goes on");
    assert!(one.is_finished() && !other.is_finished());
    other.accept(token("c")).expect("goes on");
    assert!(other.is_finished());
}

#[test]
fn constraints_move_between_threads_and_factories_are_shared() {
    fn moves<T: Send>() {}
    fn shared<T: Send + Sync>() {}
    moves::<Constraint>();
    shared::<ConstraintFactory>();
}

#[test]
fn after_the_end_only_the_end_is_taken() {
    let mut constraint = compile(&Grammar::Regex("a".to_owned())).expect("is supported");
    let a = STORIES.0.token_id("a").expect("is a token");
    let end = STORIES.0.eos().expect("ends stories");
    assert_eq!(
        constraint.clone().accept(end),
        Err(ConstraintError::Refused { token: end }),
        "not before it is complete"
    );
    constraint.accept(a).expect("is all");
    let mask = constraint.mask().expect("the end");
    assert!(mask.allows(end) && !mask.allows(a));
    assert_eq!(constraint.accept(end), Ok(()));
    assert_eq!(
        constraint.accept(a),
        Err(ConstraintError::Refused { token: a })
    );
    let beyond = TokenId(u32::MAX);
    let mut fresh = compile(&Grammar::Regex("a".to_owned())).expect("is supported");
    assert_eq!(
        fresh.accept(beyond),
        Err(ConstraintError::Refused { token: beyond })
    );
    assert!(
        fresh.mask().is_err() && !fresh.is_finished(),
        "it stays an error"
    );
}
