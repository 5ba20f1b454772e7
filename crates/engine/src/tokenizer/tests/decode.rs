//! Tokens to text.

use std::sync::Arc;

use super::*;

#[test]
fn streaming_holds_back_half_a_character() {
    let tokenizer = build(&bpe_metadata("gpt-2"));
    let mut detokenizer = tokenizer.detokenizer();
    let mut push = |byte: u8| detokenizer.push(TokenId(u32::from(byte))).to_owned();
    assert_eq!(push(b'a'), "a");
    assert_eq!([0xf0, 0x9f, 0xa6, 0x99].map(&mut push), ["", "", "", "🦙"]);
    // 0xe2 0x82 can only go on with a continuation byte.
    assert_eq!([0xe2, 0x82, b'b'].map(&mut push), ["", "", "\u{fffd}b"]);
    assert_eq!([0xff, 0xc3].map(&mut push), ["\u{fffd}", ""]);
    assert_eq!(detokenizer.finish(), "\u{fffd}");
    assert_eq!(detokenizer.finish(), "");
}

#[test]
fn a_continued_text_keeps_its_space() {
    let tokenizer = Arc::new(build(&spm_metadata()));
    let hi = tokenizer.token_id("▁hi").expect("a token");
    assert_eq!(Detokenizer::new(Arc::clone(&tokenizer)).push(hi), "hi");
    let mut continuing = Detokenizer::continuing(Arc::clone(&tokenizer));
    assert_eq!(
        [
            continuing.push(hi).to_owned(),
            continuing.push(hi).to_owned()
        ],
        [" hi", " hi"]
    );
    // Control tokens are no text, so the text has not begun with one.
    assert_eq!(tokenizer.decode(&[TokenId(1), hi, hi, TokenId(2)]), "hi hi");
}

#[test]
fn chosen_control_tokens_are_text() {
    let tokenizer = build(&spm_metadata());
    let hi = tokenizer.token_id("▁hi").expect("a token");
    let name = tokenizer
        .token_text(TokenId(2))
        .expect("a token")
        .to_owned();
    assert!(tokenizer.is_control(TokenId(2)));
    // Of the chosen ones, those that are text anyway stay as they are.
    let mut showing = tokenizer.detokenizer().showing([TokenId(2), hi]);
    let texts = [TokenId(1), hi, TokenId(2), hi].map(|token| showing.push(token).to_owned());
    assert_eq!(texts, ["", "hi", &name, " hi"]);
}
