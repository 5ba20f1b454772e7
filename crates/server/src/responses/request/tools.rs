//! Tools and which of them the model calls.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::ApiError;
use crate::fields::{check_parameters, function_name, required};
use crate::job::ToolChoice;

/// A tool, in this interface's flat form.
#[derive(Debug, Deserialize)]
pub(super) struct Tool {
    #[serde(rename = "type")]
    kind: String,
    name: Option<String>,
    description: Option<String>,
    parameters: Option<Value>,
    strict: Option<bool>,
}

/// Tools and how to call them.
pub(super) struct Tools {
    /// In the form that templates are given, only those that may be called.
    pub(super) functions: Vec<Value>,
    pub(super) choice: ToolChoice,
    /// As the client sent them.
    pub(super) echo: Vec<Value>,
    /// The choice, as the client sent it.
    pub(super) choice_echo: Value,
}

/// Reads both fields.
///
/// # Errors
/// If a tool is not a function, or the choice names one that is not there.
pub(super) fn tools(tools: Vec<Tool>, choice: Option<Value>) -> Result<Tools, ApiError> {
    let mut echo: Vec<Value> = Vec::with_capacity(tools.len());
    for (i, tool) in tools.into_iter().enumerate() {
        let tool = tool_echo(tool, i)?;
        if echo.iter().any(|earlier| earlier["name"] == tool["name"]) {
            let param = format!("tools[{i}].name");
            let message = format!("`{param}` is the name of an earlier tool");
            return Err(ApiError::invalid(message).at(param));
        }
        echo.push(tool);
    }
    let choice_echo = choice
        .filter(|c| !c.is_null())
        .unwrap_or_else(|| "auto".into());
    let (choice, allowed) = tool_choice(&choice_echo, &echo)?;
    let functions = echo
        .iter()
        .filter(|tool| {
            allowed
                .as_ref()
                .is_none_or(|names| names.iter().any(|n| tool["name"] == **n))
        })
        .map(function)
        .collect();
    Ok(Tools {
        functions,
        choice,
        echo,
        choice_echo,
    })
}

fn tool_echo(tool: Tool, i: usize) -> Result<Value, ApiError> {
    if tool.kind != "function" {
        let message = format!(
            "tools[{i}]: there is no tool `{}` here; only functions, which the client runs, can be called",
            tool.kind
        );
        return Err(ApiError::unsupported(message).at(format!("tools[{i}].type")));
    }
    let param = format!("tools[{i}].name");
    let name = required(tool.name, &param)?;
    function_name(&name, &param)?;
    if let Some(parameters) = &tool.parameters {
        check_parameters(parameters, &format!("tools[{i}].parameters"))?;
    }
    Ok(json!({
        "type": "function",
        "name": name,
        "description": tool.description,
        "parameters": tool.parameters,
        "strict": tool.strict,
    }))
}

/// The nested form of a flat tool, without what is null.
fn function(tool: &Value) -> Value {
    let mut function = Map::new();
    for field in ["name", "description", "parameters", "strict"] {
        if !tool[field].is_null() {
            function.insert(field.to_owned(), tool[field].clone());
        }
    }
    json!({"type": "function", "function": function})
}

/// The choice, and the names of the tools that it leaves.
fn tool_choice(
    choice: &Value,
    tools: &[Value],
) -> Result<(ToolChoice, Option<Vec<String>>), ApiError> {
    if let Some(word) = choice.as_str() {
        return Ok((mode(word, tools, "tool_choice")?, None));
    }
    match choice["type"].as_str() {
        Some("function") => {
            let name = known_name(choice, tools, "tool_choice")?;
            Ok((ToolChoice::Function(name), None))
        }
        Some("allowed_tools") => {
            let word = choice["mode"].as_str().unwrap_or("auto");
            let mode = mode(word, tools, "tool_choice.mode")?;
            let allowed = choice["tools"].as_array();
            let allowed = required(allowed, "tool_choice.tools")?;
            let names = allowed
                .iter()
                .enumerate()
                .map(|(i, tool)| known_name(tool, tools, &format!("tool_choice.tools[{i}]")));
            Ok((mode, Some(names.collect::<Result<_, _>>()?)))
        }
        Some(other) => {
            let message = format!("`tool_choice.type` is `{other}`; only functions can be called");
            Err(ApiError::unsupported(message).at("tool_choice.type"))
        }
        None => {
            let message =
                "`tool_choice` must be `auto`, `none`, `required`, or an object with a `type`";
            Err(ApiError::invalid(message).at("tool_choice"))
        }
    }
}

fn mode(word: &str, tools: &[Value], param: &str) -> Result<ToolChoice, ApiError> {
    match word {
        "auto" => Ok(ToolChoice::Auto),
        "none" => Ok(ToolChoice::Never),
        "required" if tools.is_empty() => {
            let message = format!("`{param}` is `required`, and there are no `tools`");
            Err(ApiError::invalid(message).at(param))
        }
        "required" => Ok(ToolChoice::Required),
        other => {
            let message =
                format!("`{param}` is `{other}`; it must be `auto`, `none` or `required`");
            Err(ApiError::invalid(message).at(param))
        }
    }
}

/// The `name` of an object that refers to one of the tools.
fn known_name(object: &Value, tools: &[Value], path: &str) -> Result<String, ApiError> {
    let param = format!("{path}.name");
    let name = required(object["name"].as_str(), &param)?;
    if !tools.iter().any(|tool| tool["name"] == name) {
        let message = format!("`{param}` is `{name}`, which is none of `tools`");
        return Err(ApiError::invalid(message).at(param));
    }
    Ok(name.to_owned())
}
