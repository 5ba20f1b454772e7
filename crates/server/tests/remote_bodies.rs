//! What is sent to an endpoint is what its interface understands: a job that goes out as a body, and that this server's own
//! interface of the same kind reads, is the same job.
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

use std::future::ready;
use std::sync::{Arc, LazyLock, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use troika_engine::chat::{ChatMessage, FunctionCall, ToolCall};
use troika_job::{ChatPrompt, Format, Job, Overflow, Prompt, Sampling, ToolChoice};
use troika_remote::config::Api;
use troika_remote::receipts::{Beginning, End, Intent, Ledger, ReceiptId, Spent};
use troika_remote::{Facts, Judged, Loaded, Remotes, Tag};
use troika_server::parse_job;

#[derive(Debug)]
struct NoNotes;

impl Ledger for NoNotes {
    fn begin(&self, _: Intent) -> Beginning<'_> {
        Box::pin(ready(Ok(ReceiptId(0))))
    }

    fn end(&self, _: ReceiptId, _: End) {}

    fn spent(&self, _: &str) -> Spent {
        Spent::default()
    }
}

/// An endpoint that keeps what it is sent, and answers nothing.
struct Stand {
    runtime: Runtime,
    got: Arc<Mutex<Vec<Value>>>,
    url: String,
    folder: TempDir,
}

static STAND: LazyLock<Stand> = LazyLock::new(|| {
    let runtime = Runtime::new().expect("a runtime");
    let got = Arc::<Mutex<Vec<Value>>>::default();
    let app = Router::new().fallback(keep).with_state(got.clone());
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"));
    let listener = listener.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    runtime.spawn(async move { axum::serve(listener, app).await });
    let folder = tempfile::tempdir().expect("a folder");
    Stand {
        runtime,
        got,
        url,
        folder,
    }
});

async fn keep(State(got): State<Arc<Mutex<Vec<Value>>>>, body: Bytes) -> StatusCode {
    let body = serde_json::from_slice(&body).expect("a body is JSON");
    got.lock().unwrap().push(body);
    StatusCode::BAD_REQUEST
}

/// The first body that is sent of a job, or the field that is refused.
fn sent(api: Api, job: Job) -> Result<Value, Option<String>> {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(|it| it.into_inner());
    let stand = &*STAND;
    let word = match api {
        Api::Openai => "openai",
        Api::Anthropic => "anthropic",
        Api::Ollama => "ollama",
    };
    let url = &stand.url;
    let text = format!(
        "[[remote]]\nname = \"far\"\nurl = \"{url}\"\napi = \"{word}\"\nmodels = {{ here = \"there\" }}\n\
         [[rule]]\nname = \"all\"\naction = \"remote\"\n"
    );
    let loaded = Loaded::parse(&text).unwrap();
    let Judged::MayLeave(job, leave, _) = loaded.rules.judge(job, &Facts::default()) else {
        panic!("the rule lets everything go");
    };
    stand.got.lock().unwrap().clear();
    let remotes = Remotes::open(&loaded.config, stand.folder.path(), Arc::new(NoNotes)).unwrap();
    let (sender, _events) = mpsc::unbounded_channel();
    let tag = Tag::default();
    let send = remotes.send(leave.to[0], &job, &tag, &sender);
    let error = stand.runtime.block_on(send).unwrap_err().error;
    let first = stand.got.lock().unwrap().first().cloned();
    first.ok_or(error.param)
}

/// The job that comes out at the other end.
fn round(api: Api, job: &Job) -> Job {
    let body = match sent(api, job.clone()) {
        Ok(body) => body,
        Err(field) => panic!("{field:?} was refused"),
    };
    match parse_job(api, &body) {
        Ok(job) => job,
        Err(error) => panic!("{error} ({:?})\n{body:#}", error.param),
    }
}

/// What is to come out: the model by its name there, arguments as one form, and none of what is about this machine.
fn expected(job: &Job) -> Job {
    let mut job = same_form(job.clone());
    "there".clone_into(&mut job.model);
    job
}

fn same_form(mut job: Job) -> Job {
    job.overflow = Overflow::Refuse;
    if let Prompt::Chat(prompt) = &mut job.prompt {
        let messages = prompt.messages.iter_mut();
        for call in messages.flat_map(|it| &mut it.tool_calls) {
            if let Value::String(text) = &call.function.arguments {
                call.function.arguments = serde_json::from_str(text).unwrap();
            }
        }
    }
    job
}

fn words() -> impl Strategy<Value = String> {
    // Quotes, backslashes, what is not ASCII, and no control characters, which no interface loses but templates do.
    "[a-zA-Z0-9 .\"\\\\/{}äß漢🙂-]{1,24}".prop_filter("says something", |it| !it.trim().is_empty())
}

fn number(least: u32, most: u32) -> impl Strategy<Value = Option<f32>> {
    prop::option::of((least..=most).prop_map(|it| it as f32 / 100.0))
}

fn arguments() -> impl Strategy<Value = Value> {
    prop::collection::btree_map("[a-z]{1,5}", words(), 0..3).prop_map(|it| json!(it))
}

/// A conversation that ends with the user or with a tool, in which calls have their results behind them.
fn turns() -> impl Strategy<Value = Vec<ChatMessage>> {
    let asked = (
        words(),
        prop::option::of((words(), prop::collection::vec(arguments(), 1..3))),
    );
    (
        prop::option::of(words()),
        prop::collection::vec(asked, 1..4),
        words(),
    )
        .prop_map(|(system, asked, last)| {
            let mut turns: Vec<_> = system
                .map(|it| ChatMessage::new("system", it))
                .into_iter()
                .collect();
            let mut n = 0;
            for (user, calls) in asked {
                turns.push(ChatMessage::new("user", user));
                let Some((said, calls)) = calls else {
                    turns.push(ChatMessage::new("assistant", "Well."));
                    continue;
                };
                let mut results = Vec::new();
                let mut tool_calls = Vec::new();
                for arguments in calls {
                    n += 1;
                    let id = format!("call_{n}");
                    results.push(ChatMessage {
                        name: Some("look".to_owned()),
                        tool_call_id: Some(id.clone()),
                        ..ChatMessage::new("tool", "Seen.")
                    });
                    tool_calls.push(ToolCall {
                        id: Some(id),
                        kind: "function".to_owned(),
                        function: FunctionCall {
                            name: "look".to_owned(),
                            arguments,
                        },
                    });
                }
                turns.push(ChatMessage {
                    tool_calls,
                    ..ChatMessage::new("assistant", said)
                });
                turns.extend(results);
                turns.push(ChatMessage::new("assistant", "I see."));
            }
            turns.push(ChatMessage::new("user", last));
            turns
        })
}

fn tools() -> impl Strategy<Value = Vec<Value>> {
    let tool = |(description, parameters): (Option<String>, Value)| {
        let mut function = Map::from_iter([("name".to_owned(), Value::from("look"))]);
        function.extend(description.map(|it| ("description".to_owned(), it.into())));
        function.insert("parameters".to_owned(), parameters);
        vec![json!({"type": "function", "function": function})]
    };
    prop_oneof![
        Just(Vec::new()),
        (prop::option::of(words()), schema()).prop_map(tool),
    ]
}

fn schema() -> impl Strategy<Value = Value> {
    prop::collection::btree_map("[a-z]{1,5}", Just(json!({"type": "string"})), 1..3)
        .prop_map(|fields| json!({"type": "object", "properties": fields}))
}

fn stops() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(words(), 0..3)
}

/// What all three interfaces have words for.
fn common() -> impl Strategy<Value = (Job, ChatPrompt)> {
    let sampling = (number(0, 100), number(0, 100), prop::option::of(1_u32..100));
    (turns(), tools(), sampling, stops(), 1_usize..100_000).prop_map(
        |(messages, tools, (temperature, top_p, top_k), stop, max_tokens)| {
            let job = Job {
                model: "here".to_owned(),
                n: 1,
                max_tokens: Some(max_tokens),
                sampling: Sampling {
                    temperature,
                    top_p,
                    top_k,
                    ..Sampling::default()
                },
                stop,
                ..Job::default()
            };
            let prompt = ChatPrompt {
                messages,
                tools,
                parallel_tool_calls: true,
                ..ChatPrompt::default()
            };
            (job, prompt)
        },
    )
}

fn choice(tools: &[Value], which: u8) -> ToolChoice {
    match (which, tools.is_empty()) {
        (_, true) | (0, _) => ToolChoice::Auto,
        (1, _) => ToolChoice::Never,
        (2, _) => ToolChoice::Required,
        _ => ToolChoice::Function("look".to_owned()),
    }
}

fn form(which: u8, schema: Value) -> Format {
    match which {
        0 => Format::Text,
        1 => Format::JsonObject,
        2 => Format::JsonSchema(schema),
        3 => Format::Regex("a+b".to_owned()),
        _ => Format::Lark("start: \"a\"".to_owned()),
    }
}

fn chat(job: Job, prompt: ChatPrompt) -> Job {
    Job {
        prompt: Prompt::Chat(Box::new(prompt)),
        ..job
    }
}

fn penalties() -> impl Strategy<Value = Sampling> {
    let bias = prop::collection::btree_map(0_u32..1000, -100_i32..=100, 0..3);
    (
        number(0, 100),
        number(50, 200),
        number(0, 200),
        number(0, 200),
        any::<Option<u64>>(),
        bias,
    )
        .prop_map(
            |(min_p, repeat_penalty, presence_penalty, frequency_penalty, seed, bias)| Sampling {
                min_p,
                repeat_penalty,
                presence_penalty,
                frequency_penalty,
                seed,
                logit_bias: bias
                    .into_iter()
                    .map(|(token, bias)| (token, bias as f32))
                    .collect(),
                ..Sampling::default()
            },
        )
}

/// `common` under further sampling.
fn sampled(common: Sampling, more: Sampling) -> Sampling {
    Sampling {
        temperature: common.temperature,
        top_p: common.top_p,
        top_k: common.top_k,
        ..more
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn openais_interface(
        (job, prompt) in common(),
        more in penalties(),
        (n, which, form_of, schema) in (1_usize..4, 0_u8..4, 0_u8..5, schema()),
        (parallel, thinking, goes_on) in any::<(bool, Option<bool>, bool)>(),
        effort in prop::option::of(prop::sample::select(vec!["minimal", "low", "medium", "high", "xhigh"])),
        (top_logprobs, ignore_end) in (prop::option::of(0_usize..=20), any::<bool>()),
        variables in prop::collection::btree_map("[a-d]{1,5}", words(), 0..2),
    ) {
        let mut prompt = ChatPrompt {
            tool_choice: choice(&prompt.tools, which),
            parallel_tool_calls: parallel || prompt.tools.is_empty(),
            thinking,
            effort: effort.map(ToOwned::to_owned),
            template_variables: variables.into_iter().map(|(k, v)| (k, v.into())).collect(),
            ..prompt
        };
        if goes_on {
            let mut begun = ChatMessage::new("assistant", "So");
            begun.reasoning_content = Some("Hm.".to_owned());
            prompt.messages.push(begun);
            prompt.continue_last = true;
        }
        let job = Job { n, top_logprobs, ignore_end, format: form(form_of, schema), ..job };
        let sampling = sampled(job.sampling.clone(), more);
        let job = chat(Job { sampling, ..job }, prompt);
        prop_assert_eq!(same_form(round(Api::Openai, &job)), expected(&job));
    }

    #[test]
    fn openais_interface_of_texts(
        (job, _) in common(),
        more in penalties(),
        text in words(),
        top_logprobs in prop::option::of(0_usize..=5),
    ) {
        let sampling = sampled(job.sampling.clone(), more);
        let job = Job { prompt: Prompt::Text(text), top_logprobs, sampling, ..job };
        prop_assert_eq!(round(Api::Openai, &job), expected(&job));
    }

    #[test]
    fn anthropics_interface(
        (job, prompt) in common(),
        (which, parallel, schema) in (0_u8..4, any::<bool>(), prop::option::of(schema())),
        (thinking, goes_on) in any::<(bool, bool)>(),
        effort in prop::option::of(prop::sample::select(vec!["low", "medium", "high", "xhigh", "max"])),
    ) {
        let max_tokens = job.max_tokens.map(|it| it + if thinking { 1024 } else { 0 });
        let tool_choice = choice(&prompt.tools, which);
        let never = tool_choice == ToolChoice::Never;
        let mut prompt = ChatPrompt {
            tool_choice,
            parallel_tool_calls: parallel || never || prompt.tools.is_empty(),
            thinking: Some(thinking),
            effort: effort.map(ToOwned::to_owned),
            ..prompt
        };
        if goes_on {
            prompt.messages.push(ChatMessage::new("assistant", "So"));
            prompt.continue_last = true;
        }
        let format = schema.map_or(Format::Text, Format::JsonSchema);
        let job = chat(Job { max_tokens, format, ..job }, prompt);
        prop_assert_eq!(same_form(round(Api::Anthropic, &job)), expected(&job));
    }

    #[test]
    fn ollamas_interface(
        (job, prompt) in common(),
        more in penalties(),
        (last_n, n_ctx) in (prop::option::of(prop_oneof![0_u32..1000, Just(u32::MAX)]), prop::option::of(1_usize..100_000)),
        (form_of, schema, top_logprobs) in (0_u8..3, schema(), prop::option::of(0_usize..=20)),
        (thinking, goes_on) in any::<(Option<bool>, bool)>(),
        effort in prop::option::of(prop::sample::select(vec!["low", "medium", "high"])),
    ) {
        let effort = effort.filter(|_| thinking == Some(true));
        let mut prompt = ChatPrompt { thinking, effort: effort.map(ToOwned::to_owned), ..prompt };
        if goes_on {
            prompt.messages.push(ChatMessage::new("assistant", "So"));
            prompt.continue_last = true;
        }
        let sampling = Sampling {
            repeat_last_n: last_n,
            logit_bias: Vec::new(),
            seed: more.seed.filter(|&it| it != u64::MAX),
            ..sampled(job.sampling.clone(), more)
        };
        let job = chat(Job { sampling, n_ctx, top_logprobs, format: form(form_of, schema), ..job }, prompt);
        let mut got = same_form(round(Api::Ollama, &job));
        got.overflow = Overflow::Refuse;
        prop_assert_eq!(got, expected(&job));
    }

    #[test]
    fn ollamas_interface_of_texts((job, _) in common(), text in words()) {
        let job = Job { prompt: Prompt::Rendered(text), ..job };
        prop_assert_eq!(same_form(round(Api::Ollama, &job)), expected(&job));
    }
}

/// Nothing is left out in silence: a field that cannot be said is named.
#[test]
fn what_cannot_be_said_is_refused_by_name() {
    let asks = |job: Job| {
        let messages = vec![ChatMessage::new("user", "hi")];
        chat(
            job,
            ChatPrompt {
                messages,
                parallel_tool_calls: true,
                ..ChatPrompt::default()
            },
        )
    };
    let job = || Job {
        model: "here".to_owned(),
        n: 1,
        max_tokens: Some(9),
        ..Job::default()
    };
    let seeded = Sampling {
        seed: Some(1),
        ..Sampling::default()
    };
    let tokens = Job {
        prompt: Prompt::Tokens(vec![1]),
        ..job()
    };
    for (api, job, field) in [
        (
            Api::Anthropic,
            asks(Job {
                sampling: seeded,
                ..job()
            }),
            "seed",
        ),
        (
            Api::Anthropic,
            asks(Job {
                format: Format::JsonObject,
                ..job()
            }),
            "format",
        ),
        (
            Api::Ollama,
            asks(Job {
                ignore_end: true,
                ..job()
            }),
            "ignore_eos",
        ),
    ] {
        assert_eq!(sent(api, job), Err(Some(field.to_owned())));
    }
    // Tokens do not even get past the judge.
    let text = "[[remote]]\nname = \"far\"\nurl = \"http://127.0.0.1:1\"\napi = \"openai\"\nmodels = { here = \"there\" }\n\
                [[rule]]\nname = \"all\"\naction = \"remote\"\n";
    let loaded = Loaded::parse(text).unwrap();
    assert!(matches!(
        loaded.rules.judge(tokens, &Facts::default()),
        Judged::Stays(..)
    ));
}
