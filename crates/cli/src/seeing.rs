//! What the verbs on pictures share: a model with its card, pictures by name, and what the work took.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use image::RgbImage;
use serde::Serialize;
use troika_media::card::{Card, Kind};
use troika_media::vision::{Model, picture};

use crate::always_on::{PlaceArgs, Ran, Running};
use crate::exit::WrongUse;
use crate::output::{Console, number};

/// How a model is used, and where.
#[derive(Debug, clap::Args)]
pub(crate) struct UseArgs {
    /// Card: a TOML file that says how the model is fed and read [default: the one beside the model, or the one built in]
    #[arg(long, value_name = "CARD")]
    card: Option<PathBuf>,
    #[command(flatten)]
    place: PlaceArgs,
}

impl UseArgs {
    /// Opens a model for a job.
    ///
    /// # Errors
    /// If it does not open, has no card, or one that does not fit or is for another job.
    pub(crate) fn open(
        &self,
        path: &Path,
        kind: Kind,
        console: &Console,
    ) -> anyhow::Result<(Model, Running)> {
        let executor = self.place.open(path, console)?;
        let card = match &self.card {
            Some(card) => Card::open(card)?,
            None => Card::of_model(path, executor.inputs(), executor.outputs())?,
        };
        console.detail(format_args!("card: {}", card.origin));
        let running = Running::start(&*executor);
        let model = Model::open(executor, card)?;
        model.is_for(kind)?;
        Ok((model, running))
    }
}

/// Reads a picture.
pub(crate) fn open(path: &Path) -> anyhow::Result<RgbImage> {
    picture::open(path).context("cannot read a picture")
}

/// What the work on pictures took.
#[derive(Debug, Serialize)]
pub(crate) struct Took {
    pub(crate) pictures: usize,
    per_second: f64,
    #[serde(flatten)]
    ran: Ran,
}

impl Took {
    pub(crate) fn new(pictures: usize, running: Running) -> Self {
        let ran = running.finish();
        Self {
            pictures,
            per_second: pictures as f64 / ran.seconds.max(1e-9),
            ran,
        }
    }

    /// Tells people.
    pub(crate) fn note(&self, console: &Console) {
        console.note(format_args!(
            "{} picture{} in {} s, {} a second · {}",
            self.pictures,
            if self.pictures == 1 { "" } else { "s" },
            number(self.ran.seconds),
            number(self.per_second),
            self.ran
        ));
    }
}

/// Refuses to write over what is read.
///
/// # Errors
/// [`WrongUse`] if both are the same file or directory.
pub(crate) fn not_over_itself(input: &Path, output: &Path) -> Result<(), WrongUse> {
    match (input.canonicalize(), output.canonicalize()) {
        (Ok(input), Ok(output)) if input == output => Err(WrongUse(format!(
            "-o {}: that would write over what is read; name another",
            output.display()
        ))),
        _ => Ok(()),
    }
}
