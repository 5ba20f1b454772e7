//! Anthropic's interface.

use super::*;

fn body(job: &Job) -> Value {
    sent(Api::Anthropic, false, job).unwrap().remove(0).body
}

#[test]
fn a_conversation_is_sent() {
    let (job, prompt) = conversation();
    let job = Job {
        sampling: Sampling {
            top_k: Some(5),
            ..sampled()
        },
        stop: vec!["END".to_owned()],
        format: Format::JsonSchema(json!({"type": "object"})),
        ..job
    };
    let prompt = ChatPrompt {
        tool_choice: ToolChoice::Required,
        parallel_tool_calls: false,
        thinking: Some(false),
        effort: Some("low".to_owned()),
        ..prompt
    };
    let asks = sent(Api::Anthropic, false, &with(job, prompt)).unwrap();
    let want = json!({
        "model": "there",
        "max_tokens": 2000,
        "stream": true,
        "system": "Be brief.",
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Oslo?"}]},
            {"role": "assistant", "content": [
                {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "Oslo"}},
            ]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "call_1", "content": "Rain"}]},
        ],
        "tools": [{"name": "weather", "description": "Now", "input_schema": {
            "type": "object", "properties": {"city": {"type": "string"}},
        }}],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": true},
        "temperature": 0.7,
        "top_p": 0.9,
        "top_k": 5,
        "stop_sequences": ["END"],
        "thinking": {"type": "disabled"},
        "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": {"type": "object"}}},
    });
    assert_eq!(
        asks,
        [Ask {
            path: "/v1/messages",
            body: want,
            answers: 0..1
        }]
    );
}

#[test]
fn calls_without_ids_find_their_results() {
    let (job, mut prompt) = conversation();
    let call = prompt.messages[2].tool_calls[0].clone();
    prompt.messages[2].tool_calls = vec![
        ToolCall {
            id: None,
            ..call.clone()
        },
        ToolCall { id: None, ..call },
    ];
    prompt.messages[3].tool_call_id = None;
    prompt.messages.push(ChatMessage::new("tool", "Wind"));
    prompt.messages.push(ChatMessage::new("user", "So?"));
    let body = body(&with(job, prompt));
    let messages = body["messages"].as_array().unwrap();
    assert_eq!(
        messages.len(),
        3,
        "results and what the user says are one message"
    );
    for (i, text) in ["Rain", "Wind"].iter().enumerate() {
        assert_eq!(
            messages[2]["content"][i]["tool_use_id"],
            messages[1]["content"][i]["id"]
        );
        assert_eq!(messages[2]["content"][i]["content"], *text);
    }
    assert_ne!(
        messages[1]["content"][0]["id"],
        messages[1]["content"][1]["id"]
    );
    assert_eq!(messages[2]["content"][2]["text"], "So?");
}

#[test]
fn thinking_has_room() {
    let (job, mut prompt) = conversation();
    prompt.thinking = Some(true);
    let tail = prompt.messages.split_off(2);
    let budget = |max_tokens| {
        let job = Job {
            max_tokens,
            ..with(job.clone(), prompt.clone())
        };
        sent(Api::Anthropic, false, &job)
            .map(|asks| asks[0].body["thinking"]["budget_tokens"].as_u64().unwrap())
    };
    assert_eq!(budget(Some(10_000)), Ok(5_000));
    assert_eq!(budget(Some(1_500)), Ok(1_024));
    assert_eq!(
        budget(Some(1_024)).unwrap_err().param.as_deref(),
        Some("max_tokens")
    );
    assert_eq!(budget(None), Ok(4_096));
    // After a tool's result nothing is thought again.
    prompt.messages.extend(tail);
    assert_eq!(body(&with(job, prompt)).get("thinking"), None);
}

#[test]
fn what_it_has_no_words_for_is_refused() {
    let (job, prompt) = conversation();
    let job = with(job, prompt.clone());
    let sampling = |sampling| Job {
        sampling,
        ..job.clone()
    };
    let format = |format| Job {
        format,
        ..job.clone()
    };
    for (field, job) in [
        (
            "seed",
            sampling(Sampling {
                seed: Some(1),
                ..sampled()
            }),
        ),
        (
            "min_p",
            sampling(Sampling {
                min_p: Some(0.1),
                ..sampled()
            }),
        ),
        (
            "temperature",
            sampling(Sampling {
                temperature: Some(1.5),
                ..sampled()
            }),
        ),
        (
            "presence_penalty",
            sampling(Sampling {
                presence_penalty: Some(1.0),
                ..sampled()
            }),
        ),
        (
            "logit_bias",
            sampling(Sampling {
                logit_bias: vec![(1, 1.0)],
                ..sampled()
            }),
        ),
        (
            "logprobs",
            Job {
                top_logprobs: Some(0),
                ..job.clone()
            },
        ),
        ("format", format(Format::JsonObject)),
        ("format", format(Format::Regex("a".to_owned()))),
        (
            "prompt",
            Job {
                prompt: Prompt::Text("Once".to_owned()),
                ..job.clone()
            },
        ),
        ("messages[2].role", {
            let mut prompt = prompt.clone();
            prompt
                .messages
                .insert(2, ChatMessage::new("system", "Now in French."));
            with(job.clone(), prompt)
        }),
        ("messages", {
            let mut prompt = prompt.clone();
            prompt.messages.push(ChatMessage::new("assistant", "Rain."));
            with(job.clone(), prompt)
        }),
    ] {
        assert_eq!(refused(Api::Anthropic, false, &job), field);
    }
    let neutral = Sampling {
        presence_penalty: Some(0.0),
        repeat_penalty: Some(1.0),
        min_p: Some(0.0),
        ..sampled()
    };
    assert!(
        sent(Api::Anthropic, false, &sampling(neutral)).is_ok(),
        "they change nothing"
    );
}

#[test]
fn several_answers_are_several_requests() {
    let (job, prompt) = conversation();
    let asks = sent(Api::Anthropic, false, &with(Job { n: 3, ..job }, prompt)).unwrap();
    let answers: Vec<_> = asks.iter().map(|it| it.answers.clone()).collect();
    assert_eq!(answers, [0..1, 1..2, 2..3]);
}

/// Of the documentation of streams, with all kinds of blocks.
const STREAM: &str = r#"event: message_start
data: {"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","content":[],"model":"claude","stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":25,"cache_creation_input_tokens":10,"cache_read_input_tokens":100,"output_tokens":1}}}

event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"Let me see."}}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"EqQB"}}

event: content_block_stop
data: {"type":"content_block_stop","index":0}

event: content_block_start
data: {"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}

event: ping
data: {"type": "ping"}

event: content_block_delta
data: {"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"Hello"}}

event: content_block_delta
data: {"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"!"}}

event: content_block_stop
data: {"type":"content_block_stop","index":1}

event: content_block_start
data: {"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"toolu_1","name":"weather","input":{}}}

event: content_block_delta
data: {"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":""}}

event: content_block_delta
data: {"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"{\"city\": \"Os"}}

event: content_block_delta
data: {"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"lo\"}"}}

event: content_block_stop
data: {"type":"content_block_stop","index":2}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"output_tokens":89,"output_tokens_details":{"thinking_tokens":7}}}

event: message_stop
data: {"type":"message_stop"}

"#;

#[test]
fn a_message_is_heard() {
    let (events, counts) = heard(Api::Anthropic, 2..3, STREAM).unwrap();
    let want = [
        Part::Reasoning("Let me see.".to_owned()),
        said("Hello!"),
        calls("toolu_1", "weather", r#"{"city": "Oslo"}"#),
    ];
    assert_eq!(parts(&events), want);
    let finish = FinishReason::ToolCalls;
    assert_eq!(events.last(), Some(&Event::Finished { choice: 2, finish }));
    let want = Counts {
        prompt: Some(135),
        cached: Some(100),
        completion: Some(89),
        reasoning: Some(7),
    };
    assert_eq!(counts, want);
}

#[test]
fn endings_are_told_apart() {
    let ending = |reason: &str, sequence: &str| {
        let delta = r#"{"stop_reason":"tool_use","stop_sequence":null}"#;
        let stream = STREAM.replace(
            delta,
            &format!(r#"{{"stop_reason":"{reason}","stop_sequence":{sequence}}}"#),
        );
        heard(Api::Anthropic, 0..1, &stream).map(|(events, _)| finishes(&events).remove(0))
    };
    assert_eq!(ending("end_turn", "null"), Ok(FinishReason::EndOfText));
    assert_eq!(ending("max_tokens", "null"), Ok(FinishReason::Length));
    assert_eq!(
        ending("stop_sequence", "\"END\""),
        Ok(FinishReason::StopString("END".to_owned()))
    );
    assert_eq!(ending("refusal", "null"), Err(Fault::Withheld));
}

#[test]
fn an_error_is_heard() {
    let stream = "event: error\ndata: {\"type\": \"error\", \"error\": {\"type\": \"overloaded_error\", \"message\": \"Overloaded\"}}\n\n";
    let Err(Fault::Refused(refusal)) = heard(Api::Anthropic, 0..1, stream) else {
        panic!()
    };
    assert!(refusal.is("overloaded_error") && refusal.message == "Overloaded");
}
