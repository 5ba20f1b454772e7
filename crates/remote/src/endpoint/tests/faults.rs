//! Bad days.

use std::time::{Duration, Instant};

use serde_json::json;
use troika_job::{ErrorKind, Event, Job};

use super::fake::*;
use crate::receipts::Outcome;
use crate::rules::RemoteIndex;

const NOW: Duration = Duration::ZERO;

fn status(status: u16, headers: &[(&'static str, &str)], body: &str) -> Act {
    let headers = headers
        .iter()
        .map(|(name, value)| (*name, (*value).to_owned()));
    Act::Whole(status, headers.collect(), body.to_owned())
}

fn pieces(texts: &[&str]) -> Vec<(Duration, String)> {
    texts.iter().map(|it| (NOW, (*it).to_owned())).collect()
}

async fn stand(acts: impl IntoIterator<Item = Act>) -> (Fake, Stand) {
    let fake = Fake::start(acts).await;
    let stand = Stand::new(&fake.url, "openai", "");
    (fake, stand)
}

fn outcomes(stand: &Stand) -> Vec<(Outcome, Option<u16>)> {
    stand
        .receipts()
        .into_iter()
        .map(|(_, end)| (end.outcome, end.status))
        .collect()
}

#[tokio::test]
async fn what_failed_twice_is_answered_the_third_time() {
    let failed = status(500, &[], "oops");
    let (fake, stand) = stand([failed.clone(), failed, says(&["yes"])]).await;
    let (events, usage) = stand.send(asks("hi")).await;
    usage.unwrap();
    assert_eq!((content(&events), fake.got().len()), ("yes".to_owned(), 3));
    let placed = events
        .iter()
        .filter(|it| matches!(it, Event::Placed(_)))
        .count();
    assert_eq!(placed, 1);
    let refused = (Outcome::Refused, Some(500));
    let answered = (Outcome::Answered, Some(200));
    assert_eq!(
        outcomes(&stand),
        [refused, refused, answered],
        "each has a receipt"
    );
}

#[tokio::test]
async fn it_is_given_up_after_some_tries() {
    let (fake, stand) = stand([status(503, &[], r#"{"error":{"message":"starting"}}"#)]).await;
    let (error, failed) = stand.fails(asks("hi")).await;
    assert_eq!(fake.got().len(), 4);
    assert!(failed.retry && !failed.said);
    assert!(matches!(error.kind, ErrorKind::Unavailable { .. }));
    assert_eq!(
        error.message,
        "remote `far` is overloaded (HTTP 503): starting"
    );
}

#[tokio::test]
async fn it_is_left_alone_as_long_as_it_asks() {
    let crowded = status(
        429,
        &[("retry-after-ms", "150")],
        r#"{"error":{"message":"slow down","type":"requests"}}"#,
    );
    let (fake, stand) = stand([crowded, says(&["yes"])]).await;
    let start = Instant::now();
    stand.send(asks("hi")).await.1.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(150));
    assert_eq!(fake.got().len(), 2);
}

#[tokio::test]
async fn a_long_rest_is_not_waited_out_and_nobody_else_asks() {
    let (fake, stand) = stand([status(429, &[("retry-after", "90")], "")]).await;
    let (error, failed) = stand.fails(asks("hi")).await;
    let retry_after = Duration::from_secs(90);
    assert_eq!(error.kind, ErrorKind::Overloaded { retry_after });
    assert!(failed.retry);
    let profile = stand.remotes.profile(RemoteIndex(0));
    assert!(!profile.is_open, "{profile:?}");
    assert!(profile.why_not.unwrap().contains("90 s"));
    stand.fails(asks("hi")).await;
    assert_eq!(fake.got().len(), 1);
    assert_eq!(
        stand.receipts().len(),
        1,
        "what did not leave has no receipt"
    );
}

#[tokio::test]
async fn an_empty_account_is_not_asked_again() {
    let body = r#"{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","code":"insufficient_quota"}}"#;
    let (fake, stand) = stand([status(429, &[], body)]).await;
    let (error, _) = stand.fails(asks("hi")).await;
    assert_eq!(fake.got().len(), 1);
    assert!(
        matches!(error.kind, ErrorKind::Unavailable { .. }),
        "{error}"
    );
}

#[tokio::test]
async fn the_endpoints_own_word_on_repetitions_holds() {
    let (fake, stand) = stand([status(500, &[("x-should-retry", "false")], "")]).await;
    stand.fails(asks("hi")).await;
    assert_eq!(fake.got().len(), 1);
}

#[tokio::test]
async fn requests_at_fault_are_not_repeated_and_say_why() {
    for (code, body, kind, retry) in [
        (
            400,
            r#"{"error":{"message":"n must be 1","type":"invalid_request_error","param":"n","code":null}}"#,
            ErrorKind::Invalid,
            false,
        ),
        (
            400,
            r#"{"error":{"message":"This model's maximum context length is 8192 tokens.","code":"context_length_exceeded"}}"#,
            ErrorKind::ContextOverflow,
            true,
        ),
        (
            404,
            r#"{"error":{"message":"no such model"}}"#,
            ErrorKind::ModelNotFound,
            true,
        ),
        (413, "", ErrorKind::TooLarge, true),
    ] {
        let (fake, stand) = stand([status(code, &[], body)]).await;
        let (error, failed) = stand.fails(asks("hi")).await;
        assert_eq!((error.kind, failed.retry), (kind, retry), "{error}");
        assert!(error.message.starts_with("remote `far` "));
        assert_eq!(fake.got().len(), 1);
        assert!(
            stand.remotes.profile(RemoteIndex(0)).is_open,
            "it is not to blame"
        );
        if code == 400 && !retry {
            assert_eq!(error.param.as_deref(), Some("n"));
        }
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let other = Fake::start([says(&["no"])]).await;
    for code in [301, 302, 303, 307, 308] {
        let elsewhere = format!("{}/chat/completions", other.url);
        let (_, stand) = stand([status(code, &[("location", &elsewhere)], "")]).await;
        let (error, failed) = stand.fails(asks("hi")).await;
        assert!(error.message.contains("redirects to 127.0.0.1"), "{error}");
        assert!(failed.retry);
    }
    assert!(other.got().is_empty());
}

#[tokio::test]
async fn a_late_first_byte_is_not_waited_for() {
    let fake = Fake::start([Act::Mute(Duration::from_secs(20))]).await;
    let stand = Stand::new(&fake.url, "openai", "limits = { timeout_s = 1 }");
    let start = Instant::now();
    let (error, failed) = stand.fails(asks("hi")).await;
    assert!(start.elapsed() < Duration::from_secs(3));
    assert!(
        failed.retry && error.message.contains("within 1 s"),
        "{error}"
    );
    assert_eq!(outcomes(&stand), [(Outcome::Late, None)]);
    until(|| fake.open() == 0).await;
}

#[tokio::test]
async fn a_head_without_a_body_is_late_too() {
    let fake = Fake::start([Act::Stall(Vec::new())]).await;
    let stand = Stand::new(&fake.url, "openai", "limits = { timeout_s = 1 }");
    let (error, failed) = stand.fails(asks("hi")).await;
    assert!(
        failed.retry && error.message.contains("within 1 s"),
        "{error}"
    );
}

#[tokio::test]
async fn a_stall_ends_the_answer() {
    let (fake, stand) = stand([Act::Stall(pieces(&[&chunk("Hel")]))]).await;
    let (events, sent) = stand.send(asks("hi")).await;
    let failed = sent.unwrap_err();
    assert_eq!(content(&events), "Hel");
    assert!(failed.said && !failed.retry, "{failed:?}");
    assert_eq!(outcomes(&stand), [(Outcome::Late, Some(200))]);
    until(|| fake.open() == 0).await;
}

#[tokio::test]
async fn what_broke_before_a_word_is_repeated_and_after_one_is_not() {
    let (fake, stand) = stand([Act::Cut(Vec::new()), says(&["yes"])]).await;
    let (events, sent) = stand.send(asks("hi")).await;
    sent.unwrap();
    assert_eq!((content(&events), fake.got().len()), ("yes".to_owned(), 2));

    let (fake, stand) = self::stand([Act::Cut(pieces(&[&chunk("Hel")]))]).await;
    let (events, sent) = stand.send(asks("hi")).await;
    let failed = sent.unwrap_err();
    assert_eq!((content(&events), fake.got().len()), ("Hel".to_owned(), 1));
    assert!(failed.said && !failed.retry);
    assert_eq!(outcomes(&stand), [(Outcome::Failed, Some(200))]);
}

#[tokio::test]
async fn an_answer_that_just_ends_is_no_answer() {
    let half = Act::Pieces("text/event-stream", pieces(&[&chunk("Hel")]));
    let (_, stand) = stand([half]).await;
    let failed = stand.send(asks("hi")).await.1.unwrap_err();
    assert!(
        failed.error.message.contains("ends in the middle"),
        "{failed}"
    );
}

#[tokio::test]
async fn a_complete_answer_needs_no_farewell() {
    let end = event(&json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}));
    for act in [
        Act::Pieces("text/event-stream", pieces(&[&chunk("a"), &end])),
        Act::Cut(pieces(&[&chunk("a"), &end])),
    ] {
        let (_, stand) = stand([act]).await;
        let (events, usage) = stand.send(asks("hi")).await;
        assert_eq!(content(&events), "a");
        // Nobody counted: no numbers are made up.
        assert_eq!(usage.unwrap().report.unwrap().sent[0].cost, None);
        assert_eq!(stand.receipts()[0].1.completion_tokens, None);
    }
}

#[tokio::test]
async fn an_error_in_the_stream_is_the_jobs() {
    let overloaded =
        event(&json!({"error": {"message": "Overloaded", "type": "overloaded_error"}}));
    let (fake, stand) = stand([
        Act::Pieces("text/event-stream", pieces(&[&overloaded])),
        says(&["yes"]),
    ])
    .await;
    let (events, sent) = stand.send(asks("hi")).await;
    sent.unwrap();
    assert_eq!(
        (content(&events), fake.got().len()),
        ("yes".to_owned(), 2),
        "nothing was said"
    );

    let (fake, stand) = self::stand([Act::Pieces(
        "text/event-stream",
        pieces(&[&chunk("Hel"), &overloaded]),
    )])
    .await;
    let failed = stand.send(asks("hi")).await.1.unwrap_err();
    assert!(failed.said && fake.got().len() == 1);
    assert_eq!(
        failed.error.message,
        "remote `far` broke off its answer: Overloaded"
    );
}

#[tokio::test]
async fn nonsense_is_called_so_and_not_repeated() {
    let page = status(
        200,
        &[("content-type", "text/html; charset=utf-8")],
        "<html>hello</html>",
    );
    let whole = status(
        200,
        &[("content-type", "application/json")],
        r#"{"choices":[{"message":{"content":"secret"}}]}"#,
    );
    let broken = Act::Pieces(
        "text/event-stream",
        pieces(&["data: {\"choices\": [secret\n\n"]),
    );
    let other = Act::Pieces("text/event-stream", pieces(&["data: {\"choices\": 7}\n\n"]));
    let extra = event(&json!({"choices": [{"index": 3, "delta": {"content": "secret"}}]}));
    let extra = Act::Pieces("text/event-stream", pieces(&[&extra]));
    let latin = Act::Whole(
        200,
        vec![("content-type", "text/event-stream".to_owned())],
        String::new(),
    );
    for act in [page, whole, broken, other, extra, latin] {
        let (fake, stand) = stand([act.clone()]).await;
        let (error, failed) = stand.fails(asks("hi")).await;
        assert!(failed.retry && !failed.said, "{act:?}");
        assert!(!error.message.contains("secret"), "{error}");
        let tries = if matches!(&act, Act::Whole(_, _, body) if body.is_empty()) {
            4
        } else {
            1
        };
        assert_eq!(fake.got().len(), tries, "{act:?}");
    }
}

#[tokio::test]
async fn a_line_without_end_is_not_kept() {
    let long = (0..20).map(|_| (NOW, "x".repeat(1 << 20))).collect();
    let (_, stand) = stand([Act::Pieces("text/event-stream", long)]).await;
    let (error, _) = stand.fails(asks("hi")).await;
    assert!(error.message.contains("longer than"), "{error}");
}

#[tokio::test]
async fn nobody_there_is_said() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    let stand = Stand::new(&url, "openai", "");
    let (error, failed) = stand.fails(asks("hi")).await;
    assert!(
        failed.retry && error.message.contains("cannot be reached"),
        "{error}"
    );
    let receipts = stand.receipts();
    assert_eq!(receipts.len(), 4);
    assert!(
        receipts
            .iter()
            .all(|(_, end)| end.bytes_out == 0 && end.outcome == Outcome::Failed)
    );
}

#[tokio::test]
async fn after_five_failures_it_is_not_asked_for_a_while() {
    let (fake, stand) = stand([status(500, &[], "")]).await;
    for _ in 0..4 {
        stand.fails(asks("hi")).await;
    }
    assert_eq!(fake.got().len(), 5);
    let profile = stand.remotes.profile(RemoteIndex(0));
    assert!(!profile.is_open && profile.why_not.unwrap().contains("too often"));
    assert_eq!(profile.error_rate, Some(1.0));
    let (error, failed) = stand.fails(asks("hi")).await;
    assert!(
        failed.retry && error.message.contains("not asked now"),
        "{error}"
    );
}

#[tokio::test]
async fn words_of_the_prompt_are_not_told_again() {
    let secret = "my aunt Agatha lives at 7 Elm Street";
    let body =
        json!({"error": {"message": format!("cannot parse: {secret} (line 1)")}}).to_string();
    let (_, stand) = stand([status(400, &[], &body)]).await;
    let (error, _) = stand
        .fails(asks(&format!("Hello, {secret}, and more")))
        .await;
    assert!(!error.message.contains("Agatha"), "{error}");
    assert!(error.message.contains("repeats the prompt"));
    let (error, _) = stand.fails(asks("something else")).await;
    assert!(
        error.message.contains("Agatha"),
        "it is no word of this prompt"
    );
}

#[tokio::test]
async fn what_an_interface_has_no_words_for_does_not_leave() {
    let fake = Fake::start([says(&["no"])]).await;
    for (api, job) in [
        (
            "anthropic",
            Job {
                top_logprobs: Some(1),
                ..asks("hi")
            },
        ),
        (
            "ollama",
            Job {
                ignore_end: true,
                ..asks("hi")
            },
        ),
    ] {
        let stand = Stand::new(&fake.url, api, "");
        let (error, failed) = stand.fails(job).await;
        assert_eq!(error.kind, ErrorKind::Unsupported);
        assert!(
            failed.retry && error.message.contains("remote `far` speaks"),
            "{error}"
        );
        assert!(error.param.is_some() && stand.receipts().is_empty());
    }
    assert!(fake.got().is_empty());
}
