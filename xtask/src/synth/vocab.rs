//! A vocabulary for a model of random weights: a made-up one, or that of another file.

use std::path::Path;

use anyhow::Context as _;
use troika_gguf::{Metadata, ModelFile};

use super::shape::{Arch, Shape};

/// `tokenizer.ggml.token_type` of a piece of text.
const NORMAL: i32 = 1;
/// `tokenizer.ggml.token_type` of a token that stands for no text.
const CONTROL: i32 = 3;
/// `tokenizer.ggml.token_type` of text that is one token wherever it stands.
const USER_DEFINED: i32 = 4;

/// Takes the tokenizer of the model at `path`, and gives the number of its tokens.
pub(crate) fn copy(metadata: &mut Metadata, path: &Path) -> anyhow::Result<usize> {
    let model = ModelFile::open(path)?;
    let tokens = model.metadata().strings("tokenizer.ggml.tokens");
    let n_vocab = tokens
        .with_context(|| format!("{} has no vocabulary", path.display()))?
        .len();
    for (key, value) in model.metadata().iter() {
        if key.starts_with("tokenizer.") {
            metadata.insert(key, value.clone());
        }
    }
    Ok(n_vocab)
}

/// Makes up a byte-level BPE of the shape's size.
///
/// Any text can be encoded: the 256 bytes come first. Then come pairs of letters with the merges that make them, so
/// that encoding has something to do; tokens that no merge reaches, which give a model something to say; and the
/// special tokens, at the ids where the family has them.
pub(crate) fn make_up(metadata: &mut Metadata, shape: &Shape) {
    let (pre, n_special, special_names, bos, eos): (_, _, &[&str], _, _) = match shape.arch {
        Arch::Llama => ("llama-bpe", 256, &LLAMA_SPECIAL, 0, 9),
        // A model that chats is not to say reserved tokens all the time, so it has none.
        Arch::Qwen2 | Arch::Qwen3 | Arch::Qwen3Moe if shape.chat => {
            ("qwen2", QWEN_SPECIAL.len(), &QWEN_SPECIAL, 0, 2)
        }
        Arch::Qwen2 | Arch::Qwen3 | Arch::Qwen3Moe => ("qwen2", 293, &QWEN_SPECIAL, 0, 2),
    };
    let first_special = shape.n_vocab - n_special;

    let mut tokens: Vec<String> = (0..=u8::MAX).map(|b| byte_char(b).to_string()).collect();
    let mut merges = Vec::new();
    let space = byte_char(b' ');
    for first in std::iter::once(space).chain('a'..='z') {
        for second in 'a'..='z' {
            merges.push(format!("{first} {second}"));
            tokens.push(format!("{first}{second}"));
        }
    }
    assert!(tokens.len() <= first_special, "no room for special tokens");
    tokens.extend((tokens.len()..first_special).map(|id| format!("{space}w{id}")));
    tokens.extend((0..n_special).map(|i| match special_names.get(i) {
        Some(&name) => name.to_owned(),
        None => format!("<|reserved_special_token_{i}|>"),
    }));
    let kind = |(id, token): (usize, &String)| match id < first_special {
        true => NORMAL,
        false if token.starts_with("<|") => CONTROL,
        false => USER_DEFINED,
    };
    let types: Vec<i32> = tokens.iter().enumerate().map(kind).collect();

    metadata.insert("tokenizer.ggml.model", "gpt2");
    metadata.insert("tokenizer.ggml.pre", pre);
    metadata.insert("tokenizer.ggml.tokens", tokens);
    metadata.insert("tokenizer.ggml.token_type", types);
    metadata.insert("tokenizer.ggml.merges", merges);
    metadata.insert("tokenizer.ggml.bos_token_id", (first_special + bos) as u32);
    metadata.insert("tokenizer.ggml.eos_token_id", (first_special + eos) as u32);
    metadata.insert("tokenizer.ggml.add_bos_token", shape.arch == Arch::Llama);
    if shape.chat {
        metadata.insert("tokenizer.chat_template", include_str!("chat.jinja"));
    }
}

/// The first special tokens of Llama 3, by their distance from the first.
const LLAMA_SPECIAL: [&str; 10] = [
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|reserved_special_token_0|>",
    "<|reserved_special_token_1|>",
    "<|finetune_right_pad_id|>",
    "<|reserved_special_token_2|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eom_id|>",
    "<|eot_id|>",
];

/// The first special tokens of Qwen 2 and 3, by their distance from the first.
const QWEN_SPECIAL: [&str; 26] = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<tool_call>",
    "</tool_call>",
    "<|fim_prefix|>",
    "<|fim_middle|>",
    "<|fim_suffix|>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
    "<tool_response>",
    "</tool_response>",
    "<think>",
    "</think>",
];

/// The printable character that byte-level BPE writes for a byte: itself where it is printable Latin-1, else the next
/// free one from U+0100.
fn byte_char(byte: u8) -> char {
    let printable = |b: u8| matches!(b, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    if printable(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|&b| !printable(b)).count();
    char::from_u32(0x100 + before as u32).expect("below the surrogates")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::shape::SHAPES;
    use super::*;

    #[test]
    fn bytes_are_written_as_gpt_2_does() {
        assert_eq!(byte_char(b' '), 'Ġ');
        assert_eq!(byte_char(b'\n'), 'Ċ');
        assert_eq!(byte_char(b'a'), 'a');
        assert_eq!(byte_char(0xad), 'Ń');
        let all: BTreeSet<char> = (0..=u8::MAX).map(byte_char).collect();
        assert_eq!(all.len(), 256);
    }

    #[test]
    fn tokens_are_distinct_and_as_many_as_the_shape_says() {
        for shape in SHAPES {
            let mut metadata = Metadata::default();
            make_up(&mut metadata, shape);
            let tokens = metadata.strings("tokenizer.ggml.tokens").expect("just set");
            let distinct: BTreeSet<&String> = tokens.iter().collect();
            assert_eq!(
                (tokens.len(), distinct.len()),
                (shape.n_vocab, shape.n_vocab),
                "{}",
                shape.name
            );
            let eos = metadata
                .u32("tokenizer.ggml.eos_token_id")
                .expect("just set");
            let eos = tokens[eos as usize].as_str();
            assert!(["<|eot_id|>", "<|im_end|>"].contains(&eos), "{eos}");
        }
    }

    #[test]
    fn a_shape_that_chats_has_a_template_and_its_words() {
        let shape = Shape::named("tiny-chat").expect("a known shape");
        let mut metadata = Metadata::default();
        make_up(&mut metadata, &shape);
        let template = metadata.str("tokenizer.chat_template").expect("it chats");
        let tokens = metadata.strings("tokenizer.ggml.tokens").expect("just set");
        for word in [
            "<|im_start|>",
            "<|im_end|>",
            "<tool_call>",
            "</tool_call>",
            "<think>",
        ] {
            assert!(template.contains(word), "{word} is not in the template");
            assert!(
                tokens.iter().any(|token| token == word),
                "{word} is no token"
            );
        }
    }
}
