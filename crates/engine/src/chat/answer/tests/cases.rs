//! Answers by hand.

use super::*;

fn weather(city: &str) -> AnswerPart {
    call("get_weather", json!({"city": city}))
}

#[test]
fn what_templates_know() {
    for source in ALL {
        let format = AnswerFormat::of(source);
        assert_eq!(format.knows_tools(), source != PLAIN, "{source}");
        let thinks = [
            QWEN3,
            GLM,
            MAGISTRAL,
            GRANITE,
            DEEPSEEK,
            DEEPSEEK_31,
            COMMAND_A,
            GEMMA_4,
            GPT_OSS,
        ];
        assert_eq!(
            format.knows_thinking(),
            thinks.contains(&source),
            "{source}"
        );
    }
    let markers = |source| AnswerFormat::of(source).markers().to_vec();
    assert_eq!(markers(PLAIN), [""; 0]);
    assert_eq!(
        markers(MAGISTRAL),
        ["[/THINK]", "[ARGS]", "[THINK]", "[TOOL_CALLS]"]
    );
    for mark in [
        "<|tool_call>",
        "<tool_call|>",
        "<|\"|>",
        "<|channel>",
        "<channel|>",
    ] {
        assert!(markers(GEMMA_4).contains(&mark), "{mark}");
    }
    assert_eq!(AnswerFormat::of(GPT_OSS).ends(), ["<|call|>", "<|return|>"]);
}

#[test]
fn hermes() {
    let one = "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Bonn\"}}\n</tool_call>";
    check(HERMES, "", one, &[weather("Bonn")]);
    let text = format!("Let me see.\n\n{one}\n{one}");
    check(
        HERMES,
        "",
        &text,
        &[content("Let me see."), weather("Bonn"), weather("Bonn")],
    );
    // An argument may hold the closing mark; two calls may share one mark; the closing one may be missing.
    let tricky = "<tool_call>{\"name\": \"f\", \"arguments\": {\"x\": \"</tool_call>}\\\"\"}}\n{\"name\": \"g\", \"arguments\": {}}";
    check(
        HERMES,
        "",
        tricky,
        &[
            call("f", json!({"x": "</tool_call>}\""})),
            call("g", json!({})),
        ],
    );
    let said = format!("{one} And so on. ");
    check(
        HERMES,
        "",
        &said,
        &[weather("Bonn"), content("And so on. ")],
    );
}

#[test]
fn without_tools_marks_are_text() {
    let text = " <tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n</tool_call> ";
    check_with(&[], HERMES, "", text, &[content(text)]);
    let text = "{\"name\": \"get_weather\", \"parameters\": {}}";
    check_with(&[], LLAMA, "", text, &[content(text)]);
    check(PLAIN, "", text, &[content(text)]);
}

#[test]
fn broken_calls_are_text() {
    for text in [
        "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": 1}\n</tool_call>",
        "<tool_call>\n{\"name\": \"f\", \"argum",
        "So: <tool_call>not JSON</tool_call> ",
        "<tool_call>{\"name\": 7}</tool_call>",
        "<tool_call",
        "<tool_call>",
        "\n<tool_call>[]</tool_call>\n",
    ] {
        check(HERMES, "", text, &[content(text)]);
    }
    // One that is broken does not spoil the next one.
    let text = "<tool_call>{\"name\" <tool_call>{\"name\": \"f\"}</tool_call>";
    check(
        HERMES,
        "",
        text,
        &[content("<tool_call>{\"name\""), call("f", json!({}))],
    );
    let text = "<tool_call><function=f><parameter=x>never closed";
    check(CODER, "", text, &[content(text)]);
    let text = "<|tool_call>call:f{x:<|\"|>never closed}<tool_call|>";
    check(GEMMA_4, "", text, &[content(text)]);
}

#[test]
fn thoughts() {
    let text = "<think>\nWell, <b>.\n</think>\n\nHello.";
    check(
        QWEN3,
        "",
        text,
        &[reasoning("Well, <b>."), content("Hello.")],
    );
    check(
        QWEN3,
        "<|im_start|>assistant\n<think>\n",
        "Well.\n</think>\n\nHello.",
        &[reasoning("Well."), content("Hello.")],
    );
    check(
        QWEN3,
        "<think>\n\n</think>\n\n",
        "Hello.",
        &[content("Hello.")],
    );
    check(
        QWEN3,
        "",
        "<think>\n\n</think>\n\nHello.",
        &[content("Hello.")],
    );
    check(
        QWEN3,
        "<think>\n",
        "<think>\nWell.\n</think>\n\nHello.",
        &[reasoning("Well."), content("Hello.")],
    );
    // In the midst of content the mark is a word, as it is where the format has no thoughts.
    let text = "The tag <think> opens</think>.";
    check(QWEN3, "", text, &[content(text)]);
    check(
        HERMES,
        "",
        "<think>x</think>y",
        &[content("<think>x</think>y")],
    );
    check(QWEN3, "", "<think>cut", &[reasoning("cut")]);
    check(QWEN3, "", "<think>cut</thi", &[reasoning("cut</thi")]);
    let text = "[THINK]Hm.[/THINK]Hello.";
    check(MAGISTRAL, "", text, &[reasoning("Hm."), content("Hello.")]);
    let text = "<think>Hm.</think>\n<response>Hello.</response>";
    check(GRANITE, "", text, &[reasoning("Hm."), content("Hello.")]);
    let text = "<|START_THINKING|>Hm.<|END_THINKING|><|START_RESPONSE|>Hello.<|END_RESPONSE|>";
    check(COMMAND_A, "", text, &[reasoning("Hm."), content("Hello.")]);
    let text = "<|channel>thought\nHm.\n<channel|>Hello.";
    check(GEMMA_4, "", text, &[reasoning("Hm."), content("Hello.")]);
}

#[test]
fn a_thought_then_a_call() {
    let text = "<think>\nI need it.\n</think>\n\n<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Bonn\"}}\n</tool_call>";
    check(QWEN3, "", text, &[reasoning("I need it."), weather("Bonn")]);
    check(
        QWEN3,
        "<think>\n",
        &text["<think>\n".len()..],
        &[reasoning("I need it."), weather("Bonn")],
    );
}

#[test]
fn in_reasoning_follows_the_text() {
    let mut parser = AnswerFormat::of(QWEN3).parser("", &[]);
    let states = ["<th", "ink>", "a", "</think>", "b"].map(|text| {
        parser.push(text);
        parser.in_reasoning()
    });
    assert_eq!(states, [false, true, true, false, false]);
    let mut parser = AnswerFormat::of(GPT_OSS).parser("<|start|>assistant", &[]);
    let states = [
        "<|channel|>analysis<|message|>",
        "a",
        "<|end|>",
        "<|start|>assistant<|channel|>final<|message|>",
    ]
    .map(|text| {
        parser.push(text);
        parser.in_reasoning()
    });
    assert_eq!(states, [true, true, false, false]);
    assert!(
        AnswerFormat::of(QWEN3)
            .parser("<think>\n", &[])
            .in_reasoning()
    );
}

#[test]
fn text_goes_out_at_once() {
    let mut parser = AnswerFormat::of(QWEN3).parser("", &tools());
    assert_eq!(parser.push("Hello"), [content("Hello")]);
    assert_eq!(parser.push(", you <"), [content(", you")]);
    assert_eq!(parser.push("b"), [content(" <b")]);
    assert_eq!(parser.push("<tool_cal"), []);
    assert_eq!(parser.push("m"), [content("<tool_calm")]);
    let mut parser = AnswerFormat::of(LLAMA).parser("", &tools());
    assert_eq!(
        parser.push("{\"answer\": "),
        [content("{\"answer\":")],
        "no call begins so"
    );
}

#[test]
fn functions_with_parameters() {
    let text = "I will look.\n\n<tool_call>\n<function=get_weather>\n<parameter=city>\nBonn\nam Rhein\n</parameter>\n<parameter=days>\n3\n</parameter>\n</function>\n</tool_call>";
    let expect = call("get_weather", json!({"city": "Bonn\nam Rhein", "days": 3}));
    check(CODER, "", text, &[content("I will look."), expect]);
    let text = "<tool_call>\n<function=plan>\n<parameter=steps>\n[\"a\", \"b\"]\n</parameter>\n</function>\n</tool_call>\n<tool_call>\n<function=now>\n</function>\n</tool_call>";
    let expect = [
        call("plan", json!({"steps": ["a", "b"]})),
        call("now", json!({})),
    ];
    check(CODER, "", text, &expect);
    let bare =
        "<function=get_weather>\n<parameter=city>\n007\n</parameter>\n</function>\n</tool_call>";
    check(
        CODER,
        "",
        bare,
        &[call("get_weather", json!({"city": "007"}))],
    );
}

#[test]
fn keys_and_values() {
    let text = "<think>a</think>\n<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>12</arg_value>\n<arg_key>days</arg_key>\n<arg_value>12</arg_value>\n</tool_call>";
    let expect = call("get_weather", json!({"city": "12", "days": 12}));
    check(GLM, "", text, &[reasoning("a"), expect]);
    check(
        GLM,
        "",
        "<tool_call>now</tool_call>",
        &[call("now", json!({}))],
    );
}

#[test]
fn mistral() {
    let text = "[TOOL_CALLS][{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Bonn\"}, \"id\": \"abcdefghi\"}, {\"name\": \"f\", \"arguments\": {}}]";
    check(MISTRAL, "", text, &[weather("Bonn"), call("f", json!({}))]);
    let text = "Hm. [TOOL_CALLS]get_weather[ARGS]{\"city\": \"Bonn\"}[TOOL_CALLS]f[CALL_ID]abcdefghi[ARGS]{}";
    check(
        MAGISTRAL,
        "",
        text,
        &[content("Hm."), weather("Bonn"), call("f", json!({}))],
    );
    let text = "[TOOL_CALLS]";
    check(MISTRAL, "", text, &[content(text)]);
}

#[test]
fn lists_sections_and_actions() {
    let text = "<|tool_call|>[{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Bonn\"}}]";
    check(GRANITE, "", text, &[weather("Bonn")]);
    let text = "<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0<|tool_call_argument_begin|>{\"city\": \"Bonn\"}<|tool_call_end|><|tool_calls_section_end|>";
    check(KIMI, "", text, &[weather("Bonn")]);
    let text = "<|START_THINKING|>Hm.<|END_THINKING|><|START_ACTION|>[\n    {\"tool_call_id\": \"0\", \"tool_name\": \"get_weather\", \"parameters\": {\"city\": \"Bonn\"}}\n]<|END_ACTION|>";
    check(COMMAND_A, "", text, &[reasoning("Hm."), weather("Bonn")]);
    let text = "Action: ```json\n[\n    {\n        \"tool_name\": \"get_weather\",\n        \"parameters\": {\"city\": \"Bonn\"}\n    }\n]```";
    check(COMMAND_R, "", text, &[weather("Bonn")]);
}

#[test]
fn deepseek() {
    let one = |name: &str| {
        format!(
            "<｜tool▁call▁begin｜>function<｜tool▁sep｜>{name}\n```json\n{{\"city\": \"Bonn\"}}\n```<｜tool▁call▁end｜>"
        )
    };
    let text = format!(
        "<｜tool▁calls▁begin｜>{}\n{}<｜tool▁calls▁end｜>",
        one("get_weather"),
        one("f")
    );
    check(
        DEEPSEEK,
        "",
        &text,
        &[weather("Bonn"), call("f", json!({"city": "Bonn"}))],
    );
    let text = "Hm.</think>Well.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{\"city\": \"Bonn\"}<｜tool▁call▁end｜><｜tool▁calls▁end｜>";
    check(
        DEEPSEEK_31,
        "<｜Assistant｜><think>",
        text,
        &[reasoning("Hm."), content("Well."), weather("Bonn")],
    );
}

#[test]
fn gemma() {
    let text = "<|channel>thought\nHm.\n<channel|><|tool_call>call:get_weather{city:<|\"|>Bonn, {x}<|\"|>,days:3}<tool_call|><|tool_call>call:plan{steps:[<|\"|>a<|\"|>]}<tool_call|>";
    let first = call("get_weather", json!({"city": "Bonn, {x}", "days": 3}));
    check(
        GEMMA_4,
        "",
        text,
        &[
            reasoning("Hm."),
            first,
            call("plan", json!({"steps": ["a"]})),
        ],
    );
    let text =
        "<start_function_call>call:get_weather{city:<escape>Bonn<escape>}<end_function_call>";
    check(FUNCTION_GEMMA, "", text, &[weather("Bonn")]);
}

#[test]
fn bare_calls() {
    let text = "{\"name\": \"get_weather\", \"parameters\": {\"city\": \"Bonn\"}}";
    check(LLAMA, "", text, &[weather("Bonn")]);
    check(
        LLAMA,
        "",
        &format!("<|python_tag|>{text}; {text}"),
        &[weather("Bonn"), weather("Bonn")],
    );
    check(
        LLAMA,
        "",
        &format!("{text};{text}\n"),
        &[weather("Bonn"), weather("Bonn")],
    );
    check(
        LLAMA,
        "",
        "<function=get_weather>{\"city\": \"Bonn\"}</function>",
        &[weather("Bonn")],
    );
    check(
        BARE,
        "",
        &format!("\n```json\n[{text}]\n```\n"),
        &[weather("Bonn")],
    );
    // JSON that is no call, a tool that nobody offered, and a call in the midst of text.
    for other in [
        "{\"city\": \"Bonn\", \"name\": 1}",
        "{\"name\": \"Bob\", \"parameters\": {}}",
        "So: {\"name\": \"get_weather\", \"parameters\": {}}",
        "[1] is a note",
        "```\ncode\n```",
    ] {
        check(LLAMA, "", other, &[content(other)]);
    }
}

#[test]
fn channels() {
    let text = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Hello.";
    let tail = "<|end|><|start|>assistant";
    check(GPT_OSS, tail, text, &[reasoning("Hm."), content("Hello.")]);
    check(
        GPT_OSS,
        tail,
        &format!("{text}<|return|>"),
        &[reasoning("Hm."), content("Hello.")],
    );
    for call in [
        "<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{\"city\": \"Bonn\"}<|call|>",
        " to=functions.get_weather<|channel|>commentary json<|message|>{\"city\": \"Bonn\"}",
        "<|start|>assistant to=functions.get_weather<|channel|>commentary json<|message|>{\"city\":\"Bonn\"}",
    ] {
        check(GPT_OSS, tail, call, &[weather("Bonn")]);
    }
    let broken = "<|channel|>commentary to=functions.f <|constrain|>json<|message|>{\"city\": ";
    check(GPT_OSS, tail, broken, &[content(broken)]);
    check(GPT_OSS, tail, "No header.", &[content("No header.")]);
    check(GPT_OSS, tail, "assistants", &[content("assistants")]);
    check(GPT_OSS, tail, "<|channel|>ana", &[]);
    check(
        GPT_OSS,
        "<|start|>assistant<|channel|>analysis<|message|>So",
        "me<|end|>",
        &[reasoning("me")],
    );
    let preamble = "<|channel|>commentary<|message|>I look it up.<|end|>";
    check(GPT_OSS, tail, preamble, &[content("I look it up.")]);
}

#[test]
fn sizes_are_bounded() {
    // A call that never ends comes out as text long before the answer does.
    let mut parser = AnswerFormat::of(CODER).parser("", &tools());
    parser.push("<tool_call><function=f><parameter=x>");
    let megabyte = "é".repeat(1 << 19);
    let mut parts = parser.push(&megabyte);
    parts.extend(parser.push(&megabyte));
    assert!(matches!(&parts[..], [AnswerPart::Content(_), ..]));
    let mut parser = AnswerFormat::of(GPT_OSS).parser("", &tools());
    parser.push("<|channel|>commentary to=functions.f<|message|>");
    let mut parts = parser.push(&megabyte);
    parts.extend(parser.push(&megabyte));
    assert!(matches!(&parts[..], [AnswerPart::Content(_), ..]));
    let long = format!("<|channel|>{}", "a".repeat(1000));
    check(GPT_OSS, "", &long, &[content(&long)]);
    // Depth is bounded where text is nested.
    let deep = format!("<tool_call>{}", "[".repeat(100_000));
    assert_eq!(parse(HERMES, "", &tools(), &deep, &[]), [content(&deep)]);
    let deep = format!("<|tool_call>call:f{{a:{}<tool_call|>", "[".repeat(100_000));
    assert_eq!(parse(GEMMA_4, "", &tools(), &deep, &[]), [content(&deep)]);
}
