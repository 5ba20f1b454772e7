//! A number for each of some rows: the lanes that panels are read in.

use half::f16;

use crate::packed::PANEL_ROWS;

/// A 32-bit number for each of [`COUNT`](Self::COUNT) neighbouring rows.
///
/// # Safety
/// Of all functions: the CPU has the features of the implementation, and pointers lead to what they are read or written as.
pub(crate) trait Rows: Copy {
    /// Rows; they divide a panel's.
    const COUNT: usize;
    /// An f32 for each row.
    type Float: Copy;

    /// A dword for each row.
    unsafe fn load(p: *const u8) -> Self;
    /// A 16-bit number for each row, without sign.
    unsafe fn load_words(p: *const u8) -> Self;
    unsafe fn store(self, p: *mut u8);
    unsafe fn splat(value: u32) -> Self;
    unsafe fn and(self, other: Self) -> Self;
    unsafe fn or(self, other: Self) -> Self;
    unsafe fn xor(self, other: Self) -> Self;
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn shl(self, bits: usize) -> Self;
    unsafe fn shr(self, bits: usize) -> Self;
    /// Multiplies both 16-bit halves, which have room for it.
    unsafe fn times(self, by: u16) -> Self;
    /// Zero where it is `value`.
    unsafe fn zero_if(self, value: u32) -> Self;
    /// For each byte, all below 16, that of the table.
    unsafe fn lookup(self, table: &[u8; 16]) -> Self;
    /// Entry `self` of the table, which is long enough.
    unsafe fn gather(self, table: &[u32]) -> Self;

    /// The f32 of a signed integer.
    unsafe fn float(self) -> Self::Float;
    /// The f32 of an f16.
    unsafe fn half(self) -> Self::Float;
    /// The f32 with these bits.
    unsafe fn bits(self) -> Self::Float;
    unsafe fn mul(a: Self::Float, b: Self::Float) -> Self::Float;
    unsafe fn mul_f32(a: Self::Float, b: f32) -> Self::Float;
    unsafe fn store_float(a: Self::Float, p: *mut f32);
}

/// All rows of a panel in an array: the reference.
#[derive(Clone, Copy)]
pub(crate) struct ArrayRows([u32; PANEL_ROWS]);

impl ArrayRows {
    fn zip(self, other: Self, f: impl Fn(u32, u32) -> u32) -> Self {
        Self(std::array::from_fn(|r| f(self.0[r], other.0[r])))
    }

    fn map(self, f: impl Fn(u32) -> u32) -> Self {
        Self(self.0.map(f))
    }
}

impl Rows for ArrayRows {
    const COUNT: usize = PANEL_ROWS;
    type Float = [f32; PANEL_ROWS];

    unsafe fn load(p: *const u8) -> Self {
        // SAFETY: the caller guarantees 16 dwords.
        Self(unsafe { p.cast::<[u32; PANEL_ROWS]>().read_unaligned() }.map(u32::from_le))
    }
    unsafe fn load_words(p: *const u8) -> Self {
        // SAFETY: the caller guarantees 16 words.
        let words = unsafe { p.cast::<[u16; PANEL_ROWS]>().read_unaligned() };
        Self(words.map(|word| u16::from_le(word).into()))
    }
    unsafe fn store(self, p: *mut u8) {
        // SAFETY: the caller guarantees room for 16 dwords.
        unsafe {
            p.cast::<[u32; PANEL_ROWS]>()
                .write_unaligned(self.0.map(u32::to_le));
        }
    }
    unsafe fn splat(value: u32) -> Self {
        Self([value; PANEL_ROWS])
    }
    unsafe fn and(self, other: Self) -> Self {
        self.zip(other, |a, b| a & b)
    }
    unsafe fn or(self, other: Self) -> Self {
        self.zip(other, |a, b| a | b)
    }
    unsafe fn xor(self, other: Self) -> Self {
        self.zip(other, |a, b| a ^ b)
    }
    unsafe fn add(self, other: Self) -> Self {
        self.zip(other, u32::wrapping_add)
    }
    unsafe fn sub(self, other: Self) -> Self {
        self.zip(other, u32::wrapping_sub)
    }
    unsafe fn shl(self, bits: usize) -> Self {
        self.map(|a| a << bits)
    }
    unsafe fn shr(self, bits: usize) -> Self {
        self.map(|a| a >> bits)
    }
    unsafe fn times(self, by: u16) -> Self {
        self.map(|a| a.wrapping_mul(by.into()))
    }
    unsafe fn zero_if(self, value: u32) -> Self {
        self.map(|a| if a == value { 0 } else { a })
    }
    unsafe fn lookup(self, table: &[u8; 16]) -> Self {
        self.map(|a| u32::from_le_bytes(a.to_le_bytes().map(|index| table[usize::from(index)])))
    }
    unsafe fn gather(self, table: &[u32]) -> Self {
        self.map(|index| table[index as usize])
    }
    unsafe fn float(self) -> Self::Float {
        self.0.map(|a| a.cast_signed() as f32)
    }
    unsafe fn half(self) -> Self::Float {
        self.0.map(|a| f16::from_bits(a as u16).to_f32())
    }
    unsafe fn bits(self) -> Self::Float {
        self.0.map(f32::from_bits)
    }
    unsafe fn mul(a: Self::Float, b: Self::Float) -> Self::Float {
        std::array::from_fn(|r| a[r] * b[r])
    }
    unsafe fn mul_f32(a: Self::Float, b: f32) -> Self::Float {
        a.map(|a| a * b)
    }
    unsafe fn store_float(a: Self::Float, p: *mut f32) {
        // SAFETY: the caller guarantees room for 16 floats.
        unsafe { p.cast::<Self::Float>().write_unaligned(a) }
    }
}
