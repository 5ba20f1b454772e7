//! The filter `tojson` as chat templates know it: Python's `json.dumps`, not Jinja's form for HTML.

use super::args::Arguments;
use super::budget::Budget;
use super::error::Fault;
use super::ops::compare_keys;
use super::text::float_repr;
use super::value::{TextBuilder, Value};

/// `json.dumps(value, ensure_ascii, indent, separators, sort_keys)`
pub(super) fn to_json<'a>(
    budget: &Budget,
    value: &Value<'a>,
    args: Arguments<'a>,
) -> Result<Value<'a>, Fault> {
    let params = ["ensure_ascii", "indent", "separators", "sort_keys"];
    let [ascii, indent, separators, sort_keys] = args.bind("tojson", params)?;
    let indent = match &indent {
        None | Some(Value::None) => None,
        Some(Value::Text(text)) => Some(text.as_str().to_owned()),
        // A thousand columns are more than any reader has.
        Some(value) => match value.as_int() {
            Some(width) => Some(" ".repeat(width.clamp(0, 1000) as usize)),
            None => {
                return Err(Fault::failed(
                    "`tojson` needs a number or text for `indent`",
                ));
            }
        },
    };
    let (item_separator, key_separator) = match &separators {
        None | Some(Value::None) => (if indent.is_some() { "," } else { ", " }, ": "),
        Some(Value::List(pair) | Value::Tuple(pair)) => match pair.as_slice() {
            [Value::Text(item), Value::Text(key)] => (item.as_str(), key.as_str()),
            _ => return Err(Fault::failed("`tojson` needs two texts for `separators`")),
        },
        _ => return Err(Fault::failed("`tojson` needs two texts for `separators`")),
    };
    let mut writer = JsonWriter {
        out: TextBuilder::new(budget)?,
        ascii: ascii.is_some_and(|value| value.is_true()),
        indent: indent.as_deref(),
        item_separator,
        key_separator,
        sort_keys: sort_keys.is_some_and(|value| value.is_true()),
        depth: 0,
    };
    writer.value(value)?;
    Ok(Value::Text(writer.out.finish()))
}

struct JsonWriter<'b> {
    out: TextBuilder<'b>,
    ascii: bool,
    indent: Option<&'b str>,
    item_separator: &'b str,
    key_separator: &'b str,
    sort_keys: bool,
    depth: usize,
}

impl JsonWriter<'_> {
    /// Recursion ends at the limit on a value's depth.
    fn value(&mut self, value: &Value<'_>) -> Result<(), Fault> {
        match value {
            Value::None => self.out.push("null"),
            Value::Bool(value) => self.out.push(if *value { "true" } else { "false" }),
            Value::Int(value) => self.out.push(&value.to_string()),
            Value::Float(value) => self.out.push(&json_float(*value)),
            Value::Text(text) => self.string(text.as_str()),
            Value::List(items) | Value::Tuple(items) => {
                self.container("[", "]", items.as_slice(), Self::value)
            }
            Value::Dict(dict) if self.sort_keys => {
                let mut entries: Vec<_> = dict.entries.iter().collect();
                self.out.budget.spend(entries.len())?;
                entries.sort_by(|a, b| compare_keys(&a.0, &b.0));
                self.container("{", "}", &entries, |writer, (key, value)| {
                    writer.entry(key, value)
                })
            }
            Value::Dict(dict) => self.container("{", "}", &dict.entries, |writer, (key, value)| {
                writer.entry(key, value)
            }),
            Value::Undefined(Some(name)) => Err(Fault::failed(format!(
                "`{name}` is undefined and has no form in JSON"
            ))),
            _ => Err(Fault::failed(format!(
                "{} has no form in JSON",
                value.type_name()
            ))),
        }
    }

    fn container<T>(
        &mut self,
        open: &str,
        close: &str,
        items: &[T],
        write: impl Fn(&mut Self, &T) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        self.out.push(open)?;
        if items.is_empty() {
            return self.out.push(close);
        }
        self.depth += 1;
        for (index, item) in items.iter().enumerate() {
            self.out
                .push(if index == 0 { "" } else { self.item_separator })?;
            self.new_line()?;
            write(self, item)?;
        }
        self.depth -= 1;
        self.new_line()?;
        self.out.push(close)
    }

    fn entry(&mut self, key: &Value<'_>, value: &Value<'_>) -> Result<(), Fault> {
        match key {
            Value::Text(text) => self.string(text.as_str())?,
            Value::None => self.string("null")?,
            Value::Bool(value) => self.string(if *value { "true" } else { "false" })?,
            Value::Int(value) => self.string(&value.to_string())?,
            Value::Float(value) => self.string(&json_float(*value))?,
            _ => {
                return Err(Fault::failed(format!(
                    "{} is no key in JSON",
                    key.type_name()
                )));
            }
        }
        self.out.push(self.key_separator)?;
        self.value(value)
    }

    fn new_line(&mut self) -> Result<(), Fault> {
        let Some(indent) = self.indent else {
            return Ok(());
        };
        self.out.push("\n")?;
        self.out.push_repeated(indent, self.depth)
    }

    fn string(&mut self, text: &str) -> Result<(), Fault> {
        self.out.push("\"")?;
        let mut plain = 0;
        for (at, c) in text.char_indices() {
            let escaped = match c {
                '"' => "\\\"".to_owned(),
                '\\' => "\\\\".to_owned(),
                '\n' => "\\n".to_owned(),
                '\r' => "\\r".to_owned(),
                '\t' => "\\t".to_owned(),
                '\x08' => "\\b".to_owned(),
                '\x0c' => "\\f".to_owned(),
                '\0'..='\x1f' => format!("\\u{:04x}", c as u32),
                '\x7f'.. if self.ascii => {
                    let units = &mut [0; 2];
                    let units = c.encode_utf16(units).iter();
                    units.map(|unit| format!("\\u{unit:04x}")).collect()
                }
                _ => continue,
            };
            self.out.push(&text[plain..at])?;
            self.out.push(&escaped)?;
            plain = at + c.len_utf8();
        }
        self.out.push(&text[plain..])?;
        self.out.push("\"")
    }
}

/// Python writes what JSON cannot say too.
fn json_float(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned()
    } else {
        float_repr(value)
    }
}
