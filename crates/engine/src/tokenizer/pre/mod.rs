//! Pre-tokenizers: how a byte-pair tokenizer cuts text into words before it merges within them.
//!
//! `tokenizer.ggml.pre` names one. Each is a short list of [`Step`]s; each step cuts further what the steps before it
//! left. To add one, add a line to [`ALL`] (and a [`Step`] if the pattern is new); docs/formats/tokenizers.md says how
//! to check it.

mod class;
mod step;

pub(super) use class::punctuation_or_ascii_symbol;
use step::Step;

/// The rules under one name of `tokenizer.ggml.pre`.
pub(super) struct PreTokenizer {
    /// All names that mean these rules, with spaces between them.
    names: &'static str,
    steps: &'static [Step],
    /// Which words become one token without merging when the vocabulary has them whole.
    pub(super) whole_words: WholeWords,
    /// What the vocabulary's tokens are spelt in.
    pub(super) alphabet: Alphabet,
    /// Whether a text starts with the beginning-of-sequence token when the file does not say.
    pub(super) add_bos: bool,
}

/// Which words skip merging.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum WholeWords {
    None,
    /// Words of line feeds only.
    LineFeeds,
    All,
}

/// What tokens are spelt in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Alphabet {
    /// A printable character per byte, as GPT-2 has it.
    Bytes,
    /// The text itself with U+2581 for spaces; characters without a token are spelt in `<0xNN>` tokens.
    Text,
}

const PLAIN: PreTokenizer = PreTokenizer {
    names: "",
    steps: &[],
    whole_words: WholeWords::None,
    alphabet: Alphabet::Bytes,
    add_bos: false,
};

/// Every pre-tokenizer that is built in.
static ALL: &[PreTokenizer] = &[
    PreTokenizer {
        names: "llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2",
        steps: &[LLAMA3],
        whole_words: WholeWords::All,
        add_bos: true,
        ..PLAIN
    },
    PreTokenizer {
        names: "smaug-bpe dbrx glm4 chatglm-bpe",
        steps: &[LLAMA3],
        ..PLAIN
    },
    PreTokenizer {
        names: "qwen2 deepseek-r1-qwen stablelm2 hunyuan megrez solar-open grok-2 kormo",
        steps: &[QWEN2],
        ..PLAIN
    },
    PreTokenizer {
        names: "qwen35",
        steps: &[QWEN35],
        ..PLAIN
    },
    PreTokenizer {
        names: "gpt-2 phi-2 mpt olmo jais gigachat trillion granite-docling exaone4 a.x-4.0 mellum",
        steps: &[Step::Gpt2],
        ..PLAIN
    },
    PreTokenizer {
        names: "starcoder refact smollm command-r codeshell exaone minerva-7b mellum2",
        steps: &[Step::One(class::number), Step::Gpt2],
        ..PLAIN
    },
    PreTokenizer {
        names: "falcon",
        steps: &[
            Step::Run(class::punctuation_or_ascii_symbol),
            Step::Gpt2,
            Step::Run(class::number),
            Step::Triple(class::ascii_digit),
        ],
        ..PLAIN
    },
    PreTokenizer {
        names: "deepseek-coder",
        steps: &[
            Step::One(class::line_end),
            Step::SpaceRun(class::letter),
            Step::SpaceRun(class::punctuation),
            Step::Run(class::deepseek_cjk),
            Step::One(class::number),
        ],
        ..PLAIN
    },
    PreTokenizer {
        names: "deepseek-llm",
        steps: &[
            Step::One(class::line_end),
            Step::SpaceRun(class::deepseek_llm_letter),
            Step::SpaceRun(class::deepseek_llm_punctuation),
            Step::TrailingSpace,
            Step::Run(class::deepseek_cjk),
            Step::One(class::number),
        ],
        ..PLAIN
    },
    PreTokenizer {
        names: "gpt-4o llama4 kanana2",
        steps: &[GPT4O],
        ..PLAIN
    },
    PreTokenizer {
        names: "tekken",
        steps: &[TEKKEN],
        whole_words: WholeWords::All,
        add_bos: true,
        ..PLAIN
    },
    PreTokenizer {
        names: "gemma4",
        steps: &[Step::Run(class::line_feed)],
        whole_words: WholeWords::LineFeeds,
        alphabet: Alphabet::Text,
        add_bos: true,
    },
];

const LLAMA3: Step = Step::Llama3 {
    digits: 3,
    marks: false,
};
const QWEN2: Step = Step::Llama3 {
    digits: 1,
    marks: false,
};
const QWEN35: Step = Step::Llama3 {
    digits: 1,
    marks: true,
};
const GPT4O: Step = Step::Gpt4o {
    digits: 3,
    contractions: true,
};
const TEKKEN: Step = Step::Gpt4o {
    digits: 1,
    contractions: false,
};

impl PreTokenizer {
    /// The rules with this name.
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        ALL.iter()
            .find(|pre| pre.names().any(|known| known == name))
    }

    /// All names, for error messages.
    pub(super) fn known() -> String {
        let names: Vec<&str> = ALL.iter().flat_map(Self::names).collect();
        names.join(", ")
    }

    fn names(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.names.split(' ')
    }

    /// Cuts a text into words, in order; they are never empty, and together they are the text.
    pub(super) fn split<'t>(&self, text: &'t str, each: &mut impl FnMut(&'t str)) {
        split(self.steps, text, each);
    }
}

/// The recursion is as deep as there are steps.
fn split<'t>(steps: &[Step], text: &'t str, each: &mut impl FnMut(&'t str)) {
    if text.is_empty() {
        return;
    }
    let Some((step, rest)) = steps.split_first() else {
        return each(text);
    };
    let mut at = 0;
    while let Some(found) = step.find(text, at) {
        split(rest, &text[at..found.start], each);
        split(rest, &text[found.clone()], each);
        at = found.end;
    }
    split(rest, &text[at..], each);
}

#[cfg(test)]
mod tests;
