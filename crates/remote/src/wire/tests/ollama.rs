//! Ollama's interface.

use super::*;

#[test]
fn a_conversation_is_sent() {
    let (job, prompt) = conversation();
    let job = Job {
        sampling: Sampling {
            top_k: Some(5),
            seed: Some(7),
            repeat_last_n: Some(u32::MAX),
            ..sampled()
        },
        stop: vec!["END".to_owned()],
        format: Format::JsonObject,
        top_logprobs: Some(2),
        n_ctx: Some(4096),
        ..job
    };
    let prompt = ChatPrompt {
        thinking: Some(true),
        effort: Some("high".to_owned()),
        ..prompt
    };
    let tools = prompt.tools.clone();
    let asks = sent(Api::Ollama, false, &with(job, prompt)).unwrap();
    let want = json!({
        "model": "there",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Oslo?"},
            {"role": "assistant", "content": "", "thinking": "Where is it?", "tool_calls": [
                {"id": "call_1", "function": {"name": "weather", "arguments": {"city": "Oslo"}}},
            ]},
            {"role": "tool", "content": "Rain", "tool_call_id": "call_1"},
        ],
        "tools": tools,
        "think": "high",
        "stream": true,
        "format": "json",
        "logprobs": true,
        "top_logprobs": 2,
        "options": {
            "temperature": 0.7, "top_p": 0.9, "top_k": 5, "repeat_last_n": -1, "seed": 7, "num_predict": 2000,
            "num_ctx": 4096, "stop": ["END"],
        },
    });
    assert_eq!(
        asks,
        [Ask {
            path: "/api/chat",
            body: want,
            answers: 0..1
        }]
    );
}

#[test]
fn tools_that_are_not_to_be_called_are_not_shown() {
    let (job, prompt) = conversation();
    let prompt = ChatPrompt {
        tool_choice: ToolChoice::Never,
        ..prompt
    };
    let asks = sent(Api::Ollama, false, &with(job, prompt)).unwrap();
    assert!(asks[0].body.get("tools").is_none());
}

#[test]
fn what_it_has_no_words_for_is_refused() {
    let (job, prompt) = conversation();
    let chat = |change: fn(&mut ChatPrompt)| {
        let mut prompt = prompt.clone();
        change(&mut prompt);
        with(job.clone(), prompt)
    };
    for (field, job) in [
        (
            "tool_choice",
            chat(|it| it.tool_choice = ToolChoice::Required),
        ),
        (
            "parallel_tool_calls",
            chat(|it| it.parallel_tool_calls = false),
        ),
        (
            "reasoning_effort",
            chat(|it| it.effort = Some("xhigh".to_owned())),
        ),
        (
            "messages",
            chat(|it| it.messages.push(ChatMessage::new("assistant", "Rain."))),
        ),
        (
            "format",
            Job {
                format: Format::Regex("a".to_owned()),
                ..chat(|_| {})
            },
        ),
        (
            "seed",
            Job {
                sampling: Sampling {
                    seed: Some(u64::MAX),
                    ..sampled()
                },
                ..chat(|_| {})
            },
        ),
        (
            "prompt",
            Job {
                prompt: Prompt::Tokens(vec![1]),
                ..chat(|_| {})
            },
        ),
    ] {
        assert_eq!(refused(Api::Ollama, false, &job), field);
    }
    let goes_on = chat(|it| {
        it.messages.push(ChatMessage::new("assistant", "Rain"));
        it.continue_last = true;
    });
    assert!(sent(Api::Ollama, false, &goes_on).is_ok());
}

#[test]
fn text_is_sent_raw() {
    let job = Job {
        prompt: Prompt::Rendered("<s>Once".to_owned()),
        ..Job::default()
    };
    let ask = &sent(Api::Ollama, false, &job).unwrap()[0];
    assert_eq!(
        (ask.path, &ask.body["raw"], &ask.body["prompt"]),
        ("/api/generate", &json!(true), &json!("<s>Once"))
    );
}

/// Of the documentation of `/api/chat`.
#[test]
fn lines_are_heard() {
    let stream = r#"{"model":"llama3.2","created_at":"2023-08-04T08:52:19.385406455-07:00","message":{"role":"assistant","content":"","thinking":"Hm."},"done":false}
{"model":"llama3.2","created_at":"2023-08-04T08:52:19.385406455-07:00","message":{"role":"assistant","content":"The","images":null},"logprobs":[{"token":"The","logprob":-0.5,"bytes":[84,104,101],"top_logprobs":[{"token":"A","logprob":-1.0,"bytes":[65]}]}],"done":false}
{"model":"llama3.2","created_at":"2025-07-07T20:32:53.844124Z","message":{"role":"assistant","content":"","tool_calls":[{"function":{"name":"get_weather","arguments":{"city":"Tokyo"}}}]},"done":false}
{"model":"llama3.2","created_at":"2023-08-04T19:22:45.499127Z","message":{"role":"assistant","content":""},"done_reason":"stop","done":true,"total_duration":4883583458,"load_duration":1334875,"prompt_eval_count":26,"prompt_eval_duration":342546000,"eval_count":282,"eval_duration":4535599000}
"#;
    let (events, counts) = heard(Api::Ollama, 0..1, stream).unwrap();
    let heard = parts(&events);
    assert_eq!(heard[..2], [Part::Reasoning("Hm.".to_owned()), said("The")]);
    let Part::ToolCall(call) = &heard[2] else {
        panic!()
    };
    assert!(
        call.id.as_ref().unwrap().starts_with("call_"),
        "one is made where there is none"
    );
    assert_eq!(call.function.arguments, json!(r#"{"city":"Tokyo"}"#));
    let Event::Delta(second) = &events[1] else {
        panic!()
    };
    assert_eq!(
        (
            second.tokens[0].logprob,
            second.tokens[0].top[0].bytes.as_slice()
        ),
        (-0.5, &b"A"[..])
    );
    assert_eq!(finishes(&events), [FinishReason::ToolCalls]);
    assert_eq!(
        (counts.prompt, counts.completion, counts.cached),
        (Some(26), Some(282), None)
    );
}

/// Of the documentation of `/api/generate`.
#[test]
fn text_is_heard() {
    let stream = r#"{"model":"llama3.2","created_at":"2023-08-04T08:52:19.385406455-07:00","response":"The","done":false}
{"model":"llama3.2","created_at":"2023-08-04T19:22:45.499127Z","response":"","done":true,"done_reason":"length","context":[1,2,3],"eval_count":2}"#;
    let (events, counts) = heard(Api::Ollama, 0..1, stream).unwrap();
    assert_eq!(
        (parts(&events), finishes(&events)),
        (vec![said("The")], vec![FinishReason::Length])
    );
    assert_eq!((counts.prompt, counts.completion), (None, Some(2)));
}

#[test]
fn an_error_is_heard() {
    let stream = "{\"error\":\"an error was encountered while running the model\"}\n";
    assert!(matches!(
        heard(Api::Ollama, 0..1, stream),
        Err(Fault::Refused(_))
    ));
}
