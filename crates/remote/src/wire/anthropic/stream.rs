//! Events of a message, as they come: blocks, each with a start, deltas and a stop.

use serde::Deserialize;
use serde_json::{Map, Value};
use troika_job::{Delta, Event, FinishReason, Part};

use crate::wire::calls::Calls;
use crate::wire::{Counts, Fault, Frame, Reader, Refusal};

/// Reads events.
#[derive(Debug)]
pub(in crate::wire) struct Stream {
    /// The job's answer that this is.
    choice: usize,
    calls: Calls,
    counts: Counts,
    finish: Option<FinishReason>,
    over: bool,
}

/// `type` is also the event's name.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Told {
    MessageStart {
        message: Message,
    },
    ContentBlockStart {
        index: usize,
        content_block: Block,
    },
    ContentBlockDelta {
        index: usize,
        delta: Piece,
    },
    MessageDelta {
        delta: Ending,
        usage: Option<Usage>,
    },
    MessageStop,
    Error,
    /// `ping`, `content_block_stop`, and what else is added in time.
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct Message {
    usage: Option<Usage>,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Block {
    Text {
        #[serde(default)]
        text: String,
    },
    Thinking {
        #[serde(default)]
        thinking: String,
    },
    ToolUse {
        id: String,
        name: String,
        #[serde(default)]
        input: Map<String, Value>,
    },
    /// Thoughts that are encrypted, and the service's own tools, which no job asks for.
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Piece {
    TextDelta {
        text: String,
    },
    ThinkingDelta {
        thinking: String,
    },
    InputJsonDelta {
        partial_json: String,
    },
    /// Signatures of thoughts, citations.
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct Ending {
    stop_reason: Option<String>,
    stop_sequence: Option<String>,
}

#[derive(Deserialize)]
struct Usage {
    input_tokens: Option<usize>,
    cache_creation_input_tokens: Option<usize>,
    cache_read_input_tokens: Option<usize>,
    output_tokens: Option<usize>,
    output_tokens_details: Option<Details>,
}

#[derive(Deserialize)]
struct Details {
    thinking_tokens: Option<usize>,
}

impl Stream {
    /// What reads this of the job's answers.
    pub(in crate::wire) fn new(choice: usize) -> Self {
        Self {
            choice,
            calls: Calls::default(),
            counts: Counts::default(),
            finish: None,
            over: false,
        }
    }

    fn say(&self, parts: impl IntoIterator<Item = Part>, said: &mut Vec<Event>) {
        let parts: Vec<_> = parts.into_iter().collect();
        if !parts.is_empty() {
            said.push(Event::Delta(Delta {
                choice: self.choice,
                parts,
                ..Delta::default()
            }));
        }
    }

    fn begin(&mut self, index: usize, block: Block, said: &mut Vec<Event>) -> Result<(), Fault> {
        match block {
            Block::Text { text } => self.say(content(text), said),
            Block::Thinking { thinking } => self.say(reasoning(thinking), said),
            Block::ToolUse { id, name, input } => {
                // Empty, and the pieces follow; who sends it whole sends no pieces.
                let whole = match input.is_empty() {
                    true => String::new(),
                    false => Value::Object(input).to_string(),
                };
                let before = self.calls.add(index, Some(&id), Some(&name), &whole)?;
                self.say(before.into_iter().map(Part::ToolCall), said);
            }
            Block::Other => {}
        }
        Ok(())
    }

    fn end(&mut self, ending: Ending, said: &mut Vec<Event>) -> Result<(), Fault> {
        let Some(reason) = ending.stop_reason else {
            return Ok(());
        };
        let calls = self.calls.finish()?;
        self.say(calls.into_iter().map(Part::ToolCall), said);
        let finish = match (&*reason, ending.stop_sequence) {
            ("refusal", _) => return Err(Fault::Withheld),
            ("max_tokens" | "model_context_window_exceeded", _) => FinishReason::Length,
            ("tool_use", _) => FinishReason::ToolCalls,
            ("stop_sequence", Some(stop)) => FinishReason::StopString(stop),
            _ => FinishReason::EndOfText,
        };
        self.finish = Some(finish.clone());
        said.push(Event::Finished {
            choice: self.choice,
            finish,
        });
        Ok(())
    }
}

impl Reader for Stream {
    fn read(&mut self, frame: &Frame, said: &mut Vec<Event>) -> Result<(), Fault> {
        let garbled = |what: &str| Fault::Garbled(format!("a piece of its answer is {what}"));
        let value: Value = serde_json::from_str(&frame.data).map_err(|_| garbled("no JSON"))?;
        let told: Told =
            serde_json::from_value(value.clone()).map_err(|_| garbled("no event of a message"))?;
        match told {
            Told::MessageStart { message } => {
                if let Some(usage) = message.usage {
                    usage.add_to(&mut self.counts);
                }
            }
            Told::ContentBlockStart {
                index,
                content_block,
            } => {
                self.begin(index, content_block, said)?;
            }
            Told::ContentBlockDelta { index, delta } => match delta {
                Piece::TextDelta { text } => self.say(content(text), said),
                Piece::ThinkingDelta { thinking } => self.say(reasoning(thinking), said),
                Piece::InputJsonDelta { partial_json } => {
                    let before = self.calls.add(index, None, None, &partial_json)?;
                    self.say(before.into_iter().map(Part::ToolCall), said);
                }
                Piece::Other => {}
            },
            Told::MessageDelta { delta, usage } => {
                if let Some(usage) = usage {
                    usage.add_to(&mut self.counts);
                }
                self.end(delta, said)?;
            }
            Told::MessageStop => self.over = true,
            Told::Error => return Err(Fault::Refused(Refusal::of(&value).unwrap_or_default())),
            Told::Other => {}
        }
        Ok(())
    }

    fn counts(&self) -> Counts {
        self.counts
    }

    fn is_complete(&self) -> bool {
        self.finish.is_some()
    }

    fn is_over(&self) -> bool {
        self.over
    }
}

fn content(text: String) -> Option<Part> {
    (!text.is_empty()).then_some(Part::Content(text))
}

fn reasoning(text: String) -> Option<Part> {
    (!text.is_empty()).then_some(Part::Reasoning(text))
}

impl Usage {
    /// Here, unlike with OpenAI, cached tokens are not among the input tokens. The numbers at the end are of the whole, and
    /// may leave out what the beginning said.
    fn add_to(self, counts: &mut Counts) {
        if let Some(input) = self.input_tokens {
            let cached = self.cache_read_input_tokens;
            let written = self.cache_creation_input_tokens.unwrap_or(0);
            // At the end some say 0, for nothing more was read.
            let prompt = input + cached.unwrap_or(0) + written;
            if prompt >= counts.prompt.unwrap_or(0) {
                counts.prompt = Some(prompt);
                counts.cached = cached.or(counts.cached);
            }
        }
        counts.completion = self.output_tokens.or(counts.completion);
        let thinking = self.output_tokens_details.and_then(|it| it.thinking_tokens);
        counts.reasoning = thinking.or(counts.reasoning);
    }
}
