//! A backend that plays a script, for tests of the interfaces without a model.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::Value;
use tower::ServiceExt as _;
use troika_base::DeviceKind;
use troika_library::{Library, Manifest};
use troika_scheduler::{
    Account, Class, DeviceId, DeviceView, Heat, JobForecast, JoulesSource, Phase, Policy, Power,
    Snapshot, Span, Time,
};

use crate::backend::{Placement, State};
use crate::job::{
    Caller, Capabilities, ChatPrompt, Delta, EmbedJob, Embedded, Event, FinishReason, Job,
    KeepAlive, LoadedModel, ModelInfo, Part, Placed, Prompt, Report, Started, Usage,
};
use crate::keys::{KeyFile, Keys};
use crate::{Answer, ApiError, Backend, Beside, Drain, EventSender, Media, ModelDetails, Settings};

/// One job's events, or its refusal.
pub(crate) type Script = Result<Vec<Result<Event, ApiError>>, ApiError>;

/// Plays one script for each job, and keeps what it was asked.
#[derive(Debug, Default)]
pub(crate) struct Scripted {
    scripts: Mutex<VecDeque<Script>>,
    jobs: Mutex<Vec<Job>>,
    embed_jobs: Mutex<Vec<EmbedJob>>,
    /// The senders of jobs that are not to end with their scripts.
    held: Mutex<Option<Vec<EventSender>>>,
    /// What is told of embeddings.
    pub(crate) embed_report: Mutex<Option<Report>>,
    /// Whether there are devices; the policy is theirs.
    pub(crate) policy: Mutex<Option<Policy>>,
    /// How requests were placed, by their numbers.
    pub(crate) placed: Mutex<BTreeMap<String, Vec<Placement>>>,
    /// Runs of always-on models, by device: begun, and what they used in the end.
    pub(crate) beside: Arc<Mutex<Vec<String>>>,
    /// What was created, copied, deleted, loaded, unloaded, in words.
    pub(crate) done: Mutex<Vec<String>>,
    /// Where uploads go, if they are taken.
    pub(crate) library: Mutex<Option<Arc<Library>>>,
}

impl Scripted {
    pub(crate) fn new(scripts: impl IntoIterator<Item = Script>) -> Arc<Self> {
        Arc::new(Self {
            scripts: Mutex::new(scripts.into_iter().collect()),
            ..Self::default()
        })
    }

    /// The last job that was submitted.
    pub(crate) fn last_job(&self) -> Job {
        let jobs = self.jobs.lock().unwrap();
        jobs.last().expect("no job was submitted").clone()
    }

    /// From here on, jobs go on after their scripts, and nothing more happens in them.
    pub(crate) fn hold(&self) {
        *self.held.lock().unwrap() = Some(Vec::new());
    }

    /// The last texts that were to be embedded.
    pub(crate) fn last_embed_job(&self) -> EmbedJob {
        let jobs = self.embed_jobs.lock().unwrap();
        jobs.last().expect("nothing was embedded").clone()
    }

    /// Posts a body to the routes; returns the status and the whole answer as text.
    pub(crate) async fn post(self: &Arc<Self>, path: &str, body: &Value) -> (StatusCode, String) {
        self.request("POST", path, body.to_string()).await
    }

    pub(crate) async fn request(
        self: &Arc<Self>,
        method: &str,
        path: &str,
        body: String,
    ) -> (StatusCode, String) {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", "application/json")
            .body(Body::from(body))
            .unwrap();
        let backend: Arc<dyn Backend> = Arc::<Self>::clone(self);
        let response = crate::app::routes(backend).oneshot(request).await.unwrap();
        let status = response.status();
        let body = axum::body::to_bytes(response.into_body(), usize::MAX)
            .await
            .unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    /// The whole server over this backend, with all its layers and no keys.
    pub(crate) fn app(self: &Arc<Self>) -> Router {
        let settings = Settings {
            keys_file: "/nowhere/keys.toml".into(),
            ..Settings::default()
        };
        self.app_with(&settings, &Drain::default())
    }

    pub(crate) fn app_with(self: &Arc<Self>, settings: &Settings, drain: &Drain) -> Router {
        let backend: Arc<dyn Backend> = Arc::<Self>::clone(self);
        let keys = Keys::open(KeyFile::at(&settings.keys_file)).unwrap();
        let media = Media::new(settings, None);
        crate::app(backend, media, settings, keys, drain).unwrap()
    }

    fn note(&self, what: String) {
        self.done.lock().unwrap().push(what);
    }
}

/// Sends a request; returns the status, the headers and the whole answer as text.
pub(crate) async fn send(
    app: &Router,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &Value,
) -> (u16, HeaderMap, String) {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Body::from(body.to_string())).unwrap();
    let (parts, body) = app.clone().oneshot(request).await.unwrap().into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let text = String::from_utf8(body.to_vec()).unwrap();
    (parts.status.as_u16(), parts.headers, text)
}

/// The script of one answer that says these parts, each in an event of its own. Usage: 11 tokens in, 4 cached, one token
/// out for each part.
pub(crate) fn says(parts: &[Part], finish: FinishReason) -> Script {
    let mut events = vec![Ok(Event::Started(Started {
        prompt_tokens: 11,
        cached_tokens: 4,
    }))];
    events.extend(parts.iter().map(|part| {
        Ok(Event::Delta(Delta {
            parts: vec![part.clone()],
            ..Delta::default()
        }))
    }));
    events.push(Ok(Event::Finished { choice: 0, finish }));
    events.push(Ok(Event::Done(Usage {
        prompt_tokens: 11,
        cached_tokens: 4,
        completion_tokens: parts.len(),
        ..Usage::default()
    })));
    Ok(events)
}

/// The script of [`says`] as a device plays it: placed first, with a report at the end.
pub(crate) fn says_on(device: &str, parts: &[Part], finish: FinishReason) -> Script {
    let mut events = says(parts, finish)?;
    let placed = Placed {
        prefill: device.to_owned(),
        decode: device.to_owned(),
    };
    events.insert(0, Ok(Event::Placed(placed)));
    if let Some(Ok(Event::Done(usage))) = events.last_mut() {
        usage.report = Some(Box::new(report(device)));
    }
    Ok(events)
}

/// A report of 7 tokens read and 3 written on a device: 1.5 J in 40 ms and 100 ms.
pub(crate) fn report(device: &str) -> Report {
    let span = |phase, tokens, device_s, joules| Span {
        device: DeviceId(0),
        phase,
        tokens,
        device_s,
        joules: Some(joules),
    };
    Report {
        account: Account {
            spans: vec![
                span(Phase::Prefill, 7, 0.04, 0.5),
                span(Phase::Decode, 3, 0.08, 1.0),
            ],
            queue_s: 0.01,
            ttft_s: Some(0.05),
            prefill_tokens: 7,
            prefill_s: 0.04,
            decode_tokens: 3,
            decode_s: 0.1,
            joules: Some(1.5),
            joules_source: JoulesSource::Measured,
            expected: Some(JobForecast {
                wait_s: 0.01,
                prefill_s: 0.05,
                decode_s: 0.12,
                joules: Some(2.0),
                spread: 1.3,
                ..JobForecast::default()
            }),
            moves: 1,
            replays: 0,
        },
        devices: vec![device.to_owned(); 2],
        ..Report::default()
    }
}

/// The state of a machine with two devices.
pub(crate) fn state(policy: Policy) -> State {
    let device = |id, name: &str, kind| DeviceView {
        id: DeviceId(id),
        name: name.to_owned(),
        chip: "a chip".to_owned(),
        kind,
        state: "ready".to_owned(),
        heat: Heat::default(),
        busy: 0.5,
        beside: 0,
        watts: 15.0,
        watts_source: JoulesSource::Estimated,
        joules_busy: 100.0,
        joules_idle: 10.0,
        prefill_tokens: 7,
        decode_tokens: 3,
        models: Vec::new(),
    };
    State {
        snapshot: Snapshot {
            at: Time::from_seconds(2.0),
            policy,
            power: Power::default(),
            devices: vec![
                device(0, "cpu0", DeviceKind::Cpu),
                device(1, "gpu0", DeviceKind::Gpu),
            ],
            pools: Vec::new(),
            queues: Vec::new(),
            away: Vec::new(),
            jobs: Vec::new(),
            budget: None,
        },
        models: BTreeMap::new(),
        requests: BTreeMap::new(),
        posing: None,
        machine_watts: None,
        compiling: Vec::new(),
    }
}

/// A model called `tiny`.
pub(crate) fn tiny() -> ModelInfo {
    ModelInfo {
        name: "tiny".to_owned(),
        modified: SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000),
        file_bytes: 5_000_000,
        digest: "ab".repeat(32),
        architecture: "llama".to_owned(),
        n_parameter: 9_000_000,
        quantization: "Q8_0".to_owned(),
        n_ctx_train: 512,
        n_embd: 3,
        capabilities: Capabilities {
            chat: true,
            tools: true,
            thinking: false,
        },
    }
}

fn known(model: &str) -> Result<(), ApiError> {
    match model.strip_suffix(":latest").unwrap_or(model) {
        "tiny" => Ok(()),
        _ => Err(ApiError::no_model(model)),
    }
}

impl Backend for Scripted {
    fn submit(&self, job: Job, _: Caller) -> BoxFuture<'_, Result<Answer, ApiError>> {
        let result = known(&job.model).and_then(|()| {
            let script = self.scripts.lock().unwrap().pop_front();
            let events = script.expect("a script for each job")?;
            let (sender, answer) = Answer::channel("tiny", job.n);
            for event in events {
                sender.send(event).expect("the answer is here");
            }
            self.jobs.lock().unwrap().push(job);
            if let Some(held) = &mut *self.held.lock().unwrap() {
                held.push(sender);
            }
            Ok(answer)
        });
        async { result }.boxed()
    }

    fn embed(&self, job: EmbedJob, _: Caller) -> BoxFuture<'_, Result<Embedded, ApiError>> {
        self.embed_jobs.lock().unwrap().push(job.clone());
        let report = self.embed_report.lock().unwrap().clone();
        let result = known(&job.model).map(|()| Embedded {
            vectors: job
                .inputs
                .iter()
                .map(|_| vec![0.6, 0.0, -0.8][..job.dimensions.unwrap_or(3)].to_vec())
                .collect(),
            usage: Usage {
                prompt_tokens: 2 * job.inputs.len(),
                report: report.map(Box::new),
                ..Usage::default()
            },
        });
        async { result }.boxed()
    }

    fn count_tokens(&self, model: String, _: Prompt) -> BoxFuture<'_, Result<usize, ApiError>> {
        async move { known(&model).map(|()| 11) }.boxed()
    }

    fn render(&self, model: String, prompt: ChatPrompt) -> BoxFuture<'_, Result<String, ApiError>> {
        let text = format!("{} messages", prompt.messages.len());
        async move { known(&model).map(|()| text) }.boxed()
    }

    fn load(
        &self,
        model: String,
        keep_alive: Option<KeepAlive>,
    ) -> BoxFuture<'_, Result<(), ApiError>> {
        self.note(format!("load {model} {keep_alive:?}"));
        async move { known(&model) }.boxed()
    }

    fn unload(&self, model: String) -> BoxFuture<'_, Result<(), ApiError>> {
        self.note(format!("unload {model}"));
        async move { known(&model) }.boxed()
    }

    fn models(&self) -> BoxFuture<'_, Result<Vec<ModelInfo>, ApiError>> {
        async { Ok(vec![tiny()]) }.boxed()
    }

    fn show(&self, model: String) -> BoxFuture<'_, Result<ModelDetails, ApiError>> {
        async move {
            known(&model)?;
            let mut metadata = serde_json::Map::new();
            metadata.insert("general.architecture".to_owned(), "llama".into());
            Ok(ModelDetails {
                info: tiny(),
                manifest: Manifest::default(),
                template: Some("{{ messages }}".to_owned()),
                metadata,
                tensors: vec![("output.weight".to_owned(), "Q8_0".to_owned(), vec![3, 4])],
            })
        }
        .boxed()
    }

    fn loaded(&self) -> Vec<LoadedModel> {
        vec![LoadedModel {
            info: tiny(),
            memory_bytes: 6_000_000,
            n_ctx: 512,
            expires: None,
        }]
    }

    fn create(&self, name: String, manifest: Manifest) -> BoxFuture<'_, Result<(), ApiError>> {
        self.note(format!("create {name} from {}", manifest.from));
        async { Ok(()) }.boxed()
    }

    fn copy(&self, from: String, to: String) -> BoxFuture<'_, Result<(), ApiError>> {
        self.note(format!("copy {from} {to}"));
        async move { known(&from) }.boxed()
    }

    fn delete(&self, model: String) -> BoxFuture<'_, Result<(), ApiError>> {
        self.note(format!("delete {model}"));
        async move { known(&model) }.boxed()
    }

    fn library(&self) -> Option<Arc<Library>> {
        self.library.lock().unwrap().clone()
    }

    fn state(&self) -> Option<State> {
        self.policy.lock().unwrap().map(state)
    }

    fn beside(&self, device: &str, class: Class, is_metered: bool) -> Option<Beside> {
        let (log, name) = (Arc::clone(&self.beside), device.to_owned());
        let begun = format!("{device} begins, {class}, metered: {is_metered}");
        log.lock().unwrap().push(begun);
        Some(Beside::new(move |joules| {
            log.lock().unwrap().push(format!("{name} ends: {joules:?}"));
        }))
    }

    fn placements(&self, request_id: &str) -> Option<Vec<Placement>> {
        self.placed.lock().unwrap().get(request_id).cloned()
    }

    fn set_policy(&self, policy: Policy) -> bool {
        let mut own = self.policy.lock().unwrap();
        let known = own.is_some();
        *own = own.map(|_| policy);
        known
    }
}

/// Text in which what differs from run to run, ids and times, does not.
pub(crate) fn redacted(text: &str) -> String {
    const ID_CHARS: usize = 24;
    let random = |text: &str| {
        let chars = text.bytes().take_while(u8::is_ascii_alphanumeric).count();
        chars == ID_CHARS
    };
    let mut redacted = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let (head, tail) = rest.split_at(c.len_utf8());
        redacted.push_str(head);
        rest = tail;
        if head == "_" && random(rest) {
            redacted.push('1');
            rest = &rest[ID_CHARS..];
        }
        if redacted.ends_with("_at\":") {
            let number = rest.trim_start();
            let digits = number.bytes().take_while(u8::is_ascii_digit).count();
            if digits > 0 {
                redacted.push_str(" 1");
                rest = &number[digits..];
            }
        }
    }
    redacted
}

/// A body as people read it, without ids and times.
pub(crate) fn pretty(body: &str) -> String {
    let value: Value = serde_json::from_str(body).expect(body);
    redacted(&serde_json::to_string_pretty(&value).expect("it is JSON"))
}
