//! Loads in the words of a command line.

use std::str::FromStr;

use troika_scheduler::Class;

use super::stream::{Lengths, Rhythm, Stream, Task};
use super::{JOBS_MAX, Load, Part, Shape};
use crate::trace::{ANSWERS_MAX, TOKENS_MAX};

/// A week: what is longer is no simulation of seconds.
const MINUTES_MAX: f64 = 7.0 * 24.0 * 60.0;
/// Jobs a second, at most.
const RATE_MAX: f64 = 1000.0;
/// How far lengths are spread where nothing is said: two of three lie within half and twice the median.
const SIGMA: f64 = 0.7;
/// No length is more than this many medians.
const LONGEST: f64 = 8.0;

const POISSON: &str = "poisson";
const POISSON_KEYS: &str = "rate, model, class, prompt, answer, sigma, n, owners, minutes, seed, deadline, leaves, device, kind";
const SHAPE_KEYS: &str = "minutes, scale, busy, seed";

/// Why words are no load.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// No shape has this name.
    #[error("there is no load {name:?}; known are {known}, poisson:rate=…, and a trace's path")]
    Unknown {
        /// The name.
        name: String,
        /// Those that are known.
        known: String,
    },
    /// No setting has this name.
    #[error("{load} has no setting {key:?}; it has {known}")]
    Key {
        /// The load.
        load: String,
        /// What was set.
        key: String,
        /// What can be.
        known: &'static str,
    },
    /// A setting cannot be what it is set to.
    #[error("{key}={value}: {why}")]
    Value {
        /// The setting.
        key: String,
        /// What it was set to.
        value: String,
        /// What it has to be.
        why: String,
    },
    /// More jobs than a simulation takes.
    #[error(
        "{load} comes to some {jobs:.0} jobs, and a simulation takes {JOBS_MAX}; make it shorter"
    )]
    Long {
        /// The load.
        load: String,
        /// Jobs to expect.
        jobs: f64,
    },
}

/// The load of words.
pub(super) fn load(text: &str) -> Result<Load, LoadError> {
    let parts: Vec<_> = text.split(';').map(part).collect::<Result<_, _>>()?;
    let jobs = parts.iter().map(Part::expected).sum::<f64>();
    if jobs > JOBS_MAX as f64 {
        return Err(LoadError::Long {
            load: text.trim().to_owned(),
            jobs,
        });
    }
    Ok(Load {
        name: text.trim().to_owned(),
        parts,
    })
}

impl Part {
    fn expected(&self) -> f64 {
        let seconds = self.shape.minutes * 60.0;
        let streams = self.shape.streams.iter();
        streams
            .map(|stream| {
                let scale = if stream.elastic { self.scale } else { 1.0 };
                stream.rhythm.expected(seconds, scale)
            })
            .sum()
    }
}

fn part(text: &str) -> Result<Part, LoadError> {
    let (name, settings) = text.split_once(':').unwrap_or((text, ""));
    let name = name.trim();
    let settings = Settings::of(name, settings);
    if name == POISSON {
        return poisson(settings);
    }
    let shapes = Shape::published();
    let Some(shape) = shapes.iter().find(|shape| shape.name == name) else {
        let names: Vec<_> = shapes.iter().map(|shape| &*shape.name).collect();
        return Err(LoadError::Unknown {
            name: name.to_owned(),
            known: names.join(", "),
        });
    };
    let mut part = Part {
        shape: shape.clone(),
        seed: None,
        scale: 1.0,
        busy: None,
    };
    for setting in settings {
        let setting = setting?;
        match &*setting.key {
            "minutes" => part.shape.minutes = setting.above(0.0, MINUTES_MAX)?,
            "busy" => part.busy = Some(setting.above(0.0, 10.0)?),
            "scale" => part.scale = setting.above(0.0, RATE_MAX)?,
            "seed" => part.seed = Some(setting.whole(0, u64::MAX)?),
            _ => return Err(setting.unknown(SHAPE_KEYS)),
        }
    }
    Ok(part)
}

fn poisson(settings: Settings<'_>) -> Result<Part, LoadError> {
    let (mut seed, mut minutes, mut sigma) = (None, 30.0, SIGMA);
    let (mut per_second, mut prompt, mut answer) = (0.1, 400, 250);
    let mut stream = Stream {
        name: POISSON.to_owned(),
        source: "the command line".to_owned(),
        model: "llama-3.1-8b".to_owned(),
        class: Class::default(),
        task: Task::Generate,
        rhythm: Rhythm::Poisson { per_minute: 0.0 },
        prompt: spread(1, 0.0),
        answer: None,
        n: 1,
        owners: 1,
        deadline_s: None,
        leaves_s: None,
        device: None,
        elastic: false,
    };
    for setting in settings {
        let setting = setting?;
        let tokens = |setting: &Setting| setting.whole(1, TOKENS_MAX);
        match &*setting.key {
            "rate" => per_second = setting.above(0.0, RATE_MAX)?,
            "minutes" => minutes = setting.above(0.0, MINUTES_MAX)?,
            "seed" => seed = Some(setting.whole(0, u64::MAX)?),
            "model" => stream.model = setting.name()?,
            "device" => stream.device = Some(setting.name()?),
            "class" => {
                stream.class = setting
                    .value
                    .parse()
                    .map_err(|error| setting.wrong(error))?
            }
            "prompt" => prompt = tokens(&setting)?,
            "answer" => answer = tokens(&setting)?,
            "sigma" => sigma = setting.from(0.0, 3.0)?,
            "n" => stream.n = setting.whole(1, ANSWERS_MAX)?,
            "owners" => stream.owners = setting.whole(1, 100_000)?,
            "deadline" => stream.deadline_s = Some(setting.above(0.0, 1e6)?),
            "leaves" => stream.leaves_s = Some(setting.above(0.0, 1e6)?),
            "kind" => {
                stream.task = match &*setting.value {
                    "generate" => Task::Generate,
                    "embed" => Task::Embed,
                    _ => return Err(setting.wrong("it has to be generate or embed")),
                }
            }
            _ => return Err(setting.unknown(POISSON_KEYS)),
        }
    }
    stream.rhythm = Rhythm::Poisson {
        per_minute: per_second * 60.0,
    };
    stream.prompt = spread(prompt, sigma);
    stream.answer = (stream.task == Task::Generate).then(|| spread(answer, sigma));
    Ok(Part {
        shape: Shape {
            name: POISSON.to_owned(),
            about: "jobs at any moment alike".to_owned(),
            minutes,
            streams: vec![stream],
        },
        seed,
        scale: 1.0,
        busy: None,
    })
}

fn spread(median: u32, sigma: f64) -> Lengths {
    let median = f64::from(median);
    Lengths {
        median,
        sigma,
        max: (median * LONGEST).min(f64::from(TOKENS_MAX)) as u32,
    }
}

/// `key=value,key=value`.
struct Settings<'t> {
    load: &'t str,
    rest: &'t str,
}

impl<'t> Settings<'t> {
    fn of(load: &'t str, text: &'t str) -> Self {
        Self {
            load,
            rest: text.trim(),
        }
    }
}

impl Iterator for Settings<'_> {
    type Item = Result<Setting, LoadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let (one, rest) = self.rest.split_once(',').unwrap_or((self.rest, ""));
        self.rest = rest.trim();
        let (key, value) = one.split_once('=').unwrap_or((one, ""));
        let setting = Setting {
            load: self.load.to_owned(),
            key: key.trim().to_owned(),
            value: value.trim().to_owned(),
        };
        Some(match setting.value.is_empty() {
            true => Err(setting.wrong("write key=value")),
            false => Ok(setting),
        })
    }
}

struct Setting {
    load: String,
    key: String,
    value: String,
}

impl Setting {
    fn wrong(&self, why: impl ToString) -> LoadError {
        LoadError::Value {
            key: self.key.clone(),
            value: self.value.clone(),
            why: why.to_string(),
        }
    }

    fn unknown(self, known: &'static str) -> LoadError {
        LoadError::Key {
            load: self.load,
            key: self.key,
            known,
        }
    }

    fn name(&self) -> Result<String, LoadError> {
        Ok(self.value.clone())
    }

    /// A number above `least`.
    fn above(&self, least: f64, most: f64) -> Result<f64, LoadError> {
        let value = self.value.parse().ok();
        let value = value.filter(|&value: &f64| value > least && value <= most);
        value.ok_or_else(|| {
            self.wrong(format_args!(
                "it has to be a number above {least}, at most {most}"
            ))
        })
    }

    /// A number from `least`.
    fn from(&self, least: f64, most: f64) -> Result<f64, LoadError> {
        let value = self.value.parse().ok();
        let value = value.filter(|value| (least..=most).contains(value));
        value
            .ok_or_else(|| self.wrong(format_args!("it has to be a number from {least} to {most}")))
    }

    fn whole<T>(&self, least: T, most: T) -> Result<T, LoadError>
    where
        T: FromStr + PartialOrd + std::fmt::Display,
    {
        let value = self.value.parse().ok();
        let value = value.filter(|value| (&least..=&most).contains(&value));
        value.ok_or_else(|| {
            self.wrong(format_args!(
                "it has to be a whole number from {least} to {most}"
            ))
        })
    }
}
