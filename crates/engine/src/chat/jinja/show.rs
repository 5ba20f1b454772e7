//! Values as text: `str()` and `repr()`.

use super::budget::Budget;
use super::error::Fault;
use super::text::{char_repr, float_repr, repr_quote};
use super::value::{Text, TextBuilder, Value};

impl<'a> Value<'a> {
    /// `str(self)`: what an output tag writes.
    pub(super) fn to_text(&self, budget: &Budget) -> Result<Text<'a>, Fault> {
        match self {
            Self::Text(text) => Ok(text.clone()),
            Self::Undefined(_) => Ok(Text::Borrowed("")),
            Self::None => Ok(Text::Borrowed("None")),
            Self::Bool(true) => Ok(Text::Borrowed("True")),
            Self::Bool(false) => Ok(Text::Borrowed("False")),
            _ => {
                let mut out = TextBuilder::new(budget)?;
                self.write_repr(&mut out)?;
                Ok(out.finish())
            }
        }
    }

    /// Writes `str(self)` behind what is there.
    pub(super) fn write_text(&self, out: &mut TextBuilder<'_>) -> Result<(), Fault> {
        match self {
            Self::Text(text) => out.push(text.as_str()),
            Self::Undefined(_) => Ok(()),
            _ => self.write_repr(out),
        }
    }

    /// Writes `repr(self)`. Recursion ends at the limit on a value's depth.
    fn write_repr(&self, out: &mut TextBuilder<'_>) -> Result<(), Fault> {
        match self {
            Self::Undefined(_) => out.push("Undefined"),
            Self::None => out.push("None"),
            Self::Bool(value) => out.push(if *value { "True" } else { "False" }),
            Self::Int(value) => out.push(&value.to_string()),
            Self::Float(value) => out.push(&float_repr(*value)),
            Self::Text(text) => write_str_repr(text.as_str(), out),
            Self::List(items) => write_sequence("[", items.as_slice(), "]", out),
            Self::Tuple(items) if items.len() == 1 => {
                write_sequence("(", items.as_slice(), ",)", out)
            }
            Self::Tuple(items) => write_sequence("(", items.as_slice(), ")", out),
            Self::Dict(dict) => {
                out.push("{")?;
                for (index, (key, value)) in dict.entries.iter().enumerate() {
                    out.push(if index == 0 { "" } else { ", " })?;
                    key.write_repr(out)?;
                    out.push(": ")?;
                    value.write_repr(out)?;
                }
                out.push("}")
            }
            // Python writes addresses here; nobody can rely on them.
            _ => out.push(&format!("<{}>", self.type_name())),
        }
    }
}

fn write_sequence(
    open: &str,
    items: &[Value<'_>],
    close: &str,
    out: &mut TextBuilder<'_>,
) -> Result<(), Fault> {
    out.push(open)?;
    for (index, item) in items.iter().enumerate() {
        out.push(if index == 0 { "" } else { ", " })?;
        item.write_repr(out)?;
    }
    out.push(close)
}

fn write_str_repr(text: &str, out: &mut TextBuilder<'_>) -> Result<(), Fault> {
    let quote = repr_quote(text);
    let quote_text = if quote == '"' { "\"" } else { "'" };
    out.push(quote_text)?;
    let mut plain = 0;
    for (at, c) in text.char_indices() {
        if let Some(escaped) = char_repr(c, quote) {
            out.push(&text[plain..at])?;
            out.push(&escaped)?;
            plain = at + c.len_utf8();
        }
    }
    out.push(&text[plain..])?;
    out.push(quote_text)
}
