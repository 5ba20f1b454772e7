//! What real templates write is read back.
//!
//! The templates are shared data beside the repository; without it the tests are skipped.

use std::fs;
use std::path::{Path, PathBuf};

use super::super::super::{ChatInput, ChatMessage, ChatTemplate, FunctionCall, ToolCall};
use super::*;

fn source(name: &str) -> Option<String> {
    let shared = std::env::var_os("TROIKA_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
        PathBuf::from,
    );
    let path = shared.join("data/chat-templates").join(name);
    match fs::read_to_string(path.with_added_extension("jinja")) {
        Ok(source) => Some(source),
        Err(error) => {
            println!("skipped: no template {name}: {error}");
            None
        }
    }
}

/// Renders a conversation whose last message is the assistant's, and gives what comes behind the prompt, and the prompt.
fn written(source: &str, answer: &ChatMessage) -> (String, String) {
    let template = ChatTemplate::new(source).expect("valid");
    let extra = json!({"enable_thinking": true});
    let mut input = ChatInput {
        messages: vec![ChatMessage::new("user", "What is the weather?")],
        tools: tools(),
        add_generation_prompt: true,
        bos_token: Some("<s>".to_owned()),
        eos_token: Some("</s>".to_owned()),
        extra: extra.as_object().cloned().expect("an object"),
        ..ChatInput::default()
    };
    for tool in &mut input.tools {
        tool["function"]["description"] = json!("Does it.");
    }
    let prompt = template.render(&input).expect("a prompt");
    input.messages.push(answer.clone());
    input.add_generation_prompt = false;
    let whole = template.render(&input).expect("a conversation");
    let text = whole
        .strip_prefix(&prompt)
        .unwrap_or_else(|| panic!("{whole} does not begin with {prompt}"));
    let ends = [
        "<|im_end|>",
        "<|eot_id|>",
        "</s>",
        "<|tool_response>",
        "<turn|>",
        "<|return|>",
        "<|call|>",
        "<|end_of_text|>",
    ];
    let end = ends.iter().filter_map(|end| text.rfind(end)).min();
    (text[..end.unwrap_or(text.len())].to_owned(), prompt)
}

fn tool_call(name: &str, arguments: &Value) -> ToolCall {
    ToolCall {
        id: Some("abcdefghi".to_owned()),
        kind: "function".to_owned(),
        function: FunctionCall {
            name: name.to_owned(),
            arguments: arguments.clone(),
        },
    }
}

/// What a template writes of a message.
struct Writes {
    name: &'static str,
    content: bool,
    thought: bool,
    n_calls: usize,
}

/// The templates that write calls.
const WRITE_CALLS: [Writes; 8] = [
    writes("Qwen-Qwen3-0.6B", true, true, 2),
    writes("Qwen3-Coder", true, false, 2),
    writes(
        "NousResearch-Hermes-3-Llama-3.1-8B-tool_use",
        false,
        false,
        2,
    ),
    writes("mistralai-Mistral-Nemo-Instruct-2407", false, false, 2),
    writes("meta-llama-Llama-3.1-8B-Instruct", false, false, 1),
    writes("meta-llama-Llama-3.2-3B-Instruct", false, false, 1),
    writes("google-gemma-4-31B-it", false, true, 2),
    writes("openai-gpt-oss-120b", false, false, 1),
];

const fn writes(name: &'static str, content: bool, thought: bool, n_calls: usize) -> Writes {
    Writes {
        name,
        content,
        thought,
        n_calls,
    }
}

#[test]
fn calls_are_read_back() {
    let arguments = [
        json!({"city": "Bonn \"am\" Rhein\n{<b>}", "days": 3}),
        json!({"steps": ["a, b", "c: </d>", ""]}),
    ];
    for writes in WRITE_CALLS {
        let Some(source) = source(writes.name) else {
            return;
        };
        let names = ["get_weather", "plan"];
        let calls = names.iter().zip(&arguments).take(writes.n_calls);
        let mut answer = ChatMessage::new("assistant", "");
        let mut expect = Vec::new();
        if writes.thought {
            answer.reasoning_content = Some("I need it.\n\nNow.".to_owned());
            expect.push(reasoning("I need it.\n\nNow."));
        }
        if writes.content {
            answer.content = super::super::super::Content::Text("Let me see.".to_owned());
            expect.push(content("Let me see."));
        }
        for (name, arguments) in calls {
            answer.tool_calls.push(tool_call(name, arguments));
            expect.push(call(name, arguments.clone()));
        }
        let (text, prompt) = written(&source, &answer);
        let format = AnswerFormat::of(&source);
        assert!(format.knows_tools(), "{}", writes.name);
        check(&source, &prompt, &text, &expect);
    }
}

#[test]
fn answers_are_read_back() {
    for (name, tools, thinking) in [
        ("HuggingFaceTB-SmolLM3-3B", false, true),
        ("NousResearch-Hermes-3-Llama-3.1-8B-tool_use", true, false),
        ("Qwen-Qwen3-0.6B", true, true),
        ("Qwen3-Coder", true, false),
        ("google-gemma-4-31B-it", true, true),
        ("ibm-granite-granite-3.3-2B-Instruct", true, true),
        ("meta-llama-Llama-3.1-8B-Instruct", true, false),
        ("meta-llama-Llama-3.2-3B-Instruct", true, false),
        ("mistralai-Mistral-Nemo-Instruct-2407", true, false),
        ("openai-gpt-oss-120b", true, true),
    ] {
        let Some(source) = source(name) else {
            return;
        };
        let format = AnswerFormat::of(&source);
        assert_eq!(format.knows_tools(), tools, "{name}");
        assert_eq!(format.knows_thinking(), thinking, "{name}");
        let said = "It is {warm}, <b>.";
        let (text, prompt) = written(&source, &ChatMessage::new("assistant", said));
        check(&source, &prompt, &text, &[content(said)]);
    }
}
