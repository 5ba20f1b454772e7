//! From bodies to jobs, and what is refused on the way.

use proptest::prelude::*;
use serde_json::{Value, json};
use troika_engine::chat::ChatMessage;

use super::{PATH, asks, weather_tool};
use crate::job::{ChatPrompt, FinishReason, Format, Job, KeepAlive, Overflow, Prompt, ToolChoice};
use crate::openai::chat::request;
use crate::testing::{Scripted, says};

async fn job_of(fields: Value) -> Job {
    let backend = Scripted::new([says(&[], FinishReason::EndOfText)]);
    let (status, body) = backend.post(PATH, &asks(fields)).await;
    assert_eq!(status, 200, "{body}");
    backend.last_job()
}

async fn prompt_of(fields: Value) -> ChatPrompt {
    match job_of(fields).await.prompt {
        Prompt::Chat(prompt) => *prompt,
        other => panic!("{other:?}"),
    }
}

/// Which field an error names.
async fn refused(body: &Value) -> (u16, Value) {
    let (status, body) = Scripted::new([]).post(PATH, body).await;
    let body: Value = serde_json::from_str(&body).expect("errors are JSON");
    (status.as_u16(), body["error"].clone())
}

#[tokio::test]
async fn sampling_reaches_the_job() {
    let job = job_of(json!({
        "n": 3.0, "max_tokens": 5, "max_completion_tokens": 7, "temperature": 0, "top_p": 0.5,
        "top_k": -1, "min_p": 0.1, "repetition_penalty": 1.5, "presence_penalty": -2,
        "frequency_penalty": 2, "seed": -1, "logit_bias": {"5": -100, "6": 1.5},
        "stop": ["a", "b"], "logprobs": true, "truncation": "auto", "keep_alive": "5m",
        "response_format": {"type": "json_object"}, "user": "u", "store": true, "metadata": {},
    }))
    .await;
    let sampling = &job.sampling;
    assert_eq!(
        (job.n, job.max_tokens, job.top_logprobs),
        (3, Some(7), Some(0))
    );
    assert_eq!(
        (sampling.temperature, sampling.top_p),
        (Some(0.0), Some(0.5))
    );
    assert_eq!((sampling.top_k, sampling.min_p), (Some(0), Some(0.1)));
    assert_eq!(sampling.repeat_penalty, Some(1.5));
    assert_eq!(sampling.presence_penalty, Some(-2.0));
    assert_eq!(sampling.frequency_penalty, Some(2.0));
    assert_eq!(sampling.seed, Some(u64::MAX));
    assert_eq!(sampling.logit_bias, [(5, -100.0), (6, 1.5)]);
    assert_eq!(job.stop, ["a", "b"]);
    assert_eq!(job.overflow, Overflow::Truncate);
    let minutes = std::time::Duration::from_secs(300);
    assert_eq!(job.keep_alive, Some(KeepAlive::For(minutes)));
    assert_eq!(job.format, Format::JsonObject);
}

/// Fields that have meaning here, all of them optional.
const FIELDS: [&str; 31] = [
    "n",
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repeat_penalty",
    "presence_penalty",
    "frequency_penalty",
    "seed",
    "logit_bias",
    "stop",
    "logprobs",
    "top_logprobs",
    "response_format",
    "tools",
    "tool_choice",
    "functions",
    "function_call",
    "parallel_tool_calls",
    "stream",
    "stream_options",
    "reasoning_effort",
    "enable_thinking",
    "chat_template_kwargs",
    "keep_alive",
    "truncation",
    "modalities",
    "guided_json",
    "grammar",
];

#[tokio::test]
async fn null_and_absent_are_the_same() {
    let nulls = FIELDS
        .iter()
        .map(|&name| (name.to_owned(), Value::Null))
        .collect();
    assert_eq!(job_of(Value::Object(nulls)).await, job_of(json!({})).await);
}

#[tokio::test]
async fn messages_reach_the_job() {
    let prompt = prompt_of(json!({"messages": [
        {"role": "developer", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "user", "content": "c", "name": "eve"},
        {"role": "assistant", "content": null, "reasoning_content": "r", "tool_calls": [
            {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "content": "d", "tool_call_id": "1"},
        {"role": "assistant", "function_call": {"name": "g", "arguments": "{}"}},
        {"role": "function", "content": "e", "name": "g"},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
    ]}))
    .await;
    let messages = prompt.messages;
    assert_eq!(messages[0], ChatMessage::new("developer", "a\nb"));
    assert_eq!(messages[1].name.as_deref(), Some("eve"));
    assert_eq!(messages[2].tool_calls[0].id.as_deref(), Some("1"));
    assert_eq!(messages[2].reasoning_content.as_deref(), Some("r"));
    assert_eq!(messages[3].tool_call_id.as_deref(), Some("1"));
    assert_eq!(messages[4].tool_calls[0].function.name, "g");
    assert_eq!(
        (&*messages[5].role, messages[5].name.as_deref()),
        ("tool", Some("g"))
    );
    assert_eq!(messages[6], ChatMessage::new("assistant", "no"));
}

#[tokio::test]
async fn tools_reach_the_job() {
    let other = json!({"type": "function", "function": {"name": "other"}});
    let tools = json!([weather_tool(), other]);
    let named = json!({"name": "weather"});
    for (choice, want, n_tool) in [
        (json!(null), ToolChoice::Auto, 2),
        (json!("none"), ToolChoice::Never, 2),
        (json!("required"), ToolChoice::Required, 2),
        (
            json!({"type": "function", "function": named}),
            ToolChoice::Function("weather".to_owned()),
            2,
        ),
        (
            json!({"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": named}]}}),
            ToolChoice::Required,
            1,
        ),
    ] {
        let prompt = prompt_of(json!({"tools": tools, "tool_choice": choice})).await;
        assert_eq!((prompt.tool_choice, prompt.tools.len()), (want, n_tool));
        assert!(prompt.parallel_tool_calls);
    }
    let prompt = prompt_of(json!({"tools": tools, "parallel_tool_calls": false})).await;
    assert!(!prompt.parallel_tool_calls);
    let want = json!({"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}});
    assert_eq!(prompt.tools[0], want, "what is null is left out");
    let prompt = prompt_of(json!({"functions": [named], "function_call": named})).await;
    assert_eq!(
        prompt.tool_choice,
        ToolChoice::Function("weather".to_owned())
    );
    assert!(!prompt.parallel_tool_calls);
}

#[tokio::test]
async fn thinking_reaches_the_job() {
    for (fields, thinking, effort) in [
        (json!({"reasoning_effort": "none"}), Some(false), None),
        (json!({"reasoning_effort": "high"}), None, Some("high")),
        (
            json!({"enable_thinking": true, "reasoning_effort": "none"}),
            Some(true),
            None,
        ),
        (
            json!({"chat_template_kwargs": {"enable_thinking": false}}),
            Some(false),
            None,
        ),
    ] {
        let prompt = prompt_of(fields.clone()).await;
        assert_eq!(
            (prompt.thinking, prompt.effort.as_deref()),
            (thinking, effort),
            "{fields}"
        );
        assert!(prompt.template_variables.is_empty());
    }
    let prompt = prompt_of(json!({"chat_template_kwargs": {"date_string": "today"}})).await;
    assert_eq!(prompt.template_variables["date_string"], "today");
    let last = json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]);
    let prompt = prompt_of(json!({"messages": last, "continue_final_message": true})).await;
    assert!(prompt.continue_last);
}

#[tokio::test]
async fn wrong_values_name_the_field() {
    for (name, values) in [
        ("model", json!([null, 7, {}])),
        ("messages", json!([null, [], "hi", {}])),
        ("n", json!([0, 17, -1, 1.5, "1"])),
        ("max_tokens", json!([0, -2, 1.5, "5", 1e30])),
        ("max_completion_tokens", json!([0, -2])),
        ("temperature", json!([-0.1, 2.1, 1e39, "hot", []])),
        ("top_p", json!([-0.1, 1.1])),
        ("top_k", json!([-2, 1e12, 0.5])),
        ("min_p", json!([-0.1, 1.1])),
        ("repeat_penalty", json!([0, 11])),
        ("repetition_penalty", json!([0, 11])),
        ("presence_penalty", json!([-2.1, 2.1])),
        ("frequency_penalty", json!([-2.1, 2.1])),
        ("seed", json!([0.5, 1e30, "s"])),
        ("logit_bias", json!([[], 1])),
        ("logit_bias.x", json!([{"x": 1}])),
        ("logit_bias.5", json!([{"5": 101}, {"5": "a"}, {"5": null}])),
        ("stop", json!(["", ["a", ""], vec!["a"; 17], 5])),
        ("stop[1]", json!([["a", 5]])),
        ("stream", json!(["yes", 1])),
        ("logprobs", json!([3])),
        ("top_logprobs", json!([5, 21, -1])),
        ("response_format.type", json!([{"type": "xml"}])),
        ("reasoning_effort", json!(["much", 5])),
        ("truncation", json!(["middle", true])),
        ("keep_alive", json!(["soon", []])),
        ("tools", json!([{}, "f"])),
        ("tools[0].function", json!([[{"type": "function"}]])),
        ("tools[0].type", json!([[{"type": "web_search"}]])),
        (
            "tools[0].function.name",
            json!([[{"function": {"name": ""}}], [{"function": {"name": "a b"}}]]),
        ),
        (
            "tools[0].function.parameters",
            json!([[{"function": {"name": "f", "parameters": 5}}]]),
        ),
        ("tool_choice", json!(["perhaps", "required", 5])),
        ("tool_choice.type", json!([{"type": "custom"}])),
        ("tool_choice.function", json!([{"type": "function"}])),
        (
            "tool_choice.function.name",
            json!([{"type": "function", "function": {"name": "f"}}]),
        ),
        ("function_call.name", json!([{"name": "f"}])),
        (
            "tools[0].function.parameters",
            json!([
                [{"function": {"name": "f", "parameters": {"type": "nothing"}}}],
                [{"function": {"name": "f", "parameters": {"properties": 5}}}]
            ]),
        ),
        (
            "functions[0].parameters",
            json!([[{"name": "f", "parameters": {"type": "string"}}]]),
        ),
        ("tools[0]", json!([[["function", {"name": "f"}]]])),
        ("stream_options", json!([[true]])),
        ("tool_choice", json!([["function", {"name": "f"}]])),
        ("response_format", json!([["text"]])),
        ("continue_final_message", json!([true])),
        ("modalities", json!([["text", "audio"]])),
        ("grammar", json!(["root ::= \"x\""])),
    ] {
        let field = name.split(['.', '[']).next().unwrap();
        for value in values.as_array().unwrap() {
            let (status, error) = refused(&asks(json!({field: value}))).await;
            assert_eq!(
                (status, &error["param"]),
                (400, &json!(name)),
                "{value}: {error}"
            );
        }
    }
}

#[tokio::test]
async fn wrong_messages_name_the_place() {
    let image = json!({"type": "image_url", "image_url": {"url": "data:,"}});
    let text = json!({"type": "text", "text": "a"});
    for (message, place) in [
        (json!("hi"), "messages[1]"),
        (json!({"content": "a"}), "messages[1]"),
        (json!({"role": "king", "content": "a"}), "messages[1].role"),
        (json!({"role": "user"}), "messages[1].content"),
        (
            json!({"role": "system", "content": null}),
            "messages[1].content",
        ),
        (json!({"role": "user", "content": 5}), "messages[1].content"),
        (
            json!({"role": "user", "content": [text, 5]}),
            "messages[1].content[1]",
        ),
        (
            json!({"role": "user", "content": [text, image]}),
            "messages[1].content[1]",
        ),
        (
            json!({"role": "user", "content": [{"type": "text"}]}),
            "messages[1].content[0].text",
        ),
        (
            json!({"role": "user", "content": [{"type": "smell"}]}),
            "messages[1].content[0].type",
        ),
        (
            json!({"role": "assistant", "tool_calls": [{"type": "custom"}]}),
            "messages[1].tool_calls[0].type",
        ),
        (
            json!({"role": "assistant", "tool_calls": [{"id": "1"}]}),
            "messages[1].tool_calls[0].function",
        ),
    ] {
        let messages = json!([{"role": "user", "content": "a"}, message]);
        let (status, error) = refused(&asks(json!({"messages": messages}))).await;
        assert_eq!((status, &error["param"]), (400, &json!(place)), "{error}");
    }
    let messages = json!([{"role": "user", "content": [image]}]);
    let (_, error) = refused(&asks(json!({"messages": messages}))).await;
    assert_eq!(error["code"], "unsupported_value");
}

#[tokio::test]
async fn bodies_that_are_no_requests() {
    let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
    for body in [
        "",
        "{",
        "[]",
        "null",
        "\u{feff}{}",
        "{} {}",
        r#"{"model": "tiny",}"#,
        &deep,
    ] {
        let (status, answer) = Scripted::new([])
            .request("POST", PATH, body.to_owned())
            .await;
        assert_eq!(status, 400, "{answer}");
        assert!(answer.contains("invalid_request_error"), "{answer}");
    }
    let (status, error) = refused(&asks(json!({"model": "huge"}))).await;
    assert_eq!((status, &error["code"]), (404, &json!("model_not_found")));
}

/// JSON of any form, with the words that the interface knows strewn in.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (0..3_i64).prop_map(Value::from),
        any_word().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((any_word(), inner), 0..4)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

fn any_word() -> impl Strategy<Value = String> {
    const KNOWN: [&str; 16] = [
        "type",
        "function",
        "name",
        "role",
        "user",
        "content",
        "text",
        "tool_calls",
        "arguments",
        "json_schema",
        "schema",
        "allowed_tools",
        "mode",
        "auto",
        "tools",
        "5m",
    ];
    prop_oneof![
        prop::sample::select(&KNOWN[..]).prop_map(str::to_owned),
        "\\PC{0,3}"
    ]
}

proptest! {
    /// Whatever stands in a field: it is understood, or the client is told that it is not.
    #[test]
    fn no_value_is_our_own_mistake(
        field in prop::sample::select(&FIELDS[..]),
        messages in any_json(),
        value in any_json(),
    ) {
        for fields in [json!({field: value}), json!({field: value, "messages": messages})] {
            if let Err(error) = request(&asks(fields).to_string().into()) {
                prop_assert_eq!(error.kind.status(), 400);
                prop_assert!(error.param.is_some(), "{}", error);
            }
        }
    }
}
