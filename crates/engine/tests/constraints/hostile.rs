//! Grammars that are wrong, ask for what is not supported, or were made to do harm.

use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use troika_engine::chat::{AnswerFormat, GrammarContext, RequiredCall};
use troika_engine::constraint::{ConstraintError, Grammar};

use crate::compile;

/// Twice what a caller waits at most, as the machine that runs tests is busy.
const TIME_MAX: Duration = Duration::from_secs(2);

#[track_caller]
fn refused(grammar: &Grammar) -> ConstraintError {
    let start = Instant::now();
    let Err(error) = compile(grammar) else {
        panic!("is not refused: {:.200}", format!("{grammar:?}"));
    };
    assert!(start.elapsed() < TIME_MAX, "{:?}", start.elapsed());
    assert!(error.is_bad_grammar(), "{error}");
    assert!(
        error.to_string().len() < 1000 && !error.to_string().contains("panic"),
        "{error}"
    );
    error
}

#[test]
fn what_is_not_supported_is_named_with_its_place() {
    let inside =
        |schema: Value| json!({"type": "object", "properties": {"a/b": {"items": schema}}});
    for (schema, reason) in [
        (json!({"not": {}}), "`not` is not supported"),
        (json!({"if": {}, "then": {}}), "`if` is not supported"),
        (
            json!({"type": "array", "uniqueItems": true}),
            "`uniqueItems` is not supported",
        ),
        (
            json!({"unevaluatedProperties": false}),
            "`unevaluatedProperties` is not supported",
        ),
        (
            json!({"x-guidance": {"lenient": true}}),
            "`x-guidance` is not supported",
        ),
        (
            json!({"type": "string", "format": "zebra"}),
            "the format \"zebra\" is not supported",
        ),
        (json!({"type": "text"}), "`type` is one of array, "),
        (json!({"type": []}), "`type` is one of array, "),
        (json!(7), "a schema is an object, `true` or `false`"),
        (json!({"properties": []}), "`properties` is an object"),
        (json!({"enum": []}), "`enum` is a list of one value or more"),
        (
            json!({"const": 9_007_199_254_740_993i64}),
            "not held exactly",
        ),
        (json!({"enum": [1e300]}), "not held exactly"),
        (json!({"minimum": 1e300}), "not held exactly"),
        (json!({"minimum": "1"}), "`minimum` is a number"),
        (json!({"multipleOf": 0}), "`multipleOf` is a number above 0"),
        (
            json!({"multipleOf": 982_451_653}),
            "`multipleOf` is a number above 0",
        ),
        (
            json!({"minItems": 1_000_000_000}),
            "`minItems` is a whole number from 0 to",
        ),
        (
            json!({"minLength": 1e9}),
            "`minLength` is a whole number from 0 to",
        ),
        (
            json!({"minProperties": -1}),
            "`minProperties` is a whole number from 0 to",
        ),
        (
            json!({"$ref": "#/$defs/nowhere"}),
            "leads to \"#/$defs/nowhere\", where nothing is",
        ),
        (
            json!({"$ref": "http://127.0.0.1:1/schema"}),
            "nothing is fetched",
        ),
        (json!({"$ref": "file:///etc/passwd"}), "nothing is fetched"),
        (json!({"$ref": 7}), "outside of this schema"),
        (
            json!({"type": "string", "pattern": "(a"}),
            "`pattern`: unclosed group",
        ),
        (
            json!({"type": "string", "pattern": "a\\"}),
            "escapes nothing",
        ),
        (
            json!({"type": "string", "pattern": "(?=a)b"}),
            "look-around",
        ),
        (
            json!({"type": "string", "pattern": "(a)\\1"}),
            "backreferences are not supported",
        ),
        (
            json!({"patternProperties": {"(": {}}}),
            "`patternProperties`: unclosed group",
        ),
        (
            json!({"oneOf": [{"type": "string"}, {"minLength": 3}]}),
            "`oneOf` may overlap",
        ),
    ] {
        let message = refused(&Grammar::JsonSchema(inside(schema))).to_string();
        assert!(message.contains(reason), "{message}");
        assert!(message.contains("`#/properties/a~1b/items`"), "{message}");
    }
}

#[test]
fn schemas_that_nothing_fits_are_refused() {
    for schema in [
        json!(false),
        json!({"type": "integer", "minimum": 3, "maximum": 2}),
        json!({"type": "object", "required": ["a"], "additionalProperties": false}),
        json!({"$ref": "#"}),
        json!({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}),
        json!({"$defs": {"a": {"allOf": [{"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"}),
        json!({"allOf": [{"type": "string"}, {"type": "integer"}]}),
        json!({"type": "string", "pattern": "^a$", "minLength": 2}),
    ] {
        refused(&Grammar::JsonSchema(schema));
    }
}

#[test]
fn bombs_are_refused_in_time() {
    let mut nested = json!({"type": "string"});
    for _ in 0..120 {
        nested = json!({"items": nested});
    }
    let definitions = |count: usize, of: &dyn Fn(String) -> Value| {
        let mut definitions: Map<String, Value> = (0..count)
            .map(|n| (format!("d{n}"), of(format!("#/$defs/d{}", n + 1))))
            .collect();
        definitions.insert(format!("d{count}"), json!({"type": "object"}));
        json!({"$defs": definitions, "$ref": "#/$defs/d0"})
    };
    let doubling = definitions(30, &|next| {
        let merged = json!({"allOf": [{"$ref": next}, {"type": "object"}]});
        json!({"type": "object", "properties": {"a": merged, "b": merged}, "required": ["a", "b"]})
    });
    let options: Vec<_> = (0..200)
        .map(|n| json!({"properties": {format!("k{n}"): {"minLength": n}}}))
        .collect();
    let many: Map<String, Value> = (0..5000).map(|n| (format!("p{n}"), json!({}))).collect();
    let numbers: Vec<_> = (0..30_000).collect();
    let long = "k".repeat(100_000);
    for (schema, reason) in [
        (nested, "levels deep"),
        (doubling, "merging"),
        (
            json!({"allOf": [{"anyOf": options}, {"anyOf": options}, {"anyOf": options}]}),
            "complex",
        ),
        (json!({"properties": many}), "entries"),
        (json!({"enum": numbers}), "values"),
        (json!({"properties": {"k".repeat(300_000): {}}}), "bytes"),
        (
            json!({"properties": {long: {"not": {}}}}),
            "`not` is not supported",
        ),
        (
            json!({"type": "string", "pattern": "a?".repeat(5000)}),
            "bytes",
        ),
    ] {
        let message = refused(&Grammar::JsonSchema(schema)).to_string();
        assert!(message.contains(reason), "{message}");
    }
    for (regex, reason) in [
        ("", "empty"),
        ("(", "unclosed group"),
        ("a\\", "escapes nothing"),
        (&"(".repeat(3000), "levels deep"),
        (&"a?".repeat(9000), "bytes"),
        (&format!("x{}", "*".repeat(4000)), "nested"),
    ] {
        let message = refused(&Grammar::Regex(regex.to_owned())).to_string();
        assert!(message.contains(reason), "{message}");
    }
}

/// Parsing stops at 128 levels, but a value can be built deeper; no recursion may meet it.
#[test]
fn a_value_of_any_depth_is_refused() {
    let mut deep = json!({});
    for _ in 0..60_000 {
        deep = Value::Array(vec![deep]);
    }
    let grammar = Grammar::JsonSchema(deep);
    let message = refused(&grammar).to_string();
    assert!(message.contains("levels deep"), "{message}");
    // Its own `drop` is one of those recursions.
    std::mem::forget(grammar);
}

#[test]
fn odd_grammars_are_refused() {
    for lark in [
        "",
        "start",
        "a: \"b\"",
        "%llguidance",
        "%llguidance xx",
        "%llguidance {\"no_forcing\": 7}\nstart: \"a\"",
        "start: @elsewhere",
        "%import foo.bar\nstart: bar",
        "start: <[99999999]>",
        "start: a{5,3}\na: \"x\"",
        "start: a{1,18446744073709551615}\na: \"x\"",
        "start: %regex {\"substring_chars\": \"\\ud83d\"}",
        "start: \"a\\u{110000}\" \"\\",
        "start: ~ ~ ~",
        "start: a\na: b\nb: a",
        "start: A\nA: B\nB: A",
        "start: %json {\"x-guidance\": {\"lenient\": true}}",
        "start: %json {\"multipleOf\": 982451653}",
        "start: %json {",
        &format!("start: {}\"a\"{}", "(".repeat(60), ")".repeat(60)),
        &format!("start: {}\"a\"{}", "(".repeat(8000), ")".repeat(8000)),
        &format!("start: {}", "\"a\" ".repeat(10_000)),
    ] {
        refused(&Grammar::Lark(lark.to_owned()));
    }
}

#[test]
fn calls_of_tools_are_compiled_however_many_there_are() {
    let tools = |parameters: &Value| -> Vec<Value> {
        let tool = |i: usize| json!({"name": format!("tool_{i}"), "parameters": parameters});
        (0..200).map(tool).collect()
    };
    let grammar = |parameters: &Value| {
        let context = GrammarContext {
            prompt_tail: "",
            token: &|_| None,
        };
        let format = AnswerFormat::of("{% if tools %}<tool_call>{% endif %}");
        let choice = RequiredCall::OneOf;
        let lark = format.tool_grammar(&tools(parameters), &choice, true, context);
        Grammar::Calls(lark.expect("the format has calls"))
    };
    // What looks like a schema in a text is a text, and brackets in it are no nesting.
    let about = "%json {\"a\": 1} and ((((((((";
    let parameters = json!({"properties": {"city": {"enum": ["Oslo"], "description": about}}});
    compile(&grammar(&parameters)).expect("tools in order");
    for inside in [json!({"not": {}}), json!({"x-guidance": {"lenient": true}})] {
        refused(&grammar(&json!({"properties": {"city": inside}})));
    }
    let impossible = json!({"allOf": [{"type": "string"}, {"type": "integer"}]});
    let parameters = json!({"properties": {"x": impossible}, "required": ["x"]});
    let error = refused(&grammar(&parameters)).to_string();
    assert!(
        error.contains("'x'") && !error.contains("at "),
        "places are in a text that nobody has seen: {error}"
    );
}

/// How much is too much depends on the vocabulary; how long it takes to say so does not.
#[test]
fn heavy_grammars_are_decided_in_time() {
    for grammar in [
        Grammar::Regex("a?".repeat(2000)),
        Grammar::Regex("\\pL\\PL".repeat(600)),
        Grammar::Regex(".*a".repeat(1300)),
        Grammar::JsonSchema(json!({"type": "string", "pattern": "a?".repeat(2000)})),
        Grammar::Lark(format!("start: T\nT: {}", "\"a\"? ".repeat(3000))),
        Grammar::Lark(format!("start: {}", "\"a\"? ".repeat(3000))),
        Grammar::Lark("start: x x x x x x x x x x\nx: x x | /a*/ | ".to_owned()),
    ] {
        let start = Instant::now();
        let compiled = compile(&grammar);
        assert!(start.elapsed() < TIME_MAX, "{:?}", start.elapsed());
        let Ok(mut constraint) = compiled else {
            continue;
        };
        for _ in 0..20 {
            let Ok(mask) = constraint.mask() else { break };
            let token = mask.tokens().next().expect("something may come");
            if constraint.accept(token).is_err() || constraint.is_finished() {
                break;
            }
        }
        assert!(start.elapsed() < 2 * TIME_MAX, "{:?}", start.elapsed());
    }
}

/// Both the parser and what stands before it recurse from definition to definition.
#[test]
fn long_chains_of_definitions_fit_on_the_stack() {
    let chain = |count: usize, of: &dyn Fn(String) -> Value| {
        let mut definitions: Map<String, Value> = (0..count)
            .map(|n| (format!("d{n}"), of(format!("#/$defs/d{}", n + 1))))
            .collect();
        definitions.insert(format!("d{count}"), json!({"type": "null"}));
        json!({"$defs": definitions, "$ref": "#/$defs/d0"})
    };
    let plain = chain(6000, &|next| json!({"$ref": next}));
    let items = chain(6000, &|next| json!({"items": {"$ref": next}}));
    let merged = chain(2500, &|next| json!({"allOf": [{"$ref": next}, {}]}));
    let properties = chain(
        2500,
        &|next| json!({"type": "object", "properties": {"a": {"anyOf": [{"$ref": next}, {"type": "null"}]}}}),
    );
    for schema in [plain, items, merged, properties] {
        // Whether they are taken is not the point.
        let _ = compile(&Grammar::JsonSchema(schema));
    }
    let rules: String = (0..1200).map(|n| format!("r{n}: r{}\n", n + 1)).collect();
    let lark = format!("start: r0\n{rules}r1200: \"x\"\n");
    compile(&Grammar::Lark(lark)).expect("is taken");
}

/// What is large and legitimate: it compiles, and its steps are bounded too.
#[test]
fn large_grammars_are_taken() {
    let many: Map<String, Value> = (0..400)
        .map(|n| (format!("p{n}"), json!({"type": "string"})))
        .collect();
    let words: Vec<_> = (0..1000).map(|n| format!("word {n}")).collect();
    for grammar in [
        Grammar::JsonSchema(json!({"type": "object", "properties": many})),
        Grammar::JsonSchema(json!({"enum": words})),
        Grammar::JsonSchema(json!({"type": "array", "minItems": 65_536})),
        Grammar::JsonSchema(json!({"type": "array", "maxItems": 1u64 << 53})),
        Grammar::JsonSchema(json!({"type": "string", "maxLength": 1u64 << 40})),
        Grammar::Regex("(a{1,1000}){1,1000}".to_owned()),
        Grammar::Regex("(a+)+b".to_owned()),
        Grammar::Regex("^abc$".to_owned()),
        Grammar::Lark("start: %json {\"type\": \"integer\"} \"!\"".to_owned()),
    ] {
        let mut constraint = compile(&grammar).expect("is taken");
        assert!(constraint.mask().expect("a first token").count() > 0);
    }
}

/// A grammar that is too much to follow ends its own answer, by an error.
#[test]
fn an_answer_that_takes_too_much_is_an_error() {
    let mut constraint = compile(&Grammar::Regex(".*a.{200}".to_owned())).expect("is short");
    let token = crate::STORIES.0.token_id("a").expect("is a token");
    for _ in 0..2000 {
        let step = match constraint.mask() {
            Ok(mask) if mask.allows(token) => constraint.accept(token),
            Ok(_) => return,
            Err(error) => Err(error),
        };
        if let Err(error) = step {
            assert!(matches!(error, ConstraintError::Stuck { .. }), "{error}");
            assert!(!error.is_bad_grammar());
            return;
        }
    }
}
