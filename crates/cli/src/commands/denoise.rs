//! `troika denoise`: speech without the noise around it.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Serialize;
use troika_media::audio::{self, Denoiser, WavWriter};

use crate::always_on::{self, PlaceArgs, Ran, Running, Wanted};
use crate::exit::{Interrupted, WrongUse};
use crate::home::Home;
use crate::interrupt::Interrupt;
use crate::output::{self, Console, number};
use crate::progress::{Progress, Unit};
use crate::sound::{Feed, SoundArgs};

/// Take the noise out of a sound, and leave the speech
///
/// What comes out has one channel and 16000 samples a second, whatever went in. Into a file it goes as WAV; to stdout as bare
/// 16-bit numbers, little-endian, as it comes.
#[derive(Debug, clap::Args)]
pub(crate) struct DenoiseArgs {
    #[command(flatten)]
    sound: SoundArgs,
    /// Where the speech goes: a WAV file, or `-` for stdout
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    /// Model: an ONNX file, or the name of one in models/onnx [default: gtcrn*.onnx there]
    #[arg(short, long, value_name = "MODEL")]
    model: Option<PathBuf>,
    #[command(flatten)]
    place: PlaceArgs,
}

const WANTED: Wanted = Wanted {
    what: "noise suppression",
    start: "gtcrn",
    advice: "GTCRN's has the MIT licence: `stream/onnx_models/gtcrn_simple.onnx` in the repository Xiaobin-Rong/gtcrn",
};

pub(crate) fn run(args: &DenoiseArgs, console: &Console) -> anyhow::Result<()> {
    let is_stdout = args.output == Path::new("-");
    if is_stdout && io::stdout().is_terminal() {
        let advice = "stdout is a terminal, and sound is nothing to read: pipe it on, or name a file with -o";
        return Err(WrongUse(advice.to_owned()).into());
    }
    if is_stdout && console.json {
        let advice = "--json and the sound cannot both go to stdout: name a file with -o";
        return Err(WrongUse(advice.to_owned()).into());
    }
    let path = always_on::model(args.model.as_deref(), &Home::from_env()?, &WANTED)?;
    let executor = args.place.open(&path, console)?;
    let mut running = Running::start(&*executor);
    let mut denoiser = Denoiser::new(executor)
        .with_context(|| format!("cannot denoise with {}", path.display()))?;
    let mut feed = args.sound.open(Denoiser::RATE)?;
    let latency_s = feed.latency_s() + Denoiser::LATENCY as f64 / f64::from(Denoiser::RATE);
    let interrupt = Interrupt::install()?;
    let mut sink = Sink::open(&args.output)?;

    let mut bar = Progress::new(console, "denoising", Unit::Percent);
    while let Some(block) = feed.next()? {
        sink.write(&running.timed(|| denoiser.push(&block))?)?;
        show(&mut bar, &feed);
        if interrupt.is_set() {
            break;
        }
    }
    sink.write(&running.timed(|| denoiser.finish())?)?;
    bar.clear();
    feed.judge(console)?;
    sink.finish()?;
    tell(feed.seconds(), latency_s, &running.finish(), console)?;
    match interrupt.is_set() {
        // What was written is whole, as far as it goes.
        true => Err(Interrupted.into()),
        false => Ok(()),
    }
}

fn show(bar: &mut Progress, feed: &Feed) {
    if let Some(length_s) = feed.length_s() {
        bar.update((feed.seconds() * 1e3) as u64, (length_s * 1e3) as u64);
    }
}

fn tell(length_s: f64, latency_s: f64, ran: &Ran, console: &Console) -> anyhow::Result<()> {
    let times_real_time = length_s / ran.seconds.max(1e-9);
    if console.json {
        return output::json_line(&Summary {
            length_s,
            times_real_time,
            latency_s,
            ran,
        });
    }
    console.note(format_args!(
        "{} s of sound · {ran} · {} times real time · {:.0} ms behind",
        number(length_s),
        number(times_real_time),
        latency_s * 1e3
    ));
    Ok(())
}

/// What `--json` prints.
#[derive(Serialize)]
struct Summary<'a> {
    length_s: f64,
    times_real_time: f64,
    /// For so long a sample is held back at most; what the machine needs to compute comes on top.
    latency_s: f64,
    #[serde(flatten)]
    ran: &'a Ran,
}

/// Where the speech goes.
enum Sink {
    Stdout,
    File(Box<Partial>),
}

/// A file under a temporary name beside its own, which it gets when it is whole.
struct Partial {
    path: PathBuf,
    /// None where the file is a device, which has no name to give.
    partial: Option<PathBuf>,
    writer: Option<WavWriter<BufWriter<File>>>,
}

impl Sink {
    fn open(path: &Path) -> anyhow::Result<Self> {
        if path == Path::new("-") {
            return Ok(Self::Stdout);
        }
        let what = path.display().to_string();
        let is_device = std::fs::metadata(path).is_ok_and(|there| !there.is_file());
        let partial = (!is_device).then(|| {
            let mut partial = path.as_os_str().to_owned();
            partial.push(".partial");
            PathBuf::from(partial)
        });
        let file = File::create(partial.as_deref().unwrap_or(path));
        let file = file.with_context(|| format!("cannot write {what}"))?;
        let mut begun = Box::new(Partial {
            path: path.to_owned(),
            partial,
            writer: None,
        });
        begun.writer = Some(WavWriter::new(&what, BufWriter::new(file), Denoiser::RATE)?);
        Ok(Self::File(begun))
    }

    fn write(&mut self, samples: &[f32]) -> anyhow::Result<()> {
        match self {
            Self::Stdout => {
                let mut out = io::stdout().lock();
                let written = audio::write_pcm(&mut out, samples).and_then(|()| out.flush());
                written.context("cannot write the sound")
            }
            Self::File(file) => match &mut file.writer {
                Some(writer) => Ok(writer.write(samples)?),
                None => Ok(()),
            },
        }
    }

    fn finish(self) -> anyhow::Result<()> {
        let Self::File(mut file) = self else {
            return Ok(());
        };
        if let Some(writer) = file.writer.take() {
            writer.finish()?;
        }
        if let Some(partial) = &file.partial {
            let renamed = std::fs::rename(partial, &file.path);
            renamed.with_context(|| format!("cannot write {}", file.path.display()))?;
        }
        file.partial = None;
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        self.writer = None;
        if let Some(partial) = &self.partial {
            // Half a file is of no use; that it could not be finished is what counts.
            let _ = std::fs::remove_file(partial);
        }
    }
}
