//! Checks of single fields that several interfaces make, and the wire's habit of "text or a list of parts".

use std::fmt;
use std::marker::PhantomData;
use std::ops::RangeInclusive;

use serde::de::value::SeqAccessDeserializer;
use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};

use crate::ApiError;

/// Names of functions are no longer than this, as with both OpenAI and Anthropic.
const NAME_CHARS_MAX: usize = 128;

/// Text, or a list of parts. Not an untagged enum: that would forget the path of what is wrong inside.
#[derive(Clone, Debug)]
pub(crate) enum TextOr<T> {
    /// Text alone.
    Text(String),
    /// Parts in order.
    List(Vec<T>),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for TextOr<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Either<T> {
            type Value = TextOr<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text or a list")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(TextOr::Text(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(TextOr::List)
            }
        }

        deserializer.deserialize_any(Either(PhantomData))
    }
}

/// A field that must be there.
///
/// # Errors
/// If it is not.
pub(crate) fn required<T>(value: Option<T>, param: &str) -> Result<T, ApiError> {
    value.ok_or_else(|| ApiError::invalid(format!("`{param}` is missing")).at(param))
}

/// A number of a range, both ends included.
///
/// # Errors
/// If it is outside.
pub(crate) fn within(
    value: Option<f64>,
    range: RangeInclusive<f64>,
    param: &str,
) -> Result<Option<f32>, ApiError> {
    match value {
        Some(value) if !range.contains(&value) => {
            let (low, high) = range.into_inner();
            let message = format!("`{param}` is {value}; it must be from {low} to {high}");
            Err(ApiError::invalid(message).at(param))
        }
        _ => Ok(value.map(|value| value as f32)),
    }
}

/// A count of at least 1.
///
/// # Errors
/// If it is 0.
pub(crate) fn positive(value: Option<usize>, param: &str) -> Result<Option<usize>, ApiError> {
    match value {
        Some(0) => Err(ApiError::invalid(format!("`{param}` must be at least 1")).at(param)),
        _ => Ok(value),
    }
}

/// The name of a function that a model may call.
///
/// # Errors
/// If it is empty, too long, or has characters that models and clients stumble over.
pub(crate) fn function_name(name: &str, param: &str) -> Result<(), ApiError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if name.is_empty() || name.len() > NAME_CHARS_MAX || !name.chars().all(plain) {
        let message = format!(
            "`{param}` must be 1 to {NAME_CHARS_MAX} letters, digits, underscores and hyphens"
        );
        return Err(ApiError::invalid(message).at(param));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use axum::body::Bytes;

    use super::*;
    use crate::wire::parse;

    #[test]
    fn a_list_keeps_the_path_of_what_is_wrong() {
        #[derive(Debug, serde::Deserialize)]
        struct Body {
            #[expect(dead_code, reason = "only its parsing matters")]
            content: TextOr<Vec<u8>>,
        }
        parse::<Body>(&Bytes::from_static(br#"{"content":"a"}"#)).unwrap();
        parse::<Body>(&Bytes::from_static(br#"{"content":[[1],[]]}"#)).unwrap();
        let error = parse::<Body>(&Bytes::from_static(br#"{"content":[[1],[2,"x"]]}"#));
        assert_eq!(error.unwrap_err().param.as_deref(), Some("content[1][1]"));
        let error = parse::<Body>(&Bytes::from_static(br#"{"content":{}}"#)).unwrap_err();
        assert_eq!(error.param.as_deref(), Some("content"));
        assert!(error.message.contains("text or a list"), "{error}");
    }

    #[test]
    fn ranges_include_their_ends() {
        assert_eq!(within(Some(0.0), 0.0..=1.0, "t").unwrap(), Some(0.0));
        assert_eq!(within(Some(1.0), 0.0..=1.0, "t").unwrap(), Some(1.0));
        for outside in [-0.01, 1.01, f64::NAN, f64::INFINITY] {
            let error = within(Some(outside), 0.0..=1.0, "t").unwrap_err();
            assert_eq!(error.param.as_deref(), Some("t"));
        }
    }

    #[test]
    fn names_of_functions_are_plain() {
        for good in ["f", "get_weather-2", &"x".repeat(128)] {
            function_name(good, "name").unwrap();
        }
        for bad in ["", "a b", "größe", "a.b", &"x".repeat(129)] {
            assert!(function_name(bad, "name").is_err(), "{bad}");
        }
    }
}
