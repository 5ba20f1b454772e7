//! Float kernels on pairs of 256-bit registers.

use super::lanes::YmmPair;

crate::float::float_kernels!(YmmPair, "avx2,f16c,fma");
