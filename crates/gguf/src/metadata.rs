//! Metadata: keys and values in the order of the file, and getters that check the type.

use std::borrow::Cow;

use crate::{Array, Error, Value};

/// The metadata of a model: keys and values, in the order of the file.
///
/// The getters named after a type give [`Error::MissingKey`] when the key is absent and [`Error::WrongType`] when it
/// holds something else; those with `opt_` give `None` when it is absent. Integers are accepted from any integer type
/// that holds a value in range, floats from both widths.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Metadata {
    // Tens of keys in a real file, and a lookup happens once per load: a scan needs no second table.
    entries: Vec<(String, Value)>,
}

impl Metadata {
    /// The value of a key, of whatever type.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.iter().find(|&(k, _)| k == key).map(|(_, value)| value)
    }

    /// All keys and values in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.entries
            .iter()
            .map(|(key, value)| (key.as_str(), value))
    }

    /// The number of keys.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Sets a key: in its old place when it is known, else at the end.
    pub fn insert(&mut self, key: impl Into<String>, value: impl Into<Value>) {
        let (key, value) = (key.into(), value.into());
        match self.entries.iter_mut().find(|(k, _)| *k == key) {
            Some(entry) => entry.1 = value,
            None => self.entries.push((key, value)),
        }
    }

    /// Removes a key and gives its value.
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        let index = self.entries.iter().position(|(k, _)| k == key)?;
        Some(self.entries.remove(index).1)
    }

    /// Appends a key that is known to be new.
    pub(crate) fn push_new(&mut self, key: String, value: Value) {
        self.entries.push((key, value));
    }

    fn opt<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<Option<T>, Error> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        match T::from_value(value) {
            Some(wanted) => Ok(Some(wanted)),
            None => Err(Error::WrongType {
                key: key.to_owned(),
                want: T::WANT,
                have: value.describe(),
            }),
        }
    }

    fn need<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<T, Error> {
        self.opt(key)?.ok_or_else(|| Error::MissingKey {
            key: key.to_owned(),
        })
    }
}

macro_rules! getters {
    ($($need:ident, $opt:ident -> $type:ty, $what:literal;)*) => {
        impl Metadata {$(
            #[doc = concat!($what, ".\n\n# Errors\nIf the key is absent or holds another type.")]
            pub fn $need(&self, key: &str) -> Result<$type, Error> {
                self.need(key)
            }

            #[doc = concat!($what, ", or `None` when the key is absent.\n\n# Errors\nIf the key holds another type.")]
            pub fn $opt(&self, key: &str) -> Result<Option<$type>, Error> {
                self.opt(key)
            }
        )*}
    };
}

getters! {
    str, opt_str -> &str, "The text of a key";
    u32, opt_u32 -> u32, "The integer of a key";
    u64, opt_u64 -> u64, "The integer of a key";
    i64, opt_i64 -> i64, "The integer of a key";
    f32, opt_f32 -> f32, "The float of a key, rounded to single precision";
    bool, opt_bool -> bool, "The boolean of a key";
    strings, opt_strings -> &[String], "The texts of a key";
    f32s, opt_f32s -> Cow<'_, [f32]>, "The floats of a key, rounded to single precision";
    i32s, opt_i32s -> Cow<'_, [i32]>, "The integers of a key";
    u32s, opt_u32s -> Cow<'_, [u32]>, "The integers of a key";
    bools, opt_bools -> &[bool], "The booleans of a key";
}

/// What a getter can take out of a value.
trait FromValue<'a>: Sized {
    /// The type's name in error messages.
    const WANT: &'static str;

    fn from_value(value: &'a Value) -> Option<Self>;
}

impl<'a> FromValue<'a> for &'a str {
    const WANT: &'static str = "a string";

    fn from_value(value: &'a Value) -> Option<Self> {
        match value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }
}

impl FromValue<'_> for bool {
    const WANT: &'static str = "a bool";

    fn from_value(value: &Value) -> Option<Self> {
        match *value {
            Value::Bool(b) => Some(b),
            _ => None,
        }
    }
}

impl FromValue<'_> for f32 {
    const WANT: &'static str = "a float";

    fn from_value(value: &Value) -> Option<Self> {
        match *value {
            Value::F32(x) => Some(x),
            Value::F64(x) => Some(x as Self),
            _ => None,
        }
    }
}

macro_rules! from_integer {
    ($($type:ty: $want:literal;)*) => {$(
        impl FromValue<'_> for $type {
            const WANT: &'static str = $want;

            fn from_value(value: &Value) -> Option<Self> {
                value.integer()?.try_into().ok()
            }
        }
    )*};
}

from_integer! {
    u32: "an integer from 0 to 2^32 - 1";
    u64: "an integer from 0 to 2^64 - 1";
    i64: "an integer from -2^63 to 2^63 - 1";
}

impl<'a> FromValue<'a> for &'a [String] {
    const WANT: &'static str = "an array of strings";

    fn from_value(value: &'a Value) -> Option<Self> {
        match value {
            Value::Array(Array::String(items)) => Some(items),
            _ => None,
        }
    }
}

impl<'a> FromValue<'a> for &'a [bool] {
    const WANT: &'static str = "an array of bools";

    fn from_value(value: &'a Value) -> Option<Self> {
        match value {
            Value::Array(Array::Bool(items)) => Some(items),
            _ => None,
        }
    }
}

impl<'a> FromValue<'a> for Cow<'a, [f32]> {
    const WANT: &'static str = "an array of floats";

    fn from_value(value: &'a Value) -> Option<Self> {
        match value {
            Value::Array(Array::F32(items)) => Some(Cow::Borrowed(items)),
            Value::Array(Array::F64(items)) => Some(items.iter().map(|&x| x as f32).collect()),
            _ => None,
        }
    }
}

impl<'a> FromValue<'a> for Cow<'a, [i32]> {
    const WANT: &'static str = "an array of integers from -2^31 to 2^31 - 1";

    fn from_value(value: &'a Value) -> Option<Self> {
        match value {
            Value::Array(Array::I32(items)) => Some(Cow::Borrowed(items)),
            Value::Array(array) => array.integers()?.map(|n| n.try_into().ok()).collect(),
            _ => None,
        }
    }
}

impl<'a> FromValue<'a> for Cow<'a, [u32]> {
    const WANT: &'static str = "an array of integers from 0 to 2^32 - 1";

    fn from_value(value: &'a Value) -> Option<Self> {
        match value {
            Value::Array(Array::U32(items)) => Some(Cow::Borrowed(items)),
            Value::Array(array) => array.integers()?.map(|n| n.try_into().ok()).collect(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Metadata {
        let mut metadata = Metadata::default();
        metadata.insert("name", "a model");
        metadata.insert("count", 7u32);
        metadata.insert("wide", 1u64 << 40);
        metadata.insert("negative", -1i8);
        metadata.insert("eps", 1e-5f32);
        metadata.insert("base", 1e6f64);
        metadata.insert("bos", true);
        metadata.insert("tokens", &["a", "b"][..]);
        metadata.insert("types", vec![1i32, -2]);
        metadata.insert("scores", vec![0.5f64]);
        metadata.insert("heads", vec![8u8, 4]);
        metadata
    }

    fn message<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn getters_give_what_stands_there() -> Result<(), Error> {
        let metadata = example();
        assert_eq!(metadata.str("name")?, "a model");
        assert_eq!(metadata.u32("count")?, 7);
        assert_eq!(metadata.u64("count")?, 7);
        assert_eq!(metadata.i64("negative")?, -1);
        assert_eq!(metadata.f32("eps")?, 1e-5);
        assert_eq!(metadata.f32("base")?, 1e6);
        assert!(metadata.bool("bos")?);
        assert_eq!(metadata.strings("tokens")?, ["a", "b"]);
        assert_eq!(*metadata.i32s("types")?, [1, -2]);
        assert_eq!(*metadata.i32s("heads")?, [8, 4]);
        assert_eq!(*metadata.u32s("heads")?, [8, 4]);
        assert_eq!(*metadata.f32s("scores")?, [0.5]);
        assert_eq!(metadata.opt_u32("absent")?, None);
        Ok(())
    }

    #[test]
    fn a_missing_key_is_named() {
        let absent = example();
        assert_eq!(
            message(absent.str("general.architecture")),
            "the model's metadata has no key `general.architecture`"
        );
    }

    #[test]
    fn another_type_is_an_error_even_when_optional() {
        let metadata = example();
        for (found, have) in [
            (message(metadata.u32("name")), "found string"),
            (message(metadata.u32("negative")), "found i8 -1"),
            (message(metadata.opt_u32("wide")), "found u64 1099511627776"),
            (message(metadata.opt_f32("count")), "found u32 7"),
            (message(metadata.opt_bool("count")), "found u32 7"),
            (
                message(metadata.opt_strings("types")),
                "found array of 2 i32",
            ),
            (message(metadata.u32s("types")), "found array of 2 i32"),
            (message(metadata.f32s("tokens")), "found array of 2 string"),
            (message(metadata.str("bos")), "found bool true"),
        ] {
            assert!(found.contains(have), "{found:?} does not say {have:?}");
        }
        assert_eq!(
            message(metadata.u32("wide")),
            "metadata key `wide`: expected an integer from 0 to 2^32 - 1, found u64 1099511627776"
        );
    }

    #[test]
    fn keys_keep_their_order() {
        let mut metadata = example();
        metadata.insert("count", 8u32);
        assert_eq!(metadata.remove("name"), Some("a model".into()));
        assert_eq!(metadata.remove("name"), None);
        let keys: Vec<&str> = metadata.iter().map(|(key, _)| key).take(2).collect();
        assert_eq!((keys, metadata.len()), (vec!["count", "wide"], 10));
    }
}
