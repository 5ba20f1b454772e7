//! The largest values of a row.

use super::{Access, Kernel, groups};
use crate::Caps;

/// The k largest of each chunk. Params: values of a row, rows, k. Buffers: out, values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Select {
    /// Whether the values are what was chosen before, with ids; plain numbers otherwise.
    pub chosen: bool,
    /// Whether a workgroup compares through subgroups.
    pub subgroups: bool,
}

impl Select {
    /// Values of which one workgroup chooses: small enough that a vocabulary keeps a whole GPU busy.
    pub const CHUNK: usize = 4096;

    /// The kernel that a GPU takes.
    pub fn on(caps: &Caps, chosen: bool) -> Self {
        Self {
            chosen,
            subgroups: caps.subgroup.is_some(),
        }
    }

    /// Every kernel of this family.
    pub fn all() -> Vec<Self> {
        let both = |chosen| [true, false].map(|subgroups| Self { chosen, subgroups });
        [false, true].into_iter().flat_map(both).collect()
    }

    /// Workgroups for so many rows of `n` values.
    pub fn grid(n_row: usize, n: usize) -> [u32; 3] {
        [groups(n, Self::CHUNK as u32), groups(n_row, 1), 1]
    }

    pub(super) fn kernel(self) -> Kernel {
        let candidate = match self.chosen {
            true => include_str!("../wgsl/select_candidates.wgsl"),
            false => include_str!("../wgsl/select_values.wgsl"),
        };
        let best = match self.subgroups {
            true => include_str!("../wgsl/select_best_subgroups.wgsl"),
            false => include_str!("../wgsl/select_best_shared.wgsl"),
        };
        let order = include_str!("../wgsl/select_order.wgsl");
        Kernel {
            name: "select",
            enables: Vec::new(),
            constants: vec![("SIZE", 256), ("CHUNK", Self::CHUNK as u32)],
            aliases: Vec::new(),
            fragments: vec![order, include_str!("../wgsl/select.wgsl"), candidate, best],
            bindings: vec![Access::Write, Access::Read],
            params: 3,
        }
    }
}
