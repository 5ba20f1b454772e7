//! The host with a real model: the story model that the program brings along, under several names.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use troika_engine::CpuDevice;
use troika_engine::chat::ChatMessage;

use super::*;
use crate::ErrorKind;
use crate::job::{Completed, Event, FinishReason, Format, Overflow, Sampling, ToolChoice};

pub(super) const STORIES: &[u8] = include_bytes!("../../../cli/assets/stories.gguf");

/// A library in a directory of its own, which goes with it.
pub(crate) struct Home(pub(crate) PathBuf);

impl Home {
    pub(crate) fn new(name: &str) -> Self {
        let directory = format!("troika-host-{name}-{}", std::process::id());
        Self(std::env::temp_dir().join(directory))
    }

    pub(crate) fn host(&self, settings: HostSettings) -> Host {
        let library = Library::open(self.0.clone(), &[("stories", STORIES)]);
        let device = CpuDevice::batch_invariant(2);
        Host::new(Arc::new(library), Arc::new(device), settings).expect("threads")
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn job(prompt: &str, max_tokens: usize) -> Job {
    Job {
        model: "stories".to_owned(),
        prompt: Prompt::Text(prompt.to_owned()),
        n: 1,
        max_tokens: Some(max_tokens),
        sampling: Sampling {
            seed: Some(7),
            ..Sampling::default()
        },
        ..Job::default()
    }
}

pub(super) async fn answer(host: &Host, job: Job) -> Result<Completed, ApiError> {
    host.submit(job, Caller::default()).await?.collect().await
}

pub(super) async fn text(host: &Host, job: Job) -> String {
    let completed = answer(host, job).await.expect("an answer");
    completed.choices[0].content.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_does_not_depend_on_its_neighbours() {
    let home = Home::new("neighbours");
    let host = home.host(HostSettings::default());
    let prompts: Vec<_> = [
        "Once upon a time",
        "Tom and Anna",
        "The dog",
        "One day, a bird",
    ]
    .iter()
    .flat_map(|start| {
        [
            format!("{start} was"),
            format!("{start} {}", "saw a cat and ".repeat(20)),
        ]
    })
    .collect();
    let mut alone = Vec::new();
    for prompt in &prompts {
        alone.push(text(&host, job(prompt, 40)).await);
    }
    assert!(alone.iter().all(|text| text.len() > 40), "{alone:?}");
    let together = prompts.iter().map(|prompt| text(&host, job(prompt, 40)));
    let together = futures_util::future::join_all(together).await;
    assert_eq!(together, alone);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_answers_share_a_prompt_and_differ() {
    let home = Home::new("several");
    let host = home.host(HostSettings::default());
    let mut several = job("Once upon a time there was a", 30);
    several.n = 3;
    let completed = answer(&host, several.clone()).await.expect("answers");
    let [a, b, c] = &*completed.choices else {
        panic!("three answers")
    };
    assert!(a.content != b.content && b.content != c.content);
    assert_eq!(completed.usage.completion_tokens, 90);
    // Each is what a job of its own with the next seed writes.
    several.n = 1;
    several.sampling.seed = Some(9);
    assert_eq!(text(&host, several).await, c.content);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_that_was_read_is_not_read_again_but_for_its_owner() {
    let home = Home::new("prefix");
    let host = home.host(HostSettings::default());
    let long = "Lily had a red ball and a blue box. ".repeat(20);
    let first = answer(&host, job(&long, 5)).await.expect("an answer");
    assert_eq!(first.usage.cached_tokens, 0);
    let again = answer(&host, job(&long, 5)).await.expect("an answer");
    assert!(again.usage.cached_tokens > again.usage.prompt_tokens / 2);
    assert_eq!(again.choices, first.choices);
    let stranger = Caller {
        key: Some("other".to_owned()),
        ..Caller::default()
    };
    let stranger = host.submit(job(&long, 5), stranger).await.expect("queued");
    let stranger = stranger.collect().await.expect("an answer");
    assert_eq!(
        stranger.usage.cached_tokens, 0,
        "nobody learns what others asked"
    );
    assert_eq!(stranger.choices, first.choices);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_frees_its_place() {
    let home = Home::new("leaves");
    let mut settings = HostSettings::default();
    settings.scheduler.limits.running = 1;
    let host = home.host(settings);
    let mut endless = job("Once upon a time", 400);
    endless.ignore_end = true;
    let mut answer = host
        .submit(endless, Caller::default())
        .await
        .expect("queued");
    while !matches!(answer.next().await, Some(Ok(Event::Delta(_)))) {}
    drop(answer);
    let started = Instant::now();
    text(&host, job("The dog", 2)).await;
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "the place was not freed"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_says_so_and_when_to_come_back() {
    let home = Home::new("queue");
    let mut settings = HostSettings::default();
    settings.scheduler.limits.running = 1;
    settings.scheduler.queue = 1;
    let host = home.host(settings);
    // Until it is loaded, all of them wait.
    host.load("stories".to_owned(), None).await.expect("loads");
    let answers: Vec<_> = (0..6).map(|_| answer(&host, job("Once", 200))).collect();
    let answers = futures_util::future::join_all(answers).await;
    let refused = answers.iter().filter_map(|answer| answer.as_ref().err());
    let refused: Vec<_> = refused.collect();
    assert!(
        !refused.is_empty() && refused.len() <= 4,
        "{} refused",
        refused.len()
    );
    for error in refused {
        assert!(
            matches!(error.kind, ErrorKind::Overloaded { .. }),
            "{error:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_that_is_too_long_is_refused_or_shortened() {
    let home = Home::new("long");
    let host = home.host(HostSettings::default());
    let mut long = job(&"a very long story ".repeat(2000), 4);
    let error = answer(&host, long.clone()).await.expect_err("too long");
    assert_eq!(error.kind, ErrorKind::ContextOverflow);
    let numbers = error.message.split(|c: char| !c.is_ascii_digit());
    let numbers: Vec<usize> = numbers.filter_map(|word| word.parse().ok()).collect();
    assert!(numbers.len() == 2 && numbers[0] > numbers[1], "{error}");
    long.overflow = Overflow::Truncate;
    let completed = answer(&host, long).await.expect("shortened");
    assert!(completed.usage.prompt_tokens < numbers[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_answers_in_little_memory_all_come() {
    let home = Home::new("little");
    let settings = HostSettings {
        kv_tokens: Some(512),
        ..HostSettings::default()
    };
    let host = home.host(settings);
    // 512 tokens of cache for 12 answers of up to 100: some give way and start over.
    let mut jobs = Vec::new();
    for i in 0..12 {
        let mut job = job(&format!("Story number {i}: once upon a time"), 90);
        job.ignore_end = true;
        jobs.push(job);
    }
    let mut alone = Vec::new();
    for job in &jobs[..3] {
        alone.push(text(&host, job.clone()).await);
    }
    let together = jobs.into_iter().map(|job| answer(&host, job));
    let together = futures_util::future::join_all(together).await;
    for (i, completed) in together.iter().enumerate() {
        let completed = completed.as_ref().expect("an answer");
        assert_eq!(completed.usage.completion_tokens, 90, "answer {i}");
        assert_eq!(completed.choices[0].finish, FinishReason::Length);
    }
    let texts: Vec<_> = together[..3]
        .iter()
        .map(|completed| {
            completed.as_ref().expect("an answer").choices[0]
                .content
                .clone()
        })
        .collect();
    assert_eq!(texts, alone, "starting over changes nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_models_go_and_come_back() {
    let home = Home::new("idle");
    let host = home.host(HostSettings::default());
    let mut brief = job("The dog", 2);
    brief.keep_alive = Some(KeepAlive::For(Duration::ZERO));
    text(&host, brief).await;
    let started = Instant::now();
    while !host.loaded().is_empty() {
        assert!(started.elapsed() < Duration::from_secs(5), "it stays");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    text(&host, job("The dog", 2)).await;
    let [loaded] = &*host.loaded() else {
        panic!("one model is loaded")
    };
    assert!(loaded.expires.is_some_and(|at| at > SystemTime::now()));
    host.unload("stories".to_owned()).await.expect("is known");
    assert!(host.loaded().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_nobody_uses_makes_room() {
    let home = Home::new("room");
    let mut settings = HostSettings::default();
    settings.scheduler.models_max = 2;
    let host = home.host(settings);
    for name in ["a", "b"] {
        let copied = host.copy("stories".to_owned(), name.to_owned()).await;
        copied.expect("a second name");
    }
    for name in ["stories", "a", "b"] {
        let mut job = job("The dog", 2);
        job.model = name.to_owned();
        text(&host, job).await;
    }
    let loaded: Vec<_> = host
        .loaded()
        .into_iter()
        .map(|model| model.info.name)
        .collect();
    // Of two that are idle, the one goes that is worth less; they were last used at nearly the same time.
    assert!(
        loaded.len() == 2 && loaded.contains(&"b".to_owned()),
        "{loaded:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn vectors_have_length_one_and_do_not_depend_on_neighbours() {
    let home = Home::new("embed");
    let host = home.host(HostSettings::default());
    let embed = |texts: &[&str], dimensions| {
        let inputs = texts.iter().map(|&text| Prompt::Text(text.to_owned()));
        host.embed(
            EmbedJob {
                model: "stories".to_owned(),
                inputs: inputs.collect(),
                dimensions,
                ..EmbedJob::default()
            },
            Caller::default(),
        )
    };
    let long = "a long walk in the woods ".repeat(15);
    let all = embed(&["a cat", "a dog", &long], None)
        .await
        .expect("vectors")
        .vectors;
    for (text, vector) in ["a cat", "a dog", &*long].iter().zip(&all) {
        let length: f32 = vector.iter().map(|x| x * x).sum();
        assert!((length - 1.0).abs() < 1e-5);
        let alone = embed(&[*text], None).await.expect("a vector").vectors;
        assert_eq!(&alone[0], vector);
    }
    let short = embed(&["a cat"], Some(8)).await.expect("a vector").vectors;
    assert_eq!(short[0].len(), 8);
    let error = embed(&["a cat"], Some(0)).await.expect_err("no dimensions");
    assert_eq!(error.param.as_deref(), Some("dimensions"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_is_refused_and_the_next_request_served() {
    let home = Home::new("nonsense");
    let host = home.host(HostSettings::default());
    let mut unknown = job("Once", 5);
    unknown.model = "nobody".to_owned();
    let mut hot = job("Once", 5);
    hot.sampling.temperature = Some(f32::NAN);
    let mut stop = job("Once", 5);
    stop.stop = vec![String::new()];
    let mut token = job("Once", 5);
    token.prompt = Prompt::Tokens(vec![4_000_000_000]);
    let mut bias = job("Once", 5);
    bias.sampling.logit_bias = vec![(4_000_000_000, 1.0)];
    for (job, kind) in [
        (unknown, ErrorKind::ModelNotFound),
        (hot, ErrorKind::Invalid),
        (stop, ErrorKind::Invalid),
        (token, ErrorKind::Invalid),
        (bias, ErrorKind::Invalid),
    ] {
        let error = answer(&host, job.clone())
            .await
            .expect_err("makes no sense");
        assert_eq!(error.kind, kind, "{error} for {job:?}");
        text(&host, self::job("The dog", 2)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_is_named_by_its_field() {
    let home = Home::new("fields");
    let host = home.host(HostSettings::default());
    let with = |change: fn(&mut Job)| {
        let mut job = job("Once", 5);
        change(&mut job);
        answer(&host, job)
    };
    let schema = |job: &mut Job| job.format = Format::JsonSchema(json!({"type": "nothing"}));
    let bias = |job: &mut Job| job.sampling.logit_bias = vec![(4_000_000_000, 1.0)];
    for (answer, field) in [
        (with(schema).await, "format"),
        (
            with(|job| job.format = Format::Regex("[".to_owned())).await,
            "format",
        ),
        (with(bias).await, "logit_bias"),
        (with(|job| job.sampling.top_p = Some(7.0)).await, "top_p"),
        (with(|job| job.model = "nobody".to_owned()).await, "model"),
    ] {
        let error = answer.expect_err(field);
        assert_eq!(error.param.as_deref(), Some(field), "{error}");
    }
}

/// A job that has to call tools, of a model whose template shows them.
async fn calling(host: &Host, tools: Value, choice: ToolChoice) -> Result<Completed, ApiError> {
    let template = "{% if tools %}Write <tool_call>.{% endif %}{% for m in messages %}{{ m.content }}{% endfor %}";
    let manifest = Manifest {
        from: "stories".to_owned(),
        template: Some(template.to_owned()),
        ..Manifest::default()
    };
    host.create("caller".to_owned(), manifest).await?;
    let mut job = job("", 300);
    job.model = "caller".to_owned();
    let tools = tools.as_array().cloned().unwrap_or_default();
    job.prompt = Prompt::Chat(Box::new(ChatPrompt {
        messages: vec![ChatMessage::new("user", "Once upon a time")],
        tools,
        tool_choice: choice,
        parallel_tool_calls: true,
        ..ChatPrompt::default()
    }));
    answer(host, job).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_demanded_comes_and_the_one_that_is_named_comes_once() {
    let home = Home::new("calls");
    let host = home.host(HostSettings::default());
    let tool = |name: &str| {
        let parameters = json!({"type": "object", "properties": {"to": {"enum": ["Oslo", "Lima"]}}, "required": ["to"], "additionalProperties": false});
        json!({"type": "function", "function": {"name": name, "parameters": parameters}})
    };
    let tools = json!([tool("walk"), tool("fly")]);
    let named = ToolChoice::Function("fly".to_owned());
    let mut calls = Vec::new();
    for choice in [named, ToolChoice::Required] {
        let completed = calling(&host, tools.clone(), choice).await.expect("calls");
        let choice = &completed.choices[0];
        for call in &choice.tool_calls {
            let arguments = call.function.arguments.to_string();
            assert!(
                arguments.contains("Oslo") || arguments.contains("Lima"),
                "{arguments}"
            );
        }
        calls.push(
            choice
                .tool_calls
                .iter()
                .map(|call| call.function.name.clone())
                .collect::<Vec<_>>(),
        );
    }
    assert_eq!(calls[0], ["fly"]);
    assert!(!calls[1].is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_that_no_call_can_be_held_to_is_named() {
    let home = Home::new("tools");
    let host = home.host(HostSettings::default());
    let tools = json!([{"type": "function", "function": {"name": "odd", "parameters": {"properties": {"x": {"not": {}}}}}}]);
    let shown = calling(&host, tools.clone(), ToolChoice::Auto).await;
    assert!(shown.is_ok(), "{shown:?}");
    let error = calling(&host, tools, ToolChoice::Required)
        .await
        .expect_err("cannot be held to");
    assert_eq!(error.kind, ErrorKind::Invalid);
    assert_eq!(error.param.as_deref(), Some("tools"));
    let says = |what: &str| error.message.contains(what);
    assert!(
        says("`odd`") && says("#/properties/x") && says("`not`"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_cannot_be_read_can_be_deleted() {
    let home = Home::new("damaged");
    let host = home.host(HostSettings::default());
    std::fs::create_dir_all(&home.0).unwrap();
    let file = home.0.join("broken.gguf");
    std::fs::write(&file, "no model").unwrap();
    assert!(host.show("broken".to_owned()).await.is_err());
    host.delete("broken:latest".to_owned())
        .await
        .expect("deleted");
    assert!(!file.exists());
    let again = host.delete("broken".to_owned()).await.expect_err("is gone");
    assert_eq!(again.kind, ErrorKind::ModelNotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_have_a_place() {
    let home = Home::new("uploads");
    assert!(home.host(HostSettings::default()).library().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn unloading_never_takes_a_model_from_a_request() {
    let home = Home::new("race");
    let host = home.host(HostSettings::default());
    let ask = async {
        for _ in 0..40 {
            let answers = (0..3).map(|_| answer(&host, job("The dog", 2)));
            for answer in futures_util::future::join_all(answers).await {
                answer.expect("the model is there, whatever happens");
            }
        }
    };
    let unload = async {
        for _ in 0..400 {
            host.unload("stories".to_owned()).await.expect("is known");
            tokio::time::sleep(Duration::from_micros(300)).await;
        }
    };
    futures_util::future::join(ask, unload).await;
}
