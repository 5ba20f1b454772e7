//! `troika listen`: when somebody speaks.

mod timeline;

use std::path::PathBuf;

use anyhow::Context as _;
use serde::Serialize;
use troika_media::audio::{Event, Segment, VoiceActivity, VoiceSettings};

use crate::always_on::{self, PlaceArgs, Ran, Running, Wanted};
use crate::args::bounded;
use crate::exit::{Interrupted, WrongUse};
use crate::home::Home;
use crate::interrupt::Interrupt;
use crate::output::{self, Console, number};
use crate::progress::{Progress, Unit};
use crate::sound::{Feed, SoundArgs};

use timeline::Timeline;

/// Tell when somebody speaks in a sound
///
/// Printed is a line for each stretch of speech, as soon as it is over: where it begins and ends, in seconds, and how sure the
/// model is of it, from 0 to 1.
#[derive(Debug, clap::Args)]
pub(crate) struct ListenArgs {
    #[command(flatten)]
    sound: SoundArgs,
    /// Model: an ONNX file, or the name of one in models/onnx [default: silero_vad*.onnx there]
    #[arg(short, long, value_name = "MODEL")]
    model: Option<PathBuf>,
    #[command(flatten)]
    settings: SettingsArgs,
    #[command(flatten)]
    place: PlaceArgs,
}

/// What counts as speech.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Speech")]
struct SettingsArgs {
    /// Speech begins at this probability [default: 0.5]
    #[arg(long, value_name = "P")]
    threshold: Option<f32>,
    /// And ends below this one [default: 0.15 less]
    #[arg(long, value_name = "P")]
    negative_threshold: Option<f32>,
    /// Drop shorter stretches, in milliseconds [default: 250]
    #[arg(long, value_name = "MS", value_parser = milliseconds)]
    min_speech: Option<usize>,
    /// Pass over shorter pauses, in milliseconds [default: 100]
    #[arg(long, value_name = "MS", value_parser = milliseconds)]
    min_silence: Option<usize>,
    /// Widen each stretch at both ends, in milliseconds [default: 30]
    #[arg(long, value_name = "MS", value_parser = milliseconds)]
    padding: Option<usize>,
}

fn milliseconds(text: &str) -> Result<usize, String> {
    bounded(text, 0, 600_000)
}

impl SettingsArgs {
    fn settings(&self) -> Result<VoiceSettings, WrongUse> {
        let default = VoiceSettings::default();
        let or = |given: Option<usize>, default: u32| given.map_or(default, |ms| ms as u32);
        let settings = VoiceSettings {
            threshold: self.threshold.unwrap_or(default.threshold),
            negative_threshold: self.negative_threshold,
            min_speech_ms: or(self.min_speech, default.min_speech_ms),
            min_silence_ms: or(self.min_silence, default.min_silence_ms),
            padding_ms: or(self.padding, default.padding_ms),
        };
        settings
            .check()
            .map_err(|error| WrongUse(error.to_string()))?;
        Ok(settings)
    }
}

const WANTED: Wanted = Wanted {
    what: "voice activity",
    start: "silero_vad",
    advice: "Silero's has the MIT licence: `src/silero_vad/data/silero_vad.onnx` in the repository snakers4/silero-vad, \
             or in the Python package `silero-vad`",
};

pub(crate) fn run(args: &ListenArgs, console: &Console) -> anyhow::Result<()> {
    let settings = args.settings.settings()?;
    let path = always_on::model(args.model.as_deref(), &Home::from_env()?, &WANTED)?;
    let executor = args.place.open(&path, console)?;
    let running = Running::start(&*executor);
    let voice = VoiceActivity::with_settings(executor, &settings)
        .with_context(|| format!("cannot listen with {}", path.display()))?;
    let feed = args.sound.open(VoiceActivity::RATE)?;
    let interrupt = Interrupt::install()?;
    let listener = Listener {
        voice,
        running,
        bar: Progress::new(console, "listening", Unit::Percent),
        timeline: Timeline::default(),
        console,
        segments: 0,
        speech_s: 0.0,
    };
    listener.listen(feed, &interrupt)?;
    match interrupt.is_set() {
        true => Err(Interrupted.into()),
        false => Ok(()),
    }
}

/// Hears, and tells what it hears.
struct Listener<'c> {
    voice: VoiceActivity,
    running: Running,
    bar: Progress,
    timeline: Timeline,
    console: &'c Console,
    segments: usize,
    speech_s: f64,
}

impl Listener<'_> {
    /// Until the sound is over, or the user has heard enough.
    fn listen(mut self, mut feed: Feed, interrupt: &Interrupt) -> anyhow::Result<()> {
        while let Some(block) = feed.next()? {
            let events = self.running.timed(|| self.voice.push(&block))?;
            self.tell(&events)?;
            if let Some(length_s) = feed.length_s() {
                self.bar
                    .update((feed.seconds() * 1e3) as u64, (length_s * 1e3) as u64);
            }
            if interrupt.is_set() {
                break;
            }
        }
        let events = self.running.timed(|| self.voice.finish())?;
        self.tell(&events)?;
        self.bar.clear();
        feed.judge(self.console)?;
        self.sum_up(feed.seconds())
    }

    fn tell(&mut self, events: &[Event]) -> anyhow::Result<()> {
        for event in events {
            match *event {
                Event::Frame { probability, .. } => self.timeline.push(probability),
                Event::Ended(segment) => self.tell_segment(Spoken::from(segment))?,
                _ => {}
            }
        }
        Ok(())
    }

    fn tell_segment(&mut self, spoken: Spoken) -> anyhow::Result<()> {
        self.segments += 1;
        self.speech_s += spoken.end_s - spoken.start_s;
        // The line of a segment and the bar may have the same terminal.
        self.bar.aside(|| match self.console.json {
            true => output::json_line(&spoken),
            false => output::answer(spoken.line()),
        })
    }

    fn sum_up(self, length_s: f64) -> anyhow::Result<()> {
        let ran = self.running.finish();
        let times_real_time = length_s / ran.seconds.max(1e-9);
        let summary = Summary {
            event: "summary",
            segments: self.segments,
            speech_s: self.speech_s,
            length_s,
            times_real_time,
            ran: &ran,
        };
        if self.console.json {
            return output::json_line(&summary);
        }
        if output::stderr_is_terminal() {
            self.console.note(self.timeline.bar());
        }
        self.console.note(format_args!(
            "{} s of speech in {} s · {ran} · {} times real time",
            number(self.speech_s),
            number(length_s),
            number(times_real_time)
        ));
        Ok(())
    }
}

/// A stretch of speech, as it is printed.
#[derive(Serialize)]
struct Spoken {
    event: &'static str,
    start_s: f64,
    end_s: f64,
    probability: f32,
}

impl From<Segment> for Spoken {
    fn from(segment: Segment) -> Self {
        let seconds = |samples: u64| samples as f64 / f64::from(VoiceActivity::RATE);
        Self {
            event: "speech",
            start_s: seconds(segment.start),
            end_s: seconds(segment.end),
            probability: segment.probability,
        }
    }
}

impl Spoken {
    fn line(&self) -> String {
        let Self {
            start_s,
            end_s,
            probability,
            ..
        } = self;
        format!("{start_s:>9.3} {end_s:>9.3}  {probability:.2}\n")
    }
}

/// What `--json` prints at last.
#[derive(Serialize)]
struct Summary<'a> {
    event: &'static str,
    segments: usize,
    speech_s: f64,
    length_s: f64,
    times_real_time: f64,
    #[serde(flatten)]
    ran: &'a Ran,
}
