//! Fields as clients write them, and the checks that several interfaces make: text or a list, integers that may be
//! written `1.0`, numbers with a range, names of functions, how urgent a request is.

mod keep_alive;
mod parameters;
mod urgency;

use std::fmt;
use std::marker::PhantomData;
use std::ops::RangeInclusive;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Unexpected, Visitor};

use crate::ApiError;
use crate::wire::List;
pub(crate) use keep_alive::Stay;
pub(crate) use parameters::check_parameters;
pub(crate) use urgency::{tier_told, urgency};

/// Names of functions are no longer than this, as with both OpenAI and Anthropic.
const NAME_CHARS_MAX: usize = 128;

/// Text where a list or an object is also possible. Not an untagged enum: that would forget where in it an error is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum TextOr<T> {
    /// Text alone.
    Text(String),
    /// What else the field can hold.
    Other(T),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for TextOr<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Reader<T> {
            type Value = TextOr<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text, a list or an object, as the field has it")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(TextOr::Text(text.to_owned()))
            }

            fn visit_string<E: Error>(self, text: String) -> Result<Self::Value, E> {
                Ok(TextOr::Text(text))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Self::Value, A::Error> {
                T::deserialize(List(items)).map(TextOr::Other)
            }

            fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(entries)).map(TextOr::Other)
            }
        }

        deserializer.deserialize_any(Reader(PhantomData))
    }
}

/// A list of at most `MAX` elements. A short element in the body may be a large structure in memory, so that a list is cut
/// off while it is read, not after.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Few<T, const MAX: usize>(pub(crate) Vec<T>);

impl<T, const MAX: usize> Default for Few<T, MAX> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for Few<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader<T, const MAX: usize>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for Reader<T, MAX> {
            type Value = Few<T, MAX>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
                let mut few = Vec::new();
                while let Some(item) = items.next_element()? {
                    if few.len() == MAX {
                        let message = format_args!("the list has more than {MAX} elements");
                        return Err(A::Error::custom(message));
                    }
                    few.push(item);
                }
                Ok(Few(few))
            }
        }

        deserializer.deserialize_seq(Reader(PhantomData))
    }
}

/// An integer; clients whose language has only one kind of number write `1.0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Integer(pub(crate) i128);

impl<'de> Deserialize<'de> for Integer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl Visitor<'_> for Reader {
            type Value = Integer;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an integer")
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
                Ok(Integer(value.into()))
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
                Ok(Integer(value.into()))
            }

            fn visit_f64<E: Error>(self, value: f64) -> Result<Self::Value, E> {
                // Beyond 2^63 the cast saturates at 2^127, which no field's range holds.
                match value.fract() == 0.0 {
                    true => Ok(Integer(value as i128)),
                    false => Err(E::invalid_value(Unexpected::Float(value), &self)),
                }
            }
        }

        deserializer.deserialize_any(Reader)
    }
}

/// How many of something.
///
/// # Errors
/// If it is out of range; `T` holds every number of the range.
pub(crate) fn count<T: TryFrom<i128>>(
    value: Integer,
    range: RangeInclusive<i128>,
    param: &str,
) -> Result<T, ApiError> {
    let refused = || {
        let (low, high) = (range.start(), range.end());
        let got = value.0;
        ApiError::invalid(format!(
            "`{param}` is {got}; it must be from {low} to {high}"
        ))
        .at(param)
    };
    if !range.contains(&value.0) {
        return Err(refused());
    }
    T::try_from(value.0).map_err(|_| refused())
}

/// A field that must be there.
///
/// # Errors
/// If it is not.
pub(crate) fn required<T>(value: Option<T>, param: &str) -> Result<T, ApiError> {
    value.ok_or_else(|| ApiError::invalid(format!("`{param}` is missing")).at(param))
}

/// A number of a range, both ends included. NaN is in none, nor is what JSON made infinite.
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
            content: TextOr<Vec<Vec<u8>>>,
        }
        parse::<Body>(&Bytes::from_static(br#"{"content":"a"}"#)).unwrap();
        parse::<Body>(&Bytes::from_static(br#"{"content":[[1],[]]}"#)).unwrap();
        let error = parse::<Body>(&Bytes::from_static(br#"{"content":[[1],[2,"x"]]}"#));
        assert_eq!(error.unwrap_err().param.as_deref(), Some("content[1][1]"));
        let error = parse::<Body>(&Bytes::from_static(br#"{"content":7}"#)).unwrap_err();
        assert_eq!(error.param.as_deref(), Some("content"));
        assert!(
            error.message.contains("text, a list or an object"),
            "{error}"
        );
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

    fn read<T: serde::de::DeserializeOwned>(json: &str) -> Result<T, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn integers_may_be_written_with_a_point() {
        assert_eq!(read("3"), Ok(Integer(3)));
        assert_eq!(read("3.0"), Ok(Integer(3)));
        assert_eq!(read("-3"), Ok(Integer(-3)));
        assert_eq!(read("18446744073709551615"), Ok(Integer(u64::MAX.into())));
        for wrong in ["3.5", "\"3\"", "[3]", "true", "1e999"] {
            assert!(read::<Integer>(wrong).is_err(), "{wrong}");
        }
        let far = read("1e300").unwrap();
        assert!(count::<usize>(far, 1..=5, "n").is_err());
    }

    #[test]
    fn long_lists_are_cut_off() {
        assert_eq!(read("[1, 2]"), Ok(Few::<u8, 2>(vec![1, 2])));
        let error = read::<Few<u8, 2>>("[1, 2, 3, oh").unwrap_err();
        assert!(error.contains("more than 2 elements"), "{error}");
    }

    #[test]
    fn a_list_is_no_object_here_either() {
        #[derive(Debug, serde::Deserialize)]
        struct Named {
            name: String,
        }
        let named: TextOr<Named> = read(r#"{"name": "f"}"#).unwrap();
        assert!(matches!(named, TextOr::Other(Named { name }) if name == "f"));
        let error = read::<TextOr<Named>>(r#"["f"]"#).unwrap_err();
        assert!(error.contains("expected an object"), "{error}");
    }
}
