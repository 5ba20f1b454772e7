//! `config.json`: what a checkpoint says of its shape.

use serde_json::Value;

use crate::Error;

/// The configuration of the part that writes text.
#[derive(Debug)]
pub(crate) struct Config(Value);

impl Config {
    /// Takes `text_config` of a model that also sees or hears.
    pub(crate) fn new(mut whole: Value) -> Self {
        match whole.get_mut("text_config") {
            Some(text @ Value::Object(_)) => Self(text.take()),
            _ => Self(whole),
        }
    }

    /// A value that is there and not null.
    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    /// A whole number, if it is there.
    pub(crate) fn opt_count(&self, key: &str) -> Result<Option<u32>, Error> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let count = value.as_u64().and_then(|value| u32::try_from(value).ok());
        count
            .map(Some)
            .ok_or_else(|| refuse(key, value, "expected a whole number"))
    }

    /// A whole number.
    pub(crate) fn count(&self, key: &str) -> Result<u32, Error> {
        self.opt_count(key)?
            .ok_or_else(|| refuse(key, &Value::Null, "expected a whole number"))
    }

    /// A number, if it is there.
    pub(crate) fn opt_float(&self, key: &str) -> Result<Option<f64>, Error> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let float = value.as_f64().filter(|value| value.is_finite());
        float
            .map(Some)
            .ok_or_else(|| refuse(key, value, "expected a number"))
    }

    /// A text, if it is there.
    pub(crate) fn str(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_str()
    }

    /// Whether a flag is set.
    pub(crate) fn is(&self, key: &str) -> bool {
        self.get(key).and_then(Value::as_bool).unwrap_or(false)
    }

    /// Refuses a value that is not as expected.
    pub(crate) fn expect(&self, holds: bool, key: &str, expected: &str) -> Result<(), Error> {
        match holds {
            true => Ok(()),
            false => Err(refuse(
                key,
                self.0.get(key).unwrap_or(&Value::Null),
                expected,
            )),
        }
    }
}

/// That a value is not what it has to be.
pub(crate) fn refuse(key: &str, value: &Value, expected: &str) -> Error {
    Error::Config {
        key: key.to_owned(),
        value: value.to_string(),
        expected: expected.to_owned(),
    }
}
