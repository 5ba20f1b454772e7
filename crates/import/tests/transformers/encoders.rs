//! Models that give vectors: `golden/encoders.py` wrote what is expected.

use troika_engine::Pooling;

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
fn words_become_the_same_pieces() {
    let golden_json = read(&golden("nomic-bert").join("golden.json"));
    let directory = embedding_checkpoint("nomic-bert", &golden_json);
    let model = load(&import(directory.path()));
    let options = EncodeOptions {
        add_special: true,
        parse_special: false,
    };
    for pair in read(&golden("nomic-bert").join("tokens.json"))
        .as_array()
        .unwrap()
    {
        let text = pair[0].as_str().unwrap();
        assert_eq!(
            model.tokenizer().encode(text, options),
            ids(&pair[1]),
            "{text:?}"
        );
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
