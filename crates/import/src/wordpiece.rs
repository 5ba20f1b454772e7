//! BERT's vocabulary in `tokenizer.json`, as GGUF's metadata: a piece that begins a word is spelt with U+2581 before it, and
//! one within a word without the `##` that it has there.

use std::collections::BTreeMap;

use serde_json::Value;
use troika_gguf::Metadata;

use crate::sentencepiece::Piece;
use crate::tokenizer::Kind;

/// Tokens that are not text, and where their ids stand. Some readers look for the first under its other name.
const NAMES: [(&str, &str); 5] = [
    ("[CLS]", "tokenizer.ggml.cls_token_id"),
    ("[CLS]", "tokenizer.ggml.bos_token_id"),
    ("[SEP]", "tokenizer.ggml.seperator_token_id"),
    ("[UNK]", "tokenizer.ggml.unknown_token_id"),
    ("[PAD]", "tokenizer.ggml.padding_token_id"),
];

/// The vocabulary of a `tokenizer.json` whose model is WordPiece, and its keys in `metadata`. `n_types` is the number of
/// rows of the model's table for parts of a text.
///
/// # Errors
/// What is not known about it.
pub(crate) fn read(
    json: &Value,
    n_types: u32,
    metadata: &mut Metadata,
) -> Result<Vec<Piece>, String> {
    let model = &json["model"];
    let inside = model["continuing_subword_prefix"].as_str().unwrap_or("##");
    let normalizer = &json["normalizer"];
    let holds = inside == "##"
        && normalizer["type"] == "BertNormalizer"
        && normalizer["clean_text"] != false
        && normalizer["handle_chinese_chars"] != false
        && json["pre_tokenizer"]["type"] == "BertPreTokenizer";
    if !holds {
        return Err("it cuts words in another way than BERT's".to_owned());
    }
    let vocab = model["vocab"].as_object();
    let vocab = vocab.ok_or_else(|| "it has no vocabulary".to_owned())?;
    let mut by_id = BTreeMap::new();
    for (text, id) in vocab {
        let id = id.as_u64().filter(|&id| id < 1 << 24);
        let id = id.ok_or_else(|| format!("`{text}` has no number"))?;
        by_id.insert(id, spelt(text));
    }
    for added in json["added_tokens"].as_array().into_iter().flatten() {
        let id = added["id"].as_u64().and_then(|id| by_id.get_mut(&id));
        let (Some(piece), Some(text)) = (id, added["content"].as_str()) else {
            return Err("an added token is not in its vocabulary".to_owned());
        };
        if added["special"] != true {
            return Err(format!("`{text}` is cut out of texts before its words are"));
        }
        piece.text = text.to_owned();
        piece.kind = Kind::Control;
    }
    metadata.insert("tokenizer.ggml.model", "bert");
    metadata.insert("tokenizer.ggml.token_type_count", n_types);
    for (name, key) in NAMES {
        let id = vocab.get(name).and_then(Value::as_u64);
        let id = id.ok_or_else(|| format!("it has no token {name}"))?;
        metadata.insert(key, id as u32);
    }
    let lowercase = normalizer["lowercase"] != false;
    metadata.insert("tokenizer.ggml.normalizer.lowercase", lowercase);
    if let Some(strips) = normalizer["strip_accents"].as_bool() {
        metadata.insert("tokenizer.ggml.normalizer.strip_accents", strips);
    }
    let n = by_id.last_key_value().map_or(0, |(id, _)| id + 1);
    let hole = |id| Piece {
        text: format!("[PAD{id}]"),
        score: -1000.0,
        kind: Kind::Unused,
    };
    Ok((0..n)
        .map(|id| by_id.remove(&id).unwrap_or_else(|| hole(id)))
        .collect())
}

fn spelt(text: &str) -> Piece {
    let text = match text.strip_prefix("##") {
        Some(rest) if !rest.is_empty() => rest.to_owned(),
        _ => format!("\u{2581}{text}"),
    };
    Piece {
        text,
        score: 0.0,
        kind: Kind::Normal,
    }
}
