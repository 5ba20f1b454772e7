//! The list of settings: one place for their names and what they mean.

use std::fmt::Write as _;

use super::Settings;

/// A setting, as it is shown to people.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its name in the configuration file.
    pub key: &'static str,
    /// What stands for its value in help: `TIME`, `SIZE`, ...
    pub value: &'static str,
    /// One line.
    pub help: &'static str,
    /// The group it belongs to.
    pub group: &'static str,
}

impl Field {
    /// The flag, without its dashes.
    pub fn flag(&self) -> String {
        self.key.replace('_', "-")
    }

    /// The variable.
    pub fn env(&self) -> String {
        format!("TROIKA_{}", self.key.to_ascii_uppercase())
    }

    /// The value of these settings, as it would be written; empty if there is none.
    pub fn text(&self, settings: &Settings) -> String {
        match self.json(settings) {
            serde_json::Value::Null => String::new(),
            serde_json::Value::String(text) => text,
            serde_json::Value::Array(items) => {
                let items = items.iter().filter_map(|item| item.as_str());
                items.collect::<Vec<_>>().join(",")
            }
            other => other.to_string(),
        }
    }

    /// The value of these settings.
    pub fn json(&self, settings: &Settings) -> serde_json::Value {
        let mut all = serde_json::to_value(settings).expect("settings are plain values");
        all[self.key].take()
    }
}

/// Every setting, in the order in which they are shown.
pub const FIELDS: &[Field] = &[
    field(
        "host",
        "ADDRESS",
        "Address",
        "Address to listen on; 0.0.0.0 is every network of this machine",
    ),
    field(
        "port",
        "N",
        "Address",
        "Port to listen on; 0 takes a free one",
    ),
    field("models_dir", "DIR", "Models", "Where installed models are"),
    field(
        "onnx_dir",
        "DIR",
        "Models",
        "Where ONNX models for always-on work are, with their cards",
    ),
    field(
        "memory_budget",
        "SIZE",
        "Models",
        "Memory that loaded models may take together; what is free if not set",
    ),
    field(
        "max_loaded_models",
        "N",
        "Models",
        "Models that may be loaded at the same time",
    ),
    field(
        "ctx",
        "TOKENS",
        "Models",
        "Context of models that set none; what the model and the memory allow if not set",
    ),
    field(
        "keep_alive",
        "TIME",
        "Models",
        "How long a model stays loaded after its last job, or `forever`",
    ),
    field(
        "prefix_files",
        "BOOL",
        "Models",
        "Keep what models have cached while they are away in files, too, in `cache/kv`, where memory is short",
    ),
    field(
        "npu_models",
        "BOOL",
        "Models",
        "Compile models for the NPUs that there are, in the background, and run them there",
    ),
    field(
        "gpu_models",
        "BOOL",
        "Models",
        "Run models on the GPUs that there are",
    ),
    field(
        "gpu_layers",
        "N|auto",
        "Models",
        "Layers on the GPU of a model that the GPU and the CPU share because it does not fit the GPU; as many as fit",
    ),
    field(
        "kv_type",
        "TYPE",
        "Models",
        "How contexts are kept in memory: f16, q8_0 for about half of it, q4_0 for about a quarter; a device that keeps f16 alone gets no model then",
    ),
    field(
        "draft",
        "HOW",
        "Models",
        "Guess tokens ahead, and compute them with the one before: `ngram` guesses what followed where the text stood before, the name of a smaller model what that would say; MODEL=SMALLER guesses for one model alone",
    ),
    field(
        "threads",
        "N",
        "Models",
        "Threads that compute; one for each physical core if not set",
    ),
    field(
        "policy",
        "POLICY",
        "Scheduling",
        "What placements are to be good at: `fastest`, `frugal`, `balanced`, `cool`, `battery`, or a name of ONNX Runtime's",
    ),
    field(
        "reserve",
        "SIZE",
        "Scheduling",
        "Memory that is kept free for other programs; 1 GiB or a sixteenth of all, whichever is more, if not set",
    ),
    field(
        "energy_budget_wh",
        "WH",
        "Scheduling",
        "Watt-hours for a day; when they are spent, work that nobody waits for waits for the next",
    ),
    field(
        "energy_log",
        "FILE",
        "Scheduling",
        "Table that the program of a smart plug writes: the power of the whole machine",
    ),
    field(
        "record",
        "FILE",
        "Scheduling",
        "Write down each job's lengths, class and times for `troika simulate`; no word of prompts or answers",
    ),
    field(
        "virtual",
        "MACHINE",
        "Scheduling",
        "Pose as a machine of the catalogue: answers are computed here and paced as there",
    ),
    field(
        "max_streams",
        "N",
        "Limits",
        "Answers that each model writes at the same time on a device; a more urgent one comes on top",
    ),
    field(
        "queue_length",
        "N",
        "Limits",
        "Jobs that may wait for each model; one more is refused with 429",
    ),
    field(
        "body_limit",
        "SIZE",
        "Limits",
        "Length of a request's body at most",
    ),
    field(
        "header_timeout",
        "TIME",
        "Limits",
        "Time for a request's headers to come",
    ),
    field(
        "body_timeout",
        "TIME",
        "Limits",
        "Time for a request's body to come",
    ),
    field(
        "idle_timeout",
        "TIME",
        "Limits",
        "How long a connection may be open without a request",
    ),
    field(
        "max_connections",
        "N",
        "Limits",
        "Connections at the same time; further ones wait",
    ),
    field(
        "drain_timeout",
        "TIME",
        "Limits",
        "Time that running answers have when the server is told to stop",
    ),
    field(
        "cors_origins",
        "LIST",
        "Access",
        "Origins whose pages may call, such as https://chat.example; `*` for all",
    ),
    field(
        "allowed_hosts",
        "LIST",
        "Access",
        "Names the server is called by besides its own, such as ai.example; `*` for any",
    ),
    field(
        "keys_file",
        "FILE",
        "Access",
        "Where API keys are; without the file no key is needed",
    ),
    field(
        "allow_unauthenticated_network",
        "BOOL",
        "Access",
        "Listen on other addresses than this machine's own without keys",
    ),
    field(
        "hybrid_file",
        "FILE",
        "Beyond this machine",
        "Which remote endpoints there are, and by which rules what goes there; without the file nothing leaves",
    ),
    field(
        "offline",
        "BOOL",
        "Beyond this machine",
        "Let nothing leave, whatever that file says: it is not read; and pull no models",
    ),
    field(
        "chats",
        "BOOL",
        "Conversations",
        "Keep the page's conversations; otherwise they last as long as the server",
    ),
    field(
        "chats_file",
        "FILE",
        "Conversations",
        "Where they are kept, as they were written: whoever can read the file can read them",
    ),
    field("log_format", "FORMAT", "Log", "`text` or `json`"),
    field(
        "log_level",
        "LEVEL",
        "Log",
        "`off`, `error`, `warn`, `info`, `debug` or `trace`; prompts are never logged",
    ),
];

const fn field(
    key: &'static str,
    value: &'static str,
    group: &'static str,
    help: &'static str,
) -> Field {
    Field {
        key,
        value,
        help,
        group,
    }
}

/// The setting that an unknown key may mean.
pub(super) fn nearest(key: &str) -> Option<&'static str> {
    // A key of a file may be as long as the file; what is that long is no typing error.
    let key = (key.len() <= 64).then(|| key.to_ascii_lowercase().replace('-', "_"))?;
    FIELDS
        .iter()
        .map(|field| (strsim::jaro_winkler(&key, field.key), field.key))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, key)| key)
}

/// A configuration file that sets nothing: every setting, its meaning, and its default behind a `#`.
pub fn example(settings: &Settings) -> String {
    let mut out = String::from(
        "# Settings of `troika serve`. Variables (TROIKA_PORT) and flags (--port) go before.\n",
    );
    let mut group = "";
    for field in FIELDS {
        if field.group != group {
            group = field.group;
            let _ = write!(out, "\n# {group}\n");
        }
        let value = match field.json(settings) {
            serde_json::Value::Null => format!("<{}>", field.value),
            value => value.to_string(),
        };
        let _ = write!(out, "\n# {}.\n# {} = {value}\n", field.help, field.key);
    }
    out
}

/// The table of settings for the guide, in Markdown.
pub fn guide_table() -> String {
    let mut out = String::from("| setting | default | meaning |\n|---|---|---|\n");
    let home = Settings::at(std::path::Path::new("$TROIKA_HOME"));
    for field in FIELDS {
        let default = match field.text(&home) {
            text if text.is_empty() => String::new(),
            text => format!("`{text}`"),
        };
        let _ = writeln!(out, "| `{}` | {default} | {} |", field.key, field.help);
    }
    out
}
