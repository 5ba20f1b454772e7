//! ONNX Runtime in this process: its library, the makers' providers for it, and sessions of them.
//!
//! `ort` holds one library for the whole process, and one environment in it. Both stay to its end: whoever asks for a
//! second library is refused, and a provider stays registered under its name.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use ort::device::Device;
use ort::environment::Environment;
use ort::logging::LogLevel;
use ort::memory::DeviceType;
use ort::session::Session;
use ort::session::builder::SessionBuilder;

use crate::found::Library;
use crate::{Absent, Error};

const NAME: &str = "ONNX Runtime";
/// The first version with the interface that Cargo.toml asks `ort` for.
const AT_LEAST: &str = "1.24";

/// ONNX Runtime, loaded. Clones are of the same.
#[derive(Clone)]
pub struct Runtime(&'static Loaded);

struct Loaded {
    path: PathBuf,
    library: String,
    environment: Environment,
    /// Libraries of the providers by the names that they are registered under.
    providers: Mutex<BTreeMap<String, PathBuf>>,
}

/// What computes within ONNX Runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Provider {
    /// Its own kernels.
    Cpu,
    /// A maker's, from a library of its own. Nothing of a model falls back to the CPU.
    Plugin(Plugin),
}

/// A maker's provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plugin {
    /// What it is registered under: `qnn`.
    pub name: String,
    /// Whose NPUs it drives: `Qualcomm`.
    pub maker: String,
    /// The file.
    pub library: PathBuf,
    /// Whether what it has in place of an NPU will do: Qualcomm's simulates one on x86-64. For tests.
    pub simulator: bool,
    /// What the maker documents, by its names.
    pub options: Vec<(String, String)>,
}

impl Plugin {
    /// Qualcomm's for this machine's NPU, from this library; those that it needs lie beside it.
    pub fn qualcomm(library: &Library) -> Self {
        let processor = match cfg!(windows) {
            true => "QnnHtp.dll",
            false => "libQnnHtp.so",
        };
        let processor = library.path.with_file_name(processor);
        Self {
            name: "QNNExecutionProvider".to_owned(),
            maker: "Qualcomm".to_owned(),
            library: library.path.clone(),
            simulator: false,
            options: vec![("backend_path".to_owned(), processor.display().to_string())],
        }
    }

    /// AMD's. An experiment: nobody has run it.
    pub fn amd(library: &Library) -> Self {
        Self {
            name: "VitisAIExecutionProvider".to_owned(),
            maker: "AMD".to_owned(),
            library: library.path.clone(),
            simulator: false,
            options: Vec::new(),
        }
    }
}

/// How a session runs a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setup {
    /// What computes.
    pub provider: Provider,
    /// Threads on the CPU; as many as its cores if not given.
    pub threads: Option<NonZero<usize>>,
    /// Entries of the session's configuration, by ONNX Runtime's names.
    pub entries: Vec<(String, String)>,
}

impl Setup {
    /// What a provider does by itself.
    pub fn new(provider: Provider) -> Self {
        Self {
            provider,
            threads: None,
            entries: Vec::new(),
        }
    }
}

impl Runtime {
    /// Loads the library in this file, of this version as far as it is known, or finds it loaded.
    ///
    /// # Errors
    /// [`Error::Absent`] if it does not load, is too old, or is not the one that this process has loaded.
    pub fn load(path: &Path, version: Option<&str>) -> Result<Self, Error> {
        static LOADED: OnceLock<Loaded> = OnceLock::new();
        static LOADING: Mutex<()> = Mutex::new(());
        // A panic while loading leaves nothing half done: what is loaded stands in LOADED.
        let _one_at_a_time = LOADING.lock().unwrap_or_else(PoisonError::into_inner);
        let path = path
            .canonicalize()
            .map_err(|error| broken(path, error.to_string()))?;
        if let Some(loaded) = LOADED.get() {
            return match loaded.path == path {
                true => Ok(Self(loaded)),
                false => {
                    let has = loaded.path.display();
                    let why = format!("this process has loaded {has}, and can hold but one");
                    Err(broken(&path, why).into())
                }
            };
        }
        let environment = environment(&path)?;
        let library = version.map_or(NAME.to_owned(), |version| format!("{NAME} {version}"));
        Ok(Self(LOADED.get_or_init(|| Loaded {
            path,
            library,
            environment,
            providers: Mutex::default(),
        })))
    }

    /// `ONNX Runtime 1.31.1`
    pub fn library(&self) -> &'static str {
        &self.0.library
    }

    /// A model as a session.
    pub(super) fn session(&self, model: &Path, setup: &Setup) -> Result<Session, Error> {
        let builder = self.builder(setup)?;
        let mut builder = setup
            .entries
            .iter()
            .try_fold(builder, |builder, (key, value)| {
                let entered = builder.with_config_entry(key, value);
                entered.map_err(|error| self.failed(key, &error))
            })?;
        builder.commit_from_file(model).map_err(|error| {
            let doing = format!("opening {}", model.display());
            self.failed(doing, &error)
        })
    }

    fn builder(&self, setup: &Setup) -> Result<SessionBuilder, Error> {
        let doing = "setting up a session";
        let failed = |error: ort::Error<SessionBuilder>| self.failed(doing, &error);
        let builder = Session::builder(&self.0.environment);
        let mut builder = builder
            .map_err(|error| self.failed(doing, &error))?
            // A thread that waits by turning burns what a job that is always on is to save.
            .with_intra_op_spinning(false)
            .map_err(failed)?;
        if let Some(threads) = setup.threads {
            builder = builder.with_intra_threads(threads.get()).map_err(failed)?;
        }
        match &setup.provider {
            // Named, too: with a plugin in the process, a session that names nothing is given to it.
            Provider::Cpu => builder
                .with_devices(self.devices("CPUExecutionProvider"), None)
                .map_err(failed),
            Provider::Plugin(plugin) => {
                self.register(plugin)?;
                let device = self.device(plugin)?;
                let its = |(key, value): &(String, String)| {
                    (format!("{}.{key}", plugin.name), value.clone())
                };
                let options: Vec<(String, String)> = plugin.options.iter().map(its).collect();
                let builder = builder.with_disable_cpu_fallback().map_err(failed)?;
                let chosen = builder.with_devices([device], Some(&options));
                chosen.map_err(failed)
            }
        }
    }

    fn device(&self, plugin: &Plugin) -> Result<Device<'static>, Absent> {
        let wanted = match plugin.simulator {
            true => DeviceType::CPU,
            false => DeviceType::NPU,
        };
        let mut its = self.devices(&plugin.name);
        let found = its.find(|device| device.hardware_device().ty() == wanted);
        found.ok_or_else(|| Absent::NoDevice {
            maker: plugin.maker.clone(),
        })
    }

    /// What a provider can run on.
    fn devices(&self, provider: &str) -> impl Iterator<Item = Device<'static>> {
        let devices = self.0.environment.devices();
        devices.filter(move |device| device.ep().is_ok_and(|name| name == provider))
    }

    fn register(&self, plugin: &Plugin) -> Result<(), Error> {
        let providers = self.0.providers.lock();
        let mut providers = providers.unwrap_or_else(PoisonError::into_inner);
        let broken = |why| Absent::Broken {
            name: format!("{} at {}", plugin.name, plugin.library.display()),
            why,
        };
        match providers.get(&plugin.name) {
            Some(path) if *path == plugin.library => Ok(()),
            Some(path) => {
                let why = format!("this process has loaded it from {}", path.display());
                Err(broken(why).into())
            }
            None => {
                let (name, library) = (plugin.name.clone(), plugin.library.clone());
                let registered = self.0.environment.register_ep_library(&*name, &library);
                registered.map_err(|error| broken(error.message().to_owned()))?;
                providers.insert(name, library);
                Ok(())
            }
        }
    }

    /// What the library says of a failure.
    pub(super) fn failed<R>(&self, doing: impl Into<String>, error: &ort::Error<R>) -> Error {
        Error::Library {
            library: self.0.library.clone(),
            doing: doing.into(),
            message: error.message().to_owned(),
        }
    }
}

fn environment(path: &Path) -> Result<Environment, Error> {
    let builder = ort::init_from(path).map_err(|error| match error {
        ort::LoadDynamicError::BadVersion { version_str, .. } => Absent::TooOld {
            what: NAME.to_owned(),
            have: version_str,
            want: AT_LEAST.to_owned(),
        },
        other => broken(path, other.to_string()),
    })?;
    let environment = builder
        .with_name("troika")
        .with_telemetry(false)
        .with_logger(Arc::new(log))
        .build()
        .map_err(|error| broken(path, error.message().to_owned()))?;
    environment.set_log_level(LogLevel::Warning);
    Ok(environment)
}

/// What the library has to tell goes where all else goes. Its errors come back as results, too.
fn log(level: LogLevel, _category: &str, _id: &str, place: &str, message: &str) {
    match level {
        LogLevel::Verbose | LogLevel::Info => tracing::trace!(place, "{message}"),
        LogLevel::Warning | LogLevel::Error => tracing::debug!(place, "{message}"),
        LogLevel::Fatal => tracing::error!(place, "{message}"),
    }
}

fn broken(path: &Path, why: String) -> Absent {
    Absent::Broken {
        name: format!("{NAME} at {}", path.display()),
        why,
    }
}
