//! Any text, cut anyhow.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

/// Pieces that answers are made of, good ones and bad ones.
const PIECES: [&str; 52] = [
    "<tool_call>",
    "</tool_call>",
    "<function=get_weather>",
    "<parameter=city>",
    "</parameter>",
    "</function>",
    "<think>",
    "</think>",
    "[THINK]",
    "[/THINK]",
    "[TOOL_CALLS]",
    "[ARGS]",
    "<|tool_call|>",
    "<|python_tag|>",
    "<|tool_call>",
    "<tool_call|>",
    "<|\"|>",
    "<|channel>thought",
    "<channel|>",
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁call▁begin｜>",
    "<｜tool▁sep｜>",
    "<｜tool▁call▁end｜>",
    "<|START_ACTION|>",
    "<|END_ACTION|>",
    "<|START_RESPONSE|>",
    "Action:",
    "```json",
    "```",
    "<arg_key>",
    "</arg_key>",
    "<arg_value>",
    "</arg_value>",
    "<|start|>",
    "assistant",
    "<|channel|>",
    "analysis",
    "commentary to=functions.get_weather",
    "<|message|>",
    "<|end|>",
    "<|call|>",
    "{\"name\": \"get_weather\", \"arguments\": {\"city\": \"é\"}}",
    "{\"city\": \"Bonn\"}",
    "call:get_weather{city:1}",
    "get_weather",
    "{",
    "}",
    "[",
    "\"",
    "\n",
    " ",
    "é<|",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn cuts_do_not_matter(
        source in proptest::sample::select(&ALL[..]),
        opened in any::<bool>(),
        pieces in proptest::collection::vec(proptest::sample::select(&PIECES[..]), 0..14),
        cuts in proptest::collection::vec(0..400_usize, 0..20),
    ) {
        let text = pieces.concat();
        let tail = if opened { "<think>\n" } else { "" };
        let mut cuts = cuts;
        cuts.sort_unstable();
        let whole = parse(source, tail, &tools(), &text, &[]);
        prop_assert_eq!(&parse(source, tail, &tools(), &text, &cuts), &whole, "{} {:?}", source, text);
        let every: Vec<_> = (0..text.len()).collect();
        prop_assert_eq!(&parse(source, tail, &tools(), &text, &every), &whole, "{} {:?}", source, text);
    }

    #[test]
    fn plain_text_comes_out_as_it_is(
        source in proptest::sample::select(&ALL[..]),
        text in "[a-zA-Z é.,:\n]{0,80}",
    ) {
        // These words are marks of their own.
        prop_assume!(!text.contains("Action:"));
        let parts = parse(source, "", &tools(), &text, &[]);
        let expect = if text.is_empty() { vec![] } else { vec![content(&text)] };
        prop_assert_eq!(parts, expect, "{}", source);
    }
}

#[test]
fn time_is_linear() {
    let units = [
        " ",
        "<",
        "\n<tool_call>",
        "<tool_call>{\"",
        "<tool_call><function=f><parameter=x>",
        "<tool_call>{\"a\":\"\\\"\"",
        "[TOOL_CALLS]a",
        "<|tool_call>call:f{<|\"|>",
        "<|channel|>commentary to=functions.f<|message|>{",
        "<｜tool▁call▁begin｜>",
        "{\"name\": \"get_weather\"};",
        "`",
    ];
    for source in ALL {
        for unit in units {
            let text = unit.repeat(20_000 / unit.len());
            let start = Instant::now();
            let mut parser = AnswerFormat::of(source).parser("", &tools());
            for c in text.chars() {
                parser.push(c.encode_utf8(&mut [0; 4]));
            }
            parser.finish();
            // It takes a twentieth of that; steps in the square of the length take some times as long.
            assert!(
                start.elapsed() < Duration::from_secs(2),
                "{source} {unit:?}"
            );
        }
    }
}
