//! Grammars of answers that must call a tool, or whose content must have a form: each in its family's way of writing.
//!
//! The grammars are llguidance's form of Lark: rules and strings as there, `%json {..}` for what a schema describes, and
//! `<[id]>` for a token by its id. JSON is spaced as templates serialize it, which is how models have learned it; space
//! that is left open would be room for an answer of nothing else.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::family::{Body, Family, Forms};
use super::tools::{Tool, Tools, allows_text};
use super::{GrammarContext, RequiredCall};

/// Calls of one answer at most.
const CALLS_MAX: usize = 32;

/// How deep a schema is followed where arguments are not JSON.
const DEPTH_MAX: usize = 4;

/// Any text. What ends it stands behind.
const TEXT: &str = "TEXT: /(?s:.*)/";
const NUMBER: &str = r"NUMBER: /-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?/";
const INTEGER: &str = "INTEGER: /-?(0|[1-9][0-9]*)/";
const INDEX: &str = "INDEX: /0|[1-9][0-9]{0,3}/";

pub(super) fn tool_grammar(
    forms: &Forms,
    tools: &Tools,
    choice: &RequiredCall,
    parallel: bool,
    context: GrammarContext<'_>,
) -> Option<String> {
    let tools: Vec<&Tool> = match choice {
        RequiredCall::OneOf => tools.iter().collect(),
        RequiredCall::Named(name) => vec![tools.get(name)?],
    };
    if tools.is_empty() || forms.family == Family::None {
        return None;
    }
    let mut lark = Lark {
        context,
        rules: Vec::new(),
    };
    let thought = lark.thought(forms);
    let layout = lark.layout(forms);
    let calls = tools.iter().map(|tool| lark.call(forms, tool));
    let calls: Vec<_> = calls.collect();
    let call = lark.rule("call", &calls.join(" | "));
    let more = match parallel && layout.several {
        true => format!("({} {call}){{0,{}}}", layout.between, CALLS_MAX - 1),
        false => String::new(),
    };
    let start = [thought, layout.before, call, more, layout.after].join(" ");
    Some(lark.finish(&start))
}

pub(super) fn content_grammar(forms: &Forms, content: &str, context: GrammarContext<'_>) -> String {
    let mut lark = Lark {
        context,
        rules: Vec::new(),
    };
    let thought = lark.thought(forms);
    let content = lark.rule("content", content);
    let around = |open: &str| forms.dropped.contains(&open);
    let start = if forms.family == Family::Harmony {
        let open = [
            lark.mark("<|channel|>"),
            text("final"),
            lark.mark("<|message|>"),
        ];
        format!("{thought} {} {content}", open.join(" "))
    } else if around("<|START_RESPONSE|>") {
        let marks = [
            lark.mark("<|START_RESPONSE|>"),
            lark.mark("<|END_RESPONSE|>"),
        ];
        format!("{thought} {} {content} {}", marks[0], marks[1])
    } else {
        format!("{thought} {content}")
    };
    lark.finish(&start)
}

/// What stands around calls. All are expressions.
#[derive(Default)]
struct Layout {
    before: String,
    between: String,
    after: String,
    /// Whether an answer can have several calls.
    several: bool,
}

/// A grammar that is being written.
struct Lark<'a> {
    context: GrammarContext<'a>,
    rules: Vec<String>,
}

impl Lark<'_> {
    /// Adds a rule and gives its name.
    fn rule(&mut self, stem: &str, expression: &str) -> String {
        self.rule_with(stem, "", expression)
    }

    fn rule_with(&mut self, stem: &str, attributes: &str, expression: &str) -> String {
        let name = format!("{stem}_{}", self.rules.len());
        self.rules.push(format!("{name}{attributes}: {expression}"));
        name
    }

    /// Adds a terminal that may be there, and gives its name.
    fn terminal<'t>(&mut self, definition: &'t str) -> &'t str {
        if !self.rules.iter().any(|rule| rule == definition) {
            self.rules.push(definition.to_owned());
        }
        definition
            .split_once(':')
            .map_or(definition, |(name, _)| name)
    }

    fn finish(&self, start: &str) -> String {
        let mut grammar = format!("start: {start}\n");
        for rule in &self.rules {
            grammar.push_str(rule);
            grammar.push('\n');
        }
        grammar
    }

    /// A mark: the token, the token and the word behind it, or its letters.
    fn mark(&self, mark: &str) -> String {
        if let Some(id) = (self.context.token)(mark) {
            return format!("<[{}]>", id.0);
        }
        match mark.find('>').map(|end| mark.split_at(end + 1)) {
            Some((token, word)) if !word.is_empty() => match (self.context.token)(token) {
                Some(id) => format!("<[{}]> {}", id.0, text(word)),
                None => text(mark),
            },
            _ => text(mark),
        }
    }

    /// Any text up to a mark, and the mark.
    fn text_until(&mut self, mark: &str) -> String {
        match (self.context.token)(mark) {
            Some(id) => {
                let any = self.terminal(TEXT);
                format!("{any} <[{}]>", id.0)
            }
            None => self.rule_with("text", &format!("[suffix={}]", text(mark)), "/(?s:.*)/"),
        }
    }

    /// The thought that an answer may begin with.
    fn thought(&mut self, forms: &Forms) -> String {
        let tail = self.context.prompt_tail.trim_end();
        if forms.family == Family::Harmony {
            let marks = ["<|channel|>", "<|message|>", "<|start|>"].map(|mark| self.mark(mark));
            let inner = self.text_until("<|end|>");
            let [channel, message, start] = marks;
            return format!("({channel} \"analysis\" {message} {inner} {start} \"assistant\")?");
        }
        let Some(marks) = forms.thinking.filter(|marks| !tail.ends_with(marks.close)) else {
            return String::new();
        };
        let space = "(\"\\n\" | \"\\n\\n\")?";
        if tail.ends_with(marks.open) {
            // The grammar holds from the thought's end on.
            return space.to_owned();
        }
        let inner = self.text_until(marks.close);
        format!("({} {inner} {space})?", self.mark(marks.open))
    }

    fn layout(&self, forms: &Forms) -> Layout {
        let one = Layout::default();
        let several = Layout {
            several: true,
            ..Layout::default()
        };
        let between = |between: &str| Layout {
            between: text(between),
            several: true,
            ..Layout::default()
        };
        match forms.family {
            Family::None | Family::Harmony => one,
            Family::Hermes | Family::Functions | Family::Pairs | Family::Bare => between("\n"),
            Family::Llama => between("; "),
            Family::Mistral { named: true } | Family::Gemma | Family::FunctionGemma => several,
            Family::Mistral { named: false } | Family::List => {
                let form = forms.calls[0];
                let close = (!form.close.is_empty()).then(|| self.mark(form.close));
                Layout {
                    before: format!("{} \"[\"", self.mark(form.open)),
                    after: format!("\"]\" {}", close.unwrap_or_default()),
                    ..between(", ")
                }
            }
            Family::DeepSeek { .. } | Family::Sections => {
                let [open, close] = forms.dropped_with_tools else {
                    return several;
                };
                Layout {
                    before: self.mark(open),
                    after: self.mark(close),
                    ..several
                }
            }
            Family::Action => Layout {
                before: format!("{} \"[\\n    \"", self.mark(forms.calls[0].open)),
                after: format!("\"\\n]\" {}", self.mark(forms.calls[0].close)),
                ..between(",\n    ")
            },
            Family::ActionWord => Layout {
                before: text("Action: ```json\n[\n    "),
                after: text("\n]```"),
                ..between(",\n    ")
            },
        }
    }

    /// One call of a tool, in what the layout puts around it.
    fn call(&mut self, forms: &Forms, tool: &Tool) -> String {
        let expression = match forms.family {
            Family::Bare | Family::Mistral { named: false } | Family::List | Family::None => {
                self.json_call(tool, "name", "arguments")
            }
            Family::Llama => self.json_call(tool, "name", "parameters"),
            Family::ActionWord => self.json_call(tool, "tool_name", "parameters"),
            Family::Hermes => {
                let [open, close] = self.marks_of_call(forms);
                let call = self.json_call(tool, "name", "arguments");
                format!("{open} \"\\n\" {call} \"\\n\" {close}")
            }
            Family::Functions | Family::Pairs => self.written_call(forms, tool),
            Family::Gemma | Family::FunctionGemma => self.quoted_call(forms, tool),
            Family::Action
            | Family::Mistral { named: true }
            | Family::DeepSeek { .. }
            | Family::Sections
            | Family::Harmony => self.named_call(forms, tool),
        };
        self.rule("call", &expression)
    }

    fn marks_of_call(&self, forms: &Forms) -> [String; 2] {
        match forms.calls.first() {
            Some(form) => [form.open, form.close].map(|mark| self.mark(mark)),
            None => [String::new(), String::new()],
        }
    }

    /// A name and JSON of the arguments, each behind marks.
    fn named_call(&mut self, forms: &Forms, tool: &Tool) -> String {
        let name = &tool.name;
        let [open, close] = self.marks_of_call(forms);
        let arguments = self.arguments(tool);
        match forms.family {
            Family::Action => {
                let index = self.terminal(INDEX);
                let head = format!("\", \"tool_name\": {}, \"parameters\": ", json!(name));
                let open = text("{\"tool_call_id\": \"");
                format!("{open} {index} {} {arguments} \"}}\"", text(&head))
            }
            Family::DeepSeek { fenced } => {
                let separator = self.mark("<｜tool▁sep｜>");
                let name = text(name);
                match fenced {
                    true => format!(
                        "{open} \"function\" {separator} {name} \"\\n```json\\n\" {arguments} \"\\n```\" {close}"
                    ),
                    false => format!("{open} {name} {separator} {arguments} {close}"),
                }
            }
            Family::Sections => {
                let index = self.terminal(INDEX);
                let separator = self.mark("<|tool_call_argument_begin|>");
                let name = text(&format!("functions.{name}:"));
                format!("{open} {name} {index} {separator} {arguments} {close}")
            }
            Family::Harmony => {
                let head = text(&format!("commentary to=functions.{name} "));
                let [channel, constrain, message] =
                    ["<|channel|>", "<|constrain|>", "<|message|>"].map(|mark| self.mark(mark));
                format!("{channel} {head} {constrain} \"json\" {message} {arguments}")
            }
            _ => format!("{open} {} {} {arguments}", text(name), self.mark("[ARGS]")),
        }
    }

    fn written_call(&mut self, forms: &Forms, tool: &Tool) -> String {
        let name = &tool.name;
        let [open, close] = self.marks_of_call(forms);
        if forms.family == Family::Functions {
            let marks = ["<parameter=", ">\n", "\n</parameter>"];
            let parameters = self.written_parameters(tool, marks);
            let head = text(&format!("\n<function={name}>\n"));
            format!("{open} {head} {parameters} \"</function>\\n\" {close}")
        } else {
            let marks = ["<arg_key>", "</arg_key>\n<arg_value>", "</arg_value>"];
            let pairs = self.written_parameters(tool, marks);
            format!("{open} {} {pairs} {close}", text(&format!("{name}\n")))
        }
    }

    fn quoted_call(&mut self, forms: &Forms, tool: &Tool) -> String {
        let quote = forms.calls.iter().find_map(|form| match form.body {
            Body::Quoted(quote) => Some(quote),
            _ => None,
        });
        let schema = Value::Object(tool.parameters.clone());
        let arguments = self.quoted(&schema, quote.unwrap_or_default(), 0);
        let [open, close] = self.marks_of_call(forms);
        let head = text(&format!("call:{}", tool.name));
        format!("{open} {head} {arguments} {close}")
    }

    fn json_call(&mut self, tool: &Tool, name_key: &str, arguments_key: &str) -> String {
        let head = format!(
            "{{\"{name_key}\": {}, \"{arguments_key}\": ",
            json!(tool.name)
        );
        let arguments = self.arguments(tool);
        format!("{} {arguments} \"}}\"", text(&head))
    }

    fn arguments(&mut self, tool: &Tool) -> String {
        let schema = json_schema(&Value::Object(tool.parameters.clone()), tool);
        self.rule("arguments", &schema)
    }

    /// Parameters with values as plain text where the schema allows text, and as JSON where it does not; the required
    /// ones always, all in the schema's order. The marks stand around a key and a value; the second may be two, with
    /// space between.
    fn written_parameters(&mut self, tool: &Tool, [open, gap, close]: [&str; 3]) -> String {
        let mut expression = String::new();
        let Some(properties) = tool.properties() else {
            return expression;
        };
        for (key, schema) in properties {
            let gap = match gap.split_once('\n') {
                Some((one, two)) if !two.is_empty() => {
                    format!("{} \"\\n\" {}", self.mark(one), self.mark(two))
                }
                _ => text(gap),
            };
            let choices = schema.get("enum").and_then(Value::as_array);
            let choices = choices.filter(|values| values.iter().all(Value::is_string));
            let value = match choices {
                Some(values) if !values.is_empty() => {
                    let values = values.iter().filter_map(Value::as_str).map(text);
                    let values: Vec<_> = values.collect();
                    format!("({}) {}", values.join(" | "), self.mark(close))
                }
                _ if allows_text(schema, 0) == Some(false) => {
                    let value = self.rule("value", &json_schema(schema, tool));
                    format!("{value} {}", self.mark(close))
                }
                _ => self.text_until(close),
            };
            let open = self.mark(open);
            let pair = format!("{open} {} {gap} {value} \"\\n\"", text(key));
            let pair = self.rule("parameter", &pair);
            let optional = if tool.requires(key) { "" } else { "?" };
            // Writing to a string does not fail.
            let _ = write!(expression, "{pair}{optional} ");
        }
        expression
    }

    /// A value with `quote` for quotes and keys without, as a schema describes it; below some depth, any value.
    fn quoted(&mut self, schema: &Value, quote: &str, depth: usize) -> String {
        let kind = schema.get("type").and_then(Value::as_str);
        let choices = schema.get("enum").and_then(Value::as_array);
        let choices = choices.filter(|values| values.iter().all(Value::is_string));
        match (kind, choices) {
            _ if depth > DEPTH_MAX => self.any_quoted(quote),
            (_, Some(values)) if !values.is_empty() => {
                let values: Vec<_> = values.iter().filter_map(Value::as_str).map(text).collect();
                let mark = self.mark(quote);
                format!("{mark} ({}) {mark}", values.join(" | "))
            }
            (Some("string"), _) => format!("{} {}", self.mark(quote), self.text_until(quote)),
            (Some("integer"), _) => self.terminal(INTEGER).to_owned(),
            (Some("number"), _) => self.terminal(NUMBER).to_owned(),
            (Some("boolean"), _) => "(\"true\" | \"false\")".to_owned(),
            (Some("null"), _) => "\"null\"".to_owned(),
            (Some("array"), _) => {
                let items = schema.get("items").unwrap_or(&Value::Null);
                let item = self.quoted(items, quote, depth + 1);
                let item = self.rule("item", &item);
                format!("\"[\" ({item} (\",\" {item})*)? \"]\"")
            }
            (Some("object"), _) if schema.get("properties").is_some_and(Value::is_object) => {
                self.quoted_object(schema, quote, depth)
            }
            (Some("object"), _) => {
                self.any_quoted(quote);
                "quoted_object".to_owned()
            }
            _ => self.any_quoted(quote),
        }
    }

    /// Keys in the order of their letters, as the templates write them.
    fn quoted_object(&mut self, schema: &Value, quote: &str, depth: usize) -> String {
        let properties = schema.get("properties").and_then(Value::as_object);
        let mut properties: Vec<_> = properties.into_iter().flatten().collect();
        properties.sort_unstable_by_key(|(key, _)| *key);
        let required = schema.get("required").and_then(Value::as_array);
        let is_required =
            |key: &str| required.is_some_and(|names| names.iter().any(|name| name == key));
        // `first` is what may follow where no key is written yet, and `rest` what may follow behind one.
        let (mut first, mut rest) = (String::new(), String::new());
        for (key, schema) in properties.into_iter().rev() {
            let value = self.quoted(schema, quote, depth + 1);
            let pair = self.rule("pair", &format!("{} {value}", text(&format!("{key}:"))));
            let then = rest.clone();
            (first, rest) = if is_required(key) {
                (format!("{pair} {then}"), format!("\",\" {pair} {then}"))
            } else {
                let first = match first.is_empty() {
                    true => format!("({pair} {then})?"),
                    false => format!("({pair} {then} | {first})"),
                };
                (first, format!("(\",\" {pair})? {then}"))
            };
            first = self.rule("first", &first);
            rest = self.rule("rest", &rest);
        }
        format!("\"{{\" {first} \"}}\"")
    }

    fn any_quoted(&mut self, quote: &str) -> String {
        let rule = "quoted_value: quoted_text | NUMBER | \"true\" | \"false\" | \"null\" | quoted_object | quoted_array";
        if self.rules.iter().any(|have| have == rule) {
            return "quoted_value".to_owned();
        }
        self.rules.push(rule.to_owned());
        self.terminal(NUMBER);
        let string = format!("{} {}", self.mark(quote), self.text_until(quote));
        self.rules.push(format!("quoted_text: {string}"));
        for rule in [
            "QUOTED_KEY: /[A-Za-z_][A-Za-z0-9_]*/",
            "quoted_pair: QUOTED_KEY \":\" quoted_value",
            "quoted_object: \"{\" (quoted_pair (\",\" quoted_pair)*)? \"}\"",
            "quoted_array: \"[\" (quoted_value (\",\" quoted_value)*)? \"]\"",
        ] {
            self.rules.push(rule.to_owned());
        }
        "quoted_value".to_owned()
    }
}

/// A string of the grammar.
fn text(text: &str) -> String {
    json!(text).to_string().replace('\u{7f}', "\\u007f")
}

/// The expression for JSON of a schema, which is a tool's or a part of it.
fn json_schema(schema: &Value, tool: &Tool) -> String {
    let mut schema = schema.as_object().cloned().unwrap_or_default();
    for definitions in ["$defs", "definitions"] {
        if let Some(definitions_of_tool) = tool.parameters.get(definitions) {
            schema.insert(definitions.to_owned(), definitions_of_tool.clone());
        }
    }
    let spaced =
        json!({"item_separator": ", ", "key_separator": ": ", "whitespace_flexible": false});
    schema.insert("x-guidance".to_owned(), spaced);
    format!("%json {}", Value::Object(schema))
}
