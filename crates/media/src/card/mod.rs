//! Cards: what a model's file does not say, namely how it is fed and how its answer is read.
//!
//! A card is a small TOML file beside an ONNX model, described in `docs/formats/card.md`. Here it is read ([`Card::parse`],
//! [`Card::open`]), its values are checked, and it is held against the model's ports ([`Card::check`]). A few models are
//! known by their ports ([`builtin`]) and need no file. Nothing is run here: that is [`vision`](crate::vision)'s.

mod boxes;
mod builtin;
mod error;
mod labels;
mod ports;
mod values;

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use troika_device_npu::exec::Port;

pub use boxes::{BoxFormat, Boxes, Nothing, Part, Row, Table, Units};
pub use builtin::builtin;
pub use error::Error;
pub(crate) use ports::find as find_port;
pub use values::{Fraction, Limit, PerChannel, Scale, Size};

/// What a model is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Which pixels of a picture are the foreground.
    Segment,
    /// What a picture shows.
    Classify,
    /// What is where in a picture.
    Detect,
    /// A vector, near those of pictures that are alike.
    Embed,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Segment => "segment",
            Self::Classify => "classify",
            Self::Detect => "detect",
            Self::Embed => "embed",
        })
    }
}

/// The order of a picture's axes in a tensor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// Planes of one colour each: `[1, channels, height, width]`.
    #[default]
    Nchw,
    /// Pixel by pixel: `[1, height, width, channels]`.
    Nhwc,
}

/// The order of a pixel's colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Colour {
    /// Red, green, blue.
    #[default]
    Rgb,
    /// Blue, green, red.
    Bgr,
    /// One number: brightness by Rec. 601.
    Grey,
}

impl Colour {
    /// Numbers of a pixel.
    pub fn channels(self) -> usize {
        match self {
            Self::Rgb | Self::Bgr => 3,
            Self::Grey => 1,
        }
    }
}

/// How a picture of another shape becomes one of the model's size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Resize {
    /// Each side for itself: nothing is lost, proportions change.
    #[default]
    Stretch,
    /// As large as fits, in the middle, with padding on two sides.
    Fit,
    /// As small as covers, and what stands out on two sides is cut off.
    Crop,
}

/// Whether dark and bright change places.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Invert {
    /// As they are.
    #[default]
    Never,
    /// They do.
    Always,
    /// If the picture's edge is bright: for models that want white on black, as a blackboard has it.
    Bright,
}

/// The numbers of a tensor of pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Numbers {
    /// Scaled, as `scale`, `mean` and `std` say.
    #[default]
    F32,
    /// 0 to 255, as they are.
    U8,
}

/// What is done to a model's scores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// Nothing: they are probabilities.
    #[default]
    None,
    /// `1 / (1 + exp(-x))`, each for itself.
    Sigmoid,
    /// `exp(x)` over the sum of all classes' `exp(x)`.
    Softmax,
    /// `exp(x)`: they are logarithms of probabilities.
    Exp,
}

/// How a picture becomes the model's input. Each number is `(value × scale − mean) / std`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Picture {
    /// Name of the input; absent where the model has one only.
    pub input: Option<String>,
    /// Width and height in pixels.
    pub size: Size,
    /// Order of the axes.
    #[serde(default)]
    pub layout: Layout,
    /// Order of a pixel's colours.
    #[serde(default)]
    pub colour: Colour,
    /// What sort of numbers.
    #[serde(default)]
    pub numbers: Numbers,
    /// Times each value of 0 to 255.
    #[serde(default)]
    pub scale: Scale,
    /// Subtracted from each channel.
    #[serde(default = "PerChannel::zeros")]
    pub mean: PerChannel,
    /// Divides each channel.
    #[serde(default = "PerChannel::ones")]
    pub std: PerChannel,
    /// How a picture of another shape is made to fit.
    #[serde(default)]
    pub resize: Resize,
    /// Grey value of the padding, 0 to 255.
    #[serde(default)]
    pub pad: u8,
    /// Whether dark and bright change places.
    #[serde(default)]
    pub invert: Invert,
}

/// Where the foreground stands in a model's output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mask {
    /// Name of the output; absent where the model has one only.
    pub output: Option<String>,
    /// Order of the output's axes; absent if it is the input's.
    pub layout: Option<Layout>,
    /// What is done to the numbers.
    #[serde(default)]
    pub activation: Activation,
    /// Which of several channels is meant, from 0.
    #[serde(default)]
    pub channel: usize,
    /// Whether that channel is the background.
    #[serde(default)]
    pub background: bool,
    /// From where on a pixel counts as foreground.
    #[serde(default = "Fraction::half")]
    pub threshold: Fraction,
}

/// Where a score for each class stands in a model's output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scores {
    /// Name of the output; absent where the model has one only.
    pub output: Option<String>,
    /// What is done to the numbers.
    #[serde(default)]
    pub activation: Activation,
}

/// Where a vector stands in a model's output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vector {
    /// Name of the output; absent where the model has one only.
    pub output: Option<String>,
    /// Whether it is scaled to length 1.
    #[serde(default = "yes")]
    pub normalise: bool,
}

fn yes() -> bool {
    true
}

/// What is read off a model's outputs.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Job {
    /// The foreground.
    Segment(Mask),
    /// A class.
    Classify(Scores),
    /// Boxes.
    Detect(Box<Boxes>),
    /// A vector.
    Embed(Vector),
}

impl Job {
    /// What the model is for.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Segment(_) => Kind::Segment,
            Self::Classify(_) => Kind::Classify,
            Self::Detect(_) => Kind::Detect,
            Self::Embed(_) => Kind::Embed,
        }
    }
}

/// A model's description, whole and without contradictions.
#[derive(Clone, Debug, PartialEq)]
pub struct Card {
    /// Where it comes from, for messages: a file, or `built in: …`.
    pub origin: String,
    /// What people call the model.
    pub title: Option<String>,
    /// What its input is made of.
    pub picture: Picture,
    /// What its outputs mean.
    pub job: Job,
    /// Names of the classes, in the model's order; empty if they have none.
    pub labels: Vec<String>,
}

/// A card as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    kind: Kind,
    title: Option<String>,
    labels: Option<Vec<String>>,
    labels_file: Option<PathBuf>,
    picture: Picture,
    mask: Option<Mask>,
    scores: Option<Scores>,
    boxes: Option<Boxes>,
    vector: Option<Vector>,
}

/// A card is small; what is larger is something else.
const BYTES_MAX: u64 = 1 << 20;

impl Card {
    /// Reads a card. Files that it names lie in `directory`; without one it may name none.
    ///
    /// # Errors
    /// If it is no TOML, has an unknown key, lacks something, or contradicts itself; with the line where there is one.
    pub fn parse(text: &str, origin: &str, directory: Option<&Path>) -> Result<Self, Error> {
        let written: Written = values::from_toml(text, origin)?;
        let wrong = |key: &str, reason: String| Error::value(origin, key, reason);
        let extra = [
            ("mask", written.mask.is_some(), Kind::Segment),
            ("scores", written.scores.is_some(), Kind::Classify),
            ("boxes", written.boxes.is_some(), Kind::Detect),
            ("vector", written.vector.is_some(), Kind::Embed),
        ];
        for (section, is_there, kind) in extra {
            if is_there && kind != written.kind {
                let reason = format!(
                    "belongs to `kind = \"{kind}\"`, and the card's is \"{}\"; take one of them out",
                    written.kind
                );
                return Err(wrong(section, reason));
            }
        }
        let lacks = |section: &str| {
            let reason = format!(
                "is missing; `kind = \"{}\"` needs `[{section}]`",
                written.kind
            );
            wrong(section, reason)
        };
        let job = match written.kind {
            Kind::Segment => Job::Segment(written.mask.ok_or_else(|| lacks("mask"))?),
            Kind::Classify => Job::Classify(written.scores.ok_or_else(|| lacks("scores"))?),
            Kind::Detect => Job::Detect(Box::new(written.boxes.ok_or_else(|| lacks("boxes"))?)),
            Kind::Embed => Job::Embed(written.vector.ok_or_else(|| lacks("vector"))?),
        };
        let labels = match (written.labels, written.labels_file) {
            (Some(_), Some(_)) => {
                return Err(wrong(
                    "labels_file",
                    "stands beside `labels`; keep one".to_owned(),
                ));
            }
            (Some(list), None) => labels::checked(list, origin, "labels")?,
            (None, Some(file)) => labels::read(&file, directory, origin)?,
            (None, None) => Vec::new(),
        };
        let card = Self {
            origin: origin.to_owned(),
            title: written.title,
            picture: written.picture,
            job,
            labels,
        };
        card.consistent()?;
        Ok(card)
    }

    /// Reads a card from its file.
    ///
    /// # Errors
    /// As [`Self::parse`], and if the file cannot be read.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let text = labels::text(path, BYTES_MAX)?;
        Self::parse(&text, &path.display().to_string(), path.parent())
    }

    /// The card of a model's file: that in `NAME.toml` beside `NAME.onnx`, else the one built in for its ports.
    ///
    /// # Errors
    /// If the file beside the model is no sound card, or there is none and the model is not known.
    pub fn of_model(model: &Path, inputs: &[Port], outputs: &[Port]) -> Result<Self, Error> {
        let beside = model.with_extension("toml");
        if beside != model && beside.is_file() {
            return Self::open(&beside);
        }
        builtin(inputs, outputs).ok_or_else(|| Error::NoCard {
            model: model.to_owned(),
            beside,
            inputs: ports::list(inputs),
            outputs: ports::list(outputs),
        })
    }

    /// Holds the card against a model's ports.
    ///
    /// # Errors
    /// If the model has no port of a name, a port has another shape, or there are more or fewer labels than classes.
    pub fn check(&self, inputs: &[Port], outputs: &[Port]) -> Result<(), Error> {
        ports::check(self, inputs, outputs)
    }

    /// What contradicts something else in the same card.
    fn consistent(&self) -> Result<(), Error> {
        let wrong = |key: &str, reason: String| Err(Error::value(&self.origin, key, reason));
        let channels = self.picture.colour.channels();
        for (key, values) in [("mean", &self.picture.mean), ("std", &self.picture.std)] {
            if !values.fits(channels) {
                return wrong(
                    &format!("picture.{key}"),
                    format!("has {} numbers, and a pixel has {channels}", values.len()),
                );
            }
        }
        if !self.picture.std.divides() {
            return wrong("picture.std", "has a 0, and is divided by".to_owned());
        }
        if self.picture.resize == Resize::Crop && matches!(self.job, Job::Segment(_)) {
            return wrong(
                "picture.resize",
                "is \"crop\", which leaves the picture's edges without a mask; take \"fit\" or \"stretch\"".to_owned(),
            );
        }
        if self.picture.numbers == Numbers::U8 && self.picture.is_scaled() {
            return wrong(
                "picture.numbers",
                "is \"u8\", so `scale`, `mean` and `std` have no effect; take them out".to_owned(),
            );
        }
        match &self.job {
            Job::Detect(boxes) => boxes.consistent(&self.origin),
            Job::Segment(_) | Job::Classify(_) | Job::Embed(_) => Ok(()),
        }
    }
}

impl Picture {
    fn is_scaled(&self) -> bool {
        self.scale != Scale::default()
            || self.mean != PerChannel::zeros()
            || self.std != PerChannel::ones()
    }
}

#[cfg(test)]
mod tests;
