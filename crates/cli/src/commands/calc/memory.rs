//! `troika calc memory`.

use anyhow::bail;
use serde_json::json;
use troika_base::Bytes;
use troika_planner::calc::{Ask, CacheShape, On, described, known};
use troika_planner::catalogue::Catalogue;
use troika_planner::model::read_file;
use troika_planner::plan::choose::named;
use troika_planner::quantization::Quantization;

use super::count;
use crate::args::{bounded, context_length};
use crate::exit::WrongUse;
use crate::home::Home;
use crate::model::{self, Found};
use crate::output::{self, Align, Console};

/// Memory of a model: weights, keys and values, buffers
///
/// Of a file, and of a model of the catalogue, everything is known. Of a model that is only described, by --params and --quant, weights are told, and keys and
/// values with its --layers, --kv-heads and --head-dim; what is not given is not guessed.
#[derive(Debug, clap::Args)]
#[command(allow_negative_numbers = true)]
pub(super) struct MemoryArgs {
    /// Model: a .gguf file, an installed name, or with --quant one of the catalogue's
    #[arg(value_name = "MODEL", conflicts_with_all = ["params", "layers", "kv_heads", "head_dim"], required_unless_present = "params")]
    model: Option<String>,
    /// Parameters, all of them: 8.03B
    #[arg(long, value_name = "N", value_parser = count, requires = "quant")]
    params: Option<f64>,
    /// How the weights are stored: Q4_K_M, Q8_0, F16, ...
    #[arg(long, value_name = "FORMAT")]
    quant: Option<String>,
    /// Layers
    #[arg(long, value_name = "N", value_parser = dimension, requires = "kv_heads")]
    layers: Option<u32>,
    /// Key/value heads
    #[arg(long, value_name = "N", value_parser = dimension, requires = "head_dim")]
    kv_heads: Option<u32>,
    /// Values in a head
    #[arg(long, value_name = "N", value_parser = dimension, requires = "layers")]
    head_dim: Option<u32>,
    /// Tokens of context
    #[arg(long, value_name = "N", default_value = "4096", value_parser = context_length)]
    ctx: usize,
    /// Sequences side by side
    #[arg(long, value_name = "N", default_value = "1", value_parser = dimension)]
    sequences: u32,
    /// How keys and values are stored: F16, Q8_0, Q4_0
    #[arg(long, value_name = "FORMAT", default_value = "F16", value_parser = kv_bits)]
    kv: f64,
    /// What it runs on; buffers depend on it
    #[arg(long, value_enum, default_value = "cpu")]
    on: OnArg,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum OnArg {
    /// The processor, with Troika
    Cpu,
    /// A GPU, with an engine such as llama.cpp
    Gpu,
}

fn dimension(text: &str) -> Result<u32, String> {
    bounded(text, 1, 1 << 20).map(|value| value as u32)
}

/// Bits of a value, scales of the blocks included.
fn kv_bits(text: &str) -> Result<f64, String> {
    match &*text.to_ascii_uppercase() {
        "F32" => Ok(32.0),
        "F16" | "BF16" => Ok(16.0),
        "Q8_0" => Ok(8.5),
        "FP8" => Ok(8.0),
        "Q4_0" => Ok(4.5),
        _ => Err("expected F32, F16, BF16, Q8_0, FP8 or Q4_0".to_owned()),
    }
}

fn parse_quantization(name: &str) -> Result<Quantization, WrongUse> {
    Quantization::parse(name).map_err(|error| WrongUse(error.to_string()))
}

pub(super) fn run(args: &MemoryArgs, console: &Console) -> anyhow::Result<()> {
    let ask = Ask {
        context: u32::try_from(args.ctx)?,
        sequences: args.sequences,
        kv_bits: args.kv,
        on: match args.on {
            OnArg::Cpu => On::Cpu,
            OnArg::Gpu => On::Gpu,
        },
    };
    let parts = match (&args.model, args.params, &args.quant) {
        (Some(word), _, quant) => Parts::of_model(word, quant.as_deref(), &ask)?,
        (None, Some(params), Some(quant)) => {
            let quantization = parse_quantization(quant)?;
            let cache = match (args.layers, args.kv_heads, args.head_dim) {
                (Some(n_layer), Some(n_head_kv), Some(head_dim)) => Some(CacheShape {
                    n_layer,
                    n_head_kv,
                    head_dim,
                }),
                _ => None,
            };
            let sum = described(params, &quantization, cache, &ask);
            Parts {
                weights: sum.weights,
                cache: sum.cache,
                scratch: None,
                runtime: None,
            }
        }
        _ => {
            return Err(WrongUse(
                "name a model, or describe one by --params and --quant".to_owned(),
            )
            .into());
        }
    };
    match console.json {
        true => output::json(&parts.json()),
        false => output::answer(parts.text()),
    }
}

/// Bytes by what they are for; what is absent is not known.
struct Parts {
    weights: u64,
    cache: Option<u64>,
    scratch: Option<u64>,
    runtime: Option<u64>,
}

impl Parts {
    fn of_model(word: &str, quant: Option<&str>, ask: &Ask) -> anyhow::Result<Self> {
        let home = Home::from_env()?;
        let (shape, quantization) = match (model::find(word, &home), quant) {
            (Found::Model(source), None) => read_file(&source.open()?)?,
            (Found::Model(_), Some(_)) => {
                let why = "a file tells how its weights are stored: leave --quant out";
                return Err(WrongUse(why.to_owned()).into());
            }
            (Found::NoSuchFile, _) => bail!("there is no file {word}"),
            (Found::Other(_), quant) => {
                let catalogue = Catalogue::with_user_rows(&home.path().join("catalogue"))?;
                let shape = named(word, &catalogue)?;
                let quant = quant.ok_or_else(|| {
                    WrongUse(format!(
                        "say how the weights of {} are stored: --quant Q4_K_M",
                        shape.name
                    ))
                })?;
                (shape, parse_quantization(quant)?)
            }
        };
        let need = known(&shape, &quantization, ask);
        Ok(Self {
            weights: need.weights,
            cache: Some(need.cache),
            scratch: Some(need.scratch),
            runtime: Some(need.runtime),
        })
    }

    fn rows(&self) -> [(&'static str, Option<u64>); 4] {
        [
            ("weights", Some(self.weights)),
            ("keys and values", self.cache),
            ("buffers", self.scratch),
            ("runtime", self.runtime),
        ]
    }

    /// What is known, together.
    fn total(&self) -> u64 {
        self.rows().iter().filter_map(|(_, bytes)| *bytes).sum()
    }

    fn is_whole(&self) -> bool {
        self.rows().iter().all(|(_, bytes)| bytes.is_some())
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "weights_bytes": self.weights,
            "cache_bytes": self.cache,
            "scratch_bytes": self.scratch,
            "runtime_bytes": self.runtime,
            "total_bytes": self.total(),
            "total_is_whole": self.is_whole(),
        })
    }

    fn text(&self) -> String {
        let cell = |bytes: Option<u64>| match bytes {
            Some(bytes) => [
                Bytes(bytes).to_string(),
                format!("{:.2} GB", bytes as f64 / 1e9),
            ],
            None => ["unknown".to_owned(), String::new()],
        };
        let total = match self.is_whole() {
            true => "total",
            false => "total of what is known",
        };
        let rows: Vec<[String; 3]> = self
            .rows()
            .into_iter()
            .chain([(total, Some(self.total()))])
            .map(|(name, bytes)| {
                let [binary, decimal] = cell(bytes);
                [name.to_owned(), binary, decimal]
            })
            .collect();
        output::table([Align::Left, Align::Right, Align::Right], &rows)
    }
}
