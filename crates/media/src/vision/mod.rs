//! Work on pictures: what is foreground, what is shown, what is where.
//!
//! A [`Model`] is an ONNX model that is ready to run, with its [`Card`]. A picture is read ([`picture`]), becomes the
//! model's input (`input`), and what comes out is read as a [`Mask`], as [`Label`]s or as [`Detection`]s. A mask over a
//! picture makes a matte with soft edges ([`matte`]), and with it the background is blurred or replaced
//! ([`background`]). Which device runs the model is decided where it is opened: `troika_device_npu::exec`.

mod boxes;
mod error;
mod input;
mod mask;
mod model;
mod scores;

pub mod background;
mod blur;
pub mod draw;
pub mod matte;
pub mod picture;

pub use boxes::Detection;
pub use error::Error;
pub use mask::{Mask, Smoother};
pub use model::Model;
pub use scores::Label;

pub use crate::card::Card;
