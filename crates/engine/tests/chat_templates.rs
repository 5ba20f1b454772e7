//! The chat templates of real models, rendered as the reference renders them.
//!
//! `chat_templates.golden` holds hashes of what jinja2 writes; `chat_templates.py` says how to make it again. The
//! templates themselves are shared data beside the repository; without it the tests are skipped.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use troika_engine::chat::{ChatInput, ChatMessage, ChatTemplate, Moment};

const CASES: &str = include_str!("chat_templates.json");
const GOLDEN: &str = include_str!("chat_templates.golden");

/// What `strftime_now` sees in the golden texts.
const NOW: Moment = Moment {
    unix_s: 1_722_515_696, // 2024-08-01T12:34:56Z
    utc_offset_s: 0,
};

#[expect(clippy::print_stdout, reason = "a skipped test says so")]
fn templates() -> Option<PathBuf> {
    let shared = std::env::var_os("TROIKA_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
        PathBuf::from,
    );
    let templates = shared.join("data/chat-templates");
    if !templates.is_dir() {
        println!("skipped: no chat templates at {}", templates.display());
        return None;
    }
    Some(templates)
}

fn load(templates: &Path, name: &str) -> ChatTemplate {
    let source = fs::read_to_string(templates.join(name).with_added_extension("jinja"));
    ChatTemplate::new(&source.expect("readable")).expect(name)
}

fn input(messages: Value, tools: bool, extra: Map<String, Value>) -> ChatInput {
    let cases: Value = serde_json::from_str(CASES).expect("valid JSON");
    ChatInput {
        messages: serde_json::from_value(messages).expect("messages"),
        tools: match tools {
            true => cases["tools"].as_array().cloned().unwrap_or_default(),
            false => Vec::new(),
        },
        add_generation_prompt: true,
        bos_token: Some("<s>".to_owned()),
        eos_token: Some("</s>".to_owned()),
        now: Some(NOW),
        extra,
    }
}

fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}

#[test]
fn every_template_renders_as_the_reference_does() {
    let Some(templates) = templates() else {
        return;
    };
    let cases: Value = serde_json::from_str(CASES).expect("valid JSON");
    let mut checked = 0;
    for line in GOLDEN.lines() {
        let fields: Vec<_> = line.split(' ').collect();
        let [name, conversation, tools, extra, hash] = fields[..] else {
            panic!("five fields: {line}");
        };
        let extra: usize = extra.parse().expect("an index");
        let input = input(
            cases["conversations"][conversation].clone(),
            tools == "tools",
            cases["extras"][extra]
                .as_object()
                .cloned()
                .expect("an object"),
        );
        let text = load(&templates, name).render(&input).expect(line);
        // Where the reference cannot loop over no tools, this interpreter sees none.
        if hash != "error" {
            assert_eq!(format!("{:016x}", fnv1a(&text)), hash, "{line}\n{text}");
        }
        checked += 1;
    }
    assert_eq!(checked, 200);
}

#[test]
fn special_tokens_stand_where_they_should() {
    let Some(templates) = templates() else {
        return;
    };
    let turns = json!([
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "Again?"},
    ]);
    for (name, expect) in [
        (
            "Qwen-Qwen3-0.6B",
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello\
             <|im_end|>\n<|im_start|>user\nAgain?<|im_end|>\n<|im_start|>assistant\n",
        ),
        (
            "Qwen3-Coder",
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello\
             <|im_end|>\n<|im_start|>user\nAgain?<|im_end|>\n<|im_start|>assistant\n",
        ),
        (
            "meta-llama-Llama-3.2-3B-Instruct",
            "<s><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n\
             Today Date: 01 Aug 2024\n\nBe brief.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>\
             <|start_header_id|>assistant<|end_header_id|>\n\nHello<|eot_id|>\
             <|start_header_id|>user<|end_header_id|>\n\nAgain?<|eot_id|>\
             <|start_header_id|>assistant<|end_header_id|>\n\n",
        ),
        (
            "mistralai-Mistral-Nemo-Instruct-2407",
            "<s>[INST]Hi[/INST]Hello</s>[INST]Be brief.\n\nAgain?[/INST]",
        ),
        (
            "google-gemma-4-31B-it",
            "<s><|turn>system\nBe brief.<turn|>\n<|turn>user\nHi<turn|>\n<|turn>model\nHello<turn|>\n\
             <|turn>user\nAgain?<turn|>\n<|turn>model\n<|channel>thought\n<channel|>",
        ),
    ] {
        let rendered = load(&templates, name).render(&input(turns.clone(), false, Map::new()));
        assert_eq!(rendered.as_deref(), Ok(expect), "{name}");
    }
}

#[test]
fn calls_and_results_of_tools_reach_the_text() {
    let Some(templates) = templates() else {
        return;
    };
    let cases: Value = serde_json::from_str(CASES).expect("valid JSON");
    let mut count = 0;
    for entry in fs::read_dir(&templates).expect("readable") {
        let path = entry.expect("readable").path();
        let name = path
            .file_stem()
            .and_then(|name| name.to_str())
            .expect("a name");
        let input = input(cases["conversations"]["call"].clone(), true, Map::new());
        let text = load(&templates, name).render(&input).expect(name);
        assert!(
            text.contains("Weather?"),
            "{name}: the user's words\n{text}"
        );
        // One of the templates ignores tools, one ignores calls.
        if !name.starts_with("HuggingFaceTB-SmolLM3") {
            assert!(text.contains("get_weather"), "{name}: the tool\n{text}");
        }
        let result = text.contains(r#"{"t": 20}"#) || text.contains(r#"{\"t\": 20}"#);
        assert!(result, "{name}: the tool's result\n{text}");
        count += 1;
    }
    assert!(count >= 10, "{count} templates");
}

/// A long conversation costs time in proportion to its length, or to its square where the template scans it for
/// each message, and still fits the limits.
#[test]
fn a_thousand_messages_fit_the_limits() {
    let Some(templates) = templates() else {
        return;
    };
    let mut messages = Vec::new();
    for turn in 0..500 {
        messages.push(json!(ChatMessage::new(
            "user",
            format!("Question {turn}. {}", "word ".repeat(50))
        )));
        messages.push(json!(ChatMessage::new(
            "assistant",
            format!("Answer {turn}. {}", "word ".repeat(200))
        )));
    }
    messages.push(json!(ChatMessage::new("user", "Last?")));
    let input = input(Value::Array(messages), true, Map::new());
    for entry in fs::read_dir(&templates).expect("readable") {
        let path = entry.expect("readable").path();
        let name = path
            .file_stem()
            .and_then(|name| name.to_str())
            .expect("a name");
        let text = load(&templates, name).render(&input).expect(name);
        assert!(
            text.contains("Question 499.") && text.contains("Last?"),
            "{name}"
        );
    }
}
