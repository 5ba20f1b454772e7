//! Products with many tokens on a matrix unit: weights and activations as bf16 tiles, sums in f32.
//!
//! What lies around a unit's own loops: the tiles, when they are worth their padding, and how a product is cut into
//! jobs. The loops are the unit's (`x86_64/amx/product.rs`); a kernel set that has one offers [`Tiled`].

use std::cell::RefCell;
use std::ops::Range;

use bytemuck::{Pod, Zeroable};
use troika_base::DType;

use crate::matmul::Rows;
use crate::packed::{PANEL_ROWS, panel_bytes};
use crate::pool::{Disjoint, Pool};

/// Columns of a tile: one step of the unit.
pub(crate) const STEP: usize = 32;

/// Tokens of a tile.
pub(crate) const GROUP_TOKENS: usize = 16;

/// Tokens that are multiplied together: two groups, which share each load of weights.
pub(crate) const PAIR_TOKENS: usize = 2 * GROUP_TOKENS;

/// Tokens from which on a product goes to the tiles.
///
/// Counted for Sapphire Rapids, per panel and 32 columns: rounding the weights to bf16 takes about 95 cycles, behind
/// which the 16 cycles of a group on the matrix unit hide. The integer kernels take 8 cycles to take the bytes apart
/// and 6 for each token. They meet near 15 tokens; below, most of a tile would be padding.
pub(crate) const MIN_TOKENS: usize = 16;

/// Tokens of a job, at most: 1 MiB of tiles at 2048 columns, which stays in a second-level cache of 2 MiB from one job
/// to the next. Wider inputs pass through it in slabs. Half as many would double the work of rounding weights.
pub(crate) const CHUNK_TOKENS: usize = 256;

/// Jobs per thread and product that are wanted at least, so that no thread waits long for the last one.
const JOBS_PER_THREAD: usize = 2;

/// One row of a tile.
pub(crate) type Line = [u16; STEP];

/// 16 rows of 32 bf16: of activations, `[token][column]`; of weights, `[column / 2][row][2]`.
#[derive(Clone, Copy, Debug, Zeroable, Pod)]
#[repr(C, align(64))]
pub(crate) struct Bf16Tile(pub(crate) [Line; 16]);

/// Sums of 16 tokens with one panel: `[token][row]`.
#[derive(Clone, Copy, Debug, Zeroable, Pod)]
#[repr(C, align(64))]
pub(crate) struct F32Tile(pub(crate) [[f32; PANEL_ROWS]; GROUP_TOKENS]);

/// A kernel set's matrix unit.
#[derive(Clone, Copy)]
pub(crate) struct Tiled {
    /// Panels of a job, at most: even, since two share each load of activations.
    pub(crate) max_panels: usize,
    /// Rounds to bf16, to nearest even; subnormal numbers become zero.
    pub(crate) round: unsafe fn(&[f32], &mut [Line]),
    /// Multiplies a job, and gives out each tile of sums once.
    pub(crate) product: unsafe fn(&Job<'_>, &mut Scratch, &mut GiveOut<'_>),
}

/// Takes the sums of a token group of the chunk with a panel of the job.
pub(crate) type GiveOut<'a> = dyn FnMut(usize, usize, &F32Tile) + 'a;

impl Tiled {
    /// Rounds a token's activations to lines of 32.
    fn round(&self, x: &[f32], out: &mut [Line]) {
        assert_eq!(x.len(), out.len() * STEP, "whole lines");
        // SAFETY: a set offers its unit only if it is available (see `Kernels::all`); sizes were checked.
        unsafe { (self.round)(x, out) }
    }

    /// Multiplies some panels by a chunk of tokens; `write(token, panel, sums)` gets 16 outputs for each token of the
    /// chunk and each panel of the job, both counted from 0.
    pub(crate) fn product(
        &self,
        job: &Job<'_>,
        scratch: &mut Scratch,
        mut write: impl FnMut(usize, usize, &[f32]),
    ) {
        let groups = job.n_tok.div_ceil(GROUP_TOKENS);
        assert!(
            job.n_in.is_multiple_of(STEP) && job.count <= self.max_panels,
            "whole steps, and no more panels than fit"
        );
        assert_eq!(
            Some(job.panels.len()),
            panel_bytes(job.dtype, job.n_in).map(|bytes| bytes * job.count),
            "panels and shape"
        );
        assert_eq!(
            job.x.len(),
            groups * (job.n_in / STEP),
            "tiles of all tokens"
        );
        if job.n_in == 0 || job.count == 0 || groups == 0 {
            return;
        }
        let mut write_tile = |group: usize, panel: usize, sums: &F32Tile| {
            let first = group * GROUP_TOKENS;
            for (token, sums) in (first..job.n_tok).zip(&sums.0) {
                write(token, panel, sums);
            }
        };
        // SAFETY: as in `round`.
        unsafe { (self.product)(job, scratch, &mut write_tile) }
    }
}

/// Some panels times a chunk of tokens.
#[derive(Debug)]
pub(crate) struct Job<'a> {
    /// Of the weights.
    pub(crate) dtype: DType,
    pub(crate) n_in: usize,
    /// `count` packed panels.
    pub(crate) panels: &'a [u8],
    pub(crate) count: usize,
    /// The chunk, as [`Activations`] lays it out.
    pub(crate) x: &'a [Bf16Tile],
    pub(crate) n_tok: usize,
}

/// A thread's own buffers; the unit sizes them.
#[derive(Debug)]
#[cfg_attr(
    not(target_arch = "x86_64"),
    expect(dead_code, reason = "no other processor's unit is used")
)]
pub(crate) struct Scratch {
    /// Weights in use, and those that are made ready meanwhile.
    pub(crate) weights: [Vec<Bf16Tile>; 2],
    pub(crate) sums: Vec<F32Tile>,
}

impl Scratch {
    pub(crate) const EMPTY: Self = Self {
        weights: [Vec::new(), Vec::new()],
        sums: Vec::new(),
    };
}

/// Whether a product can and should go to the tiles. F32 weights stay f32.
pub(crate) fn fits(dtype: DType, n_in: usize, n_tok: usize) -> bool {
    dtype != DType::F32 && n_in.is_multiple_of(STEP) && n_tok >= MIN_TOKENS
}

/// A batch of activations as tiles: `[pair][n_in / 32][group of the pair]` tiles, and zeros for the tokens that fill
/// the last group up. A pair at a time is read from end to end. Buffers are kept between uses.
#[derive(Debug, Default)]
pub(crate) struct Activations {
    n_tok: usize,
    n_in: usize,
    tiles: Vec<Bf16Tile>,
}

impl Activations {
    /// Rounds `x`.
    pub(crate) fn fill(&mut self, tiled: &Tiled, pool: &Pool, x: Rows<'_>) {
        thread_local! {
            static ROW: RefCell<Vec<Line>> = const { RefCell::new(Vec::new()) };
        }
        let (n_tok, n_in) = (x.len(), x.n_in);
        let steps = n_in / STEP;
        let groups = n_tok.div_ceil(GROUP_TOKENS);
        (self.n_tok, self.n_in) = (n_tok, n_in);
        self.tiles.resize(groups * steps, Bf16Tile::zeroed());
        let lines = Disjoint::new(bytemuck::cast_slice_mut::<_, Line>(&mut self.tiles));
        pool.for_each(groups * GROUP_TOKENS, 4, |token| {
            ROW.with_borrow_mut(|row| {
                row.clear();
                row.resize(steps, [0; STEP]);
                if token < n_tok {
                    tiled.round(x.row(token), row);
                }
                for (step, line) in row.iter().enumerate() {
                    let at = line_index(groups, steps, token, step);
                    // SAFETY: each step of each token has its own line.
                    unsafe { lines.part(at, 1)[0] = *line };
                }
            });
        });
    }

    /// The tiles of a chunk, which starts with a pair.
    pub(crate) fn chunk(&self, tokens: &Range<usize>) -> &[Bf16Tile] {
        debug_assert!(tokens.start.is_multiple_of(PAIR_TOKENS));
        let steps = self.n_in / STEP;
        let end = tokens.end.div_ceil(GROUP_TOKENS);
        &self.tiles[tokens.start / GROUP_TOKENS * steps..end * steps]
    }
}

/// Where a token's line of 32 columns lies in a batch of `groups` groups.
fn line_index(groups: usize, steps: usize, token: usize, step: usize) -> usize {
    let (group, line) = (token / GROUP_TOKENS, token % GROUP_TOKENS);
    let first = group / 2 * 2;
    let in_pair = (groups - first).min(2);
    (first * steps + step * in_pair + group - first) * GROUP_TOKENS + line
}

/// A product cut into jobs: chunks of tokens times runs of panels. A chunk's jobs come one after the other, so that
/// its tiles stay in the cache.
#[derive(Clone, Debug)]
pub(crate) struct Cut {
    n_tok: usize,
    n_panels: usize,
    chunk_tokens: usize,
    run_panels: usize,
}

impl Cut {
    pub(crate) fn new(tiled: &Tiled, n_tok: usize, n_panels: usize, threads: usize) -> Self {
        let chunks = n_tok.div_ceil(CHUNK_TOKENS).max(1);
        let run = n_panels * chunks / (JOBS_PER_THREAD * threads);
        Self {
            n_tok,
            n_panels,
            // Chunks of one size: a last one of a few tokens would cost as much as a full one.
            chunk_tokens: n_tok.div_ceil(chunks).next_multiple_of(PAIR_TOKENS),
            run_panels: run.clamp(2, tiled.max_panels) / 2 * 2,
        }
    }

    fn runs(&self) -> usize {
        self.n_panels.div_ceil(self.run_panels)
    }

    /// Number of jobs.
    pub(crate) fn count(&self) -> usize {
        self.n_tok.div_ceil(self.chunk_tokens) * self.runs()
    }

    /// Tokens and panels of a job.
    pub(crate) fn job(&self, index: usize) -> (Range<usize>, Range<usize>) {
        let part = |index: usize, len: usize, end: usize| index * len..end.min((index + 1) * len);
        (
            part(index / self.runs(), self.chunk_tokens, self.n_tok),
            part(index % self.runs(), self.run_panels, self.n_panels),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A unit that multiplies nothing and rounds by cutting off.
    const CUTTING: Tiled = Tiled {
        max_panels: 16,
        round: |x, out| {
            for (out, x) in out.iter_mut().zip(x.as_chunks::<STEP>().0) {
                *out = x.map(|x| (x.to_bits() >> 16) as u16);
            }
        },
        product: |_, _, _| {},
    };

    #[test]
    fn jobs_cover_every_panel_of_every_token_once() {
        for n_tok in [16, 17, 255, 256, 257, 512, 513, 2048] {
            for n_panels in [1, 2, 3, 32, 127, 2000] {
                for threads in [1, 2, 3, 16, 200] {
                    let cut = Cut::new(&CUTTING, n_tok, n_panels, threads);
                    let mut seen = 0;
                    for index in 0..cut.count() {
                        let (tokens, panels) = cut.job(index);
                        assert!(tokens.start.is_multiple_of(PAIR_TOKENS));
                        assert!(!tokens.is_empty() && tokens.len() <= CHUNK_TOKENS);
                        assert!(!panels.is_empty() && panels.len() <= CUTTING.max_panels);
                        seen += tokens.len() * panels.len();
                    }
                    let last = cut.job(cut.count() - 1);
                    assert_eq!((last.0.end, last.1.end), (n_tok, n_panels));
                    assert_eq!(seen, n_tok * n_panels, "{n_tok} {n_panels} {threads}");
                }
            }
        }
    }

    #[test]
    fn chunks_are_of_one_size() {
        let cut = Cut::new(&CUTTING, 257, 2, 1);
        assert_eq!(cut.count(), 2);
        assert_eq!((cut.job(0).0, cut.job(1).0), (0..160, 160..257));
    }

    /// A buffer that was used before must not leave its tokens in the padding.
    #[test]
    fn tiles_hold_every_value_once_and_zeros_behind_the_batch() {
        let pool = Pool::new(3);
        let mut tiles = Activations::default();
        for (n_tok, n_in) in [(70, 64), (49, 96), (16, 32), (17, 64), (1, 128)] {
            // Whole numbers of at most 8 bits are bf16 as they are.
            let x: Vec<f32> = (0..n_tok * n_in).map(|i| (1 + i % 255) as f32).collect();
            let rows: Vec<usize> = (0..n_tok).collect();
            let input = Rows {
                x: &x,
                n_in,
                rows: &rows,
            };
            tiles.fill(&CUTTING, &pool, input);
            let (groups, steps) = (n_tok.div_ceil(GROUP_TOKENS), n_in / STEP);
            assert_eq!(tiles.chunk(&(0..n_tok)).len(), groups * steps);
            let mut seen = vec![false; groups * steps * GROUP_TOKENS];
            for token in 0..groups * GROUP_TOKENS {
                for step in 0..steps {
                    let at = line_index(groups, steps, token, step);
                    assert!(!std::mem::replace(&mut seen[at], true));
                    let line = tiles.tiles[at / GROUP_TOKENS].0[at % GROUP_TOKENS];
                    let have = line.map(|bits| f32::from_bits(u32::from(bits) << 16));
                    let want = x
                        .get(token * n_in + step * STEP..)
                        .and_then(|x| x.first_chunk())
                        .unwrap_or(&[0.0; STEP]);
                    assert_eq!(&have, want, "token {token} of {n_tok}, step {step}");
                }
            }
            assert!(seen.iter().all(|seen| *seen));
        }
    }
}
