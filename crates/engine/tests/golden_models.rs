//! Whole models against somebody else's truth.

mod common;

use common::{cpu, generate, greedy, load, shared};
use troika_base::TokenId;
use troika_engine::Session;
use troika_gguf::ModelFile;

/// The text that the model's author published for greedy sampling, token by token.
#[test]
fn stories260k_writes_the_published_text() {
    let (Some(model), Some(ids), Some(text)) = (
        shared("llm/stories260K-f32.gguf"),
        shared("llm/golden-greedy-ids.json"),
        shared("llm/golden-greedy.txt"),
    ) else {
        return;
    };
    let ids: Vec<u32> = serde_json::from_slice(&std::fs::read(ids).unwrap()).unwrap();
    let ids: Vec<TokenId> = ids.into_iter().map(TokenId).collect();
    let want = std::fs::read_to_string(text).unwrap();
    let file = ModelFile::open(&model).unwrap();
    for threads in [1, 2, 3] {
        let mut model = load(&file, &cpu(threads));
        let (tokens, text, _) = generate(
            &mut Session::new(&mut model),
            &ids[..1],
            &greedy(ids.len() - 1),
        );
        assert_eq!(tokens, ids[1..], "{threads} threads");
        assert_eq!(text.trim(), want.trim(), "{threads} threads");
    }
}
