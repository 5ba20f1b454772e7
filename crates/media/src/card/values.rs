//! Values that a card may have, each checked where it is read, so that the complaint has its line.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Error;

/// A side of a model's picture that is longer than this is a mistake.
const SIDE_MAX: u32 = 8192;

/// Reads a section's text.
pub(super) fn from_toml<T: DeserializeOwned>(text: &str, origin: &str) -> Result<T, Error> {
    let refused = |error: &toml::de::Error, key: String| {
        let line = error.span().map(|span| {
            let before = text.get(..span.start).unwrap_or(text);
            before.matches('\n').count() + 1
        });
        Error::Syntax {
            card: origin.to_owned(),
            line,
            key,
            reason: error.message().trim().replace('\n', "; "),
        }
    };
    let deserializer =
        toml::Deserializer::parse(text).map_err(|error| refused(&error, String::new()))?;
    serde_path_to_error::deserialize(deserializer).map_err(|error| {
        let key = match error.path().to_string() {
            path if path == "." => String::new(),
            path => path,
        };
        refused(error.inner(), key)
    })
}

/// Width and height of a model's picture, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "[u32; 2]", into = "[u32; 2]")]
pub struct Size {
    /// From left to right.
    pub width: u32,
    /// From top to bottom.
    pub height: u32,
}

impl TryFrom<[u32; 2]> for Size {
    type Error = String;

    fn try_from([width, height]: [u32; 2]) -> Result<Self, String> {
        let fine = 1..=SIDE_MAX;
        match fine.contains(&width) && fine.contains(&height) {
            true => Ok(Self { width, height }),
            false => Err(format!(
                "width and height are 1 to {SIDE_MAX} pixels, not {width} and {height}"
            )),
        }
    }
}

impl From<Size> for [u32; 2] {
    fn from(size: Size) -> Self {
        [size.width, size.height]
    }
}

/// A number from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f32", into = "f32")]
pub struct Fraction(f32);

impl Fraction {
    /// The number.
    pub fn get(self) -> f32 {
        self.0
    }

    pub(super) fn half() -> Self {
        Self(0.5)
    }

    pub(super) fn quarter() -> Self {
        Self(0.25)
    }
}

impl TryFrom<f32> for Fraction {
    type Error = String;

    fn try_from(value: f32) -> Result<Self, String> {
        match (0.0..=1.0).contains(&value) {
            true => Ok(Self(value)),
            false => Err(format!("expected a number from 0 to 1, not {value}")),
        }
    }
}

impl From<Fraction> for f32 {
    fn from(fraction: Fraction) -> Self {
        fraction.0
    }
}

/// How much a byte counts. By default what makes 255 a 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "f32", into = "f32")]
pub struct Scale(f32);

impl Scale {
    /// The factor.
    pub fn get(self) -> f32 {
        self.0
    }
}

impl Default for Scale {
    fn default() -> Self {
        Self(1.0 / 255.0)
    }
}

impl TryFrom<f32> for Scale {
    type Error = String;

    fn try_from(value: f32) -> Result<Self, String> {
        match value.is_finite() && value != 0.0 {
            true => Ok(Self(value)),
            false => Err(format!("expected a number other than 0, not {value}")),
        }
    }
}

impl From<Scale> for f32 {
    fn from(scale: Scale) -> Self {
        scale.0
    }
}

/// A number for each channel, or one for all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<f32>", into = "Vec<f32>")]
pub struct PerChannel(Vec<f32>);

impl PerChannel {
    pub(super) fn zeros() -> Self {
        Self(vec![0.0])
    }

    pub(super) fn ones() -> Self {
        Self(vec![1.0])
    }

    /// The number of a channel.
    pub fn of(&self, channel: usize) -> f32 {
        match *self.0 {
            [all] => all,
            ref each => each[channel],
        }
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether each of so many channels has its number.
    pub(super) fn fits(&self, channels: usize) -> bool {
        self.0.len() == 1 || self.0.len() == channels
    }

    /// Whether one can divide by all of them.
    pub(super) fn divides(&self) -> bool {
        self.0.iter().all(|&value| value != 0.0)
    }
}

impl TryFrom<Vec<f32>> for PerChannel {
    type Error = String;

    fn try_from(values: Vec<f32>) -> Result<Self, String> {
        if !matches!(values.len(), 1 | 3) {
            return Err(format!(
                "expected one number, or one for each of three colours, not {}",
                values.len()
            ));
        }
        match values.iter().find(|value| !value.is_finite()) {
            None => Ok(Self(values)),
            Some(value) => Err(format!("expected numbers, not {value}")),
        }
    }
}

impl From<PerChannel> for Vec<f32> {
    fn from(values: PerChannel) -> Self {
        values.0
    }
}

/// How many boxes are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "usize", into = "usize")]
pub struct Limit(usize);

impl Limit {
    /// More boxes than this tell nobody anything.
    const MAX: usize = 10_000;

    /// The number.
    pub fn get(self) -> usize {
        self.0
    }
}

impl Default for Limit {
    fn default() -> Self {
        Self(100)
    }
}

impl TryFrom<usize> for Limit {
    type Error = String;

    fn try_from(count: usize) -> Result<Self, String> {
        match (1..=Self::MAX).contains(&count) {
            true => Ok(Self(count)),
            false => Err(format!("expected 1 to {} boxes, not {count}", Self::MAX)),
        }
    }
}

impl From<Limit> for usize {
    fn from(limit: Limit) -> Self {
        limit.0
    }
}
