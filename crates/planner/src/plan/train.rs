//! Stub.
pub(super) const NPU_REASON: &str = "";
