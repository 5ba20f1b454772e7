//! Operations of one number in, one number out, four at a time.

use super::{Access, Kernel, flat, groups};

/// Which one. Buffers: x, y. Params: vectors of four in x, vectors of four in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Elementwise {
    /// `x[i] = silu(x[i]) * y[i]`.
    SwiGlu,
    /// `x[i] = gelu(x[i]) * y[i]`, with the GELU of the hyperbolic tangent.
    GeGlu,
    /// `x[i] = x[i] + y[i % width]`.
    AddBias,
    /// `x[i] = x[i] + y[i]`.
    Add,
}

impl Elementwise {
    /// All of them.
    pub const ALL: &'static [Self] = &[Self::SwiGlu, Self::GeGlu, Self::AddBias, Self::Add];

    /// Vectors that a workgroup takes.
    const PER_GROUP: u32 = 256;

    /// Workgroups for `n` vectors of four.
    pub fn grid(n: usize) -> [u32; 3] {
        flat(groups(n, Self::PER_GROUP))
    }

    pub(super) fn kernel(self) -> Kernel {
        let (name, fragment) = match self {
            Self::SwiGlu => ("swiglu", include_str!("../wgsl/swiglu.wgsl")),
            Self::GeGlu => ("geglu", include_str!("../wgsl/geglu.wgsl")),
            Self::AddBias => ("add_bias", include_str!("../wgsl/add_bias.wgsl")),
            Self::Add => ("add", include_str!("../wgsl/elementwise_add.wgsl")),
        };
        Kernel {
            name,
            enables: Vec::new(),
            constants: vec![("SIZE", Self::PER_GROUP)],
            aliases: Vec::new(),
            fragments: vec![include_str!("../wgsl/elementwise.wgsl"), fragment],
            bindings: vec![Access::Write, Access::Read],
            params: 2,
        }
    }
}
