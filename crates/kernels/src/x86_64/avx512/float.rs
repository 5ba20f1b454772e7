//! Float kernels on 512-bit registers.

use super::lanes::Zmm;

crate::float::float_kernels!(
    Zmm,
    "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c,fma"
);
