//! Which family's format a template shows: its marks of thoughts and calls.
//!
//! The tables of all formats are here. What stands between the marks is read in `scan` and `call`, and written in
//! `grammar`.

/// A way of writing calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    /// The template knows no tools.
    None,
    /// `<tool_call>{"name": .., "arguments": ..}</tool_call>`: Hermes, Qwen, Granite 4.
    Hermes,
    /// `<tool_call><function=name><parameter=key>value</parameter></function></tool_call>`: Qwen3-Coder.
    Functions,
    /// `<tool_call>name<arg_key>key</arg_key><arg_value>value</arg_value></tool_call>`: GLM.
    Pairs,
    /// `[TOOL_CALLS][{"name": .., "arguments": ..}]`, or if `named` `[TOOL_CALLS]name[ARGS]{..}`: Mistral.
    Mistral { named: bool },
    /// `<|tool_call|>[{"name": .., "arguments": ..}]`: Granite 3, Phi 4.
    List,
    /// `<｜tool▁call▁begin｜>name<｜tool▁sep｜>{..}<｜tool▁call▁end｜>`; if `fenced`, the arguments stand in a block of code:
    /// DeepSeek.
    DeepSeek { fenced: bool },
    /// `<|tool_call_begin|>functions.name:0<|tool_call_argument_begin|>{..}<|tool_call_end|>`: Kimi.
    Sections,
    /// `<|START_ACTION|>[{"tool_name": .., "parameters": ..}]<|END_ACTION|>`: Command R7B and A.
    Action,
    /// The same behind the word `Action:`, in a block of code: Command R.
    ActionWord,
    /// `<|tool_call>call:name{key:value}<tool_call|>`, with marks for quotes: Gemma 4.
    Gemma,
    /// The same with other marks: FunctionGemma.
    FunctionGemma,
    /// `{"name": .., "parameters": ..}` and nothing else: Llama 3.
    Llama,
    /// `{"name": .., "arguments": ..}` and nothing else: templates that show tools in a way of their own.
    Bare,
    /// Channels, among them one for thought: gpt-oss.
    Harmony,
}

/// What stands between the marks of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// JSON of a call or an array of calls, or functions and parameters, or keys and values.
    Tagged,
    /// JSON of a call or an array of calls; or a name and then JSON of the arguments.
    Json,
    /// JSON of a call with no mark ahead. Only what begins an answer counts.
    Bare,
    /// A call's name is within its opening mark.
    Function,
    /// `call:name{key:value}` with this mark for quotes.
    Quoted(&'static str),
}

/// The marks of a call.
#[derive(Clone, Copy, Debug)]
pub(super) struct CallForm {
    /// Empty for [`Body::Bare`].
    pub(super) open: &'static str,
    pub(super) body: Body,
    /// Empty if there is none. An answer may go without it.
    pub(super) close: &'static str,
}

/// The marks of a thought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Thinking {
    pub(super) open: &'static str,
    pub(super) close: &'static str,
}

/// All marks of a format.
#[derive(Debug)]
pub(super) struct Forms {
    pub(super) family: Family,
    pub(super) thinking: Option<Thinking>,
    pub(super) calls: Vec<CallForm>,
    /// Marks around content or calls that say nothing more.
    pub(super) dropped: Vec<&'static str>,
    /// Of these, the ones that count only where there are tools.
    pub(super) dropped_with_tools: &'static [&'static str],
    /// Every mark, for the one who makes text of tokens.
    pub(super) markers: Vec<&'static str>,
}

/// The first that a template shows counts.
const THINKING: [Thinking; 6] = [
    thinking("<|START_THINKING|>", "<|END_THINKING|>"),
    thinking("<|channel>thought", "<channel|>"),
    thinking("[THINK]", "[/THINK]"),
    thinking("<seed:think>", "</seed:think>"),
    thinking("<think>", "</think>"),
    thinking("<|inner_prefix|>", "<|inner_suffix|>"),
];

/// Marks that a template puts around an answer's content.
const AROUND_CONTENT: [&str; 4] = [
    "<|START_RESPONSE|>",
    "<|END_RESPONSE|>",
    "<response>",
    "</response>",
];

const HARMONY_MARKERS: [&str; 7] = [
    "<|start|>",
    "<|channel|>",
    "<|constrain|>",
    "<|message|>",
    "<|end|>",
    "<|call|>",
    "<|return|>",
];

const DEEPSEEK_CALL: CallForm = form("<｜tool▁call▁begin｜>", Body::Json, "<｜tool▁call▁end｜>");
const SECTION_CALL: CallForm = form("<|tool_call_begin|>", Body::Json, "<|tool_call_end|>");
const GEMMA_CALL: CallForm = form("<|tool_call>", Body::Quoted("<|\"|>"), "<tool_call|>");
const FUNCTION_GEMMA_CALL: CallForm = form(
    "<start_function_call>",
    Body::Quoted("<escape>"),
    "<end_function_call>",
);
const ACTION_CALL: CallForm = form("<|START_ACTION|>", Body::Json, "<|END_ACTION|>");
const TAGGED_CALL: CallForm = form("<tool_call>", Body::Tagged, "</tool_call>");
const FUNCTION_CALL: CallForm = form("<function=", Body::Function, "</tool_call>");
const PYTHON_TAG: CallForm = form("<|python_tag|>", Body::Json, "");
const BARE_CALL: CallForm = form("", Body::Bare, "");

/// Marks between a call's name and its arguments.
pub(super) const SEPARATORS: [&str; 4] = [
    "[CALL_ID]",
    "[ARGS]",
    "<｜tool▁sep｜>",
    "<|tool_call_argument_begin|>",
];

const fn thinking(open: &'static str, close: &'static str) -> Thinking {
    Thinking { open, close }
}

const fn form(open: &'static str, body: Body, close: &'static str) -> CallForm {
    CallForm { open, body, close }
}

impl Forms {
    pub(super) fn of(source: &str) -> Self {
        let family = Family::of(source);
        let shows = |mark: &&&'static str| source.contains(**mark);
        let calls = family.calls(source);
        let thinking = THINKING
            .into_iter()
            .find(|marks| source.contains(marks.open) || source.contains(marks.close));
        let dropped: Vec<_> = AROUND_CONTENT.iter().filter(shows).copied().collect();
        let dropped_with_tools = family.around_calls();
        let mut markers: Vec<&'static str> = Vec::new();
        markers.extend(thinking.iter().flat_map(|marks| [marks.open, marks.close]));
        markers.extend(calls.iter().flat_map(|form| [form.open, form.close]));
        markers.extend(calls.iter().filter_map(|form| match form.body {
            Body::Quoted(quote) => Some(quote),
            _ => None,
        }));
        markers.extend(dropped.iter().chain(dropped_with_tools));
        markers.extend(SEPARATORS.iter().filter(shows));
        if family == Family::Harmony {
            markers.extend(HARMONY_MARKERS);
        }
        // The mark of this thought is a token and a word behind it.
        if markers.contains(&"<|channel>thought") {
            markers.push("<|channel>");
        }
        // Others are words or parts of marks, and never tokens.
        markers.retain(|marker| marker.ends_with(['>', ']']));
        markers.sort_unstable();
        markers.dedup();
        Self {
            family,
            thinking,
            calls,
            dropped,
            dropped_with_tools,
            markers,
        }
    }
}

impl Family {
    fn of(source: &str) -> Self {
        let has = |mark: &str| source.contains(mark);
        if has("<|channel|>") && has("<|message|>") {
            Self::Harmony
        } else if has(DEEPSEEK_CALL.open) || has("<｜tool▁calls▁begin｜>") {
            Self::DeepSeek {
                fenced: has("```json"),
            }
        } else if has(SECTION_CALL.open) {
            Self::Sections
        } else if has("[TOOL_CALLS]") {
            Self::Mistral {
                named: has("[ARGS]"),
            }
        } else if has(GEMMA_CALL.open) {
            Self::Gemma
        } else if has(FUNCTION_GEMMA_CALL.open) {
            Self::FunctionGemma
        } else if has(ACTION_CALL.open) {
            Self::Action
        } else if has("<function=") {
            Self::Functions
        } else if has(TAGGED_CALL.open) {
            if has("<arg_key>") {
                Self::Pairs
            } else {
                Self::Hermes
            }
        } else if has("<|tool_call|>") {
            Self::List
        } else if !reads_tools(source) {
            Self::None
        } else if has("<|start_header_id|>") || has(PYTHON_TAG.open) {
            Self::Llama
        } else if has("Action:") && has("tool_name") {
            Self::ActionWord
        } else {
            Self::Bare
        }
    }

    fn calls(self, source: &str) -> Vec<CallForm> {
        match self {
            Self::None | Self::Harmony => vec![],
            Self::Hermes | Self::Pairs => vec![TAGGED_CALL],
            // Answers leave out the outer mark now and then.
            Self::Functions => vec![TAGGED_CALL, FUNCTION_CALL],
            Self::Mistral { .. } => vec![form("[TOOL_CALLS]", Body::Json, "")],
            Self::List => {
                let close = if source.contains("<|/tool_call|>") {
                    "<|/tool_call|>"
                } else {
                    ""
                };
                vec![form("<|tool_call|>", Body::Json, close), TAGGED_CALL]
            }
            Self::DeepSeek { .. } => vec![DEEPSEEK_CALL],
            Self::Sections => vec![SECTION_CALL],
            Self::Action => vec![ACTION_CALL],
            Self::ActionWord => vec![form("Action:", Body::Json, "")],
            Self::Gemma => vec![GEMMA_CALL],
            Self::FunctionGemma => vec![FUNCTION_GEMMA_CALL],
            Self::Llama => vec![PYTHON_TAG, FUNCTION_CALL, BARE_CALL],
            Self::Bare => vec![TAGGED_CALL, BARE_CALL],
        }
    }

    fn around_calls(self) -> &'static [&'static str] {
        match self {
            Self::DeepSeek { .. } => &["<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"],
            Self::Sections => &["<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"],
            _ => &[],
        }
    }

    pub(super) fn ends(self) -> &'static [&'static str] {
        match self {
            Self::Harmony => &["<|call|>", "<|return|>"],
            Self::Llama => &["<|eot_id|>", "<|eom_id|>"],
            Self::Gemma => &["<turn|>", "<|tool_response>"],
            Self::FunctionGemma => &["<end_of_turn>", "<start_function_response>"],
            Self::Action | Self::ActionWord => &["<|END_OF_TURN_TOKEN|>"],
            _ => &[],
        }
    }
}

/// Whether the template's code, apart from its texts, names a variable for tools.
fn reads_tools(source: &str) -> bool {
    let mut rest = source;
    while let Some(open) = rest.find("{%").into_iter().chain(rest.find("{{")).min() {
        rest = &rest[open + 2..];
        let close = rest.find("%}").into_iter().chain(rest.find("}}")).min();
        let code = &rest[..close.unwrap_or(rest.len())];
        let mut outside = code.split(['"', '\'']).step_by(2);
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        if outside.any(|code| {
            let mut words = code.split(|c| !is_word(c));
            words.any(|word| matches!(word, "tools" | "tool_calls" | "custom_tools" | "xml_tools"))
        }) {
            return true;
        }
        rest = &rest[code.len()..];
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_mark_begins_another() {
        let sources = [
            "<tool_call><function=</think><response>",
            "[TOOL_CALLS][ARGS][THINK]",
            "<|tool_call>call:<|channel>thought",
            "<｜tool▁call▁begin｜><｜tool▁calls▁begin｜><think>",
            "<|tool_call_begin|>",
            "<|START_ACTION|><|START_THINKING|><|START_RESPONSE|>",
            "{% if tools %}<|python_tag|>",
        ];
        for source in sources {
            let forms = Forms::of(source);
            let calls = forms.calls.iter().map(|form| form.open);
            let marks: Vec<_> = calls
                .chain(forms.thinking.map(|marks| marks.open))
                .chain(forms.dropped.iter().copied())
                .chain(forms.dropped_with_tools.iter().copied())
                .filter(|mark| !mark.is_empty())
                .collect();
            for (index, one) in marks.iter().enumerate() {
                for (other_index, other) in marks.iter().enumerate() {
                    assert!(
                        index == other_index || !other.starts_with(one),
                        "{one} begins {other} in {source}"
                    );
                }
            }
        }
    }

    #[test]
    fn only_code_reads_tools() {
        assert!(reads_tools("{% for tool in tools %}"));
        assert!(reads_tools("x{{ 'a' }}{{- tools|tojson }}"));
        assert!(!reads_tools(
            "{{ 'You have no tools' }} tools {% if toolset %}"
        ));
        assert!(!reads_tools("{{ 'never closed"));
    }
}
