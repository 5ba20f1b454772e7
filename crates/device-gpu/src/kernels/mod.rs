//! Kernels: fragments of WGSL put together by a key.
//!
//! A kernel is plain WGSL in files: the parts that it is made of stand one behind the other, and before them the
//! constants and type names that its key fixes. What differs between number formats is a fragment of its own with the
//! same functions in each; what differs in a number is a `const`, and the compiler drops the branches that it rules out.
//! Nothing is spliced into the text.
//!
//! Rules for all fragments:
//! - Half-precision numbers in memory are read by `unpack2x16float`, so that a GPU without half-precision arithmetic
//!   runs every kernel but those that say otherwise.
//! - Sums over subgroups use `subgroup_id` and `num_subgroups`; a driver chooses the subgroup's size for itself.
//! - Offsets fit into 32 bits: what is larger is bound in windows.

mod elementwise;
mod moe;
mod roofline;
mod rows;
mod select;

pub use crate::attention::AttentionKey;
pub use elementwise::Elementwise;
pub use moe::Moe;
pub use roofline::Roof;
pub use rows::{Rows, Team};
pub use select::Select;

use crate::matmul::coop::Coop;
use crate::matmul::experts::Few;
use crate::matmul::tiles::Registers;
use crate::matmul::{MatVec, Quantize};
use crate::weights::{Embed, Format};

/// What a kernel does with a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Only reads.
    Read,
    /// Writes, and reads perhaps.
    Write,
}

/// A kernel's text, in parts.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// For people.
    pub name: &'static str,
    /// Language extensions: `f16`, `wgpu_cooperative_matrix`.
    pub enables: Vec<&'static str>,
    /// `const NAME: u32 = value;`
    pub constants: Vec<(&'static str, u32)>,
    /// `alias name = type;`
    pub aliases: Vec<(&'static str, &'static str)>,
    /// WGSL, in order.
    pub fragments: Vec<&'static str>,
    /// Its buffers, by binding.
    pub bindings: Vec<Access>,
    /// Numbers of 32 bits in its `var<immediate>`.
    pub params: u32,
}

impl Kernel {
    /// The whole text.
    pub fn source(&self) -> String {
        let enables = self.enables.iter().map(|name| format!("enable {name};\n"));
        let constants = self
            .constants
            .iter()
            .map(|(name, value)| format!("const {name}: u32 = {value}u;\n"));
        let aliases = self
            .aliases
            .iter()
            .map(|(name, of)| format!("alias {name} = {of};\n"));
        let fragments = self.fragments.iter().map(|&text| text.to_owned());
        enables
            .chain(constants)
            .chain(aliases)
            .chain(fragments)
            .collect()
    }
}

/// Names one kernel. Cheap to copy and to look up: it is done for every dispatch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// One number in, one number out.
    Elementwise(Elementwise),
    /// Whole rows.
    Rows(Rows),
    /// The KV cache and attention.
    Attention(AttentionKey),
    /// Rows of the embedding table.
    Embed(Embed),
    /// Products in registers.
    Registers(Registers),
    /// Products by cooperative matrices.
    Coop(Coop),
    /// A few rows, each by its own expert.
    Few(Few),
    /// The largest of many.
    Select(Select),
    /// Mixtures of experts.
    Moe(Moe),
    /// What the GPU can do at best.
    Roof(Roof),
    /// Activations laid out for products.
    Quantize(Quantize),
    /// A product with a few rows of activations.
    MatVec(MatVec),
}

impl Key {
    /// The kernel's text.
    pub fn kernel(self) -> Kernel {
        match self {
            Self::Elementwise(key) => key.kernel(),
            Self::Rows(key) => key.kernel(),
            Self::Attention(key) => key.kernel(),
            Self::Embed(key) => key.kernel(),
            Self::Registers(key) => key.kernel(),
            Self::Coop(key) => key.kernel(),
            Self::Few(key) => key.kernel(),
            Self::Select(key) => key.kernel(),
            Self::Moe(key) => key.kernel(),
            Self::Roof(key) => key.kernel(),
            Self::Quantize(key) => key.kernel(),
            Self::MatVec(key) => key.kernel(),
        }
    }

    /// Every kernel that can be asked for, on any GPU.
    pub fn all() -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        all.extend(Elementwise::ALL.iter().copied().map(Self::Elementwise));
        all.extend(Rows::all().into_iter().map(Self::Rows));
        all.extend(Format::ALL.iter().map(|&format| Self::Embed(Embed(format))));
        all.extend(Select::all().into_iter().map(Self::Select));
        all.extend(Moe::ALL.iter().copied().map(Self::Moe));
        all.extend(Roof::all().into_iter().map(Self::Roof));
        all.extend(AttentionKey::all().into_iter().map(Self::Attention));
        all.extend(Quantize::ALL.map(Self::Quantize));
        all.extend(MatVec::all().into_iter().map(Self::MatVec));
        all.extend(Registers::all().into_iter().map(Self::Registers));
        all.extend(Coop::all().into_iter().map(Self::Coop));
        all.extend(Format::ALL.iter().map(|&format| Self::Few(Few(format))));
        all
    }
}

/// Workgroups for `n` things of which each takes `per`.
pub fn groups(n: usize, per: u32) -> u32 {
    u32::try_from(n.div_ceil(per as usize)).expect("a step's sizes fit into 32 bits")
}

/// So many workgroups in two dimensions, neither above what every driver allows; a kernel finds its number as
/// `id.y * 65535 + id.x` and stops beyond the end.
pub fn flat(n_group: u32) -> [u32; 3] {
    const MOST: u32 = 65_535;
    [n_group.min(MOST), n_group.div_ceil(MOST), 1]
}
