//! The command line: verbs, and the flags that mean the same for all of them.

use clap::{ArgAction, Parser, Subcommand};
use troika_base::{Bytes, ExtraSampling, KvType, TokenId};
use troika_device::LoadOptions;
use troika_engine::ExpertMemory;
use troika_engine::sampler::SamplingParams;
use troika_engine::tokenizer::{EncodeOptions, Tokenizer};
use troika_library::Parameters;

use crate::commands::{
    bench, calc, calibrate, catalogue, classify, completions, config, denoise, detect, devices,
    doctor, embed, imatrix, import, keys, list, listen, man, npu, perplexity, plan, pull, quantize,
    receipts, remote, rm, rules, run, segment, serve, show, simulate, top,
};
use crate::exit::WrongUse;
use crate::gpu::Layers;
use crate::output::Console;

const EXAMPLES: &str = "\
Examples:
  troika run \"Once upon a time\"                    a story by the model inside
  troika pull hf:OWNER/REPO:Q4_K_M                 a model from elsewhere, verified
  troika run model.gguf                            chat
  troika run model.gguf \"Why is the sky blue?\"     one answer
  troika serve                                     OpenAI, Anthropic and Ollama APIs on 127.0.0.1:11435
  troika top                                       what the server is doing, and why
  troika doctor                                    what is wrong here, and how to mend it
  troika simulate --machine core-ultra-258v --load office-day
                                                   a load on a machine that nobody has to own
  troika show model.gguf --ctx 32768               what is inside, how much memory it takes
  troika bench model.gguf --roofline               how fast it is here, and how fast it could be

Files: models named without a path are looked for in $TROIKA_HOME/models.
TROIKA_ISA forces a set of kernels (scalar, avx2, avx512vnni, amx, ...).
Exit codes: 0 done, 1 failed, 2 wrong use, 130 interrupted.";

/// Runs language models on the computer you own.
///
/// Answers go to stdout, everything else to stderr. `troika help VERB` tells more of a verb.
#[derive(Debug, Parser)]
#[command(name = "troika", version, after_help = EXAMPLES, max_term_width = 100)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    console: ConsoleArgs,
}

impl Args {
    pub(crate) fn console(&self) -> Console {
        Console {
            json: self.console.json,
            quiet: self.console.quiet,
            verbose: self.console.verbose,
        }
    }
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Run(Box<run::RunArgs>),
    Serve(serve::ServeArgs),
    Top(top::TopArgs),
    Config(config::ConfigArgs),
    Keys(keys::KeysArgs),
    Remote(remote::RemoteArgs),
    Rules(rules::RulesArgs),
    Receipts(receipts::ReceiptsArgs),
    Bench(bench::BenchArgs),
    Perplexity(perplexity::PerplexityArgs),
    Imatrix(imatrix::ImatrixArgs),
    Quantize(Box<quantize::QuantizeArgs>),
    Embed(embed::EmbedArgs),
    Listen(listen::ListenArgs),
    Denoise(denoise::DenoiseArgs),
    Segment(segment::SegmentArgs),
    Classify(classify::ClassifyArgs),
    Detect(detect::DetectArgs),
    Plan(Box<plan::PlanArgs>),
    Simulate(simulate::SimulateArgs),
    Devices(devices::DevicesArgs),
    Doctor(doctor::DoctorArgs),
    Npu(npu::NpuArgs),
    Show(show::ShowArgs),
    List(list::ListArgs),
    Pull(pull::PullArgs),
    Import(import::ImportArgs),
    Rm(rm::RmArgs),
    Calc(calc::CalcArgs),
    Calibrate(Box<calibrate::CalibrateArgs>),
    Catalogue(catalogue::CatalogueArgs),
    Completions(completions::CompletionsArgs),
    Man(man::ManArgs),
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Output")]
struct ConsoleArgs {
    /// Answer in JSON
    #[arg(long, global = true)]
    json: bool,
    /// Say nothing but the answer and errors
    #[arg(short, long, global = true)]
    quiet: bool,
    /// Say more; twice, say even more
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,
}

/// The model by flag, for verbs that also take it as a word.
#[derive(Debug, clap::Args)]
pub(crate) struct ModelArgs {
    /// Model: a .gguf file, an installed name, or `stories` for the one inside
    #[arg(short, long, value_name = "MODEL")]
    pub(crate) model: Option<String>,
}

/// How the processor is used.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Processor")]
pub(crate) struct ThreadArgs {
    /// Threads [default: one for each physical core]
    #[arg(short, long, value_name = "N", value_parser = thread_count)]
    pub(crate) threads: Option<usize>,
}

/// Where a model runs.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Processor")]
pub(crate) struct DeviceArgs {
    /// Where the model runs: cpu0, gpu0, or several GPUs that share its layers: gpu0+gpu1 [default: a card if there is
    /// one, else cpu0]
    #[arg(long, value_name = "NAME")]
    pub(crate) device: Option<String>,
    /// Layers on the GPU, the last ones; the others are on the CPU [default: auto, as many as fit]
    #[arg(long, value_name = "N|auto")]
    pub(crate) gpu_layers: Option<Layers>,
    /// Keep at most so many MiB of a mixture's experts in memory, and read the others from the file, which is slow
    /// [default: as much as fits]
    #[arg(long, value_name = "MIB")]
    expert_memory: Option<u32>,
}

/// How keys and values are kept.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Processor")]
pub(crate) struct KvArgs {
    /// How the context is kept in memory: f16, q8_0 for about half of it, q4_0 for about a quarter; on the CPU
    #[arg(long, value_name = "TYPE", default_value_t)]
    kv_type: KvType,
}

impl KvArgs {
    /// The type.
    pub(crate) fn kv_type(&self) -> KvType {
        self.kv_type
    }

    /// A cache for `n_ctx` tokens.
    pub(crate) fn options(&self, n_ctx: usize) -> LoadOptions {
        LoadOptions::new(n_ctx).with_kv_type(self.kv_type)
    }
}

impl DeviceArgs {
    /// The CPU, whatever else there is.
    pub(crate) fn cpu() -> Self {
        Self {
            device: Some("cpu0".to_owned()),
            gpu_layers: None,
            expert_memory: None,
        }
    }

    /// Memory for experts: where nobody waits in line, a slow model is better than none.
    pub(crate) fn expert_memory(&self) -> ExpertMemory {
        match self.expert_memory {
            Some(mib) => ExpertMemory::AtMost(Bytes(u64::from(mib) << 20)),
            None => ExpertMemory::WhatIsFree,
        }
    }
}

/// How tokens are chosen.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Sampling")]
pub(crate) struct SamplingArgs {
    /// Below 1 favours likely tokens; 0 takes the likeliest, always [default: 0.8]
    #[arg(long, value_name = "T")]
    temperature: Option<f32>,
    /// Keep the K likeliest tokens; 0 keeps all [default: 40]
    #[arg(long, value_name = "K")]
    top_k: Option<u32>,
    /// Keep the likeliest tokens that have probability P together; 1 keeps all [default: 0.95]
    #[arg(long, value_name = "P")]
    top_p: Option<f32>,
    /// Keep tokens at least P times as likely as the likeliest; 0 keeps all [default: 0.05]
    #[arg(long, value_name = "P")]
    min_p: Option<f32>,
    /// Same seed, same text [default: made up, and shown]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Make tokens seen before less likely: 1 does nothing, 1.1 a little [default: 1]
    #[arg(long, value_name = "X")]
    repeat_penalty: Option<f32>,
    /// How far back the penalties look [default: 64]
    #[arg(long, value_name = "TOKENS")]
    repeat_last_n: Option<u32>,
    /// Subtracted from the scores of tokens seen before, -2 to 2 [default: 0]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    presence_penalty: Option<f32>,
    /// Subtracted from the scores of tokens for each time they were seen, -2 to 2 [default: 0]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    frequency_penalty: Option<f32>,
    #[command(flatten)]
    extra: ExtraSamplingArgs,
    /// Add BIAS (-100 to 100, or -inf) to the score of TOKEN: its number, or text that is one token
    #[arg(long, value_name = "TOKEN=BIAS", value_parser = logit_bias)]
    logit_bias: Vec<LogitBias>,
}

/// Samplers that few ask for; they are in the long help only.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Sampling")]
struct ExtraSamplingArgs {
    /// Keep tokens that surprise as much as is to be expected, up to probability P together; 1 keeps all [default: 1]
    #[arg(long, value_name = "P", hide_short_help = true)]
    typical_p: Option<f32>,
    /// How often the likely tokens but the last of them are left out [default: 0]
    #[arg(long, value_name = "P", hide_short_help = true)]
    xtc_probability: Option<f32>,
    /// From what probability on a token is likely to XTC [default: 0.1]
    #[arg(long, value_name = "P", hide_short_help = true)]
    xtc_threshold: Option<f32>,
    /// Hold tokens down that would repeat what was said before: 0 does nothing, 0.8 is usual [default: 0]
    #[arg(long, value_name = "X", hide_short_help = true)]
    dry_multiplier: Option<f32>,
    /// By what DRY's penalty grows with each repeated token [default: 1.75]
    #[arg(long, value_name = "X", hide_short_help = true)]
    dry_base: Option<f32>,
    /// Repeated tokens that DRY lets pass [default: 2]
    #[arg(long, value_name = "TOKENS", hide_short_help = true)]
    dry_allowed_length: Option<i64>,
    /// How many of the last tokens DRY searches; -1 searches all [default: -1]
    #[arg(
        long,
        value_name = "TOKENS",
        allow_negative_numbers = true,
        hide_short_help = true
    )]
    dry_penalty_last_n: Option<i64>,
    /// A text that no repetition goes across; may be given several times [default: newline, colon, quote and star]
    #[arg(
        long = "dry-sequence-breaker",
        value_name = "TEXT",
        hide_short_help = true
    )]
    dry_sequence_breakers: Option<Vec<String>>,
    /// 2 keeps the surprise of the text at a level, in place of all filters; 0 does not [default: 0]
    #[arg(long, value_name = "0|2", hide_short_help = true)]
    mirostat: Option<i64>,
    /// That level, in bits [default: 5]
    #[arg(long, value_name = "BITS", hide_short_help = true)]
    mirostat_tau: Option<f32>,
    /// How fast Mirostat approaches it [default: 0.1]
    #[arg(long, value_name = "X", hide_short_help = true)]
    mirostat_eta: Option<f32>,
    /// How far the temperature moves to either side with how sure the model is [default: 0]
    #[arg(long, value_name = "T", hide_short_help = true)]
    dynatemp_range: Option<f32>,
    /// How it moves between [default: 1]
    #[arg(long, value_name = "X", hide_short_help = true)]
    dynatemp_exponent: Option<f32>,
}

impl From<ExtraSamplingArgs> for ExtraSampling {
    fn from(args: ExtraSamplingArgs) -> Self {
        Self {
            typical_p: args.typical_p,
            xtc_probability: args.xtc_probability,
            xtc_threshold: args.xtc_threshold,
            dry_multiplier: args.dry_multiplier,
            dry_base: args.dry_base,
            dry_allowed_length: args.dry_allowed_length,
            dry_penalty_last_n: args.dry_penalty_last_n,
            dry_sequence_breakers: args.dry_sequence_breakers,
            mirostat: args.mirostat,
            mirostat_tau: args.mirostat_tau,
            mirostat_eta: args.mirostat_eta,
            dynatemp_range: args.dynatemp_range,
            dynatemp_exponent: args.dynatemp_exponent,
        }
    }
}

/// A bias before the vocabulary is known.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LogitBias {
    token: String,
    bias: f32,
}

impl SamplingArgs {
    /// The parameters, but for the biases, which need a vocabulary. What no flag names is the model's own default.
    ///
    /// # Errors
    /// [`WrongUse`] if a number is out of range.
    pub(crate) fn params(&self, own: &Parameters) -> Result<SamplingParams, WrongUse> {
        let default = SamplingParams::default();
        let params = SamplingParams {
            temperature: self
                .temperature
                .or(own.temperature)
                .unwrap_or(default.temperature),
            top_k: self.top_k.or(own.top_k).unwrap_or(default.top_k),
            top_p: self.top_p.or(own.top_p).unwrap_or(default.top_p),
            min_p: self.min_p.or(own.min_p).unwrap_or(default.min_p),
            repeat_penalty: self
                .repeat_penalty
                .or(own.repeat_penalty)
                .unwrap_or(default.repeat_penalty),
            repeat_last_n: self
                .repeat_last_n
                .or(own.repeat_last_n)
                .unwrap_or(default.repeat_last_n),
            presence_penalty: self
                .presence_penalty
                .or(own.presence_penalty)
                .unwrap_or(default.presence_penalty),
            frequency_penalty: self
                .frequency_penalty
                .or(own.frequency_penalty)
                .unwrap_or(default.frequency_penalty),
            seed: self.seed.or(own.seed),
            ..default
        };
        let extra = ExtraSampling::from(self.extra.clone()).over(&own.extra);
        let params = params
            .with(&extra)
            .map_err(|error| WrongUse(error.to_string()))?;
        params
            .validate()
            .map_err(|error| WrongUse(error.to_string()))?;
        Ok(params)
    }

    /// The biases in a model's own tokens.
    ///
    /// # Errors
    /// [`WrongUse`] if a text is not one token, or a number is out of range.
    pub(crate) fn logit_bias(
        &self,
        tokenizer: &Tokenizer,
    ) -> Result<Vec<(TokenId, f32)>, WrongUse> {
        let biases: Vec<_> = self
            .logit_bias
            .iter()
            .map(|bias| Ok((token(&bias.token, tokenizer)?, bias.bias)))
            .collect::<Result<_, WrongUse>>()?;
        let params = SamplingParams {
            logit_bias: biases,
            ..SamplingParams::default()
        };
        params
            .validate()
            .map_err(|error| WrongUse(error.to_string()))?;
        Ok(params.logit_bias)
    }
}

/// A token by its number or its text.
fn token(text: &str, tokenizer: &Tokenizer) -> Result<TokenId, WrongUse> {
    if let Ok(id) = text.parse() {
        return match tokenizer.token_text(TokenId(id)) {
            Some(_) => Ok(TokenId(id)),
            None => Err(WrongUse(format!(
                "--logit-bias: there is no token {id}; the vocabulary has {}",
                tokenizer.n_vocab()
            ))),
        };
    }
    let options = EncodeOptions {
        add_special: false,
        parse_special: true,
    };
    match *tokenizer.encode(text, options) {
        [id] => Ok(id),
        ref ids => Err(WrongUse(format!(
            "--logit-bias: {text:?} is {} tokens of this model ({ids:?}), not one; name one by its number",
            ids.len()
        ))),
    }
}

fn logit_bias(text: &str) -> Result<LogitBias, String> {
    let (token, bias) = text
        .rsplit_once('=')
        .ok_or("write TOKEN=BIAS, such as 29871=-5")?;
    if token.is_empty() {
        return Err("there is no token before the `=`".to_owned());
    }
    Ok(LogitBias {
        token: token.to_owned(),
        bias: bias
            .parse()
            .map_err(|_| format!("{bias:?} is not a number"))?,
    })
}

/// Threads that a pool may have: no machine has more, and each costs memory.
const THREADS_MAX: usize = 1024;

/// Parses a number of threads.
pub(crate) fn thread_count(text: &str) -> Result<usize, String> {
    bounded(text, 1, THREADS_MAX)
}

/// Tokens that may be asked for: more than any context has.
const TOKENS_MAX: usize = 1 << 24;

/// Parses a number of tokens.
pub(crate) fn token_count(text: &str) -> Result<usize, String> {
    bounded(text, 0, TOKENS_MAX)
}

/// Parses a length of context, which is at least one token.
pub(crate) fn context_length(text: &str) -> Result<usize, String> {
    bounded(text, 1, TOKENS_MAX)
}

/// Parses a number within bounds.
pub(crate) fn bounded(text: &str, min: usize, max: usize) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|value| (min..=max).contains(value))
        .ok_or_else(|| format!("expected a number from {min} to {max}"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::model::Source;

    #[test]
    fn the_definition_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn help_is_as_intended() {
        for verb in [
            "",
            "run",
            "serve",
            "top",
            "config",
            "keys",
            "rules",
            "bench",
            "perplexity",
            "embed",
            "listen",
            "denoise",
            "segment",
            "classify",
            "detect",
            "plan",
            "simulate",
            "devices",
            "doctor",
            "npu",
            "show",
            "list",
            "pull",
            "rm",
            "calc",
            "calibrate",
            "catalogue",
            "completions",
            "man",
        ] {
            let mut command = Args::command().term_width(100);
            command.build();
            let command = match verb {
                "" => &mut command,
                verb => command
                    .find_subcommand_mut(verb)
                    .expect("the verb is there"),
            };
            let name = if verb.is_empty() {
                "help".to_owned()
            } else {
                format!("help_{verb}")
            };
            insta::assert_snapshot!(name, command.render_help().to_string());
        }
    }

    #[test]
    fn biases_are_parsed() {
        for (text, want) in [
            ("7=-1.5", Some(("7", -1.5))),
            ("a=b=2", Some(("a=b", 2.0))),
            (" the=-inf", Some((" the", f32::NEG_INFINITY))),
            ("=1", None),
            ("7", None),
            ("7=x", None),
        ] {
            let want = want.map(|(token, bias)| LogitBias {
                token: token.to_owned(),
                bias,
            });
            assert_eq!(logit_bias(text).ok(), want, "{text}");
        }
    }

    #[test]
    fn biases_name_tokens() {
        let file = Source::BuiltIn.open().expect("opens");
        let tokenizer = Tokenizer::from_metadata(file.metadata()).expect("is sound");
        assert_eq!(token("5", &tokenizer).expect("a number"), TokenId(5));
        assert!(token("99999999", &tokenizer).is_err());
        assert!(token("antidisestablishmentarianism", &tokenizer).is_err());
        let once = token("Once", &tokenizer).expect("stories begin with it");
        assert!(
            tokenizer
                .token_text(once)
                .is_some_and(|text| text.contains("Once"))
        );
    }

    #[test]
    fn numbers_out_of_range_are_wrong_use() {
        for flags in [
            ["--temperature", "nan"],
            ["--top-p", "1.5"],
            ["--repeat-penalty", "0"],
        ] {
            let args = Args::try_parse_from(["troika", "run", flags[0], flags[1]]).expect("parses");
            let Some(Command::Run(run)) = args.command else {
                panic!("the verb is run");
            };
            assert!(
                run.sampling.params(&Parameters::default()).is_err(),
                "{flags:?}"
            );
        }
    }
}
