//! Formatting: `'%s of %d' % (a, b)` and `'{} of {name}'.format(a, name=b)`.

use super::args::Arguments;
use super::budget::Budget;
use super::error::Fault;
use super::text::float_repr;
use super::value::{TextBuilder, Value};

/// Digits and columns beyond this are refused, not written.
const WIDTH_MAX: usize = 1000;

/// `pattern % args`: a tuple holds one argument per conversion, a dict is looked up by `%(name)s`.
pub(super) fn percent<'a>(
    budget: &Budget,
    pattern: &str,
    args: &Value<'a>,
) -> Result<Value<'a>, Fault> {
    let mut positional = match args {
        Value::Tuple(items) => items.as_slice().to_vec(),
        _ => vec![args.clone()],
    }
    .into_iter();
    let mut out = TextBuilder::new(budget)?;
    let mut rest = pattern;
    while let Some(at) = rest.find('%') {
        out.push(&rest[..at])?;
        let conversion = Conversion::parse(&rest[at + 1..])?;
        rest = &rest[at + 1 + conversion.len..];
        if conversion.kind == '%' {
            out.push("%")?;
            continue;
        }
        let value = match (conversion.name, args) {
            (Some(name), Value::Dict(dict)) => dict.get_text(budget, name)?,
            (Some(_), _) => return Err(Fault::failed("`%(name)` needs a dict")),
            (None, _) => positional.next(),
        };
        let value =
            value.ok_or_else(|| Fault::failed("there are fewer arguments than `%` in the text"))?;
        conversion.write(&value, &mut out)?;
    }
    out.push(rest)?;
    if positional.next().is_some() && !matches!(args, Value::Dict(_) | Value::List(_)) {
        return Err(Fault::failed(
            "there are more arguments than `%` in the text",
        ));
    }
    Ok(Value::Text(out.finish()))
}

/// What stands behind a `%`.
struct Conversion<'p> {
    name: Option<&'p str>,
    left: bool,
    zeros: bool,
    plus: bool,
    width: usize,
    precision: Option<usize>,
    kind: char,
    /// Bytes of the pattern that it took.
    len: usize,
}

impl<'p> Conversion<'p> {
    fn parse(text: &'p str) -> Result<Self, Fault> {
        let mut rest = text;
        let mut name = None;
        if let Some((inner, after)) = rest.strip_prefix('(').and_then(|rest| rest.split_once(')')) {
            name = Some(inner);
            rest = after;
        }
        let after_flags = rest.trim_start_matches(['-', '+', '0', ' ', '#']);
        let flags = &rest[..rest.len() - after_flags.len()];
        rest = after_flags;
        let width = take_number(&mut rest)?.unwrap_or(0);
        let mut precision = None;
        if let Some(after) = rest.strip_prefix('.') {
            rest = after;
            precision = Some(take_number(&mut rest)?.unwrap_or(0));
        }
        let Some(kind) = rest.chars().next() else {
            return Err(Fault::failed("a `%` at the end of a text converts nothing"));
        };
        Ok(Self {
            name,
            left: flags.contains('-'),
            zeros: flags.contains('0'),
            plus: flags.contains('+'),
            width,
            precision,
            kind,
            len: text.len() - rest.len() + kind.len_utf8(),
        })
    }

    fn write(&self, value: &Value<'_>, out: &mut TextBuilder<'_>) -> Result<(), Fault> {
        let number = match value {
            Value::Float(value) => Some(*value),
            _ => value.as_int().map(|value| value as f64),
        };
        let whole = || match value {
            Value::Float(value) => Some(value.trunc() as i128),
            _ => value.as_int(),
        };
        let converted = match self.kind {
            's' => {
                let text = value.to_text(out.budget)?;
                let text = text.as_str();
                let end = self
                    .precision
                    .map_or(text.len(), |max| super::ops::byte_of_char(text, max));
                return self.pad(&text[..end], out);
            }
            'd' | 'i' => whole().map(|value| value.to_string()),
            'x' => whole().map(|value| format!("{value:x}")),
            'X' => whole().map(|value| format!("{value:X}")),
            'f' | 'F' => number.map(|value| fixed(value, self.precision.unwrap_or(6))),
            kind => {
                return Err(Fault::failed(format!(
                    "`%{kind}` is not supported in chat templates"
                )));
            }
        };
        let Some(digits) = converted else {
            let (kind, have) = (self.kind, value.type_name());
            return Err(Fault::failed(format!(
                "`%{kind}` needs a number, not {have}"
            )));
        };
        let unsigned = digits.strip_prefix('-').unwrap_or(&digits);
        let sign = match (digits.len() > unsigned.len(), self.plus) {
            (true, _) => "-",
            (false, true) => "+",
            (false, false) => "",
        };
        if self.zeros && !self.left {
            out.push(sign)?;
            let zeros = self.width.saturating_sub(sign.len() + unsigned.len());
            out.push_repeated("0", zeros)?;
            return out.push(unsigned);
        }
        self.pad(&format!("{sign}{unsigned}"), out)
    }

    fn pad(&self, text: &str, out: &mut TextBuilder<'_>) -> Result<(), Fault> {
        let spaces = self.width.saturating_sub(text.chars().count());
        out.push_repeated(" ", if self.left { 0 } else { spaces })?;
        out.push(text)?;
        out.push_repeated(" ", if self.left { spaces } else { 0 })
    }
}

fn fixed(value: f64, precision: usize) -> String {
    match value.is_finite() {
        true => format!("{value:.precision$}"),
        false => float_repr(value),
    }
}

fn take_number(rest: &mut &str) -> Result<Option<usize>, Fault> {
    let len = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    let (digits, after) = rest.split_at(len);
    *rest = after;
    if digits.is_empty() {
        return Ok(None);
    }
    match digits.parse() {
        Ok(number) if number <= WIDTH_MAX => Ok(Some(number)),
        _ => Err(Fault::failed(format!(
            "a width of {digits} is more than {WIDTH_MAX}"
        ))),
    }
}

/// `pattern.format(..)` with `{}`, `{0}` and `{name}`; attributes and format specifications are not supported.
pub(super) fn braces<'a>(
    budget: &Budget,
    pattern: &str,
    args: &Arguments<'a>,
) -> Result<Value<'a>, Fault> {
    let mut out = TextBuilder::new(budget)?;
    let mut automatic = 0;
    let mut rest = pattern;
    while let Some(at) = rest.find(['{', '}']) {
        out.push(&rest[..at])?;
        let tail = &rest[at..];
        if tail.starts_with("{{") || tail.starts_with("}}") {
            out.push(&tail[..1])?;
            rest = &tail[2..];
            continue;
        }
        let Some((field, after)) = tail[1..].split_once('}').filter(|_| tail.starts_with('{'))
        else {
            return Err(Fault::failed("`format`: a single brace in the text"));
        };
        rest = after;
        let value = if field.is_empty() {
            automatic += 1;
            args.positional.get(automatic - 1)
        } else if let Ok(index) = field.parse::<usize>() {
            args.positional.get(index)
        } else {
            args.named
                .iter()
                .find(|(name, _)| name.as_str() == field)
                .map(|(_, value)| value)
        };
        match value {
            Some(value) => value.write_text(&mut out)?,
            None => {
                return Err(Fault::failed(format!(
                    "`format` has no argument for `{{{field}}}`"
                )));
            }
        }
    }
    out.push(rest)?;
    Ok(Value::Text(out.finish()))
}
