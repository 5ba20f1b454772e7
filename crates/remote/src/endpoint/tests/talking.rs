//! What goes out and comes back on good days.

use std::time::{Duration, Instant};

use rust_decimal::Decimal;
use serde_json::json;
use troika_job::{Event, FinishReason, Placed, Started};

use super::fake::*;
use crate::endpoint::Tag;
use crate::receipts::Outcome;
use crate::rules::RemoteIndex;

#[tokio::test]
async fn an_answer_is_told_with_its_numbers_and_its_receipt() {
    let fake = Fake::start([says(&["Hel", "lo"])]).await;
    let stand = Stand::new(&format!("{}/v1", fake.url), "openai", "");
    let (events, usage) = stand.send(asks("hi")).await;
    let usage = usage.unwrap();
    let place = "remote:far".to_owned();
    let placed = Placed {
        prefill: place.clone(),
        decode: place,
    };
    assert_eq!(events[0], Event::Placed(placed));
    assert_eq!(
        events[1],
        Event::Started(Started::default()),
        "nobody counted yet"
    );
    assert_eq!(content(&events), "Hello");
    let finish = FinishReason::EndOfText;
    assert_eq!(events.last(), Some(&Event::Finished { choice: 0, finish }));
    assert_eq!((usage.prompt_tokens, usage.cached_tokens), (9, 4));
    assert_eq!((usage.completion_tokens, usage.reasoning_tokens), (12, 2));
    let report = usage.report.unwrap();
    assert!(report.devices.is_empty() && report.account.spans.is_empty());
    let sent = &report.sent[0];
    let cost = sent.cost.as_ref().unwrap();
    // 5 * 3 + 4 * 1 + 12 * 10, in millionths.
    assert_eq!(
        (cost.amount, &*cost.currency),
        (Decimal::new(139, 6), "EUR")
    );

    let got = &fake.got()[0];
    assert_eq!(
        (&*got.path, &got.body["model"]),
        ("/v1/chat/completions", &json!("there"))
    );
    assert!(got.headers.get("authorization").is_none());
    let [(intent, end)] = &stand.receipts()[..] else {
        panic!()
    };
    assert_eq!(
        (&*intent.to, &*intent.rule, &*intent.model),
        ("far", "all", "there")
    );
    assert_eq!(format!("http://{}", intent.host), fake.url);
    assert_eq!((end.outcome, end.status), (Outcome::Answered, Some(200)));
    let length = got.headers["content-length"].to_str().unwrap();
    assert_eq!(end.bytes_out.to_string(), length);
    assert_eq!(
        (sent.bytes_out, sent.bytes_in),
        (end.bytes_out, end.bytes_in)
    );
    assert_eq!(intent.bytes_out, end.bytes_out);
    assert_eq!(
        (end.prompt_tokens, end.completion_tokens),
        (Some(9), Some(12))
    );
    assert_eq!(end.cost.as_ref(), Some(cost));
    let most = intent.cost_at_most.as_ref().unwrap().amount;
    assert!(most > cost.amount, "{most}");
}

#[tokio::test]
async fn several_answers_are_one_request_where_the_interface_has_them() {
    let two = event(&json!({"choices": [
        {"index": 1, "delta": {"content": "b"}, "finish_reason": "stop"},
        {"index": 0, "delta": {"content": "a"}, "finish_reason": "length"},
    ]}));
    let fake = Fake::start([Act::Pieces(
        "text/event-stream",
        vec![(Duration::ZERO, two)],
    )])
    .await;
    let stand = Stand::new(&fake.url, "openai", "");
    let mut job = asks("hi");
    job.n = 2;
    let (events, usage) = stand.send(job).await;
    usage.unwrap();
    let finishes = events
        .iter()
        .filter(|it| matches!(it, Event::Finished { .. }))
        .count();
    assert_eq!((finishes, fake.got().len()), (2, 1));
    assert_eq!(fake.got()[0].body["n"], 2);
}

#[tokio::test]
async fn several_answers_are_several_requests_elsewhere() {
    let line = |text: &str, done: bool| {
        let line = json!({"model": "there", "message": {"role": "assistant", "content": text}, "done": done,
            "done_reason": "stop", "prompt_eval_count": 5, "eval_count": 3});
        (Duration::ZERO, format!("{line}\n"))
    };
    let answer = Act::Pieces(
        "application/x-ndjson",
        vec![line("a", false), line("", true)],
    );
    let fake = Fake::start([answer]).await;
    let stand = Stand::new(&fake.url, "ollama", "limits = { concurrent = 2 }");
    let mut job = asks("hi");
    job.n = 5;
    let (events, usage) = stand.send(job).await;
    let usage = usage.unwrap();
    assert_eq!(
        (content(&events), fake.got().len()),
        ("aaaaa".to_owned(), 5)
    );
    let mut choices: Vec<_> = events
        .iter()
        .filter_map(|it| match it {
            Event::Finished { choice, .. } => Some(*choice),
            _ => None,
        })
        .collect();
    choices.sort_unstable();
    assert_eq!(choices, [0, 1, 2, 3, 4]);
    assert_eq!((usage.prompt_tokens, usage.completion_tokens), (25, 15));
    assert_eq!(usage.report.unwrap().sent.len(), 5);
    let started = events
        .iter()
        .filter(|it| matches!(it, Event::Started(_)))
        .count();
    assert_eq!(started, 1);
}

#[tokio::test]
async fn a_dropped_answer_is_given_up_there() {
    let slow = (0..1000)
        .map(|_| (Duration::from_millis(5), chunk("word ")))
        .collect();
    let fake = Fake::start([Act::Pieces("text/event-stream", slow)]).await;
    let stand = Stand::new(&fake.url, "openai", "limits = { concurrent = 1 }");
    let sent = tokio::time::timeout(Duration::from_millis(60), stand.send(asks("hi"))).await;
    assert!(sent.is_err(), "it takes seconds");
    until(|| fake.open() == 0).await;
    let [(_, end)] = &stand.receipts()[..] else {
        panic!()
    };
    assert_eq!(end.outcome, Outcome::Cancelled);
    assert!(end.bytes_in > 0 && end.bytes_out > 0);
    assert!(
        stand.remotes.profile(RemoteIndex(0)).is_open,
        "its place is free again"
    );
}

#[tokio::test]
async fn one_that_waits_for_the_first_byte_is_given_up_too() {
    let fake = Fake::start([Act::Mute(Duration::from_secs(30))]).await;
    let stand = Stand::new(&fake.url, "openai", "");
    let sent = tokio::time::timeout(Duration::from_millis(100), stand.send(asks("hi"))).await;
    assert!(sent.is_err());
    until(|| fake.open() == 0).await;
}

#[tokio::test]
async fn a_client_who_left_ends_it() {
    let slow = (0..1000)
        .map(|_| (Duration::from_millis(5), chunk("word ")))
        .collect();
    let fake = Fake::start([Act::Pieces("text/event-stream", slow)]).await;
    let stand = Stand::new(&fake.url, "openai", "");
    let (job, leave) = stand.judged(asks("hi"));
    let (sender, events) = tokio::sync::mpsc::unbounded_channel();
    drop(events);
    let sent = stand
        .remotes
        .send(leave.to[0], &job, &Tag::default(), &sender)
        .await;
    assert!(!sent.unwrap_err().retry);
    until(|| fake.open() == 0).await;
}

#[tokio::test]
async fn the_connection_is_used_again() {
    let fake = Fake::start([says(&["a"])]).await;
    let stand = Stand::new(&fake.url, "openai", "");
    for _ in 0..3 {
        stand.send(asks("hi")).await.1.unwrap();
        // The rest of the answer is read beside.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let ports: std::collections::BTreeSet<_> = fake.got().into_iter().map(|it| it.peer).collect();
    assert_eq!(ports.len(), 1);
}

/// Every piece is told when it comes: the time between its departure there and its arrival here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pieces_are_told_as_they_come() {
    let n = 200;
    let fake = Fake::start([Act::Stamps(n)]).await;
    let stand = Stand::new(&fake.url, "openai", "");
    let (job, leave) = stand.judged(asks("hi"));
    let (sender, mut events) = tokio::sync::mpsc::unbounded_channel();
    let start = fake.start;
    let heard = tokio::spawn(async move {
        let mut late = Vec::new();
        while let Some(Ok(event)) = events.recv().await {
            if let Event::Delta(_) = event {
                let sent: u64 = content(&[event]).parse().unwrap();
                let now = Instant::now().duration_since(start);
                late.push(now.saturating_sub(Duration::from_nanos(sent)));
            }
        }
        late
    });
    stand
        .remotes
        .send(leave.to[0], &job, &Tag::default(), &sender)
        .await
        .unwrap();
    drop(sender);
    let mut late = heard.await.unwrap();
    assert_eq!(late.len(), n);
    late.sort_unstable();
    let (p50, p99) = (late[n / 2], late[n * 99 / 100]);
    println!("added latency: p50 {p50:?}, p99 {p99:?}");
    assert!(p50 < Duration::from_millis(2), "p50 {p50:?}");
}
