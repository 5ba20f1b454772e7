//! The tokenizer: `tokenizer.json` or `tokenizer.model`, and what stands beside them, as GGUF's metadata.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use troika_gguf::{Array, Metadata};

use crate::Error;
use crate::checkpoint::opt_json;
use crate::sentencepiece::{self, Piece};
use crate::wordpiece;

/// GGUF's kinds of tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    Normal = 1,
    Unknown = 2,
    Control = 3,
    UserDefined = 4,
    Unused = 5,
    Byte = 6,
}

/// How texts are cut into words, by the pattern that says so, and the name that GGUF has for it. `ignore_merges` makes a
/// difference to some.
const PATTERNS: &[(&str, Option<bool>, &str)] = &[
    (LLAMA3, Some(true), "llama-bpe"),
    (LLAMA3, Some(false), "smaug-bpe"),
    (QWEN2, None, "qwen2"),
    (GPT4O, None, "gpt-4o"),
    (TEKKEN, None, "tekken"),
];
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The files of a tokenizer.
struct Files<'d> {
    directory: &'d Path,
    /// `tokenizer.json`
    json: Option<Value>,
    /// `tokenizer_config.json`
    config: Value,
    /// `config.json`
    model: &'d Value,
}

/// Writes the keys `tokenizer.*`. `n_vocab` is the number of rows of the embedding table.
pub(crate) fn write(
    directory: &Path,
    model: &Value,
    n_vocab: usize,
    metadata: &mut Metadata,
) -> Result<(), Error> {
    let files = Files {
        directory,
        json: opt_json(&directory.join("tokenizer.json"))?,
        config: opt_json(&directory.join("tokenizer_config.json"))?.unwrap_or(Value::Null),
        model,
    };
    let pieces = directory.join("tokenizer.model");
    let spells_bytes = |json: &Value| json["model"]["byte_fallback"] == true;
    let mut tokens = match &files.json {
        Some(json) if json["model"]["type"] == "WordPiece" => {
            let n_types = model["type_vocab_size"].as_u64().unwrap_or(2) as u32;
            wordpiece::read(json, n_types, metadata).map_err(|problem| files.wrong(problem))?
        }
        Some(json) if !(spells_bytes(json) && pieces.exists()) => files.bpe(json, metadata)?,
        _ if pieces.exists() => files.pieces(&pieces, metadata)?,
        _ => {
            return Err(Error::Missing {
                path: directory.to_owned(),
                what: "tokenizer.json or tokenizer.model".to_owned(),
            });
        }
    };
    if tokens.len() > n_vocab {
        return Err(files.wrong(format!(
            "it has {} tokens, and the embedding table {n_vocab} rows",
            tokens.len()
        )));
    }
    for id in tokens.len()..n_vocab {
        tokens.push(Piece {
            text: format!("[PAD{id}]"),
            score: -1000.0,
            kind: Kind::Unused,
        });
    }
    if metadata
        .str("tokenizer.ggml.model")
        .is_ok_and(|model| model == "llama")
    {
        let scores = tokens.iter().map(|token| token.score).collect();
        metadata.insert("tokenizer.ggml.scores", Array::F32(scores));
    }
    let kinds = tokens.iter().map(|token| token.kind as i32).collect();
    metadata.insert("tokenizer.ggml.token_type", Array::I32(kinds));
    if metadata.get("tokenizer.ggml.cls_token_id").is_none() {
        files.special(&tokens, metadata)?;
    }
    let texts = tokens.into_iter().map(|token| token.text).collect();
    metadata.insert("tokenizer.ggml.tokens", Array::String(texts));
    files.template(metadata)
}

impl Files<'_> {
    fn wrong(&self, problem: String) -> Error {
        Error::Tokenizer {
            path: self.directory.join("tokenizer.json"),
            problem,
        }
    }

    /// Byte-pair encoding, over bytes or over text.
    fn bpe(&self, json: &Value, metadata: &mut Metadata) -> Result<Vec<Piece>, Error> {
        let model = &json["model"];
        let kind = model["type"].as_str().unwrap_or("BPE");
        if kind != "BPE" {
            return Err(self.wrong(format!("its model is {kind}; BPE is read")));
        }
        let vocab = model["vocab"].as_object();
        let vocab = vocab.ok_or_else(|| self.wrong("it has no vocabulary".to_owned()))?;
        let mut by_id: BTreeMap<usize, (String, Kind)> = BTreeMap::new();
        let id_of = |id: &Value| id.as_u64().filter(|&id| id < 1 << 24).map(|id| id as usize);
        for (text, id) in vocab {
            let id = id_of(id).ok_or_else(|| self.wrong(format!("`{text}` has no number")))?;
            by_id.insert(id, (text.clone(), Kind::Normal));
        }
        for added in json["added_tokens"].as_array().into_iter().flatten() {
            let (Some(id), Some(text)) = (id_of(&added["id"]), added["content"].as_str()) else {
                return Err(self.wrong("an added token has no number or no text".to_owned()));
            };
            let kind = match added["special"] == true {
                true => Kind::Control,
                false => Kind::UserDefined,
            };
            by_id.insert(id, (text.to_owned(), kind));
        }
        let merges = self.merges(&model["merges"])?;
        let spells_text = model["byte_fallback"] == true;
        let scores = spells_text.then(|| ranks(&merges));
        let n = by_id.last_key_value().map_or(0, |(id, _)| id + 1);
        let tokens = (0..n).map(|id| {
            let (text, kind) = by_id
                .remove(&id)
                .unwrap_or((format!("[PAD{id}]"), Kind::Unused));
            let is_unknown = model["unk_token"] == text.as_str();
            let kind = match kind {
                Kind::Normal | Kind::Control if spells_text && is_unknown => Kind::Unknown,
                Kind::Normal if spells_text && is_byte(&text) => Kind::Byte,
                kind => kind,
            };
            let score = scores
                .as_ref()
                .and_then(|scores| scores.get(&text).copied());
            Piece {
                score: score.unwrap_or(if kind == Kind::Normal { -1e6 } else { 0.0 }),
                text,
                kind,
            }
        });
        let tokens = tokens.collect();
        if spells_text {
            metadata.insert("tokenizer.ggml.model", "llama");
            metadata.insert("tokenizer.ggml.pre", "default");
            metadata.insert("tokenizer.ggml.add_space_prefix", prepends_space(json));
            return Ok(tokens);
        }
        metadata.insert("tokenizer.ggml.model", "gpt2");
        metadata.insert("tokenizer.ggml.pre", self.pre(json)?);
        let merges = merges
            .into_iter()
            .map(|[a, b]| format!("{a} {b}"))
            .collect();
        metadata.insert("tokenizer.ggml.merges", Array::String(merges));
        Ok(tokens)
    }

    /// Pairs, which newer files have as lists and older ones as text.
    fn merges(&self, merges: &Value) -> Result<Vec<[String; 2]>, Error> {
        let pair = |merge: &Value| match merge {
            Value::String(both) => {
                let (a, b) = both.split_once(' ')?;
                Some([a.to_owned(), b.to_owned()])
            }
            _ => {
                let [a, b] = merge.as_array()?.as_slice() else {
                    return None;
                };
                Some([a.as_str()?.to_owned(), b.as_str()?.to_owned()])
            }
        };
        let merges = merges.as_array().map(Vec::as_slice).unwrap_or_default();
        let merges: Option<Vec<_>> = merges.iter().map(pair).collect();
        merges.ok_or_else(|| self.wrong("a merge is not two tokens".to_owned()))
    }

    /// GGUF's name for how texts are cut into words.
    fn pre(&self, json: &Value) -> Result<&'static str, Error> {
        let pre = &json["pre_tokenizer"];
        let alone = std::slice::from_ref(pre);
        let steps = pre["pretokenizers"].as_array().map_or(alone, Vec::as_slice);
        let ignores_merges = json["model"]["ignore_merges"] == true;
        let of = |kind: &str| steps.iter().find(|step| step["type"] == kind);
        if let Some(pattern) = of("Split").and_then(|split| split["pattern"]["Regex"].as_str()) {
            let fits = |(known, ignores, _): &&(&str, Option<bool>, &str)| {
                *known == pattern && ignores.is_none_or(|ignores| ignores == ignores_merges)
            };
            let found = PATTERNS.iter().find(fits);
            return found.map(|(_, _, name)| *name).ok_or_else(|| {
                self.wrong(format!(
                    "it cuts words by a pattern that is not known: {pattern}"
                ))
            });
        }
        // GPT-2's own pattern is part of the step.
        match (of("ByteLevel").map(|step| &step["use_regex"]), of("Digits")) {
            (Some(Value::Bool(false)), _) | (None, _) => {
                Err(self.wrong("it cuts words in a way that is not known".to_owned()))
            }
            (Some(_), Some(digits)) if digits["individual_digits"] == true => Ok("refact"),
            (Some(_), Some(_)) => {
                Err(self.wrong("it cuts digits in a way that is not known".to_owned()))
            }
            (Some(_), None) => Ok("gpt-2"),
        }
    }

    /// SentencePiece's own file, with what `tokenizer.json` or the configuration adds to it.
    fn pieces(&self, path: &Path, metadata: &mut Metadata) -> Result<Vec<Piece>, Error> {
        let bytes = std::fs::read(path).map_err(|source| Error::Io {
            path: path.to_owned(),
            source,
        })?;
        let model = sentencepiece::parse(&bytes).map_err(|problem| Error::Tokenizer {
            path: path.to_owned(),
            problem,
        })?;
        let mut tokens = model.pieces;
        let added = self.config["added_tokens_decoder"].as_object();
        for (id, added) in added.into_iter().flatten() {
            let (Ok(id), Some(text)) = (id.parse::<usize>(), added["content"].as_str()) else {
                continue;
            };
            if id >= 1 << 24 {
                return Err(self.wrong(format!("added token {id} is beyond any vocabulary")));
            }
            while tokens.len() <= id {
                tokens.push(Piece {
                    text: format!("[PAD{}]", tokens.len()),
                    score: -1000.0,
                    kind: Kind::Unused,
                });
            }
            if matches!(tokens[id].kind, Kind::Normal | Kind::Unused) {
                let special = added["special"] == true;
                tokens[id] = Piece {
                    text: text.to_owned(),
                    score: -1000.0,
                    kind: if special {
                        Kind::Control
                    } else {
                        Kind::UserDefined
                    },
                };
            }
        }
        metadata.insert("tokenizer.ggml.model", "llama");
        metadata.insert("tokenizer.ggml.pre", "default");
        metadata.insert("tokenizer.ggml.add_space_prefix", model.adds_space);
        Ok(tokens)
    }

    /// Which tokens begin, end and fill up, and which of them are added to a text.
    fn special(&self, tokens: &[Piece], metadata: &mut Metadata) -> Result<(), Error> {
        let id_of = |text: &str| tokens.iter().position(|token| token.text == text);
        for (name, key) in [
            ("bos", "bos"),
            ("eos", "eos"),
            ("unknown", "unk"),
            ("padding", "pad"),
        ] {
            let told = &self.config[format!("{key}_token")];
            let text = told.as_str().or(told["content"].as_str());
            let model = &self.model[format!("{key}_token_id")];
            let first = model
                .as_array()
                .and_then(|all| all.first())
                .unwrap_or(model);
            let id = text
                .and_then(id_of)
                .or(first.as_u64().map(|id| id as usize));
            if let Some(id) = id.filter(|&id| id < tokens.len()) {
                metadata.insert(format!("tokenizer.ggml.{name}_token_id"), id as u32);
            }
        }
        let generation = opt_json(&self.directory.join("generation_config.json"))?;
        let ends = generation.map(|generation| generation["eos_token_id"].clone());
        if let Some(Value::Array(ends)) = ends {
            let ends = ends.iter().filter_map(Value::as_u64);
            let ends = ends
                .filter(|&id| id < tokens.len() as u64)
                .map(|id| id as i32);
            metadata.insert("tokenizer.ggml.eos_token_ids", Array::I32(ends.collect()));
        }
        for (name, at) in [("bos", 0), ("eos", usize::MAX)] {
            let told = self.config[format!("add_{name}_token")].as_bool();
            let has = metadata
                .opt_u32(&format!("tokenizer.ggml.{name}_token_id"))?
                .is_some();
            let adds = told
                .or_else(|| self.adds(at, name, metadata))
                .unwrap_or(false);
            metadata.insert(format!("tokenizer.ggml.add_{name}_token"), adds && has);
        }
        Ok(())
    }

    /// Whether the template around a text has the token `name` at its beginning or its end.
    fn adds(&self, at: usize, name: &str, metadata: &Metadata) -> Option<bool> {
        let post = &self.json.as_ref()?["post_processor"];
        let alone = std::slice::from_ref(post);
        let steps = post["processors"].as_array().map_or(alone, Vec::as_slice);
        let template = steps
            .iter()
            .find(|step| step["type"] == "TemplateProcessing")?;
        let single = template["single"].as_array()?;
        let step = single.get(at.min(single.len().checked_sub(1)?))?;
        let text = step["SpecialToken"]["id"].as_str()?;
        let id = &template["special_tokens"][text]["ids"][0];
        let want = metadata
            .opt_u32(&format!("tokenizer.ggml.{name}_token_id"))
            .ok()??;
        Some(id.as_u64() == Some(u64::from(want)))
    }

    /// The chat template, in a file of its own or in the configuration.
    fn template(&self, metadata: &mut Metadata) -> Result<(), Error> {
        let path: PathBuf = self.directory.join("chat_template.jinja");
        let told = &self.config["chat_template"];
        let template = if path.exists() {
            let read = std::fs::read_to_string(&path);
            Some(read.map_err(|source| Error::Io { path, source })?)
        } else if let Some(all) = told.as_array() {
            let default = all.iter().find(|one| one["name"] == "default");
            default
                .and_then(|one| one["template"].as_str())
                .map(str::to_owned)
        } else {
            told.as_str().map(str::to_owned)
        };
        if let Some(template) = template {
            metadata.insert("tokenizer.chat_template", template);
        }
        Ok(())
    }
}

/// What merges make, with scores of which the first merge has the best: as SentencePiece would have learned them.
fn ranks(merges: &[[String; 2]]) -> BTreeMap<String, f32> {
    let mut scores = BTreeMap::new();
    for (rank, [a, b]) in merges.iter().enumerate() {
        scores.entry(format!("{a}{b}")).or_insert(-(rank as f32));
    }
    scores
}

/// Whether a token stands for a byte, as `<0x0A>` does.
fn is_byte(text: &str) -> bool {
    let digits = text
        .strip_prefix("<0x")
        .and_then(|rest| rest.strip_suffix('>'));
    digits.is_some_and(|digits| digits.len() == 2 && u8::from_str_radix(digits, 16).is_ok())
}

/// Whether a text gets a space before it.
fn prepends_space(json: &Value) -> bool {
    let normalizer = &json["normalizer"];
    let alone = std::slice::from_ref(normalizer);
    let steps = normalizer["normalizers"]
        .as_array()
        .map_or(alone, Vec::as_slice);
    let scheme = json["pre_tokenizer"]["prepend_scheme"].as_str();
    steps.iter().any(|step| step["type"] == "Prepend")
        || scheme.is_some_and(|scheme| scheme != "never")
}
