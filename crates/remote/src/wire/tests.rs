//! Bodies as they are sent, and answers as the interfaces' documents show them.

mod anthropic;
mod ollama;
mod openai;

use serde_json::{Value, json};
use troika_engine::chat::{ChatMessage, FunctionCall, ToolCall};
use troika_job::{
    ApiError, ChatPrompt, Event, FinishReason, Format, Job, Part, Prompt, Sampling, ToolChoice,
};

use super::*;

/// A conversation in which a tool was called, with all that OpenAI's interface has words for.
fn conversation() -> (Job, ChatPrompt) {
    let asked = ChatMessage {
        tool_calls: vec![ToolCall {
            id: Some("call_1".to_owned()),
            kind: "function".to_owned(),
            function: FunctionCall {
                name: "weather".to_owned(),
                arguments: json!(r#"{"city":"Oslo"}"#),
            },
        }],
        reasoning_content: Some("Where is it?".to_owned()),
        ..ChatMessage::new("assistant", "")
    };
    let told = ChatMessage {
        tool_call_id: Some("call_1".to_owned()),
        ..ChatMessage::new("tool", "Rain")
    };
    let prompt = ChatPrompt {
        messages: vec![
            ChatMessage::new("system", "Be brief."),
            ChatMessage::new("user", "Oslo?"),
            asked,
            told,
        ],
        tools: vec![json!({"type": "function", "function": {
            "name": "weather", "description": "Now", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        }})],
        parallel_tool_calls: true,
        ..ChatPrompt::default()
    };
    let job = Job {
        model: "here".to_owned(),
        n: 1,
        max_tokens: Some(2000),
        ..Job::default()
    };
    (job, prompt)
}

fn with(job: Job, prompt: ChatPrompt) -> Job {
    Job {
        prompt: Prompt::Chat(Box::new(prompt)),
        ..job
    }
}

/// What is sent of it, by an interface.
fn sent(api: Api, strict: bool, job: &Job) -> Result<Vec<Ask>, ApiError> {
    let to = Dialect {
        name: "far",
        api,
        strict,
    };
    asks(&to, "there", job.max_tokens, job)
}

/// The field that is refused.
fn refused(api: Api, strict: bool, job: &Job) -> String {
    let error = sent(api, strict, job).unwrap_err();
    assert!(error.message.starts_with("remote `far` speaks "), "{error}");
    error.param.unwrap()
}

/// An answer, whole: what was told, and the numbers.
fn heard(api: Api, answers: Range<usize>, stream: &str) -> Result<(Vec<Event>, Counts), Fault> {
    let ask = Ask {
        path: "",
        body: Value::Null,
        answers,
    };
    let mut reader = reader(api, &ask);
    let mut frames = frames(api);
    let mut events = Vec::new();
    for frame in frames.push(stream.as_bytes())? {
        reader.read(&frame, &mut events)?;
    }
    if let Some(frame) = frames.end()? {
        reader.read(&frame, &mut events)?;
    }
    assert!(reader.is_complete(), "{events:?}");
    Ok((events, reader.counts()))
}

/// The parts that were told, joined where neighbours are alike.
fn parts(events: &[Event]) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for event in events {
        let Event::Delta(delta) = event else { continue };
        for part in &delta.parts {
            match (parts.last_mut(), part) {
                (Some(Part::Content(text)), Part::Content(more))
                | (Some(Part::Reasoning(text)), Part::Reasoning(more)) => text.push_str(more),
                _ => parts.push(part.clone()),
            }
        }
    }
    parts
}

fn calls(id: &str, name: &str, arguments: &str) -> Part {
    Part::ToolCall(super::calls::call(
        Some(id.to_owned()),
        name.to_owned(),
        arguments.to_owned(),
    ))
}

fn said(text: &str) -> Part {
    Part::Content(text.to_owned())
}

fn finishes(events: &[Event]) -> Vec<FinishReason> {
    let finishes = events.iter().filter_map(|event| match event {
        Event::Finished { finish, .. } => Some(finish.clone()),
        _ => None,
    });
    finishes.collect()
}

fn sampled() -> Sampling {
    Sampling {
        temperature: Some(0.7),
        top_p: Some(0.9),
        ..Sampling::default()
    }
}
