//! Tokens in, tokens out: a model file becomes a [`Model`] on a device, and a [`Session`] writes text with it.
//!
//! One token's way down: [`Session::decode`] → [`Model::step`] → the device's `Resident::step` → an architecture's
//! forward pass in `model/` over the device's `Ops`. And back up: [`sampler`] → [`tokenizer::Detokenizer`] → [`stop`] →
//! [`Event::Text`].
#![forbid(unsafe_code)]

pub mod chat;
pub mod constraint;
pub mod sampler;
pub mod stop;
pub mod tokenizer;

mod adapter;
mod ahead;
mod comparison;
mod cpu;
mod divergence;
mod draft;
mod embedding;
mod error;
mod experts_in_file;
mod generate;
mod importance;
mod kv_cache;
mod kv_file;
mod kv_image;
mod loaded;
mod model;
mod observed;
mod opened;
mod ops_device;
mod perplexity;
mod prefix_cache;
mod probe;
mod recording;
mod resident;
mod session;
mod wrapped;
mod writer;

pub use adapter::{Adapter, AdapterError, with_adapters};
pub use comparison::{Comparison, Share};
pub use cpu::CpuDevice;
pub use divergence::{CALIBRATION, Divergence, Predictions, Text, divergence};
pub use draft::{
    DRAFT_MAX, DraftModel, Drafter, PromptLookup, Reach, STEP_MAX, likeliest, same_vocabulary,
};
pub use embedding::{Pooler, Pooling, shorten};
pub use error::Error;
pub use experts_in_file::{ExpertBytes, ExpertMemory};
pub use generate::{Event, Finish, GenerateOptions, Summary};
pub use importance::{ColumnSums, Observer};
pub use kv_cache::Sequence;
pub use kv_file::KvError;
pub use kv_image::KvImage;
pub use loaded::{Model, Step};
pub use model::{architectures, model_spec};
pub use opened::Opened;
pub use ops_device::{OpsDevice, load_on};
pub use perplexity::{Perplexity, TextTooShort};
pub use prefix_cache::{PrefixCache, Spilled};
pub use probe::{ProbeError, probe, probe_watched};
pub use recording::{Recorder, Recording, RecordingError};
pub use session::Session;
pub use troika_device::Fingerprint;
pub use writer::{Advance, Writer};
