//! What the always-on verbs share: which ONNX model, by what it runs and where, and what that took.

use std::fmt;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, anyhow};
use serde::Serialize;
use troika_device_npu::exec::{self, Executor, Wish};
use troika_machine::meter::{DeviceMeters, EnergyBasis, Metered, Work};
use troika_machine::probe::{self, Root};

use crate::args::thread_count;
use crate::exit::WrongUse;
use crate::home::Home;
use crate::output::{Console, number};

/// Where a model runs, and by what.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Processor")]
pub(crate) struct WayArgs {
    /// Device, and never another than this one [default: the NPU if there is one, else the CPU]
    #[arg(long, value_name = "DEVICE", value_parser = ["any", "npu0", "gpu0", "cpu0"], hide_possible_values = true)]
    pub(crate) device: Option<String>,
    /// Library, and never another than this one: openvino, onnxruntime, or rten, which is inside [default: the first that
    /// is there]
    #[arg(long, value_name = "LIBRARY", value_parser = ["any", "openvino", "onnxruntime", "rten"], hide_possible_values = true)]
    pub(crate) library: Option<String>,
}

impl WayArgs {
    /// What is asked for, with so many threads on a CPU.
    ///
    /// # Errors
    /// If there is no such device or library.
    pub(crate) fn wish(&self, threads: usize) -> anyhow::Result<Wish> {
        let device = self.device.as_deref().unwrap_or("any");
        let library = self.library.as_deref().unwrap_or("any");
        let mut wish = Wish::parse(device, library).map_err(|error| WrongUse(error.to_string()))?;
        wish.threads = Some(NonZero::new(threads).unwrap_or(NonZero::<usize>::MIN));
        Ok(wish)
    }
}

/// Where a small model runs.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Processor")]
pub(crate) struct PlaceArgs {
    #[command(flatten)]
    way: WayArgs,
    /// Threads on a CPU [default: 1, since these models are small]
    #[arg(short, long, value_name = "N", value_parser = thread_count)]
    threads: Option<usize>,
}

impl PlaceArgs {
    /// Opens a model as asked, and says what would have been better if `-v` asks for it.
    ///
    /// # Errors
    /// If it is no model, or cannot run as asked.
    pub(crate) fn open(
        &self,
        model: &Path,
        console: &Console,
    ) -> anyhow::Result<Box<dyn Executor>> {
        let wish = self.way.wish(self.threads.unwrap_or(1))?;
        let opened = exec::open(model, &wish).context("cannot open the model")?;
        for (way, why) in &opened.lost {
            console.detail(format_args!("not by {way}: {why}"));
        }
        Ok(opened.executor)
    }
}

/// A kind of model that a verb can do with, and how somebody comes by one.
pub(crate) struct Wanted {
    /// What it does, as in "a model for voice activity".
    pub(crate) what: &'static str,
    /// How the names of its files begin.
    pub(crate) start: &'static str,
    /// Where there is one.
    pub(crate) advice: &'static str,
}

/// The model's file: the one that is named, or the first one of the kind in the home.
///
/// # Errors
/// If there is none; the message says how to get one.
pub(crate) fn model(given: Option<&Path>, home: &Home, wanted: &Wanted) -> anyhow::Result<PathBuf> {
    let directory = home.models_dir().join("onnx");
    if let Some(given) = given {
        // A bare name may be that of an installed one, with or without its ending.
        let is_bare = given.components().count() == 1;
        let installed = [
            directory.join(given),
            directory.join(given).with_extension("onnx"),
        ];
        let found = installed.into_iter().find(|path| is_bare && path.is_file());
        return match (given.is_file(), found) {
            (false, Some(installed)) => Ok(installed),
            // What is no file is refused when it is opened.
            _ => Ok(given.to_owned()),
        };
    }
    let mut names: Vec<_> = std::fs::read_dir(&directory)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with(wanted.start) && name.ends_with(".onnx"))
        .collect();
    names.sort();
    match names.first() {
        Some(name) => Ok(directory.join(name)),
        None => Err(anyhow!(
            "there is no model for {} in {}: put a file {}*.onnx there, or name one with --model. {}",
            wanted.what,
            directory.display(),
            wanted.start,
            wanted.advice
        )),
    }
}

/// A model that works, and the meters that see it.
pub(crate) struct Running {
    device: String,
    library: String,
    work: Work,
    /// They tell as long as they are there.
    _meters: DeviceMeters,
    seconds: f64,
}

impl Running {
    /// Begins to count what the model's device uses.
    pub(crate) fn start(model: &dyn Executor) -> Self {
        let meters = DeviceMeters::open(&probe::read(&Root::real()), None);
        Self {
            device: model.device().to_owned(),
            library: model.library().to_owned(),
            work: meters.work(&[model.device()]),
            _meters: meters,
            seconds: 0.0,
        }
    }

    /// Counts the time that the model works.
    pub(crate) fn timed<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let started = Instant::now();
        let result = work();
        self.seconds += started.elapsed().as_secs_f64();
        result
    }

    /// What it took.
    pub(crate) fn finish(self) -> Ran {
        let (joules, basis, why) = match self.work.finish() {
            Metered::Known { joules, basis } => (Some(joules.0), Some(basis), None),
            Metered::Absent { why } => (None, None, Some(why.to_string())),
        };
        Ran {
            device: self.device,
            library: self.library,
            seconds: self.seconds,
            joules,
            joules_basis: basis,
            joules_unknown: why,
        }
    }
}

/// By what a model ran, and what that took.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Ran {
    pub(crate) device: String,
    pub(crate) library: String,
    /// While the model worked; waiting for sound is not in it.
    pub(crate) seconds: f64,
    /// Of the whole device, from the first sound to the last. `null` if that is not known.
    joules: Option<f64>,
    joules_basis: Option<EnergyBasis>,
    joules_unknown: Option<String>,
}

impl fmt::Display for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} · {} · ", self.device, self.library)?;
        match (self.joules, self.joules_basis) {
            (Some(joules), Some(EnergyBasis::Counted)) => write!(f, "{} J", number(joules)),
            (Some(joules), _) => write!(f, "{} J, of watts that were looked at", number(joules)),
            (None, _) => write!(f, "joules unknown"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: Wanted = Wanted {
        what: "voice activity",
        start: "silero_vad",
        advice: "It is made by Silero.",
    };

    #[test]
    fn models_are_found_by_name_or_by_kind() {
        let directory = tempfile::tempdir().expect("a directory");
        let home = Home::at(directory.path());
        let refused = model(None, &home, &WANTED).expect_err("there is none");
        let refused = refused.to_string();
        assert!(
            refused.contains("silero_vad*.onnx") && refused.ends_with("made by Silero."),
            "{refused}"
        );

        let onnx = directory.path().join("models/onnx");
        std::fs::create_dir_all(&onnx).expect("a directory");
        for name in [
            "silero_vad_b.onnx",
            "silero_vad_a.onnx",
            "silero_vad.txt",
            "other.onnx",
        ] {
            std::fs::write(onnx.join(name), b"").expect("a file");
        }
        let found = |given: Option<&str>| {
            let found = model(given.map(Path::new), &home, &WANTED).expect("there is one");
            found.strip_prefix(&onnx).unwrap_or(&found).to_owned()
        };
        for (given, want) in [
            (None, "silero_vad_a.onnx"),
            (Some("other"), "other.onnx"),
            (Some("other.onnx"), "other.onnx"),
            (Some("no-such"), "no-such"),
            (Some("some/other.onnx"), "some/other.onnx"),
        ] {
            assert_eq!(found(given), Path::new(want), "{given:?}");
        }
    }

    #[test]
    fn joules_are_told_or_unknown() {
        let mut ran = Ran {
            device: "cpu0".to_owned(),
            library: "rten 0.27".to_owned(),
            seconds: 1.0,
            joules: Some(12.34),
            joules_basis: Some(EnergyBasis::Counted),
            joules_unknown: None,
        };
        assert_eq!(ran.to_string(), "cpu0 · rten 0.27 · 12.3 J");
        ran.joules = None;
        assert_eq!(ran.to_string(), "cpu0 · rten 0.27 · joules unknown");
    }
}
