//! Sound from files and stdin, as a model wants it.

use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use troika_media::audio::{CHANNELS_MAX, RATES, Reader, Resampler};

use crate::args::bounded;
use crate::exit::WrongUse;
use crate::output::Console;

/// What is listened to.
#[derive(Debug, clap::Args)]
pub(crate) struct SoundArgs {
    /// Sound: a WAV, FLAC, MP3 or Ogg Vorbis file; `-` reads one from stdin, as it comes
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The sound has no header: it is 16-bit numbers, little-endian, so many a second
    #[arg(long, value_name = "HZ", value_parser = rate)]
    rate: Option<u32>,
    /// With --rate: so many numbers stand beside each other [default: 1]
    #[arg(long, value_name = "N", value_parser = channels, requires = "rate")]
    channels: Option<usize>,
}

fn rate(text: &str) -> Result<u32, String> {
    let (low, high) = (*RATES.start() as usize, *RATES.end() as usize);
    bounded(text, low, high).map(|rate| rate as u32)
}

fn channels(text: &str) -> Result<usize, String> {
    bounded(text, 1, CHANNELS_MAX)
}

/// Sound that comes block by block, at a model's rate.
pub(crate) struct Feed {
    reader: Reader,
    resampler: Resampler,
    /// Samples that came, at the model's rate.
    samples: u64,
    rate: u32,
    is_over: bool,
}

impl SoundArgs {
    /// Whether it comes from stdin.
    pub(crate) fn is_stdin(&self) -> bool {
        self.file == Path::new("-")
    }

    /// Opens it, to be heard at a rate in Hz.
    ///
    /// # Errors
    /// If it cannot be read or is no sound.
    pub(crate) fn open(&self, rate: u32) -> anyhow::Result<Feed> {
        let reader = self.reader()?;
        let resampler = Resampler::new(reader.rate(), rate)?;
        Ok(Feed {
            reader,
            resampler,
            samples: 0,
            rate,
            is_over: false,
        })
    }

    fn reader(&self) -> anyhow::Result<Reader> {
        let channels = self.channels.unwrap_or(1);
        let what = self.file.display().to_string();
        let opened = match (self.is_stdin(), self.rate) {
            (true, _) if io::stdin().is_terminal() => {
                let advice = "stdin is a terminal: pipe sound into it, such as from `arecord -f S16_LE -r 16000 -t wav`";
                return Err(WrongUse(advice.to_owned()).into());
            }
            (true, Some(rate)) => Reader::pcm("stdin", io::stdin(), rate, channels),
            (true, None) => Reader::stream("stdin", io::stdin()),
            (false, Some(rate)) => {
                let file = std::fs::File::open(&self.file);
                let file = file.with_context(|| format!("cannot read {what}"))?;
                Reader::pcm(&what, file, rate, channels)
            }
            (false, None) => Reader::open(&self.file),
        };
        Ok(opened?)
    }
}

impl Feed {
    /// The next samples; `None` at the end.
    pub(crate) fn next(&mut self) -> anyhow::Result<Option<Vec<f32>>> {
        if self.is_over {
            return Ok(None);
        }
        let block = match self.reader.next_block()? {
            Some(block) => self.resampler.push(block),
            None => {
                self.is_over = true;
                self.resampler.finish()
            }
        };
        self.samples += block.len() as u64;
        Ok(Some(block))
    }

    /// Seconds that came so far.
    pub(crate) fn seconds(&self) -> f64 {
        self.samples as f64 / f64::from(self.rate)
    }

    /// Seconds that are to come in all, if the header tells.
    pub(crate) fn length_s(&self) -> Option<f64> {
        let length = self.reader.length()?;
        Some(length as f64 / f64::from(self.reader.rate()))
    }

    /// Seconds for which a sample is held back before a model gets it.
    pub(crate) fn latency_s(&self) -> f64 {
        self.resampler.latency_s()
    }

    /// Says what is the matter with the sound, at its end.
    ///
    /// # Errors
    /// If none came.
    pub(crate) fn judge(&self, console: &Console) -> anyhow::Result<()> {
        if self.samples == 0 {
            return Err(anyhow::anyhow!(
                "there is no sound: not a single sample came"
            ));
        }
        match self.reader.lost_packets() {
            0 => {}
            1 => console.note("the file is damaged: one piece of it could not be decoded"),
            lost => console.note(format_args!(
                "the file is damaged: {lost} pieces of it could not be decoded"
            )),
        }
        Ok(())
    }
}
