//! What can be wrong with a model file's vocabulary.

/// A vocabulary that cannot be used. Every variant names the metadata key, or the token, that is at fault.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// A key is absent or of the wrong type.
    #[error(transparent)]
    Metadata(#[from] troika_gguf::Error),

    /// `tokenizer.ggml.model` names a kind of tokenizer that is not built in.
    #[error("tokenizer.ggml.model is `{model}`, which is not supported; known: {known}")]
    UnknownModel {
        /// What the file says.
        model: String,
        /// What would be understood.
        known: String,
    },

    /// `tokenizer.ggml.pre` names a pre-tokenizer that is not built in.
    #[error("tokenizer.ggml.pre is `{pre}`, which is not supported; known: {known}")]
    UnknownPre {
        /// What the file says.
        pre: String,
        /// What would be understood.
        known: String,
    },

    /// A byte-pair vocabulary does not say how text is split into words.
    #[error(
        "tokenizer.ggml.pre is absent, so how text is split into words would be a guess; convert the model again \
         with a current converter, or set the key to one of: {known}"
    )]
    MissingPre {
        /// What would be understood.
        known: String,
    },

    /// The vocabulary has no tokens, or more than ids can count.
    #[error("tokenizer.ggml.tokens has {have} tokens; 1 to {max} are possible")]
    TokenCount {
        /// Tokens in the file.
        have: usize,
        /// The most that are possible.
        max: usize,
    },

    /// An array that has one entry per token has another length.
    #[error("{key} has {have} entries, but there are {want} tokens")]
    ArrayLength {
        /// The key of the array.
        key: &'static str,
        /// Entries in the array.
        have: usize,
        /// Tokens in the vocabulary.
        want: usize,
    },

    /// A token is longer than any tokenizer makes.
    #[error(
        "token {id} of tokenizer.ggml.tokens has {bytes} bytes; at most {max} are allowed for its type"
    )]
    PieceTooLong {
        /// The token.
        id: usize,
        /// Its length.
        bytes: usize,
        /// The most that is allowed.
        max: usize,
    },

    /// Two tokens have the same text, so encoding would be a guess.
    #[error("tokens {first} and {second} of tokenizer.ggml.tokens are both `{piece}`")]
    DuplicateToken {
        /// The text.
        piece: String,
        /// The lower id.
        first: usize,
        /// The higher id.
        second: usize,
    },

    /// `tokenizer.ggml.token_type` holds a number that is no type.
    #[error("tokenizer.ggml.token_type says {value} of token {id}; types are 0 to 6")]
    TokenType {
        /// The token.
        id: usize,
        /// What the file says.
        value: i32,
    },

    /// A score that cannot be ordered.
    #[error("tokenizer.ggml.scores is not a number for token {id}")]
    Score {
        /// The token.
        id: usize,
    },

    /// A token of type byte does not spell one.
    #[error(
        "token {id} is of type byte, but its text is `{piece}`; `<0x00>` to `<0xFF>` are possible"
    )]
    ByteToken {
        /// The token.
        id: usize,
        /// Its text.
        piece: String,
    },

    /// A merge that is not two tokens that make a third.
    #[error("merge {index} of tokenizer.ggml.merges, `{merge}`, {problem}")]
    Merge {
        /// Its place in the array.
        index: usize,
        /// Its text.
        merge: String,
        /// What is wrong with it.
        problem: &'static str,
    },

    /// A special token's id is outside the vocabulary.
    #[error("{key} is {id}, but there are {n_vocab} tokens")]
    IdOutOfRange {
        /// The key.
        key: &'static str,
        /// What the file says.
        id: u32,
        /// Tokens in the vocabulary.
        n_vocab: usize,
    },

    /// A special token is needed that the file does not name.
    #[error("{key} is absent, but {needed_by} needs that token")]
    MissingId {
        /// The key.
        key: &'static str,
        /// The key that needs it.
        needed_by: &'static str,
    },
}
