//! Arguments of a call, and how they meet the parameters of what is called.

use super::budget::{Budget, Charge};
use super::error::Fault;
use super::value::{Text, Value};

/// Evaluated arguments.
#[derive(Clone, Default)]
pub(super) struct Arguments<'a> {
    pub(super) positional: Vec<Value<'a>>,
    pub(super) named: Vec<(Text<'a>, Value<'a>)>,
}

impl<'a> Arguments<'a> {
    /// The arguments in the order of `params`, each given by position or by name or not at all.
    /// `callee` is for messages.
    pub(super) fn bind<const N: usize>(
        self,
        callee: &str,
        params: [&str; N],
    ) -> Result<[Option<Value<'a>>; N], Fault> {
        let have = self.positional.len();
        if have > N {
            return Err(Fault::failed(format!(
                "`{callee}` takes at most {N} arguments, {have} were given"
            )));
        }
        let mut bound = [const { None }; N];
        for (slot, value) in bound.iter_mut().zip(self.positional) {
            *slot = Some(value);
        }
        for (name, value) in self.named {
            let name = name.as_str();
            let Some(at) = params.iter().position(|param| *param == name) else {
                return Err(Fault::failed(format!(
                    "`{callee}` has no argument `{name}`"
                )));
            };
            if bound[at].replace(value).is_some() {
                return Err(Fault::failed(format!(
                    "`{callee}` got the argument `{name}` twice"
                )));
            }
        }
        Ok(bound)
    }

    /// Pays for a copy, which is kept as long as a filter runs that may call itself.
    pub(super) fn charge(&self, budget: &Budget) -> Result<Charge, Fault> {
        let count = self.positional.len() + 2 * self.named.len();
        budget.charge(count * size_of::<Value<'_>>())
    }

    /// Like [`Self::bind`] for one argument that must be there.
    pub(super) fn one(self, callee: &str, param: &str) -> Result<Value<'a>, Fault> {
        let [value] = self.bind(callee, [param])?;
        required(callee, param, value)
    }

    /// Like [`Self::bind`] for nothing.
    pub(super) fn none(self, callee: &str) -> Result<(), Fault> {
        self.bind(callee, []).map(|[]| ())
    }
}

/// The argument, or the complaint that it is missing.
pub(super) fn required<'a>(
    callee: &str,
    param: &str,
    value: Option<Value<'a>>,
) -> Result<Value<'a>, Fault> {
    value.ok_or_else(|| Fault::failed(format!("`{callee}` needs the argument `{param}`")))
}

/// An argument that is text.
pub(super) fn text<'v>(callee: &str, param: &str, value: &'v Value<'_>) -> Result<&'v str, Fault> {
    value.as_str().ok_or_else(|| {
        Fault::failed(format!(
            "`{callee}` needs text for `{param}`, not {}",
            value.type_name()
        ))
    })
}

/// An argument that is a whole number.
pub(super) fn integer(callee: &str, param: &str, value: &Value<'_>) -> Result<i128, Fault> {
    value.as_int().ok_or_else(|| {
        Fault::failed(format!(
            "`{callee}` needs a whole number for `{param}`, not {}",
            value.type_name()
        ))
    })
}

/// An argument that is a count: a whole number not below zero, which is what those below count as.
pub(super) fn count(callee: &str, param: &str, value: &Value<'_>) -> Result<usize, Fault> {
    let value = integer(callee, param, value)?;
    usize::try_from(value.max(0))
        .map_err(|_| Fault::failed(format!("`{callee}`: {value} is too large for `{param}`")))
}

/// Whether an optional switch is on.
pub(super) fn switch(value: Option<&Value<'_>>, default: bool) -> bool {
    value.map_or(default, Value::is_true)
}
