//! What a file says of its model, checked: shape, rotary embedding, and that its tensors are those of its architecture.
//!
//! For whoever brings a model to a device: the engine, which writes architectures over [`Ops`](crate::Ops), and devices
//! that take a model whole.

mod keys;
mod rope;
mod tensors;

pub use keys::Keys;
pub use rope::{longrope, rope, rope_unscaled};
pub use tensors::{Tensors, scale_name};
