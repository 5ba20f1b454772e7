//! Evaluates expressions.

use std::rc::Rc;

use super::args::{Arguments, integer, required};
use super::ast::{Args, Expr, Postfix};
use super::error::{Fault, Limit};
use super::interp::Interpreter;
use super::value::{Dict, Function, Items, Namespace, Text, Value};
use super::{access, filters, methods, ops, predicates};

/// As many numbers as the sandbox of chat templates gives.
const RANGE_MAX: i128 = 100_000;

impl<'a> Interpreter<'a, '_> {
    pub(super) fn eval(&mut self, expr: &'a Expr) -> Result<Value<'a>, Fault> {
        let budget = self.budget;
        let _descent = budget.descend()?;
        match expr {
            Expr::None => Ok(Value::None),
            Expr::Bool(value) => Ok(Value::Bool(*value)),
            Expr::Int(value) => Ok(Value::Int(*value)),
            Expr::Float(value) => Ok(Value::Float(*value)),
            Expr::Text(text) => Ok(Value::Text(Text::Borrowed(text))),
            Expr::Name(name) => self.name(name),
            Expr::List(items) => {
                let items = self.all(items)?;
                Value::list(budget, items)
            }
            Expr::Tuple(items) => {
                let items = self.all(items)?;
                Value::tuple(budget, items)
            }
            Expr::Dict(entries) => self.dict(entries),
            Expr::Not(operand) => Ok(Value::Bool(!self.eval(operand)?.is_true())),
            Expr::Negate(operand) => ops::negate(&self.eval(operand)?),
            Expr::Identity(operand) => ops::negate(&ops::negate(&self.eval(operand)?)?),
            Expr::And(operands) => self.first_where(operands, false),
            Expr::Or(operands) => self.first_where(operands, true),
            Expr::Compare(first, rest) => {
                let mut left = self.eval(first)?;
                for (comparison, right) in rest {
                    let right = self.eval(right)?;
                    if !ops::compare(budget, *comparison, &left, &right)? {
                        return Ok(Value::Bool(false));
                    }
                    left = right;
                }
                Ok(Value::Bool(true))
            }
            Expr::Arithmetic(first, rest) => {
                let mut value = self.eval(first)?;
                for (operator, right) in rest {
                    let right = self.eval(right)?;
                    value = ops::arithmetic(budget, *operator, &value, &right)?;
                }
                Ok(value)
            }
            Expr::Concat(operands) => {
                let operands = self.all(operands)?;
                ops::concat(budget, &operands)
            }
            Expr::If {
                test,
                then,
                otherwise,
            } => match (self.eval(test)?.is_true(), otherwise) {
                (true, _) => self.eval(then),
                (false, Some(otherwise)) => self.eval(otherwise),
                (false, None) => Ok(Value::Undefined(None)),
            },
            Expr::Postfix(operand, postfixes) => {
                let (mut value, done) = match self.eval_mutation(operand, postfixes)? {
                    Some(mutated) => mutated,
                    None => (self.eval(operand)?, 0),
                };
                for postfix in &postfixes[done..] {
                    value = self.postfix(value, postfix)?;
                }
                Ok(value)
            }
        }
    }

    fn all(&mut self, exprs: &'a [Expr]) -> Result<Vec<Value<'a>>, Fault> {
        exprs.iter().map(|expr| self.eval(expr)).collect()
    }

    /// The first operand whose truth is `wanted`, or the last: `or` and `and` give operands, not booleans.
    fn first_where(&mut self, operands: &'a [Expr], wanted: bool) -> Result<Value<'a>, Fault> {
        let mut value = Value::Undefined(None);
        for operand in operands {
            value = self.eval(operand)?;
            if value.is_true() == wanted {
                break;
            }
        }
        Ok(value)
    }

    fn name(&self, name: &'a str) -> Result<Value<'a>, Fault> {
        if let Some(value) = self.lookup(name)? {
            return Ok(value);
        }
        Ok(match name {
            "range" => Value::Function(Function::Range),
            "dict" => Value::Function(Function::Dict),
            "namespace" => Value::Function(Function::Namespace),
            "raise_exception" => Value::Function(Function::RaiseException),
            "strftime_now" => Value::Function(Function::StrftimeNow),
            _ => Value::Undefined(Some(name)),
        })
    }

    fn dict(&mut self, pairs: &'a [(Expr, Expr)]) -> Result<Value<'a>, Fault> {
        let mut entries = Vec::with_capacity(pairs.len());
        for (key, value) in pairs {
            let key = self.eval(key)?;
            let value = self.eval(value)?;
            self.insert(&mut entries, key, value)?;
        }
        Ok(Value::Dict(Dict::new(self.budget, entries)?))
    }

    /// Sets an entry: the last value of a key counts, at the place of the first.
    fn insert(
        &self,
        entries: &mut Vec<(Value<'a>, Value<'a>)>,
        key: Value<'a>,
        value: Value<'a>,
    ) -> Result<(), Fault> {
        if matches!(key, Value::List(_) | Value::Dict(_) | Value::Namespace(_)) {
            return Err(Fault::failed(format!(
                "{} cannot be the key of a dict",
                key.type_name()
            )));
        }
        for (have, slot) in entries.iter_mut() {
            if ops::equal(self.budget, have, &key)? {
                *slot = value;
                return Ok(());
            }
        }
        entries.push((key, value));
        Ok(())
    }

    fn postfix(&mut self, value: Value<'a>, postfix: &'a Postfix) -> Result<Value<'a>, Fault> {
        let budget = self.budget;
        budget.spend(1)?;
        match postfix {
            Postfix::Attribute(name) => access::attribute(budget, &value, name),
            Postfix::Item(key) => {
                let key = self.eval(key)?;
                access::item(budget, &value, &key)
            }
            Postfix::Slice(bounds) => {
                let mut evaluated = [const { None }; 3];
                for (slot, bound) in evaluated.iter_mut().zip(&**bounds) {
                    *slot = match bound {
                        Some(bound) => Some(self.eval(bound)?),
                        None => None,
                    };
                }
                ops::slice(budget, &value, evaluated)
            }
            Postfix::Call(args) => {
                let args = self.arguments(args)?;
                self.call(&value, args)
            }
            Postfix::Filter(call) => {
                let args = self.arguments(&call.args)?;
                filters::apply(budget, &call.name, &value, args)
            }
            Postfix::Test { negated, call } => {
                let args = self.arguments(&call.args)?;
                let passed = predicates::test(budget, &call.name, &value, args)?;
                Ok(Value::Bool(passed != *negated))
            }
        }
    }

    // Calls.

    pub(super) fn arguments(&mut self, args: &'a Args) -> Result<Arguments<'a>, Fault> {
        let mut positional = self.all(&args.positional)?;
        let mut named = Vec::with_capacity(args.named.len());
        for (name, value) in &args.named {
            named.push((Text::Borrowed(name.as_str()), self.eval(value)?));
        }
        if let Some(spread) = &args.spread {
            let items = self.eval(spread)?.items(self.budget)?;
            self.budget.spend(items.len())?;
            positional.extend_from_slice(items.as_slice());
        }
        if let Some(spread) = &args.spread_named {
            let Value::Dict(dict) = self.eval(spread)? else {
                return Err(Fault::failed("`**` needs a dict"));
            };
            self.budget.spend(dict.entries.len())?;
            for (name, value) in &dict.entries {
                let Value::Text(name) = name else {
                    return Err(Fault::failed("`**` needs a dict with text keys"));
                };
                named.push((name.clone(), value.clone()));
            }
        }
        Ok(Arguments { positional, named })
    }

    pub(super) fn call(
        &mut self,
        callee: &Value<'a>,
        args: Arguments<'a>,
    ) -> Result<Value<'a>, Fault> {
        match callee {
            Value::Macro(callee) => self.call_macro(&Rc::clone(callee), args),
            Value::Method(method) => methods::call(self.budget, &method.0, method.1, args),
            Value::Function(function) => self.call_function(*function, args),
            Value::Undefined(Some(name)) => Err(Fault::failed(format!(
                "`{name}` is undefined, so it cannot be called"
            ))),
            Value::Loop(_) => Err(Fault::failed(
                "recursive loops are not supported in chat templates",
            )),
            _ => Err(Fault::failed(format!(
                "'{}' object is not callable",
                callee.type_name()
            ))),
        }
    }

    /// Evaluates a call that gets the body of a `call` block as its argument `caller`.
    pub(super) fn eval_call_with(
        &mut self,
        call: &'a Expr,
        caller: Value<'a>,
    ) -> Result<Value<'a>, Fault> {
        let Expr::Postfix(operand, postfixes) = call else {
            return Err(Fault::failed("`call` needs a call of a macro"));
        };
        let Some((Postfix::Call(args), path)) = postfixes.split_last() else {
            return Err(Fault::failed("`call` needs a call of a macro"));
        };
        let mut callee = self.eval(operand)?;
        for postfix in path {
            callee = self.postfix(callee, postfix)?;
        }
        let mut args = self.arguments(args)?;
        args.named.push((Text::Borrowed("caller"), caller));
        self.call(&callee, args)
    }

    fn call_function(&self, function: Function, args: Arguments<'a>) -> Result<Value<'a>, Fault> {
        match function {
            Function::Range => self.range(args),
            Function::Dict => {
                let entries = self.entries_of("dict", args)?;
                Ok(Value::Dict(Dict::new(self.budget, entries)?))
            }
            Function::Namespace => {
                let namespace = Namespace::new(self.budget);
                for (name, value) in self.entries_of("namespace", args)? {
                    let name = name.to_text(self.budget)?;
                    namespace.set(self.budget, name, value)?;
                }
                Ok(Value::Namespace(Rc::new(namespace)))
            }
            Function::RaiseException => {
                let message = args.one("raise_exception", "message")?;
                Err(Fault::Raised(
                    message.to_text(self.budget)?.as_str().to_owned(),
                ))
            }
            Function::StrftimeNow => {
                let pattern = args.one("strftime_now", "format")?;
                let pattern = super::args::text("strftime_now", "format", &pattern)?;
                // Each directive writes a few dozen bytes at most, unless it is padded on purpose.
                if pattern.len() > 1000 {
                    return Err(Fault::Limit(Limit::Output));
                }
                let text = (self.now)().strftime(pattern).map_err(Fault::Failed)?;
                Value::text(self.budget, text)
            }
        }
    }

    /// The entries that `dict(..)` and `namespace(..)` start with: those of a dict or of pairs, then the named.
    fn entries_of(
        &self,
        callee: &str,
        args: Arguments<'a>,
    ) -> Result<Vec<(Value<'a>, Value<'a>)>, Fault> {
        let mut entries = Vec::new();
        let mut positional = args.positional.into_iter();
        match (positional.next(), positional.next()) {
            (None, _) => {}
            (Some(Value::Dict(dict)), None) => {
                self.budget.spend(dict.entries.len())?;
                entries.extend_from_slice(&dict.entries);
            }
            (Some(pairs @ (Value::List(_) | Value::Tuple(_))), None) => {
                for pair in pairs.items(self.budget)?.as_slice() {
                    match pair.items(self.budget)?.as_slice() {
                        [key, value] => self.insert(&mut entries, key.clone(), value.clone())?,
                        _ => {
                            return Err(Fault::failed(format!(
                                "`{callee}` needs pairs of key and value"
                            )));
                        }
                    }
                }
            }
            _ => return Err(Fault::failed(format!("`{callee}` starts from one dict"))),
        }
        for (name, value) in args.named {
            self.insert(&mut entries, Value::Text(name), value)?;
        }
        Ok(entries)
    }

    fn range(&self, args: Arguments<'a>) -> Result<Value<'a>, Fault> {
        let [first, second, step] = args.bind("range", ["start", "stop", "step"])?;
        let first = integer("range", "start", &required("range", "start", first)?)?;
        let (start, stop) = match second {
            Some(stop) => (first, integer("range", "stop", &stop)?),
            None => (0, first),
        };
        let step = step.map_or(Ok(1), |step| integer("range", "step", &step))?;
        let span = if step > 0 {
            stop.checked_sub(start)
        } else {
            start.checked_sub(stop)
        };
        let count = match (span, step.checked_abs()) {
            (_, Some(0)) => return Err(Fault::failed("the step of `range` cannot be zero")),
            (Some(span), Some(step)) if span > 0 => (span - 1) / step + 1,
            (Some(_), Some(_)) => 0,
            _ => return Err(Fault::failed("`range` does not fit 127 bits")),
        };
        if count > RANGE_MAX {
            return Err(Fault::failed(format!(
                "`range` of {count} numbers is more than {RANGE_MAX}"
            )));
        }
        let numbers = (0..count).map(|nth| Ok(Value::Int(start + nth * step)));
        Ok(Value::List(Items::collect(self.budget, numbers)?))
    }
}
