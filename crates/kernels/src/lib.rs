//! CPU maths on slices: number formats, matrix products, attention, and the threads that run them.
//!
//! The only home of SIMD and AMX code. Every fast kernel stands beside a scalar one that defines what it computes.
//! Start at [`Kernels`] (the table of what this CPU can run) and [`matmul`].

pub mod quant;
pub mod roofline;

#[cfg(target_arch = "aarch64")]
mod aarch64;
mod activations;
#[cfg(test)]
mod agreement;
mod attention;
mod buffer;
mod dispatch;
mod float;
mod kv;
mod lanes;
mod matmul;
mod packed;
mod panel;
mod pool;
mod rope;
mod scalar;
mod tiled;
mod unpacked;
#[cfg(target_arch = "x86_64")]
mod x86_64;

pub use activations::{ScaleGroup, TILE_TOKENS, Tile, tiles};
pub use attention::{Attention, Span, attention};
pub use buffer::AlignedBuf;
pub use dispatch::{Kernels, UnknownSet};
pub use float::elementwise::Gating;
pub use kv::{KvPages, KvShape, PAGE_TOKENS, Slot};
pub use matmul::{Group, Product, Workspace, matmul, matmul_groups};
pub use packed::{PANEL_ROWS, PackedMatrix, packed_bytes, panel_bytes};
pub use pool::{Pool, Tasks, physical_cores};
pub use rope::{RopePairs, RopeTable};
