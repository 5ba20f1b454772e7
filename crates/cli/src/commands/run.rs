//! `troika run`: one answer, or a conversation.

mod chat;
mod draft;
mod form;
mod once;
mod request;
mod stats;
mod writer;

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use troika_base::ModelSpec;
use troika_engine::{GenerateOptions, Model};
use troika_library::Parameters;

use crate::adapters::AdapterArgs;
use crate::args::{
    DeviceArgs, KvArgs, ModelArgs, SamplingArgs, ThreadArgs, context_length, token_count,
};
use crate::exit::WrongUse;
use crate::home::Home;
use crate::interrupt::Interrupt;
use crate::load::{self, Processor};
use crate::output::Console;

use request::{Request, Task};
use writer::Writer;

/// Write an answer, or chat when no prompt is given
///
/// A model with a chat template answers the prompt; one without, or any model with `--raw`, continues it as a text.
/// Without a prompt this is a chat on a terminal; elsewhere the prompt is read from stdin.
#[derive(Debug, clap::Args)]
#[command(override_usage = "troika run [OPTIONS] [MODEL] [PROMPT]")]
pub(crate) struct RunArgs {
    /// Model: a .gguf file, an installed name, or `stories` for the one inside. A single word that is none of these is
    /// the prompt for the model inside
    #[arg(value_name = "MODEL")]
    first: Option<String>,
    /// What to say to it; `-` reads stdin
    #[arg(value_name = "PROMPT")]
    second: Option<String>,
    #[command(flatten)]
    model: ModelArgs,
    /// Put the contents of FILE after the prompt; `-` reads stdin
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// What the model is told before the conversation
    #[arg(long, value_name = "TEXT", conflicts_with = "raw")]
    system: Option<String>,
    /// Continue the prompt as it is, without the model's chat template
    #[arg(long)]
    raw: bool,
    /// Stop after N tokens [default: where the model ends, or the context]
    #[arg(short = 'n', long, value_name = "N", value_parser = token_count)]
    max_tokens: Option<usize>,
    /// Stop where this text comes up; may be given several times
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// Tokens that the context holds [default: what the model was made for, 8192 at most]
    #[arg(long, value_name = "N", value_parser = context_length)]
    ctx: Option<usize>,
    #[command(flatten)]
    adapters: AdapterArgs,
    #[command(flatten)]
    form: form::FormArgs,
    #[command(flatten)]
    pub(crate) sampling: SamplingArgs,
    #[command(flatten)]
    draft: draft::DraftArgs,
    #[command(flatten)]
    threads: ThreadArgs,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    kv: KvArgs,
}

/// The context when nothing is said: enough for a long conversation, and never gigabytes by surprise.
const CONTEXT_DEFAULT: usize = 8192;

/// What an answer's report tells of where it came from.
struct Origin {
    device: Processor,
    load: Duration,
}

pub(crate) fn run(args: &RunArgs, console: &Console) -> anyhow::Result<()> {
    // What is wrong on the command line is told before anything is read.
    args.sampling.params(&Parameters::default())?;
    if args.stop.iter().any(String::is_empty) {
        return Err(
            WrongUse("--stop: an empty text would stop before the first token".to_owned()).into(),
        );
    }
    let grammar = args.form.grammar()?;
    let home = Home::from_env()?;
    let stdin = io::stdin();
    let request = Request::new(&args.words(), &home, stdin.is_terminal(), &mut stdin.lock())?;
    if let Some(word) = &request.taken_as_prompt {
        console.note(format_args!(
            "note: no model {word:?} is installed; it is taken as a prompt for the model inside"
        ));
    }
    if console.json && request.task == Task::Chat {
        return Err(WrongUse("--json needs a prompt".to_owned()).into());
    }

    let settings = request.source.manifest().cloned().unwrap_or_default();
    let interrupt = Interrupt::install()?;
    let device = Processor::choose(&args.device, args.threads.threads, console)?;
    let file = args.adapters.apply(request.source.open()?)?;
    let spec = troika_engine::model_spec(&file).context("cannot load the model")?;
    if !spec.is_causal {
        let reason =
            "this model reads whole texts and writes none: `troika embed` makes vectors of them";
        return Err(WrongUse(reason.to_owned()).into());
    }
    let n_ctx = n_ctx(args.ctx.or(settings.parameters.n_ctx), &spec, console);
    let (mut model, load) = load::model(
        &file,
        device.device(),
        args.kv.options(n_ctx),
        console,
        &interrupt,
    )?;
    drop(file);
    console.detail(about(&model, load));
    let mut draft_model = args
        .draft
        .model(&home, &device, n_ctx, console, &interrupt)?;
    let drafting = args.draft.drafting(draft_model.as_mut(), &model)?;

    let mut options = args.options(&settings.parameters)?;
    options.grammar = grammar;
    if let Some(grammar) = &options.grammar {
        form::check(grammar, &model)?;
    }
    options.sampling.logit_bias = args.sampling.logit_bias(model.tokenizer())?;
    let origin = Origin { device, load };
    let writer = Writer::new(
        &mut model, options, &settings, args.raw, *console, interrupt,
    )?;
    let writer = writer.with_drafts(drafting);
    check_template(&writer, args, console)?;
    let is_built_in = request.source.is_built_in();
    let system = args.system.clone().or(settings.system);
    match request.task {
        Task::Answer(prompt) => once::run(writer, &prompt, system.as_deref(), &origin, is_built_in),
        Task::Chat => {
            console.note(format_args!(
                "{} · {}",
                origin.device.name(),
                origin.device.description()
            ));
            chat::run(writer, system, is_built_in)
        }
    }
}

impl RunArgs {
    /// How to write: what flags say, else the model's own settings.
    fn options(&self, own: &Parameters) -> Result<GenerateOptions, WrongUse> {
        let stop = if self.stop.is_empty() {
            &own.stop
        } else {
            &self.stop
        };
        Ok(GenerateOptions {
            max_tokens: self.max_tokens.or(own.max_tokens),
            sampling: self.sampling.params(own)?,
            stop: stop.clone(),
            ..GenerateOptions::default()
        })
    }

    fn words(&self) -> request::Words<'_> {
        request::Words {
            model: self.model.model.as_deref(),
            first: self.first.as_deref(),
            second: self.second.as_deref(),
            file: self.file.as_deref(),
        }
    }
}

/// The length of context to load the model with.
fn n_ctx(asked: Option<usize>, spec: &ModelSpec, console: &Console) -> usize {
    let Some(asked) = asked else {
        return spec.n_ctx.min(CONTEXT_DEFAULT);
    };
    if asked > spec.n_ctx {
        console.note(format_args!(
            "note: the model was made for {} tokens of context; beyond them it may lose the thread",
            spec.n_ctx
        ));
    }
    asked
}

fn about(model: &Model, load: Duration) -> String {
    let experts = model.experts_in_file().map_or_else(String::new, |experts| {
        format!(
            " ({} of them for experts, which stay in the file)",
            experts.kept
        )
    });
    format!(
        "{}: {} of weights{experts}, {} of KV cache for {} tokens, loaded in {:.2} s",
        crate::output::line(model.name(), 80),
        model.weights_bytes(),
        model.kv_bytes(),
        model.n_ctx(),
        load.as_secs_f64(),
    )
}

/// A model that cannot chat is told apart from one that was asked not to.
fn check_template(writer: &Writer<'_>, args: &RunArgs, console: &Console) -> anyhow::Result<()> {
    if writer.chats() || args.raw {
        return Ok(());
    }
    if args.system.is_some() {
        let reason =
            "--system: this model has no chat template, so it cannot be told anything beforehand";
        return Err(WrongUse(reason.to_owned()).into());
    }
    console.detail("this model has no chat template: it continues the prompt as a text");
    Ok(())
}
