//! What a model loses by being written as an NPU wants it.

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};
use troika_device::{Cancelled, Device};
use troika_gguf::ModelFile;

use crate::{CompileOptions, CompileProgress, Error};

/// The mean divergence in nats per token above which a compiled model is refused, if nobody says otherwise.
///
/// Published measurements of large models put forms of about two bits at 0.18 (nine of ten likeliest tokens as before) to
/// 0.38, and good forms of four bits below 0.1. Whoever loses 0.2 has paid for four bits and got less than three.
pub const LOSS_MAX: f64 = 0.2;

/// How far a compiled model's predictions are from those of the file, over a calibration text.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Loss {
    /// Mean Kullback-Leibler divergence, nats per token.
    pub kl_mean: f64,
    /// That of the worst token.
    pub kl_max: f64,
    /// Share of tokens after which both find the same token likeliest, 0 to 1.
    pub agreement: f64,
    /// Tokens of the text that were compared.
    pub tokens: usize,
}

/// Who can run a model on the CPU and compare: the engine stands above this crate, so its caller brings it.
pub trait Compare: Sync {
    /// Compares the file's model on the CPU with what `compiled` makes of it.
    ///
    /// # Errors
    /// If one of the two cannot run or gives no numbers, or `progress` breaks.
    fn compare(
        &self,
        file: &ModelFile,
        compiled: &dyn Device,
        options: &CompileOptions,
        progress: &mut dyn FnMut(CompileProgress) -> ControlFlow<Cancelled>,
    ) -> Result<Loss, Error>;
}
