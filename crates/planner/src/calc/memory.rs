//! What a model takes of memory, from a few figures: parameters, bits, and the shape of its cache.
//!
//! Exact arithmetic on what is given. A model that is at hand or in the catalogue is sized tensor by tensor by
//! [`crate::cost`]; this is for one of which only the data sheet is known.

use serde::Serialize;

/// A model as its data sheet describes it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Described {
    /// All parameters; a mixture of experts holds all of them.
    pub params: f64,
    /// Bits for each on average, scales included: 4.5 for `Q4_0`.
    pub weight_bits: f64,
    /// What a token leaves in the cache: layers · key-value heads · head size. Absent where the shape is not known.
    pub kv_values_per_token: Option<CacheShape>,
}

/// What decides the size of a cache in which every layer keeps every token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CacheShape {
    /// Layers.
    pub n_layer: u32,
    /// Key/value heads.
    pub n_head_kv: u32,
    /// Values per head.
    pub head_dim: u32,
}

/// Bytes by what they are for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct MemorySum {
    /// Weights.
    pub weights: u64,
    /// Keys and values; absent where the shape is not known.
    pub cache: Option<u64>,
}

/// The bytes of weights and cache for a context of so many tokens and so many sequences.
pub fn memory(model: &Described, context: u64, sequences: u64, kv_bits: f64) -> MemorySum {
    let weights = (model.params * model.weight_bits / 8.0).ceil() as u64;
    let cache = model.kv_values_per_token.map(|shape| {
        // Keys and values: twice.
        let values =
            2.0 * f64::from(shape.n_layer) * f64::from(shape.n_head_kv) * f64::from(shape.head_dim);
        (values * kv_bits / 8.0 * context as f64 * sequences as f64).ceil() as u64
    });
    MemorySum { weights, cache }
}
