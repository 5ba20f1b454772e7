//! Float kernels on four 128-bit registers.

use super::lanes::FourRegisters;

crate::float::float_kernels!(FourRegisters, "neon");
