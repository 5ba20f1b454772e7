//! Fields as clients write them: a string or a list, an integer that may be written `1.0`, numbers with a range.

use std::fmt;
use std::marker::PhantomData;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::ApiError;
use crate::job::KeepAlive;

/// A string where a list or an object is also possible. Not an untagged enum: that would forget where in the list an
/// error is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum TextOr<T> {
    Text(String),
    Other(T),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for TextOr<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Reader<T> {
            type Value = TextOr<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, a list or an object, as the field has it")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(TextOr::Text(text.to_owned()))
            }

            fn visit_string<E: Error>(self, text: String) -> Result<Self::Value, E> {
                Ok(TextOr::Text(text))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Self::Value, A::Error> {
                T::deserialize(SeqAccessDeserializer::new(items)).map(TextOr::Other)
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
pub(super) struct Few<T, const MAX: usize>(pub(super) Vec<T>);

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
pub(super) struct Integer(pub(super) i128);

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
                    false => Err(E::invalid_value(serde::de::Unexpected::Float(value), &self)),
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
pub(super) fn count<T: TryFrom<i128>>(
    name: &str,
    value: Integer,
    range: RangeInclusive<i128>,
) -> Result<T, ApiError> {
    let refused = || {
        let (min, max) = (range.start(), range.end());
        let got = value.0;
        ApiError::invalid(format!("{name} is {got}; it must be from {min} to {max}")).at(name)
    };
    if !range.contains(&value.0) {
        return Err(refused());
    }
    T::try_from(value.0).map_err(|_| refused())
}

/// A number in its range. A number too large for `f32` has become infinite, and no range holds that.
///
/// # Errors
/// If it is out of range.
pub(super) fn number(
    name: &str,
    value: Option<f32>,
    range: RangeInclusive<f32>,
) -> Result<Option<f32>, ApiError> {
    match value {
        Some(value) if !range.contains(&value) => {
            let (min, max) = range.into_inner();
            let message = format!("{name} is {value}; it must be from {min} to {max}");
            Err(ApiError::invalid(message).at(name))
        }
        _ => Ok(value),
    }
}

/// A field that must be there. `serde` would say so too, but without naming it as a field.
///
/// # Errors
/// If it is absent or null.
pub(super) fn required<T>(name: &str, value: Option<T>) -> Result<T, ApiError> {
    value.ok_or_else(|| ApiError::invalid(format!("{name} is missing")).at(name))
}

/// Seconds, or a duration as Ollama writes it (`5m`, `1h30m`); below zero is forever.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Stay(pub(super) KeepAlive);

impl<'de> Deserialize<'de> for Stay {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        #[serde(untagged, expecting = "seconds, or a duration such as \"5m\"")]
        enum Wire {
            Seconds(f64),
            Text(String),
        }
        let stay = match Wire::deserialize(deserializer)? {
            Wire::Seconds(seconds) => stay(seconds),
            Wire::Text(text) => match (text.parse(), text.parse::<jiff::SignedDuration>()) {
                (Ok(seconds), _) => stay(seconds),
                (_, Ok(duration)) => stay(duration.as_secs_f64()),
                _ => None,
            },
        };
        stay.ok_or_else(|| {
            D::Error::custom("keep_alive is seconds or a duration such as \"5m\"; -1 is forever")
        })
    }
}

/// `None` if the number is none; what is longer than the machine can count is forever.
fn stay(seconds: f64) -> Option<Stay> {
    match seconds {
        _ if seconds.is_nan() => None,
        _ if seconds < 0.0 => Some(Stay(KeepAlive::Forever)),
        _ => Some(Stay(
            Duration::try_from_secs_f64(seconds).map_or(KeepAlive::Forever, KeepAlive::For),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(count::<usize>("n", far, 1..=5).is_err());
    }

    #[test]
    fn long_lists_are_cut_off() {
        assert_eq!(read("[1, 2]"), Ok(Few::<u8, 2>(vec![1, 2])));
        let error = read::<Few<u8, 2>>("[1, 2, 3, oh").unwrap_err();
        assert!(error.contains("more than 2 elements"), "{error}");
    }

    #[test]
    fn numbers_are_refused_with_name_and_range() {
        let error = number("temperature", Some(f32::INFINITY), 0.0..=2.0).unwrap_err();
        assert_eq!(error.param.as_deref(), Some("temperature"));
        assert_eq!(error.message, "temperature is inf; it must be from 0 to 2");
        assert!(number("temperature", Some(f32::NAN), 0.0..=2.0).is_err());
        assert_eq!(number("temperature", Some(2.0), 0.0..=2.0), Ok(Some(2.0)));
    }

    #[test]
    fn models_stay_for_seconds_or_durations() {
        let minutes = |n: u64| Ok(Stay(KeepAlive::For(Duration::from_secs(60 * n))));
        for (json, want) in [
            ("300", minutes(5)),
            ("\"5m\"", minutes(5)),
            ("\"1h30m\"", minutes(90)),
            ("\"300\"", minutes(5)),
            ("0", minutes(0)),
            ("-1", Ok(Stay(KeepAlive::Forever))),
            ("\"-1\"", Ok(Stay(KeepAlive::Forever))),
            ("\"-1m\"", Ok(Stay(KeepAlive::Forever))),
            ("1e300", Ok(Stay(KeepAlive::Forever))),
        ] {
            assert_eq!(read(json), want, "{json}");
        }
        for wrong in ["\"soon\"", "\"nan\"", "[]", "\"\""] {
            assert!(read::<Stay>(wrong).is_err(), "{wrong}");
        }
    }
}
