//! Block formats of weights: one file per format with its layout, scalar quantizer and dequantizer.
//!
//! This is the reference that the repackers and kernels are tested against, and the way to read or write a whole row
//! where speed does not matter. It is not a hot path: no SIMD, no threads, and no `unsafe`. The bytes of a file are
//! read where they lie: every block type has alignment 1 and spells out its byte order.
//!
//! A block that cannot be quantized, because it holds NaN, Inf or a value beyond the reach of its scales, gets a NaN
//! scale. Such damage then shows in every result, instead of turning into plausible numbers.

mod bf16;
mod f16;
mod fp4;
mod grid_search;
pub(crate) mod grids;
mod iq;
mod iq4;
mod lines;
mod q2_k;
mod q3_k;
mod q4_0;
mod q4_1;
mod q4_k;
mod q5_0;
mod q5_1;
mod q5_k;
mod q6_k;
mod q8_0;
mod search;
mod ternary;
#[cfg(test)]
pub(crate) mod tests;
mod two_level;

use std::fmt;

use bytemuck::Pod;
use troika_base::DType;

use crate::lanes::{ArrayLanes, Lanes};

pub use bf16::Bf16Le;
pub use f16::F16Le;
pub use fp4::{BlockMXFP4, BlockNVFP4};
pub use iq::{
    BlockIQ1_M, BlockIQ1_S, BlockIQ2_S, BlockIQ2_XS, BlockIQ2_XXS, BlockIQ3_S, BlockIQ3_XXS,
};
pub use iq4::{BlockIQ4_NL, BlockIQ4_XS};
pub use q2_k::BlockQ2_K;
pub use q3_k::BlockQ3_K;
pub use q4_0::BlockQ4_0;
pub use q4_1::BlockQ4_1;
pub use q4_k::BlockQ4_K;
pub use q5_0::BlockQ5_0;
pub use q5_1::BlockQ5_1;
pub use q5_k::BlockQ5_K;
pub use q6_k::BlockQ6_K;
pub use q8_0::BlockQ8_0;
pub use ternary::{BlockTQ1_0, BlockTQ2_0};

pub(crate) use fp4::MXFP4_DOUBLED;
pub(crate) use iq4::IQ4_VALUES;

/// A block of `N` weights in one number format, exactly as it lies in a file.
pub trait Block<const N: usize>: Pod {
    /// The format's name in files.
    const DTYPE: DType;

    /// Writes the block's `N` weights.
    fn dequantize(&self, out: &mut [f32; N]);

    /// The block that stands for these `N` weights with little error; see the [module](self) for values out of range.
    fn quantize(x: &[f32; N]) -> Self;

    /// As [`quantize`](Self::quantize), where the squared error of weight `i` counts `importance[i]` times: the mean of
    /// the squared activations that it is multiplied with. Formats without a search ignore it.
    fn quantize_weighted(x: &[f32; N], importance: Option<&[f32; N]>) -> Self {
        let _ = importance;
        Self::quantize(x)
    }

    /// [`quantize_weighted`](Self::quantize_weighted), the same to the bit, by a kernel set's vectors. Formats without a
    /// search have nothing to do side by side.
    ///
    /// # Safety
    /// The CPU has the features of `L`.
    #[inline(always)]
    unsafe fn quantize_in<L: Lanes>(x: &[f32; N], importance: Option<&[f32; N]>) -> Self {
        Self::quantize_weighted(x, importance)
    }
}

/// The format is known by name, but not computed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unsupported {
    /// The format that was asked for.
    pub dtype: DType,
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "number format {} is not computed; use one of",
            self.dtype
        )?;
        for (i, dtype) in DType::ALL
            .iter()
            .filter(|dtype| is_computed(**dtype))
            .enumerate()
        {
            write!(f, "{}{dtype}", if i == 0 { " " } else { ", " })?;
        }
        Ok(())
    }
}

impl std::error::Error for Unsupported {}

/// Whether weights of this format can be computed with.
pub fn is_computed(dtype: DType) -> bool {
    // What is left are integers, doubles, and forms of activations.
    let is_other = matches!(
        dtype,
        DType::I8 | DType::I16 | DType::I32 | DType::I64 | DType::F64 | DType::Q8_1 | DType::Q8_K
    );
    !is_other
}

/// Whether the codes of a format are points of a grid: the search for the nearest one tries all of them, and takes long.
pub fn is_of_grid(dtype: DType) -> bool {
    matches!(
        dtype,
        DType::IQ1_S
            | DType::IQ1_M
            | DType::IQ2_XXS
            | DType::IQ2_XS
            | DType::IQ2_S
            | DType::IQ3_XXS
            | DType::IQ3_S
    )
}

/// Writes the weights of whole blocks as f32.
///
/// `bytes` are blocks of `dtype`, at any address; `out` is as long as the weights they hold.
///
/// # Errors
/// If the format is not computed.
///
/// # Panics
/// If the lengths disagree.
pub fn dequantize_row(dtype: DType, bytes: &[u8], out: &mut [f32]) -> Result<(), Unsupported> {
    assert_lengths(dtype, out.len(), bytes.len());
    match dtype {
        DType::F32 => {
            for (out, bytes) in out.iter_mut().zip(bytes.as_chunks::<4>().0) {
                *out = f32::from_le_bytes(*bytes);
            }
        }
        DType::F16 => f16::dequantize(blocks(bytes), out),
        DType::BF16 => dequantize_blocks::<Bf16Le, _>(bytes, out),
        DType::Q4_0 => dequantize_blocks::<BlockQ4_0, _>(bytes, out),
        DType::Q8_0 => dequantize_blocks::<BlockQ8_0, _>(bytes, out),
        DType::Q4_K => dequantize_blocks::<BlockQ4_K, _>(bytes, out),
        DType::Q6_K => dequantize_blocks::<BlockQ6_K, _>(bytes, out),
        DType::Q4_1 => dequantize_blocks::<BlockQ4_1, _>(bytes, out),
        DType::Q5_0 => dequantize_blocks::<BlockQ5_0, _>(bytes, out),
        DType::Q5_1 => dequantize_blocks::<BlockQ5_1, _>(bytes, out),
        DType::Q2_K => dequantize_blocks::<BlockQ2_K, _>(bytes, out),
        DType::Q3_K => dequantize_blocks::<BlockQ3_K, _>(bytes, out),
        DType::Q5_K => dequantize_blocks::<BlockQ5_K, _>(bytes, out),
        DType::IQ4_NL => dequantize_blocks::<BlockIQ4_NL, _>(bytes, out),
        DType::IQ4_XS => dequantize_blocks::<BlockIQ4_XS, _>(bytes, out),
        DType::MXFP4 => dequantize_blocks::<BlockMXFP4, _>(bytes, out),
        DType::NVFP4 => dequantize_blocks::<BlockNVFP4, _>(bytes, out),
        DType::TQ1_0 => dequantize_blocks::<BlockTQ1_0, _>(bytes, out),
        DType::TQ2_0 => dequantize_blocks::<BlockTQ2_0, _>(bytes, out),
        DType::IQ1_S => dequantize_blocks::<BlockIQ1_S, _>(bytes, out),
        DType::IQ1_M => dequantize_blocks::<BlockIQ1_M, _>(bytes, out),
        DType::IQ2_XXS => dequantize_blocks::<BlockIQ2_XXS, _>(bytes, out),
        DType::IQ2_XS => dequantize_blocks::<BlockIQ2_XS, _>(bytes, out),
        DType::IQ2_S => dequantize_blocks::<BlockIQ2_S, _>(bytes, out),
        DType::IQ3_XXS => dequantize_blocks::<BlockIQ3_XXS, _>(bytes, out),
        DType::IQ3_S => dequantize_blocks::<BlockIQ3_S, _>(bytes, out),
        _ => return Err(Unsupported { dtype }),
    }
    Ok(())
}

/// Quantizes weights into whole blocks.
///
/// `x` is a multiple of the format's block length, and `out` exactly as long as its blocks. NaN, Inf and values out of
/// range give NaN, as the [module](self) says; only F32, F16 and BF16 keep an infinity.
///
/// # Errors
/// If the format is not computed.
///
/// # Panics
/// If the lengths disagree.
pub fn quantize_row(dtype: DType, x: &[f32], out: &mut [u8]) -> Result<(), Unsupported> {
    quantize_row_weighted(dtype, x, None, out)
}

/// As [`quantize_row`], where the squared error of weight `i` counts `importance[i]` times; see
/// [`Block::quantize_weighted`].
///
/// # Errors
/// As [`quantize_row`].
///
/// # Panics
/// If the lengths disagree.
pub fn quantize_row_weighted(
    dtype: DType,
    x: &[f32],
    importance: Option<&[f32]>,
    out: &mut [u8],
) -> Result<(), Unsupported> {
    // SAFETY: arrays ask for no features.
    unsafe { quantize_row_in::<ArrayLanes>(dtype, x, importance, out) }
}

/// [`quantize_row_weighted`] by a kernel set's vectors.
///
/// # Safety
/// The CPU has the features of `L`.
#[inline(always)]
pub(crate) unsafe fn quantize_row_in<L: Lanes>(
    dtype: DType,
    x: &[f32],
    importance: Option<&[f32]>,
    out: &mut [u8],
) -> Result<(), Unsupported> {
    assert_lengths(dtype, x.len(), out.len());
    if let Some(importance) = importance {
        assert_eq!(importance.len(), x.len(), "one importance for each weight");
    }
    // SAFETY: forwarded from the caller.
    unsafe {
        match dtype {
            DType::F32 => {
                for (out, x) in out.as_chunks_mut::<4>().0.iter_mut().zip(x) {
                    *out = x.to_le_bytes();
                }
            }
            DType::F16 => quantize_blocks::<L, F16Le, _>(x, importance, out),
            DType::BF16 => quantize_blocks::<L, Bf16Le, _>(x, importance, out),
            DType::Q4_0 => quantize_blocks::<L, BlockQ4_0, _>(x, importance, out),
            DType::Q8_0 => quantize_blocks::<L, BlockQ8_0, _>(x, importance, out),
            DType::Q4_K => quantize_blocks::<L, BlockQ4_K, _>(x, importance, out),
            DType::Q6_K => quantize_blocks::<L, BlockQ6_K, _>(x, importance, out),
            DType::Q4_1 => quantize_blocks::<L, BlockQ4_1, _>(x, importance, out),
            DType::Q5_0 => quantize_blocks::<L, BlockQ5_0, _>(x, importance, out),
            DType::Q5_1 => quantize_blocks::<L, BlockQ5_1, _>(x, importance, out),
            DType::Q2_K => quantize_blocks::<L, BlockQ2_K, _>(x, importance, out),
            DType::Q3_K => quantize_blocks::<L, BlockQ3_K, _>(x, importance, out),
            DType::Q5_K => quantize_blocks::<L, BlockQ5_K, _>(x, importance, out),
            DType::IQ4_NL => quantize_blocks::<L, BlockIQ4_NL, _>(x, importance, out),
            DType::IQ4_XS => quantize_blocks::<L, BlockIQ4_XS, _>(x, importance, out),
            DType::MXFP4 => quantize_blocks::<L, BlockMXFP4, _>(x, importance, out),
            DType::NVFP4 => quantize_blocks::<L, BlockNVFP4, _>(x, importance, out),
            DType::TQ1_0 => quantize_blocks::<L, BlockTQ1_0, _>(x, importance, out),
            DType::TQ2_0 => quantize_blocks::<L, BlockTQ2_0, _>(x, importance, out),
            DType::IQ1_S => quantize_blocks::<L, BlockIQ1_S, _>(x, importance, out),
            DType::IQ1_M => quantize_blocks::<L, BlockIQ1_M, _>(x, importance, out),
            DType::IQ2_XXS => quantize_blocks::<L, BlockIQ2_XXS, _>(x, importance, out),
            DType::IQ2_XS => quantize_blocks::<L, BlockIQ2_XS, _>(x, importance, out),
            DType::IQ2_S => quantize_blocks::<L, BlockIQ2_S, _>(x, importance, out),
            DType::IQ3_XXS => quantize_blocks::<L, BlockIQ3_XXS, _>(x, importance, out),
            DType::IQ3_S => quantize_blocks::<L, BlockIQ3_S, _>(x, importance, out),
            _ => return Err(Unsupported { dtype }),
        }
    }
    Ok(())
}

/// The blocks that these bytes are. Never fails for alignment: all block types have alignment 1.
///
/// # Panics
/// If the bytes are not whole blocks.
pub fn blocks<B: Pod>(bytes: &[u8]) -> &[B] {
    bytemuck::cast_slice(bytes)
}

/// The blocks that these bytes are, to be written.
///
/// # Panics
/// If the bytes are not whole blocks.
pub fn blocks_mut<B: Pod>(bytes: &mut [u8]) -> &mut [B] {
    bytemuck::cast_slice_mut(bytes)
}

fn dequantize_blocks<B: Block<N>, const N: usize>(bytes: &[u8], out: &mut [f32]) {
    for (block, out) in blocks::<B>(bytes).iter().zip(out.as_chunks_mut::<N>().0) {
        block.dequantize(out);
    }
}

/// # Safety
/// The CPU has the features of `L`.
#[inline(always)]
unsafe fn quantize_blocks<L: Lanes, B: Block<N>, const N: usize>(
    x: &[f32],
    importance: Option<&[f32]>,
    out: &mut [u8],
) {
    let importance = importance.map(|importance| importance.as_chunks::<N>().0);
    let blocks = blocks_mut::<B>(out).iter_mut().zip(x.as_chunks::<N>().0);
    for (i, (block, x)) in blocks.enumerate() {
        // SAFETY: forwarded from the caller.
        *block = unsafe { B::quantize_in::<L>(x, importance.map(|importance| &importance[i])) };
    }
}

#[track_caller]
fn assert_lengths(dtype: DType, weights: usize, bytes: usize) {
    assert_eq!(
        dtype.row_bytes(weights),
        Some(bytes),
        "{weights} weights of {dtype} do not take {bytes} bytes. This is a bug."
    );
}
