//! Whether AMX can be used: the CPU has it, the operating system saves its state, and this process may touch it.

use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
use std::fmt;
use std::sync::LazyLock;

/// Why AMX cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unavailable {
    /// CPUID lists no tiles, or not both number formats.
    Cpu,
    /// The tile state is not switched on, so it would be lost at the first task switch; or how to ask this operating
    /// system for it is not known here.
    Os,
    /// Linux has not given its permission; the number of its error.
    Denied {
        /// `errno`.
        errno: i32,
    },
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("the CPU has no AMX with bf16 and int8"),
            Self::Os => f.write_str(
                "no AMX tile state from this operating system (Linux has it from 5.16 on)",
            ),
            Self::Denied { errno } => write!(
                f,
                "the kernel refuses AMX tile state to this process (errno {errno})"
            ),
        }
    }
}

/// Whether [`Tiles`](super::tile::Tiles) can be used, with all of bf16 and int8, or why not.
///
/// Asks once per process; the permission it gets holds for all threads.
pub(crate) fn support() -> Result<(), Unavailable> {
    static SUPPORT: LazyLock<Result<(), Unavailable>> = LazyLock::new(probe);
    *SUPPORT
}

fn probe() -> Result<(), Unavailable> {
    // Leaf 7, EDX.
    const AMX_BF16: u32 = 1 << 22;
    const AMX_TILE: u32 = 1 << 24;
    const AMX_INT8: u32 = 1 << 25;
    const ALL: u32 = AMX_TILE | AMX_BF16 | AMX_INT8;
    // Leaf 1, ECX.
    const OSXSAVE: u32 = 1 << 27;
    // XCR0: tile configuration and tile data.
    const TILE_STATE: u64 = 1 << 17 | 1 << 18;

    if __cpuid(0).eax < 7 || __cpuid_count(7, 0).edx & ALL != ALL {
        return Err(Unavailable::Cpu);
    }
    if __cpuid(1).ecx & OSXSAVE == 0 {
        return Err(Unavailable::Os);
    }
    // SAFETY: OSXSAVE says that the operating system has enabled XGETBV.
    if unsafe { xcr0() } & TILE_STATE != TILE_STATE {
        return Err(Unavailable::Os);
    }
    request_permission()
}

#[target_feature(enable = "xsave")]
fn xcr0() -> u64 {
    // SAFETY: register 0 always exists.
    unsafe { _xgetbv(0) }
}

/// Asks Linux to let this process use tile data. Signal frames then grow by 8 KiB, which is why it has to be asked.
#[cfg(target_os = "linux")]
fn request_permission() -> Result<(), Unavailable> {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    // SAFETY: the call takes two numbers and touches no memory of ours.
    match unsafe {
        libc::syscall(
            libc::SYS_arch_prctl,
            ARCH_REQ_XCOMP_PERM,
            XFEATURE_XTILEDATA,
        )
    } {
        0 => Ok(()),
        _ => Err(Unavailable::Denied {
            errno: std::io::Error::last_os_error().raw_os_error().unwrap_or(0),
        }),
    }
}

#[cfg(not(target_os = "linux"))]
fn request_permission() -> Result<(), Unavailable> {
    Err(Unavailable::Os)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel's own list of the CPU's abilities has to agree, where there is one.
    #[test]
    fn support_agrees_with_the_kernels_list() {
        let Ok(list) = std::fs::read_to_string("/proc/cpuinfo") else {
            println!("skipped: no /proc/cpuinfo");
            return;
        };
        let listed = ["amx_tile", "amx_bf16", "amx_int8"]
            .iter()
            .all(|flag| list.contains(flag));
        match support() {
            Ok(()) => assert!(listed),
            Err(Unavailable::Cpu | Unavailable::Os) => assert!(!listed),
            Err(why) => println!("listed: {listed}, but {why}"),
        }
    }
}
