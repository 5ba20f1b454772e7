//! Calls from the text between their marks.

use serde_json::{Map, Value, json};

use super::super::message::{FunctionCall, ToolCall};
use super::family::SEPARATORS;
use super::scan::{DEPTH_MAX, Extent};
use super::tools::Tools;

/// Names of functions are short; what is longer is something else.
const NAME_BYTES_MAX: usize = 256;

/// The calls in `text`, which a reader has found the extents of. `None` if they are broken. If `known_only`, a call of
/// a tool that nobody offered is none.
pub(super) fn calls(
    text: &str,
    extent: &Extent,
    tools: &Tools,
    known_only: bool,
) -> Option<Vec<ToolCall>> {
    let calls = match extent {
        Extent::Json { head, json } => {
            let value = serde_json::from_str(&text[json.clone()]).ok()?;
            match name_in_head(&text[head.clone()])? {
                Some(name) => vec![new(name, value)?],
                None => in_json(value)?,
            }
        }
        Extent::Pairs { name, pairs, lines } => {
            let name = text[name.clone()].trim();
            let pairs = pairs.iter().map(|(key, value)| {
                let key = text[key.clone()].trim();
                let mut value = &text[value.clone()];
                if *lines {
                    value = value.strip_prefix('\n').unwrap_or(value);
                    value = value.strip_suffix('\n').unwrap_or(value);
                }
                (key.to_owned(), tools.value_of(name, key, value))
            });
            vec![new(name, Value::Object(pairs.collect()))?]
        }
        Extent::Quoted { body, quote } => vec![in_quoted(&text[body.clone()], quote)?],
    };
    let known = |call: &ToolCall| tools.get(&call.function.name).is_some();
    (!known_only || calls.iter().all(known)).then_some(calls)
}

/// A call, if the name and the arguments are such.
pub(super) fn new(name: &str, arguments: Value) -> Option<ToolCall> {
    let arguments = match arguments {
        Value::Object(arguments) => arguments,
        Value::Null => Map::new(),
        Value::String(text) => serde_json::from_str(&text).ok()?,
        _ => return None,
    };
    let is_name = !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && name
            .chars()
            .all(|c| c.is_alphanumeric() || "_-.:/".contains(c));
    is_name.then(|| ToolCall {
        id: None,
        kind: "function".to_owned(),
        function: FunctionCall {
            name: name.to_owned(),
            arguments: Value::String(Value::Object(arguments).to_string()),
        },
    })
}

/// One call, or an array of them.
fn in_json(value: Value) -> Option<Vec<ToolCall>> {
    match value {
        Value::Array(values) if !values.is_empty() => values.into_iter().map(one_in_json).collect(),
        value => Some(vec![one_in_json(value)?]),
    }
}

/// `{"name", "arguments"}` by any of the names that families have for these, or that inside of `"function"`.
fn one_in_json(value: Value) -> Option<ToolCall> {
    let Value::Object(mut object) = value else {
        return None;
    };
    if let Some(Value::Object(inner)) = object.get_mut("function") {
        object = std::mem::take(inner);
    }
    let mut take = |keys: &[&str]| keys.iter().find_map(|key| object.remove(*key));
    let arguments = take(&["arguments", "parameters"]).unwrap_or(Value::Null);
    match take(&["name", "tool_name", "function"])? {
        Value::String(name) => new(&name, arguments),
        _ => None,
    }
}

/// The name in what stands ahead of JSON: `name`, `name[CALL_ID]id[ARGS]`, `function<｜tool▁sep｜>name`,
/// `functions.name:0`, each perhaps with the beginning of a block of code. `Some(None)` if there is none, and `None` if
/// the head is something else.
pub(super) fn name_in_head(head: &str) -> Option<Option<&str>> {
    let head = head.trim();
    let head = head.strip_suffix("json").map_or(head, |shorter| {
        if shorter.ends_with("```") {
            shorter
        } else {
            head
        }
    });
    let head = head.strip_suffix("```").unwrap_or(head).trim();
    if head.is_empty() {
        return Some(None);
    }
    let mut pieces = vec![head];
    for separator in SEPARATORS {
        let last = pieces.pop().unwrap_or_default();
        pieces.extend(last.split(separator));
    }
    let mut pieces = pieces.into_iter().map(str::trim);
    let first = pieces.next()?;
    let name = match pieces.next() {
        Some(second) if first == "function" && !second.is_empty() => second,
        _ => first,
    };
    let name = match name.strip_prefix("functions.") {
        Some(name) => name.split(':').next().unwrap_or(name),
        None => name,
    };
    new(name, Value::Null).map(|_| Some(name))
}

/// `call:name{key:value,..}`.
fn in_quoted(body: &str, quote: &str) -> Option<ToolCall> {
    let body = body.trim().strip_prefix("call:")?;
    let (name, _) = body.split_once('{')?;
    let mut reader = Quoted {
        rest: &body[name.len()..],
        quote,
    };
    let arguments = reader.value(0)?;
    reader.rest.trim().is_empty().then_some(())?;
    new(name.trim(), arguments)
}

/// Reads values that are JSON but for keys without quotes and for the marks that are quotes.
struct Quoted<'t> {
    rest: &'t str,
    quote: &'t str,
}

impl Quoted<'_> {
    fn eat(&mut self, expect: &str) -> bool {
        self.rest = self.rest.trim_start();
        let rest = self.rest.strip_prefix(expect);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    /// The text up to one of `ends`, which is left.
    fn up_to(&mut self, ends: &[char]) -> Option<String> {
        let (text, rest) = self.rest.split_at(self.rest.find(ends)?);
        self.rest = rest;
        Some(text.trim().to_owned())
    }

    fn string(&mut self) -> Option<String> {
        let (text, rest) = self.rest.split_once(self.quote)?;
        self.rest = rest;
        Some(text.to_owned())
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        if depth > DEPTH_MAX {
            return None;
        }
        if self.eat(self.quote) {
            return self.string().map(Value::String);
        }
        if self.eat("{") {
            return self.object(depth);
        }
        if self.eat("[") {
            return self.array(depth);
        }
        let text = self.up_to(&[',', '}', ']'])?;
        match serde_json::from_str(&text) {
            Ok(value) => Some(value),
            Err(_) => Some(json!(text)),
        }
    }

    fn object(&mut self, depth: usize) -> Option<Value> {
        let mut object = Map::new();
        if self.eat("}") {
            return Some(Value::Object(object));
        }
        loop {
            let key = match self.eat(self.quote) {
                true => self.string()?,
                false => self.up_to(&[':', '}', ']', ','])?,
            };
            self.eat(":").then_some(())?;
            let value = self.value(depth + 1)?;
            object.insert(key, value);
            if self.eat("}") {
                return Some(Value::Object(object));
            }
            self.eat(",").then_some(())?;
        }
    }

    fn array(&mut self, depth: usize) -> Option<Value> {
        let mut array = Vec::new();
        if self.eat("]") {
            return Some(Value::Array(array));
        }
        loop {
            array.push(self.value(depth + 1)?);
            if self.eat("]") {
                return Some(Value::Array(array));
            }
            self.eat(",").then_some(())?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_heads() {
        let check = |head, expect| assert_eq!(name_in_head(head), expect, "{head}");
        check("", Some(None));
        check(" ```json\n", Some(None));
        check("f", Some(Some("f")));
        check("f[ARGS]", Some(Some("f")));
        check("f[CALL_ID]abc[ARGS]", Some(Some("f")));
        check("function<｜tool▁sep｜>f\n```json\n", Some(Some("f")));
        check("function<｜tool▁sep｜>", Some(Some("function")));
        check("functions.f:0<|tool_call_argument_begin|>", Some(Some("f")));
        check("to_json", Some(Some("to_json")));
        check("print(", None);
        check(&"f".repeat(NAME_BYTES_MAX + 1), None);
    }

    #[test]
    fn calls_by_any_keys() {
        for text in [
            r#"{"name": "f", "arguments": {"a": 1}}"#,
            r#"{"name": "f", "parameters": {"a": 1}}"#,
            r#"{"name": "f", "arguments": "{\"a\": 1}"}"#,
            r#"{"tool_name": "f", "parameters": {"a": 1}}"#,
            r#"{"type": "function", "function": {"name": "f", "parameters": {"a": 1}}}"#,
            r#"{"function": "f", "arguments": {"a": 1}}"#,
        ] {
            let value = serde_json::from_str(text).expect(text);
            let calls = in_json(value).expect(text);
            assert_eq!(
                calls,
                [new("f", json!({"a": 1})).expect("a call")],
                "{text}"
            );
        }
        for text in [
            "[]",
            "7",
            r#"{"arguments": {}}"#,
            r#"{"name": ""}"#,
            r#"{"name": "f", "arguments": [1]}"#,
            r#"{"name": "f", "arguments": "no JSON"}"#,
            r#"[{"name": "f"}, 7]"#,
        ] {
            let value = serde_json::from_str(text).expect(text);
            assert_eq!(in_json(value), None, "{text}");
        }
    }

    #[test]
    fn quoted_arguments() {
        let arguments = |body: &str| Some(in_quoted(body, "<q>")?.function.arguments);
        let check = |body: &str, expect: Value| {
            assert_eq!(arguments(body), Some(json!(expect.to_string())), "{body}");
        };
        check("call:f{}", json!({}));
        check(
            "call:f{a:<q>x, {y}:<q>,b:[1,-2.5,true,null,<q>z<q>]}",
            json!({"a": "x, {y}:", "b": [1, -2.5, true, null, "z"]}),
        );
        check("call:f{<q>k<q>:{n:{}}}", json!({"k": {"n": {}}}));
        check("call:f{a:plain}", json!({"a": "plain"}));
        let deep = format!("call:f{{a:{}{}}}", "[".repeat(100), "]".repeat(100));
        for broken in [
            "f{}",
            "call:f",
            "call:f{a}",
            "call:f{a:1",
            "call:f{a:<q>x}",
            "call:f{}x",
            &deep,
        ] {
            assert_eq!(arguments(broken), None, "{broken}");
        }
    }
}
