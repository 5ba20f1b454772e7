//! GPUs as devices: NVIDIA, AMD, Intel and Apple through one portable API and kernels of our own.
//!
//! The way of a step: [`GpuOps`] is what architectures are written over; each of its operations names a kernel by its
//! [`Key`], and a [`Recorder`] writes the dispatch into a command buffer that the [`Gpu`] runs. A key becomes WGSL in
//! [`kernels`], WGSL becomes a pipeline once per process in [`Gpu::pipeline`].
//!
//! `wgpu` stays inside this crate.
#![deny(unsafe_code)]

pub mod attention;
mod buffer;
mod caps;
mod device;
mod gpu;
pub mod kernels;
pub mod matmul;
mod memory;
pub mod moe;
mod ops;
mod recorder;
pub mod roofline;
pub mod rows;
pub mod select;
mod tensor;
pub mod tune;
mod upload;
pub mod weights;

pub use buffer::{Buffer, Scratch, ScratchBuffer};
pub use caps::{Caps, Tile};
pub use device::Offered;
pub use gpu::{Found, Gpu, Options, Pipeline, find};
pub use kernels::{Access, Kernel, Key};
pub use matmul::Tuning;
pub use memory::Memory;
pub use ops::GpuOps;
pub use recorder::{Bind, Fetched, Recorder};
pub use tensor::Tensor;
pub use weights::Matrix;
