//! The host with an encoder, which reads a text in one step however long it is.

use std::ops::ControlFlow;

use troika_device::LoadOptions;
use troika_engine::tokenizer::EncodeOptions;
use troika_engine::{CpuDevice, Model};
use troika_gguf::{Metadata, ModelFile, Writer};

use super::tests::{Home, job};
use super::*;
use crate::ErrorKind;

const N_EMBD: usize = 32;
const N_FF: usize = 48;
const N_CTX: usize = 2048;
const PIECES: [&str; 8] = [
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "▁cat", "▁dog", "▁and", "▁the",
];

/// The tensors of an encoder of one layer, and how many values each has in each direction.
fn tensors(architecture: &str) -> Vec<(&'static str, Vec<usize>)> {
    let mut tensors = vec![
        ("token_embd.weight", vec![N_EMBD, PIECES.len()]),
        ("token_types.weight", vec![N_EMBD, 2]),
        ("token_embd_norm.weight", vec![N_EMBD]),
        ("token_embd_norm.bias", vec![N_EMBD]),
        ("blk.0.attn_output.weight", vec![N_EMBD, N_EMBD]),
        ("blk.0.attn_output_norm.weight", vec![N_EMBD]),
        ("blk.0.attn_output_norm.bias", vec![N_EMBD]),
        ("blk.0.ffn_up.weight", vec![N_EMBD, N_FF]),
        ("blk.0.ffn_down.weight", vec![N_FF, N_EMBD]),
        ("blk.0.layer_output_norm.weight", vec![N_EMBD]),
        ("blk.0.layer_output_norm.bias", vec![N_EMBD]),
    ];
    tensors.extend(match architecture {
        "bert" => vec![
            ("position_embd.weight", vec![N_EMBD, N_CTX]),
            ("blk.0.attn_q.weight", vec![N_EMBD, N_EMBD]),
            ("blk.0.attn_q.bias", vec![N_EMBD]),
            ("blk.0.attn_k.weight", vec![N_EMBD, N_EMBD]),
            ("blk.0.attn_k.bias", vec![N_EMBD]),
            ("blk.0.attn_v.weight", vec![N_EMBD, N_EMBD]),
            ("blk.0.attn_v.bias", vec![N_EMBD]),
            ("blk.0.attn_output.bias", vec![N_EMBD]),
            ("blk.0.ffn_up.bias", vec![N_FF]),
            ("blk.0.ffn_down.bias", vec![N_EMBD]),
        ],
        _ => vec![
            ("blk.0.attn_qkv.weight", vec![N_EMBD, 3 * N_EMBD]),
            ("blk.0.ffn_gate.weight", vec![N_EMBD, N_FF]),
        ],
    });
    tensors
}

/// An encoder of one layer with made-up weights.
fn encoder(architecture: &str) -> Vec<u8> {
    let mut metadata = Metadata::default();
    metadata.insert("general.architecture", architecture);
    let key = |name: &str| format!("{architecture}.{name}");
    for (name, value) in [
        ("block_count", 1),
        ("context_length", N_CTX),
        ("embedding_length", N_EMBD),
        ("feed_forward_length", N_FF),
        ("attention.head_count", 2),
        ("pooling_type", 1),
    ] {
        metadata.insert(key(name), value as u32);
    }
    metadata.insert(key("attention.layer_norm_epsilon"), 1e-12f32);
    metadata.insert(key("attention.causal"), false);
    metadata.insert(key("rope.freq_base"), 1000.0f32);
    metadata.insert("tokenizer.ggml.model", "bert");
    let pieces: Vec<String> = PIECES.iter().map(|&piece| piece.to_owned()).collect();
    metadata.insert("tokenizer.ggml.tokens", pieces);
    metadata.insert("tokenizer.ggml.token_type", vec![3, 3, 3, 3, 1, 1, 1, 1]);
    for (name, id) in [
        ("padding", 0u32),
        ("unknown", 1),
        ("cls", 2),
        ("seperator", 3),
    ] {
        metadata.insert(format!("tokenizer.ggml.{name}_token_id"), id);
    }
    let mut writer = Writer::new(metadata);
    for (index, (name, dims)) in tensors(architecture).into_iter().enumerate() {
        let n: usize = dims.iter().product();
        let value = |i: usize| ((i * 7919 + index * 104_729) % 2003) as f32 / 2000.0 - 0.5;
        let bytes: Vec<u8> = (0..n).flat_map(|i| value(i).to_le_bytes()).collect();
        let dims: Vec<u64> = dims.iter().map(|&n| n as u64).collect();
        writer.tensor(name, troika_base::DType::F32, &dims, move |out| {
            out.write_all(&bytes)?;
            Ok(())
        });
    }
    let mut bytes = Vec::new();
    writer.write_to(&mut bytes).expect("memory does not fail");
    bytes
}

fn host(home: &Home, encoder: &'static [u8]) -> Host {
    let library = Library::open(home.0.clone(), vec![("encoder", encoder)].leak());
    let device = CpuDevice::batch_invariant(2);
    Host::new(Arc::new(library), Arc::new(device), HostSettings::default()).expect("threads")
}

/// What the engine makes of texts, each alone.
fn expected(encoder: &'static [u8], texts: &[String]) -> Vec<Vec<f32>> {
    let file = ModelFile::from_bytes("encoder", encoder).expect("is sound");
    let device = CpuDevice::batch_invariant(1);
    let options = LoadOptions::new(N_CTX);
    let loaded = Model::load(&file, &device, options, &mut |_| ControlFlow::Continue(()));
    let mut model = loaded.expect("loads");
    let options = EncodeOptions {
        add_special: true,
        parse_special: false,
    };
    let mut embed = |text: &String| {
        let tokens = model.tokenizer().encode(text, options);
        let pooling = model.pooling();
        let vectors = model.embed(&[&tokens], pooling, &mut |_| ControlFlow::Continue(()));
        vectors.expect("embeds").swap_remove(0)
    };
    texts.iter().map(&mut embed).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encoder_reads_long_texts_whole_and_writes_nothing() {
    for architecture in ["nomic-bert", "bert"] {
        reads_long_texts_whole_and_writes_nothing(architecture).await;
    }
}

async fn reads_long_texts_whole_and_writes_nothing(architecture: &str) {
    let home = Home::new(&format!("encoder-{architecture}"));
    let encoder: &'static [u8] = encoder(architecture).leak();
    let host = host(&home, encoder);
    // The longest takes several of a scheduler's steps.
    let texts: Vec<String> = [1, 3, 40, 700, 1900]
        .iter()
        .map(|&n| {
            (0..n)
                .map(|i| ["cat ", "and ", "the ", "dog "][i * i % 7 % 4])
                .collect()
        })
        .collect();
    let embed = EmbedJob {
        model: "encoder".to_owned(),
        inputs: texts.iter().cloned().map(Prompt::Text).collect(),
        ..EmbedJob::default()
    };
    let embedded = host.embed(embed, Caller::default()).await;
    let vectors = embedded.expect("vectors").vectors;
    assert_eq!(vectors, expected(encoder, &texts));

    let mut chat = job("the cat", 5);
    chat.model = "encoder".to_owned();
    let error = host
        .submit(chat, Caller::default())
        .await
        .expect_err("it cannot write");
    assert_eq!(error.kind, ErrorKind::Invalid);
    assert!(error.message.contains("encoder"), "{}", error.message);
}
