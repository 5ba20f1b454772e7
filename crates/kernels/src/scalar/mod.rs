//! The reference for every operation: plain, slow, obviously right.
//!
//! The order of additions is part of the definition: integer sums are exact in any order, and f32 sums run over
//! blocks in ascending order with one fused multiply-add each, in every kernel set. So all sets agree to the bit.

pub(crate) mod float;
pub(crate) mod int;
