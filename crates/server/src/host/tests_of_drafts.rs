//! Guesses change no answer, whatever is asked for: they only make steps fewer.

use serde_json::json;

use super::tests::{Home, answer, job};
use super::*;
use crate::job::{Completed, Event, Format};

/// Answers to jobs that came together.
pub(super) async fn answers(host: &Host, jobs: &[Job]) -> Vec<Completed> {
    let answers = jobs.iter().map(|job| answer(host, job.clone()));
    let answers = futures_util::future::join_all(answers).await;
    let answers = answers.into_iter();
    answers.map(|done| done.expect("an answer")).collect()
}

fn host(home: &Home, draft: Draft, kv_tokens: Option<usize>) -> Host {
    home.host(HostSettings {
        draft,
        kv_tokens,
        ..HostSettings::default()
    })
}

/// Answers to these jobs are the same with what the text says guessed and without, and guesses are right: so many of them.
async fn check(name: &str, kv_tokens: Option<usize>, jobs: &[Job]) -> usize {
    check_with(&Home::new(name), &Draft::Ngram, kv_tokens, jobs)
        .await
        .0
}

/// Answers to these jobs are the same with guesses and without. How many guesses were right, and how many there were.
pub(super) async fn check_with(
    home: &Home,
    draft: &Draft,
    kv_tokens: Option<usize>,
    jobs: &[Job],
) -> (usize, usize) {
    let plain = answers(&host(home, Draft::Off, kv_tokens), jobs).await;
    let drafted = answers(&host(home, draft.clone(), kv_tokens), jobs).await;
    let (mut right, mut guessed) = (0, 0);
    for (plain, drafted) in plain.iter().zip(&drafted) {
        assert_eq!(plain.choices, drafted.choices);
        let (before, after) = (&plain.usage, &drafted.usage);
        assert_eq!(before.completion_tokens, after.completion_tokens);
        assert_eq!((before.drafted_tokens, before.accepted_tokens), (0, 0));
        assert!(after.accepted_tokens <= after.drafted_tokens);
        let written = |usage: &crate::job::Usage| {
            let report = usage.report.as_deref().expect("it was done here");
            report.account.decode_tokens
        };
        assert_eq!(written(before), written(after));
        right += after.accepted_tokens;
        guessed += after.drafted_tokens;
    }
    (right, guessed)
}

/// A text that goes on as it went on.
pub(super) fn repetitive(max_tokens: usize) -> Job {
    let said = "Lily had a red ball. Tom had a blue box. ".repeat(5);
    job(&said, max_tokens)
}

pub(super) fn greedy(job: Job) -> Job {
    let mut job = job;
    job.sampling.temperature = Some(0.0);
    job
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_the_same_for_one_and_for_several() {
    let one = [greedy(repetitive(60))];
    let right = check("draft-one", None, &one).await;
    assert!(right > 0, "nothing was guessed");
    let mut several = Vec::new();
    for seed in 0..6 {
        let mut sampled = repetitive(40 + seed as usize);
        sampled.sampling.seed = Some(seed);
        sampled.sampling.temperature = Some(0.2 * seed as f32);
        sampled.sampling.repeat_penalty = (seed == 4).then_some(1.1);
        several.push(sampled);
    }
    several.push(job("The dog", 30));
    let right = check("draft-several", None, &several).await;
    assert!(right > 0, "nothing was guessed");
}

#[tokio::test(flavor = "multi_thread")]
async fn forms_stops_probabilities_and_choices_decide_as_ever() {
    let mut shaped = repetitive(40);
    shaped.format = Format::Regex("(la la |lo lo lo )+".to_owned());
    let mut schema = repetitive(60);
    schema.format = Format::JsonSchema(json!({
        "type": "array", "items": {"enum": ["red ball", "blue box"]}, "minItems": 6, "maxItems": 6,
    }));
    let mut stopped = greedy(repetitive(60));
    stopped.stop = vec!["box. Lily had".to_owned(), "Tom".to_owned()];
    let mut likely = greedy(repetitive(30));
    likely.top_logprobs = Some(3);
    let mut several = repetitive(40);
    several.n = 4;
    several.sampling.temperature = Some(0.3);
    let mut endless = repetitive(50);
    endless.ignore_end = true;
    for (name, job) in [
        ("shaped", shaped),
        ("schema", schema),
        ("stopped", stopped),
        ("likely", likely),
        ("several", several),
        ("endless", endless),
    ] {
        let right = check(&format!("draft-{name}"), None, &[job]).await;
        let least = match name {
            // What a form says over and over is guessed as often, but for a few tokens at first.
            "shaped" => 20,
            // A stop string comes too soon for a guess.
            "stopped" => 0,
            _ => 1,
        };
        assert!(right >= least, "{name}: {right} tokens were guessed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_that_is_full_ends_and_delays_the_same_answers() {
    // Alone, an answer fills the cache; of several, some give way and start over.
    let mut alone = greedy(repetitive(400));
    alone.ignore_end = true;
    let right = check("draft-full", Some(160), std::slice::from_ref(&alone)).await;
    assert!(right > 0, "nothing was guessed");
    let together: Vec<_> = (0..6)
        .map(|seed| {
            let mut job = repetitive(60);
            job.ignore_end = true;
            job.sampling.seed = Some(seed);
            job
        })
        .collect();
    check("draft-little", Some(256), &together).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_context_is_where_it_was() {
    let mut long = greedy(repetitive(1000));
    long.ignore_end = true;
    for n_ctx in 120..126 {
        long.n_ctx = Some(n_ctx);
        let name = format!("draft-context-{n_ctx}");
        check(&name, None, std::slice::from_ref(&long)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_leaves_is_not_missed() {
    let home = Home::new("draft-leaves");
    let host = host(&home, Draft::Ngram, None);
    let stays = greedy(repetitive(60));
    let alone = answer(&host, stays.clone()).await.expect("an answer");
    let mut endless = greedy(repetitive(400));
    endless.ignore_end = true;
    let mut leaves = host
        .submit(endless, Caller::default())
        .await
        .expect("queued");
    let leaves = async {
        for _ in 0..10 {
            while !matches!(leaves.next().await, Some(Ok(Event::Delta(_)))) {}
        }
        drop(leaves);
    };
    let (stayed, ()) = futures_util::future::join(answer(&host, stays), leaves).await;
    let stayed = stayed.expect("an answer");
    assert_eq!(stayed.choices, alone.choices);
}
