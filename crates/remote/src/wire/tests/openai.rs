//! OpenAI's interface.

use super::*;

#[test]
fn a_conversation_is_sent() {
    let (job, prompt) = conversation();
    let job = Job {
        sampling: Sampling {
            top_k: Some(0),
            seed: Some(u64::MAX),
            logit_bias: vec![(5, -1.5)],
            ..sampled()
        },
        stop: vec!["END".to_owned()],
        top_logprobs: Some(2),
        n: 2,
        ..job
    };
    let prompt = ChatPrompt {
        tool_choice: ToolChoice::Function("weather".to_owned()),
        parallel_tool_calls: false,
        thinking: Some(false),
        effort: Some("low".to_owned()),
        ..prompt
    };
    let tools = prompt.tools.clone();
    let asks = sent(Api::Openai, false, &with(job, prompt)).unwrap();
    let want = json!({
        "model": "there",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Oslo?"},
            {"role": "assistant", "content": null, "reasoning_content": "Where is it?", "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{\"city\":\"Oslo\"}"}},
            ]},
            {"role": "tool", "content": "Rain", "tool_call_id": "call_1"},
        ],
        "tools": tools,
        "tool_choice": {"type": "function", "function": {"name": "weather"}},
        "parallel_tool_calls": false,
        "reasoning_effort": "low",
        "chat_template_kwargs": {"enable_thinking": false},
        "stream": true,
        "stream_options": {"include_usage": true},
        "n": 2,
        "max_tokens": 2000,
        "temperature": 0.7,
        "top_p": 0.9,
        "top_k": -1,
        "seed": -1,
        "logit_bias": {"5": -1.5},
        "stop": ["END"],
        "logprobs": true,
        "top_logprobs": 2,
    });
    assert_eq!(
        asks,
        [Ask {
            path: "/chat/completions",
            body: want,
            answers: 0..2
        }]
    );
}

#[test]
fn the_service_is_sent_what_it_knows() {
    let (job, prompt) = conversation();
    let prompt = ChatPrompt {
        thinking: Some(false),
        ..prompt
    };
    let job = with(job, prompt);
    let body = &sent(Api::Openai, true, &job).unwrap()[0].body;
    assert_eq!(body["max_completion_tokens"], 2000);
    for field in ["max_tokens", "chat_template_kwargs", "top_k"] {
        assert!(body.get(field).is_none(), "{field}");
    }
    assert!(body["messages"][2].get("reasoning_content").is_none());
    for (field, sampling) in [
        (
            "top_k",
            Sampling {
                top_k: Some(5),
                ..sampled()
            },
        ),
        (
            "min_p",
            Sampling {
                min_p: Some(0.1),
                ..sampled()
            },
        ),
        (
            "repeat_penalty",
            Sampling {
                repeat_penalty: Some(1.1),
                ..sampled()
            },
        ),
    ] {
        let job = Job {
            sampling,
            ..job.clone()
        };
        assert_eq!(refused(Api::Openai, true, &job), field);
        assert!(sent(Api::Openai, false, &job).is_ok());
    }
    for format in [
        Format::Regex("a+".to_owned()),
        Format::Lark("start: \"a\"".to_owned()),
    ] {
        assert_eq!(
            refused(
                Api::Openai,
                true,
                &Job {
                    format,
                    ..job.clone()
                }
            ),
            "format"
        );
    }
    let stop = vec!["x".to_owned(); 5];
    assert_eq!(refused(Api::Openai, true, &Job { stop, ..job }), "stop");
}

#[test]
fn forms_are_sent() {
    let (job, prompt) = conversation();
    let job = with(job, prompt);
    let form = |format| {
        let body = sent(
            Api::Openai,
            false,
            &Job {
                format,
                ..job.clone()
            },
        )
        .unwrap()
        .remove(0)
        .body;
        (
            body["response_format"].clone(),
            body["structured_outputs"].clone(),
        )
    };
    let none = Value::Null;
    assert_eq!(form(Format::Text), (none.clone(), none.clone()));
    assert_eq!(form(Format::JsonObject).0, json!({"type": "json_object"}));
    let schema = json!({"type": "object"});
    let want = json!({"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": false}});
    assert_eq!(form(Format::JsonSchema(schema)), (want, none.clone()));
    assert_eq!(
        form(Format::Regex("a+".to_owned())),
        (none.clone(), json!({"regex": "a+"}))
    );
    assert_eq!(
        form(Format::Lark("g".to_owned())),
        (none, json!({"grammar": "g"}))
    );
}

#[test]
fn text_is_sent_and_tokens_are_not() {
    let job = Job {
        prompt: Prompt::Text("Once".to_owned()),
        top_logprobs: Some(3),
        ..Job::default()
    };
    let ask = &sent(Api::Openai, false, &job).unwrap()[0];
    assert_eq!(
        (ask.path, &ask.body["prompt"], &ask.body["logprobs"]),
        ("/completions", &json!("Once"), &json!(3))
    );
    for prompt in [Prompt::Tokens(vec![1]), Prompt::Rendered("<s>".to_owned())] {
        assert_eq!(
            refused(
                Api::Openai,
                false,
                &Job {
                    prompt,
                    ..Job::default()
                }
            ),
            "prompt"
        );
    }
}

/// Of the documentation of streams: a role first, then text, then why it ended, then the numbers.
#[test]
fn chunks_are_heard() {
    let stream = r#"data: {"id":"chatcmpl-123","object":"chat.completion.chunk","created":1694268190,"model":"gpt-4o-mini","system_fingerprint":"fp_44709d6fcb","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}

data: {"id":"chatcmpl-123","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"Hel"},"logprobs":{"content":[{"token":"Hel","logprob":-0.25,"bytes":[72,101,108],"top_logprobs":[{"token":"Hel","logprob":-0.25,"bytes":[72,101,108]},{"token":"\ud83d","logprob":-2.5,"bytes":null}]}],"refusal":null},"finish_reason":null}],"usage":null}

data: {"id":"chatcmpl-123","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"lo"},"finish_reason":null}]}

data: {"id":"chatcmpl-123","object":"chat.completion.chunk","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"length"}]}

data: {"id":"chatcmpl-123","object":"chat.completion.chunk","choices":[],"usage":{"prompt_tokens":19,"completion_tokens":10,"total_tokens":29,"prompt_tokens_details":{"cached_tokens":8,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":4,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}}

data: [DONE]

"#
    .replace(r"\ud83d", "?");
    let (events, counts) = heard(Api::Openai, 3..4, &stream).unwrap();
    assert_eq!(parts(&events), [said("Hello")]);
    let Event::Delta(first) = &events[0] else {
        panic!()
    };
    assert_eq!(first.choice, 3, "it is the fourth of the job");
    let token = &first.tokens[0];
    assert_eq!(
        (&*token.text(), token.logprob, token.top[1].logprob),
        ("Hel", -0.25, -2.5)
    );
    assert_eq!(token.top[1].bytes, b"?");
    assert_eq!(finishes(&events), [FinishReason::Length]);
    let want = Counts {
        prompt: Some(19),
        cached: Some(8),
        completion: Some(10),
        reasoning: Some(4),
    };
    assert_eq!(counts, want);
}

#[test]
fn calls_are_heard_when_they_are_complete() {
    let stream = r#"data: {"choices":[{"index":0,"delta":{"role":"assistant","content":null,"tool_calls":[{"index":0,"id":"call_a","type":"function","function":{"name":"weather","arguments":""}}],"refusal":null},"finish_reason":null}]}

data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"city\":"}}]},"finish_reason":null}]}

data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"\"Oslo\"}"}}]},"finish_reason":null}]}

data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"id":"call_b","type":"function","function":{"name":"time","arguments":"{}"}}]},"finish_reason":null}]}

data: {"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}

data: [DONE]
"#;
    let (events, counts) = heard(Api::Openai, 0..1, stream).unwrap();
    let want = [
        calls("call_a", "weather", r#"{"city":"Oslo"}"#),
        calls("call_b", "time", "{}"),
    ];
    assert_eq!(parts(&events), want);
    assert_eq!(finishes(&events), [FinishReason::ToolCalls]);
    assert_eq!(counts, Counts::default(), "nobody counted");
}

/// vLLM and others: what is thought in a field of its own, stop strings by name, `stop` after calls, no `index`.
#[test]
fn other_servers_are_heard() {
    for field in ["reasoning_content", "reasoning"] {
        let stream = format!(
            "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"{field}\":\"Hm.\",\"content\":null}}}}]}}\n\n\
             data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"Yes\"}}}}]}}\n\n\
             data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"\"}},\"finish_reason\":\"stop\",\"stop_reason\":\"END\"}}]}}\n\n"
        );
        let (events, _) = heard(Api::Openai, 0..1, &stream).unwrap();
        assert_eq!(
            parts(&events),
            [Part::Reasoning("Hm.".to_owned()), said("Yes")]
        );
        assert_eq!(
            finishes(&events),
            [FinishReason::StopString("END".to_owned())]
        );
    }
    let stream = r#"data: {"choices":[{"index":0,"delta":{"tool_calls":[{"id":"a","function":{"name":"f","arguments":{"x":1}}}]},"finish_reason":"stop","stop_reason":128009}]}"#;
    let (events, _) = heard(Api::Openai, 0..1, stream).unwrap();
    assert_eq!(parts(&events), [calls("a", "f", r#"{"x":1}"#)]);
    assert_eq!(finishes(&events), [FinishReason::ToolCalls]);
}

#[test]
fn text_is_heard() {
    let stream = r#"data: {"id":"cmpl-1","object":"text_completion","choices":[{"text":" upon","index":0,"logprobs":{"tokens":[" upon"],"token_logprobs":[-0.5],"top_logprobs":[{" upon":-0.5," more":-1.5}],"text_offset":[0]},"finish_reason":null}],"usage":null}

data: {"id":"cmpl-1","object":"text_completion","choices":[{"text":"","index":0,"logprobs":null,"finish_reason":"stop"}]}

data: [DONE]

"#;
    let (events, _) = heard(Api::Openai, 0..1, stream).unwrap();
    assert_eq!(parts(&events), [said(" upon")]);
    let Event::Delta(delta) = &events[0] else {
        panic!()
    };
    assert_eq!(
        (delta.tokens[0].logprob, delta.tokens[0].top.len()),
        (-0.5, 2)
    );
    assert_eq!(
        delta.tokens[0].top[0].text(),
        " upon",
        "the likeliest first"
    );
}

#[test]
fn an_answer_that_is_kept_back_is_none() {
    let stream = r#"data: {"choices":[{"index":0,"delta":{},"finish_reason":"content_filter"}]}

"#;
    assert_eq!(heard(Api::Openai, 0..1, stream), Err(Fault::Withheld));
}
