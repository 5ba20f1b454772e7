//! Grammars to parsers, within bounds of time, memory and stack.
//!
//! The parser's own compiler recurses over a grammar, and counts most of its work but not all: it takes seconds at worst
//! for what `grammar.rs` and `schema.rs` let pass, and milliseconds for what people write. So it runs on a thread with a
//! stack that is known, and whoever asked waits for a second at most. What goes on longer is left alone until it ends; a
//! few such threads may exist, and then further grammars wait for their turn or are turned away.

use std::fmt::Display;
use std::panic::AssertUnwindSafe;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use llguidance::api::{ParserLimits, TopLevelGrammar};
use llguidance::panic_utils::catch_unwind;
use llguidance::toktrie::{InferenceCapabilities, TokEnv};
use llguidance::{JsonCompileOptions, Matcher, ParserFactory};
use serde_json::Value;

use super::error::{is_dead_end, one_line};
use super::grammar::Source;
use super::{ConstraintError, schema};

/// How long a grammar is waited for.
const TIME_MAX: Duration = Duration::from_secs(1);

/// Grammars that are compiled at once, those included that are waited for no longer.
const RUNNING_MAX: usize = 4;

/// The compiler recurses once for each property of an object and each definition that leads to the next. The longest chains
/// that are let pass need between 16 and 64 MiB. Only what is touched becomes memory.
const STACK_BYTES: usize = 256 << 20;

/// JSON as programs write it: compact, or with line breaks and indents. Without a bound a model that has lost the thread
/// writes spaces for ever.
const WHITESPACE: &str = r" |\r?\n[ \t]{0,20}";

/// Compiles grammars for one vocabulary.
pub(super) struct Compiler {
    factory: Arc<ParserFactory>,
    slots: Arc<Slots>,
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
                reason: one_line(&error.to_string()),
            })?;
        *factory.limits_mut() = limits();
        // Its warnings would go to stderr.
        factory.quiet();
        Ok(Self {
            factory: Arc::new(factory),
            slots: Arc::default(),
        })
    }

    /// Compiles a grammar.
    ///
    /// # Errors
    /// If it is malformed, not supported, or takes too much.
    pub(super) fn compile(&self, source: &Source) -> Result<Matcher, ConstraintError> {
        let deadline = Instant::now() + TIME_MAX;
        let slot = Slots::take(&self.slots, deadline)?;
        let (send, receive) = mpsc::sync_channel(1);
        let factory = Arc::clone(&self.factory);
        let job = source.clone();
        std::thread::Builder::new()
            .name("grammar".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || {
                let result = compile(&factory, &job);
                drop(slot);
                // Nobody may be waiting any more.
                let _ = send.send(result);
            })
            .map_err(|error| ConstraintError::NoThread {
                reason: error.to_string(),
            })?;
        let result = receive.recv_timeout(deadline.saturating_duration_since(Instant::now()));
        result.unwrap_or_else(|error| {
            let reason = match error {
                RecvTimeoutError::Timeout => {
                    format!("it is not compiled after {} s", TIME_MAX.as_secs())
                }
                RecvTimeoutError::Disconnected => "the parser failed on it".to_owned(),
            };
            let what = source.what();
            Err(ConstraintError::TooComplex { what, reason })
        })
    }
}

/// Bounds of work, in the parser's own units.
fn limits() -> ParserLimits {
    ParserLimits {
        // About 20 ms for all expressions together.
        initial_lexer_fuel: 1_000_000,
        // About 14 ms and 10 ms, for one mask.
        step_lexer_fuel: 200_000,
        step_max_items: 200_000,
        // Each optional property that may come next is four or five.
        max_items_in_row: 8_000,
        // 1 to 2 kB each.
        max_lexer_states: 20_000,
        // Errors go to whoever sent the grammar, who does not need the parser's state.
        verbose_errors: false,
        ..ParserLimits::default()
    }
}

/// How many grammars are being compiled.
#[derive(Default)]
struct Slots {
    running: Mutex<usize>,
    freed: Condvar,
}

/// One of those that are compiled; given back when dropped, also by a panic.
struct Slot(Arc<Slots>);

impl Slots {
    /// Waits for a place until the deadline.
    fn take(slots: &Arc<Self>, deadline: Instant) -> Result<Slot, ConstraintError> {
        let running = slots.running.lock().unwrap_or_else(PoisonError::into_inner);
        let left = deadline.saturating_duration_since(Instant::now());
        let waited = slots
            .freed
            .wait_timeout_while(running, left, |running| *running >= RUNNING_MAX);
        let (mut running, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() {
            return Err(ConstraintError::Busy { running: *running });
        }
        *running += 1;
        Ok(Slot(Arc::clone(slots)))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let slots = &self.0;
        *slots.running.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        slots.freed.notify_one();
    }
}

/// Compiles a grammar and computes its first mask, which shows whether any answer fits it.
fn compile(factory: &ParserFactory, source: &Source) -> Result<Matcher, ConstraintError> {
    let work = AssertUnwindSafe(|| Ok(prepare(source)));
    // A panic is an error like the others, and is not printed; those in the parser itself come back as errors.
    let grammar = catch_unwind(work).unwrap_or_else(|error| Err(refused(source, &error)))?;
    let parser = factory
        .create_parser(grammar.parsed)
        .map_err(|error| match grammar.one_of {
            Some(at) if error.to_string().contains("oneOf") => ConstraintError::Invalid {
                what: source.what(),
                at: Some(at),
                reason: "the options of this `oneOf` may overlap; write `anyOf`, or give each a required property with a constant of its own".to_owned(),
            },
            _ => refused(source, &error),
        })?;
    let mut matcher = Matcher::new(Ok(parser));
    match matcher.compute_mask_or_eos() {
        Ok(_) => Ok(matcher),
        Err(error) if is_dead_end(&error) => Err(ConstraintError::Invalid {
            what: source.what(),
            at: None,
            reason: "no answer fits it, not even its first token".to_owned(),
        }),
        Err(error) => Err(refused(source, &error)),
    }
}

/// A grammar as the parser takes it.
struct Prepared {
    parsed: TopLevelGrammar,
    /// Where a `oneOf` stands that the parser may refuse.
    one_of: Option<String>,
}

fn prepare(source: &Source) -> Result<Prepared, ConstraintError> {
    let invalid = |reason: String| ConstraintError::Invalid {
        what: source.what(),
        at: None,
        reason,
    };
    let mut one_of = None;
    let parsed = match source {
        Source::Schema(text) => {
            let schema = serde_json::from_str(text).map_err(|error| invalid(error.to_string()))?;
            let mut checked = schema::checked(schema)?;
            json_options().apply_to(&mut checked.schema);
            one_of = checked.one_of;
            TopLevelGrammar::from_json_schema(checked.schema)
        }
        Source::Regex(text) => {
            schema::check_pattern(text).map_err(invalid)?;
            TopLevelGrammar::from_regex(text)
        }
        Source::Lark(text) => {
            TopLevelGrammar::from_lark(with_checked_schemas(text, Spacing::Ours)?)
        }
        Source::Calls(text) => {
            TopLevelGrammar::from_lark(with_checked_schemas(text, Spacing::AsWritten)?)
        }
    };
    Ok(Prepared { parsed, one_of })
}

/// How the JSON of a schema in a Lark grammar is spaced.
#[derive(Clone, Copy, PartialEq)]
enum Spacing {
    /// As everywhere.
    Ours,
    /// As the schema says, in the parser's words.
    AsWritten,
}

/// A Lark grammar with the schemas in it checked, which it has as `%json {…}`.
fn with_checked_schemas(text: &str, spacing: Spacing) -> Result<String, ConstraintError> {
    const KEYWORD: &str = "%json";
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(KEYWORD) {
        let (before, after) = rest.split_at(at + KEYWORD.len());
        out.push_str(before);
        rest = after;
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
        // What is no JSON is no schema either; the parser says so, with the line.
        if let Some(Ok(mut schema)) = values.next() {
            let said = match spacing {
                Spacing::Ours => None,
                // Without it, this is no schema but a text in which somebody writes of one.
                Spacing::AsWritten => match take_spacing(&mut schema) {
                    Some(said) => Some(said),
                    None => continue,
                },
            };
            let mut checked = schema::checked(schema)?;
            match said {
                Some(said) => checked.schema[OPTIONS] = said,
                None => json_options().apply_to(&mut checked.schema),
            }
            out.push_str(&format!(" {} ", checked.schema));
            rest = &rest[values.byte_offset()..];
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// Where the parser's options stand in a schema.
const OPTIONS: &str = "x-guidance";

fn take_spacing(schema: &mut Value) -> Option<Value> {
    schema.as_object_mut()?.shift_remove(OPTIONS)
}

/// The parser's own reason, in so far as it is for the grammar's author.
fn refused(source: &Source, error: &impl Display) -> ConstraintError {
    let what = source.what();
    let mut reason = one_line(&format!("{error:#}"));
    if matches!(source, Source::Calls(_)) {
        reason = without_place(&reason).to_owned();
    }
    let is_bound = [
        "limit",
        "precomputation failed",
        "schema too large",
        "Too many",
        "too many",
    ];
    if is_bound.iter().any(|word| reason.contains(word)) {
        // What follows is advice on settings that are ours.
        let reason = reason.split(';').next().unwrap_or_default().to_owned();
        return ConstraintError::TooComplex { what, reason };
    }
    ConstraintError::Invalid {
        what,
        at: None,
        reason,
    }
}

/// The reason without the `at 3(14): ` before it, which tells a place in a text that the author has not seen.
fn without_place(reason: &str) -> &str {
    let place = reason
        .strip_prefix("at ")
        .and_then(|it| it.split_once(": "));
    match place {
        Some((place, rest))
            if !place.contains(|c: char| !c.is_ascii_digit() && !"()".contains(c)) =>
        {
            rest
        }
        _ => reason,
    }
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
