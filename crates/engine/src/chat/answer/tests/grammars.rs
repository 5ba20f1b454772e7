//! Grammars, as the library that they are written for reads them.

use std::sync::Arc;

use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie};
use llguidance::{Matcher, ParserFactory};

use super::*;

/// A vocabulary of all bytes and the given marks, after them the end.
struct Vocabulary {
    marks: Vec<&'static str>,
    factory: ParserFactory,
}

impl Vocabulary {
    fn new(marks: &[&'static str]) -> Self {
        let mut words: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
        let special = |name: &str| [&[TokTrie::SPECIAL_TOKEN_MARKER], name.as_bytes()].concat();
        words.extend(marks.iter().map(|mark| special(mark)));
        words.push(special("<eos>"));
        let n_vocab = u32::try_from(words.len()).expect("a small vocabulary");
        let trie = TokTrie::from(&TokRxInfo::new(n_vocab, n_vocab - 1), &words);
        let env: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let mut factory = ParserFactory::new_simple(&env).expect("a factory");
        factory.quiet();
        Self {
            marks: marks.to_vec(),
            factory,
        }
    }

    fn id(&self, mark: &str) -> Option<TokenId> {
        let index = self.marks.iter().position(|have| *have == mark)?;
        Some(TokenId(u32::try_from(256 + index).ok()?))
    }

    fn tokens(&self, text: &str) -> Vec<u32> {
        let mut tokens = Vec::new();
        let mut rest = text;
        while let Some(&byte) = rest.as_bytes().first() {
            let mark = self.marks.iter().find(|mark| rest.starts_with(**mark));
            if let Some((mark, id)) = mark.and_then(|mark| Some((mark, self.id(mark)?))) {
                tokens.push(id.0);
                rest = &rest[mark.len()..];
            } else {
                // Bytes of longer characters are not needed here.
                assert!(byte.is_ascii(), "{rest}");
                tokens.push(u32::from(byte));
                rest = &rest[1..];
            }
        }
        tokens
    }

    /// Whether the grammar takes all of the text, and would let it end there.
    fn accepts(&self, grammar: &str, text: &str) -> bool {
        let parser = self
            .factory
            .create_parser(TopLevelGrammar::from_lark(grammar.to_owned()));
        let mut matcher = Matcher::new(parser);
        assert_eq!(matcher.get_error(), None, "{grammar}");
        let tokens = self.tokens(text);
        let taken = matcher.try_consume_tokens(&tokens).expect("no error");
        taken == tokens.len() && matcher.is_accepting().expect("no error")
    }
}

/// An answer that calls twice (where the family can), with marks as this family writes them.
fn answer(source: &str) -> (String, bool) {
    let arguments = "{\"city\": \"Bonn\", \"days\": 3}";
    let steps = "{\"steps\": [\"a\", \"b\"]}";
    let json = |name: &str, key: &str, arguments: &str| {
        format!("{{\"name\": \"{name}\", \"{key}\": {arguments}}}")
    };
    let both = |key: &str| {
        (
            json("get_weather", key, arguments),
            json("plan", key, steps),
        )
    };
    let (one, two) = both("arguments");
    let text = match source {
        HERMES | QWEN3 => {
            format!("<tool_call>\n{one}\n</tool_call>\n<tool_call>\n{two}\n</tool_call>")
        }
        CODER => "<tool_call>\n<function=get_weather>\n<parameter=city>\nBonn\n</parameter>\n<parameter=days>\n3\n</parameter>\n</function>\n</tool_call>\n<tool_call>\n<function=plan>\n<parameter=steps>\n[\"a\", \"b\"]\n</parameter>\n</function>\n</tool_call>".to_owned(),
        GLM => "<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Bonn</arg_value>\n<arg_key>days</arg_key>\n<arg_value>3</arg_value>\n</tool_call>\n<tool_call>plan\n<arg_key>steps</arg_key>\n<arg_value>[\"a\", \"b\"]</arg_value>\n</tool_call>".to_owned(),
        MISTRAL => format!("[TOOL_CALLS][{one}, {two}]"),
        MAGISTRAL => format!("[TOOL_CALLS]get_weather[ARGS]{arguments}[TOOL_CALLS]plan[ARGS]{steps}"),
        GRANITE => format!("<|tool_call|>[{one}, {two}]"),
        DEEPSEEK => {
            let one = |name: &str, arguments: &str| format!("<｜tool▁call▁begin｜>function<｜tool▁sep｜>{name}\n```json\n{arguments}\n```<｜tool▁call▁end｜>");
            format!("<｜tool▁calls▁begin｜>{}{}<｜tool▁calls▁end｜>", one("get_weather", arguments), one("plan", steps))
        }
        DEEPSEEK_31 => {
            let one = |name: &str, arguments: &str| format!("<｜tool▁call▁begin｜>{name}<｜tool▁sep｜>{arguments}<｜tool▁call▁end｜>");
            format!("<｜tool▁calls▁begin｜>{}{}<｜tool▁calls▁end｜>", one("get_weather", arguments), one("plan", steps))
        }
        KIMI => {
            let one = |name: &str, index: u8, arguments: &str| format!("<|tool_call_begin|>functions.{name}:{index}<|tool_call_argument_begin|>{arguments}<|tool_call_end|>");
            format!("<|tool_calls_section_begin|>{}{}<|tool_calls_section_end|>", one("get_weather", 0, arguments), one("plan", 1, steps))
        }
        COMMAND_A => {
            let one = |name: &str, arguments: &str| format!("{{\"tool_call_id\": \"0\", \"tool_name\": \"{name}\", \"parameters\": {arguments}}}");
            format!("<|START_ACTION|>[\n    {},\n    {}\n]<|END_ACTION|>", one("get_weather", arguments), one("plan", steps))
        }
        COMMAND_R => {
            let one = |name: &str, arguments: &str| format!("{{\"tool_name\": \"{name}\", \"parameters\": {arguments}}}");
            format!("Action: ```json\n[\n    {},\n    {}\n]```", one("get_weather", arguments), one("plan", steps))
        }
        GEMMA_4 => "<|tool_call>call:get_weather{city:<|\"|>Bonn<|\"|>,days:3}<tool_call|><|tool_call>call:plan{steps:[<|\"|>a<|\"|>,<|\"|>b<|\"|>]}<tool_call|>".to_owned(),
        FUNCTION_GEMMA => "<start_function_call>call:get_weather{city:<escape>Bonn<escape>,days:3}<end_function_call><start_function_call>call:plan{steps:[<escape>a<escape>,<escape>b<escape>]}<end_function_call>".to_owned(),
        LLAMA => {
            let (one, two) = both("parameters");
            format!("{one}; {two}")
        }
        BARE => format!("{one}\n{two}"),
        GPT_OSS => {
            let text = format!("<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{arguments}");
            return (text, false);
        }
        other => panic!("no answer for {other}"),
    };
    (text, true)
}

fn grammar(
    source: &str,
    tail: &str,
    choice: &RequiredCall,
    parallel: bool,
    vocabulary: &Vocabulary,
) -> Option<String> {
    AnswerFormat::of(source).tool_grammar(
        &tools(),
        choice,
        parallel,
        GrammarContext {
            prompt_tail: tail,
            token: &|mark| vocabulary.id(mark),
        },
    )
}

#[test]
fn what_a_grammar_demands_a_parser_reads() {
    for source in ALL.into_iter().filter(|source| *source != PLAIN) {
        let (text, several) = answer(source);
        let mut expect = vec![
            call("get_weather", json!({"city": "Bonn", "days": 3})),
            call("plan", json!({"steps": ["a", "b"]})),
        ];
        expect.truncate(if several { 2 } else { 1 });
        check(source, "", &text, &expect);

        let with_tokens = Vocabulary::new(AnswerFormat::of(source).markers());
        for vocabulary in [with_tokens, Vocabulary::new(&[])] {
            // Where marks are spelt out, other alphabets than this test's are in them.
            if vocabulary.marks.is_empty() && !text.is_ascii() {
                continue;
            }
            let grammar = |choice: &RequiredCall, parallel| {
                grammar(source, "", choice, parallel, &vocabulary).expect("a grammar")
            };
            let any = grammar(&RequiredCall::OneOf, true);
            assert!(vocabulary.accepts(&any, &text), "{text}\n{any}");
            assert!(!vocabulary.accepts(&any, "Hello."), "{any}");
            assert!(!vocabulary.accepts(&any, ""), "{any}");
            let bad = text.replace("3", "\"x\"");
            assert!(!vocabulary.accepts(&any, &bad), "{bad}\n{any}");
            let single = grammar(&RequiredCall::OneOf, false);
            assert_eq!(vocabulary.accepts(&single, &text), !several, "{single}");
            let named = grammar(&RequiredCall::Named("plan".to_owned()), true);
            assert!(!vocabulary.accepts(&named, &text), "{named}");
        }
    }
}

#[test]
fn no_grammar_where_there_are_no_calls() {
    let vocabulary = Vocabulary::new(&[]);
    assert_eq!(
        grammar(PLAIN, "", &RequiredCall::OneOf, false, &vocabulary),
        None
    );
    assert_eq!(
        grammar(
            HERMES,
            "",
            &RequiredCall::Named("nope".to_owned()),
            false,
            &vocabulary
        ),
        None
    );
}

#[test]
fn a_thought_may_come_first() {
    let vocabulary = Vocabulary::new(&["<tool_call>", "</tool_call>", "<think>", "</think>"]);
    let spelt = Vocabulary::new(&[]);
    let (text, _) = answer(QWEN3);
    for vocabulary in [vocabulary, spelt] {
        let grammar = |tail| {
            grammar(QWEN3, tail, &RequiredCall::OneOf, true, &vocabulary).expect("a grammar")
        };
        let accepts = |tail, text: &str| vocabulary.accepts(&grammar(tail), text);
        let thinks = format!("<think>\nWell, {{so}}.\n</think>\n\n{text}");
        let empty = format!("<think></think>{text}");
        assert!(
            accepts("assistant\n", &thinks),
            "{}",
            grammar("assistant\n")
        );
        assert!(accepts("assistant\n", &empty));
        assert!(accepts("assistant\n", &text));
        // Behind the end of a thought that the prompt has opened.
        assert!(accepts("assistant\n<think>\n", &text));
        assert!(accepts("assistant\n<think>\n", &format!("\n\n{text}")));
        assert!(!accepts("assistant\n<think>\n", &thinks));
        assert!(accepts("<think>\n\n</think>\n\n", &text));
        assert!(!accepts("<think>\n\n</think>\n\n", &thinks));
    }
    let vocabulary = Vocabulary::new(AnswerFormat::of(GPT_OSS).markers());
    let (text, _) = answer(GPT_OSS);
    let grammar = grammar(GPT_OSS, "", &RequiredCall::OneOf, true, &vocabulary).expect("a grammar");
    let thinks = format!("<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant{text}");
    assert!(vocabulary.accepts(&grammar, &thinks));
}

#[test]
fn content_in_a_form() {
    let lark = "%lark { start: \"a\" B\nB: /b+/\n}";
    let json = "%json {\"type\": \"object\", \"properties\": {\"a\": {\"type\": \"integer\"}}, \"required\": [\"a\"], \"additionalProperties\": false}";
    let check_content = |content: &str, source: &str, text: &str, expect: bool| {
        let format = AnswerFormat::of(source);
        let vocabulary = Vocabulary::new(format.markers());
        let grammar = format.content_grammar(
            content,
            GrammarContext {
                prompt_tail: "",
                token: &|mark| vocabulary.id(mark),
            },
        );
        assert_eq!(
            vocabulary.accepts(&grammar, text),
            expect,
            "{text}\n{grammar}"
        );
    };
    check_content(lark, QWEN3, "<think>a</think>abb", true);
    check_content(lark, QWEN3, "a", false);
    let check = |source: &str, text: &str, expect| check_content(json, source, text, expect);
    for source in [PLAIN, QWEN3, LLAMA] {
        check(source, "{\"a\": 1}", true);
        check(source, "{\"b\": 1}", false);
    }
    check(QWEN3, "<think>Hm.</think>\n{\"a\": 1}", true);
    check(GPT_OSS, "<|channel|>final<|message|>{\"a\": 1}", true);
    check(GPT_OSS, "{\"a\": 1}", false);
    check(
        COMMAND_A,
        "<|START_RESPONSE|>{\"a\": 1}<|END_RESPONSE|>",
        true,
    );
}

#[test]
fn odd_tools_make_no_odd_grammars() {
    let tools = [
        json!({"function": {"name": "a\"b\n\u{7f}", "parameters": {"type": "object", "properties": {"x\"y": {"type": "string", "enum": ["a\"", "b\n"]}}}}}),
        json!({"function": {"name": "none"}}),
        json!({"function": {"name": "odd", "parameters": {"properties": {"a": true, "b": {"type": ["integer", "null"]}, "c": {"anyOf": [{"type": "string"}, {"type": "null"}]}, "d": {"type": "object", "properties": {"e": {"$ref": "#/$defs/E"}}}, "f": {"$ref": "#/$defs/E"}}, "$defs": {"E": {"type": "integer"}}}}}),
        json!({"function": {"no": "name"}}),
        json!(7),
    ];
    for source in ALL.into_iter().filter(|source| *source != PLAIN) {
        let format = AnswerFormat::of(source);
        let vocabulary = Vocabulary::new(format.markers());
        let context = GrammarContext {
            prompt_tail: "",
            token: &|mark| vocabulary.id(mark),
        };
        let grammar = format
            .tool_grammar(&tools, &RequiredCall::OneOf, true, context)
            .expect("a grammar");
        // It compiles, which is asserted within.
        vocabulary.accepts(&grammar, "");
    }
}
