//! Anthropic's interface: `/v1/messages`.
//!
//! It has fewer words than OpenAI's: no text without a conversation, one answer at a time, no seeds, no log-probabilities, no
//! form but a schema. Several answers are several requests; the rest is refused.

mod stream;

use serde_json::{Map, Value, json};
use troika_engine::chat::ChatMessage;
use troika_job::{ApiError, ChatPrompt, Format, Job, Prompt, Sampling, ToolChoice};

pub(super) use stream::Stream;

use super::calls::arguments_object;
use super::{Ask, Dialect, short, text};

/// Tokens of an answer where the job sets no limit, which the interface demands: all models there that are still served
/// write as many.
const ANSWER_TOKENS: usize = 8_192;

/// The fewest tokens that a model may think.
const THINKING_TOKENS_MIN: usize = 1_024;

pub(super) fn asks(
    to: &Dialect<'_>,
    model: &str,
    limit: Option<usize>,
    job: &Job,
) -> Result<Vec<Ask>, ApiError> {
    let prompt = match &job.prompt {
        Prompt::Chat(prompt) => prompt,
        Prompt::Text(_) | Prompt::Rendered(_) => {
            return Err(to.lacks("text without a conversation", "prompt"));
        }
        Prompt::Tokens(_) => return Err(to.lacks("prompts of tokens", "prompt")),
    };
    refuse(to, job, prompt)?;
    let mut body = Map::new();
    let mut set = |name: &str, value: Value| _ = body.insert(name.to_owned(), value);
    let max_tokens = limit.unwrap_or(ANSWER_TOKENS);
    set("model", model.into());
    set("max_tokens", max_tokens.into());
    set("stream", true.into());
    let (system, turns) = split(to, &prompt.messages)?;
    if !system.is_empty() {
        set("system", system.join("\n\n").into());
    }
    set("messages", Conversation::of(to, turns)?.into());
    if !prompt.tools.is_empty() {
        set("tools", prompt.tools.iter().map(tool).collect());
        set("tool_choice", tool_choice(prompt));
    }
    for (name, number) in [
        ("temperature", job.sampling.temperature),
        ("top_p", job.sampling.top_p),
    ] {
        if let Some(number) = number {
            set(name, short(number));
        }
    }
    if let Some(k) = job.sampling.top_k.filter(|&k| k > 0) {
        set("top_k", k.into());
    }
    if !job.stop.is_empty() {
        set("stop_sequences", job.stop.clone().into());
    }
    if let Some(thinking) = thinking(to, prompt, turns, max_tokens)? {
        set("thinking", thinking);
    }
    let mut output = Map::new();
    if let Some(effort) = &prompt.effort {
        output.insert("effort".to_owned(), effort.as_str().into());
    }
    if let Format::JsonSchema(schema) = &job.format {
        output.insert(
            "format".to_owned(),
            json!({"type": "json_schema", "schema": schema}),
        );
    }
    if !output.is_empty() {
        set("output_config", output.into());
    }
    let ask = |i| Ask {
        path: "/v1/messages",
        body: body.clone().into(),
        answers: i..i + 1,
    };
    Ok((0..job.n.max(1)).map(ask).collect())
}

/// What the interface has no words for. Numbers that change nothing are no wish.
fn refuse(to: &Dialect<'_>, job: &Job, prompt: &ChatPrompt) -> Result<(), ApiError> {
    let Sampling {
        temperature,
        min_p,
        repeat_penalty,
        presence_penalty,
        frequency_penalty,
        seed,
        logit_bias,
        extra,
        ..
    } = &job.sampling;
    let other_than = |number: &Option<f32>, neutral: f32| number.is_some_and(|it| it != neutral);
    let last = prompt.messages.last();
    to.lacks_extra(extra, &[])?;
    to.lacks_any(&[
        (other_than(min_p, 0.0), "min_p", "min_p"),
        (
            other_than(repeat_penalty, 1.0),
            "repeat_penalty",
            "repeat_penalty",
        ),
        (
            other_than(presence_penalty, 0.0),
            "presence_penalty",
            "presence_penalty",
        ),
        (
            other_than(frequency_penalty, 0.0),
            "frequency_penalty",
            "frequency_penalty",
        ),
        (
            temperature.is_some_and(|it| it > 1.0),
            "temperature above 1",
            "temperature",
        ),
        (seed.is_some(), "seed", "seed"),
        (!logit_bias.is_empty(), "logit_bias", "logit_bias"),
        (job.top_logprobs.is_some(), "log-probabilities", "logprobs"),
        (job.ignore_end, "ignore_eos", "ignore_eos"),
        (
            job.format == Format::JsonObject,
            "form of any JSON object; give a schema",
            "format",
        ),
        (
            matches!(job.format, Format::Regex(_)),
            "regular expressions",
            "format",
        ),
        (matches!(job.format, Format::Lark(_)), "grammars", "format"),
        (
            !prompt.template_variables.is_empty(),
            "variables of templates",
            "chat_template_kwargs",
        ),
        (
            !prompt.continue_last && last.is_some_and(|it| it.role == "assistant"),
            "new answer after the assistant's",
            "messages",
        ),
    ])
}

/// The words of the system, which stand apart, and the turns after them.
fn split<'a>(
    to: &Dialect<'_>,
    messages: &'a [ChatMessage],
) -> Result<(Vec<String>, &'a [ChatMessage]), ApiError> {
    let is_system = |it: &ChatMessage| matches!(&*it.role, "system" | "developer");
    let n = messages.iter().take_while(|it| is_system(it)).count();
    let (system, turns) = messages.split_at(n);
    if let Some(i) = turns.iter().position(is_system) {
        let field = format!("messages[{}].role", n + i);
        return Err(to.lacks("system message within a conversation", &field));
    }
    let system = system.iter().map(|it| text(&it.content));
    Ok((system.filter(|it| !it.is_empty()).collect(), turns))
}

/// Messages there, which take turns: results of tools are the user's.
#[derive(Default)]
struct Conversation {
    messages: Vec<(&'static str, Vec<Value>)>,
    /// Ids that were given to calls that had none and wait for their results, the next first.
    unnamed: std::collections::VecDeque<String>,
    calls: usize,
}

impl Conversation {
    fn of(to: &Dialect<'_>, turns: &[ChatMessage]) -> Result<Vec<Value>, ApiError> {
        let mut conversation = Self::default();
        for (i, turn) in turns.iter().enumerate() {
            match &*turn.role {
                "user" => conversation.say("user", &text(&turn.content)),
                "assistant" => conversation.assistant(to, turn)?,
                "tool" => conversation.result(to, turn, i)?,
                role => return Err(to.lacks(&format!("role `{role}`"), "messages")),
            }
        }
        let messages = conversation.messages.into_iter();
        Ok(messages
            .map(|(role, blocks)| json!({"role": role, "content": blocks}))
            .collect())
    }

    /// Adds a block to the message of this role that is going on, or to a new one.
    fn add(&mut self, role: &'static str, block: Value) {
        match self.messages.last_mut() {
            Some((last, blocks)) if *last == role => blocks.push(block),
            _ => self.messages.push((role, vec![block])),
        }
    }

    /// Empty texts are refused there.
    fn say(&mut self, role: &'static str, text: &str) {
        if !text.is_empty() {
            self.add(role, json!({"type": "text", "text": text}));
        }
    }

    /// What was thought is left out: it is taken back only with the signature that it came with, and jobs have none.
    fn assistant(&mut self, to: &Dialect<'_>, turn: &ChatMessage) -> Result<(), ApiError> {
        self.say("assistant", &text(&turn.content));
        for call in &turn.tool_calls {
            let Some(input) = arguments_object(&call.function.arguments) else {
                return Err(to.lacks("call whose arguments are no JSON object", "messages"));
            };
            let id = match &call.id {
                Some(id) => id.clone(),
                None => {
                    let id = format!("toolu_{}", self.calls);
                    self.unnamed.push_back(id.clone());
                    id
                }
            };
            self.calls += 1;
            let name = &call.function.name;
            self.add(
                "assistant",
                json!({"type": "tool_use", "id": id, "name": name, "input": input}),
            );
        }
        Ok(())
    }

    fn result(&mut self, to: &Dialect<'_>, turn: &ChatMessage, i: usize) -> Result<(), ApiError> {
        let id = turn
            .tool_call_id
            .clone()
            .or_else(|| self.unnamed.pop_front());
        let Some(id) = id else {
            let field = format!("messages[{i}].tool_call_id");
            return Err(to.lacks("results without a call", &field));
        };
        let content = text(&turn.content);
        self.add(
            "user",
            json!({"type": "tool_result", "tool_use_id": id, "content": content}),
        );
        Ok(())
    }
}

/// A tool without parameters takes an object with nothing in it.
fn tool(tool: &Value) -> Value {
    let function = &tool["function"];
    let mut fields = Map::new();
    fields.insert("name".to_owned(), function["name"].clone());
    for name in ["description", "strict"] {
        let value = function.get(name).filter(|it| !it.is_null());
        fields.extend(value.map(|value| (name.to_owned(), value.clone())));
    }
    let schema = function.get("parameters").filter(|it| it.is_object());
    let schema = schema
        .cloned()
        .unwrap_or_else(|| json!({"type": "object", "properties": {}}));
    fields.insert("input_schema".to_owned(), schema);
    fields.into()
}

fn tool_choice(prompt: &ChatPrompt) -> Value {
    let mut choice = match &prompt.tool_choice {
        ToolChoice::Auto => json!({"type": "auto"}),
        // It calls none, so there is nothing to say of several.
        ToolChoice::Never => return json!({"type": "none"}),
        ToolChoice::Required => json!({"type": "any"}),
        ToolChoice::Function(name) => json!({"type": "tool", "name": name}),
    };
    if !prompt.parallel_tool_calls {
        choice["disable_parallel_tool_use"] = true.into();
    }
    choice
}

/// Half of the answer at most is thought. After a tool's result nothing is: the interface demands the thoughts before the
/// call then, with their signature, which a job does not have.
fn thinking(
    to: &Dialect<'_>,
    prompt: &ChatPrompt,
    turns: &[ChatMessage],
    max_tokens: usize,
) -> Result<Option<Value>, ApiError> {
    match prompt.thinking {
        None => Ok(None),
        Some(false) => Ok(Some(json!({"type": "disabled"}))),
        Some(true) if turns.last().is_some_and(|it| it.role == "tool") => Ok(None),
        Some(true) if max_tokens <= THINKING_TOKENS_MIN => {
            let what = format!("thinking in an answer of {THINKING_TOKENS_MIN} tokens or fewer");
            Err(to.lacks(&what, "max_tokens"))
        }
        Some(true) => {
            let budget = (max_tokens / 2).max(THINKING_TOKENS_MIN);
            Ok(Some(json!({"type": "enabled", "budget_tokens": budget})))
        }
    }
}
