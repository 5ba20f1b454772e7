//! How many bits a model's weights take: formats and the recipes that mix them.

/// A named way to store a model's weights: `Q4_K_M`, `Q8_0`, `F16`, `MXFP4`, `AWQ-4bit`.
#[derive(Clone, PartialEq, Debug)]
pub struct Quantization {
    /// As people write it.
    pub name: String,
}
