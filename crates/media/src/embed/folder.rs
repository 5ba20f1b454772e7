//! A text encoder's folder, as Hugging Face lays it out: the network and what is known of its texts.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use tempfile::TempDir;
use troika_base::DeviceKind;
use troika_device_npu as npu;
use troika_device_npu::exec::{self, Executor, Wish};
use troika_device_npu::lower::bert::{Bert, Lengths, Pooling};
use troika_engine::tokenizer::Tokenizer;

use super::Error;

/// Where ONNX files lie in a folder.
const ONNX: [&str; 2] = ["model.onnx", "onnx/model.onnx"];

/// What is read where nothing is said, as in BERT.
const TOKENS_DEFAULT: usize = 512;

/// The folder of a model.
pub(super) struct Folder {
    path: PathBuf,
    /// None if the network is in a safetensors file.
    onnx: Option<PathBuf>,
    pub(super) tokenizer: Tokenizer,
    pub(super) pooling: Pooling,
    /// Tokens of a text, at most.
    pub(super) tokens_max: usize,
}

/// A network that is ready.
pub(super) struct Network {
    pub(super) executor: Box<dyn Executor>,
    pub(super) lost: Vec<(String, String)>,
    /// Files that it may still be reading from.
    pub(super) files: Option<TempDir>,
}

#[derive(Default, Deserialize)]
struct TokenizerConfig {
    do_lower_case: Option<bool>,
}

#[derive(Default, Deserialize)]
struct SentenceConfig {
    max_seq_length: Option<usize>,
}

#[derive(Default, Deserialize)]
struct ModelConfig {
    max_position_embeddings: Option<usize>,
}

impl Folder {
    /// Reads the folder at `path`, or around it if it is an ONNX file.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let (root, onnx) = match path.is_dir() {
            true => {
                let onnx = ONNX.iter().map(|name| path.join(name));
                let bert = path.join("model.safetensors").is_file();
                let onnx = onnx.filter(|_| !bert).find(|onnx| onnx.is_file());
                if onnx.is_none() && !bert {
                    return Err(Error::NoModel {
                        path: path.to_owned(),
                        reason: "has neither model.safetensors nor model.onnx".to_owned(),
                    });
                }
                (path.to_owned(), onnx)
            }
            false => (root(path), Some(path.to_owned())),
        };
        let config: ModelConfig = json(&root.join("config.json"))?;
        let sentences: SentenceConfig = json(&root.join("sentence_bert_config.json"))?;
        let positions = config.max_position_embeddings.unwrap_or(TOKENS_DEFAULT);
        Ok(Self {
            tokenizer: tokenizer(&root)?,
            pooling: Pooling::read(&root)?,
            tokens_max: sentences.max_seq_length.unwrap_or(positions).min(positions),
            path: root,
            onnx,
        })
    }

    /// Opens the network by the best way that the wish allows.
    pub(super) fn network(&self, wish: &Wish) -> Result<Network, Error> {
        let opened = |opened: exec::Opened, files| Network {
            executor: opened.executor,
            lost: opened.lost,
            files,
        };
        if let Some(onnx) = &self.onnx {
            return Ok(opened(exec::open(onnx, wish)?, None));
        }
        let files = tempfile::tempdir().map_err(|source| Error::Io {
            path: std::env::temp_dir(),
            source,
        })?;
        let fixed = Lengths::Fixed(self.tokens_max);
        let graphs = [("fixed", fixed), ("any", Lengths::Any)];
        Bert::open(&self.path)?.write_onnx(&graphs, files.path())?;
        // NPUs take one length only; others need not compute what only fills up.
        let on_npu = Wish {
            device: Some(DeviceKind::Npu),
            ..*wish
        };
        let mut lost = Vec::new();
        if wish.device.is_none_or(|device| device == DeviceKind::Npu) {
            match exec::open(&files.path().join("fixed.onnx"), &on_npu) {
                Ok(way) => return Ok(opened(way, Some(files))),
                Err(npu::Error::NoWay { lost: ways, .. }) if wish.device.is_none() => lost = ways,
                Err(error) => return Err(error.into()),
            }
        }
        let elsewhere = Wish {
            device: Some(wish.device.unwrap_or(DeviceKind::Cpu)),
            ..*wish
        };
        let mut way = exec::open(&files.path().join("any.onnx"), &elsewhere)?;
        lost.append(&mut way.lost);
        way.lost = lost;
        Ok(opened(way, Some(files)))
    }
}

/// The folder that an ONNX file belongs to.
fn root(onnx: &Path) -> PathBuf {
    let parent = onnx.parent().unwrap_or_else(|| Path::new("."));
    match (parent.file_name(), parent.parent()) {
        (Some(name), Some(above)) if name == "onnx" => above.to_owned(),
        _ => parent.to_owned(),
    }
}

/// By `vocab.txt`; folders that do not say it are of models that know no capitals.
fn tokenizer(root: &Path) -> Result<Tokenizer, Error> {
    let config: TokenizerConfig = json(&root.join("tokenizer_config.json"))?;
    let path = root.join("vocab.txt");
    if !path.is_file() {
        return Err(Error::NoModel {
            path: root.to_owned(),
            reason: "has no vocab.txt, by which texts become tokens".to_owned(),
        });
    }
    let vocab = std::fs::read_to_string(&path).map_err(|source| Error::Io {
        path: path.clone(),
        source,
    })?;
    Tokenizer::from_vocab_txt(&vocab, config.do_lower_case.unwrap_or(true)).map_err(|source| {
        Error::Vocabulary {
            path,
            source: Box::new(source),
        }
    })
}

/// A file that need not be there.
fn json<T: DeserializeOwned + Default>(path: &Path) -> Result<T, Error> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => return Ok(T::default()),
        Err(source) => {
            return Err(Error::Io {
                path: path.to_owned(),
                source,
            });
        }
    };
    serde_json::from_slice(&bytes).map_err(|error| Error::NoModel {
        path: path.to_owned(),
        reason: format!("is damaged: {error}"),
    })
}
