//! Kernels for x86-64, one folder per instruction set.

pub(crate) mod amx;
pub(crate) mod avx2;
pub(crate) mod avx512;
