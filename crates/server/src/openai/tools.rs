//! Tools and whether to call them, in the present form and in the one before (`functions`).

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::ApiError;
use crate::fields::{Few, TextOr, check_parameters, function_name, required};
use crate::job::ToolChoice;

/// Tools in one request at most: each is a part of the prompt.
const TOOLS_MAX: usize = 1_024;

/// The fields of a request that are about tools.
#[derive(Debug, Deserialize)]
pub(super) struct ToolFields {
    tools: Option<Few<Tool, TOOLS_MAX>>,
    tool_choice: Option<TextOr<Choice>>,
    parallel_tool_calls: Option<bool>,
    functions: Option<Few<Function, TOOLS_MAX>>,
    function_call: Option<TextOr<Named>>,
}

#[derive(Debug, Deserialize)]
struct Tool {
    #[serde(rename = "type")]
    kind: Option<String>,
    function: Option<Function>,
}

#[derive(Debug, Deserialize)]
struct Function {
    name: String,
    description: Option<String>,
    parameters: Option<Value>,
    strict: Option<bool>,
}

#[derive(Debug, Deserialize)]
struct Choice {
    #[serde(rename = "type")]
    kind: String,
    function: Option<Named>,
    allowed_tools: Option<Allowed>,
}

#[derive(Debug, Deserialize)]
struct Named {
    name: String,
}

#[derive(Debug, Deserialize)]
struct Allowed {
    mode: String,
    tools: Few<AllowedTool, TOOLS_MAX>,
}

#[derive(Debug, Deserialize)]
struct AllowedTool {
    function: Option<Named>,
}

/// What a job is told of tools.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Tools {
    pub(super) tools: Vec<Value>,
    pub(super) choice: ToolChoice,
    pub(super) parallel: bool,
    /// The client asked by `functions`, and expects `function_call` in the answer.
    pub(super) legacy: bool,
}

impl ToolFields {
    /// # Errors
    /// If a tool is no function, or one is chosen that is not there.
    pub(super) fn into_tools(self) -> Result<Tools, ApiError> {
        let legacy = self.functions.is_some();
        if legacy && self.tools.is_some() {
            let message = "tools and functions are both given; functions is the old form of tools";
            return Err(ApiError::invalid(message).at("functions"));
        }
        let mut functions = match self.functions {
            Some(Few(functions)) => functions,
            None => functions_of(self.tools.unwrap_or_default())?,
        };
        let list = if legacy { "functions" } else { "tools" };
        for (i, function) in functions.iter().enumerate() {
            let within = if legacy { "" } else { ".function" };
            let place = format!("{list}[{i}]{within}");
            function_name(&function.name, &format!("{place}.name"))?;
            if let Some(parameters) = &function.parameters {
                check_parameters(parameters, &format!("{place}.parameters"))?;
            }
        }
        let choice = match (self.function_call, self.tool_choice) {
            (Some(TextOr::Text(word)), None) => by_word("function_call", &word)?,
            (Some(TextOr::Other(named)), None) => {
                one_of(&functions, "function_call.name", named.name)?
            }
            (_, Some(TextOr::Text(word))) => by_word("tool_choice", &word)?,
            (_, Some(TextOr::Other(choice))) => choice.among(&mut functions)?,
            (None, None) => ToolChoice::Auto,
        };
        if choice == ToolChoice::Required && functions.is_empty() {
            let message = "tool_choice requires a tool, and tools is empty";
            return Err(ApiError::invalid(message).at("tool_choice"));
        }
        Ok(Tools {
            tools: functions.into_iter().map(Function::into_value).collect(),
            choice,
            parallel: !legacy && self.parallel_tool_calls.unwrap_or(true),
            legacy,
        })
    }
}

fn functions_of(Few(tools): Few<Tool, TOOLS_MAX>) -> Result<Vec<Function>, ApiError> {
    let function = |(i, tool): (usize, Tool)| match (tool.kind.as_deref(), tool.function) {
        (None | Some("function"), Some(function)) => Ok(function),
        (None | Some("function"), None) => {
            let place = format!("tools[{i}].function");
            Err(ApiError::invalid(format!("{place} is missing")).at(place))
        }
        (Some(other), _) => {
            let place = format!("tools[{i}].type");
            let message = format!("{place} is `{other}`; tools here are functions");
            Err(ApiError::unsupported(message).at(place))
        }
    };
    tools.into_iter().enumerate().map(function).collect()
}

fn by_word(field: &str, word: &str) -> Result<ToolChoice, ApiError> {
    match word {
        "auto" => Ok(ToolChoice::Auto),
        "none" => Ok(ToolChoice::Never),
        "required" if field == "tool_choice" => Ok(ToolChoice::Required),
        other => {
            let message =
                format!("{field} is `{other}`; it must be none, auto, required or an object");
            Err(ApiError::invalid(message).at(field))
        }
    }
}

/// The function of this name, which must be there.
fn one_of(functions: &[Function], place: &str, name: String) -> Result<ToolChoice, ApiError> {
    if functions.iter().any(|function| function.name == name) {
        return Ok(ToolChoice::Function(name));
    }
    let message = format!("{place} is `{name}`, and no tool of the request has this name");
    Err(ApiError::invalid(message).at(place))
}

impl Choice {
    /// The choice; of `functions`, those stay that are allowed.
    fn among(self, functions: &mut Vec<Function>) -> Result<ToolChoice, ApiError> {
        match (&*self.kind, self.function, self.allowed_tools) {
            ("function", Some(named), _) => {
                one_of(functions, "tool_choice.function.name", named.name)
            }
            ("allowed_tools", _, Some(allowed)) => allowed.among(functions),
            (kind @ ("function" | "allowed_tools"), ..) => {
                let place = format!("tool_choice.{kind}");
                Err(ApiError::invalid(format!("{place} is missing")).at(place))
            }
            (other, ..) => {
                let message = format!(
                    "tool_choice.type is `{other}`; function and allowed_tools are to be had here"
                );
                Err(ApiError::unsupported(message).at("tool_choice.type"))
            }
        }
    }
}

impl Allowed {
    fn among(self, functions: &mut Vec<Function>) -> Result<ToolChoice, ApiError> {
        let Few(tools) = self.tools;
        let mut names = Vec::with_capacity(tools.len());
        for (i, tool) in tools.into_iter().enumerate() {
            let place = format!("tool_choice.allowed_tools.tools[{i}].function.name");
            let named = required(tool.function, &place)?;
            one_of(functions, &place, named.name.clone())?;
            names.push(named.name);
        }
        functions.retain(|function| names.contains(&function.name));
        by_word("tool_choice", &self.mode)
            .map_err(|error| error.at("tool_choice.allowed_tools.mode"))
    }
}

impl Function {
    /// The form that templates know; what was not given is not there.
    fn into_value(self) -> Value {
        let mut function = Map::new();
        function.insert("name".to_owned(), self.name.into());
        let fields = [
            ("description", self.description.map(Value::from)),
            ("parameters", self.parameters),
            ("strict", self.strict.map(Value::from)),
        ];
        for (name, value) in fields {
            function.extend(value.map(|value| (name.to_owned(), value)));
        }
        json!({"type": "function", "function": function})
    }
}
