//! What a model file says without its weights: words, templates, shape. Enough to make a prompt of a conversation, to
//! count its tokens and to check a grammar before any device holds the model; all devices that do share it.

use std::sync::{Arc, OnceLock};

use troika_base::ModelSpec;
use troika_gguf::ModelFile;

use crate::chat::{ChatTemplate, TemplateError};
use crate::constraint::{ConstraintError, ConstraintFactory};
use crate::tokenizer::Tokenizer;
use crate::{Error, Fingerprint, Pooling};

/// A model without its weights. [`Model::load_opened`](crate::Model::load_opened) brings these to a device.
#[derive(Debug)]
pub struct Opened {
    name: String,
    spec: ModelSpec,
    tokenizer: Arc<Tokenizer>,
    constraints: OnceLock<Arc<ConstraintFactory>>,
    template: Option<Result<ChatTemplate, TemplateError>>,
    pooling: Pooling,
    /// Known from the first load on: it reads a little of every tensor.
    fingerprint: OnceLock<Fingerprint>,
}

impl Opened {
    /// Reads a file's metadata. No tensor is read.
    ///
    /// # Errors
    /// If the file is damaged, or its architecture or its tokenizer is not supported.
    pub fn new(file: &ModelFile) -> Result<Self, Error> {
        let metadata = file.metadata();
        let tokenizer = Tokenizer::from_metadata(metadata)?;
        let spec = crate::model_spec(file)?;
        if tokenizer.n_vocab() > spec.n_vocab {
            return Err(Error::VocabularySize {
                model: file.name().to_owned(),
                tokens: tokenizer.n_vocab(),
                rows: spec.n_vocab,
            });
        }
        let template = metadata
            .opt_str("tokenizer.chat_template")?
            .map(ChatTemplate::new);
        Ok(Self {
            name: spec.name.clone().unwrap_or_else(|| file.name().to_owned()),
            pooling: Pooling::of(file, &spec)?,
            spec,
            tokenizer: Arc::new(tokenizer),
            constraints: OnceLock::new(),
            template,
            fingerprint: OnceLock::new(),
        })
    }

    /// The model's own name, or its file's.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The model's shape.
    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// The model's tokenizer.
    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.tokenizer
    }

    /// What compiles grammars for the model's vocabulary. Made when it is first asked for, which takes part of a second.
    ///
    /// # Errors
    /// [`ConstraintError::Vocabulary`] if the vocabulary is too large for it.
    pub fn constraints(&self) -> Result<&Arc<ConstraintFactory>, ConstraintError> {
        if let Some(made) = self.constraints.get() {
            return Ok(made);
        }
        let made = Arc::new(ConstraintFactory::new(Arc::clone(&self.tokenizer))?);
        Ok(self.constraints.get_or_init(|| made))
    }

    /// The model's chat template: `None` if the file has none, an error if it is broken.
    pub fn chat_template(&self) -> Option<Result<&ChatTemplate, &TemplateError>> {
        self.template.as_ref().map(Result::as_ref)
    }

    /// How the model's hidden states become an embedding.
    pub fn pooling(&self) -> Pooling {
        self.pooling
    }

    /// Makes sure that a file holds the weights that belong to this: it may have been replaced since it was opened.
    ///
    /// # Errors
    /// [`Error::OtherFile`] if it does not, or the file's own if it cannot be read.
    pub(crate) fn identify(&self, file: &ModelFile) -> Result<Fingerprint, Error> {
        let found = Fingerprint::of(file)?;
        match *self.fingerprint.get_or_init(|| found) == found {
            true => Ok(found),
            false => Err(Error::OtherFile {
                file: file.name().to_owned(),
            }),
        }
    }
}
