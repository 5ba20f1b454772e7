//! Mixtures of experts: who is asked, and what comes of it.

use super::{Access, Kernel, flat, groups};

/// Which kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Moe {
    /// The best experts of each token and their weights. Buffers: ids, weights, logits, bias. Params: experts, numbers
    /// in a row of logits, k, whether scores are sigmoids, whether weights add up to one, whether there is a bias,
    /// scale.
    Route,
    /// The rows of each expert. Buffers: lists, ids. Params: assignments, experts.
    Lists,
    /// The lists in tiles. Buffers: tiles, lists. Params: experts, rows of a tile, tiles.
    Tiles,
    /// Weighted sums. Buffers: out, y, weights. Params: vectors of four in out, of a row, k, whether to add.
    Combine,
}

impl Moe {
    /// All of them.
    pub const ALL: &'static [Self] = &[Self::Route, Self::Lists, Self::Tiles, Self::Combine];

    /// Experts that [`Self::Route`] chooses from, at most. The largest mixture known has 512.
    pub const EXPERTS: u32 = 1024;

    const SIZE: u32 = 256;

    /// Workgroups of [`Self::Combine`] for `n` vectors of four.
    pub fn combine_grid(n: usize) -> [u32; 3] {
        flat(groups(n, Self::SIZE))
    }

    pub(super) fn kernel(self) -> Kernel {
        use Access::{Read, Write};
        let (name, text, bindings, params) = match self {
            Self::Route => {
                let text = include_str!("../wgsl/moe_route.wgsl");
                ("moe_route", text, vec![Write, Write, Read, Read], 7)
            }
            Self::Lists => {
                let text = include_str!("../wgsl/moe_lists.wgsl");
                ("moe_lists", text, vec![Write, Read], 2)
            }
            Self::Tiles => {
                let text = include_str!("../wgsl/moe_tiles.wgsl");
                ("moe_tiles", text, vec![Write, Read], 3)
            }
            Self::Combine => {
                let text = include_str!("../wgsl/moe_combine.wgsl");
                ("moe_combine", text, vec![Write, Read, Read], 4)
            }
        };
        let order = include_str!("../wgsl/select_order.wgsl");
        Kernel {
            name,
            enables: Vec::new(),
            constants: vec![("SIZE", Self::SIZE), ("EXPERTS", Self::EXPERTS)],
            aliases: Vec::new(),
            fragments: vec![order, text],
            bindings,
            params,
        }
    }
}
