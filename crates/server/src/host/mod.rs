//! The models on this machine, behind the door that the interfaces know.
//!
//! A job's way: [`Host::submit`] finds the model and takes a [`Lease`](shelf::Lease) of it (`shelf.rs` loads it if need
//! be), [`prompt`] renders, encodes and fits the prompt, and the model's thread ([`worker`]) does the rest.

mod prompt;
mod request;
mod shelf;
mod voice;
mod worker;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::{Map, Value};
use troika_base::{Bytes, TokenId};
use troika_device::Device;
use troika_engine::GenerateOptions;
use troika_engine::chat::{AnswerFormat, GrammarContext, RequiredCall};
use troika_engine::constraint::{Constraint, ConstraintError, Grammar, check_schema};
use troika_engine::sampler::{SampleError, SamplingParams};
use troika_library::{Entry, Library, Manifest, Parameters, metadata_json};
use troika_scheduler::single::Limits;

use crate::job::{
    Caller, Capabilities, ChatPrompt, EmbedJob, Embedded, Format, Job, KeepAlive, LoadedModel,
    ModelInfo, Prompt, Sampling, ToolChoice,
};
use crate::{Answer, ApiError, Backend, ErrorKind, ModelDetails};
use prompt::Encoded;
use request::{Request, Work};
use shelf::{Lease, Shelf};
use voice::Style;

/// How often it is looked for models whose time is over.
const TIDY_EVERY: Duration = Duration::from_secs(1);

/// When to try again if too many grammars are being compiled; none takes much longer.
const COMPILER_RETRY_AFTER: Duration = Duration::from_secs(1);

/// What a [`Host`] may do.
#[derive(Clone, Debug)]
pub struct HostSettings {
    /// Tokens of context that models are loaded with; what the model and the memory allow if absent.
    pub n_ctx: Option<usize>,
    /// Tokens that each model's KV cache holds, over all sequences; what seems sensible and fits if absent.
    pub kv_tokens: Option<usize>,
    /// Memory for all models together; what is free if absent.
    pub memory: Option<Bytes>,
    /// Models that are loaded at a time, at most.
    pub models_max: usize,
    /// How long a model stays loaded after its last job.
    pub keep_alive: KeepAlive,
    /// Jobs that wait and run, for each model.
    pub limits: Limits,
}

impl Default for HostSettings {
    fn default() -> Self {
        Self {
            n_ctx: None,
            kv_tokens: None,
            memory: None,
            models_max: 8,
            keep_alive: KeepAlive::For(Duration::from_secs(5 * 60)),
            limits: Limits::default(),
        }
    }
}

/// The models on this machine.
#[derive(Clone)]
pub struct Host {
    library: Arc<Library>,
    shelf: Arc<Shelf>,
}

impl Host {
    /// Serves the library's models on a device. Must be called within a Tokio runtime, which it uses to put idle models
    /// away.
    pub fn new(library: Arc<Library>, device: Arc<dyn Device>, settings: HostSettings) -> Self {
        let shelf = Arc::new(Shelf::new(device, settings));
        let tidied = Arc::downgrade(&shelf);
        tokio::spawn(async move {
            let mut clock = tokio::time::interval(TIDY_EVERY);
            loop {
                clock.tick().await;
                match tidied.upgrade() {
                    Some(shelf) => shelf.put_away_expired(),
                    None => return,
                }
            }
        });
        Self { library, shelf }
    }

    /// Runs what reads files, renders or encodes on a thread where it may take its time.
    async fn aside<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Library) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let library = Arc::clone(&self.library);
        let done = tokio::task::spawn_blocking(move || work(&library)).await;
        done.unwrap_or_else(|_| {
            tracing::error!("a request panicked");
            Err(ApiError::internal())
        })
    }

    async fn find(&self, model: String) -> Result<(Entry, ModelInfo), ApiError> {
        self.aside(move |library| {
            let entry = library.find(&model).map_err(|error| from_library(&error))?;
            let info = info(&entry)?;
            Ok((entry, info))
        })
        .await
    }

    async fn lease(&self, model: String, keep_alive: Option<KeepAlive>) -> Result<Lease, ApiError> {
        let (entry, info) = self.find(model).await?;
        self.shelf.lease(entry, info, keep_alive).await
    }

    async fn start(&self, job: Job, caller: Caller) -> Result<Answer, ApiError> {
        let arrived = Instant::now();
        let lease = self.lease(job.model.clone(), job.keep_alive).await?;
        let load = arrived.elapsed();
        let (events, answer) = Answer::channel(lease.info.name.clone(), job.n);
        self.aside(move |_| {
            let n_ctx = job
                .n_ctx
                .map_or(lease.n_ctx, |n_ctx| n_ctx.min(lease.n_ctx));
            let max_tokens = job.max_tokens.or(lease.manifest.parameters.max_tokens);
            let encoded = prompt::encode(&lease, &job.prompt, job.overflow, n_ctx, max_tokens)?;
            let style = style(&lease, &job, &encoded, max_tokens)?;
            // What is out of range is refused before it is queued.
            check_sampling(&style.options.sampling, lease.tokenizer.n_vocab())?;
            let request = Request {
                tokens: encoded.tokens,
                work: Work::Write {
                    n: job.n,
                    style: Box::new(style),
                    events,
                },
                n_ctx,
                namespace: namespace(&caller),
                arrived,
                load,
                lease,
            };
            request.send()
        })
        .await?;
        Ok(answer)
    }

    async fn embed_all(&self, job: EmbedJob, caller: Caller) -> Result<Embedded, ApiError> {
        let arrived = Instant::now();
        let lease = Arc::new(self.lease(job.model.clone(), job.keep_alive).await?);
        let load = arrived.elapsed();
        if let Some(dimensions) = job.dimensions
            && !(1..=lease.info.n_embd).contains(&dimensions)
        {
            let message = format!("{dimensions} is not between 1 and {}", lease.info.n_embd);
            return Err(ApiError::invalid(message).at("dimensions"));
        }
        let owner = Arc::clone(&lease);
        let (inputs, overflow) = (job.inputs, job.overflow);
        let encoded = self.aside(move |_| {
            let encode = |input| prompt::encode(&owner, input, overflow, owner.n_ctx, Some(1));
            inputs.iter().map(encode).collect::<Result<Vec<_>, _>>()
        });
        let encoded = encoded.await?;
        let mut embedded = Embedded::default();
        embedded.usage.load = load;
        let mut pending = Vec::with_capacity(encoded.len());
        for input in encoded {
            embedded.usage.prompt_tokens += input.tokens.len();
            let (vector, done) = tokio::sync::oneshot::channel();
            let request = Request {
                tokens: input.tokens,
                work: Work::Embed { vector },
                n_ctx: lease.n_ctx,
                namespace: namespace(&caller),
                arrived,
                load,
                lease: lease.again(),
            };
            request.send()?;
            pending.push(done);
        }
        for done in pending {
            let mut vector = done.await.unwrap_or_else(|_| Err(ApiError::internal()))?;
            if let Some(dimensions) = job.dimensions {
                vector = troika_engine::shorten(vector, dimensions);
            }
            embedded.vectors.push(vector);
        }
        embedded.usage.prefill = arrived.elapsed().saturating_sub(load);
        Ok(embedded)
    }
}

impl Backend for Host {
    fn submit(&self, job: Job, caller: Caller) -> BoxFuture<'_, Result<Answer, ApiError>> {
        self.start(job, caller).boxed()
    }

    fn embed(&self, job: EmbedJob, caller: Caller) -> BoxFuture<'_, Result<Embedded, ApiError>> {
        self.embed_all(job, caller).boxed()
    }

    fn count_tokens(
        &self,
        model: String,
        prompt: Prompt,
    ) -> BoxFuture<'_, Result<usize, ApiError>> {
        async move {
            let lease = self.lease(model, None).await?;
            let count = move |_: &Library| {
                prompt::encode_whole(&lease, &prompt).map(|encoded| encoded.tokens.len())
            };
            self.aside(count).await
        }
        .boxed()
    }

    fn render(&self, model: String, prompt: ChatPrompt) -> BoxFuture<'_, Result<String, ApiError>> {
        async move {
            let lease = self.lease(model, None).await?;
            let render = move |_: &Library| {
                let name = &lease.info.name;
                prompt::render(&lease, &prompt)?.ok_or_else(|| {
                    ApiError::unsupported(format!("model `{name}` has no chat template"))
                })
            };
            self.aside(render).await
        }
        .boxed()
    }

    fn load(
        &self,
        model: String,
        keep_alive: Option<KeepAlive>,
    ) -> BoxFuture<'_, Result<(), ApiError>> {
        async move { self.lease(model, keep_alive).await.map(drop) }.boxed()
    }

    fn unload(&self, model: String) -> BoxFuture<'_, Result<(), ApiError>> {
        async move {
            let find = move |library: &Library| library.find(&model).map_err(|e| from_library(&e));
            self.shelf.remove(&self.aside(find).await?.name);
            Ok(())
        }
        .boxed()
    }

    fn models(&self) -> BoxFuture<'_, Result<Vec<ModelInfo>, ApiError>> {
        self.aside(|library| {
            let entries = library.list().map_err(|error| from_library(&error))?;
            // A file that is damaged is no model; asking for it says what is wrong.
            Ok(entries
                .iter()
                .filter_map(|entry| info(entry).ok())
                .collect())
        })
        .boxed()
    }

    fn show(&self, model: String) -> BoxFuture<'_, Result<ModelDetails, ApiError>> {
        self.aside(move |library| {
            let entry = library.find(&model).map_err(|error| from_library(&error))?;
            details(&entry)
        })
        .boxed()
    }

    fn loaded(&self) -> Vec<LoadedModel> {
        self.shelf.loaded()
    }

    fn create(&self, name: String, manifest: Manifest) -> BoxFuture<'_, Result<(), ApiError>> {
        self.aside(move |library| {
            let created = library.create(&name, manifest);
            created.map(drop).map_err(|error| from_library(&error))
        })
        .boxed()
    }

    fn copy(&self, from: String, to: String) -> BoxFuture<'_, Result<(), ApiError>> {
        self.aside(move |library| {
            let copied = library.copy(&from, &to);
            copied.map(drop).map_err(|error| from_library(&error))
        })
        .boxed()
    }

    fn delete(&self, model: String) -> BoxFuture<'_, Result<(), ApiError>> {
        async move {
            // Not found by its file, which may be damaged.
            let deleted =
                move |library: &Library| library.delete(&model).map_err(|e| from_library(&e));
            let name = self.aside(deleted).await?;
            self.shelf.remove(&name);
            Ok(())
        }
        .boxed()
    }

    fn library(&self) -> Option<Arc<Library>> {
        Some(Arc::clone(&self.library))
    }
}

/// Prompts are cached for each key alone: how fast an answer begins would tell what others asked.
fn namespace(caller: &Caller) -> String {
    caller.key.clone().unwrap_or_default()
}

/// How the answers to a job are written.
fn style(
    model: &Lease,
    job: &Job,
    encoded: &Encoded,
    max_tokens: Option<usize>,
) -> Result<Style, ApiError> {
    let defaults = &model.manifest.parameters;
    let mut stop = job.stop.clone();
    stop.extend(defaults.stop.iter().filter(|s| !s.is_empty()).cloned());
    let chat = match &job.prompt {
        Prompt::Chat(chat) => Some(chat),
        _ => None,
    };
    let tools =
        chat.is_some_and(|chat| !chat.tools.is_empty() && chat.tool_choice != ToolChoice::Never);
    let parser = chat.filter(|_| model.template.is_some());
    let parser = parser.map(|chat| {
        let tools: &[Value] = if tools { &chat.tools } else { &[] };
        model.format.parser(&encoded.tail, tools)
    });
    let call = match chat {
        Some(chat) if tools => required_call(model, chat, &encoded.tail)?,
        _ => None,
    };
    let constraint = match (call, grammar_of(&job.format)) {
        (Some(call), _) => Some(compile(model, &call, "tools")?),
        (None, Some(form)) => Some(compile(model, &form, "format")?),
        (None, None) => None,
    };
    Ok(Style {
        options: GenerateOptions {
            max_tokens,
            sampling: sampling(&job.sampling, defaults),
            stop,
            from_start: chat.is_some() && model.template.is_some(),
            top_logprobs: job.top_logprobs.unwrap_or(0),
            ignore_end: job.ignore_end,
            show: markers(model, parser.is_some()),
            ..GenerateOptions::default()
        },
        parser,
        constraint,
        logprobs: job.top_logprobs.is_some(),
    })
}

/// The control tokens that tell the parts of an answer apart, for an answer that has parts.
fn markers(model: &Lease, has_parts: bool) -> Arc<[TokenId]> {
    let marks = model.format.markers().iter().filter(|_| has_parts);
    let tokens = marks.filter_map(|mark| model.tokenizer.token_id(mark));
    tokens.collect()
}

/// Refuses numbers out of range, and biases of tokens that are not there.
fn check_sampling(params: &SamplingParams, n_vocab: usize) -> Result<(), ApiError> {
    let mut biased = params.logit_bias.iter().map(|&(token, _)| token);
    let checked = match biased.find(|token| token.index() >= n_vocab) {
        Some(token) => Err(SampleError::UnknownToken { token, n_vocab }),
        None => params.validate(),
    };
    checked.map_err(|error| {
        let field = match error {
            SampleError::OutOfRange { field, .. } => field,
            _ => "logit_bias",
        };
        ApiError::invalid(error.to_string()).at(field)
    })
}

/// The grammar of a call that the model has to make.
fn required_call(
    model: &Lease,
    chat: &ChatPrompt,
    prompt_tail: &str,
) -> Result<Option<Grammar>, ApiError> {
    let choice = match &chat.tool_choice {
        ToolChoice::Auto | ToolChoice::Never => return Ok(None),
        ToolChoice::Required => RequiredCall::OneOf,
        ToolChoice::Function(name) => RequiredCall::Named(name.clone()),
    };
    check_callable(&chat.tools, &chat.tool_choice)?;
    // One that is named is called once.
    let parallel = chat.parallel_tool_calls && choice == RequiredCall::OneOf;
    let token = |mark: &str| model.tokenizer.token_id(mark);
    let context = GrammarContext {
        prompt_tail,
        token: &token,
    };
    match model
        .format
        .tool_grammar(&chat.tools, &choice, parallel, context)
    {
        Some(lark) => Ok(Some(Grammar::Calls(lark))),
        None => Err(ApiError::unsupported(format!(
            "`{}` cannot be made to call a tool: the form of its calls is not known; use `auto`",
            model.info.name
        ))
        .at("tool_choice")),
    }
}

/// Refuses parameters that arguments cannot be held to. They may be shown to a model all the same, so where it need not
/// call a tool, nobody asks.
fn check_callable(tools: &[Value], choice: &ToolChoice) -> Result<(), ApiError> {
    for tool in tools {
        let function = &tool["function"];
        let name = function["name"].as_str().unwrap_or_default();
        let may_be_called = match choice {
            ToolChoice::Function(wanted) => wanted == name,
            _ => true,
        };
        if let (true, Some(schema)) = (may_be_called, function.get("parameters")) {
            check_schema(schema).map_err(|error| {
                let message = format!("the parameters of `{name}`: {error}");
                ApiError::invalid(message).at("tools")
            })?;
        }
    }
    Ok(())
}

fn grammar_of(format: &Format) -> Option<Grammar> {
    Some(match format {
        Format::Text => return None,
        Format::JsonObject => Grammar::JsonObject,
        Format::JsonSchema(schema) => Grammar::JsonSchema(schema.clone()),
        Format::Regex(regex) => Grammar::Regex(regex.clone()),
        Format::Lark(lark) => Grammar::Lark(lark.clone()),
    })
}

/// A grammar's constraint; `field` of the job is where the grammar comes from.
fn compile(model: &Lease, grammar: &Grammar, field: &str) -> Result<Constraint, ApiError> {
    let compiled = model.constraints()?.compile(grammar);
    compiled.map_err(|error| match error {
        ConstraintError::Busy { .. } => {
            let retry_after = COMPILER_RETRY_AFTER;
            ApiError::new(ErrorKind::Unavailable { retry_after }, error.to_string())
        }
        error if error.is_bad_grammar() => ApiError::invalid(error.to_string()).at(field),
        error => {
            tracing::error!(%error, "a grammar was not compiled");
            ApiError::internal()
        }
    })
}

/// What was asked for, over the model's defaults, over the engine's.
fn sampling(asked: &Sampling, model: &Parameters) -> SamplingParams {
    let engine = SamplingParams::default();
    macro_rules! first {
        ($field:ident) => {
            asked.$field.or(model.$field).unwrap_or(engine.$field)
        };
    }
    let bias = asked.logit_bias.iter();
    SamplingParams {
        temperature: first!(temperature),
        top_k: first!(top_k),
        top_p: first!(top_p),
        min_p: first!(min_p),
        repeat_penalty: first!(repeat_penalty),
        repeat_last_n: first!(repeat_last_n),
        presence_penalty: first!(presence_penalty),
        frequency_penalty: first!(frequency_penalty),
        logit_bias: bias.map(|&(id, bias)| (TokenId(id), bias)).collect(),
        seed: asked.seed.or(model.seed),
    }
}

fn info(entry: &Entry) -> Result<ModelInfo, ApiError> {
    let summary = entry.summary().map_err(|error| from_library(&error))?;
    let template = entry
        .manifest
        .template
        .as_ref()
        .or(summary.template.as_ref());
    let format = template.map(|source| AnswerFormat::of(source));
    Ok(ModelInfo {
        name: entry.name.clone(),
        modified: entry.modified,
        file_bytes: entry.file_bytes,
        digest: entry.digest(),
        architecture: summary.architecture.clone(),
        n_parameter: summary.n_parameter,
        quantization: summary.quantization.clone(),
        n_ctx_train: summary.n_ctx_train,
        n_embd: summary.n_embd,
        capabilities: Capabilities {
            chat: template.is_some(),
            tools: format.as_ref().is_some_and(AnswerFormat::knows_tools),
            thinking: format.as_ref().is_some_and(AnswerFormat::knows_thinking),
        },
    })
}

fn details(entry: &Entry) -> Result<ModelDetails, ApiError> {
    let info = info(entry)?;
    let file = entry.open().map_err(|error| from_library(&error))?;
    let values = file.metadata().iter();
    let values = values.map(|(key, value)| (key.to_owned(), metadata_json(value)));
    let metadata: Map<String, Value> = values.collect();
    let in_file = file.metadata().opt_str("tokenizer.chat_template");
    let in_file = in_file.ok().flatten().map(str::to_owned);
    let tensors = file.tensors().iter();
    Ok(ModelDetails {
        info,
        manifest: entry.manifest.clone(),
        template: entry.manifest.template.clone().or(in_file),
        metadata,
        tensors: tensors
            .map(|tensor| {
                (
                    tensor.name.clone(),
                    tensor.dtype.to_string(),
                    tensor.shape.clone(),
                )
            })
            .collect(),
    })
}

fn from_library(error: &troika_library::Error) -> ApiError {
    use troika_library::Error;
    let kind = match error {
        Error::NotFound { .. } => ErrorKind::ModelNotFound,
        Error::NoBlob { .. } => ErrorKind::NotFound,
        Error::Damaged { .. } | Error::Conflict(_) | Error::Model { .. } => ErrorKind::Conflict,
        Error::TooLarge { .. } => ErrorKind::TooLarge,
        Error::Io { .. } => {
            tracing::error!(?error, "the library cannot be read or written");
            ErrorKind::Internal
        }
        _ => ErrorKind::Invalid,
    };
    let told = ApiError::new(kind, error.to_string());
    match kind {
        ErrorKind::ModelNotFound => told.at("model"),
        _ => told,
    }
}
