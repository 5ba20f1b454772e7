//! Answers of a given form: what the masks let through, what they end, and which grammars are refused.

#[path = "../common/mod.rs"]
mod common;

mod answers;
mod hostile;
mod validator;
mod walks;

use std::sync::{Arc, LazyLock};

use troika_engine::constraint::{Constraint, ConstraintError, ConstraintFactory, Grammar};
use troika_engine::tokenizer::Tokenizer;

/// Over the vocabulary of the model that is in the program.
static STORIES: LazyLock<(Arc<Tokenizer>, ConstraintFactory)> = LazyLock::new(|| {
    let file = common::stories();
    factory(Tokenizer::from_metadata(file.metadata()).expect("is sound"))
});

fn factory(tokenizer: Tokenizer) -> (Arc<Tokenizer>, ConstraintFactory) {
    let tokenizer = Arc::new(tokenizer);
    let factory = ConstraintFactory::new(Arc::clone(&tokenizer)).expect("an ordinary vocabulary");
    (tokenizer, factory)
}

fn compile(grammar: &Grammar) -> Result<Constraint, ConstraintError> {
    STORIES.1.compile(grammar)
}
