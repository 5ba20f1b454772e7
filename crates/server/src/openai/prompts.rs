//! Texts and token lists, one or many: what completions go on with, and what is embedded.

use std::fmt;

use serde::de::value::SeqAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};

use crate::ApiError;
use crate::fields::{Integer, TextOr};
use crate::job::Prompt;

/// Prompts in one request at most, as at OpenAI.
const PROMPTS_MAX: usize = 2048;

/// A text, a list of texts, a list of tokens, or a list of lists of tokens.
pub(super) type WirePrompts = TextOr<List>;

/// A list, which may be one prompt or many.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum List {
    Tokens(Vec<u32>),
    Prompts(Vec<Prompt>),
}

/// An element of a list.
enum Item {
    Token(u32),
    Prompt(Prompt),
}

/// A token's number.
struct Token(u32);

impl<'de> Deserialize<'de> for List {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = List;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of texts, of tokens or of lists of tokens")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<List, A::Error> {
                let (mut tokens, mut prompts) = (Vec::new(), Vec::new());
                while let Some(item) = items.next_element()? {
                    match item {
                        Item::Token(token) if prompts.is_empty() => tokens.push(token),
                        Item::Prompt(prompt) if tokens.is_empty() => prompts.push(prompt),
                        _ => return Err(A::Error::custom("tokens stand among other elements")),
                    }
                    if prompts.len() > PROMPTS_MAX {
                        let message = format_args!("the list has more than {PROMPTS_MAX} elements");
                        return Err(A::Error::custom(message));
                    }
                }
                Ok(match tokens.is_empty() {
                    true => List::Prompts(prompts),
                    false => List::Tokens(tokens),
                })
            }
        }

        deserializer.deserialize_seq(Reader)
    }
}

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Item;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, a token or a list of tokens")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Item, E> {
                Ok(Item::Prompt(Prompt::Text(text.to_owned())))
            }

            fn visit_u64<E: Error>(self, token: u64) -> Result<Item, E> {
                self.visit_f64(token as f64)
            }

            fn visit_i64<E: Error>(self, token: i64) -> Result<Item, E> {
                self.visit_f64(token as f64)
            }

            fn visit_f64<E: Error>(self, token: f64) -> Result<Item, E> {
                whole(token).map(Item::Token)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, tokens: A) -> Result<Item, A::Error> {
                let tokens = Vec::<Token>::deserialize(SeqAccessDeserializer::new(tokens))?;
                let tokens = tokens.into_iter().map(|Token(token)| token).collect();
                Ok(Item::Prompt(Prompt::Tokens(tokens)))
            }
        }

        deserializer.deserialize_any(Reader)
    }
}

impl<'de> Deserialize<'de> for Token {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Integer(token) = Integer::deserialize(deserializer)?;
        whole(token as f64).map(Self)
    }
}

/// The number of a token. Every `u32` is an `f64`, and what the other numbers round to is no `u32` either.
fn whole<E: Error>(token: f64) -> Result<u32, E> {
    let whole = token as u32;
    match f64::from(whole) == token {
        true => Ok(whole),
        false => Err(E::custom(format_args!(
            "{token} is not the number of a token"
        ))),
    }
}

/// The prompts. Lists of tokens have tokens; texts may be empty.
///
/// # Errors
/// If there are none.
pub(super) fn prompts(name: &str, wire: WirePrompts) -> Result<Vec<Prompt>, ApiError> {
    let prompts = match wire {
        TextOr::Text(text) => vec![Prompt::Text(text)],
        TextOr::Other(List::Tokens(tokens)) => vec![Prompt::Tokens(tokens)],
        TextOr::Other(List::Prompts(prompts)) => prompts,
    };
    if prompts.is_empty() {
        return Err(ApiError::invalid(format!("{name} is an empty list")).at(name));
    }
    let is_empty = |prompt: &Prompt| matches!(prompt, Prompt::Tokens(tokens) if tokens.is_empty());
    match prompts.iter().position(is_empty) {
        None => Ok(prompts),
        Some(i) => {
            let place = format!("{name}[{i}]");
            Err(ApiError::invalid(format!("{place} has no tokens")).at(place))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Vec<Prompt>, ApiError> {
        #[derive(serde::Deserialize)]
        struct Body {
            input: WirePrompts,
        }
        let body = format!(r#"{{"input": {json}}}"#);
        let body: Body = crate::wire::parse(&body.into())?;
        prompts("input", body.input)
    }

    #[test]
    fn all_kinds_of_input() {
        let text = |text: &str| Prompt::Text(text.to_owned());
        for (json, want) in [
            (r#""a""#, vec![text("a")]),
            (r#"["a", ""]"#, vec![text("a"), text("")]),
            (
                "[1, 2.0, 4294967295, 4]",
                vec![Prompt::Tokens(vec![1, 2, u32::MAX, 4])],
            ),
            (
                "[[1], [2, 3]]",
                vec![Prompt::Tokens(vec![1]), Prompt::Tokens(vec![2, 3])],
            ),
            (r#"["a", [1]]"#, vec![text("a"), Prompt::Tokens(vec![1])]),
        ] {
            assert_eq!(read(json), Ok(want), "{json}");
        }
    }

    #[test]
    fn wrong_input_is_named() {
        let many = serde_json::to_string(&vec!["a"; 2049]).unwrap();
        for (json, place) in [
            ("[]", "input"),
            ("{}", "input"),
            ("5", "input"),
            ("[1, [2]]", "input"),
            (r#"[1, "a"]"#, "input"),
            (r#"["a", 1]"#, "input"),
            (&many, "input"),
            ("[[1], []]", "input[1]"),
            ("[-1]", "input[0]"),
            ("[0, 4294967296]", "input[1]"),
            ("[1.5]", "input[0]"),
            ("[18446744073709551615]", "input[0]"),
            ("[true]", "input[0]"),
            ("[[1, -1]]", "input[0][1]"),
            ("[[[1]]]", "input[0][0]"),
        ] {
            let error = read(json).unwrap_err();
            assert_eq!(error.param.as_deref(), Some(place), "{json}: {error}");
        }
    }
}
