//! Answers of a given form: JSON by a schema, text by a regular expression or a grammar.
//!
//! A [`Grammar`] is compiled once for a vocabulary ([`ConstraintFactory`]) and yields a [`Constraint`], the state of one
//! answer: before each token its [`mask`](Constraint::mask) tells the sampler what may come, and afterwards it is told what
//! came ([`accept`](Constraint::accept)). The parsing itself is llguidance's; this module is the edge around it, since
//! grammars come with requests and requests come from anywhere:
//!
//! - What is not supported is an error, never ignored: there is no answer that is only said to follow the schema.
//! - Size, nesting, time and memory are bounded before and while a grammar is compiled (`compiler.rs`).
//! - A panic in the parser is an error of this grammar. Nothing here opens a file or a socket; a `$ref` leads within
//!   its own schema (`schema.rs`).
//!
//! Nothing here knows logits: [`Sampler::sample_masked`](crate::sampler::Sampler::sample_masked) applies the mask. Why it
//! is built like this: docs/adr/0006-structured-output.md.

mod error;
mod grammar;

mod cache;
mod compiler;
mod schema;
mod vocabulary;

use std::sync::Arc;

use llguidance::Matcher;
use llguidance::api::StopReason;
use troika_base::TokenId;

pub use error::ConstraintError;
pub use grammar::{Grammar, check_schema};

use crate::sampler::TokenMask;
use crate::tokenizer::Tokenizer;
use cache::Cache;
use compiler::Compiler;

/// Compiles grammars for one model's vocabulary.
///
/// Making one walks the whole vocabulary (0.3 s for 128,000 tokens), so there is one for each model, shared by all of
/// its answers. The last grammars are kept, so that requests that repeat a schema wait for nothing.
pub struct ConstraintFactory {
    tokenizer: Arc<Tokenizer>,
    compiler: Compiler,
    compiled: Cache,
}

impl ConstraintFactory {
    /// A factory for a tokenizer's vocabulary.
    ///
    /// # Errors
    /// [`ConstraintError::Vocabulary`] if the vocabulary is beyond what the parser's tables hold.
    pub fn new(tokenizer: Arc<Tokenizer>) -> Result<Self, ConstraintError> {
        Ok(Self {
            compiler: Compiler::new(vocabulary::token_env(&tokenizer)?)?,
            tokenizer,
            compiled: Cache::default(),
        })
    }

    /// A grammar's constraint, at the beginning of an answer.
    ///
    /// # Errors
    /// If the grammar is malformed, asks for what is not supported, or is too large, too deep or too complex: then
    /// [`ConstraintError::is_bad_grammar`] holds, and the message says what is wrong and where. It never takes much
    /// longer than a second.
    pub fn compile(&self, grammar: &Grammar) -> Result<Constraint, ConstraintError> {
        let source = grammar.source()?;
        let matcher = match self.compiled.get(&source) {
            Some(matcher) => matcher,
            None => {
                let matcher = Arc::new(self.compiler.compile(&source)?);
                self.compiled.insert(source, Arc::clone(&matcher));
                matcher
            }
        };
        Ok(Constraint {
            // With caches of its own: what one answer makes the parser remember is gone with the answer.
            matcher: Box::new(matcher.deep_clone()),
            mask: TokenMask::nothing(self.tokenizer.n_vocab()),
            mask_is_current: false,
            tokenizer: Arc::clone(&self.tokenizer),
        })
    }
}

impl std::fmt::Debug for ConstraintFactory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConstraintFactory")
            .field("tokenizer", &self.tokenizer)
            .finish_non_exhaustive()
    }
}

/// What may follow in one answer.
///
/// After an error it stays an error: an answer that has left its grammar does not come back to it.
pub struct Constraint {
    /// Boxed, as it is 2 kB and answers are passed about.
    matcher: Box<Matcher>,
    mask: TokenMask,
    mask_is_current: bool,
    tokenizer: Arc<Tokenizer>,
}

impl Constraint {
    /// The tokens that may come next. Tokens that end an answer are among them only where the grammar is complete, and
    /// alone where nothing else may follow. Asking again costs nothing.
    ///
    /// # Errors
    /// [`ConstraintError::Stuck`] if no token leads on, or finding them out takes more work than one step may.
    pub fn mask(&mut self) -> Result<&TokenMask, ConstraintError> {
        if !self.mask_is_current {
            let set = self
                .matcher
                .compute_mask_or_eos()
                .map_err(|error| ConstraintError::stuck(&error))?;
            self.mask = TokenMask::from_words(set.into(), self.tokenizer.n_vocab());
            self.mask_is_current = true;
        }
        Ok(&self.mask)
    }

    /// Goes on by the token that was chosen.
    ///
    /// # Errors
    /// [`ConstraintError::Refused`] if the grammar does not allow it here.
    pub fn accept(&mut self, token: TokenId) -> Result<(), ConstraintError> {
        if self.is_finished() && self.tokenizer.is_end_of_generation(token) {
            return Ok(());
        }
        let was_allowed = self.mask_is_current && self.mask.allows(token);
        self.mask_is_current = false;
        self.matcher.consume_token(token.0).map_err(|error| {
            if was_allowed {
                // The token is right, and the parser gave up on it.
                ConstraintError::stuck(&error)
            } else {
                ConstraintError::Refused { token }
            }
        })
    }

    /// Whether the answer is complete and nothing but its end may follow: no token need be computed for that.
    pub fn is_finished(&self) -> bool {
        let reason = self.matcher.stop_reason();
        reason != StopReason::NotStopped && reason.is_ok()
    }
}

impl Clone for Constraint {
    /// The same place in the same grammar; from here on the two are independent.
    fn clone(&self) -> Self {
        Self {
            matcher: Box::new(self.matcher.deep_clone()),
            mask: self.mask.clone(),
            mask_is_current: self.mask_is_current,
            tokenizer: Arc::clone(&self.tokenizer),
        }
    }
}

impl std::fmt::Debug for Constraint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Constraint")
            .field("stop_reason", &self.matcher.stop_reason())
            .finish_non_exhaustive()
    }
}
