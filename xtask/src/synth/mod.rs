//! `cargo xtask synth`: a GGUF model of a real shape with random weights.
//!
//! For measuring speed and memory, and for tests of shapes that are too large to keep. Every byte of it loads and
//! computes like the published model's, and its words mean nothing.

mod mix;
mod plan;
mod random;
mod shape;
mod vocab;
mod weights;

use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use clap::builder::PossibleValuesParser;
use clap::builder::TypedValueParser as _;
use indicatif::{ProgressBar, ProgressStyle};
use troika_base::Bytes;
use troika_gguf::{Metadata, Writer};

use self::mix::Mix;
use self::plan::Tensor;
use self::shape::{SHAPES, Shape};
use self::weights::Pools;

/// Write a GGUF model of a real shape with random weights
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The model whose shape to take
    #[arg(value_parser = PossibleValuesParser::new(SHAPES.iter().map(|shape| shape.name))
        .map(|name| Shape::named(&name).expect("the parser takes known names only")))]
    shape: Shape,

    /// Number formats: F32, F16, BF16, Q8_0, Q6_K, Q4_0 or Q4_K_M, mixed as llama-quantize does
    #[arg(long = "type", value_name = "TYPE")]
    mix: Mix,

    /// File to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,

    /// Same seed, same file
    #[arg(long, default_value_t = 0)]
    seed: u64,

    /// Make this many layers instead of the model's
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    layers: Option<u16>,

    /// Make up this many tokens instead of the model's
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2048..=1_048_576), conflicts_with = "vocab")]
    tokens: Option<u32>,

    /// Take the vocabulary of this GGUF file instead of a made-up one
    #[arg(long, value_name = "FILE")]
    vocab: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let started = Instant::now();
    let mut shape = args.shape.clone();
    if let Some(layers) = args.layers {
        shape.n_layer = usize::from(layers);
    }
    if let Some(tokens) = args.tokens {
        shape.n_vocab = tokens as usize;
    }
    let mut tokenizer = Metadata::default();
    match &args.vocab {
        Some(path) => shape.n_vocab = vocab::copy(&mut tokenizer, path)?,
        None => vocab::make_up(&mut tokenizer, &shape),
    }
    let tensors = plan::tensors(&shape, args.mix);
    let pools = Pools::new(&tensors, args.seed)?;

    let total: u64 = tensors.iter().map(Tensor::bytes).sum();
    let style = ProgressStyle::with_template(
        "{msg:24} {wide_bar} {bytes}/{total_bytes} {binary_bytes_per_sec}",
    )?;
    let progress = ProgressBar::new(total).with_style(style);

    let mut writer = Writer::new(metadata(&shape, args.mix, &tokenizer));
    for tensor in &tensors {
        let (pools, progress) = (&pools, &progress);
        writer.tensor(
            &tensor.name,
            tensor.dtype,
            &tensor.dims,
            move |out: &mut dyn Write| {
                progress.set_message(tensor.name.clone());
                Ok(pools.write(tensor, out, |bytes| progress.inc(bytes))?)
            },
        );
    }
    writer.write_file(&args.output)?;
    progress.finish_and_clear();

    let parameters: u64 = tensors.iter().map(Tensor::n_elements).sum();
    println!(
        "{}: {} {}, {} tensors, {:.2} billion weights, {}, {:.1} s",
        args.output.display(),
        shape.name,
        args.mix,
        tensors.len(),
        parameters as f64 / 1e9,
        Bytes(total),
        started.elapsed().as_secs_f64(),
    );
    Ok(())
}

/// The keys that loaders read, in the order that converters write them.
fn metadata(shape: &Shape, mix: Mix, tokenizer: &Metadata) -> Metadata {
    let arch = shape.arch.name();
    let mut metadata = Metadata::default();
    metadata.insert("general.architecture", arch);
    metadata.insert("general.type", "model");
    metadata.insert(
        "general.name",
        format!("{} with random weights", shape.name),
    );
    metadata.insert("general.quantization_version", 2u32);
    metadata.insert("general.file_type", mix.file_type());

    let mut count = |key: &str, value: usize| {
        metadata.insert(format!("{arch}.{key}"), value as u32);
    };
    count("block_count", shape.n_layer);
    count("context_length", shape.n_ctx);
    count("embedding_length", shape.n_embd);
    count("feed_forward_length", shape.n_ff);
    count("attention.head_count", shape.n_head);
    count("attention.head_count_kv", shape.n_head_kv);
    count("attention.key_length", shape.head_dim);
    count("attention.value_length", shape.head_dim);
    count("rope.dimension_count", shape.head_dim);
    count("vocab_size", shape.n_vocab);
    if let Some(experts) = shape.experts {
        count("expert_count", experts.n);
        count("expert_used_count", experts.n_used);
        count("expert_feed_forward_length", experts.n_ff);
    }
    metadata.insert(
        format!("{arch}.attention.layer_norm_rms_epsilon"),
        shape.rms_eps,
    );
    metadata.insert(format!("{arch}.rope.freq_base"), shape.rope_base);

    for (key, value) in tokenizer.iter() {
        metadata.insert(key, value.clone());
    }
    metadata
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use troika_gguf::ModelFile;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        synth: Args,
    }

    /// Runs the command into a directory of its own and opens what it wrote.
    fn make(test: &str, args: &[&str]) -> ModelFile {
        let dir = std::env::temp_dir().join(format!("troika-synth-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory for the test");
        let output = dir.join("model.gguf");
        let output_arg = output.to_str().expect("a path in UTF-8");
        let args = [&["synth", "-o", output_arg], args].concat();
        let command = Command::try_parse_from(args).expect("valid arguments");
        run(&command.synth).expect("the model is written");
        // Read whole, so that the directory can go.
        let bytes = std::fs::read(&output).expect("the model is there");
        std::fs::remove_dir_all(&dir).expect("the test's own directory");
        ModelFile::from_bytes(test, bytes).expect("the model is valid")
    }

    #[test]
    fn a_small_model_is_whole() {
        let model = make("whole", &["llama-tiny", "--type", "q4_k_m", "--seed", "3"]);
        let names: Vec<&str> = model.tensors().iter().map(|t| t.name.as_str()).collect();
        for name in [
            "token_embd.weight",
            "output.weight",
            "rope_freqs.weight",
            "blk.1.ffn_down.weight",
        ] {
            assert!(names.contains(&name), "{name} is missing in {names:?}");
        }
        let down = model
            .tensor("blk.0.ffn_down.weight")
            .expect("checked above");
        assert_eq!(down.shape, [512, 256]);
        assert_eq!(model.metadata().u32("llama.block_count").expect("set"), 2);
        assert_eq!(
            model.metadata().str("tokenizer.ggml.pre").expect("set"),
            "llama-bpe"
        );
    }

    #[test]
    fn experts_are_made_for_every_layer() {
        let model = make("experts", &["tiny-moe", "--type", "q4_k_m"]);
        let gate = model
            .tensor("blk.1.ffn_gate_exps.weight")
            .expect("a layer of experts");
        assert_eq!(gate.shape, [256, 256, 8]);
        assert!(model.tensor("blk.1.ffn_gate.weight").is_none());
        let count = model.metadata().u32("qwen3moe.expert_used_count");
        assert_eq!(count.expect("set"), 2);
    }

    #[test]
    fn layers_can_be_fewer_and_stay_the_same() {
        let two = make("two", &["llama-tiny", "--type", "q8_0"]);
        let one = make("one", &["llama-tiny", "--type", "q8_0", "--layers", "1"]);
        assert!(one.tensor("blk.1.attn_q.weight").is_none());
        let read = |model: &ModelFile| {
            let tensor = model.tensor("blk.0.attn_q.weight").expect("a first layer");
            model.read_all(tensor).expect("in memory")
        };
        assert_eq!(read(&one), read(&two));
    }
}
