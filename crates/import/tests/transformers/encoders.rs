//! Models that give vectors: `golden/encoders.py` wrote what is expected.

use std::sync::Arc;

use troika_device::cpu::CpuOps;
use troika_device::{Device, Part, Split};
use troika_engine::{OpsDevice, Pooling};
use troika_gguf::{Metadata, TensorInfo, Writer};

use super::*;

/// A checkpoint with what sentence-transformers keeps beside it.
fn embedding_checkpoint(name: &str, golden_json: &Value) -> tempfile::TempDir {
    let directory = checkpoint(name, golden_json);
    std::fs::create_dir(directory.path().join("1_Pooling")).unwrap();
    for file in [
        "1_Pooling/config.json",
        "modules.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ] {
        let from = golden(name).join(file);
        if from.exists() {
            std::fs::copy(from, directory.path().join(file)).unwrap();
        }
    }
    directory
}

fn embeds(name: &str, pooling: Pooling) {
    let golden = read(&golden(name).join("golden.json"));
    let directory = embedding_checkpoint(name, &golden);
    let mut model = load(&import(directory.path()));
    assert_eq!(model.pooling(), pooling);
    let texts: Vec<Vec<TokenId>> = golden["texts"]
        .as_array()
        .unwrap()
        .iter()
        .map(ids)
        .collect();
    let texts: Vec<&[TokenId]> = texts.iter().map(Vec::as_slice).collect();
    let vectors = model
        .embed(&texts, pooling, &mut |_| ControlFlow::Continue(()))
        .unwrap();
    let wants = golden["vectors"].as_array().unwrap();
    assert_eq!(vectors.len(), wants.len());
    for ((have, want), text) in vectors.iter().zip(wants).zip(texts) {
        let want: Vec<f64> = want
            .as_array()
            .unwrap()
            .iter()
            .map(|x| x.as_f64().unwrap())
            .collect();
        let pairs = || have.iter().map(|&x| f64::from(x)).zip(&want);
        let cosine: f64 = pairs().map(|(have, want)| have * want).sum();
        let apart = pairs()
            .map(|(have, want)| (have - want).abs())
            .fold(0.0, f64::max);
        let largest = want.iter().fold(0.0, |most: f64, x| most.max(x.abs()));
        let (n, relative) = (text.len(), apart / largest);
        assert!(
            cosine > 0.9999,
            "{name}, {n} tokens: the cosine is {cosine}"
        );
        assert!(
            relative < 1e-3,
            "{name}, {n} tokens: {relative:.1e} of the largest apart"
        );
    }
}

#[test]
fn qwen3_embedding() {
    embeds("qwen3-embedding", Pooling::Last);
}

#[test]
fn nomic_bert() {
    embeds("nomic-bert", Pooling::Mean);
}

#[test]
fn bert() {
    embeds("bert", Pooling::Mean);
}

#[test]
fn bert_by_its_first_token() {
    embeds("bert-cls", Pooling::First);
}

/// An imported encoder.
fn encoder(name: &str) -> ModelFile {
    let golden_json = read(&golden(name).join("golden.json"));
    let directory = embedding_checkpoint(name, &golden_json);
    let file = import(directory.path());
    remade(&file, |_| {}, &[])
}

/// A file in memory with other metadata, and without some tensors.
fn remade(file: &ModelFile, change: impl Fn(&mut Metadata), without: &[&str]) -> ModelFile {
    let mut metadata = file.metadata().clone();
    change(&mut metadata);
    let mut writer = Writer::new(metadata);
    let is_kept = |tensor: &&TensorInfo| !without.contains(&&*tensor.name);
    for tensor in file.tensors().iter().filter(is_kept) {
        let bytes = file.read_all(tensor).unwrap();
        writer.tensor(&*tensor.name, tensor.dtype, &tensor.shape, move |out| {
            out.write_all(&bytes)?;
            Ok(())
        });
    }
    let mut bytes = Vec::new();
    writer.write_to(&mut bytes).unwrap();
    ModelFile::from_bytes("remade", bytes).unwrap()
}

#[test]
fn words_become_the_same_pieces() {
    for name in ["nomic-bert", "bert", "bert-cls"] {
        let model = load(&encoder(name));
        let options = EncodeOptions {
            add_special: true,
            parse_special: false,
        };
        let pairs = read(&golden(name).join("tokens.json"));
        for pair in pairs.as_array().unwrap() {
            let text = pair[0].as_str().unwrap();
            let have = model.tokenizer().encode(text, options);
            assert_eq!(have, ids(&pair[1]), "{name}: {text:?}");
        }
    }
}

/// A cache may hold more than one text; none of them may have more tokens than there are positions.
#[test]
fn a_text_beyond_the_learned_positions_is_refused() {
    let mut model = load(&encoder("bert"));
    let mut embed = |n: usize| {
        let text = vec![TokenId(7); n];
        model.embed(&[&text], Pooling::Mean, &mut |_| ControlFlow::Continue(()))
    };
    assert!(embed(128).is_ok());
    let error = embed(129).unwrap_err().to_string();
    assert!(error.contains("129") && error.contains("128"), "{error}");
}

/// What stands beside a text changes nothing of its vector: its tokens see each other alone, at positions of their own.
#[test]
fn texts_of_a_batch_do_not_see_each_other() {
    let mut model = load(&encoder("bert"));
    let texts: Vec<Vec<TokenId>> = [40, 9, 33].map(|n| (1..n).map(TokenId).collect()).to_vec();
    let texts: Vec<&[TokenId]> = texts.iter().map(Vec::as_slice).collect();
    let mut embed = |texts: &[&[TokenId]]| {
        let go_on = &mut |_| ControlFlow::Continue(());
        model.embed(texts, Pooling::Mean, go_on).unwrap()
    };
    let alone: Vec<Vec<f32>> = texts.iter().flat_map(|&text| embed(&[text])).collect();
    assert_eq!(embed(&texts), alone);
}

/// Each layer on a device of its own: what crosses the borders is what one device computes, to the bit.
#[test]
fn layers_may_be_elsewhere() {
    let open = |file: &ModelFile, _| {
        let cpu = CpuDevice::batch_invariant(1);
        let ops = || CpuOps::new(cpu.kernels(), Arc::clone(cpu.pool()));
        let n_layer = troika_engine::model_spec(file)?.n_layer;
        let parts = (0..n_layer).map(|layer| Part::new(ops(), layer..layer + 1));
        Ok((Split::new(parts.collect()), None))
    };
    let split = OpsDevice::new("cpu0+cpu1+cpu2".to_owned(), String::new(), open);
    let whole = CpuDevice::batch_invariant(1);
    let text: Vec<TokenId> = (5..45).map(TokenId).collect();
    for name in ["bert", "nomic-bert"] {
        let file = encoder(name);
        let embed = |device: &dyn Device| {
            let go_on = &mut |_| ControlFlow::Continue(());
            let loaded = Model::load(&file, device, LoadOptions::new(64), go_on);
            let go_on = &mut |_| ControlFlow::Continue(());
            loaded
                .unwrap()
                .embed(&[&text], Pooling::Mean, go_on)
                .unwrap()
        };
        assert_eq!(embed(&split), embed(&whole), "{name}");
    }
}

/// Distilled models have no parts of texts, and not every file says how texts are pooled.
#[test]
fn a_file_that_says_less_is_understood() {
    let unsaid = |metadata: &mut Metadata| drop(metadata.remove("bert.pooling_type"));
    let file = remade(&encoder("bert"), unsaid, &["token_types.weight"]);
    let mut model = load(&file);
    assert_eq!(model.pooling(), Pooling::Mean);
    let go_on = &mut |_| ControlFlow::Continue(());
    assert!(model.embed(&[&[TokenId(7)]], Pooling::Mean, go_on).is_ok());
}

/// What would change vectors is not passed over.
#[test]
fn a_file_that_lacks_something_is_refused() {
    let file = encoder("bert");
    for name in ["position_embd.weight", "blk.1.layer_output_norm.bias"] {
        let lacking = remade(&file, |_| {}, &[name]);
        let device = CpuDevice::batch_invariant(1);
        let go_on = &mut |_| ControlFlow::Continue(());
        let loaded = Model::load(&lacking, &device, LoadOptions::new(N_CTX), go_on);
        let error = loaded.map(drop).unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
    }
}

/// BERT's first checkpoints have norms by the letters of the paper, and carry the numbers of positions along.
#[test]
fn the_first_checkpoints_are_read() {
    let golden_json = read(&golden("bert").join("golden.json"));
    let directory = embedding_checkpoint("bert", &golden_json);
    let path = directory.path().join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let letter = |name: &str| {
        name.replace("LayerNorm.weight", "LayerNorm.gamma")
            .replace("LayerNorm.bias", "LayerNorm.beta")
    };
    let numbers: Vec<u8> = (0..128i64).flat_map(i64::to_le_bytes).collect();
    let numbers = TensorView::new(Dtype::I64, vec![1, 128], &numbers).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let renamed = tensors.iter().map(|(name, view)| (letter(name), view));
    let all = renamed.chain([("embeddings.position_ids".to_owned(), numbers)]);
    safetensors::serialize_to_file(all, None, &path).unwrap();
    let (have, want) = (import(directory.path()), encoder("bert"));
    assert_eq!(have.tensors().len(), want.tensors().len());
    for (have_info, want_info) in have.tensors().iter().zip(want.tensors()) {
        assert_eq!(have_info.name, want_info.name);
        let (have, want) = (have.read_all(have_info), want.read_all(want_info));
        assert_eq!(have.unwrap(), want.unwrap(), "{}", want_info.name);
    }
}

/// RoBERTa's files bear BERT's name, and their tokens are another's.
#[test]
fn what_is_not_bert_is_refused() {
    let file = encoder("bert");
    for tokens in ["t5", "gpt2"] {
        let roberta = remade(
            &file,
            |metadata| {
                metadata.insert("tokenizer.ggml.model", tokens);
            },
            &[],
        );
        let error = troika_engine::model_spec(&roberta).unwrap_err().to_string();
        assert!(
            error.contains("RoBERTa") && error.contains(tokens),
            "{error}"
        );
    }
    let decoder = remade(
        &file,
        |metadata| {
            metadata.insert("bert.attention.causal", true);
        },
        &[],
    );
    let error = troika_engine::model_spec(&decoder).unwrap_err().to_string();
    assert!(error.contains("bert.attention.causal"), "{error}");
}

/// A flag that changes what is computed, and that GGUF has no key for.
#[test]
fn a_bert_of_another_kind_is_not_imported() {
    let golden_json = read(&golden("bert").join("golden.json"));
    for (key, value) in [
        ("hidden_act", Value::from("relu")),
        ("hidden_act", Value::from("gelu_new")),
        ("position_embedding_type", Value::from("relative_key")),
        ("is_decoder", Value::from(true)),
        ("architectures", serde_json::json!(["XLMRobertaModel"])),
    ] {
        let directory = embedding_checkpoint("bert", &golden_json);
        let path = directory.path().join("config.json");
        let mut config = read(&path);
        config[key] = value.clone();
        std::fs::write(path, config.to_string()).unwrap();
        let error = Checkpoint::open(directory.path()).unwrap_err().to_string();
        let named = value.as_str().unwrap_or(match key {
            "architectures" => "XLMRobertaModel",
            _ => key,
        });
        assert!(error.contains(named), "{error}");
    }
}

/// An encoder has no logits, and reads no text in parts.
#[test]
fn an_encoder_writes_nothing() {
    let golden_json = read(&golden("nomic-bert").join("golden.json"));
    let directory = embedding_checkpoint("nomic-bert", &golden_json);
    let mut model = load(&import(directory.path()));
    let refused = Session::new(&mut model).score(&[TokenId(5), TokenId(6)]);
    assert!(refused.unwrap_err().to_string().contains("encoder"));
}

/// What would be pooled otherwise than its makers have meant it is refused.
#[test]
fn pooling_that_is_not_known_is_refused() {
    let golden_json = read(&golden("qwen3-embedding").join("golden.json"));
    let directory = embedding_checkpoint("qwen3-embedding", &golden_json);
    let at = |name: &str| directory.path().join(name);
    let dense = r#"[{"type": "sentence_transformers.models.Dense", "path": "2_Dense"}]"#;
    std::fs::write(at("modules.json"), dense).unwrap();
    let error = Checkpoint::open(directory.path()).unwrap_err().to_string();
    assert!(error.contains("Dense"), "{error}");
    std::fs::remove_file(at("modules.json")).unwrap();
    let both = r#"{"pooling_mode_lasttoken": true, "pooling_mode_max_tokens": true}"#;
    std::fs::write(at("1_Pooling/config.json"), both).unwrap();
    let error = Checkpoint::open(directory.path()).unwrap_err().to_string();
    assert!(error.contains("max_tokens"), "{error}");
}
