//! The tile instructions as methods: a configured thread, and loads, stores and products by register number.

use std::arch::asm;
use std::marker::PhantomData;

/// Rows and bytes per row of one tile register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TileShape {
    /// `1..=16`, or 0 for a register that is not used.
    pub(crate) rows: u8,
    /// `4..=64` in steps of 4, or 0.
    pub(crate) row_bytes: u16,
}

impl TileShape {
    /// All of a register: 16 rows of 64 bytes.
    pub(crate) const FULL: Self = Self {
        rows: 16,
        row_bytes: 64,
    };
    /// A register that is not used.
    #[cfg(test)]
    pub(crate) const NONE: Self = Self {
        rows: 0,
        row_bytes: 0,
    };
}

/// The shapes of the eight tile registers, as LDTILECFG reads them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C, align(64))]
pub(crate) struct TileConfig {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    // The format has room for 16 registers; palette 1 has 8.
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

const _: () = assert!(size_of::<TileConfig>() == 64);

impl TileConfig {
    /// A configuration that the CPU accepts.
    ///
    /// A product `C += A · B` wants `C` `[m, 4 n]`, `A` `[m, 4 k]` and `B` `[k, 4 n]`, in rows and bytes per row.
    ///
    /// # Panics
    /// If a shape is out of range. In a constant, that is a compile error.
    pub(crate) const fn new(shapes: [TileShape; 8]) -> Self {
        let mut config = Self {
            palette: 1,
            start_row: 0,
            reserved: [0; 14],
            row_bytes: [0; 16],
            rows: [0; 16],
        };
        let mut i = 0;
        while i < shapes.len() {
            let TileShape { rows, row_bytes } = shapes[i];
            assert!(
                rows <= 16 && row_bytes <= 64,
                "a tile has at most 16 rows of 64 bytes"
            );
            assert!(
                (rows == 0) == (row_bytes == 0),
                "a tile without rows has no bytes, and the reverse"
            );
            assert!(row_bytes % 4 == 0, "rows are whole dwords");
            config.rows[i] = rows;
            config.row_bytes[i] = row_bytes;
            i += 1;
        }
        config
    }
}

/// A thread whose tile registers are configured; dropping it releases them.
///
/// One at a time per thread: a second one replaces the first one's configuration, and its end ends both. The registers
/// are named by number, `0..8`, and hold garbage to no one: configuring zeroes them.
///
/// An instruction that the configuration does not allow, such as a product of shapes that do not fit, ends the process
/// by SIGILL. So those without memory operands are safe to call.
pub(crate) struct Tiles {
    // The configuration is the thread's.
    not_send: PhantomData<*mut ()>,
}

macro_rules! product {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[inline(always)]
        pub(crate) fn $name<const C: u8, const A: u8, const B: u8>(&mut self) {
            const { assert!(C < 8 && A < 8 && B < 8 && C != A && C != B && A != B, "three different tiles") };
            // SAFETY: touches tile registers only, which the compiler does not use. That the CPU has them is
            // `configure`'s promise; shapes that do not fit end the process.
            unsafe {
                asm!(
                    concat!(stringify!($name), " tmm{c}, tmm{a}, tmm{b}"),
                    c = const C, a = const A, b = const B,
                    options(nomem, nostack, preserves_flags),
                );
            }
        }
    };
}

#[expect(
    clippy::needless_pass_by_ref_mut,
    reason = "what changes are registers, which the compiler does not see"
)]
impl Tiles {
    /// Configures this thread's tile registers and zeroes them (LDTILECFG).
    ///
    /// # Safety
    /// The tile instructions work: [`support`](super::support()) or [`any_unit`](super::any_unit) said yes.
    #[inline(always)]
    pub(crate) unsafe fn configure(config: &TileConfig) -> Self {
        // SAFETY: reads the 64 bytes of `config`; a `TileConfig` is always valid. The caller vouches for the unit.
        unsafe {
            asm!("ldtilecfg [{}]", in(reg) config, options(nostack, preserves_flags, readonly))
        };
        Self {
            not_send: PhantomData,
        }
    }

    /// Zeroes tile `T` (TILEZERO).
    #[inline(always)]
    pub(crate) fn zero<const T: u8>(&mut self) {
        const { assert!(T < 8, "there are 8 tiles") };
        // SAFETY: touches a tile register only; `configure` promised that there are some.
        unsafe { asm!("tilezero tmm{t}", t = const T, options(nomem, nostack, preserves_flags)) };
    }

    /// Loads tile `T` from rows that lie `stride_bytes` apart, at any alignment (TILELOADD).
    ///
    /// # Safety
    /// All rows of the tile's shape can be read.
    #[inline(always)]
    pub(crate) unsafe fn load<const T: u8>(&mut self, rows: *const u8, stride_bytes: isize) {
        const { assert!(T < 8, "there are 8 tiles") };
        // SAFETY: the caller vouches for the memory, `configure` for the registers.
        unsafe {
            asm!(
                "tileloadd tmm{t}, [{rows} + {stride}*1]",
                t = const T, rows = in(reg) rows, stride = in(reg) stride_bytes,
                options(nostack, preserves_flags, readonly),
            );
        }
    }

    /// Like [`load`](Self::load), with the hint that these bytes are not needed again soon (TILELOADDT1).
    ///
    /// # Safety
    /// All rows of the tile's shape can be read.
    #[inline(always)]
    pub(crate) unsafe fn load_once<const T: u8>(&mut self, rows: *const u8, stride_bytes: isize) {
        const { assert!(T < 8, "there are 8 tiles") };
        // SAFETY: the caller vouches for the memory, `configure` for the registers.
        unsafe {
            asm!(
                "tileloaddt1 tmm{t}, [{rows} + {stride}*1]",
                t = const T, rows = in(reg) rows, stride = in(reg) stride_bytes,
                options(nostack, preserves_flags, readonly),
            );
        }
    }

    /// Stores tile `T` to rows that lie `stride_bytes` apart, at any alignment (TILESTORED).
    ///
    /// # Safety
    /// All rows of the tile's shape can be written.
    #[inline(always)]
    pub(crate) unsafe fn store<const T: u8>(&mut self, rows: *mut u8, stride_bytes: isize) {
        const { assert!(T < 8, "there are 8 tiles") };
        // SAFETY: the caller vouches for the memory, `configure` for the registers.
        unsafe {
            asm!(
                "tilestored [{rows} + {stride}*1], tmm{t}",
                t = const T, rows = in(reg) rows, stride = in(reg) stride_bytes,
                options(nostack, preserves_flags),
            );
        }
    }

    product! {
        /// `C += A · B` for bf16: `C` f32 `[m, n]`, `A` `[m, 2 k]`, `B` `[k, n]` pairs, element `2 i` before `2 i + 1`.
        ///
        /// Sums even and odd products apart in f32, adds the two, then adds that to `C`; rounds to nearest even at each
        /// step. Subnormal numbers count as zero, coming and going.
        tdpbf16ps
    }
    product! {
        /// `C += A · B` for signed `A` and signed `B`: `C` i32 `[m, n]`, wraps; `A` `[m, 4 k]`; `B` `[k, n]` fours.
        #[cfg_attr(not(test), expect(dead_code, reason = "weights are multiplied as bf16"))]
        tdpbssd
    }
    product! {
        /// Like [`tdpbssd`](Self::tdpbssd) for signed `A` and unsigned `B`.
        #[cfg_attr(not(test), expect(dead_code, reason = "weights are multiplied as bf16"))]
        tdpbsud
    }
    product! {
        /// Like [`tdpbssd`](Self::tdpbssd) for unsigned `A` and signed `B`.
        #[cfg_attr(not(test), expect(dead_code, reason = "weights are multiplied as bf16"))]
        tdpbusd
    }
    product! {
        /// Like [`tdpbssd`](Self::tdpbssd) for unsigned `A` and unsigned `B`.
        #[cfg_attr(not(test), expect(dead_code, reason = "weights are multiplied as bf16"))]
        tdpbuud
    }
}

impl Drop for Tiles {
    /// Frees the registers (TILERELEASE), so that task switches no longer save 8 KiB for this thread.
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: touches tile state only; `configure` promised that there is some.
        unsafe { asm!("tilerelease", options(nomem, nostack, preserves_flags)) };
    }
}
