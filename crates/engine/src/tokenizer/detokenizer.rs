//! Tokens back to text, as they come.

use std::ops::Deref;
use std::sync::Arc;

use troika_base::TokenId;

use super::Tokenizer;

/// Turns tokens into text one by one and never hands out half a character.
///
/// What the pushes and [`finish`](Self::finish) give, put together, is what [`Tokenizer::decode`] gives. `T` is
/// whatever leads to the tokenizer: `&Tokenizer`, or an `Arc` of it where the state outlives a borrow.
#[derive(Clone, Debug)]
pub struct Detokenizer<T> {
    tokenizer: T,
    /// Bytes that may yet become a character.
    pending: Vec<u8>,
    text: String,
    /// Whether the next text is the first one, and loses the space that encoding put before it.
    at_start: bool,
    /// Control tokens that are text here.
    shown: Arc<[TokenId]>,
}

impl<T: Deref<Target = Tokenizer>> Detokenizer<T> {
    /// For tokens from the beginning of a text.
    pub fn new(tokenizer: T) -> Self {
        let at_start = tokenizer.prefixes_space();
        Self {
            tokenizer,
            pending: Vec::new(),
            text: String::new(),
            at_start,
            shown: Arc::default(),
        }
    }

    /// For tokens that go on with a text, such as an answer that completes a prompt: a leading space is kept.
    pub fn continuing(tokenizer: T) -> Self {
        Self {
            at_start: false,
            ..Self::new(tokenizer)
        }
    }

    /// Makes text of these control tokens, by their names: whoever takes an answer apart must see its marks.
    pub fn showing(self, tokens: impl Into<Arc<[TokenId]>>) -> Self {
        Self {
            shown: tokens.into(),
            ..self
        }
    }

    /// The text that is complete with this token; often empty while a character spans tokens.
    ///
    /// Bytes that cannot become a character any more are U+FFFD. Ids outside the vocabulary are no text, nor are control
    /// tokens but for those that are [shown](Self::showing).
    pub fn push(&mut self, token: TokenId) -> &str {
        self.text.clear();
        if self.shown.contains(&token) && self.tokenizer.is_control(token) {
            let name = self.tokenizer.token_text(token).unwrap_or_default();
            self.pending.extend(name.as_bytes());
        } else {
            self.tokenizer.token_bytes(token, &mut self.pending);
        }
        if self.at_start && !self.pending.is_empty() {
            self.at_start = false;
            if self.pending[0] == b' ' {
                self.pending.remove(0);
            }
        }
        let complete = take_complete(&self.pending, &mut self.text);
        self.pending.drain(..complete);
        &self.text
    }

    /// What is left when no more tokens come: U+FFFD if the text broke off within a character.
    pub fn finish(&mut self) -> &str {
        self.text.clear();
        if !self.pending.is_empty() {
            self.pending.clear();
            self.text.push(char::REPLACEMENT_CHARACTER);
        }
        &self.text
    }
}

/// Appends the characters that are certain and says how many bytes they took. What is left is the beginning of one.
fn take_complete(bytes: &[u8], text: &mut String) -> usize {
    let mut chunks = bytes.utf8_chunks().peekable();
    let mut taken = 0;
    while let Some(chunk) = chunks.next() {
        text.push_str(chunk.valid());
        taken += chunk.valid().len();
        let invalid = chunk.invalid();
        let unfinished = chunks.peek().is_none()
            && std::str::from_utf8(invalid).is_err_and(|error| error.error_len().is_none());
        if unfinished {
            break;
        }
        if !invalid.is_empty() {
            text.push(char::REPLACEMENT_CHARACTER);
            taken += invalid.len();
        }
    }
    taken
}
