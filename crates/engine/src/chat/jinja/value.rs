//! The values of the language: Python's, immutable but for namespaces.
//!
//! Text and containers of the conversation are borrowed; what the template computes is owned, shared by reference
//! count, and on the heap's account. Only plain data may enter a container or a namespace. So there are no cycles
//! and no depth beyond the limit, and walking or dropping a value never overflows the stack.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::ast::MacroDef;
use super::budget::{Budget, Charge};
use super::error::{Fault, Limit};

/// `'a` is the life of the template and of the conversation.
#[derive(Clone)]
pub(super) enum Value<'a> {
    /// With the name that was looked up, for messages.
    Undefined(Option<&'a str>),
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(Text<'a>),
    List(Items<'a>),
    Tuple(Items<'a>),
    Dict(Rc<Dict<'a>>),
    Namespace(Rc<Namespace<'a>>),
    Macro(Rc<Macro<'a>>),
    Loop(Rc<LoopState<'a>>),
    Function(Function),
    /// A method that was looked up and not called yet: its object and its name.
    Method(Rc<(Self, &'a str)>),
}

/// The functions that every template finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    Range,
    Dict,
    Namespace,
    RaiseException,
    StrftimeNow,
}

/// A string.
#[derive(Clone)]
pub(super) enum Text<'a> {
    Borrowed(&'a str),
    Owned(Rc<OwnedText>),
}

pub(super) struct OwnedText {
    text: String,
    _charge: Charge,
}

/// A list or tuple, or a contiguous part of one.
#[derive(Clone)]
pub(super) struct Items<'a> {
    all: Rc<ItemsData<'a>>,
    start: usize,
    len: usize,
}

struct ItemsData<'a> {
    items: Vec<Value<'a>>,
    depth: usize,
    _charge: Charge,
}

/// A dictionary in order of insertion. Looked up by a walk: those of conversations have a handful of keys, and
/// each key that is passed costs a step.
pub(super) struct Dict<'a> {
    pub(super) entries: Vec<(Value<'a>, Value<'a>)>,
    depth: usize,
    _charge: Charge,
}

/// The only thing that can be changed.
pub(super) struct Namespace<'a> {
    pub(super) attributes: RefCell<Vec<(Text<'a>, Value<'a>)>>,
    charge: RefCell<Charge>,
}

/// The variables of one block.
pub(super) struct Frame<'a> {
    pub(super) variables: Vec<(&'a str, Value<'a>)>,
    charge: Charge,
}

/// A macro with the variables that surrounded its definition, those of the template's top level excepted.
pub(super) struct Macro<'a> {
    pub(super) def: &'a MacroDef,
    pub(super) captured: Vec<(&'a str, Value<'a>)>,
    pub(super) _charge: Charge,
}

/// The variable `loop`.
pub(super) struct LoopState<'a> {
    pub(super) items: Items<'a>,
    pub(super) index: Cell<usize>,
    /// What `loop.changed` saw last.
    pub(super) seen: RefCell<Option<Items<'a>>>,
}

/// What an item of a list takes.
const ITEM_BYTES: usize = size_of::<Value<'_>>();
/// What a variable or an attribute takes, in a vector that may be twice as large as it must.
const SLOT_BYTES: usize = 4 * ITEM_BYTES;
/// What an owned string or container takes beside its contents.
const OBJECT_BYTES: usize = 96;

impl<'a> Text<'a> {
    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Borrowed(text) => text,
            Self::Owned(owned) => &owned.text,
        }
    }

    /// The part of this text that `pick` chooses; borrowed text is not copied.
    pub(super) fn part(
        &self,
        budget: &Budget,
        pick: impl for<'s> FnOnce(&'s str) -> &'s str,
    ) -> Result<Self, Fault> {
        budget.spend_bytes(self.as_str().len())?;
        match self {
            Self::Borrowed(text) => Ok(Self::Borrowed(pick(text))),
            Self::Owned(owned) => {
                let part = pick(&owned.text);
                if part.len() == owned.text.len() {
                    return Ok(self.clone());
                }
                Self::owned(budget, part.to_owned())
            }
        }
    }

    /// Text that is short, or no longer than a text that is there already. What may grow goes through
    /// [`TextBuilder`].
    pub(super) fn owned(budget: &Budget, text: String) -> Result<Self, Fault> {
        let _charge = budget.charge(OBJECT_BYTES + text.len())?;
        Ok(Self::Owned(Rc::new(OwnedText { text, _charge })))
    }
}

/// Writes a text, and pays for each part before it is written.
pub(super) struct TextBuilder<'b> {
    pub(super) budget: &'b Budget,
    text: String,
    charge: Charge,
}

impl<'b> TextBuilder<'b> {
    pub(super) fn new(budget: &'b Budget) -> Result<Self, Fault> {
        Ok(Self {
            budget,
            text: String::new(),
            charge: budget.charge(OBJECT_BYTES)?,
        })
    }

    pub(super) fn push(&mut self, part: &str) -> Result<(), Fault> {
        self.budget.grow(&mut self.charge, part.len())?;
        self.text.push_str(part);
        Ok(())
    }

    pub(super) fn push_repeated(&mut self, part: &str, count: usize) -> Result<(), Fault> {
        let bytes = part.len().saturating_mul(count);
        self.budget.grow(&mut self.charge, bytes)?;
        self.text.extend(std::iter::repeat_n(part, count));
        Ok(())
    }

    pub(super) fn finish<'a>(self) -> Text<'a> {
        Text::Owned(Rc::new(OwnedText {
            text: self.text,
            _charge: self.charge,
        }))
    }
}

impl<'a> Items<'a> {
    /// Items that were made one by one, or are as many as the source spells out. What may be many goes through
    /// [`Self::collect`].
    pub(super) fn new(budget: &Budget, items: Vec<Value<'a>>) -> Result<Self, Fault> {
        let charge = budget.charge(OBJECT_BYTES + items.len() * ITEM_BYTES)?;
        Self::with_charge(budget, items, charge)
    }

    /// Pays for each item before the next is made.
    pub(super) fn collect(
        budget: &Budget,
        items: impl IntoIterator<Item = Result<Value<'a>, Fault>>,
    ) -> Result<Self, Fault> {
        let mut charge = budget.charge(OBJECT_BYTES)?;
        let mut all = Vec::new();
        for item in items {
            budget.hold(&mut charge, ITEM_BYTES)?;
            all.push(item?);
        }
        Self::with_charge(budget, all, charge)
    }

    /// Items of the conversation, which are on nobody's account.
    pub(super) fn of_input(budget: &Budget, items: Vec<Value<'a>>) -> Result<Self, Fault> {
        Self::with_charge(budget, items, budget.no_charge())
    }

    fn with_charge(budget: &Budget, items: Vec<Value<'a>>, charge: Charge) -> Result<Self, Fault> {
        let depth = depth_of(budget, items.iter())?;
        let len = items.len();
        let all = Rc::new(ItemsData {
            items,
            depth,
            _charge: charge,
        });
        Ok(Self { all, start: 0, len })
    }

    pub(super) fn as_slice(&self) -> &[Value<'a>] {
        &self.all.items[self.start..self.start + self.len]
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Items `from..to` without copying. Both are within bounds and in order.
    pub(super) fn part(&self, from: usize, to: usize) -> Self {
        assert!(
            from <= to && to <= self.len,
            "a part lies within its list. This is a bug."
        );
        Self {
            all: Rc::clone(&self.all),
            start: self.start + from,
            len: to - from,
        }
    }
}

impl<'a> Dict<'a> {
    /// `entries` have distinct keys.
    pub(super) fn new(
        budget: &Budget,
        entries: Vec<(Value<'a>, Value<'a>)>,
    ) -> Result<Rc<Self>, Fault> {
        let charge = budget.charge(OBJECT_BYTES + entries.len() * 2 * ITEM_BYTES)?;
        Self::with_charge(budget, entries, charge)
    }

    /// A dictionary of the conversation, which is on nobody's account.
    pub(super) fn of_input(
        budget: &Budget,
        entries: Vec<(Value<'a>, Value<'a>)>,
    ) -> Result<Rc<Self>, Fault> {
        Self::with_charge(budget, entries, budget.no_charge())
    }

    fn with_charge(
        budget: &Budget,
        entries: Vec<(Value<'a>, Value<'a>)>,
        charge: Charge,
    ) -> Result<Rc<Self>, Fault> {
        let depth = depth_of(budget, entries.iter().map(|(_, value)| value))?;
        Ok(Rc::new(Self {
            entries,
            depth,
            _charge: charge,
        }))
    }

    /// The value of a text key.
    pub(super) fn get_text(&self, budget: &Budget, key: &str) -> Result<Option<Value<'a>>, Fault> {
        budget.spend(1 + self.entries.len() / 8)?;
        let entry = self
            .entries
            .iter()
            .find(|(have, _)| matches!(have, Value::Text(have) if have.as_str() == key));
        Ok(entry.map(|(_, value)| value.clone()))
    }
}

impl<'a> Namespace<'a> {
    pub(super) fn new(budget: &Budget) -> Self {
        Self {
            attributes: RefCell::default(),
            charge: RefCell::new(budget.no_charge()),
        }
    }

    pub(super) fn get(&self, budget: &Budget, name: &str) -> Result<Option<Value<'a>>, Fault> {
        let attributes = self.attributes.borrow();
        budget.spend(1 + attributes.len() / 8)?;
        let found = attributes.iter().find(|(have, _)| have.as_str() == name);
        Ok(found.map(|(_, value)| value.clone()))
    }

    pub(super) fn set(
        &self,
        budget: &Budget,
        name: Text<'a>,
        value: Value<'a>,
    ) -> Result<(), Fault> {
        plain_depth(&value)?;
        let mut attributes = self.attributes.borrow_mut();
        budget.spend(1 + attributes.len() / 8)?;
        match attributes
            .iter_mut()
            .find(|(have, _)| have.as_str() == name.as_str())
        {
            Some((_, have)) => *have = value,
            None => {
                budget.hold(&mut self.charge.borrow_mut(), SLOT_BYTES)?;
                attributes.push((name, value));
            }
        }
        Ok(())
    }
}

impl<'a> Frame<'a> {
    pub(super) fn new(budget: &Budget) -> Self {
        Self {
            variables: Vec::new(),
            charge: budget.no_charge(),
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&Value<'a>> {
        let found = self.variables.iter().find(|(have, _)| *have == name);
        found.map(|(_, value)| value)
    }

    pub(super) fn set(
        &mut self,
        budget: &Budget,
        name: &'a str,
        value: Value<'a>,
    ) -> Result<(), Fault> {
        budget.spend(1 + self.variables.len() / 8)?;
        match self.variables.iter_mut().find(|(have, _)| *have == name) {
            Some((_, have)) => *have = value,
            None => {
                budget.hold(&mut self.charge, SLOT_BYTES)?;
                self.variables.push((name, value));
            }
        }
        Ok(())
    }
}

/// How deep a container of these items is.
fn depth_of<'v, 'a: 'v>(
    budget: &Budget,
    items: impl ExactSizeIterator<Item = &'v Value<'a>>,
) -> Result<usize, Fault> {
    budget.spend(1 + items.len() / 8)?;
    let mut depth = 0;
    for item in items {
        depth = depth.max(plain_depth(item)?);
    }
    if depth >= budget.limits.value_depth {
        return Err(Fault::Limit(Limit::ValueDepth));
    }
    Ok(depth + 1)
}

/// How deep plain data is. What is not plain data cannot be kept in data.
fn plain_depth(value: &Value<'_>) -> Result<usize, Fault> {
    match value {
        Value::List(items) | Value::Tuple(items) => Ok(items.all.depth),
        Value::Dict(dict) => Ok(dict.depth),
        Value::Namespace(_) | Value::Macro(_) | Value::Loop(_) | Value::Method(_) => {
            Err(Fault::failed(format!(
                "{} cannot be kept in a list, dict or namespace",
                value.type_name()
            )))
        }
        _ => Ok(0),
    }
}

impl<'a> Value<'a> {
    pub(super) const EMPTY: Self = Self::Text(Text::Borrowed(""));

    pub(super) fn text(budget: &Budget, text: impl Into<String>) -> Result<Self, Fault> {
        Ok(Self::Text(Text::owned(budget, text.into())?))
    }

    pub(super) fn list(budget: &Budget, items: Vec<Self>) -> Result<Self, Fault> {
        Ok(Self::List(Items::new(budget, items)?))
    }

    pub(super) fn tuple(budget: &Budget, items: Vec<Self>) -> Result<Self, Fault> {
        Ok(Self::Tuple(Items::new(budget, items)?))
    }

    /// A part of the conversation. `serde_json` gives its objects distinct keys.
    pub(super) fn from_json(budget: &Budget, json: &'a serde_json::Value) -> Result<Self, Fault> {
        Self::from_json_within(budget, json, budget.limits.value_depth)
    }

    fn from_json_within(
        budget: &Budget,
        json: &'a serde_json::Value,
        depth_left: usize,
    ) -> Result<Self, Fault> {
        use serde_json::Value as Json;
        let deeper = || {
            depth_left
                .checked_sub(1)
                .ok_or(Fault::Limit(Limit::ValueDepth))
        };
        Ok(match json {
            Json::Null => Self::None,
            Json::Bool(value) => Self::Bool(*value),
            Json::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(value), _) => Self::Int(value.into()),
                (_, Some(value)) => Self::Int(value.into()),
                // Not an integer, so `as_f64` has it.
                _ => Self::Float(number.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(text) => Self::Text(Text::Borrowed(text)),
            Json::Array(items) => {
                let depth_left = deeper()?;
                let items = items
                    .iter()
                    .map(|item| Self::from_json_within(budget, item, depth_left))
                    .collect::<Result<Vec<_>, _>>()?;
                Self::List(Items::of_input(budget, items)?)
            }
            Json::Object(map) => {
                let depth_left = deeper()?;
                let mut entries = Vec::with_capacity(map.len());
                for (key, value) in map {
                    let key = Self::Text(Text::Borrowed(key));
                    entries.push((key, Self::from_json_within(budget, value, depth_left)?));
                }
                Self::Dict(Dict::of_input(budget, entries)?)
            }
        })
    }

    pub(super) fn is_true(&self) -> bool {
        match self {
            Self::Undefined(_) | Self::None => false,
            Self::Bool(value) => *value,
            Self::Int(value) => *value != 0,
            Self::Float(value) => *value != 0.0,
            Self::Text(text) => !text.as_str().is_empty(),
            Self::List(items) | Self::Tuple(items) => items.len() != 0,
            Self::Dict(dict) => !dict.entries.is_empty(),
            _ => true,
        }
    }

    /// Python's name of the type, for messages.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Undefined(_) => "undefined",
            Self::None => "None",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float",
            Self::Text(_) => "str",
            Self::List(_) => "list",
            Self::Tuple(_) => "tuple",
            Self::Dict(_) => "dict",
            Self::Namespace(_) => "namespace",
            Self::Macro(_) => "macro",
            Self::Loop(_) => "loop",
            Self::Function(_) => "function",
            Self::Method(_) => "method",
        }
    }

    /// As an integer: `True` is 1 where Python counts.
    pub(super) fn as_int(&self) -> Option<i128> {
        match self {
            Self::Int(value) => Some(*value),
            Self::Bool(value) => Some((*value).into()),
            _ => None,
        }
    }

    pub(super) fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text.as_str()),
            _ => None,
        }
    }

    /// The items that a loop over this value sees: characters of text, keys of a dict.
    ///
    /// `None` has none, as if it were an empty list: templates that are made for tools loop over `tools`
    /// without asking, and are used without tools too. Python would refuse.
    pub(super) fn items(&self, budget: &Budget) -> Result<Items<'a>, Fault> {
        match self {
            Self::List(items) | Self::Tuple(items) => Ok(items.clone()),
            Self::Undefined(_) | Self::None => Items::new(budget, Vec::new()),
            Self::Dict(dict) => {
                Items::collect(budget, dict.entries.iter().map(|(key, _)| Ok(key.clone())))
            }
            Self::Text(Text::Borrowed(text)) => {
                let char = |(at, c): (usize, char)| &text[at..at + c.len_utf8()];
                let chars = text.char_indices().map(char);
                Items::collect(budget, chars.map(|c| Ok(Self::Text(Text::Borrowed(c)))))
            }
            Self::Text(text) => {
                Items::collect(budget, text.as_str().chars().map(|c| Self::text(budget, c)))
            }
            _ => Err(Fault::failed(format!(
                "'{}' object is not iterable",
                self.type_name()
            ))),
        }
    }

    /// How many items or characters, where Python has a `len`.
    pub(super) fn length(&self, budget: &Budget) -> Result<usize, Fault> {
        match self {
            Self::Text(text) => {
                budget.spend_bytes(text.as_str().len())?;
                Ok(text.as_str().chars().count())
            }
            Self::List(items) | Self::Tuple(items) => Ok(items.len()),
            Self::Dict(dict) => Ok(dict.entries.len()),
            Self::Undefined(_) => Ok(0),
            Self::Loop(state) => Ok(state.items.len()),
            _ => Err(Fault::failed(format!(
                "object of type '{}' has no len()",
                self.type_name()
            ))),
        }
    }
}
