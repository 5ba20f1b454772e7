//! A question answered by a model, as it comes: to the client as nodes, and into the file.
//!
//! The job is one like any other interface's, so rules, keys, classes and wishes hold for it. From then on a task of its own
//! follows the answer: when the client leaves, the job ends, and what was written is kept.

use std::collections::VecDeque;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::sse::Event as SseEvent;
use futures_util::stream;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use troika_chats::{Draft, Ending, Finish, Message, Params, Renderer, Role, Update, Usage};
use troika_engine::chat::{ChatMessage, ToolCall};

use super::wire::{self, Blocks, ParamFields};
use super::{Chats, Handled, View, Who, caller, now, picker};
use crate::dialect::Dialect;
use crate::fields::required;
use crate::job::{ChatPrompt, Event, FinishReason, Job, Part, Prompt, Sampling};
use crate::wire::{parse, sse, sse_event};
use crate::{Answer, ApiError, ErrorKind};

/// Between two changes of what is shown: two frames of a screen.
const PERIOD: Duration = Duration::from_millis(30);
/// Rendering takes one part in this many of the time at most.
const SHARE: u32 = 20;
/// How long text may be in memory alone. It is on the disk within two seconds of being written.
const SAVE_PERIOD: Duration = Duration::from_millis(1500);
/// Events that wait for the client. One that is slow is told less often, and of more at a time.
const EVENTS: usize = 16;

/// What is asked.
#[derive(Deserialize)]
struct Asked {
    parent: Option<String>,
    content: Option<String>,
    model: Option<String>,
    params: Option<ParamFields>,
}

/// `POST /api/troika/chats/{id}/answer`: a question and its answer, or another answer to a question.
pub(super) async fn answer(
    State(view): State<View>,
    who: Who,
    Path(id): Path<String>,
    body: Bytes,
) -> Handled {
    let asked: Asked = parse(&body)?;
    drop(body);
    let caller = caller(who);
    let owner = caller.key.clone();
    let parent = asked
        .parent
        .map(|parent| wire::message_n(&parent, "parent"));
    let parent = parent.transpose()?;
    let (of, chat_id) = (owner.clone(), id.clone());
    let found = view
        .chats
        .aside(move |store| store.branch(of.as_deref(), &chat_id, parent));
    let (chat, branch) = found.await?;
    let content = checked(asked.content, &branch)?;
    let model = asked.model.map(wire::model).transpose()?.or(chat.model);
    let model = match model {
        Some(model) => model,
        None => required(picker::default(&view).await?, "model")?,
    };
    let params = asked.params.map(ParamFields::checked).transpose()?;
    let job = job(
        model,
        params.unwrap_or(chat.params),
        &branch,
        content.as_deref(),
    );
    let asked = Instant::now();
    let submitted = view.backend.submit(job, caller).await;
    let answer = submitted.map_err(|error| error.renamed("messages", "content"))?;
    let model = answer.model.clone();
    let begun = view.chats.aside(move |store| {
        let owner = owner.as_deref();
        let question = content.map(|content| {
            let draft = Draft {
                parent,
                role: Role::User,
                content,
                model: None,
            };
            store.add(owner, &id, draft, now())
        });
        let question = question.transpose()?;
        let draft = Draft {
            parent: question
                .as_ref()
                .map_or(parent, |question| Some(question.n)),
            role: Role::Assistant,
            content: String::new(),
            model: Some(model),
        };
        let empty = store.add(owner, &id, draft, now())?;
        let told = question
            .iter()
            .map(|question| wire::message(question, Blocks::Told));
        let told: Vec<_> = told
            .chain([wire::message(&empty, Blocks::Absent)])
            .collect();
        Ok((id, empty.n, told))
    });
    let (chat, n, told) = begun.await?;
    let (to, events) = mpsc::channel(EVENTS);
    let mut follower = Follower::new(view.chats, (chat, n), answer, to, asked);
    for message in &told {
        follower.say("message", message);
    }
    tokio::spawn(follower.follow());
    Ok(sse(stream::unfold(events, |mut events| async {
        events.recv().await.map(|event| (event, events))
    })))
}

/// The question that is asked; `None` if it is the last message of the branch.
fn checked(content: Option<String>, branch: &[Message]) -> Result<Option<String>, ApiError> {
    let last = branch.last().map(|message| message.role);
    match (&content, last) {
        (Some(content), _) if content.trim().is_empty() => {
            Err(ApiError::invalid("`content` is empty; there is nothing to answer").at("content"))
        }
        (Some(_), None | Some(Role::Assistant)) | (None, Some(Role::User)) => Ok(content),
        (Some(_), Some(Role::User)) => {
            let message = "a question follows an answer, and `parent` is a question; ask beside it";
            Err(ApiError::invalid(message).at("parent"))
        }
        (None, _) => {
            let message = "without `content`, `parent` is the question that is answered again";
            Err(ApiError::invalid(message).at("parent"))
        }
    }
}

/// The job of a conversation's next answer.
fn job(model: String, params: Params, branch: &[Message], question: Option<&str>) -> Job {
    let system = params
        .system
        .map(|system| ChatMessage::new("system", system));
    let said = branch.iter().map(|message| match message.role {
        Role::User => ChatMessage::new("user", &*message.content),
        Role::Assistant => ChatMessage::new("assistant", &*message.content),
    });
    let question = question.map(|question| ChatMessage::new("user", question));
    let prompt = ChatPrompt {
        messages: system.into_iter().chain(said).chain(question).collect(),
        thinking: params.think,
        ..ChatPrompt::default()
    };
    Job {
        model,
        prompt: Prompt::Chat(Box::new(prompt)),
        n: 1,
        max_tokens: params.max_tokens.map(|tokens| tokens as usize),
        sampling: Sampling {
            temperature: params.temperature.map(|it| it as f32),
            top_k: params.top_k,
            top_p: params.top_p.map(|it| it as f32),
            min_p: params.min_p.map(|it| it as f32),
            seed: params.seed,
            ..Sampling::default()
        },
        ..Job::default()
    }
}

/// Follows an answer to its end.
struct Follower {
    chats: Chats,
    chat: String,
    n: u64,
    answer: Answer,
    to: mpsc::Sender<SseEvent>,
    /// What the client has not taken yet.
    queue: VecDeque<SseEvent>,
    renderer: Renderer,
    reasoning: String,
    /// Bytes of reasoning that were told.
    reasoning_told: usize,
    /// Whether there is something to tell.
    is_new: bool,
    tell_at: Instant,
    /// Bytes of content and reasoning that were handed to the file.
    saved: (usize, usize),
    save_at: Instant,
    saving: Option<JoinHandle<Result<(), ApiError>>>,
    finish: Finish,
    /// When the job was handed over.
    asked: Instant,
    first: Option<Instant>,
}

/// How following ends.
enum End {
    Done(crate::job::Usage),
    Failed(ApiError),
    /// The client has left.
    Left,
}

impl Follower {
    fn new(
        chats: Chats,
        (chat, n): (String, u64),
        answer: Answer,
        to: mpsc::Sender<SseEvent>,
        asked: Instant,
    ) -> Self {
        let begun = Instant::now();
        Self {
            chats,
            chat,
            n,
            answer,
            to,
            queue: VecDeque::new(),
            renderer: Renderer::default(),
            reasoning: String::new(),
            reasoning_told: 0,
            is_new: false,
            tell_at: begun,
            saved: (0, 0),
            save_at: begun + SAVE_PERIOD,
            saving: None,
            finish: Finish::Stop,
            asked,
            first: None,
        }
    }

    async fn follow(mut self) {
        let end = self.until_the_end().await;
        if let End::Left = end {
            // The job ends here and not when the disk is done.
            self.answer = Answer::channel("", 0).1;
        } else {
            self.tell(true).await;
        }
        let ending = self.ending(&end);
        let ended = self.keep(ending).await;
        let last = match (end, ended) {
            (End::Left, _) => return,
            (End::Failed(error), _) | (End::Done(_), Err(error)) => {
                let error = &Dialect::OpenAi.body(&error)["error"];
                let kind = match &error["code"] {
                    Value::Null => &error["type"],
                    code => code,
                };
                sse_event(
                    Some("error"),
                    &json!({"message": error["message"], "kind": kind}),
                )
            }
            (End::Done(_), Ok(message)) => sse_event(Some("done"), &message),
        };
        self.queue.push_back(last);
        for event in self.queue.drain(..) {
            if self.to.send(event).await.is_err() {
                return;
            }
        }
    }

    /// Everything but the end of it.
    async fn until_the_end(&mut self) -> End {
        loop {
            let has_unsaved = self.saved != (self.renderer.text().len(), self.reasoning.len());
            let is_free = self.queue.is_empty();
            let place = self.to.clone().reserve_owned();
            tokio::select! {
                biased;
                () = self.to.closed() => return End::Left,
                Ok(place) = place, if !is_free => {
                    if let Some(event) = self.queue.pop_front() {
                        drop(place.send(event));
                    }
                }
                () = done(&mut self.saving) => {}
                () = sleep_until(self.save_at), if has_unsaved && self.saving.is_none() => self.save(),
                () = sleep_until(self.tell_at), if self.is_new && is_free => self.tell(false).await,
                event = self.answer.next() => match event {
                    Some(Ok(Event::Done(usage))) => return End::Done(usage),
                    Some(Ok(event)) => self.take(event),
                    Some(Err(error)) => return End::Failed(error),
                    None => return End::Failed(ApiError::internal()),
                },
            }
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Delta(delta) => {
                self.first.get_or_insert_with(Instant::now);
                self.is_new = true;
                for part in delta.parts {
                    match part {
                        Part::Content(text) => self.renderer.push(&text),
                        Part::Reasoning(text) => self.reasoning.push_str(&text),
                        Part::ToolCall(call) => self.renderer.push(&as_code(&call)),
                    }
                }
            }
            Event::Finished { finish, .. } => {
                self.finish = match finish {
                    FinishReason::Length => Finish::Length,
                    _ => Finish::Stop,
                };
            }
            Event::Placed(_) | Event::Started(_) | Event::Done(_) => {}
        }
    }

    fn say(&mut self, name: &str, data: &Value) {
        self.queue.push_back(sse_event(Some(name), data));
    }

    /// Tells what is new, on a thread that may take its time.
    async fn tell(&mut self, is_all: bool) {
        self.is_new = false;
        let thought = &self.reasoning[self.reasoning_told..];
        if !thought.is_empty() {
            let told = json!({"text": thought});
            self.reasoning_told = self.reasoning.len();
            self.say("reasoning", &told);
        }
        let begun = Instant::now();
        let mut renderer = std::mem::take(&mut self.renderer);
        let rendered = tokio::task::spawn_blocking(move || {
            let updates = match is_all {
                true => renderer.finish(),
                false => renderer.update(),
            };
            let events: Vec<_> = updates.iter().map(told).collect();
            (renderer, events)
        });
        match rendered.await {
            Ok((renderer, events)) => {
                self.renderer = renderer;
                self.queue.extend(events);
            }
            // Our own mistake, which was reported by its place; the answer goes on from what comes next.
            Err(_) => self.saved.0 = 0,
        }
        self.tell_at = Instant::now() + PERIOD.max(begun.elapsed() * SHARE);
    }

    /// Hands what is new to the file, and does not wait for it.
    fn save(&mut self) {
        let content = self.renderer.text()[self.saved.0..].to_owned();
        let reasoning = self.reasoning[self.saved.1..].to_owned();
        self.saved = (self.renderer.text().len(), self.reasoning.len());
        self.save_at = Instant::now() + SAVE_PERIOD;
        let (chats, chat, n) = (self.chats.clone(), self.chat.clone(), self.n);
        self.saving = Some(tokio::spawn(async move {
            let saved = chats.aside(move |store| store.append(&chat, n, &content, &reasoning));
            saved.await
        }));
    }

    fn ending(&self, end: &End) -> Ending {
        let usage = match end {
            End::Done(usage) => usage,
            End::Left => return Finish::Stopped.into(),
            End::Failed(error) => {
                return Ending {
                    error: Some(error.message.clone()),
                    ..Finish::Error.into()
                };
            }
        };
        let ttft = self.first.map(|first| first - self.asked);
        let wrote = self.first.map(|first| first.elapsed().as_secs_f64());
        let wrote = match usage.decode.as_secs_f64() {
            0.0 => wrote,
            seconds => Some(seconds),
        };
        let rate = wrote.map(|seconds| usage.completion_tokens as f64 / seconds);
        Ending {
            usage: Some(Usage {
                prompt_tokens: usage.prompt_tokens,
                completion_tokens: usage.completion_tokens,
            }),
            ttft_s: ttft.map(|ttft| ttft.as_secs_f64()),
            tokens_per_second: rate.filter(|rate| rate.is_finite()),
            ..self.finish.into()
        }
    }

    /// Writes the rest and the end; returns the whole message. One that was deleted meanwhile is gone, and nobody has to know.
    async fn keep(&mut self, ending: Ending) -> Result<Value, ApiError> {
        if self.saving.is_some() {
            done(&mut self.saving).await;
        }
        let content = self.renderer.text()[self.saved.0..].to_owned();
        let reasoning = self.reasoning[self.saved.1..].to_owned();
        let (chat, n) = (self.chat.clone(), self.n);
        let kept = self.chats.aside(move |store| {
            let appended = match content.is_empty() && reasoning.is_empty() {
                true => Ok(()),
                false => store.append(&chat, n, &content, &reasoning),
            };
            // What could not be added does not keep the answer open.
            let message = store.end(&chat, n, ending)?;
            appended.map(|()| wire::message(&message, Blocks::Absent))
        });
        match kept.await {
            Err(error) if error.kind == ErrorKind::NotFound => {
                let message = "the conversation was deleted while it was answered";
                Err(ApiError::new(ErrorKind::Conflict, message))
            }
            kept => kept,
        }
    }
}

/// Waits until nothing is being saved; forever if nothing is.
async fn done(saving: &mut Option<JoinHandle<Result<(), ApiError>>>) {
    match saving {
        // What went wrong is in the log, and comes again at the end.
        Some(handle) => drop(handle.await),
        None => std::future::pending().await,
    }
    *saving = None;
}

/// A change of what is shown, as an event.
fn told(update: &Update) -> SseEvent {
    match update {
        Update::Blocks { from, blocks } => {
            sse_event(Some("blocks"), &json!({"from": from, "blocks": blocks}))
        }
        Update::Text(text) => sse_event(Some("text"), &json!({"text": text})),
    }
}

/// A call of a tool that nobody offered: shown as it is, and called by nobody.
fn as_code(call: &ToolCall) -> String {
    let call = serde_json::to_string_pretty(call).unwrap_or_default();
    let longest = call.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(3.max(longest + 1));
    format!("\n\n{fence}json\n{call}\n{fence}\n\n")
}
