//! Products for prefill: many rows of activations by a matrix of weights, a tile per workgroup.
//!
//! A tile's weights are read once for all of its rows, unpacked into shared memory, and multiplied there: in registers
//! by [`Registers`], which run everywhere and are what other kernels are compared with, or by
//! [cooperative matrices](super::coop). [`Cut`] chooses. Few rows are the business of the matrix-vector kernels.

use std::ops::Range;
use std::sync::Arc;

use troika_base::Bytes;
use troika_device::Error;

use super::coop::Coop;
use super::quantize::{Activations, Quantize};
use super::{Tuning, selftest};
use crate::kernels::groups;
use crate::weights::{EIGHT, Format, GROUP, Window};
use crate::{Access, Bind, Buffer, Caps, Gpu, Kernel, Key, Matrix, Recorder, Scratch, Tensor};

/// Size of a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Shape {
    /// 32 rows of activations by 32 of weights.
    Small,
    /// 64 by 64.
    Medium,
    /// 128 by 128.
    Large,
}

impl Shape {
    /// All of them, the smallest first.
    pub const ALL: [Self; 3] = [Self::Small, Self::Medium, Self::Large];

    /// Rows of either side.
    const fn side(self) -> u32 {
        match self {
            Self::Small => 32,
            Self::Medium => 64,
            Self::Large => 128,
        }
    }

    /// Rows of either side that each thread has products of: what it reads from shared memory serves so often.
    const fn each(self) -> u32 {
        match self {
            Self::Small => 4,
            Self::Medium | Self::Large => 8,
        }
    }

    /// Threads of a workgroup.
    const fn threads(self) -> u32 {
        let along = self.side() / self.each();
        along * along
    }
}

/// What a tile is kept as in shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kept {
    /// Single precision.
    F32,
    /// Half precision: half the reads, and a result that differs by about 3e-4.
    F16,
    /// Bytes, for formats that have integers: activations are rounded to 8 bits, as matrix-vector kernels do it.
    Bytes,
}

impl Kept {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::F32, Self::F16, Self::Bytes];

    /// Bytes of a row of a tile, those among them that keep rows in different banks.
    const fn row_bytes(self) -> u32 {
        match self {
            Self::F32 => 9 * 16,
            Self::F16 => 9 * 8,
            Self::Bytes => 3 * 16 + 16,
        }
    }
}

/// Products in registers. Buffers: quants, scales, x, y; for experts, tiles and lists; for bytes, the scales of x.
/// Params: see `tiles.wgsl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Registers {
    /// Of the weights.
    pub format: Format,
    /// Of a tile.
    pub shape: Shape,
    /// What a tile is kept as.
    pub kept: Kept,
    /// Whether rows go to experts by lists.
    pub experts: bool,
}

impl Registers {
    /// Every format kept as everything that it can be, and every form of one format.
    pub fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for &format in Format::ALL {
            for shape in Shape::ALL {
                for kept in Kept::ALL {
                    all.extend([false, true].map(|experts| Self {
                        format,
                        shape,
                        kept,
                        experts,
                    }));
                }
            }
        }
        all.retain(|key| {
            let usual = key.shape == Shape::Medium && !key.experts;
            let can_be = key.kept != Kept::Bytes || key.format.has_integers();
            can_be && (usual || key.format == Format::Q4_K)
        });
        all
    }

    /// The largest tile of the tuning's that this GPU has room for, or a smaller one if that keeps more of it busy.
    fn choose(caps: &Caps, tuning: &Tuning, format: Format, sizes: Sizes, experts: bool) -> Self {
        let kept = match () {
            () if format.has_integers() && tuning.packed.contains(format) => Kept::Bytes,
            () if tuning.half && caps.f16 => Kept::F16,
            () => Kept::F32,
        };
        let of_shape = |shape| Self {
            format,
            shape,
            kept,
            experts,
        };
        let most = tuning.tile.tokens.min(tuning.tile.rows);
        let fits = |key: &Self| {
            key.shape.side() <= most
                && key.shape.threads() <= caps.workgroup_size
                && u64::from(key.shared_bytes()) <= caps.workgroup_memory.0
        };
        let larger = [Shape::Large, Shape::Medium].map(of_shape).into_iter();
        larger
            .filter(fits)
            .find(|key| Cut::from(*key).fills(sizes))
            .unwrap_or(of_shape(Shape::Small))
    }

    /// Shared memory of a workgroup.
    fn shared_bytes(self) -> u32 {
        let listed = if self.experts { 4 } else { 0 };
        self.shape.side() * (2 * self.kept.row_bytes() + listed)
    }

    pub(crate) fn kernel(self) -> Kernel {
        let (side, experts) = (self.shape.side(), self.experts);
        let own: &[&str] = match self.kept {
            Kept::F32 => &[
                include_str!("../wgsl/tiles_floats.wgsl"),
                include_str!("../wgsl/tiles_f32.wgsl"),
                include_str!("../wgsl/tiles_dots.wgsl"),
            ],
            Kept::F16 => &[
                include_str!("../wgsl/tiles_floats.wgsl"),
                include_str!("../wgsl/tiles_f16.wgsl"),
                include_str!("../wgsl/tiles_dots.wgsl"),
            ],
            Kept::Bytes => &[include_str!("../wgsl/tiles_bytes.wgsl")],
        };
        let mut fragments = shared_fragments(self.format, experts);
        fragments.push(include_str!("../wgsl/tiles_threads.wgsl"));
        fragments.extend(own);
        let mut bindings = bindings(experts);
        let x_scales = bindings.len() as u32;
        if self.kept == Kept::Bytes {
            bindings.push(Access::Read);
        }
        Kernel {
            name: "tiles",
            enables: match self.kept {
                Kept::F16 => vec!["f16"],
                Kept::F32 | Kept::Bytes => Vec::new(),
            },
            constants: vec![
                ("SIZE", self.shape.threads()),
                ("TOKENS", side),
                ("ROWS", side),
                ("EACH", self.shape.each()),
                ("X_SCALES", x_scales),
            ],
            aliases: Vec::new(),
            fragments,
            bindings,
            params: N_PARAM,
        }
    }
}

/// Numbers in the `Params` of every tile.
pub(super) const N_PARAM: u32 = 9;

/// What all tiles are made of.
pub(super) fn shared_fragments(format: Format, experts: bool) -> Vec<&'static str> {
    let place = match experts {
        true => include_str!("../wgsl/tiles_listed.wgsl"),
        false => include_str!("../wgsl/tiles_all.wgsl"),
    };
    let mut fragments = format.fragments();
    fragments.extend([include_str!("../wgsl/tiles.wgsl"), place]);
    fragments
}

/// The buffers of every tile.
pub(super) fn bindings(experts: bool) -> Vec<Access> {
    use Access::{Read, Write};
    let mut bindings = vec![Read, Read, Read, Write];
    if experts {
        bindings.extend([Read, Read]);
    }
    bindings
}

/// Rows of activations and of weights in a product.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Products like this: one, or one for each expert.
    pub n_list: usize,
    /// Rows of activations.
    pub n_tok: usize,
    /// Rows of weights.
    pub n_out: usize,
}

/// How a product is cut into tiles, and the kernel that computes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The kernel.
    pub key: Key,
    /// Rows of activations in a tile.
    pub tokens: u32,
    /// Rows of weights in a tile.
    pub rows: u32,
}

/// Tiles with which a GPU is busy: with fewer, smaller ones are better. Cards have between ten and two hundred
/// multiprocessors.
const BUSY: usize = 96;

impl Cut {
    /// The way in which so many rows are multiplied. The first use of a cooperative kernel tests it, which takes
    /// milliseconds.
    pub fn choose(
        gpu: &Arc<Gpu>,
        tuning: &Tuning,
        format: Format,
        sizes: Sizes,
        experts: bool,
    ) -> Self {
        let coops = match tuning.coop {
            Some(tile) => Coop::offered(gpu, tile, format, experts),
            None => Vec::new(),
        };
        let best = coops.iter().rev().find(|coop| coop.cut().fills(sizes));
        match best.or(coops.first()) {
            Some(&coop) if selftest::passes(gpu, coop) => coop.cut(),
            _ => Registers::choose(gpu.caps(), tuning, format, sizes, experts).into(),
        }
    }

    /// Whether tiles are full enough, and enough of them.
    fn fills(&self, sizes: Sizes) -> bool {
        let (down, across) = (
            groups(sizes.n_tok, self.tokens),
            groups(sizes.n_out, self.rows),
        );
        let n_tile = sizes.n_list * down as usize * across as usize;
        sizes.n_tok > self.tokens as usize / 2 && n_tile >= BUSY
    }

    /// How it wants its activations.
    pub(super) fn layout(&self) -> Layout {
        match self.key {
            Key::Registers(registers) if registers.kept == Kept::Bytes => Layout::Bytes,
            _ => Layout::Rows,
        }
    }
}

impl From<Registers> for Cut {
    fn from(registers: Registers) -> Self {
        let side = registers.shape.side();
        Self {
            key: Key::Registers(registers),
            tokens: side,
            rows: side,
        }
    }
}

/// How activations are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// As tensors are.
    Rows,
    /// As [`Quantize::Q8`] makes it.
    Bytes,
}

/// Activations in the layout that a kernel wants.
#[derive(Clone, Copy, Debug)]
pub(super) enum Columns<'p> {
    Rows(&'p Buffer),
    Bytes {
        values: &'p Buffer,
        scales: &'p Buffer,
    },
}

impl<'p> Columns<'p> {
    /// Lays activations out, unless that was done before.
    pub(super) fn of(
        recorder: &mut Recorder,
        scratch: &Scratch,
        activations: &'p Activations<'_>,
        cut: &Cut,
    ) -> Result<Self, Error> {
        Ok(match cut.layout() {
            Layout::Rows => Self::Rows(activations.x.buffer()),
            Layout::Bytes => {
                let columns = activations.laid_out(recorder, scratch, Quantize::Q8)?;
                Self::Bytes {
                    values: &columns.values,
                    scales: columns.scales.as_ref().expect("bytes have scales"),
                }
            }
        })
    }

    /// Some rows, and their scales.
    fn part(self, rows: &Range<usize>, n_in: usize) -> (Bind<'p>, Option<Bind<'p>>) {
        // Of bytes, a row has whole eights of groups.
        let n_padded = n_in.div_ceil(GROUP).next_multiple_of(EIGHT);
        match self {
            Self::Rows(buffer) => (part(buffer, rows, n_in * size_of::<f32>()), None),
            Self::Bytes { values, scales } => (
                part(values, rows, n_padded * GROUP),
                Some(part(scales, rows, n_padded * size_of::<[f32; 2]>())),
            ),
        }
    }
}

/// Some rows of a buffer.
fn part<'b>(buffer: &'b Buffer, rows: &Range<usize>, row_bytes: usize) -> Bind<'b> {
    Bind::part(buffer, rows.start * row_bytes..rows.end * row_bytes)
}

/// Some rows of activations by some of weights.
#[derive(Clone, Debug)]
pub(super) struct Product<'p> {
    pub(super) x: Columns<'p>,
    pub(super) x_rows: Range<usize>,
    pub(super) n_in: usize,
    pub(super) window: &'p Window,
    pub(super) y: &'p Buffer,
    pub(super) y_rows: Range<usize>,
    /// Values in a row of `y`.
    pub(super) width: usize,
    pub(super) add: bool,
    pub(super) listed: Option<Listed<'p>>,
}

/// Which rows go to which expert.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listed<'p> {
    /// For each tile its expert, where in the lists it begins, and its rows, at most as many as the cut's.
    pub(super) tiles: &'p Buffer,
    pub(super) n_tile: usize,
    /// Where each expert's list begins; then rows of `y`, by expert.
    pub(super) lists: &'p Buffer,
    pub(super) n_expert: usize,
    /// Rows of `y` for each of `x`.
    pub(super) n_used: usize,
}

impl Product<'_> {
    pub(super) fn record(&self, recorder: &mut Recorder, cut: &Cut) -> Result<(), Error> {
        let window = self.window;
        let params = [
            self.y_rows.len(),
            self.n_in.div_ceil(GROUP),
            self.n_in / 4,
            window.rows.start,
            window.rows.len(),
            self.width,
            usize::from(self.add),
            self.listed.map_or(1, |listed| listed.n_expert),
            self.listed.map_or(1, |listed| listed.n_used),
        ]
        .map(|n| n as u32);
        let (x, x_scales) = self.x.part(&self.x_rows, self.n_in);
        let y = part(self.y, &self.y_rows, self.width * size_of::<f32>());
        let weights = [Bind::whole(&window.quants), Bind::whole(&window.scales)];
        let mut binds = vec![weights[0], weights[1], x, y];
        let grid = match self.listed {
            None => [
                groups(self.y_rows.len(), cut.tokens),
                groups(window.rows.len(), cut.rows),
                1,
            ],
            Some(listed) => {
                binds.extend([Bind::whole(listed.tiles), Bind::whole(listed.lists)]);
                // Experts stand one below the other, each with as many rows as `y` has columns.
                [listed.n_tile as u32, groups(self.width, cut.rows), 1]
            }
        };
        binds.extend(x_scales);
        recorder.dispatch(cut.key, &binds, &params, grid)
    }
}

/// `y = x · Wᵀ`, or `y += x · Wᵀ` with `add`, in tiles.
pub(super) fn multiply(
    recorder: &mut Recorder,
    scratch: &Scratch,
    tuning: &Tuning,
    activations: &Activations<'_>,
    w: &Matrix,
    y: &Tensor,
    add: bool,
) -> Result<(), Error> {
    let sizes = Sizes {
        n_list: 1,
        n_tok: y.n_tok(),
        n_out: w.n_out(),
    };
    let cut = Cut::choose(recorder.gpu(), tuning, w.format(), sizes, false);
    multiply_laid_out(recorder, scratch, &cut, activations, w, y, add)
}

/// `y = x · Wᵀ`, or `y += x · Wᵀ` with `add`, cut in a given way; [`super::multiply`] chooses one.
///
/// Row-major shapes: `x` `[n_tok, n_in]`, `w` `[n_out, n_in]`, `y` `[n_tok, n_out]`. No row depends on the rows beside
/// it. Agrees with plain sums within 1e-5 relative in single precision, within 1e-3 where tiles are f16, and within the
/// error of 8-bit activations, 1e-2, where they are bytes.
///
/// # Errors
/// [`Error::OutOfMemory`], and [`Error::Failed`] if the kernel does not compile.
///
/// # Panics
/// If the shapes do not fit together.
pub fn multiply_cut(
    recorder: &mut Recorder,
    scratch: &Scratch,
    cut: &Cut,
    x: &Tensor,
    w: &Matrix,
    y: &Tensor,
    add: bool,
) -> Result<(), Error> {
    let shapes = (x.width(), y.n_tok(), y.width());
    assert_eq!(shapes, (w.n_in(), x.n_tok(), w.n_out()), "shapes disagree");
    let activations = Activations::new(x);
    multiply_laid_out(recorder, scratch, cut, &activations, w, y, add)
}

fn multiply_laid_out(
    recorder: &mut Recorder,
    scratch: &Scratch,
    cut: &Cut,
    activations: &Activations<'_>,
    w: &Matrix,
    y: &Tensor,
    add: bool,
) -> Result<(), Error> {
    let x = Columns::of(recorder, scratch, activations, cut)?;
    let n_tok = y.n_tok();
    let most = rows_seen(recorder.gpu().caps().binding, w.n_in().max(y.width()));
    for first in (0..n_tok).step_by(most) {
        let rows = first..n_tok.min(first + most);
        for window in w.windows() {
            let product = Product {
                x,
                x_rows: rows.clone(),
                n_in: w.n_in(),
                window,
                y: y.buffer(),
                y_rows: rows.clone(),
                width: y.width(),
                add,
                listed: None,
            };
            product.record(recorder, cut)?;
        }
    }
    Ok(())
}

/// Rows that a kernel can see at once: so many that those behind them begin where a binding may.
fn rows_seen(binding: Bytes, width: usize) -> usize {
    // Rows are whole vectors of 16 bytes, and bindings begin at multiples of 256.
    const STEP: usize = 16;
    let rows = binding.0 as usize / (width * size_of::<f32>());
    (rows / STEP * STEP).max(STEP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workgroups_are_within_what_every_driver_allows() {
        for key in Registers::all() {
            assert!(key.shape.threads() <= 256, "{key:?}");
            // The largest tile in single precision is for GPUs that have more.
            let most = match (key.shape, key.kept) {
                (Shape::Large, Kept::F32) => 48 << 10,
                _ => 32 << 10,
            };
            assert!(key.shared_bytes() <= most, "{key:?}");
        }
    }

    #[test]
    fn parts_of_activations_begin_where_bindings_may() {
        for width in [4, 100, 4096, 100_000] {
            let rows = rows_seen(Bytes(128 << 20), width);
            assert_eq!(rows * width * 4 % 256, 0);
            assert!(rows * width * 4 <= 128 << 20);
        }
    }
}
