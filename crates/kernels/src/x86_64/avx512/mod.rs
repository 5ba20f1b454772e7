//! Kernels for AVX-512 with VNNI (Intel from Ice Lake, AMD from Zen 4).

pub(crate) mod float;
pub(crate) mod int;
mod lanes;
pub(super) mod rows;

/// Whether this CPU, and the operating system, offer every feature that the kernels here are compiled for.
pub(crate) fn available() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vnni")
        && is_x86_feature_detected!("f16c")
        && is_x86_feature_detected!("fma")
}
