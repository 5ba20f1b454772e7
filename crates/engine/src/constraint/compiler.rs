//! Grammars to parsers, within bounds of time, memory and stack.
//!
//! The parser's own compiler recurses over a grammar, and counts most of its work but not all. So it runs on a thread
//! with a stack that is known, and whoever asked waits for a second at most. What goes on longer is left alone until its
//! own bounds end it; a few such threads may exist, and then new grammars are turned away.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use llguidance::api::{ParserLimits, TopLevelGrammar};
use llguidance::panic_utils::catch_unwind;
use llguidance::toktrie::{InferenceCapabilities, TokEnv};
use llguidance::{JsonCompileOptions, Matcher, ParserFactory};

use super::error::first_lines;
use super::grammar::Source;
use super::{ConstraintError, schema};

/// How long a grammar is waited for.
const TIME_MAX: Duration = Duration::from_secs(1);

/// Grammars that are compiled at once, those included that are waited for no longer.
const RUNNING_MAX: usize = 4;

/// The compiler recurses once for each property of an object and each definition that leads to the next, of which a
/// grammar has some ten thousand. Only what is touched becomes memory.
const STACK_BYTES: usize = 256 << 20;

/// JSON as programs write it: compact, or with line breaks and indents. Without a bound a model that has lost the thread
/// writes spaces for ever.
const WHITESPACE: &str = r" |\r?\n[ \t]{0,40}";

/// Compiles grammars for one vocabulary.
pub(super) struct Compiler {
    factory: Arc<ParserFactory>,
    running: Arc<AtomicUsize>,
}

impl Compiler {
    /// A compiler for the tokens of `env`.
    ///
    /// # Errors
    /// [`ConstraintError::Vocabulary`] if the tables cannot be made.
    pub(super) fn new(env: TokEnv) -> Result<Self, ConstraintError> {
        let slices = llguidance::earley::SlicedBiasComputer::general_slices();
        let mut factory = ParserFactory::new(&env, InferenceCapabilities::default(), &slices)
            .map_err(|error| ConstraintError::Vocabulary {
                reason: first_lines(&error.to_string()),
            })?;
        *factory.limits_mut() = limits();
        // Its warnings would go to stderr.
        factory.quiet();
        Ok(Self {
            factory: Arc::new(factory),
            running: Arc::default(),
        })
    }

    /// Compiles a grammar.
    ///
    /// # Errors
    /// If it is malformed, not supported, or takes too much.
    pub(super) fn compile(&self, source: &Source) -> Result<Matcher, ConstraintError> {
        let slot = Slot::take(&self.running)?;
        let (send, receive) = mpsc::sync_channel(1);
        let factory = Arc::clone(&self.factory);
        let job = source.clone();
        std::thread::Builder::new()
            .name("grammar".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || {
                let result = compile_or_catch(&factory, &job);
                drop(slot);
                // Nobody may be waiting any more.
                let _ = send.send(result);
            })
            .map_err(|error| ConstraintError::NoThread {
                reason: error.to_string(),
            })?;
        receive.recv_timeout(TIME_MAX).unwrap_or_else(|_| {
            Err(ConstraintError::TooComplex {
                what: source.what(),
                reason: format!("it is not compiled after {} s", TIME_MAX.as_secs()),
            })
        })
    }
}

/// Bounds of work, in the parser's own units.
fn limits() -> ParserLimits {
    ParserLimits {
        // About 20 ms for all expressions together.
        initial_lexer_fuel: 1_000_000,
        // About 14 ms and 3 ms, for one mask.
        step_lexer_fuel: 200_000,
        step_max_items: 50_000,
        // 1 to 2 kB each.
        max_lexer_states: 50_000,
        // Errors go to whoever sent the grammar, who does not need the parser's state.
        verbose_errors: false,
        ..ParserLimits::default()
    }
}

/// A place among those that compile; given back when dropped, also by a panic.
struct Slot(Arc<AtomicUsize>);

impl Slot {
    fn take(running: &Arc<AtomicUsize>) -> Result<Self, ConstraintError> {
        let before = running.fetch_add(1, Ordering::Relaxed);
        let slot = Self(Arc::clone(running));
        if before >= RUNNING_MAX {
            return Err(ConstraintError::Busy { running: before });
        }
        Ok(slot)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// [`compile`], with a panic as an error. It is not printed either.
fn compile_or_catch(factory: &ParserFactory, source: &Source) -> Result<Matcher, ConstraintError> {
    let work = AssertUnwindSafe(|| Ok(compile(factory, source)));
    catch_unwind(work).unwrap_or_else(|error| {
        Err(ConstraintError::Invalid {
            what: source.what(),
            at: None,
            reason: first_lines(&format!("the parser failed on it: {error}")),
        })
    })
}

fn compile(factory: &ParserFactory, source: &Source) -> Result<Matcher, ConstraintError> {
    let invalid = |reason: String| ConstraintError::Invalid {
        what: source.what(),
        at: None,
        reason,
    };
    let grammar = match source {
        Source::Schema(text) => {
            let schema = serde_json::from_str(text).map_err(|error| invalid(error.to_string()))?;
            let mut schema = schema::checked(schema)?;
            json_options().apply_to(&mut schema);
            TopLevelGrammar::from_json_schema(schema)
        }
        Source::Regex(text) => {
            schema::check_pattern(text).map_err(invalid)?;
            TopLevelGrammar::from_regex(text)
        }
        Source::Lark(text) => TopLevelGrammar::from_lark(text.clone()),
    };
    // Panics inside come back as errors.
    let parser = factory.create_parser(grammar).map_err(|error| {
        let reason = first_lines(&format!("{error:#}"));
        invalid(reason)
    })?;
    Ok(Matcher::new(Ok(parser)))
}

fn json_options() -> JsonCompileOptions {
    JsonCompileOptions {
        whitespace_pattern: Some(WHITESPACE.to_owned()),
        // What is not supported is an error.
        lenient: false,
        coerce_one_of: false,
        ..JsonCompileOptions::default()
    }
}
