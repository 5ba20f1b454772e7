//! `troika segment`: people without what is behind them.

mod stream;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use image::{DynamicImage, RgbImage};
use serde::Serialize;
use troika_media::card::Kind;
use troika_media::vision::background::{Background, Colour, Composer};
use troika_media::vision::{Model, Smoother, matte, picture};

use crate::always_on::{self, Running, Wanted};
use crate::args::bounded;
use crate::exit::{Interrupted, WrongUse};
use crate::home::Home;
use crate::interrupt::Interrupt;
use crate::output::{self, Console};
use crate::progress::{Progress, Unit};
use crate::seeing::{self, Took, UseArgs};

use stream::FrameSize;

/// Blur or replace the background of a picture, of many, or of a camera's frames
///
/// The frames of a directory are taken in the order of their names, and belong together: masks do not flicker. From stdin
/// come bare frames of 24 bits a pixel, red, green and blue, row by row without gaps (ffmpeg's `rgb24`), and go to stdout as
/// the same; with --background remove as `rgba`, with --mask-only as `gray`.
#[derive(Debug, clap::Args)]
pub(crate) struct SegmentArgs {
    /// A picture (JPEG, PNG, WebP), a directory of them, or `-` for frames on stdin
    #[arg(value_name = "INPUT")]
    input: PathBuf,
    /// Where to: a file (.png, .jpg, .webp), for a directory another one, for frames a file or `-` for stdout
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    /// Model: an ONNX file, or the name of one in models/onnx [default: selfie_segmentation*.onnx there]
    #[arg(short, long, value_name = "MODEL")]
    model: Option<PathBuf>,
    /// What becomes of the background: blur, remove, a colour (#1e90ff, green, ...) or a picture's file
    #[arg(long, value_name = "WHAT", default_value = "blur")]
    background: String,
    /// How much it is blurred, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 50, value_parser = percent)]
    strength: usize,
    /// Write the matte alone: white where the foreground is
    #[arg(long, conflicts_with_all = ["background", "strength"])]
    mask_only: bool,
    /// Width and height of the frames on stdin, as 1280x720
    #[arg(long, value_name = "WxH")]
    size: Option<FrameSize>,
    #[command(flatten)]
    uses: UseArgs,
}

fn percent(text: &str) -> Result<usize, String> {
    bounded(text, 1, 100)
}

const WANTED: Wanted = Wanted {
    what: "segmentation",
    start: "selfie_segmentation",
    advice: "MediaPipe's has the Apache-2.0 licence: \
             `mediapipe/modules/selfie_segmentation/selfie_segmentation_landscape.onnx` in the repository \
             google-ai-edge/mediapipe",
};

/// Endings of pictures in a directory.
const ENDINGS: [&str; 4] = ["png", "jpg", "jpeg", "webp"];

pub(crate) fn run(args: &SegmentArgs, console: &Console) -> anyhow::Result<()> {
    let is_stream = args.input == Path::new("-");
    if is_stream != args.size.is_some() {
        let advice = match is_stream {
            true => "frames on stdin have no size of their own; say --size, as 1280x720",
            false => "--size is for frames on stdin; a picture's file has its own",
        };
        return Err(WrongUse(advice.to_owned()).into());
    }
    let jobs = match is_stream {
        true => Vec::new(),
        false => args.jobs()?,
    };
    let composer = args.composer()?;
    let path = always_on::model(args.model.as_deref(), &Home::from_env()?, &WANTED)?;
    let (model, running) = args.uses.open(&path, Kind::Segment, console)?;
    let mut worker = Worker {
        model,
        running,
        smoother: Smoother::default(),
        composer,
        pictures: 0,
        foreground: 0.0,
    };
    let interrupt = Interrupt::install()?;
    match args.size {
        Some(size) => stream::run(size, &args.output, console, &mut |image| {
            let out = worker.work(image)?;
            Ok((out, !interrupt.is_set()))
        })?,
        None => work_through(&jobs, &mut worker, console, &interrupt)?,
    }
    worker.tell(console)?;
    match interrupt.is_set() {
        true => Err(Interrupted.into()),
        false => Ok(()),
    }
}

fn work_through(
    jobs: &[(PathBuf, PathBuf)],
    worker: &mut Worker,
    console: &Console,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    let mut bar = Progress::new(console, "segmenting", Unit::Pictures);
    for (done, (from, to)) in (0..).zip(jobs) {
        if interrupt.is_set() {
            break;
        }
        bar.update(done, jobs.len() as u64);
        let image = seeing::open(from)?;
        let out = worker
            .work(&image)
            .with_context(|| format!("cannot segment {}", from.display()))?;
        picture::save(&out, to).context("cannot write a picture")?;
    }
    bar.clear();
    Ok(())
}

impl SegmentArgs {
    /// What is written: a picture with another background, or the matte (`None`).
    fn composer(&self) -> anyhow::Result<Option<Composer>> {
        if self.mask_only {
            return Ok(None);
        }
        let background = match &*self.background {
            "blur" => Background::Blur(self.strength as f64 / 100.0),
            "remove" => Background::Remove,
            other => match other.parse() {
                Ok(Colour(colour)) => Background::Colour(colour),
                Err(_) if Path::new(other).is_file() => {
                    Background::Picture(seeing::open(Path::new(other))?)
                }
                Err(reason) => {
                    return Err(WrongUse(format!(
                        "--background: {reason}, blur, remove, or name a picture's file"
                    ))
                    .into());
                }
            },
        };
        Ok(Some(Composer::new(background)))
    }

    /// Whether what is written may be transparent.
    fn has_alpha(&self) -> bool {
        !self.mask_only && self.background == "remove"
    }

    /// Which picture goes where.
    fn jobs(&self) -> anyhow::Result<Vec<(PathBuf, PathBuf)>> {
        seeing::not_over_itself(&self.input, &self.output)?;
        if !self.input.is_dir() {
            picture::format(&self.output, self.has_alpha())
                .map_err(|error| WrongUse(error.to_string()))?;
            return Ok(vec![(self.input.clone(), self.output.clone())]);
        }
        let listed = std::fs::read_dir(&self.input)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .with_context(|| format!("cannot list {}", self.input.display()))?;
        let mut files: Vec<_> = listed.iter().map(std::fs::DirEntry::path).collect();
        files.retain(|file| ending(file).is_some_and(|ending| ENDINGS.contains(&&*ending)));
        files.sort();
        if files.is_empty() {
            bail!(
                "{} has no pictures: no file in it ends in .{}",
                self.input.display(),
                ENDINGS.join(", .")
            );
        }
        std::fs::create_dir_all(&self.output)
            .with_context(|| format!("cannot make the directory {}", self.output.display()))?;
        let jobs = files.into_iter().map(|file| {
            let mut target = self.output.join(file.file_name().unwrap_or_default());
            // JPEG has no transparent parts, and would smear a mask.
            let is_jpeg = ending(&file).is_some_and(|ending| ending.starts_with('j'));
            if is_jpeg && (self.mask_only || self.has_alpha()) {
                target.set_extension("png");
            }
            (file, target)
        });
        Ok(jobs.collect())
    }
}

fn ending(file: &Path) -> Option<String> {
    Some(file.extension()?.to_str()?.to_ascii_lowercase())
}

/// Turns pictures into what was asked for.
struct Worker {
    model: Model,
    running: Running,
    smoother: Smoother,
    /// `None` for the matte alone.
    composer: Option<Composer>,
    pictures: usize,
    /// Sum over all pictures.
    foreground: f64,
}

impl Worker {
    fn work(&mut self, image: &RgbImage) -> anyhow::Result<DynamicImage> {
        let out = self.running.timed(|| {
            let mask = self.smoother.smooth(self.model.segment(image)?);
            let matte = matte::matte(&mask, image);
            self.foreground += f64::from(mask.coverage());
            Ok::<_, anyhow::Error>(match &mut self.composer {
                Some(composer) => composer.compose(image, &matte),
                None => DynamicImage::ImageLuma8(matte),
            })
        })?;
        self.pictures += 1;
        Ok(out)
    }

    fn tell(self, console: &Console) -> anyhow::Result<()> {
        let pictures = self.pictures.max(1) as f64;
        let done = Done {
            foreground: self.foreground / pictures,
            took: Took::new(self.pictures, self.running),
        };
        if console.json {
            return output::json(&done);
        }
        done.took.note(console);
        Ok(())
    }
}

/// What `--json` prints.
#[derive(Serialize)]
struct Done {
    /// Part of the pictures that is foreground, 0 to 1, on average.
    foreground: f64,
    #[serde(flatten)]
    took: Took,
}
