//! What verbs and the server share of NPUs: what is here, the cache, and the process that compiles.

use std::ops::ControlFlow;
use std::path::PathBuf;

use anyhow::Context as _;
use troika_base::Bytes;
use troika_device::{Cancelled, Device, LoadOptions};
use troika_device_npu::compile::{Compare, Loss, Store, Worker};
use troika_device_npu::found::{Environment, Libraries};
use troika_device_npu::{Backends, CompileOptions, CompileProgress, Error, Phase, StandIn};
use troika_engine::{CpuDevice, Opened, Text, model_spec};
use troika_gguf::ModelFile;
use troika_machine::Machine;

use crate::exit::WrongUse;
use crate::home::Home;

/// The variable that lets something stand in for an NPU.
const STAND_IN: &str = "TROIKA_NPU";
/// The variable that limits the cache, in gigabytes.
const CACHE_GB: &str = "TROIKA_NPU_CACHE_GB";
/// Compiled models that are kept, unless the variable says otherwise: some models of the size that NPUs run well.
const CACHE_GB_DEFAULT: f64 = 32.0;

/// The libraries that are here.
pub(crate) fn libraries(home: &Home) -> Libraries {
    Libraries::search(&Environment::here(Some(home.path())))
}

/// What stands in for an NPU, if somebody asks for that.
///
/// # Errors
/// [`WrongUse`] if the variable has a word that means nothing.
pub(crate) fn stand_in() -> Result<Option<StandIn>, WrongUse> {
    match std::env::var(STAND_IN) {
        Ok(word) if !word.is_empty() => word
            .parse()
            .map(Some)
            .map_err(|error| WrongUse(format!("{STAND_IN}: {error}"))),
        _ => Ok(None),
    }
}

/// The ways to run models on NPUs, and beside them. Loads the libraries.
///
/// # Errors
/// As [`stand_in`].
pub(crate) fn backends(home: &Home, machine: &Machine) -> Result<Backends, WrongUse> {
    let stand_in = stand_in()?;
    Ok(troika_device_npu::backends(
        &libraries(home),
        machine,
        stand_in,
    ))
}

/// The cache of compiled models.
///
/// # Errors
/// [`WrongUse`] if the variable that limits it is no number.
pub(crate) fn store(home: &Home) -> Result<Store, WrongUse> {
    let limit_gb = match std::env::var(CACHE_GB) {
        Ok(text) if !text.is_empty() => {
            let number = text.parse().ok();
            number
                .filter(|limit: &f64| limit.is_finite() && *limit >= 0.0)
                .ok_or_else(|| {
                    WrongUse(format!("{CACHE_GB}: {text:?} is no number of gigabytes"))
                })?
        }
        _ => CACHE_GB_DEFAULT,
    };
    Ok(Store::new(
        home.path().join("npu").join("compiled"),
        Bytes((limit_gb * 1e9) as u64),
    ))
}

/// The process that compiles: this program again.
///
/// # Errors
/// If the system does not tell where it is.
pub(crate) fn worker() -> anyhow::Result<Worker> {
    Ok(Worker {
        program: std::env::current_exe().context("this program does not know where it is")?,
        args: ["npu", "worker"].map(Into::into).to_vec(),
        ..Worker::default()
    })
}

/// Compares models by the engine: what this process has of the CPU against what was compiled.
pub(crate) struct ByEngine;

impl Compare for ByEngine {
    fn compare(
        &self,
        file: &ModelFile,
        compiled: &dyn Device,
        options: &CompileOptions,
        progress: &mut dyn FnMut(CompileProgress) -> ControlFlow<Cancelled>,
    ) -> Result<Loss, Error> {
        let failed = |error| from_engine(error, file, compiled);
        let cpu = CpuDevice::new(CpuDevice::default_threads()).map_err(|error| Error::Invalid {
            what: "the CPU".to_owned(),
            reason: error.to_string(),
        })?;
        let text = text_for(file).map_err(failed)?.first(options.n_ctx);
        let load = |device: &dyn Device, n_ctx| {
            device.load(file, LoadOptions::new(n_ctx), &mut |_| {
                ControlFlow::Continue(())
            })
        };
        let mut other = load(compiled, options.n_ctx)?;
        let mut reference = load(&cpu, text.len())?;
        let mut cancelled = false;
        let mut tell = |done: usize, total: usize| {
            let flow = progress(CompileProgress {
                phase: Phase::Compare,
                done: done as u64,
                total: total as u64,
            });
            cancelled |= flow.is_break() && done < total;
            flow.map_break(|Cancelled| ())
        };
        let found = troika_engine::divergence(&mut *reference, &mut *other, &text, &mut tell);
        let found = found.map_err(failed)?;
        match cancelled {
            true => Err(Error::Cancelled),
            false => Ok(Loss {
                kl_mean: found.kl_mean,
                kl_max: found.kl_max,
                agreement: found.agreement,
                tokens: found.tokens,
            }),
        }
    }
}

/// What a model is compared on: words, if it has any. The model of the known question has none.
fn text_for(file: &ModelFile) -> Result<Text, troika_engine::Error> {
    if file.metadata().str("tokenizer.ggml.model").is_err() {
        return Ok(Text::without_words(model_spec(file)?.n_vocab));
    }
    Ok(Text::calibration(Opened::new(file)?.tokenizer()))
}

/// What the engine says, in the NPU's words.
fn from_engine(error: troika_engine::Error, file: &ModelFile, compiled: &dyn Device) -> Error {
    match error {
        troika_engine::Error::Device(error) => Error::Device(error),
        troika_engine::Error::NoNumbers => Error::Library {
            library: compiled.description(),
            doing: "running the compiled model".to_owned(),
            message: "its scores are no numbers".to_owned(),
        },
        other => Error::Invalid {
            what: file.name().to_owned(),
            reason: other.to_string(),
        },
    }
}

/// Where `troika npu setup` puts libraries, unless told otherwise.
pub(crate) fn setup_dir(home: &Home) -> PathBuf {
    home.path().join("npu")
}
