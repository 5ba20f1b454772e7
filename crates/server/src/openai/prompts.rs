//! Texts and token lists, one or many: what completions go on with, and what is embedded.

use std::fmt;

use serde::de::value::SeqAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};

use super::fields::{Integer, TextOr};
use crate::ApiError;
use crate::job::Prompt;

/// A text, a list of texts, a list of tokens, or a list of lists of tokens.
pub(super) type WirePrompts = TextOr<Vec<Item>>;

/// An element of the list.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Item {
    Text(String),
    Token(u32),
    Tokens(Vec<u32>),
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
                Ok(Item::Text(text.to_owned()))
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
                let tokens = Vec::<Integer>::deserialize(SeqAccessDeserializer::new(tokens))?;
                let tokens = tokens.into_iter().map(|Integer(token)| whole(token as f64));
                tokens.collect::<Result<_, _>>().map(Item::Tokens)
            }
        }

        deserializer.deserialize_any(Reader)
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

/// The prompts, at most `max`. Lists of tokens have tokens; texts may be empty.
///
/// # Errors
/// If there are none, too many, or of several kinds.
pub(super) fn prompts(name: &str, wire: WirePrompts, max: usize) -> Result<Vec<Prompt>, ApiError> {
    let items = match wire {
        TextOr::Text(text) => return Ok(vec![Prompt::Text(text)]),
        TextOr::Other(items) => items,
    };
    if items.is_empty() {
        return Err(ApiError::invalid(format!("{name} is an empty list")).at(name));
    }
    if matches!(items[0], Item::Token(_)) {
        return one_list(name, items).map(|tokens| vec![Prompt::Tokens(tokens)]);
    }
    if items.len() > max {
        let message = format!("{name} has {} elements; at most {max}", items.len());
        return Err(ApiError::invalid(message).at(name));
    }
    let prompt = |(i, item)| match item {
        Item::Text(text) => Ok(Prompt::Text(text)),
        Item::Tokens(tokens) if !tokens.is_empty() => Ok(Prompt::Tokens(tokens)),
        Item::Tokens(_) => {
            let place = format!("{name}[{i}]");
            Err(ApiError::invalid(format!("{place} has no tokens")).at(place))
        }
        Item::Token(_) => Err(mixed(name, i)),
    };
    items.into_iter().enumerate().map(prompt).collect()
}

fn one_list(name: &str, items: Vec<Item>) -> Result<Vec<u32>, ApiError> {
    let token = |(i, item)| match item {
        Item::Token(token) => Ok(token),
        Item::Text(_) | Item::Tokens(_) => Err(mixed(name, i)),
    };
    items.into_iter().enumerate().map(token).collect()
}

fn mixed(name: &str, i: usize) -> ApiError {
    let place = format!("{name}[{i}]");
    let message = format!(
        "{place} is of another kind than {name}[0]; give texts, or tokens, or lists of tokens"
    );
    ApiError::invalid(message).at(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Vec<Prompt>, String> {
        let wire: WirePrompts = serde_json::from_str(json).map_err(|error| error.to_string())?;
        prompts("input", wire, 3).map_err(|error| error.param.unwrap())
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
        for (json, place) in [
            ("[]", "input"),
            ("[1, [2]]", "input[1]"),
            (r#"[1, "a"]"#, "input[1]"),
            (r#"["a", 1]"#, "input[1]"),
            ("[[1], []]", "input[1]"),
            (r#"["a", "b", "c", "d"]"#, "input"),
        ] {
            assert_eq!(read(json), Err(place.to_owned()), "{json}");
        }
        for json in [
            "[-1]",
            "[4294967296]",
            "[1.5]",
            "[18446744073709551615]",
            "[[[1]]]",
            "{}",
        ] {
            assert!(read(json).is_err(), "{json}");
        }
    }
}
