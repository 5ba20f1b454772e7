//! What can go wrong between a model file and an answer.

use crate::chat::TemplateError;
use crate::constraint::ConstraintError;
use crate::sampler::SampleError;
use crate::stop::StopError;
use crate::tokenizer::TokenizerError;

/// Why a model did not load or an answer was not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file is damaged or could not be read.
    #[error(transparent)]
    File(#[from] troika_gguf::Error),
    /// The device cannot load or run the model.
    #[error(transparent)]
    Device(#[from] troika_device::Error),
    /// The file's tokenizer is broken or not supported.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The file's chat template is broken or refuses the conversation.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// Sampling parameters are out of range, or the model's scores are no numbers.
    #[error(transparent)]
    Sample(#[from] SampleError),
    /// The answer's grammar is refused, or the answer cannot follow it.
    #[error(transparent)]
    Constraint(#[from] ConstraintError),
    /// A stop string cannot be one.
    #[error(transparent)]
    Stop(#[from] StopError),
    /// Too little text to measure perplexity on.
    #[error(transparent)]
    TextTooShort(#[from] crate::TextTooShort),
    /// A file of recorded logits is damaged, or of another vocabulary.
    #[error(transparent)]
    Recording(#[from] crate::RecordingError),
    /// The tokenizer names more tokens than the model has rows for.
    #[error(
        "{model}: the tokenizer has {tokens} tokens and the embedding table {rows} rows; the file is damaged"
    )]
    VocabularySize {
        /// The file.
        model: String,
        /// Tokens of the tokenizer.
        tokens: usize,
        /// Rows of the embedding table.
        rows: usize,
    },
    /// Keys and values of another time or place cannot be used.
    #[error(transparent)]
    Kv(#[from] crate::KvError),
    /// A file that was opened holds another model now.
    #[error(
        "{file} was replaced by another model since it was opened; open it again, or put the old one back"
    )]
    OtherFile {
        /// The file.
        file: String,
    },
    /// A draft model's tokens are not those of the model that it drafts for.
    #[error(
        "the draft model has another vocabulary: token {token} is not the same text in both; use a smaller model of the same family"
    )]
    OtherVocabulary {
        /// The first token that differs.
        token: troika_base::TokenId,
    },
    /// The prompt has no tokens.
    #[error(
        "the prompt is empty, and this model has no token that begins a text; give it some words"
    )]
    EmptyPrompt,
    /// An embedding is no vector of numbers.
    #[error(
        "the text's embedding is not made of numbers: the model's file is damaged, or it computes beyond the range of floats"
    )]
    BadEmbedding,
    /// A model's scores cannot be compared.
    #[error(
        "the model's scores are no numbers: its file is damaged, or it computes beyond the range of floats"
    )]
    NoNumbers,
    /// The prompt is longer than the context.
    #[error(
        "the prompt has {prompt} tokens and the context holds {context}; shorten it or load the model with a larger context (`--ctx`)"
    )]
    PromptTooLong {
        /// Tokens of the prompt.
        prompt: usize,
        /// Tokens that the context holds.
        context: usize,
    },
    /// No page of the KV cache is free.
    #[error(
        "the KV cache is full: {wanted} pages are needed and {free} are free; end a sequence or load the model with a larger context"
    )]
    CacheFull {
        /// Pages that the step needs.
        wanted: usize,
        /// Pages that are free.
        free: usize,
    },
}
