//! API keys: the file they live in, what each may do and how much, and the layer that asks for them.
//!
//! A key is shown once, when it is made; the file holds a slow hash of its secret. Without a file no key is needed.

mod bucket;
mod file;
mod gate;
mod secret;

pub use file::{Key, KeyFile, KeysError, NewKey, Scope};
pub use gate::Keys;
pub(crate) use gate::layer;
