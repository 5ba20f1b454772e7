//! Norms of rows and of heads, and rows picked from others.

use super::{Access, Kernel, flat, groups};
use crate::Caps;

/// Which kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rows {
    /// RMS norm, a row per workgroup. Params: rows, vectors of four in a row, eps. Buffers: out, weight, x; with `add`, y as
    /// well, which is added to x first.
    Norm {
        /// Whether a row is added before.
        add: bool,
        /// How a workgroup is made up.
        team: Team,
    },
    /// RMS norm of heads in place. Params: heads, vectors of four in a head, eps. Buffers: x, weight.
    HeadNorm,
    /// Some rows of another tensor. Params: vectors of four in a row, number of the first row, 0, 0, then rows.
    /// Buffers: out, x.
    Gather,
}

/// A workgroup that sums up together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Team {
    /// Its threads: 64, 256 or 1024.
    pub size: u32,
    /// Whether sums go through subgroups.
    pub subgroups: bool,
}

impl Team {
    const SIZES: [u32; 3] = [64, 256, 1024];

    /// The team for a row of so many vectors. It depends on nothing else, so that no row depends on another.
    pub fn for_row(caps: &Caps, n_vec: usize) -> Self {
        // Up to four vectors a thread: a single row, as decoding has them, is waited for.
        let wanted = match n_vec {
            ..=128 => 64,
            129..=512 => 256,
            _ => 1024,
        };
        let size = match caps.workgroup_size {
            most if most >= wanted => wanted,
            _ => 256.min(wanted),
        };
        Self {
            size,
            subgroups: caps.subgroup.is_some(),
        }
    }

    fn all() -> impl Iterator<Item = Self> {
        let both = |size| [true, false].map(|subgroups| Self { size, subgroups });
        Self::SIZES.into_iter().flat_map(both)
    }

    /// The fragment with its `Thread` and `sum`.
    fn fragment(self) -> &'static str {
        match self.subgroups {
            true => include_str!("../wgsl/rows_sum_subgroups.wgsl"),
            false => include_str!("../wgsl/rows_sum_shared.wgsl"),
        }
    }
}

impl Rows {
    /// Heads of one workgroup of [`Self::HeadNorm`].
    const HEADS: u32 = 4;

    /// Rows that one dispatch of [`Self::Gather`] picks, at most: what every driver's parameters have room for.
    pub const GATHERED: usize = 24;

    /// Every kernel of this family.
    pub fn all() -> Vec<Self> {
        let norms = |team| [false, true].map(|add| Self::Norm { add, team });
        let norms = Team::all().flat_map(norms);
        norms.chain([Self::HeadNorm, Self::Gather]).collect()
    }

    /// Workgroups for so many rows (or heads) of so many vectors.
    pub fn grid(self, n_row: usize, n_vec: usize) -> [u32; 3] {
        match self {
            Self::Norm { .. } => flat(groups(n_row, 1)),
            Self::HeadNorm => flat(groups(n_row, Self::HEADS)),
            Self::Gather => [groups(n_vec, 256), groups(n_row, 1), 1],
        }
    }

    pub(super) fn kernel(self) -> Kernel {
        let (name, constants, fragments, bindings, params) = match self {
            Self::Norm { add, team } => {
                let first = match add {
                    true => include_str!("../wgsl/norm_add.wgsl"),
                    false => include_str!("../wgsl/norm_plain.wgsl"),
                };
                let norm = include_str!("../wgsl/norm.wgsl");
                let bindings = match add {
                    true => vec![Access::Write, Access::Read, Access::Write, Access::Read],
                    false => vec![Access::Write, Access::Read, Access::Read],
                };
                let name = if add { "add_rms_norm" } else { "rms_norm" };
                let fragments = vec![team.fragment(), first, norm];
                (name, vec![("SIZE", team.size)], fragments, bindings, 3)
            }
            Self::HeadNorm => (
                "head_norm",
                Vec::new(),
                vec![include_str!("../wgsl/norm_heads.wgsl")],
                vec![Access::Write, Access::Read],
                3,
            ),
            Self::Gather => (
                "gather_rows",
                Vec::new(),
                vec![include_str!("../wgsl/rows_gather.wgsl")],
                vec![Access::Write, Access::Read],
                4 + Self::GATHERED as u32,
            ),
        };
        Kernel {
            name,
            enables: Vec::new(),
            constants,
            aliases: Vec::new(),
            fragments,
            bindings,
            params,
        }
    }
}
