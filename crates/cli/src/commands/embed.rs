//! `troika embed`: texts to vectors.

use std::io::{self, IsTerminal as _, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use serde::Serialize;
use troika_base::TokenId;
use troika_device::{Device as _, LoadOptions};
use troika_engine::tokenizer::EncodeOptions;
use troika_engine::{CpuDevice, Model, Pooling, shorten};
use troika_library::Error::NotFound;
use troika_media::embed as encoder;

use crate::always_on::{Running, WayArgs};
use crate::args::{ModelArgs, ThreadArgs, bounded, context_length};
use crate::exit::{Interrupted, WrongUse};
use crate::home::Home;
use crate::interrupt::Interrupt;
use crate::load;
use crate::model::{self, Found, Source};
use crate::output::{self, Console, number};
use crate::progress::{Progress, Unit};

/// Turn texts into vectors, near each other if the texts mean something alike
///
/// Without texts, every line of stdin is one. Each vector has length 1 and is printed as a line of numbers. A model that
/// was not made for this gives vectors, too; they tell less. An encoder (BERT) in a folder as Hugging Face has it, or in
/// an ONNX file in one, runs on the NPU if there is one.
#[derive(Debug, clap::Args)]
#[command(override_usage = "troika embed [OPTIONS] [MODEL] [TEXT]...")]
pub(crate) struct EmbedArgs {
    /// Model: a .gguf file, an installed name, an encoder's folder or .onnx file, or `stories` for the one inside. A single
    /// word that is none of these is a text for the model inside
    #[arg(value_name = "MODEL")]
    first: Option<String>,
    /// Texts
    #[arg(value_name = "TEXT")]
    others: Vec<String>,
    #[command(flatten)]
    model: ModelArgs,
    /// How the tokens of a text become one vector [default: what the model was made for, or its last token]
    #[arg(long, value_name = "HOW")]
    pooling: Option<PoolingArg>,
    /// Keep only the first N numbers of a vector, scaled to length 1 again
    #[arg(long, value_name = "N", value_parser = dimension_count)]
    dimensions: Option<usize>,
    /// Tokens that the context holds [default: what the model was made for, 8192 at most]
    #[arg(long, value_name = "N", value_parser = context_length)]
    ctx: Option<usize>,
    #[command(flatten)]
    threads: ThreadArgs,
    #[command(flatten)]
    way: WayArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum PoolingArg {
    Mean,
    First,
    Last,
}

impl From<PoolingArg> for Pooling {
    fn from(arg: PoolingArg) -> Self {
        match arg {
            PoolingArg::Mean => Self::Mean,
            PoolingArg::First => Self::First,
            PoolingArg::Last => Self::Last,
        }
    }
}

/// The context when nothing is said: long enough for most texts, and never gigabytes by surprise.
const CONTEXT_DEFAULT: usize = 8192;

/// More text on stdin than this is a mistake: what comes of it would not fit into memory.
const STDIN_BYTES_MAX: u64 = 64 << 20;

fn dimension_count(text: &str) -> Result<usize, String> {
    bounded(text, 1, 1 << 20)
}

/// What `--json` prints for each text, in a list.
#[derive(Serialize)]
struct Embedding {
    index: usize,
    tokens: usize,
    embedding: Vec<f32>,
}

pub(crate) fn run(args: &EmbedArgs, console: &Console) -> anyhow::Result<()> {
    if let Some((path, texts)) = args.encoder() {
        return by_encoder(args, &path, or_stdin(texts)?, console);
    }
    if args.way.library.is_some()
        || !matches!(args.way.device.as_deref(), None | Some("any" | "cpu0"))
    {
        return Err(WrongUse(
            "--device and --library are for encoders; a GGUF model gives vectors on cpu0"
                .to_owned(),
        )
        .into());
    }
    let (source, texts) = args.sort(&Home::from_env()?)?;
    let texts = or_stdin(texts)?;
    let file = source.open()?;
    let spec = troika_engine::model_spec(&file).context("cannot load the model")?;
    if let Some(dimensions) = args.dimensions.filter(|&n| n > spec.n_embd) {
        return Err(WrongUse(format!(
            "--dimensions {dimensions}: the model's vectors have {}",
            spec.n_embd
        ))
        .into());
    }
    let n_ctx = args.ctx.unwrap_or(spec.n_ctx.min(CONTEXT_DEFAULT));

    let interrupt = Interrupt::install()?;
    let device = load::cpu(args.threads.threads)?;
    let (mut model, _) = load::model(&file, &device, LoadOptions::new(n_ctx), console, &interrupt)?;
    drop(file);
    let texts = encode(&model, &texts)?;
    let pooling = args.pooling.map_or(model.pooling(), Pooling::from);
    let vectors = embed(&mut model, &texts, pooling, console, &interrupt)?;
    let tokens = texts.iter().map(Vec::len);
    answer(args, tokens.zip(vectors).collect(), console)?;
    console.detail(format_args!("{} · {}", device.name(), device.description()));
    Ok(())
}

/// Prints texts' vectors, each with the number of its tokens.
fn answer(
    args: &EmbedArgs,
    vectors: Vec<(usize, Vec<f32>)>,
    console: &Console,
) -> anyhow::Result<()> {
    let embeddings = vectors.into_iter().enumerate();
    let embeddings = embeddings.map(|(index, (tokens, vector))| {
        let dimensions = args.dimensions.unwrap_or(vector.len());
        Embedding {
            index,
            tokens,
            embedding: shorten(vector, dimensions),
        }
    });
    if console.json {
        return output::json_line(&embeddings.collect::<Vec<_>>());
    }
    for embedding in embeddings {
        let numbers: Vec<_> = embedding.embedding.iter().map(f32::to_string).collect();
        output::answer(numbers.join(" ") + "\n")?;
    }
    Ok(())
}

/// Texts' vectors by an encoder that is no GGUF file.
fn by_encoder(
    args: &EmbedArgs,
    path: &Path,
    texts: Vec<String>,
    console: &Console,
) -> anyhow::Result<()> {
    if args.pooling.is_some() || args.ctx.is_some() {
        return Err(WrongUse(
            "--pooling and --ctx are for GGUF models; an encoder's folder says what it was made for"
                .to_owned(),
        )
        .into());
    }
    let threads = args.threads.threads;
    let wish = args
        .way
        .wish(threads.unwrap_or_else(CpuDevice::default_threads))?;
    let mut model = encoder::Model::open(path, &wish).context("cannot load the model")?;
    for (way, why) in model.lost() {
        console.detail(format_args!("not by {way}: {why}"));
    }
    let mut running = Running::start(model.executor());
    let interrupt = Interrupt::install()?;
    let mut bar = Progress::new(console, "embedding", Unit::Texts);
    let mut vectors = Vec::with_capacity(texts.len());
    for (number, text) in (1..).zip(&texts) {
        let embedding = running.timed(|| model.embed(text));
        let embedding = embedding.with_context(|| format!("cannot embed text {number}"))?;
        let n_embd = embedding.vector.len();
        if let Some(dimensions) = args.dimensions.filter(|&n| n > n_embd) {
            return Err(WrongUse(format!(
                "--dimensions {dimensions}: the model's vectors have {n_embd}"
            ))
            .into());
        }
        vectors.push((embedding.tokens, embedding.vector));
        bar.update(number, texts.len() as u64);
        if interrupt.is_set() {
            bar.clear();
            return Err(Interrupted.into());
        }
    }
    bar.clear();
    answer(args, vectors, console)?;
    let ran = running.finish();
    console.note(format_args!(
        "{} text{} in {} s · {ran}",
        texts.len(),
        if texts.len() == 1 { "" } else { "s" },
        number(ran.seconds)
    ));
    Ok(())
}

/// The texts that are given, or else stdin's lines.
fn or_stdin(texts: Vec<String>) -> anyhow::Result<Vec<String>> {
    if !texts.is_empty() {
        return Ok(texts);
    }
    let stdin = io::stdin();
    if stdin.is_terminal() {
        return Err(WrongUse("there is no text: give some after the model".to_owned()).into());
    }
    lines(&mut stdin.lock())
}

/// Whether a path is an encoder's: a folder with its configuration, or an ONNX file.
fn is_encoder(path: &Path) -> bool {
    match path.is_dir() {
        true => path.join("config.json").is_file() || path.join("model.onnx").is_file(),
        false => path
            .extension()
            .is_some_and(|extension| extension == "onnx"),
    }
}

impl EmbedArgs {
    /// The encoder that is asked for, if it is one, and the texts.
    fn encoder(&self) -> Option<(PathBuf, Vec<String>)> {
        let first = self.first.iter();
        let (path, texts): (&String, Vec<String>) = match &self.model.model {
            Some(path) => (path, first.chain(&self.others).cloned().collect()),
            None => (self.first.as_ref()?, self.others.clone()),
        };
        let path = Path::new(path);
        is_encoder(path).then(|| (path.to_owned(), texts))
    }

    /// Which word is the model, and which are texts.
    fn sort(&self, home: &Home) -> anyhow::Result<(Source, Vec<String>)> {
        let words = || self.first.iter().chain(&self.others).cloned().collect();
        if let Some(name) = &self.model.model {
            return Ok((model::need(name, home)?, words()));
        }
        let Some(first) = &self.first else {
            return Ok((Source::BuiltIn, Vec::new()));
        };
        match model::find(first, home) {
            Found::Model(source) => Ok((source, self.others.clone())),
            Found::NoSuchFile => Err(model::no_such_file(first)),
            Found::Other(NotFound { .. }) if self.others.is_empty() => {
                Ok((Source::BuiltIn, words()))
            }
            Found::Other(_) => Ok((model::need(first, home)?, self.others.clone())),
        }
    }
}

/// The lines that have something in them.
fn lines(from: &mut dyn Read) -> anyhow::Result<Vec<String>> {
    let mut text = String::new();
    let read = from.take(STDIN_BYTES_MAX + 1).read_to_string(&mut text);
    if read.context("cannot read stdin")? as u64 > STDIN_BYTES_MAX {
        bail!("stdin has more than {} MiB of text", STDIN_BYTES_MAX >> 20);
    }
    let lines: Vec<_> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(str::to_owned)
        .collect();
    match lines.is_empty() {
        true => {
            Err(WrongUse("there is no text: none is given, and stdin is empty".to_owned()).into())
        }
        false => Ok(lines),
    }
}

/// Every text's tokens, as many as the context holds at most.
fn encode(model: &Model, texts: &[String]) -> anyhow::Result<Vec<Vec<TokenId>>> {
    let options = EncodeOptions {
        add_special: true,
        parse_special: false,
    };
    let mut encoded = Vec::with_capacity(texts.len());
    for (number, text) in (1..).zip(texts) {
        let tokens = model.tokenizer().encode(text, options);
        if tokens.is_empty() {
            bail!("text {number} is empty, and so has no vector");
        }
        if tokens.len() > model.n_ctx() {
            bail!(
                "text {number} has {} tokens and the context holds {}; shorten it or take a larger context (`--ctx`)",
                tokens.len(),
                model.n_ctx()
            );
        }
        encoded.push(tokens);
    }
    Ok(encoded)
}

fn embed(
    model: &mut Model,
    texts: &[Vec<TokenId>],
    pooling: Pooling,
    console: &Console,
    interrupt: &Interrupt,
) -> anyhow::Result<Vec<Vec<f32>>> {
    let texts: Vec<&[TokenId]> = texts.iter().map(Vec::as_slice).collect();
    let mut bar = Progress::new(console, "embedding", Unit::Texts);
    let mut on_progress = |done: usize| {
        bar.update(done as u64, texts.len() as u64);
        interrupt.flow(())
    };
    let embedded = model.embed(&texts, pooling, &mut on_progress);
    bar.clear();
    if interrupt.is_set() {
        return Err(Interrupted.into());
    }
    embedded.context("cannot embed")
}
