//! Loads that are made up: streams of jobs with a rhythm and lengths, all by chance and all from a seed.
//!
//! [`Load::parse`] takes the words of a command line: the name of a published shape ([`Shape::published`], the files in
//! `loads/`), a stream of its own (`poisson:rate=0.5,...`), or several with `;` between them. Recorded loads are
//! [`crate::TraceReader`]'s.

mod chance;
mod parse;
mod stream;

#[cfg(test)]
mod tests;

pub use parse::LoadError;
pub use stream::{Lengths, Rhythm, Stream, Task};

use std::collections::BTreeSet;
use std::sync::LazyLock;

use serde::Deserialize;
use troika_scheduler::{Load as Step, ModelFacts, Work};

use crate::Arrival;

/// Jobs of a load, at most: what a simulation holds in memory.
pub const JOBS_MAX: usize = 1_000_000;

/// A load that is published: anyone can simulate the same.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    /// Its name.
    pub name: String,
    /// What it stands for, in a line.
    pub about: String,
    /// How long jobs come.
    pub minutes: f64,
    /// Its streams.
    #[serde(rename = "stream")]
    pub streams: Vec<Stream>,
}

/// The texts of the published shapes.
const FILES: [&str; 3] = [
    include_str!("../loads/office-day.toml"),
    include_str!("../loads/coding-agent.toml"),
    include_str!("../loads/burst-50.toml"),
];

impl Shape {
    /// The shapes that are built in.
    pub fn published() -> &'static [Self] {
        static SHAPES: LazyLock<Vec<Shape>> = LazyLock::new(|| {
            let shape =
                |text| toml::from_str(text).expect("a built-in shape is sound. This is a bug.");
            FILES.into_iter().map(shape).collect()
        });
        &SHAPES
    }
}

/// What is to come to a machine.
#[derive(Clone, PartialEq, Debug)]
pub struct Load {
    /// As it was asked for.
    pub name: String,
    parts: Vec<Part>,
}

/// A shape with how much of it.
#[derive(Clone, PartialEq, Debug)]
struct Part {
    shape: Shape,
    /// Its own seed; the simulation's if absent.
    seed: Option<u64>,
    /// What nobody waits for comes this many times as often.
    scale: f64,
    /// How busy the machine is to be; [`Load::fitted`] finds the scale for it.
    busy: Option<f64>,
}

/// Tokens of a prompt in one step, as is usual.
const CHUNK: u32 = 512;

/// Seconds that a job takes where it is done soonest, with nothing beside it and what it shares in a cache. `models` are those that
/// jobs ask by name.
pub fn alone_s(arrival: &Arrival, models: &[ModelFacts]) -> f64 {
    let Some(model) = models.iter().find(|model| model.name == arrival.model) else {
        return 0.0;
    };
    let fresh = arrival.prompt_tokens.saturating_sub(arrival.shared).max(1);
    let seconds = model.forms.values().map(|form| {
        let prompt = form.gait.prefill_s(fresh, CHUNK);
        let token = form.gait.step_s(Step {
            tokens: 1,
            past: arrival.prompt_tokens.into(),
        });
        match arrival.work {
            Work::Write { n, max_tokens } => prompt + f64::from(n) * f64::from(max_tokens) * token,
            Work::Embed => prompt,
            Work::Load => 0.0,
        }
    });
    // Where no device does it, it takes nobody's time.
    seconds.min_by(f64::total_cmp).unwrap_or(0.0)
}

/// Scales that are tried for how busy a machine is to be.
const SCALES: std::ops::RangeInclusive<f64> = 0.01..=1000.0;

impl Load {
    /// The load that words ask for; see [`crate::load`].
    ///
    /// # Errors
    /// If a name, a key or a value is not known or out of range.
    pub fn parse(text: &str) -> Result<Self, LoadError> {
        parse::load(text)
    }

    /// All jobs in the order of their arrival. The same seed gives the same jobs; a stream's do not depend on those beside
    /// it.
    pub fn arrivals(&self, seed: u64) -> Vec<Arrival> {
        let mut all: Vec<_> = self
            .parts
            .iter()
            .flat_map(|part| part.arrivals(seed, |_| true))
            .collect();
        all.sort_by_key(|arrival| arrival.at);
        all.truncate(JOBS_MAX);
        all
    }

    /// The load with as much of what nobody waits for as keeps a machine as busy as was asked for (`busy=0.8`): for that
    /// share of the time, were all jobs done one after the other, each in `seconds` ([`alone_s`] as a rule). Where people alone keep it busier than
    /// that, next to nothing is left of the rest.
    #[must_use]
    pub fn fitted(&self, seed: u64, seconds: impl Fn(&Arrival) -> f64) -> Self {
        let mut load = self.clone();
        for part in &mut load.parts {
            let Some(busy) = part.busy else {
                continue;
            };
            let needs = |elastic| -> f64 {
                let arrivals = part.arrivals(seed, |stream| stream.elastic == elastic);
                arrivals.iter().map(&seconds).sum()
            };
            let (fixed, elastic) = (needs(false), needs(true));
            if elastic > 0.0 {
                let left = busy * part.shape.minutes * 60.0 - fixed;
                part.scale = (left / elastic * part.scale).clamp(*SCALES.start(), *SCALES.end());
            }
        }
        load
    }

    /// How many times as much of what nobody waits for there is as by itself; the first part's where there are several.
    pub fn scale(&self) -> f64 {
        self.parts.first().map_or(1.0, |part| part.scale)
    }

    /// The models that it asks for.
    pub fn models(&self) -> BTreeSet<&str> {
        let streams = self.parts.iter().flat_map(|part| &part.shape.streams);
        streams.map(|stream| &*stream.model).collect()
    }
}

impl Part {
    /// Jobs of the streams that `picks` picks, in no order.
    fn arrivals(&self, seed: u64, picks: impl Fn(&Stream) -> bool) -> Vec<Arrival> {
        let mut all = Vec::new();
        for (number, stream) in (0..).zip(&self.shape.streams) {
            if picks(stream) {
                let scale = if stream.elastic { self.scale } else { 1.0 };
                let mut chance = crate::chance::chance(self.seed.unwrap_or(seed), number);
                stream.arrivals(self.shape.minutes * 60.0, scale, &mut chance, &mut all);
            }
        }
        all
    }
}
