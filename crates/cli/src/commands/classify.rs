//! `troika classify`: what pictures show.

use std::path::PathBuf;

use anyhow::Context as _;
use serde::Serialize;
use troika_media::card::Kind;
use troika_media::vision::Label;

use crate::always_on::{self, Wanted};
use crate::args::bounded;
use crate::exit::Interrupted;
use crate::home::Home;
use crate::interrupt::Interrupt;
use crate::output::{self, Console};
use crate::progress::{Progress, Unit};
use crate::seeing::{self, Took, UseArgs};

/// Tell what pictures show, by a model for ONNX
///
/// Printed are the likeliest classes and their scores. A card says how the model is fed and what its classes are called;
/// models of handwritten digits (MNIST) that are around need none.
#[derive(Debug, clap::Args)]
pub(crate) struct ClassifyArgs {
    /// Pictures: JPEG, PNG or WebP
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<PathBuf>,
    /// Model: an ONNX file, or the name of one in models/onnx
    #[arg(short, long, value_name = "MODEL")]
    model: PathBuf,
    /// Print the N likeliest classes
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = class_count)]
    top: usize,
    #[command(flatten)]
    uses: UseArgs,
}

fn class_count(text: &str) -> Result<usize, String> {
    bounded(text, 1, 100_000)
}

const WANTED: Wanted = Wanted {
    what: "classes of pictures",
    start: "",
    advice: "",
};

/// What `--json` prints.
#[derive(Serialize)]
struct Classified {
    results: Vec<Shown>,
    #[serde(flatten)]
    took: Took,
}

/// A picture, and what it shows.
#[derive(Serialize)]
struct Shown {
    file: PathBuf,
    labels: Vec<Label>,
}

pub(crate) fn run(args: &ClassifyArgs, console: &Console) -> anyhow::Result<()> {
    let path = always_on::model(Some(&args.model), &Home::from_env()?, &WANTED)?;
    let (mut model, mut running) = args.uses.open(&path, Kind::Classify, console)?;
    let interrupt = Interrupt::install()?;
    let mut bar = Progress::new(console, "classifying", Unit::Pictures);
    let mut results = Vec::new();
    for (done, file) in (0..).zip(&args.images) {
        bar.update(done, args.images.len() as u64);
        let image = seeing::open(file)?;
        let mut labels = running
            .timed(|| model.classify(&image))
            .with_context(|| format!("cannot classify {}", file.display()))?;
        labels.truncate(args.top);
        if !console.json {
            bar.aside(|| output::answer(lines(file, args.images.len() > 1, &labels)))?;
        }
        results.push(Shown {
            file: file.clone(),
            labels,
        });
        if interrupt.is_set() {
            return Err(Interrupted.into());
        }
    }
    bar.clear();
    let took = Took::new(results.len(), running);
    if console.json {
        return output::json(&Classified { results, took });
    }
    took.note(console);
    Ok(())
}

/// A line for each label, after one with the picture's name if there are several.
fn lines(file: &std::path::Path, names: bool, labels: &[Label]) -> String {
    let mut out = String::new();
    if names {
        out = output::line(&file.display().to_string(), usize::MAX) + "\n";
    }
    for label in labels {
        let name = output::line(&label.label, usize::MAX);
        out.push_str(&format!("{:>7.3}  {name}\n", label.score));
    }
    out
}
