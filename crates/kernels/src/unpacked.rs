//! One panel of weights taken apart for a matrix product with many tokens: bytes (or 16-bit values) and f32 scales.
//!
//! Taking a panel apart once per batch costs little beside the product, and lets one inner loop serve all formats.

use troika_base::DType;

use crate::activations::BLOCK;
use crate::buffer::AlignedBuf;
use crate::packed::PANEL_ROWS;
use crate::panel::{PanelFormat, with_format};

/// How the inner loop turns sums of `weight * activation` into the format's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Correction {
    /// Weights are stored with this added; one scale per block of 32.
    Offset(i32),
    /// Weights are stored with 32 added; one scale per 16.
    Offset32Half,
    /// Weights are stored with 128 added; one scale per 16.
    Offset128Half,
    /// `- min * sum(x)`; one scale and one minimum per block of 32.
    Minimum,
    /// `- min * sum(x)`; one scale and one minimum per 16.
    MinimumHalf,
}

/// A panel taken apart; buffers are kept between uses.
#[derive(Debug)]
pub(crate) struct Unpacked {
    /// `[n_in/4][16][4]` unsigned bytes, or what the kernel set prefers, up to four bytes per weight.
    pub(crate) q: AlignedBuf,
    /// `[n_in/32][16]`, or `[n_in/16][16]` if halves of a block differ.
    pub(crate) scale: AlignedBuf,
    /// As the scales.
    pub(crate) min: AlignedBuf,
}

impl Unpacked {
    /// Room for a panel of `n_in` columns with `weight_bytes` bytes per weight.
    pub(crate) fn new(n_in: usize, weight_bytes: usize) -> Self {
        let blocks = n_in.div_ceil(BLOCK);
        Self {
            q: AlignedBuf::zeroed(n_in * PANEL_ROWS * weight_bytes),
            scale: AlignedBuf::zeroed(2 * blocks * PANEL_ROWS * 4),
            min: AlignedBuf::zeroed(2 * blocks * PANEL_ROWS * 4),
        }
    }
}

/// What the sums of a format need.
pub(crate) fn correction(dtype: DType) -> Correction {
    match dtype {
        DType::Q4_0 => Correction::Offset(8),
        DType::Q8_0 => Correction::Offset(128),
        DType::Q4_K => Correction::Minimum,
        DType::Q6_K => Correction::Offset32Half,
        _ => with_format!(dtype, F => match (F::MIN, F::HALVES) {
            (false, false) => Correction::Offset(128),
            (false, true) => Correction::Offset128Half,
            (true, false) => Correction::Minimum,
            (true, true) => Correction::MinimumHalf,
        }),
    }
}
