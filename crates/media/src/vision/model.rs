//! A model of pictures, ready to run.

use std::mem;

use fast_image_resize::Resizer;
use image::RgbImage;
use troika_device_npu::exec::{Executor, Port, Tensor};

use super::boxes::{self, Detection, Found, Rows};
use super::input::{self, Placement};
use super::mask::Mask;
use super::scores::{self, Label, activate};
use super::{Card, Error};
use crate::card::{self, Job, Kind, Layout};

/// A model and its card, which fit each other.
pub struct Model {
    executor: Box<dyn Executor>,
    card: Card,
    resizer: Resizer,
}

impl Model {
    /// Puts a model and its card together.
    ///
    /// # Errors
    /// If they do not fit: a port is lacking or of another shape, or there are more or fewer labels than classes.
    pub fn open(executor: Box<dyn Executor>, card: Card) -> Result<Self, Error> {
        card.check(executor.inputs(), executor.outputs())?;
        Ok(Self {
            executor,
            card,
            resizer: Resizer::new(),
        })
    }

    /// How it is fed and read.
    pub fn card(&self) -> &Card {
        &self.card
    }

    /// Checks what it is for.
    ///
    /// # Errors
    /// [`card::Error::Kind`] if it is for something else.
    pub fn is_for(&self, want: Kind) -> Result<(), Error> {
        match self.card.job.kind() == want {
            true => Ok(()),
            false => Err(self.is_for_another(want)),
        }
    }

    /// Which device runs it: `npu0`, `cpu0`.
    pub fn device(&self) -> &str {
        self.executor.device()
    }

    /// By what: `rten 0.27`.
    pub fn library(&self) -> &str {
        self.executor.library()
    }

    /// Which parts of a picture are foreground.
    ///
    /// # Errors
    /// If the model is for something else, does not run, or gives what its card does not say.
    pub fn segment(&mut self, image: &RgbImage) -> Result<Mask, Error> {
        let Job::Segment(mask) = self.card.job.clone() else {
            return Err(self.is_for_another(Kind::Segment));
        };
        let (mut outputs, placement) = self.run(image)?;
        let (name, tensor) = outputs.take("mask.output", mask.output.as_deref())?;
        let layout = mask.layout.unwrap_or(self.card.picture.layout);
        let read = read_mask(&mask, layout, &name, tensor)?;
        Ok(read.cropped(placement.region(image.dimensions())))
    }

    /// What a picture shows: every class, the likeliest first.
    ///
    /// # Errors
    /// As [`Self::segment`].
    pub fn classify(&mut self, image: &RgbImage) -> Result<Vec<Label>, Error> {
        let Job::Classify(scores) = self.card.job.clone() else {
            return Err(self.is_for_another(Kind::Classify));
        };
        let (mut outputs, _) = self.run(image)?;
        let (name, tensor) = outputs.take("scores.output", scores.output.as_deref())?;
        let numbers = scores::numbers(&name, tensor)?;
        scores::ranked(&name, numbers, scores.activation, &self.card.labels)
    }

    /// What is where in a picture, the surest first.
    ///
    /// # Errors
    /// As [`Self::segment`].
    pub fn detect(&mut self, image: &RgbImage) -> Result<Vec<Detection>, Error> {
        let Job::Detect(card) = self.card.job.clone() else {
            return Err(self.is_for_another(Kind::Detect));
        };
        let (mut outputs, placement) = self.run(image)?;
        // An output without a name is the only one, so it is taken last.
        let classes = match &card.classes_output {
            Some(name) => {
                let (name, tensor) = outputs.take("boxes.classes_output", Some(name))?;
                Some(Rows::list(&name, tensor)?)
            }
            None => None,
        };
        let scores = match &card.scores_output {
            Some(name) => {
                let (name, tensor) = outputs.take("boxes.scores_output", Some(name))?;
                Some(match classes {
                    Some(_) => Rows::list(&name, tensor)?,
                    None => Rows::table(&name, tensor, card::Table::Rows)?,
                })
            }
            None => None,
        };
        let (name, tensor) = outputs.take("boxes.output", card.output.as_deref())?;
        let found = Found {
            rows: Rows::table(&name, tensor, card.table)?,
            scores,
            classes,
        };
        boxes::read(
            &card,
            &self.card.labels,
            &found,
            &placement,
            image.dimensions(),
        )
    }

    /// A picture's vector: near those of pictures that the model finds alike.
    ///
    /// # Errors
    /// As [`Self::segment`], and if the vector cannot be scaled to length 1 as its card asks.
    pub fn embed(&mut self, image: &RgbImage) -> Result<Vec<f32>, Error> {
        let Job::Embed(card) = self.card.job.clone() else {
            return Err(self.is_for_another(Kind::Embed));
        };
        let (mut outputs, _) = self.run(image)?;
        let (output, tensor) = outputs.take("vector.output", card.output.as_deref())?;
        let mut vector = scores::numbers(&output, tensor)?;
        let length = vector
            .iter()
            .map(|x| f64::from(*x).powi(2))
            .sum::<f64>()
            .sqrt();
        if !length.is_finite() || (card.normalise && length == 0.0) {
            let reason = format!("is a vector of length {length}, which has no direction");
            return Err(Error::Output { output, reason });
        }
        if card.normalise {
            let scale = (1.0 / length) as f32;
            vector.iter_mut().for_each(|x| *x *= scale);
        }
        Ok(vector)
    }

    fn is_for_another(&self, want: Kind) -> Error {
        Error::Card(card::Error::Kind {
            card: self.card.origin.clone(),
            have: self.card.job.kind(),
            want,
        })
    }

    fn run(&mut self, image: &RgbImage) -> Result<(Outputs<'_>, Placement), Error> {
        let (tensor, placement) = input::tensor(&self.card.picture, image, &mut self.resizer);
        let name = match &self.card.picture.input {
            Some(name) => name.clone(),
            None => self.executor.inputs()[0].name.clone(),
        };
        let tensors = self.executor.run(vec![(&name, tensor)])?;
        let outputs = Outputs {
            card: &self.card,
            ports: self.executor.outputs(),
            tensors,
        };
        Ok((outputs, placement))
    }
}

/// What a run has given.
struct Outputs<'m> {
    card: &'m Card,
    ports: &'m [Port],
    tensors: Vec<Tensor>,
}

impl Outputs<'_> {
    /// The output that the card means, and its name. It can be taken once.
    fn take(&mut self, key: &str, name: Option<&str>) -> Result<(String, Tensor), Error> {
        let index = card::find_port(self.card, key, name, self.ports)?;
        let name = self.ports[index].name.clone();
        let empty = Tensor::f32([0], Vec::new());
        match self.tensors.get_mut(index) {
            Some(tensor) => Ok((name, mem::replace(tensor, empty))),
            None => Err(Error::Output {
                output: name,
                reason: "was not given".to_owned(),
            }),
        }
    }
}

/// Reads a mask off an output of `[1, c, h, w]`, `[1, h, w, c]`, `[1, h, w]` or `[h, w]`.
fn read_mask(
    card: &card::Mask,
    layout: Layout,
    output: &str,
    tensor: Tensor,
) -> Result<Mask, Error> {
    let wrong = |reason: String| Error::Output {
        output: output.to_owned(),
        reason,
    };
    let (height, width, channels) = match (&*tensor.shape, layout) {
        (&[1, c, h, w], Layout::Nchw) | (&[1, h, w, c], Layout::Nhwc) => (h, w, c),
        (&[1, h, w] | &[h, w], _) => (h, w, 1),
        (shape, _) => return Err(wrong(format!("is {shape:?}, and one mask is expected"))),
    };
    if width * height == 0 || card.channel >= channels {
        return Err(wrong(format!(
            "is {:?}, and channel {} of a mask is expected",
            tensor.shape, card.channel
        )));
    }
    let numbers = scores::numbers(output, tensor)?;
    let places = width * height;
    let at = |place: usize, channel: usize| match layout {
        Layout::Nchw => numbers[channel * places + place],
        Layout::Nhwc => numbers[place * channels + channel],
    };
    let mut pixel = vec![0.0; channels];
    let values: Vec<f32> = (0..places)
        .map(|place| {
            for (channel, value) in pixel.iter_mut().enumerate() {
                *value = at(place, channel);
            }
            activate(card.activation, &mut pixel);
            match card.background {
                true => 1.0 - pixel[card.channel],
                false => pixel[card.channel],
            }
        })
        .collect();
    match values.iter().find(|value| !value.is_finite()) {
        Some(value) => Err(wrong(format!("has {value} in it"))),
        None => Ok(Mask {
            width,
            height,
            values,
            threshold: card.threshold.get(),
        }),
    }
}
