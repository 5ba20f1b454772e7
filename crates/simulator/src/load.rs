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
}

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
        let mut all = Vec::new();
        for part in &self.parts {
            for (number, stream) in (0..).zip(&part.shape.streams) {
                let scale = if stream.elastic { part.scale } else { 1.0 };
                let mut dice = crate::chance::chance(part.seed.unwrap_or(seed), number);
                stream.arrivals(part.shape.minutes * 60.0, scale, &mut dice, &mut all);
            }
        }
        all.sort_by_key(|arrival| arrival.at);
        all.truncate(JOBS_MAX);
        all
    }

    /// The models that it asks for.
    pub fn models(&self) -> BTreeSet<&str> {
        let streams = self.parts.iter().flat_map(|part| &part.shape.streams);
        streams.map(|stream| &*stream.model).collect()
    }
}
