//! From the body of a request for a message to a [`Job`].

mod conversation;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use troika_engine::chat::ChatMessage;

use super::message::Thinking;
use crate::ApiError;
use crate::fields::{
    Integer, TextOr, check_parameters, function_name, positive, required, urgency, within,
};
use crate::job::{ChatPrompt, Format, Job, Prompt, Sampling, ToolChoice, Wishes};
use conversation::{Block, Message, conversation, text};

/// More than anyone needs; each is looked for after every token.
const STOP_SEQUENCES_MAX: usize = 64;

/// The body of both routes. What counting does not need (`max_tokens`, ...) is absent there.
#[derive(Debug, Deserialize)]
pub(super) struct Request {
    model: Option<String>,
    max_tokens: Option<usize>,
    messages: Option<Vec<Message>>,
    system: Option<TextOr<Vec<Block>>>,
    stop_sequences: Option<Vec<String>>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    top_k: Option<u32>,
    tools: Option<Vec<Tool>>,
    tool_choice: Option<Choice>,
    thinking: Option<ThinkingConfig>,
    output_config: Option<OutputConfig>,
    /// Where `output_config.format` stood before.
    output_format: Option<OutputFormat>,
    stream: Option<bool>,
    mcp_servers: Option<Vec<Value>>,
    container: Option<Value>,
    service_tier: Option<String>,
    priority: Option<Integer>,
}

#[derive(Debug, Deserialize)]
struct Tool {
    #[serde(rename = "type")]
    kind: Option<String>,
    name: Option<String>,
    description: Option<String>,
    input_schema: Option<Value>,
    strict: Option<bool>,
}

#[derive(Debug, Deserialize)]
struct Choice {
    #[serde(rename = "type")]
    kind: String,
    name: Option<String>,
    disable_parallel_tool_use: Option<bool>,
}

#[derive(Debug, Deserialize)]
struct ThinkingConfig {
    #[serde(rename = "type")]
    kind: String,
    budget_tokens: Option<usize>,
    display: Option<String>,
}

#[derive(Debug, Deserialize)]
struct OutputConfig {
    effort: Option<String>,
    format: Option<OutputFormat>,
}

#[derive(Debug, Deserialize)]
struct OutputFormat {
    #[serde(rename = "type")]
    kind: String,
    schema: Option<Map<String, Value>>,
}

impl Request {
    /// Whether the answer is wanted as a stream.
    pub(super) fn stream(&self) -> bool {
        self.stream.unwrap_or(false)
    }

    /// How much of the model's thinking is shown.
    pub(super) fn thinking_shown(&self) -> Thinking {
        let display = self.thinking.as_ref().and_then(|t| t.display.as_deref());
        match display {
            Some("omitted") => Thinking::Omitted,
            _ => Thinking::Shown,
        }
    }

    /// The field that asks for the answer's form. The newer one wins.
    pub(super) fn format_field(&self) -> &'static str {
        let config = self.output_config.as_ref();
        match config.is_some_and(|config| config.format.is_some()) || self.output_format.is_none() {
            true => "output_config.format",
            false => "output_format",
        }
    }

    /// The job of answering.
    ///
    /// # Errors
    /// If a field is missing, out of range, or asks for what is not to be had.
    pub(super) fn into_job(mut self) -> Result<Job, ApiError> {
        let max_tokens = required(self.max_tokens, "max_tokens")?;
        let max_tokens = positive(Some(max_tokens), "max_tokens")?;
        let sampling = Sampling {
            temperature: within(self.temperature, 0.0..=1.0, "temperature")?,
            top_p: within(self.top_p, 0.0..=1.0, "top_p")?,
            top_k: self.top_k,
            ..Sampling::default()
        };
        let stop = stop_sequences(self.stop_sequences.take().unwrap_or_default())?;
        let format = self.format()?;
        let class = urgency(self.service_tier.as_deref(), self.priority)?;
        let (model, prompt) = self.into_prompt()?;
        Ok(Job {
            model,
            prompt: Prompt::Chat(Box::new(prompt)),
            n: 1,
            max_tokens,
            sampling,
            stop,
            format,
            wishes: Wishes {
                class,
                ..Wishes::default()
            },
            ..Job::default()
        })
    }

    /// The model, and what its answer follows.
    ///
    /// # Errors
    /// As [`Request::into_job`].
    pub(super) fn into_prompt(self) -> Result<(String, ChatPrompt), ApiError> {
        self.refuse_the_absent()?;
        let thinking = self.thinking()?;
        let effort = self.effort()?;
        let model = required(self.model, "model")?;
        let tools = tools(self.tools.unwrap_or_default())?;
        let (tool_choice, parallel_tool_calls) = tool_choice(self.tool_choice, &tools)?;

        let turns = required(self.messages, "messages")?;
        let (mut messages, continue_last) = conversation(turns)?;
        if let Some(system) = self.system {
            let system = text(system, "system")?;
            if !system.is_empty() {
                messages.insert(0, ChatMessage::new("system", system));
            }
        }
        let prompt = ChatPrompt {
            messages,
            tools,
            tool_choice,
            parallel_tool_calls,
            thinking,
            effort,
            continue_last,
            template_variables: Map::new(),
        };
        Ok((model, prompt))
    }

    /// What the service that defined this interface has around the model.
    fn refuse_the_absent(&self) -> Result<(), ApiError> {
        if self
            .mcp_servers
            .as_ref()
            .is_some_and(|servers| !servers.is_empty())
        {
            let message = "`mcp_servers` are not called from here; connect the client to them";
            return Err(ApiError::unsupported(message).at("mcp_servers"));
        }
        if self
            .container
            .as_ref()
            .is_some_and(|container| !container.is_null())
        {
            let message = "there are no containers here; leave `container` out";
            return Err(ApiError::unsupported(message).at("container"));
        }
        Ok(())
    }

    /// Absent means off, as the interface has it; `adaptive` leaves it to the model.
    fn thinking(&self) -> Result<Option<bool>, ApiError> {
        let Some(config) = &self.thinking else {
            return Ok(Some(false));
        };
        match config.display.as_deref() {
            None | Some("summarized" | "omitted") => {}
            Some(other) => {
                return Err(unknown(
                    "thinking.display",
                    other,
                    "`summarized` or `omitted`",
                ));
            }
        }
        match &*config.kind {
            "disabled" => Ok(Some(false)),
            "adaptive" | "between_tools" => Ok(None),
            "enabled" => {
                let param = "thinking.budget_tokens";
                let budget = required(config.budget_tokens, param)?;
                positive(Some(budget), param)?;
                match self.max_tokens {
                    Some(max) if budget >= max => {
                        let message = format!(
                            "`{param}` is {budget}; it must be less than `max_tokens`, which is {max}"
                        );
                        Err(ApiError::invalid(message).at(param))
                    }
                    _ => Ok(Some(true)),
                }
            }
            other => {
                let known = "`enabled`, `disabled` or `adaptive`";
                Err(unknown("thinking.type", other, known))
            }
        }
    }

    fn effort(&self) -> Result<Option<String>, ApiError> {
        let effort = self
            .output_config
            .as_ref()
            .and_then(|c| c.effort.as_deref());
        match effort {
            None | Some("low" | "medium" | "high" | "xhigh" | "max") => {
                Ok(effort.map(ToOwned::to_owned))
            }
            Some(other) => {
                let known = "`low`, `medium`, `high`, `xhigh` or `max`";
                Err(unknown("output_config.effort", other, known))
            }
        }
    }

    fn format(&mut self) -> Result<Format, ApiError> {
        let param = self.format_field();
        let nested = self.output_config.as_mut().and_then(|c| c.format.take());
        let Some(format) = nested.or_else(|| self.output_format.take()) else {
            return Ok(Format::Text);
        };
        if format.kind != "json_schema" {
            return Err(unknown(
                &format!("{param}.type"),
                &format.kind,
                "`json_schema`",
            ));
        }
        let schema = required(format.schema, &format!("{param}.schema"))?;
        Ok(Format::JsonSchema(Value::Object(schema)))
    }
}

/// A word that is none of those there are.
fn unknown(param: &str, found: &str, known: &str) -> ApiError {
    ApiError::invalid(format!("`{param}` is `{found}`; it must be {known}")).at(param)
}

fn stop_sequences(stop: Vec<String>) -> Result<Vec<String>, ApiError> {
    if stop.len() > STOP_SEQUENCES_MAX {
        let count = stop.len();
        let message = format!("{count} `stop_sequences`; there may be {STOP_SEQUENCES_MAX}");
        return Err(ApiError::invalid(message).at("stop_sequences"));
    }
    if let Some(i) = stop.iter().position(String::is_empty) {
        let param = format!("stop_sequences[{i}]");
        return Err(ApiError::invalid(format!("`{param}` is empty")).at(param));
    }
    Ok(stop)
}

/// Tools in the form that templates are given.
fn tools(tools: Vec<Tool>) -> Result<Vec<Value>, ApiError> {
    let mut names = std::collections::BTreeSet::new();
    let mut functions = Vec::with_capacity(tools.len());
    for (i, tool) in tools.into_iter().enumerate() {
        let param = format!("tools[{i}].name");
        if let Some(kind) = tool.kind.filter(|kind| kind != "custom") {
            let message = format!(
                "tools[{i}]: there is no tool `{kind}` here; define tools by `name`, `description` and `input_schema`"
            );
            return Err(ApiError::unsupported(message).at(format!("tools[{i}].type")));
        }
        let name = required(tool.name, &param)?;
        function_name(&name, &param)?;
        let param_of_schema = format!("tools[{i}].input_schema");
        let schema = required(tool.input_schema, &param_of_schema)?;
        check_parameters(&schema, &param_of_schema)?;
        let mut function = json!({"name": name});
        if let Some(description) = tool.description {
            function["description"] = description.into();
        }
        function["parameters"] = schema;
        if let Some(strict) = tool.strict {
            function["strict"] = strict.into();
        }
        if !names.insert(name) {
            let message = format!("`{param}` is the name of an earlier tool");
            return Err(ApiError::invalid(message).at(param));
        }
        functions.push(json!({"type": "function", "function": function}));
    }
    Ok(functions)
}

/// Whether tools are called, and whether several at once.
fn tool_choice(choice: Option<Choice>, tools: &[Value]) -> Result<(ToolChoice, bool), ApiError> {
    let Some(choice) = choice else {
        return Ok((ToolChoice::Auto, true));
    };
    let wanted = match &*choice.kind {
        "auto" => ToolChoice::Auto,
        "none" => ToolChoice::Never,
        "any" if tools.is_empty() => {
            let message = "`tool_choice` asks for a tool, and there are no `tools`";
            return Err(ApiError::invalid(message).at("tool_choice.type"));
        }
        "any" => ToolChoice::Required,
        "tool" => {
            let name = required(choice.name, "tool_choice.name")?;
            if !tools.iter().any(|tool| tool["function"]["name"] == *name) {
                let message = format!("`tool_choice.name` is `{name}`, which is none of `tools`");
                return Err(ApiError::invalid(message).at("tool_choice.name"));
            }
            ToolChoice::Function(name)
        }
        other => {
            let known = "`auto`, `any`, `tool` or `none`";
            return Err(unknown("tool_choice.type", other, known));
        }
    };
    let parallel = !choice.disable_parallel_tool_use.unwrap_or(false);
    Ok((wanted, parallel))
}
