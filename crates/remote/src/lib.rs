//! Beyond this machine: remote endpoints, the owner's rules of what may go there, and receipts of what went.
//!
//! A job is judged once, by [`Rules::judge`]: it [stays](Private), or it [may leave](Public) for some endpoints.
//! Whatever sends takes a [`Public`], and nothing but the judge makes one; so there is no way from a private prompt to the
//! network, whatever fails, falls back or is tried again. Nothing here opens a socket but `endpoint`, and a server without
//! remotes, or with `--offline`, has none.
#![forbid(unsafe_code)]

pub mod cascade;
pub mod config;
pub mod endpoint;
pub mod privacy;
pub mod receipts;
pub mod redact;
pub mod rules;
pub mod secrets;
mod wire;

pub use config::{Config, ConfigError};
pub use endpoint::{Profile, Remotes, SendError, Tag};
pub use privacy::{Barred, Private, Public};
pub use rules::{Facts, HybridFile, Judged, Leave, Loaded, RemoteIndex, Rules};
