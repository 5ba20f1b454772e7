//! `list.append(x)` and `list.pop(i)`, for a list that a variable or an attribute of a namespace holds.
//!
//! The sandbox of `transformers` forbids both, and yet some models' templates use them. Here no value ever changes:
//! the holder is given a new list. Another holder of the old one does not see the change, which no template relies on.

use super::args::{Arguments, integer};
use super::ast::{Expr, Postfix};
use super::error::Fault;
use super::interp::Interpreter;
use super::value::{Items, Namespace, Text, Value};
use std::rc::Rc;

/// Where a list is held.
enum Holder<'a> {
    Variable(&'a str),
    Attribute(Rc<Namespace<'a>>, &'a str),
}

impl<'a> Interpreter<'a, '_> {
    /// Evaluates `holder.append(x)` or `holder.pop(i)` at the beginning of an expression. Gives its result and how
    /// many postfixes it took; `None` if this is something else.
    pub(super) fn eval_mutation(
        &mut self,
        operand: &'a Expr,
        postfixes: &'a [Postfix],
    ) -> Result<Option<(Value<'a>, usize)>, Fault> {
        let Expr::Name(name) = operand else {
            return Ok(None);
        };
        let (attribute, method, args) = match postfixes {
            [Postfix::Attribute(method), Postfix::Call(args), ..] => (None, method, args),
            [
                Postfix::Attribute(attribute),
                Postfix::Attribute(method),
                Postfix::Call(args),
                ..,
            ] => (Some(attribute), method, args),
            _ => return Ok(None),
        };
        if !["append", "pop"].contains(&&**method) {
            return Ok(None);
        }
        let (holder, held) = match (self.lookup(name)?, attribute) {
            (Some(Value::Namespace(namespace)), Some(attribute)) => {
                let held = namespace.get(self.budget, attribute)?;
                (Holder::Attribute(namespace, attribute), held)
            }
            (held, None) => (Holder::Variable(name), held),
            _ => return Ok(None),
        };
        let Some(Value::List(items)) = held else {
            return Ok(None);
        };
        let args = self.arguments(args)?;
        let (items, result) = match &**method {
            "append" => (self.appended(&items, args)?, Value::None),
            _ => self.popped(&items, args)?,
        };
        match holder {
            Holder::Variable(name) => self.replace(name, Value::List(items))?,
            Holder::Attribute(namespace, attribute) => {
                namespace.set(self.budget, Text::Borrowed(attribute), Value::List(items))?;
            }
        }
        Ok(Some((result, if attribute.is_some() { 3 } else { 2 })))
    }

    fn appended(&self, items: &Items<'a>, args: Arguments<'a>) -> Result<Items<'a>, Fault> {
        let item = args.one("append", "object")?;
        let items = items.as_slice().iter().cloned().chain([item]);
        Items::collect(self.budget, items.map(Ok))
    }

    fn popped(
        &self,
        items: &Items<'a>,
        args: Arguments<'a>,
    ) -> Result<(Items<'a>, Value<'a>), Fault> {
        let [index] = args.bind("pop", ["index"])?;
        let index = index.map_or(Ok(-1), |index| integer("pop", "index", &index))?;
        let len = items.len();
        let place = if index < 0 {
            index + len as i128
        } else {
            index
        };
        let Some(place) = usize::try_from(place).ok().filter(|&place| place < len) else {
            return Err(Fault::failed(format!(
                "`pop`: a list of {len} has no item {index}"
            )));
        };
        let popped = items.as_slice()[place].clone();
        let (before, after) = (items.part(0, place), items.part(place + 1, len));
        let rest = match place {
            0 => after,
            _ => Items::collect(
                self.budget,
                before
                    .as_slice()
                    .iter()
                    .chain(after.as_slice())
                    .cloned()
                    .map(Ok),
            )?,
        };
        Ok((rest, popped))
    }
}
