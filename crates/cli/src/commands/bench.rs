//! `troika bench`: how fast a model reads and writes here, and how fast this machine would let it.

mod measure;
mod plan;
mod report;
mod roofline;

use std::time::{Duration, Instant};

use troika_engine::CpuDevice;
use troika_gguf::ModelFile;
use troika_library::Formats;

use crate::adapters::AdapterArgs;
use crate::args::{DeviceArgs, KvArgs, ModelArgs, bounded, thread_count, token_count};
use crate::exit::WrongUse;
use crate::home::Home;
use crate::interrupt::Interrupt;
use crate::load::{self, Processor};
use crate::model::{self, Source};
use crate::output::{self, Console};
use crate::weights::TokenCost;

use measure::Bench;
use plan::{Matrix, Test};
pub(crate) use report::Row;
use report::{Report, Setting};
use roofline::Roofline;

/// Measure how fast a model reads a prompt (pp) and writes an answer (tg)
///
/// Each number may be several with commas; every combination is measured. Before each test comes a warm-up that does
/// not count.
#[derive(Debug, clap::Args)]
pub(crate) struct BenchArgs {
    /// Model: a .gguf file, an installed name, or `stories` for the one inside, which is the default
    #[arg(value_name = "MODEL")]
    word: Option<String>,
    #[command(flatten)]
    model: ModelArgs,
    /// Tokens of a prompt to read; 0 leaves the test out
    #[arg(short, long, value_name = "N", value_delimiter = ',', default_value = "512", value_parser = token_count)]
    prompt_tokens: Vec<usize>,
    /// Tokens to write; 0 leaves the test out
    #[arg(short = 'n', long, value_name = "N", value_delimiter = ',', default_value = "128", value_parser = token_count)]
    max_tokens: Vec<usize>,
    /// Tokens that are in the context before the test
    #[arg(short, long, value_name = "N", value_delimiter = ',', default_value = "0", value_parser = token_count)]
    depth: Vec<usize>,
    /// Sequences that are read or written side by side
    #[arg(short, long, value_name = "N", value_delimiter = ',', default_value = "1", value_parser = batch_size)]
    batch: Vec<usize>,
    /// Threads [default: one for each physical core]
    #[arg(short, long, value_name = "N", value_delimiter = ',', value_parser = thread_count)]
    threads: Vec<usize>,
    /// How often each test is repeated
    #[arg(short, long, value_name = "N", default_value = "5", value_parser = round_count)]
    rounds: usize,
    /// Measure this machine's read bandwidth and matrix peak too, and tell what part of them each test reached
    #[arg(long)]
    roofline: bool,
    /// Answer in CSV
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    #[command(flatten)]
    adapters: AdapterArgs,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    kv: KvArgs,
}

fn batch_size(text: &str) -> Result<usize, String> {
    bounded(text, 1, 1024)
}

fn round_count(text: &str) -> Result<usize, String> {
    bounded(text, 1, 1000)
}

pub(crate) fn run(args: &BenchArgs, console: &Console) -> anyhow::Result<()> {
    let source = args.source()?;
    let tests = Matrix {
        prompts: &args.prompt_tokens,
        answers: &args.max_tokens,
        depths: &args.depth,
        batches: &args.batch,
    }
    .tests();
    if tests.is_empty() && !args.roofline {
        return Err(WrongUse("nothing is left to measure: -p and -n are both 0".to_owned()).into());
    }
    let interrupt = Interrupt::install()?;
    let threads = match &*args.threads {
        [] => vec![CpuDevice::default_threads()],
        asked => asked.to_vec(),
    };
    let mut report = Report::default();
    let job = Job {
        source: &source,
        tests: &tests,
        rounds: args.rounds,
        adapters: &args.adapters,
        device: &args.device,
        kv: &args.kv,
        console: *console,
        interrupt,
    };
    let ended = job.measure(&threads, args.roofline, &mut report);
    // What was measured before Ctrl-C or an error is worth having.
    if ended.is_ok() || !report.is_empty() {
        match (console.json, args.csv) {
            (true, _) => output::json(&report.json())?,
            (_, true) => output::answer(report.csv())?,
            _ => output::answer(report.text())?,
        }
    }
    if source.is_built_in() && !tests.is_empty() {
        console.note("note: this is the 7 MB demonstration model; `troika bench model.gguf` measures a real one");
    }
    ended
}

/// Tokens that tell the speed of a model: of a prompt, and of an answer.
const USUAL_PROMPT: usize = 512;
const USUAL_ANSWER: usize = 64;

/// Measures a model in the usual way: a prompt of 512 tokens, an answer of 64, on one thread for each physical core.
///
/// # Errors
/// Interrupted, or what the engine has to say.
pub(crate) fn usual(
    source: &Source,
    rounds: usize,
    console: &Console,
    interrupt: &Interrupt,
) -> anyhow::Result<Vec<Row>> {
    let matrix = Matrix {
        prompts: &[USUAL_PROMPT],
        answers: &[USUAL_ANSWER],
        depths: &[0],
        batches: &[1],
    };
    let job = Job {
        source,
        tests: &matrix.tests(),
        rounds,
        adapters: &AdapterArgs::default(),
        device: &DeviceArgs::cpu(),
        kv: &KvArgs::default(),
        console: *console,
        interrupt: interrupt.clone(),
    };
    let mut report = Report::default();
    job.measure_tests(CpuDevice::default_threads(), &mut report)?;
    Ok(report.rows)
}

impl BenchArgs {
    fn source(&self) -> anyhow::Result<Source> {
        match (&self.word, &self.model.model) {
            (Some(_), Some(_)) => {
                Err(WrongUse("name one model, by word or by --model".to_owned()).into())
            }
            (Some(name), None) | (None, Some(name)) => model::need(name, &Home::from_env()?),
            (None, None) => Ok(Source::BuiltIn),
        }
    }
}

/// What is to be measured.
struct Job<'a> {
    source: &'a Source,
    tests: &'a [Test],
    rounds: usize,
    adapters: &'a AdapterArgs,
    device: &'a DeviceArgs,
    kv: &'a KvArgs,
    console: Console,
    interrupt: Interrupt,
}

impl Job<'_> {
    /// Measures the tests on each number of threads, and then the machine: that takes memory, which would show as the
    /// tests' own.
    fn measure(
        &self,
        threads: &[usize],
        roofline: bool,
        report: &mut Report,
    ) -> anyhow::Result<()> {
        if !self.tests.is_empty() {
            for &threads in threads {
                self.measure_tests(threads, report)?;
            }
        }
        if roofline {
            for &threads in threads {
                self.console.detail("measuring the machine");
                let device = load::cpu(Some(threads))?;
                report.add_roofline(Roofline::measure(&device, &self.interrupt)?);
            }
        }
        Ok(())
    }

    fn measure_tests(&self, threads: usize, report: &mut Report) -> anyhow::Result<()> {
        let device = Processor::choose(self.device, Some(threads), &self.console)?;
        let n_ctx = self.tests.iter().map(Test::n_ctx).max();
        let n_ctx = n_ctx.expect("there are tests. This is a bug.");
        let started = Instant::now();
        let file = self.adapters.apply(self.source.open()?)?;
        let (mut model, _) = load::model(
            &file,
            device.device(),
            self.kv.options(n_ctx),
            &self.console,
            &self.interrupt,
        )?;
        let load = started.elapsed();
        let mut bench = Bench::new(&mut model, self.console, self.interrupt.clone());
        bench.first_token()?;
        let setting = self.setting(&device, &file, &bench, load, started.elapsed());
        report.cost = Some((
            TokenCost::of(&file),
            bench.spec().clone(),
            self.kv.kv_type(),
        ));
        drop(file);
        for test in self.tests {
            let tps = bench.measure(test, self.rounds)?;
            report.rows.push(Row::new(test, tps, &setting));
        }
        Ok(())
    }

    fn setting(
        &self,
        device: &Processor,
        file: &ModelFile,
        bench: &Bench<'_>,
        load: Duration,
        first_token: Duration,
    ) -> Setting {
        let formats = Formats::of(file);
        Setting {
            model: bench.model_name().to_owned(),
            model_bytes: file.bytes(),
            parameters: formats.parameters(),
            quantization: formats.main().map_or("", |dtype| dtype.name()),
            device: device.name(),
            processor: device.description(),
            kernels: device.kernels(),
            threads: device.threads(),
            kv_type: self.kv.kv_type().name(),
            load_ms: load.as_secs_f64() * 1e3,
            first_token_ms: first_token.as_secs_f64() * 1e3,
        }
    }
}
