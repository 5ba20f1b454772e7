//! Answers in every family's way, taken apart, and demanded.

mod cases;
mod grammars;
mod properties;
mod round_trips;

use serde_json::{Value, json};

use super::*;

/// Template fragments that show each family's format.
const HERMES: &str = "{% if tools %}<tool_call>{% endif %}";
const QWEN3: &str = "{% if tools %}<tool_call>{% endif %}<think></think>";
const CODER: &str = "{% if tools %}<tool_call>\n<function=name>{% endif %}";
const GLM: &str = "{% if tools %}<tool_call>name<arg_key><arg_value>{% endif %}<think></think>";
const MISTRAL: &str = "{% if tools %}[TOOL_CALLS]{% endif %}";
const MAGISTRAL: &str = "{% if tools %}[TOOL_CALLS]name[ARGS]{% endif %}[THINK][/THINK]";
const GRANITE: &str = "<|tool_call|> <think></think> <response></response>";
const DEEPSEEK: &str =
    "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>name\n```json</think>";
const DEEPSEEK_31: &str = "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>name<｜tool▁sep｜></think>";
const KIMI: &str = "<|tool_calls_section_begin|><|tool_call_begin|>id<|tool_call_argument_begin|><|tool_call_end|>";
const COMMAND_A: &str = "<|START_THINKING|><|END_THINKING|><|START_ACTION|><|END_ACTION|><|START_RESPONSE|><|END_RESPONSE|>";
const COMMAND_R: &str = "{% if tools %}Action: ```json tool_name{% endif %}";
const GEMMA_4: &str = "<|tool_call>call:<tool_call|><|channel>thought\n<channel|>";
const FUNCTION_GEMMA: &str = "<start_function_call>call:<end_function_call><escape>";
const LLAMA: &str = "<|start_header_id|>{% if tools %}<|python_tag|>{% endif %}";
const PLAIN: &str = "{{ messages[0].content }}";
const BARE: &str = "{% for tool in tools %}{{ tool }}{% endfor %}";
const GPT_OSS: &str = "<|channel|>analysis<|message|>";

const ALL: [&str; 18] = [
    HERMES,
    QWEN3,
    CODER,
    GLM,
    MISTRAL,
    MAGISTRAL,
    GRANITE,
    DEEPSEEK,
    DEEPSEEK_31,
    KIMI,
    COMMAND_A,
    COMMAND_R,
    GEMMA_4,
    FUNCTION_GEMMA,
    LLAMA,
    PLAIN,
    BARE,
    GPT_OSS,
];

fn tools() -> Vec<Value> {
    let tool = |name: &str, properties: Value, required: Value| {
        json!({"type": "function", "function": {
            "name": name,
            "parameters": {"type": "object", "properties": properties, "required": required, "additionalProperties": false},
        }})
    };
    vec![
        tool(
            "get_weather",
            json!({
                "city": {"type": "string"},
                "days": {"type": "integer"},
                "unit": {"type": "string", "enum": ["C", "F"]},
            }),
            json!(["city"]),
        ),
        tool(
            "plan",
            json!({"steps": {"type": "array", "items": {"type": "string"}}}),
            json!(["steps"]),
        ),
    ]
}

fn call(name: &str, arguments: Value) -> AnswerPart {
    AnswerPart::ToolCall(super::call::new(name, arguments).expect("a call"))
}

fn content(text: &str) -> AnswerPart {
    AnswerPart::Content(text.to_owned())
}

fn reasoning(text: &str) -> AnswerPart {
    AnswerPart::Reasoning(text.to_owned())
}

/// The answer's parts, the text being pushed in pieces that end at `cuts`.
fn parse(source: &str, tail: &str, tools: &[Value], text: &str, cuts: &[usize]) -> Vec<AnswerPart> {
    let mut parser = AnswerFormat::of(source).parser(tail, tools);
    let mut all = Vec::new();
    let mut start = 0;
    for &cut in cuts.iter().chain([&text.len()]) {
        let cut = text.floor_char_boundary(cut).max(start);
        all.extend(parser.push(&text[start..cut]));
        start = cut;
    }
    all.extend(parser.finish());
    let mut joined = Parts::default();
    for part in all {
        match part {
            AnswerPart::Content(text) => joined.content(&text),
            AnswerPart::Reasoning(text) => joined.reasoning(&text),
            AnswerPart::ToolCall(call) => joined.calls(vec![call]),
        }
    }
    joined.parts
}

/// Checks the parts of an answer in one piece and character by character.
#[track_caller]
fn check(source: &str, tail: &str, text: &str, expect: &[AnswerPart]) {
    check_with(&tools(), source, tail, text, expect);
}

#[track_caller]
fn check_with(tools: &[Value], source: &str, tail: &str, text: &str, expect: &[AnswerPart]) {
    assert_eq!(parse(source, tail, tools, text, &[]), expect, "{text}");
    let cuts: Vec<_> = (0..text.len()).collect();
    assert_eq!(parse(source, tail, tools, text, &cuts), expect, "{text}");
}
