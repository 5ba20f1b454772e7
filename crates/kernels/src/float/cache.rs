//! How attention reads keys and values: rows of 32 whole numbers whose scales come later, or of 32 f16.

use troika_base::KvType;

use crate::kv::row_bytes;
use crate::lanes::{LANES, Lanes};

/// A [`KvType`], known when attention is compiled.
pub(crate) trait Format {
    const TYPE: KvType;
    /// Whether values are to be multiplied by their block's scale.
    const SCALED: bool = !matches!(Self::TYPE, KvType::F16);
    /// Bytes of a row.
    const ROW_BYTES: usize = row_bytes(Self::TYPE);

    /// The first 16 values of the row at `row`, or the last.
    ///
    /// # Safety
    /// The features of `L` are there; those values can be read.
    unsafe fn half<L: Lanes>(row: *const u8, is_upper: bool) -> L;

    /// All values of the row at `row`.
    ///
    /// # Safety
    /// The features of `L` are there; the row can be read.
    #[inline(always)]
    unsafe fn row<L: Lanes>(row: *const u8) -> [L; 2] {
        // SAFETY: forwarded from the caller.
        unsafe { [Self::half(row, false), Self::half(row, true)] }
    }
}

#[derive(Debug)]
pub(crate) struct F16;

impl Format for F16 {
    const TYPE: KvType = KvType::F16;

    #[inline(always)]
    unsafe fn half<L: Lanes>(row: *const u8, is_upper: bool) -> L {
        // SAFETY: forwarded from the caller.
        unsafe { L::load_f16(row.cast::<u16>().add(usize::from(is_upper) * LANES)) }
    }
}

#[derive(Debug)]
pub(crate) struct Q8_0;

impl Format for Q8_0 {
    const TYPE: KvType = KvType::Q8_0;

    #[inline(always)]
    unsafe fn half<L: Lanes>(row: *const u8, is_upper: bool) -> L {
        // SAFETY: forwarded from the caller.
        unsafe { L::load_i8(row.cast::<i8>().add(usize::from(is_upper) * LANES)) }
    }
}

#[derive(Debug)]
pub(crate) struct Q4_0;

impl Format for Q4_0 {
    const TYPE: KvType = KvType::Q4_0;

    #[inline(always)]
    unsafe fn half<L: Lanes>(row: *const u8, is_upper: bool) -> L {
        // SAFETY: forwarded from the caller.
        unsafe { Self::row(row)[usize::from(is_upper)] }
    }

    #[inline(always)]
    unsafe fn row<L: Lanes>(row: *const u8) -> [L; 2] {
        // SAFETY: forwarded from the caller.
        unsafe { L::load_nibbles(row).into() }
    }
}
