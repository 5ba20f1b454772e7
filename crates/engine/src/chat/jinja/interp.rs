//! Runs a template: statements, scopes, and calls of macros. Expressions are in [`super::expr`].
//!
//! Scopes are Jinja's: a loop's body, a macro, `with` and `call` have variables of their own; `if` has not. What is
//! set in them does not reach out, only a namespace's attributes do.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::args::Arguments;
use super::ast::{Body, Call, Expr, For, MacroDef, Stmt, StmtKind, Target};
use super::budget::Budget;
use super::error::{Fault, Limit};
use super::filters;
use super::value::{Frame, Items, LoopState, Macro, Text, Value};
use crate::chat::clock::Moment;

pub(super) struct Interpreter<'a, 'b> {
    pub(super) budget: &'b Budget,
    pub(super) now: &'b dyn Fn() -> Moment,
    /// The line of the statement that runs, for messages.
    pub(super) line: u32,
    /// What the caller gives: messages, tools and so on.
    context: &'b [(&'a str, Value<'a>)],
    /// Variables set outside of any block.
    top: Frame<'a>,
    /// Variables of the blocks around here, outermost first; those of a macro's caller are not among them.
    blocks: Vec<Frame<'a>>,
    out: String,
    /// Bytes in `out` and in the outputs that were set aside while a part is captured.
    written: usize,
}

/// How a body ended.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Flow {
    Through,
    Break,
    Continue,
}

impl<'a, 'b> Interpreter<'a, 'b> {
    pub(super) fn new(
        budget: &'b Budget,
        context: &'b [(&'a str, Value<'a>)],
        now: &'b dyn Fn() -> Moment,
    ) -> Self {
        Self {
            budget,
            now,
            line: 1,
            context,
            top: Frame::new(budget),
            blocks: Vec::new(),
            out: String::new(),
            written: 0,
        }
    }

    pub(super) fn finish(self) -> String {
        self.out
    }

    pub(super) fn body(&mut self, body: &'a Body) -> Result<Flow, Fault> {
        let budget = self.budget;
        let _descent = budget.descend()?;
        for stmt in body {
            self.line = stmt.line;
            let flow = self.statement(stmt)?;
            if flow != Flow::Through {
                return Ok(flow);
            }
        }
        Ok(Flow::Through)
    }

    fn statement(&mut self, stmt: &'a Stmt) -> Result<Flow, Fault> {
        self.budget.spend(1)?;
        match &stmt.kind {
            StmtKind::Text(text) => self.emit(text)?,
            StmtKind::Output(expr) => {
                let value = self.eval(expr)?;
                let text = value.to_text(self.budget)?;
                self.emit(text.as_str())?;
            }
            StmtKind::If {
                branches,
                otherwise,
            } => return self.if_statement(branches, otherwise),
            StmtKind::For(def) => return self.for_statement(def),
            StmtKind::Set { target, value } => {
                let value = self.eval(value)?;
                self.assign(target, value)?;
            }
            StmtKind::SetBlock {
                target,
                filters,
                body,
            } => {
                let value = self.captured_block(body, filters)?;
                self.assign(target, value)?;
            }
            StmtKind::FilterBlock { filters, body } => {
                let value = self.captured_block(body, filters)?;
                self.emit(value.to_text(self.budget)?.as_str())?;
            }
            StmtKind::With { bindings, body } => {
                let values = bindings.iter().map(|(_, value)| self.eval(value));
                let values = values.collect::<Result<Vec<_>, _>>()?;
                return self.in_block(|interpreter| {
                    for ((target, _), value) in bindings.iter().zip(values) {
                        interpreter.assign(target, value)?;
                    }
                    interpreter.body(body)
                });
            }
            StmtKind::Generation(body) => {
                return self.in_block(|interpreter| interpreter.body(body));
            }
            StmtKind::Macro(def) => {
                let value = self.macro_value(def)?;
                self.set(&def.name, value)?;
            }
            StmtKind::CallBlock { call, caller } => self.call_block(call, caller)?,
            StmtKind::Break => return Ok(Flow::Break),
            StmtKind::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::Through)
    }

    fn if_statement(
        &mut self,
        branches: &'a [(Expr, Body)],
        otherwise: &'a Body,
    ) -> Result<Flow, Fault> {
        for (test, body) in branches {
            if self.eval(test)?.is_true() {
                return self.body(body);
            }
        }
        self.body(otherwise)
    }

    fn for_statement(&mut self, def: &'a For) -> Result<Flow, Fault> {
        let mut items = self.eval(&def.items)?.items(self.budget)?;
        if let Some(filter) = &def.filter {
            let mut kept = Vec::new();
            for item in items.as_slice() {
                let passes = self.in_block(|interpreter| {
                    interpreter.assign(&def.target, item.clone())?;
                    Ok(interpreter.eval(filter)?.is_true())
                })?;
                if passes {
                    kept.push(item.clone());
                }
            }
            items = Items::new(self.budget, kept)?;
        }
        if items.len() == 0 {
            // A `break` here means the loop around this one.
            return self.in_block(|interpreter| interpreter.body(&def.otherwise));
        }
        let state = Rc::new(LoopState {
            items: items.clone(),
            index: Cell::new(0),
            seen: RefCell::new(None),
        });
        for (index, item) in items.as_slice().iter().enumerate() {
            state.index.set(index);
            let flow = self.in_block(|interpreter| {
                interpreter.set("loop", Value::Loop(Rc::clone(&state)))?;
                interpreter.assign(&def.target, item.clone())?;
                interpreter.body(&def.body)
            })?;
            if flow == Flow::Break {
                break;
            }
        }
        Ok(Flow::Through)
    }

    // Variables.

    /// The value of a variable: of the innermost block that has it, of the template, or of the conversation.
    pub(super) fn lookup(&self, name: &str) -> Result<Option<Value<'a>>, Fault> {
        self.budget.spend(1 + self.blocks.len() / 4)?;
        let frames = self.blocks.iter().rev().chain([&self.top]);
        for frame in frames {
            if let Some(value) = frame.get(name) {
                return Ok(Some(value.clone()));
            }
        }
        let given = self.context.iter().find(|(have, _)| *have == name);
        Ok(given.map(|(_, value)| value.clone()))
    }

    fn set(&mut self, name: &'a str, value: Value<'a>) -> Result<(), Fault> {
        let frame = self.blocks.last_mut().unwrap_or(&mut self.top);
        frame.set(self.budget, name, value)
    }

    /// Gives a variable another value where it is, unlike [`Self::set`].
    pub(super) fn replace(&mut self, name: &'a str, value: Value<'a>) -> Result<(), Fault> {
        let frames = self.blocks.iter_mut().rev().chain([&mut self.top]);
        for frame in frames {
            if frame.get(name).is_some() {
                return frame.set(self.budget, name, value);
            }
        }
        self.top.set(self.budget, name, value)
    }

    fn assign(&mut self, target: &'a Target, value: Value<'a>) -> Result<(), Fault> {
        match target {
            Target::Name(name) => self.set(name, value),
            Target::Attribute(name, attribute) => match self.lookup(name)? {
                Some(Value::Namespace(namespace)) => {
                    namespace.set(self.budget, Text::Borrowed(attribute), value)
                }
                _ => Err(Fault::failed(format!(
                    "`{name}` is no namespace, so its attributes cannot be set"
                ))),
            },
            Target::Tuple(targets) => {
                let items = value.items(self.budget)?;
                if items.len() != targets.len() {
                    let (have, want) = (items.len(), targets.len());
                    return Err(Fault::failed(format!(
                        "{have} values cannot be assigned to {want} names"
                    )));
                }
                for (target, item) in targets.iter().zip(items.as_slice()) {
                    self.assign(target, item.clone())?;
                }
                Ok(())
            }
        }
    }

    /// Runs `run` with variables of its own.
    fn in_block<T>(&mut self, run: impl FnOnce(&mut Self) -> Result<T, Fault>) -> Result<T, Fault> {
        self.blocks.push(Frame::new(self.budget));
        let result = run(self);
        self.blocks.pop();
        result
    }

    // Output.

    fn emit(&mut self, text: &str) -> Result<(), Fault> {
        self.budget.spend_bytes(text.len())?;
        let written = self.written.saturating_add(text.len());
        if written > self.budget.limits.output_bytes {
            return Err(Fault::Limit(Limit::Output));
        }
        self.written = written;
        self.out.push_str(text);
        Ok(())
    }

    /// What `run` writes, as a value.
    fn captured(
        &mut self,
        run: impl FnOnce(&mut Self) -> Result<Flow, Fault>,
    ) -> Result<Value<'a>, Fault> {
        let outside = std::mem::take(&mut self.out);
        let result = run(self);
        let captured = std::mem::replace(&mut self.out, outside);
        self.written -= captured.len();
        result?;
        Value::text(self.budget, captured)
    }

    fn captured_block(&mut self, body: &'a Body, filters: &'a [Call]) -> Result<Value<'a>, Fault> {
        let mut value =
            self.captured(|interpreter| interpreter.in_block(|inner| inner.body(body)))?;
        for filter in filters {
            let args = self.arguments(&filter.args)?;
            value = filters::apply(self.budget, &filter.name, &value, args)?;
        }
        Ok(value)
    }

    // Macros.

    fn macro_value(&self, def: &'a MacroDef) -> Result<Value<'a>, Fault> {
        let around = self.blocks.iter().flat_map(|frame| &frame.variables);
        let count = around.clone().count();
        let charge = self.budget.charge(count * size_of::<(&str, Value<'_>)>())?;
        let captured = around.cloned().collect();
        Ok(Value::Macro(Rc::new(Macro {
            def,
            captured,
            _charge: charge,
        })))
    }

    fn call_block(&mut self, call: &'a Expr, caller: &'a MacroDef) -> Result<(), Fault> {
        let caller = self.macro_value(caller)?;
        let value = self.eval_call_with(call, caller)?;
        self.emit(value.to_text(self.budget)?.as_str())
    }

    /// The text that a macro writes.
    pub(super) fn call_macro(
        &mut self,
        callee: &Macro<'a>,
        args: Arguments<'a>,
    ) -> Result<Value<'a>, Fault> {
        let budget = self.budget;
        let _descent = budget.descend()?;
        let mut captured = Frame::new(budget);
        for (name, value) in &callee.captured {
            captured.set(budget, name, value.clone())?;
        }
        let line = self.line;
        let caller_blocks = std::mem::replace(&mut self.blocks, vec![captured, Frame::new(budget)]);
        let result = self.captured(|interpreter| {
            interpreter.bind_params(callee.def, args)?;
            interpreter.body(&callee.def.body)
        });
        self.blocks = caller_blocks;
        if result.is_ok() {
            self.line = line;
        }
        result
    }

    fn bind_params(&mut self, def: &'a MacroDef, args: Arguments<'a>) -> Result<(), Fault> {
        let mut positional = args.positional.into_iter();
        let mut named = args.named;
        for (param, default) in &def.params {
            let by_name = named.iter().position(|(name, _)| name.as_str() == param);
            let value = match (positional.next(), by_name) {
                (Some(_), Some(_)) => {
                    let name = &def.name;
                    return Err(Fault::failed(format!(
                        "`{name}` got the argument `{param}` twice"
                    )));
                }
                (Some(value), None) => value,
                (None, Some(at)) => named.remove(at).1,
                (None, None) => match default {
                    Some(default) => self.eval(default)?,
                    None => Value::Undefined(Some(param)),
                },
            };
            self.set(param, value)?;
        }
        if let Some(at) = named.iter().position(|(name, _)| name.as_str() == "caller") {
            self.set("caller", named.remove(at).1)?;
        }
        let rest: Vec<_> = positional.collect();
        if def.takes_varargs {
            self.set("varargs", Value::tuple(self.budget, rest)?)?;
        } else if !rest.is_empty() {
            let (name, max) = (&def.name, def.params.len());
            return Err(Fault::failed(format!(
                "`{name}` takes at most {max} arguments"
            )));
        }
        if def.takes_kwargs {
            let entries = named
                .into_iter()
                .map(|(name, value)| (Value::Text(name), value));
            let kwargs = super::value::Dict::new(self.budget, entries.collect())?;
            self.set("kwargs", Value::Dict(kwargs))?;
        } else if let Some((unknown, _)) = named.first() {
            let (name, unknown) = (&def.name, unknown.as_str());
            return Err(Fault::failed(format!(
                "`{name}` has no argument `{unknown}`"
            )));
        }
        Ok(())
    }
}
