//! AMX: the matrix unit of Intel's server CPUs since Sapphire Rapids.
//!
//! Eight tile registers of 16 rows by 64 bytes, and instructions that multiply two of them and add the result to a
//! third: 16x16 sums over 32 bf16 or 64 int8 products each. Rust's intrinsics for it are not stable, so [`tile`] wraps
//! the instructions in `asm!`. Three things stand between a CPU that has the unit and its use, and [`support()`] asks
//! for all: CPUID, the operating system's saving of tile state (XCR0), and Linux's permission per process.
//!
//! Tests run the same machine code everywhere: where the unit is missing, the `emulator` catches the instructions as
//! they fault and executes them in software.
//!
//! [`unit()`] says whether the kernels can run, and [`TILED`] is what they offer: matrix products with many tokens. All
//! else is left to AVX-512.

mod product;
mod round;
mod support;
mod tile;

#[cfg(all(target_os = "linux", any(test, feature = "amx-emulator")))]
pub(crate) mod emulator;
#[cfg(test)]
mod tests;

use crate::tiled::Tiled;

pub(crate) use support::{Unavailable, support};

/// Matrix products in tiles. To be called only if [`unit()`] named one.
pub(crate) const TILED: Tiled = Tiled {
    max_panels: product::MAX_PANELS,
    round: round::activations,
    product: product::product,
};

/// Who would execute the kernels, if all that they need is there.
pub(crate) fn unit() -> Option<Unit> {
    // Without the vector features there is no point in asking the system for tiles.
    round::available().then(any_unit)?.ok()
}

/// Who executes the tile instructions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unit {
    /// The CPU's own unit.
    Native,
    /// The software stand-in: right, and some thousand times slower.
    #[cfg(all(target_os = "linux", any(test, feature = "amx-emulator")))]
    Emulated,
}

impl Unit {
    /// Whether this is the CPU's own.
    pub(crate) fn is_native(self) -> bool {
        self == Self::Native
    }
}

/// Makes the tile instructions work in this process, by emulation if need be and if it was compiled in.
///
/// For tests and debugging; a program that wants speed takes [`Unit::Native`] only.
pub(crate) fn any_unit() -> Result<Unit, Unavailable> {
    match support() {
        Ok(()) => Ok(Unit::Native),
        #[cfg(all(target_os = "linux", any(test, feature = "amx-emulator")))]
        Err(Unavailable::Cpu | Unavailable::Os) if emulator::install() => Ok(Unit::Emulated),
        Err(why) => Err(why),
    }
}
