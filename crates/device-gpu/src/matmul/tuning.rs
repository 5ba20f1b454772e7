//! What kernels of matrix products are chosen by, where several give the same result.

use crate::caps::Tile;
use crate::weights::Format;
use crate::{Caps, Gpu};

/// A set of number formats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Formats(u32);

impl Formats {
    /// None.
    pub const NONE: Self = Self(0);

    /// Those that have integers.
    pub fn with_integers() -> Self {
        let formats = Format::ALL.iter().filter(|format| format.has_integers());
        formats.fold(Self::NONE, |set, format| set.with(*format))
    }

    /// Whether this one is in it.
    pub const fn contains(self, format: Format) -> bool {
        self.0 >> format as u32 & 1 == 1
    }

    /// The set with this one in it.
    #[must_use]
    pub const fn with(self, format: Format) -> Self {
        Self(self.0 | 1 << format as u32)
    }

    /// The set without it.
    #[must_use]
    pub const fn without(self, format: Format) -> Self {
        Self(self.0 & !(1 << format as u32))
    }
}

/// What a workgroup computes of a product of many tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct TileShape {
    /// Rows of the activations.
    pub tokens: u32,
    /// Rows of the weights.
    pub rows: u32,
}

/// How a GPU multiplies by matrices: found by measuring, or [by what it offers](Self::default_for).
///
/// Results of a few tokens are the same to the bit for any `rows`, `workgroups` and `subgroups`. They differ by rounding
/// for another `size`, and by the error of 8-bit activations for another set of `packed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Tuning {
    /// Threads of a workgroup for a few columns: 32, 64, 128 or 256.
    pub size: u32,
    /// Rows of a workgroup with 1, 2, 4 and 8 columns, each 1, 2, 4 or 8.
    pub rows: [u32; 4],
    /// Workgroups below which each takes fewer rows, so that a small matrix keeps the GPU busy as well.
    pub workgroups: u32,
    /// Whether threads add up in subgroups, where there are any.
    pub subgroups: bool,
    /// Formats that are multiplied as integers with activations as bytes.
    pub packed: Formats,
    /// Tokens from which on products are computed in tiles.
    pub tiles_from: usize,
    /// The tile.
    pub tile: TileShape,
    /// Whether tiles of plain arithmetic are kept as f16, which is about 3e-4 of a result.
    #[serde(default)]
    pub half: bool,
    /// Cooperative matrices that tiles are computed by, if they pass their test; `None` for plain arithmetic.
    pub coop: Option<Tile>,
}

impl Tuning {
    /// What does for a GPU that nobody has measured.
    pub fn default_for(caps: &Caps) -> Self {
        Self {
            size: 64,
            rows: [4, 4, 4, 2],
            workgroups: 512,
            subgroups: true,
            packed: match caps.packed_dot {
                true => Formats::with_integers(),
                false => Formats::NONE,
            },
            tiles_from: 16,
            tile: TileShape {
                tokens: 64,
                rows: 64,
            },
            half: false,
            coop: [16, 8]
                .map(|size| Tile { size, wide: true })
                .into_iter()
                .find(|tile| caps.tiles.contains(tile)),
        }
    }

    /// Whether kernels can be made by it for such a GPU: one that was kept in a file may be of another, or damaged.
    pub fn fits(&self, caps: &Caps) -> bool {
        let TileShape { tokens, rows } = self.tile;
        [32, 64, 128, 256].contains(&self.size)
            && self.size <= caps.workgroup_size
            && self.rows.iter().all(|rows| [1, 2, 4, 8].contains(rows))
            && tokens > 0
            && rows > 0
            && self.coop.is_none_or(|tile| caps.tiles.contains(&tile))
    }

    /// The default for an open GPU.
    pub fn of(gpu: &Gpu) -> Self {
        Self::default_for(gpu.caps())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_hold_what_was_put_in() {
        let set = Formats::with_integers().without(Format::Q6_K);
        assert!(set.contains(Format::Q4_0) && set.contains(Format::MXFP4));
        assert!(!set.contains(Format::F16) && !set.contains(Format::Q6_K));
        assert!(set.with(Format::F16).contains(Format::F16));
    }
}
