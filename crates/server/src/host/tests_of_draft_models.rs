//! A smaller model guesses, and changes no answer either. The story model stands for the large one; the smaller one is the
//! same again, which is always right, or the same with a layer less, which is wrong now and then.

use serde_json::json;
use troika_gguf::{ModelFile, Writer};

use super::tests::{Home, STORIES, answer, job};
use super::tests_of_drafts::{check_with, greedy, repetitive};
use super::*;
use crate::ErrorKind;
use crate::job::{Event, Format};

/// The story model without its last `n` layers, and with another word for a token if one is given.
fn cut(n: u32, word: Option<&str>) -> Vec<u8> {
    let file = ModelFile::from_bytes("stories", STORIES).expect("is sound");
    let mut metadata = file.metadata().clone();
    let n_layer = metadata.u32("llama.block_count").expect("has layers") - n;
    metadata.insert("llama.block_count", n_layer);
    if let Some(word) = word {
        let tokens = metadata
            .strings("tokenizer.ggml.tokens")
            .expect("has words");
        let mut tokens = tokens.to_vec();
        // Of the control tokens, which are made of no others.
        let kinds = metadata.i32s("tokenizer.ggml.token_type");
        let kinds = kinds.expect("every word has a kind");
        let control = kinds.iter().rposition(|&kind| kind == 3);
        tokens[control.expect("there are some")] = word.to_owned();
        metadata.insert("tokenizer.ggml.tokens", tokens);
    }
    let mut writer = Writer::new(metadata);
    let is_kept = |name: &str| {
        let layer = name
            .strip_prefix("blk.")
            .and_then(|rest| rest.split('.').next());
        layer.is_none_or(|layer| layer.parse::<u32>().expect("a number") < n_layer)
    };
    for tensor in file.tensors().iter().filter(|it| is_kept(&it.name)) {
        let bytes = file.read_all(tensor).expect("is in memory");
        writer.tensor(&tensor.name, tensor.dtype, &tensor.shape, move |out| {
            Ok(out.write_all(&bytes)?)
        });
    }
    let mut bytes = Vec::new();
    writer.write_to(&mut bytes).expect("is written");
    bytes
}

/// A directory of models with `small` in it.
fn home(name: &str, small: &[u8]) -> Home {
    let home = Home::new(name);
    std::fs::create_dir_all(&home.0).expect("a directory");
    std::fs::write(home.0.join("small.gguf"), small).expect("is written");
    home
}

fn small(only: Option<&str>) -> Draft {
    Draft::Model {
        name: "small".to_owned(),
        only: only.map(str::to_owned),
    }
}

/// As [`check_with`], with a smaller model that lacks `n` layers.
async fn check(name: &str, n: u32, kv_tokens: Option<usize>, jobs: &[Job]) -> (usize, usize) {
    let home = home(&format!("draft-model-{name}-{n}"), &cut(n, None));
    check_with(&home, &small(None), kv_tokens, jobs).await
}

/// A text that says nothing twice.
fn plain(max_tokens: usize) -> Job {
    job("One day, a big bear went to the river to", max_tokens)
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_the_same_for_one_and_for_several() {
    let (right, guessed) = check("one", 0, None, &[greedy(plain(60))]).await;
    // But for the text's end, which nobody reads on from.
    assert!(
        right >= 40 && right * 10 >= guessed * 9,
        "{right} of {guessed}"
    );
    let mut several = vec![repetitive(30), greedy(repetitive(50))];
    for seed in 0..4 {
        let mut sampled = plain(40 + seed as usize);
        sampled.sampling.seed = Some(seed);
        sampled.sampling.temperature = Some(0.3 * seed as f32);
        sampled.sampling.repeat_penalty = (seed == 3).then_some(1.1);
        several.push(sampled);
    }
    for n in [0, 1] {
        let (right, guessed) = check("several", n, None, &several).await;
        assert!(right > 0 && right < guessed, "{n}: {right} of {guessed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn forms_stops_probabilities_and_choices_decide_as_ever() {
    let mut shaped = plain(40);
    shaped.format = Format::Regex("(la la |lo lo lo )+".to_owned());
    let mut schema = plain(60);
    schema.format = Format::JsonSchema(json!({
        "type": "array", "items": {"enum": ["red ball", "blue box"]}, "minItems": 6, "maxItems": 6,
    }));
    let mut stopped = greedy(plain(60));
    stopped.stop = vec!["the".to_owned()];
    let mut likely = greedy(plain(30));
    likely.top_logprobs = Some(3);
    let mut several = plain(40);
    several.n = 4;
    several.sampling.temperature = Some(0.3);
    let mut endless = plain(50);
    endless.ignore_end = true;
    for (name, job, least) in [
        // What a form wants, the smaller model does not know of.
        ("shaped", shaped, 0),
        ("schema", schema, 0),
        ("stopped", stopped, 1),
        ("likely", likely, 10),
        ("several", several, 10),
        ("endless", endless, 1),
    ] {
        let (right, _) = check(name, 1, None, &[job]).await;
        assert!(right >= least, "{name}: {right} tokens were guessed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_that_is_full_ends_and_delays_the_same_answers() {
    // Alone, an answer fills the cache; of several, some give way and start over.
    let mut alone = greedy(plain(400));
    alone.ignore_end = true;
    let (right, _) = check("full", 0, Some(160), std::slice::from_ref(&alone)).await;
    assert!(right > 0, "nothing was guessed");
    let together: Vec<_> = (0..6)
        .map(|seed| {
            let mut job = repetitive(60);
            job.ignore_end = true;
            job.sampling.seed = Some(seed);
            job
        })
        .collect();
    check("little", 0, Some(256), &together).await;
    alone.n_ctx = Some(90);
    check("context", 0, None, &[alone]).await;
}

/// Those who leave, end or give way take what the smaller model holds of them along: else its cache would be full soon.
#[tokio::test(flavor = "multi_thread")]
async fn those_who_leave_leave_nothing() {
    let home = home("draft-model-leaves", &cut(0, None));
    let host = home.host(HostSettings {
        draft: small(None),
        kv_tokens: Some(512),
        ..HostSettings::default()
    });
    for at in 0..8 {
        let mut endless = greedy(job(&format!("{at} dogs and {at} cats went to the "), 400));
        endless.ignore_end = true;
        let mut leaves = host
            .submit(endless, Caller::default())
            .await
            .expect("queued");
        for _ in 0..20 {
            while !matches!(leaves.next().await, Some(Ok(Event::Delta(_)))) {}
        }
        drop(leaves);
    }
    let done = answer(&host, greedy(plain(60))).await.expect("an answer");
    let usage = done.usage;
    assert!(
        usage.accepted_tokens >= 40,
        "{} were guessed",
        usage.accepted_tokens
    );
}

/// While one writes, others come with prompts, and each is guessed for; a prompt that the cache has is read by the smaller
/// model all the same.
#[tokio::test(flavor = "multi_thread")]
async fn prompts_are_read_beside_answers() {
    let home = home("draft-model-beside", &cut(0, None));
    let host = home.host(HostSettings {
        draft: small(None),
        ..HostSettings::default()
    });
    let long = "Lily had a red ball and a blue box. ".repeat(12);
    let ask = |end: &str| greedy(job(&format!("{long}{end}"), 40));
    let first = answer(&host, ask("Then")).await.expect("an answer");
    let all = ["Then", "One day", "Tom"].map(|end| answer(&host, ask(end)));
    let all = futures_util::future::join_all(all).await;
    for (at, done) in all.into_iter().enumerate() {
        let done = done.expect("an answer");
        assert!(done.usage.cached_tokens > 32);
        assert!(done.usage.accepted_tokens > 5, "{at}: {:?}", done.usage);
        if at == 0 {
            assert_eq!(done.choices, first.choices);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn its_memory_is_counted() {
    let home = home("draft-model-memory", &cut(0, None));
    let mut taken = Vec::new();
    for draft in [Draft::Off, small(None)] {
        let host = home.host(HostSettings {
            draft,
            kv_tokens: Some(1024),
            ..HostSettings::default()
        });
        answer(&host, plain(5)).await.expect("an answer");
        let loaded = host.loaded();
        let [model] = &*loaded else {
            panic!("one model is loaded: {loaded:?}")
        };
        assert_eq!(model.info.name, "stories");
        taken.push(model.memory_bytes);
    }
    assert_eq!(
        taken[1],
        2 * taken[0],
        "it is as large, and so is its cache"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn another_vocabulary_is_refused_where_it_was_named() {
    let home = home("draft-model-vocabulary", &cut(0, Some("quux")));
    let host = |draft| {
        home.host(HostSettings {
            draft,
            ..HostSettings::default()
        })
    };
    let refused = answer(&host(small(Some("stories"))), plain(5)).await;
    let refused = refused.expect_err("its tokens mean something else");
    assert_eq!(refused.kind, ErrorKind::Conflict);
    for part in ["`stories`", "`small` cannot draft", "another vocabulary"] {
        assert!(refused.message.contains(part), "{refused}");
    }
    // One for all drafts for those that it can.
    for draft in [small(None), small(Some("small"))] {
        let done = answer(&host(draft), plain(5)).await.expect("an answer");
        assert_eq!(done.usage.drafted_tokens, 0);
    }
    // Nor does a model draft for itself.
    let mut own = plain(5);
    own.model = "small".to_owned();
    let done = answer(&host(small(None)), own).await.expect("an answer");
    assert_eq!(done.usage.drafted_tokens, 0);
}
