//! Kernels that no step runs: they show what the GPU can do at best.

use super::{Access, Kernel};
use crate::Tile;

/// Which one. Buffers: out, and what is read where something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Roof {
    /// Fills a buffer with words that do not compress. Params: vectors of four.
    Fill,
    /// Reads. Params: visits to pieces of 16 KiB, workgroups, pieces - 1 (a power of two, less one).
    Read,
    /// Copies. Params as [`Self::Read`].
    Copy,
    /// Reads 64 bytes here and there. Params as [`Self::Read`].
    Gather,
    /// Multiply-adds of f32 or, with `half`, f16. Params: rounds of [`Self::OPS_PER_ROUND`] operations a thread.
    Fma {
        /// Whether numbers are f16.
        half: bool,
    },
    /// Dot products of four signed bytes. Params as [`Self::Fma`].
    Dp4a,
    /// Cooperative matrices. Params: rounds of [`Self::PRODUCTS_PER_ROUND`] products a subgroup. The number of a
    /// workgroup's subgroups is written.
    Tile(Tile),
    /// Adds to 64 words. Params: what.
    Step,
}

impl Roof {
    /// Operations of a thread in a round; a multiply-add counts as two.
    pub const OPS_PER_ROUND: u64 = 512;

    /// Products of a subgroup in a round.
    pub const PRODUCTS_PER_ROUND: u64 = 4;

    /// Bytes of a visit.
    pub const PIECE: u64 = 16 << 10;

    /// Threads of a workgroup that computes.
    pub const SIZE: u64 = 256;

    /// All of them.
    pub fn all() -> Vec<Self> {
        let sizes = [8, 16].into_iter();
        let tiles = sizes.flat_map(|size| [false, true].map(|wide| Tile { size, wide }));
        let mut all = vec![Self::Fill, Self::Read, Self::Copy, Self::Gather];
        all.extend([false, true].map(|half| Self::Fma { half }));
        all.extend([Self::Dp4a, Self::Step]);
        all.extend(tiles.map(Self::Tile));
        all
    }

    pub(super) fn kernel(self) -> Kernel {
        let (name, text, params) = match self {
            Self::Fill => ("roof_fill", include_str!("../wgsl/roofline/fill.wgsl"), 1),
            Self::Read => ("roof_read", include_str!("../wgsl/roofline/read.wgsl"), 3),
            Self::Copy => ("roof_copy", include_str!("../wgsl/roofline/copy.wgsl"), 3),
            Self::Gather => {
                let text = include_str!("../wgsl/roofline/gather.wgsl");
                ("roof_gather", text, 3)
            }
            Self::Fma { .. } => ("roof_fma", include_str!("../wgsl/roofline/fma.wgsl"), 1),
            Self::Dp4a => ("roof_dp4a", include_str!("../wgsl/roofline/dp4a.wgsl"), 1),
            Self::Tile(_) => ("roof_tile", include_str!("../wgsl/roofline/tile.wgsl"), 1),
            Self::Step => ("roof_step", include_str!("../wgsl/roofline/step.wgsl"), 1),
        };
        let bindings = match self {
            Self::Read | Self::Copy | Self::Gather => vec![Access::Write, Access::Read],
            _ => vec![Access::Write],
        };
        Kernel {
            name,
            enables: self.enables(),
            constants: self.constants(),
            aliases: self.aliases(),
            fragments: vec![text],
            bindings,
            params,
        }
    }

    fn enables(self) -> Vec<&'static str> {
        match self {
            Self::Fma { half: true } => vec!["f16"],
            Self::Tile(_) => vec!["f16", "wgpu_cooperative_matrix"],
            _ => Vec::new(),
        }
    }

    fn constants(self) -> Vec<(&'static str, u32)> {
        match self {
            Self::Tile(tile) => vec![("TILE", tile.size)],
            _ => Vec::new(),
        }
    }

    fn aliases(self) -> Vec<(&'static str, &'static str)> {
        let Self::Tile(tile) = self else {
            return match self {
                Self::Fma { half: true } => vec![("number", "f16"), ("quad", "vec4<f16>")],
                Self::Fma { half: false } => vec![("number", "f32"), ("quad", "vec4<f32>")],
                _ => Vec::new(),
            };
        };
        let (left, right, sum) = match (tile.size, tile.wide) {
            (8, true) => (
                "coop_mat8x8<f16,A>",
                "coop_mat8x8<f16,B>",
                "coop_mat8x8<f32,C>",
            ),
            (8, false) => (
                "coop_mat8x8<f16,A>",
                "coop_mat8x8<f16,B>",
                "coop_mat8x8<f16,C>",
            ),
            (_, true) => (
                "coop_mat16x16<f16,A>",
                "coop_mat16x16<f16,B>",
                "coop_mat16x16<f32,C>",
            ),
            (_, false) => (
                "coop_mat16x16<f16,A>",
                "coop_mat16x16<f16,B>",
                "coop_mat16x16<f16,C>",
            ),
        };
        let number = if tile.wide { "f32" } else { "f16" };
        vec![
            ("number", number),
            ("left", left),
            ("right", right),
            ("sum", sum),
        ]
    }
}
