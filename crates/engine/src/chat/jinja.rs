//! An interpreter of the language that chat templates are written in: Jinja as `transformers` configures it.
//!
//! A template comes from the model's file, so it is hostile until it has rendered. The language is therefore run
//! here, with every allocation, step and level of recursion on a budget ([`budget`]); it has no way to the file
//! system, the network or the host's objects. It is no general template engine: no inheritance, no imports, no
//! escaping, no extensions.
//!
//! Semantics are those of Python's jinja2 3.1 with `trim_blocks` and `lstrip_blocks`, the loop controls, the tag
//! `generation`, and the functions `raise_exception` and `strftime_now`. Deliberately different: looping over
//! `none` does nothing, generators are lists, `safe` marks nothing, an address is never printed, lists can be appended to
//! and popped from, and namespaces and macros cannot be kept in other values.
//!
//! Start reading at [`Program`]; then `lexer`, `parser`, `interp`, `expr`.

mod access;
mod args;
mod ast;
mod budget;
mod error;
mod expr;
mod filters;
mod format;
mod interp;
mod json;
mod lexer;
mod methods;
mod mutate;
mod ops;
mod parser;
mod predicates;
mod sequences;
mod show;
mod statements;
mod text;
mod value;

pub(super) use budget::Limits;
pub use error::Limit;
pub(super) use error::{Error, Fault};

use budget::Budget;
use interp::Interpreter;
use value::Value;

use super::clock::Moment;

/// A parsed template.
#[derive(Debug)]
pub(super) struct Program {
    body: ast::Body,
    limits: Limits,
}

impl Program {
    pub(super) fn parse(source: &str, limits: Limits) -> Result<Self, Error> {
        if source.len() > limits.source_bytes {
            return Err(Error {
                line: 1,
                fault: Fault::Limit(Limit::Source),
            });
        }
        let body = statements::parse(source, limits.nesting)?;
        Ok(Self { body, limits })
    }

    /// Renders with the given variables. `now` is asked when the template asks for the time.
    pub(super) fn render(
        &self,
        context: &[(&str, serde_json::Value)],
        now: &(dyn Fn() -> Moment + Sync),
    ) -> Result<String, Error> {
        let budget = Budget::new(self.limits);
        let at_line = |line| move |fault| Error { line, fault };
        let variables = context
            .iter()
            .map(|(name, value)| Ok((*name, Value::from_json(&budget, value)?)))
            .collect::<Result<Vec<_>, Fault>>()
            .map_err(at_line(1))?;
        let mut interpreter = Interpreter::new(&budget, &variables, now);
        let result = interpreter.body(&self.body);
        let line = interpreter.line;
        result.map_err(at_line(line))?;
        Ok(interpreter.finish())
    }
}

#[cfg(test)]
mod tests;
