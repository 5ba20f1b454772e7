//! What makes a model of a file: the settings that were given to it.

use serde::{Deserialize, Serialize};
use troika_base::ExtraSampling;

use crate::{Digest, Error};

/// A model's settings over those of its file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Manifest {
    /// What it is made of. To [`Library::create`](crate::Library::create): a model's name, or the digest of an uploaded
    /// file as `sha256:...`. In an [`Entry`](crate::Entry): the name of a file in the library, that of a model inside the
    /// program, or a digest, and never another created model.
    pub from: String,
    /// LoRA adapters over it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub adapters: Vec<Lora>,
    /// The system message of conversations that have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// A chat template in place of the file's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// Turns that stand before every conversation, after the system message.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub messages: Vec<Turn>,
    /// The licence, as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    /// Defaults for its jobs.
    pub parameters: Parameters,
}

/// A LoRA adapter over a model, and how much of it is wanted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lora {
    /// The digest of an uploaded GGUF file, as `sha256:...`.
    pub from: String,
    /// Multiplies it: 1 as it was trained, 0 nothing of it.
    pub scale: f32,
}

/// A turn of a conversation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// `user`, `assistant`, ...
    pub role: String,
    /// What is said.
    pub content: String,
}

/// Defaults of a model's jobs. What is absent is the engine's default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "as in the engine's `SamplingParams`")]
pub struct Parameters {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_k: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_p: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeat_penalty: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeat_last_n: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub presence_penalty: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frequency_penalty: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    #[serde(flatten)]
    pub extra: ExtraSampling,
    /// Tokens of an answer at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<usize>,
    /// Tokens of context.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n_ctx: Option<usize>,
    /// Strings that end an answer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<String>,
}

/// Strings that end an answer, at most: each is looked for at every token.
const STOP_MAX: usize = 32;

/// Adapters of a model at most: all of them are read at each load.
const ADAPTERS_MAX: usize = 32;

impl Manifest {
    /// These settings, and where they say nothing those of `base`. What it is made of is `base`'s too, and its adapters are
    /// over those of `base`.
    pub(crate) fn over(self, base: &Self) -> Self {
        Self {
            from: base.from.clone(),
            adapters: [&base.adapters[..], &self.adapters].concat(),
            system: self.system.or_else(|| base.system.clone()),
            template: self.template.or_else(|| base.template.clone()),
            messages: given(self.messages, &base.messages),
            license: self.license.or_else(|| base.license.clone()),
            parameters: self.parameters.over(&base.parameters),
        }
    }

    /// Whether it can be kept. The ranges of numbers are the engine's business.
    ///
    /// # Errors
    /// [`Error::BadSetting`], or [`Error::BadDigest`] of an adapter.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let bad = |reason: &str| {
            Err(Error::BadSetting {
                field: "adapters",
                reason: reason.to_owned(),
            })
        };
        if self.adapters.len() > ADAPTERS_MAX {
            return bad("must be 32 at most");
        }
        for adapter in &self.adapters {
            adapter.from.parse::<Digest>()?;
            if !adapter.scale.is_finite() {
                return bad("a scale must be a finite number");
            }
        }
        self.parameters.check()
    }

    /// Whether the uploaded file with this digest is part of it.
    pub(crate) fn is_made_of(&self, from: &str) -> bool {
        self.from == from || self.adapters.iter().any(|adapter| adapter.from == from)
    }

    /// The uploaded files that are part of it.
    pub(crate) fn uploads(&self) -> impl Iterator<Item = Digest> {
        let adapters = self.adapters.iter().map(|adapter| &adapter.from);
        let all = std::iter::once(&self.from).chain(adapters);
        all.filter_map(|from| from.parse().ok())
    }
}

impl Parameters {
    fn over(self, base: &Self) -> Self {
        Self {
            temperature: self.temperature.or(base.temperature),
            top_k: self.top_k.or(base.top_k),
            top_p: self.top_p.or(base.top_p),
            min_p: self.min_p.or(base.min_p),
            repeat_penalty: self.repeat_penalty.or(base.repeat_penalty),
            repeat_last_n: self.repeat_last_n.or(base.repeat_last_n),
            presence_penalty: self.presence_penalty.or(base.presence_penalty),
            frequency_penalty: self.frequency_penalty.or(base.frequency_penalty),
            seed: self.seed.or(base.seed),
            extra: self.extra.over(&base.extra),
            max_tokens: self.max_tokens.or(base.max_tokens),
            n_ctx: self.n_ctx.or(base.n_ctx),
            stop: given(self.stop, &base.stop),
        }
    }

    fn check(&self) -> Result<(), Error> {
        let bad = |field, reason: &str| {
            Err(Error::BadSetting {
                field,
                reason: reason.to_owned(),
            })
        };
        for (field, value) in [
            ("temperature", self.temperature),
            ("top_p", self.top_p),
            ("min_p", self.min_p),
            ("repeat_penalty", self.repeat_penalty),
            ("presence_penalty", self.presence_penalty),
            ("frequency_penalty", self.frequency_penalty),
        ] {
            // JSON has no word for them.
            if value.is_some_and(|value| !value.is_finite()) {
                return bad(field, "must be a finite number");
            }
        }
        if self.n_ctx == Some(0) {
            return bad("n_ctx", "must be at least 1");
        }
        if self.stop.len() > STOP_MAX || self.stop.iter().any(String::is_empty) {
            return bad("stop", "must be 32 strings at most, none of them empty");
        }
        Ok(())
    }
}

fn given<T: Clone>(list: Vec<T>, base: &[T]) -> Vec<T> {
    if list.is_empty() {
        return base.to_vec();
    }
    list
}
