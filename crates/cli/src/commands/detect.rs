//! `troika detect`: what is where in pictures.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use serde::Serialize;
use troika_media::card::Kind;
use troika_media::vision::{Detection, draw, picture};

use crate::always_on::{self, Wanted};
use crate::exit::{Interrupted, WrongUse};
use crate::home::Home;
use crate::interrupt::Interrupt;
use crate::output::{self, Align, Console};
use crate::progress::{Progress, Unit};
use crate::seeing::{self, Took, UseArgs};

/// Find things in pictures, by a model for ONNX and its card
///
/// Printed is a line for each: score, left, top, right and bottom in pixels, and what it is. The card says how the model
/// writes its boxes: `docs/formats/card.md`.
#[derive(Debug, clap::Args)]
pub(crate) struct DetectArgs {
    /// Pictures: JPEG, PNG or WebP
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<PathBuf>,
    /// Model: an ONNX file, or the name of one in models/onnx
    #[arg(short, long, value_name = "MODEL")]
    model: PathBuf,
    /// Draw the boxes into copies of the pictures: a file, or a directory for several
    #[arg(short, long, value_name = "OUT")]
    output: Option<PathBuf>,
    #[command(flatten)]
    uses: UseArgs,
}

const WANTED: Wanted = Wanted {
    what: "things in pictures",
    start: "",
    advice: "",
};

/// What `--json` prints.
#[derive(Serialize)]
struct Detected {
    results: Vec<Seen>,
    #[serde(flatten)]
    took: Took,
}

/// A picture, and what is in it.
#[derive(Serialize)]
struct Seen {
    file: PathBuf,
    width: u32,
    height: u32,
    detections: Vec<Detection>,
}

pub(crate) fn run(args: &DetectArgs, console: &Console) -> anyhow::Result<()> {
    let targets = args.targets()?;
    let path = always_on::model(Some(&args.model), &Home::from_env()?, &WANTED)?;
    let (mut model, mut running) = args.uses.open(&path, Kind::Detect, console)?;
    let interrupt = Interrupt::install()?;
    let mut bar = Progress::new(console, "detecting", Unit::Pictures);
    let mut results = Vec::new();
    for (index, file) in args.images.iter().enumerate() {
        bar.update(index as u64, args.images.len() as u64);
        let mut image = seeing::open(file)?;
        let detections = running
            .timed(|| model.detect(&image))
            .with_context(|| format!("cannot detect anything in {}", file.display()))?;
        if !console.json {
            bar.aside(|| output::answer(lines(file, args.images.len() > 1, &detections)))?;
        }
        let (width, height) = image.dimensions();
        if let Some(target) = targets.get(index) {
            draw::detections(&mut image, &detections);
            picture::save(&image.into(), target).context("cannot write a picture")?;
        }
        results.push(Seen {
            file: file.clone(),
            width,
            height,
            detections,
        });
        if interrupt.is_set() {
            return Err(Interrupted.into());
        }
    }
    bar.clear();
    let took = Took::new(results.len(), running);
    if console.json {
        return output::json(&Detected { results, took });
    }
    took.note(console);
    Ok(())
}

impl DetectArgs {
    /// Where each picture is drawn to; none if they are not drawn.
    fn targets(&self) -> anyhow::Result<Vec<PathBuf>> {
        let Some(output) = &self.output else {
            return Ok(Vec::new());
        };
        let targets = match &*self.images {
            [_] if !output.is_dir() => vec![output.clone()],
            images => {
                std::fs::create_dir_all(output)
                    .with_context(|| format!("cannot make the directory {}", output.display()))?;
                let names = images.iter().map(|image| {
                    let name = image.file_name();
                    let name = name.ok_or_else(|| anyhow!("{} has no name", image.display()))?;
                    Ok(output.join(name))
                });
                names.collect::<anyhow::Result<Vec<_>>>()?
            }
        };
        for (index, (image, target)) in self.images.iter().zip(&targets).enumerate() {
            seeing::not_over_itself(image, target)?;
            picture::format(target, false).map_err(|error| WrongUse(error.to_string()))?;
            if targets[..index].contains(target) {
                return Err(WrongUse(format!(
                    "two pictures would be drawn to {}; take them one by one",
                    target.display()
                ))
                .into());
            }
        }
        Ok(targets)
    }
}

/// A line for each thing, after one with the picture's name if there are several.
fn lines(file: &Path, names: bool, detections: &[Detection]) -> String {
    let rows: Vec<_> = detections
        .iter()
        .map(|detection| {
            let [left, top, right, bottom] = detection.corners.map(|place| format!("{place:.0}"));
            let score = format!("{:.3}", detection.score);
            let name = output::line(&detection.label, usize::MAX);
            [score, left, top, right, bottom, name]
        })
        .collect();
    let align = [
        Align::Right,
        Align::Right,
        Align::Right,
        Align::Right,
        Align::Right,
        Align::Left,
    ];
    let name = match names {
        true => output::line(&file.display().to_string(), usize::MAX) + "\n",
        false => String::new(),
    };
    name + &output::table(align, &rows)
}
