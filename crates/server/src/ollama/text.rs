//! `/api/generate` and `/api/chat`: requests to jobs.

use std::time::Instant;

use axum::body::Bytes;
use axum::extract::{Extension, State};
use serde::Deserialize;
use serde_json::{Map, Value};
use troika_engine::chat::{ChatMessage, Content, FunctionCall, ToolCall};

use super::answer::{self, Kind};
use super::options::{self, Options, Think};
use super::{Handled, about, caller, required};
use crate::ApiError;
use crate::app::App;
use crate::fields::{Stay, check_parameters};
use crate::job::{Caller, ChatPrompt, Format, Job, KeepAlive, Overflow, Prompt};
use crate::wire::parse;

/// Likeliest tokens that are told at most.
const TOP_LOGPROBS_MAX: usize = 20;

const ROLES: [&str; 5] = ["system", "developer", "user", "assistant", "tool"];

/// A request for text. The two routes share most fields; each passes over the other's.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TextRequest {
    model: Option<String>,
    stream: Option<bool>,
    #[serde(deserialize_with = "options::format")]
    format: Format,
    options: Option<Options>,
    keep_alive: Option<Stay>,
    think: Option<Think>,
    logprobs: Option<bool>,
    top_logprobs: Option<usize>,
    /// Whether a prompt that is too long is cut; it is if nothing is said.
    truncate: Option<bool>,

    // Of `generate`.
    prompt: Option<String>,
    suffix: Option<String>,
    system: Option<String>,
    template: Option<String>,
    raw: Option<bool>,
    images: Option<Vec<Value>>,
    context: Option<Vec<Value>>,

    // Of `chat`.
    messages: Option<Vec<Message>>,
    tools: Option<Vec<Tool>>,
}

/// One turn.
#[derive(Debug, Deserialize)]
struct Message {
    role: String,
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    thinking: Option<String>,
    #[serde(default)]
    images: Option<Vec<Value>>,
    #[serde(default)]
    tool_calls: Option<Vec<Call>>,
    #[serde(default)]
    tool_name: Option<String>,
    #[serde(default)]
    tool_call_id: Option<String>,
}

/// A call that the model made.
#[derive(Debug, Deserialize)]
struct Call {
    #[serde(default)]
    id: Option<String>,
    function: CallFunction,
}

#[derive(Debug, Deserialize)]
struct CallFunction {
    name: String,
    #[serde(default)]
    arguments: Option<Map<String, Value>>,
}

/// A tool; what a function has beside its name is for the template.
#[derive(Debug, Deserialize)]
struct Tool {
    function: ToolFunction,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
struct ToolFunction {
    name: String,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// `POST /api/generate`: one text after one prompt.
pub(super) async fn generate(
    State(app): State<App>,
    extension: Option<Extension<Caller>>,
    body: Bytes,
) -> Handled {
    let started = Instant::now();
    let mut request: TextRequest = parse(&body)?;
    let model = required(request.model.take())?;
    request.refuse_what_is_not_here()?;
    let text = request.prompt.take().unwrap_or_default();
    if text.is_empty() {
        return load(&app, Kind::Generate, &model, request.keep_alive()).await;
    }
    let prompt = request.prompt_of(text);
    let asked = Asked {
        kind: Kind::Generate,
        model,
        started,
    };
    submit(&app, caller(extension), asked, request, prompt).await
}

/// `POST /api/chat`: the next turn of a conversation.
pub(super) async fn chat(
    State(app): State<App>,
    extension: Option<Extension<Caller>>,
    body: Bytes,
) -> Handled {
    let started = Instant::now();
    let mut request: TextRequest = parse(&body)?;
    let model = required(request.model.take())?;
    let messages = request.messages.take().unwrap_or_default();
    if messages.is_empty() {
        return load(&app, Kind::Chat, &model, request.keep_alive()).await;
    }
    let prompt = request.prompt_of_turns(messages)?;
    let asked = Asked {
        kind: Kind::Chat,
        model,
        started,
    };
    submit(&app, caller(extension), asked, request, prompt).await
}

/// The job of one text after one prompt, without doing it.
///
/// # Errors
/// As the route has it, and if there is no prompt: then it is about the model itself.
pub(crate) fn generate_job(body: &Bytes) -> Result<Job, ApiError> {
    let mut request: TextRequest = parse(body)?;
    let model = required(request.model.take())?;
    request.refuse_what_is_not_here()?;
    let text = request.prompt.take().filter(|text| !text.is_empty());
    let prompt = request.prompt_of(text.ok_or_else(|| nothing_asked("prompt"))?);
    request.into_job(model, prompt)
}

/// The job of the next turn of a conversation, without doing it.
///
/// # Errors
/// As the route has it, and if there are no turns: then it is about the model itself.
pub(crate) fn chat_job(body: &Bytes) -> Result<Job, ApiError> {
    let mut request: TextRequest = parse(body)?;
    let model = required(request.model.take())?;
    let turns = request.messages.take().filter(|turns| !turns.is_empty());
    let prompt = request.prompt_of_turns(turns.ok_or_else(|| nothing_asked("messages"))?)?;
    request.into_job(model, prompt)
}

fn nothing_asked(param: &str) -> ApiError {
    let message =
        format!("without `{param}` it loads or unloads the model, and asks nothing of it");
    ApiError::invalid(message).at(param)
}

/// What an answer repeats of its request.
struct Asked {
    kind: Kind,
    model: String,
    started: Instant,
}

async fn submit(
    app: &App,
    caller: Caller,
    asked: Asked,
    request: TextRequest,
    prompt: Prompt,
) -> Handled {
    let Asked {
        kind,
        model,
        started,
    } = asked;
    let stream = request.stream.unwrap_or(true);
    let job = request.into_job(model.clone(), prompt)?;
    let submitted = app.backend.submit(job, caller).await;
    let answer = submitted.map_err(|error| {
        let error = match kind {
            Kind::Generate => error.renamed("messages", "prompt"),
            Kind::Chat => error,
        };
        about(&model, options::renamed(error))
    })?;
    if stream {
        return Ok(answer::stream(kind, model, answer, started).await?);
    }
    Ok(answer::whole(kind, &model, answer, started).await?)
}

/// A request without a prompt is about the model itself: it is loaded, or unloaded if it is to stay for no time.
async fn load(app: &App, kind: Kind, model: &str, keep_alive: Option<KeepAlive>) -> Handled {
    let unload = keep_alive == Some(KeepAlive::For(std::time::Duration::ZERO));
    let (result, reason) = if unload {
        (app.backend.unload(model.to_owned()).await, "unload")
    } else {
        (app.backend.load(model.to_owned(), keep_alive).await, "load")
    };
    result.map_err(|error| about(model, error))?;
    Ok(answer::nothing(kind, model, reason))
}

impl TextRequest {
    fn keep_alive(&self) -> Option<KeepAlive> {
        self.keep_alive.map(Into::into)
    }

    /// Fields of `generate` that are not to be had.
    fn refuse_what_is_not_here(&self) -> Result<(), ApiError> {
        let given = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        if given(&self.template) {
            let why =
                "a request brings no template of its own; make a model with it by /api/create";
            return Err(ApiError::unsupported(why).at("template"));
        }
        if given(&self.suffix) {
            let why = "text is not inserted before a suffix here";
            return Err(ApiError::unsupported(why).at("suffix"));
        }
        no_images(self.images.as_deref(), "images")?;
        if self
            .context
            .as_ref()
            .is_some_and(|tokens| !tokens.is_empty())
        {
            let why = "a context of tokens is not taken; send the conversation to /api/chat";
            return Err(ApiError::unsupported(why).at("context"));
        }
        if self.raw == Some(true) && given(&self.system) {
            let why = "a raw prompt is taken as it is, so there is no place for a system message";
            return Err(ApiError::invalid(why).at("system"));
        }
        Ok(())
    }

    /// What the answer to `generate` follows: a conversation of one turn, or the text as it is.
    fn prompt_of(&self, text: String) -> Prompt {
        if self.raw == Some(true) {
            return Prompt::Rendered(text);
        }
        let system = self.system.iter().filter(|system| !system.is_empty());
        let system = system.map(|system| ChatMessage::new("system", &**system));
        let turns = system.chain([ChatMessage::new("user", text)]);
        self.conversation(turns.collect(), Vec::new())
    }

    /// What the answer to `chat` follows.
    fn prompt_of_turns(&mut self, turns: Vec<Message>) -> Result<Prompt, ApiError> {
        let turns = turns.into_iter().enumerate();
        let turns = turns
            .map(|(i, turn)| turn.into_turn(i))
            .collect::<Result<Vec<_>, _>>()?;
        let tools = self.tools.take().unwrap_or_default();
        let tools = tools.into_iter().enumerate();
        let tools = tools
            .map(|(i, tool)| tool.into_value(i))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(self.conversation(turns, tools))
    }

    fn conversation(&self, messages: Vec<ChatMessage>, tools: Vec<Value>) -> Prompt {
        let last = messages.last();
        let (thinking, effort) = match &self.think {
            None => (None, None),
            Some(Think::Whether(whether)) => (Some(*whether), None),
            Some(Think::Effort(effort)) => (Some(true), Some(effort.clone())),
        };
        Prompt::Chat(Box::new(ChatPrompt {
            continue_last: last
                .is_some_and(|last| last.role == "assistant" && last.tool_calls.is_empty()),
            messages,
            tools,
            parallel_tool_calls: true,
            thinking,
            effort,
            ..ChatPrompt::default()
        }))
    }

    fn into_job(self, model: String, prompt: Prompt) -> Result<Job, ApiError> {
        let top_logprobs = self.top_logprobs.unwrap_or(0);
        if top_logprobs > TOP_LOGPROBS_MAX {
            let why = format!("{top_logprobs} is too many; {TOP_LOGPROBS_MAX} is the most");
            return Err(ApiError::invalid(why).at("top_logprobs"));
        }
        let parameters = self.options.unwrap_or_default().parameters()?;
        Ok(Job {
            model,
            prompt,
            n: 1,
            max_tokens: parameters.max_tokens,
            sampling: options::sampling(&parameters),
            n_ctx: parameters.n_ctx,
            stop: parameters.stop,
            top_logprobs: self.logprobs.unwrap_or(false).then_some(top_logprobs),
            format: self.format,
            overflow: match self.truncate {
                Some(false) => Overflow::Refuse,
                _ => Overflow::Truncate,
            },
            keep_alive: self.keep_alive.map(Into::into),
            ..Job::default()
        })
    }
}

fn no_images(images: Option<&[Value]>, place: impl Into<String>) -> Result<(), ApiError> {
    match images {
        None | Some([]) => Ok(()),
        Some(_) => Err(ApiError::unsupported("images are not understood yet; send text").at(place)),
    }
}

impl Message {
    /// The turn, which is the `index`th.
    fn into_turn(self, index: usize) -> Result<ChatMessage, ApiError> {
        let place = |field: &str| format!("messages[{index}].{field}");
        if !ROLES.contains(&&*self.role) {
            let known = ROLES.join(", ");
            return Err(
                ApiError::invalid(format!("the role must be one of {known}")).at(place("role")),
            );
        }
        no_images(self.images.as_deref(), place("images"))?;
        let calls = self.tool_calls.unwrap_or_default();
        Ok(ChatMessage {
            role: self.role,
            content: Content::Text(self.content.unwrap_or_default()),
            reasoning_content: self.thinking.filter(|thinking| !thinking.is_empty()),
            tool_calls: calls.into_iter().map(Call::into_tool_call).collect(),
            name: self.tool_name,
            tool_call_id: self.tool_call_id,
        })
    }
}

impl Call {
    fn into_tool_call(self) -> ToolCall {
        ToolCall {
            id: self.id.filter(|id| !id.is_empty()),
            kind: "function".to_owned(),
            function: FunctionCall {
                name: self.function.name,
                arguments: Value::Object(self.function.arguments.unwrap_or_default()),
            },
        }
    }
}

impl Tool {
    /// The tool, which is the `index`th, as templates know it.
    fn into_value(self, index: usize) -> Result<Value, ApiError> {
        let parameters = self.function.rest.get("parameters");
        if let Some(parameters) = parameters.filter(|it| !it.is_null()) {
            check_parameters(parameters, &format!("tools[{index}].function.parameters"))?;
        }
        let mut function = Map::new();
        function.insert("name".to_owned(), self.function.name.into());
        function.extend(self.function.rest);
        let mut tool = Map::new();
        tool.insert("type".to_owned(), "function".into());
        tool.extend(self.rest);
        tool.insert("function".to_owned(), function.into());
        Ok(tool.into())
    }
}
