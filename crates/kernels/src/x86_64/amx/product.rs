//! The loops of a product on the matrix unit: panels of weights times a chunk of tokens, in bf16 with f32 sums.
//!
//! A *block* multiplies a pair of token groups by a pair of panels: 2x2 tiles of sums in registers, 4 tile loads for 4
//! products per step of 32 columns. Blocks are arranged so that the unit has something to do in every cycle, as counted
//! for Sapphire Rapids: a product takes 16 cycles, a tile load from the first-level cache 8, a store 16, and the
//! second-level cache gives about 48 bytes a cycle.
//!
//! - Columns are taken in slabs of 8 steps, with the sums in memory between them. In a slab, a pair of token groups
//!   (16 KiB) stays in the first-level cache of 48 KiB while the panels of the job pass by. In the 512 cycles of
//!   products of a block, 16 KiB of weights, 4 KiB of earlier sums and 5 KiB of all else come from the second-level
//!   cache: 50 bytes a cycle. Simulated caches, which drop the oldest line, need 58 with slabs of 4 steps, 77 with 16
//!   (the pair is gone when it is wanted again) and 71 with all 64 steps of 2048 columns, where no sum leaves the
//!   registers. The loads of weights say that they need not stay in the first-level cache.
//! - The second-level cache of 2 MiB holds two slabs of 16 panels (128 KiB each), the sums (256 KiB for 256 tokens)
//!   and the tokens: all of them up to 2048 columns (1 MiB). Beyond, a pair's next slab is asked for while the one
//!   before is multiplied, and 5 bytes a cycle come from the third-level cache.
//! - Weights for the next slab are rounded to bf16 between the steps of this one: about 95 cycles of the vector units
//!   for 32 columns of a panel, due every fourth step of 64 cycles at 256 tokens. The matrix unit's instructions, few
//!   and long, go on beside it.
//!
//! What is computed does not depend on any of this: each sum takes its columns in ascending order, 32 at a time, and is
//! an f32 between them.

use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};

use bytemuck::Zeroable;

use super::round;
use super::tile::{TileConfig, TileShape, Tiles};
use crate::tiled::{Bf16Tile, F32Tile, GROUP_TOKENS, GiveOut, Job, STEP, Scratch};

/// Panels whose slabs are kept at a time.
pub(super) const MAX_PANELS: usize = 16;

/// Steps of a slab.
const SLAB_STEPS: usize = 8;

/// Sums of a block: groups and panels of a pair each.
const BLOCK_TILES: usize = 4;

/// Multiplies a job; see [`Tiled::product`](crate::tiled::Tiled::product).
///
/// # Safety
/// The tile instructions work and [`round::available`] said yes; `job` is consistent and not empty.
pub(super) unsafe fn product(job: &Job<'_>, scratch: &mut Scratch, out: &mut GiveOut<'_>) {
    // SAFETY: forwarded from the caller.
    unsafe { multiply(job, SLAB_STEPS, scratch, out) }
}

/// [`product`] with slabs of `slab_steps`.
unsafe fn multiply(job: &Job<'_>, slab_steps: usize, scratch: &mut Scratch, out: &mut GiveOut<'_>) {
    static CONFIG: TileConfig = TileConfig::new([TileShape::FULL; 8]);
    let loops = Loops {
        job,
        steps: job.n_in / STEP,
        token_pairs: Pairs(job.n_tok.div_ceil(GROUP_TOKENS)),
        panel_pairs: Pairs(job.count),
    };
    let blocks = loops.token_pairs.count() * loops.panel_pairs.count();
    for weights in &mut scratch.weights {
        weights.resize(job.count * slab_steps, Bf16Tile::zeroed());
    }
    scratch.sums.resize(blocks * BLOCK_TILES, F32Tile::zeroed());
    let [now, next] = &mut scratch.weights;

    let mut this = loops.slab(0, slab_steps);
    Rounding::new(job, this, now, 1).step();
    // SAFETY: the caller vouches for the unit.
    let mut tiles = unsafe { Tiles::configure(&CONFIG) };
    while this.len > 0 {
        let later = loops.slab(this.start + this.len, slab_steps);
        let rounding = Rounding::new(job, later, next, blocks * this.len);
        let out = (later.len == 0).then_some(&mut *out);
        loops.multiply_slab(
            [this, later],
            &mut tiles,
            now,
            &mut scratch.sums,
            rounding,
            out,
        );
        std::mem::swap(now, next);
        this = later;
    }
}

/// What stays the same in all loops of a job.
struct Loops<'a> {
    job: &'a Job<'a>,
    steps: usize,
    token_pairs: Pairs,
    panel_pairs: Pairs,
}

impl Loops<'_> {
    /// The slab from step `start` on; behind the last it is empty.
    fn slab(&self, start: usize, len: usize) -> Slab {
        let len = len.min(self.steps - start);
        Slab { start, len }
    }

    /// Adds a slab to all sums, and gives them out if it is the last.
    fn multiply_slab(
        &self,
        [this, later]: [Slab; 2],
        tiles: &mut Tiles,
        weights: &[Bf16Tile],
        sums: &mut [F32Tile],
        mut rounding: Rounding<'_>,
        mut out: Option<&mut GiveOut<'_>>,
    ) {
        let (token_pairs, panel_pairs) = (self.token_pairs, self.panel_pairs);
        let mut sums = sums.as_chunks_mut::<BLOCK_TILES>().0.iter_mut();
        for tokens in 0..token_pairs.count() {
            let x = token_pairs.tiles(self.job.x, tokens, self.steps, this);
            let x_later = if tokens + 1 < token_pairs.count() {
                token_pairs.tiles(self.job.x, tokens + 1, self.steps, this)
            } else {
                token_pairs.tiles(self.job.x, 0, self.steps, later)
            };
            let mut asking = Asking::new(x_later, panel_pairs.count() * this.len);
            for panels in 0..panel_pairs.count() {
                let sums = sums.next().expect("sums for every block");
                let block = Block {
                    tiles,
                    x,
                    w: panel_pairs.tiles(weights, panels, this.len, Slab { start: 0, ..this }),
                    sums,
                    is_first: this.start == 0,
                };
                let between = || {
                    asking.step();
                    rounding.step();
                };
                let shape = (token_pairs.len(tokens), panel_pairs.len(panels));
                match shape {
                    (2, 2) => block.multiply::<2, 2>(between),
                    (2, _) => block.multiply::<2, 1>(between),
                    (_, 2) => block.multiply::<1, 2>(between),
                    _ => block.multiply::<1, 1>(between),
                }
                // Now, while they are at hand, and so that writing is spread over the whole slab.
                if let Some(out) = &mut out {
                    for (at, sums) in sums.iter().enumerate() {
                        let (group, panel) = (at / 2, at % 2);
                        if group < shape.0 && panel < shape.1 {
                            out(2 * tokens + group, 2 * panels + panel, sums);
                        }
                    }
                }
            }
        }
    }
}

/// Some steps of all columns.
#[derive(Clone, Copy)]
struct Slab {
    start: usize,
    len: usize,
}

/// Things taken two by two, the last perhaps alone. Their tiles lie `[pair][step][thing of the pair]`.
#[derive(Clone, Copy)]
struct Pairs(usize);

impl Pairs {
    fn count(self) -> usize {
        self.0.div_ceil(2)
    }

    /// Things in a pair.
    fn len(self, pair: usize) -> usize {
        (self.0 - 2 * pair).min(2)
    }

    /// The tiles of some steps of a pair, among `steps` of all.
    fn tiles(self, tiles: &[Bf16Tile], pair: usize, steps: usize, slab: Slab) -> &[Bf16Tile] {
        let first = 2 * pair * steps + slab.start * self.len(pair);
        &tiles[first..][..slab.len * self.len(pair)]
    }

    /// The tile of thing `index` at a step.
    fn tile(self, index: usize, steps: usize, step: usize) -> usize {
        let pair = index / 2;
        2 * pair * steps + step * self.len(pair) + index % 2
    }
}

/// Work that falls due evenly: `total` pieces over `steps` steps.
struct Pace {
    total: u32,
    steps: u32,
    due: u32,
}

impl Pace {
    fn new(total: usize, steps: usize) -> Self {
        let number = |count: usize| u32::try_from(count).expect("a job is small");
        Self {
            total: number(total),
            steps: number(steps),
            due: 0,
        }
    }

    /// Pieces that are due at this step.
    #[inline(always)]
    fn step(&mut self) -> usize {
        self.due += self.total;
        let pieces = self.due / self.steps;
        self.due -= pieces * self.steps;
        pieces as usize
    }
}

/// Rounds a slab of weights, spread over the steps of another.
struct Rounding<'a> {
    job: &'a Job<'a>,
    slab: Slab,
    out: &'a mut [Bf16Tile],
    /// Tiles done, panel after panel.
    done: usize,
    pace: Pace,
}

impl<'a> Rounding<'a> {
    fn new(job: &'a Job<'a>, slab: Slab, out: &'a mut [Bf16Tile], steps: usize) -> Self {
        Self {
            job,
            slab,
            out,
            done: 0,
            pace: Pace::new(job.count * slab.len, steps),
        }
    }

    #[inline(always)]
    fn step(&mut self) {
        for _ in 0..self.pace.step() {
            self.tile();
        }
    }

    #[inline(never)]
    fn tile(&mut self) {
        let (job, Slab { start, len }) = (self.job, self.slab);
        let panel_bytes = job.panels.len() / job.count;
        let (panel, step) = (self.done / len, self.done % len);
        self.done += 1;
        // What is due a panel later, of the next one or of the first in the next slab. A panel is one stream.
        let (later, later_step) = match panel + 1 < job.count {
            true => (panel + 1, start + step),
            false => (0, start + len + step),
        };
        let bytes = panel_bytes.div_ceil(job.n_in / STEP);
        prefetch(job.panels, later * panel_bytes + later_step * bytes, bytes);
        let bytes = &job.panels[panel * panel_bytes..][..panel_bytes];
        let out = &mut self.out[Pairs(job.count).tile(panel, len, step)];
        // SAFETY: `product`'s caller vouches for the features.
        unsafe { round::weights(job.dtype, bytes, start + step, out) }
    }
}

/// Asks for bytes `at..at + len` from memory, into the second-level cache.
#[inline(always)]
fn prefetch(bytes: &[u8], at: usize, len: usize) {
    for line in 0..len.div_ceil(64) {
        let p = bytes.as_ptr().wrapping_add(at + line * 64);
        // SAFETY: a prefetch of any address is allowed.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
    }
}

/// Asks for the tokens that come next, spread over the steps of those before.
struct Asking<'a> {
    bytes: &'a [u8],
    done: usize,
    pace: Pace,
}

impl<'a> Asking<'a> {
    fn new(tiles: &'a [Bf16Tile], steps: usize) -> Self {
        let bytes: &[u8] = bytemuck::cast_slice(tiles);
        Self {
            bytes,
            done: 0,
            pace: Pace::new(bytes.len() / 64, steps),
        }
    }

    #[inline(always)]
    fn step(&mut self) {
        let lines = self.pace.step();
        prefetch(self.bytes, self.done * 64, lines * 64);
        self.done += lines;
    }
}

/// A pair of token groups times a pair of panels, over the steps of a slab.
struct Block<'a> {
    tiles: &'a mut Tiles,
    x: &'a [Bf16Tile],
    w: &'a [Bf16Tile],
    /// `[group][panel]`: added to, or overwritten in the first slab.
    sums: &'a mut [F32Tile; BLOCK_TILES],
    is_first: bool,
}

impl Block<'_> {
    /// Multiplies `M` groups by `N` panels, 1 or 2 each, and calls `between` after each step.
    #[inline(always)]
    fn multiply<const M: usize, const N: usize>(self, mut between: impl FnMut()) {
        const STRIDE: isize = 64;
        let Self {
            tiles,
            x,
            w,
            sums,
            is_first,
        } = self;
        let (x, w) = (x.as_chunks::<M>().0, w.as_chunks::<N>().0);
        // SAFETY: tiles have 16 rows of 64 bytes, one after the other. Sums are in tiles 0 to 3, tokens in 4 and 5,
        // weights in 6 and 7.
        unsafe {
            if is_first {
                tiles.zero::<0>();
                tiles.zero::<1>();
                tiles.zero::<2>();
                tiles.zero::<3>();
            } else {
                tiles.load::<0>(start(&sums[0]), STRIDE);
                if N == 2 {
                    tiles.load::<1>(start(&sums[1]), STRIDE);
                }
                if M == 2 {
                    tiles.load::<2>(start(&sums[2]), STRIDE);
                }
                if M == 2 && N == 2 {
                    tiles.load::<3>(start(&sums[3]), STRIDE);
                }
            }
            for (x, w) in x.iter().zip(w) {
                tiles.load::<4>(start(&x[0]), STRIDE);
                tiles.load_once::<6>(start(&w[0]), STRIDE);
                tiles.tdpbf16ps::<0, 4, 6>();
                if N == 2 {
                    tiles.load_once::<7>(start(&w[1]), STRIDE);
                    tiles.tdpbf16ps::<1, 4, 7>();
                }
                if M == 2 {
                    tiles.load::<5>(start(&x[1]), STRIDE);
                    tiles.tdpbf16ps::<2, 5, 6>();
                }
                if M == 2 && N == 2 {
                    tiles.tdpbf16ps::<3, 5, 7>();
                }
                between();
            }
            tiles.store::<0>(start_mut(&mut sums[0]), STRIDE);
            if N == 2 {
                tiles.store::<1>(start_mut(&mut sums[1]), STRIDE);
            }
            if M == 2 {
                tiles.store::<2>(start_mut(&mut sums[2]), STRIDE);
            }
            if M == 2 && N == 2 {
                tiles.store::<3>(start_mut(&mut sums[3]), STRIDE);
            }
        }
    }
}

fn start<T>(tile: &T) -> *const u8 {
    std::ptr::from_ref(tile).cast()
}

fn start_mut<T>(tile: &mut T) -> *mut u8 {
    std::ptr::from_mut(tile).cast()
}

#[cfg(test)]
mod tests;
