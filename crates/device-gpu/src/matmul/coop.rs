//! Products for prefill by cooperative matrices: a subgroup multiplies small f16 matrices as a whole, with f32 sums.
//!
//! Drivers say that they have them, and are not always right; so each kernel has to pass its
//! [test](super::selftest) before it is used. A kernel is made for subgroups of one size, and a driver that chooses
//! another gets wrong results from it: only GPUs that have no choice are offered any, and the test has the last word.

use super::tiles::{Cut, N_PARAM, bindings, shared_fragments};
use crate::weights::Format;
use crate::{Gpu, Kernel, Key, Tile};

/// Which kernel. Buffers and params are those of [`Registers`](super::tiles::Registers).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Coop {
    /// Of the weights.
    pub format: Format,
    /// The cooperative matrices.
    pub kind: Kind,
    /// Whether a tile has eight subgroups; two otherwise.
    pub large: bool,
    /// Whether rows go to experts by lists.
    pub experts: bool,
}

/// A kind of cooperative matrices, as a GPU has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Kind {
    /// Rows and columns: 8 or 16.
    pub size: u32,
    /// Threads of a subgroup.
    pub subgroup: u32,
    /// Whether they are loaded from memory that is written four values at a time; Metal wants it to be of single ones.
    pub vectors: bool,
}

impl Kind {
    /// All that kernels are made for: Apple; AMD, Intel and NVIDIA; AMD; and twice a program that plays a GPU.
    pub const ALL: [Self; 5] = [
        Self::new(8, 32, false),
        Self::new(16, 32, true),
        Self::new(16, 64, true),
        Self::new(8, 8, false),
        Self::new(8, 8, true),
    ];

    const fn new(size: u32, subgroup: u32, vectors: bool) -> Self {
        Self {
            size,
            subgroup,
            vectors,
        }
    }

    /// The kind that these matrices are of on this GPU; `None` if it says that it has none such, or leaves the size of
    /// subgroups open.
    pub fn of(gpu: &Gpu, tile: Tile) -> Option<Self> {
        let caps = gpu.caps();
        let subgroup = caps.subgroup.filter(|(least, most)| least == most)?.0;
        let kind = Self::new(tile.size, subgroup, gpu.found().interface == "vulkan");
        let offered = tile.wide && caps.tiles.contains(&tile);
        (offered && Self::ALL.contains(&kind)).then_some(kind)
    }
}

impl Coop {
    /// Every format with every kind, and every form of one format.
    pub fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for &format in Format::ALL {
            for kind in Kind::ALL {
                let both = [false, true];
                let forms = both.map(|large| both.map(|experts| (large, experts)));
                all.extend(forms.as_flattened().iter().map(|&(large, experts)| Self {
                    format,
                    kind,
                    large,
                    experts,
                }));
            }
        }
        all.retain(|key| (key.large && !key.experts) || key.format == Format::Q4_K);
        all
    }

    /// Those that this GPU should be able to run, the smaller tile first.
    pub(super) fn offered(gpu: &Gpu, tile: Tile, format: Format, experts: bool) -> Vec<Self> {
        let Some(kind) = Kind::of(gpu, tile) else {
            return Vec::new();
        };
        let of_size = |large| Self {
            format,
            kind,
            large,
            experts,
        };
        let fits = |coop: &Self| {
            coop.threads() <= gpu.caps().workgroup_size
                && coop.bytes() <= gpu.caps().workgroup_memory.0
        };
        [false, true]
            .map(of_size)
            .into_iter()
            .filter(fits)
            .collect()
    }

    /// Subgroups down (along activations) and across (along weights). Each has four matrices down and two across.
    const fn subgroups(self) -> (u32, u32) {
        match self.large {
            true => (2, 4),
            false => (1, 2),
        }
    }

    const fn threads(self) -> u32 {
        let (down, across) = self.subgroups();
        down * across * self.kind.subgroup
    }

    /// Shared memory of a workgroup.
    fn bytes(self) -> u64 {
        let ((down, across), cut) = (self.subgroups(), self.cut());
        let kept = (cut.tokens + cut.rows) * 40 * 2;
        let staged = down * across * self.kind.size * self.kind.size * 4;
        let listed = if self.experts { cut.tokens * 4 } else { 0 };
        let n_tok = 4;
        u64::from(kept + staged + listed + n_tok)
    }

    /// The tiles of it.
    pub fn cut(self) -> Cut {
        let (down, across) = self.subgroups();
        Cut {
            key: Key::Coop(self),
            tokens: down * 4 * self.kind.size,
            rows: across * 2 * self.kind.size,
        }
    }

    pub(crate) fn kernel(self) -> Kernel {
        let (cut, kind) = (self.cut(), self.kind);
        let (left, right, sums) = match kind.size {
            8 => (
                "coop_mat8x8<f16, A>",
                "coop_mat8x8<f16, B>",
                "coop_mat8x8<f32, C>",
            ),
            _ => (
                "coop_mat16x16<f16, A>",
                "coop_mat16x16<f16, B>",
                "coop_mat16x16<f32, C>",
            ),
        };
        let cells = match kind.vectors {
            true => include_str!("../wgsl/coop_four.wgsl"),
            false => include_str!("../wgsl/coop_one.wgsl"),
        };
        let mut fragments = shared_fragments(self.format, self.experts);
        fragments.extend([
            include_str!("../wgsl/tiles_floats.wgsl"),
            cells,
            include_str!("../wgsl/coop.wgsl"),
        ]);
        Kernel {
            name: "coop",
            enables: vec!["f16", "wgpu_cooperative_matrix"],
            constants: vec![
                ("SIZE", self.threads()),
                ("TOKENS", cut.tokens),
                ("ROWS", cut.rows),
                ("T", kind.size),
            ],
            aliases: vec![("left", left), ("right", right), ("sums", sums)],
            fragments,
            bindings: bindings(self.experts),
            params: N_PARAM,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_thread_brings_as_many_vectors() {
        for coop in Coop::all() {
            assert_eq!(coop.cut().tokens * 8 % coop.threads(), 0, "{coop:?}");
        }
    }

    #[test]
    fn shared_memory_is_what_every_driver_has() {
        for coop in Coop::all() {
            assert!(coop.bytes() <= 32 << 10, "{coop:?}: {}", coop.bytes());
        }
    }
}
