//! What an operator can set, and where each value came from.
//!
//! A value is looked for in the flags, then in `TROIKA_*`, then in the configuration file; [`FIELDS`] is the one list of
//! what there is, from which flags, example file and guide are made. No setting is a secret: keys live in a file of their
//! own.

mod fields;
mod values;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};
use serde::{Deserialize, Serialize};
use troika_base::KvType;
use troika_scheduler::Policy;

use crate::Draft;
use crate::job::KeepAlive;
pub use fields::{FIELDS, Field, example, guide_table};

/// The settings of a server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The address to listen on.
    #[serde(with = "values::host")]
    pub host: IpAddr,
    /// The port; 0 takes a free one.
    pub port: u16,
    /// Where installed models are.
    pub models_dir: PathBuf,
    /// Where ONNX models for always-on work are, with their cards.
    pub onnx_dir: PathBuf,
    /// Memory that all loaded models may take together, in bytes; the backend's choice if absent.
    #[serde(with = "values::bytes_option")]
    pub memory_budget: Option<u64>,
    /// Models that may be loaded at the same time.
    pub max_loaded_models: usize,
    /// Tokens of context, for models that set none themselves; what the model and the memory allow if absent.
    #[serde(rename = "ctx")]
    pub n_ctx: Option<usize>,
    /// How keys and values are kept.
    pub kv_type: KvType,
    /// How long a model stays loaded after its last job.
    #[serde(with = "values::keep_alive")]
    pub keep_alive: KeepAlive,
    /// Whether what models have cached is kept in files, too, while they are away and memory is short.
    pub prefix_files: bool,
    /// Whether models are compiled for the NPUs that there are, and run there.
    pub npu_models: bool,
    /// Whether models run on the GPUs that there are.
    pub gpu_models: bool,
    /// Layers on the GPU of a model that it shares with the CPU; as many as fit if absent.
    #[serde(with = "values::count_or_auto")]
    pub gpu_layers: Option<usize>,
    /// Where guesses at the next tokens of answers come from.
    pub draft: Draft,
    /// Threads that compute; one for each physical core if absent.
    pub threads: Option<usize>,
    /// Answers that each model writes at the same time on a device. Those that are less urgent keep none out: it holds for
    /// each class with those above it.
    pub max_streams: usize,
    /// Jobs that may wait for each model; one more is refused.
    pub queue_length: usize,
    /// What the owner wants of the machine.
    pub policy: Policy,
    /// Memory that is kept free for other programs, in bytes; what fits the machine if absent.
    #[serde(with = "values::bytes_option")]
    pub reserve: Option<u64>,
    /// Energy for a day, in watt-hours.
    #[serde(with = "values::positive_option")]
    pub energy_budget_wh: Option<f64>,
    /// The log of a meter that the whole machine hangs on.
    pub energy_log: Option<PathBuf>,
    /// Where jobs are written down for `troika simulate`: lengths, classes and times.
    pub record: Option<PathBuf>,
    /// The machine of the catalogue that this one poses as.
    #[serde(rename = "virtual")]
    pub virtual_machine: Option<String>,
    /// Bytes of a request's body at most.
    #[serde(with = "values::bytes")]
    pub body_limit: u64,
    /// Time for a request's headers.
    #[serde(with = "values::duration")]
    pub header_timeout: Duration,
    /// Time for a request's body.
    #[serde(with = "values::duration")]
    pub body_timeout: Duration,
    /// Time that a connection may be open without a request.
    #[serde(with = "values::duration")]
    pub idle_timeout: Duration,
    /// Connections at the same time; further ones wait.
    pub max_connections: usize,
    /// Time that running answers have when the server is told to stop.
    #[serde(with = "values::duration")]
    pub drain_timeout: Duration,
    /// Origins whose pages may call: `https://chat.example`, or `*` for all.
    #[serde(with = "values::list")]
    pub cors_origins: Vec<String>,
    /// Names that this server is called by, besides those it knows; `*` for any.
    #[serde(with = "values::list")]
    pub allowed_hosts: Vec<String>,
    /// Where API keys are. No such file, no keys.
    pub keys_file: PathBuf,
    /// Where the owner says what may leave this machine, and where to. No such file, everything stays.
    pub hybrid_file: PathBuf,
    /// Whether everything stays, whatever that file says: it is not read.
    pub offline: bool,
    /// Whether conversations of the page are kept when the server ends.
    pub chats: bool,
    /// Where they are kept.
    pub chats_file: PathBuf,
    /// Listen to the network without keys.
    pub allow_unauthenticated_network: bool,
    /// How the log is written.
    pub log_format: LogFormat,
    /// What is written in the log.
    pub log_level: LogLevel,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What is written in the log: this and what is graver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the levels of every log")]
pub enum LogLevel {
    Off,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl Default for Settings {
    fn default() -> Self {
        Self::at(Path::new(""))
    }
}

impl Settings {
    /// The defaults, with state below `home`.
    pub fn at(home: &Path) -> Self {
        Self {
            host: Ipv4Addr::LOCALHOST.into(),
            port: 11435,
            models_dir: home.join("models"),
            onnx_dir: home.join("models/onnx"),
            memory_budget: None,
            max_loaded_models: 8,
            n_ctx: None,
            keep_alive: KeepAlive::For(Duration::from_secs(300)),
            prefix_files: false,
            npu_models: true,
            gpu_models: true,
            gpu_layers: None,
            kv_type: KvType::F16,
            draft: Draft::Off,
            threads: None,
            max_streams: 64,
            queue_length: 256,
            policy: Policy::default(),
            reserve: None,
            energy_budget_wh: None,
            energy_log: None,
            record: None,
            virtual_machine: None,
            body_limit: 8 << 20,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(300),
            max_connections: 2048,
            drain_timeout: Duration::from_secs(30),
            cors_origins: Vec::new(),
            allowed_hosts: Vec::new(),
            keys_file: home.join("keys.toml"),
            hybrid_file: home.join("hybrid.toml"),
            offline: false,
            chats: true,
            chats_file: home.join("chats.redb"),
            allow_unauthenticated_network: false,
            log_format: LogFormat::Text,
            log_level: LogLevel::Info,
        }
    }

    /// Whether the numbers make sense.
    fn check(&self) -> Result<(), (&'static str, String)> {
        let within = |key, value: u64, min: u64, max: u64| match (min..=max).contains(&value) {
            true => Ok(()),
            false => Err((key, format!("{value} is not from {min} to {max}"))),
        };
        within("max_loaded_models", self.max_loaded_models as u64, 1, 1024)?;
        within("ctx", self.n_ctx.unwrap_or(1) as u64, 1, 1 << 24)?;
        within("max_streams", self.max_streams as u64, 1, 4096)?;
        within("queue_length", self.queue_length as u64, 0, 1 << 16)?;
        within("max_connections", self.max_connections as u64, 1, 1 << 16)?;
        within("body_limit", self.body_limit, 1 << 10, 1 << 30)?;
        within("threads", self.threads.unwrap_or(1) as u64, 1, 1024)?;
        let timeouts = [
            ("header_timeout", self.header_timeout),
            ("body_timeout", self.body_timeout),
            ("idle_timeout", self.idle_timeout),
        ];
        for (key, timeout) in timeouts {
            if timeout.is_zero() {
                return Err((key, "must be longer than nothing".to_owned()));
            }
        }
        if let Some(origin) = self.cors_origins.iter().find(|o| !is_origin(o)) {
            let message = format!("{origin:?} is no origin; write it like https://chat.example");
            return Err(("cors_origins", message));
        }
        let is_name = |host: &String| !host.is_empty() && !host.contains(['/', ':', ' ']);
        match self.allowed_hosts.iter().find(|host| !is_name(host)) {
            Some(host) => {
                let message = format!("{host:?} is no name; write it without scheme and port");
                Err(("allowed_hosts", message))
            }
            None => Ok(()),
        }
    }
}

/// Whether it is `*` or what a browser sends as `Origin`: a scheme, a host, and nothing behind.
fn is_origin(text: &str) -> bool {
    text == "*"
        || text.split_once("://").is_some_and(|(scheme, host)| {
            !scheme.is_empty()
                && !host.is_empty()
                && !host.contains(['/', '*'])
                && axum::http::HeaderValue::from_str(text).is_ok()
        })
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// The configuration file.
    File(PathBuf),
    /// This variable of the environment.
    Env(String),
    /// This flag.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Env(name) | Self::Flag(name) => f.write_str(name),
        }
    }
}

/// Settings, and where each came from.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The settings.
    pub settings: Settings,
    /// As many as [`FIELDS`], in their order.
    pub origins: Vec<Origin>,
}

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{} is not TOML: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and why.
        message: String,
    },
    /// The file sets what there is not.
    #[error("{}: there is no setting `{key}`{}", path.display(), hint(.nearest))]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// What it sets.
        key: String,
        /// What it may mean.
        nearest: Option<&'static str>,
    },
    /// The file of the record cannot be written.
    #[error("cannot record jobs in {}", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A value is none.
    #[error("{key} (from {origin}): {message}")]
    Value {
        /// The setting.
        key: String,
        /// Where the value came from.
        origin: Origin,
        /// What is wrong with it.
        message: String,
    },
}

fn hint(nearest: &Option<&'static str>) -> String {
    match nearest {
        Some(key) => format!("; did you mean `{key}`?"),
        None => "; `troika config` lists them".to_owned(),
    }
}

/// Where settings are looked for.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The directory of state.
    pub home: PathBuf,
    /// A file that must be there; otherwise `config.toml` in `home`, if it is there.
    pub file: Option<PathBuf>,
    /// The environment: names and values. Names that are no settings are somebody else's.
    pub env: Vec<(String, String)>,
    /// Flags: keys of [`FIELDS`] and values.
    pub flags: Vec<(String, String)>,
}

impl Sources {
    /// Puts the settings together.
    ///
    /// # Errors
    /// If the file is unreadable or sets what there is not, or a value makes no sense.
    pub fn resolve(&self) -> Result<Resolved, SettingsError> {
        let defaults = Settings::at(&self.home);
        let path = self
            .file
            .clone()
            .unwrap_or_else(|| self.home.join("config.toml"));
        // An empty variable is how scripts and containers say nothing.
        let env = self.env.iter().filter(|(_, value)| !value.is_empty());
        let env = env.filter_map(|(name, value)| {
            let field = FIELDS.iter().find(|field| field.env() == *name)?;
            Some((field.key.to_owned(), text_value(value)))
        });
        let flags = self.flags.iter();
        let flags = flags.map(|(key, value)| (key.clone(), text_value(value)));
        let figment = Figment::new()
            .merge(Layer::new(DEFAULT, dict(&defaults)))
            .merge(Layer::new(FILE, self.read(&path)?))
            .merge(Layer::new(ENV, env.collect()))
            .merge(Layer::new(FLAG, flags.collect()));

        let origin = |key: &str| {
            let field = FIELDS.iter().find(|field| field.key == key);
            let layer = figment.find_metadata(key).map(|found| &*found.name);
            match (layer, field) {
                (Some(FILE), _) => Origin::File(path.clone()),
                (Some(ENV), Some(field)) => Origin::Env(field.env()),
                (Some(FLAG), Some(field)) => Origin::Flag(format!("--{}", field.flag())),
                _ => Origin::Default,
            }
        };
        let wrong = |key: &str, message: String| SettingsError::Value {
            key: key.to_owned(),
            origin: origin(key),
            message,
        };
        let settings: Settings = figment.extract().map_err(|error| {
            let key = error.path.first().map_or("settings", |key| &**key);
            wrong(key, error.kind.to_string())
        })?;
        settings
            .check()
            .map_err(|(key, message)| wrong(key, message))?;
        let origins = FIELDS.iter().map(|field| origin(field.key)).collect();
        Ok(Resolved { settings, origins })
    }

    /// What the file sets.
    fn read(&self, path: &Path) -> Result<Dict, SettingsError> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if self.file.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Dict::new());
            }
            Err(source) => {
                let path = path.to_owned();
                return Err(SettingsError::Unreadable { path, source });
            }
        };
        let table: toml::Table = toml::from_str(&text).map_err(|error| SettingsError::Syntax {
            path: path.to_owned(),
            message: error.to_string().trim_end().to_owned(),
        })?;
        let unknown = table
            .keys()
            .find(|key| FIELDS.iter().all(|f| f.key != **key));
        match unknown {
            Some(key) => Err(SettingsError::UnknownKey {
                path: path.to_owned(),
                key: key.clone(),
                nearest: fields::nearest(key),
            }),
            None => Ok(dict(&table)),
        }
    }
}

const DEFAULT: &str = "default";
const FILE: &str = "file";
const ENV: &str = "env";
const FLAG: &str = "flag";

/// One source's values.
struct Layer {
    name: &'static str,
    values: Dict,
}

impl Layer {
    fn new(name: &'static str, values: Dict) -> Self {
        Self { name, values }
    }
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name)
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.values.clone()))
    }
}

/// The values of something that has keys.
fn dict(values: &impl Serialize) -> Dict {
    match Value::serialize(values) {
        Ok(Value::Dict(_, dict)) => dict,
        _ => unreachable!("settings and TOML tables have keys"),
    }
}

/// A value that came as text: a number, `true`, `false`, or itself.
fn text_value(text: &str) -> Value {
    let number = text.parse::<i64>().map(Value::from);
    let truth = text.parse::<bool>().map(Value::from);
    number.or(truth).unwrap_or_else(|_| Value::from(text))
}

#[cfg(test)]
mod tests;
