//! Tokenizers against golden ids, over every vocabulary in the shared data.
//!
//! A file's cases stand in `FILE.inp`, and their ids, without begin or end of sequence, in `FILE.out`.

use std::path::{Path, PathBuf};

use troika_base::TokenId;
use troika_engine::tokenizer::{EncodeOptions, Tokenizer};
use troika_gguf::ModelFile;

const PLAIN: EncodeOptions = EncodeOptions {
    add_special: false,
    parse_special: false,
};

/// The shared data, or `None` with a message where there is none.
#[expect(clippy::print_stdout, reason = "a test says what it skips")]
fn shared(below: &str) -> Option<PathBuf> {
    let root = std::env::var_os("TROIKA_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
        PathBuf::from,
    );
    let path = root.join("data").join(below);
    if !path.exists() {
        println!("skipped: {} is absent", path.display());
        return None;
    }
    Some(path)
}

fn open(path: &Path) -> Tokenizer {
    let file = ModelFile::open(path).expect("a model file");
    Tokenizer::from_metadata(file.metadata()).expect("a tokenizer")
}

fn read_ids(line: &str) -> Vec<TokenId> {
    line.split_whitespace()
        .map(|id| TokenId(id.parse().expect("an id")))
        .collect()
}

/// Every vocabulary that has golden ids, with its name.
fn vocabularies() -> Vec<(String, PathBuf)> {
    let Some(folder) = shared("vocab") else {
        return Vec::new();
    };
    let mut found: Vec<_> = std::fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "gguf"))
        .map(|path| {
            (
                path.file_stem()
                    .expect("a name")
                    .to_string_lossy()
                    .into_owned(),
                path,
            )
        })
        .collect();
    found.sort();
    found
}

#[test]
fn every_vocabulary_gives_the_golden_ids_and_the_texts_come_back() {
    let mut checked = 0;
    for (name, path) in vocabularies() {
        let read = |ext| std::fs::read_to_string(path.with_extension(ext)).expect("golden data");
        let (inputs, outputs) = (read("gguf.inp"), read("gguf.out"));
        let mut texts: Vec<&str> = inputs.split("\n__ggml_vocab_test__\n").collect();
        assert_eq!(
            texts.pop(),
            Some(""),
            "{name}: a separator follows each case"
        );
        assert_eq!(
            texts.len(),
            outputs.lines().count(),
            "{name}: a line of ids for each case"
        );
        let tokenizer = open(&path);
        for (text, ids) in texts.into_iter().zip(outputs.lines()) {
            let encoded = tokenizer.encode(text, PLAIN);
            assert_eq!(encoded, read_ids(ids), "{name}: {text:?}");
            // BERT folds case and white space, so its texts do not come back.
            if tokenizer.model_name() != "bert" {
                assert_eq!(tokenizer.decode(&encoded), text, "{name}");
            }
            checked += 1;
        }
    }
    println!("{checked} cases");
}

#[test]
fn the_story_model_reads_and_writes_its_golden_text() {
    let Some(folder) = shared("llm") else {
        return;
    };
    let tokenizer = open(&folder.join("stories260K-f32.gguf"));
    let read = |name| std::fs::read_to_string(folder.join(name)).expect("golden data");
    let ids: Vec<u32> = serde_json::from_str(&read("golden-greedy-ids.json")).expect("ids");
    let ids: Vec<TokenId> = ids.into_iter().map(TokenId).collect();
    assert_eq!(
        tokenizer.decode(&ids).trim_end(),
        read("golden-greedy.txt").trim_end()
    );
    let special = EncodeOptions {
        add_special: true,
        ..PLAIN
    };
    let prompt = tokenizer.encode("Once upon a time", special);
    assert!(ids.starts_with(&prompt), "{prompt:?}");
}
