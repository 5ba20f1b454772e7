//! Matrix products on all threads: `y = x · Wᵀ` for one or several matrices that share `x`.

use std::cell::RefCell;
use std::ops::Range;

use troika_base::DType;

use crate::activations::{BLOCK, QuantizedActivations, ScaleGroup, TILE_TOKENS, tiles};
use crate::dispatch::Kernels;
use crate::packed::{PANEL_ROWS, PackedMatrix};
use crate::pool::{Disjoint, Pool, Tasks};
use crate::tiled::{self, Cut, Tiled};
use crate::unpacked::Unpacked;

/// One product of a shared input: the weights `[n_out, n_in]` and where `y` `[n_tok, n_out]` goes (overwritten).
#[derive(Debug)]
pub struct Product<'a> {
    /// The weights.
    pub w: &'a PackedMatrix,
    /// The output, row-major.
    pub y: &'a mut [f32],
}

/// Quantized and tiled forms of an input, kept between products so that their memory is.
#[derive(Debug, Default)]
pub struct Workspace {
    /// `[tile][n_in][token]`
    columns: Vec<f32>,
    block32: QuantizedActivations,
    block256: QuantizedActivations,
    tiles: tiled::Activations,
}

/// How a product takes its activations.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Float,
    Quantized(ScaleGroup),
    Tiles,
}

impl Form {
    fn of(kernels: &Kernels, w: &PackedMatrix, n_tok: usize) -> Self {
        match w.dtype() {
            dtype if kernels.tiled.is_some() && tiled::fits(dtype, w.n_in(), n_tok) => Self::Tiles,
            DType::F32 | DType::F16 | DType::BF16 => Self::Float,
            dtype if dtype.block_len() < 256 => Self::Quantized(ScaleGroup::Block32),
            _ => Self::Quantized(ScaleGroup::Block256),
        }
    }
}

/// Panels that a task takes in decoding: about 128 KiB of weights, long enough for memory to stream.
const GEMV_TASK_BYTES: usize = 128 << 10;

/// Unpacked weights that share one pass over the activations: what leaves half of a common L2 for the rest.
const GEMM_GROUP_BYTES: usize = 384 << 10;

/// Panels that a kernel multiplies with one tile side by side.
pub(crate) const GEMM_PANELS: usize = 2;

/// Multiplies `x` `[n_tok, n_in]` by each product's weights.
///
/// The result does not depend on the number of threads: each output is one thread's work, in a fixed order. A token's
/// result does not depend on the others, but for one step: with a matrix unit, 16 tokens or more are computed in bf16,
/// and fewer as without it.
///
/// # Panics
/// If a shape disagrees.
pub fn matmul(
    kernels: &Kernels,
    pool: &Pool,
    x: &[f32],
    n_tok: usize,
    products: &mut [Product<'_>],
    workspace: &mut Workspace,
) {
    let Some(n_in) = products.first().map(|product| product.w.n_in()) else {
        return;
    };
    assert_eq!(x.len(), n_tok * n_in, "x is [n_tok, n_in]");
    for product in &*products {
        assert_eq!(product.w.n_in(), n_in, "products share n_in");
        assert_eq!(
            product.y.len(),
            n_tok * product.w.n_out(),
            "y is [n_tok, n_out]"
        );
    }
    prepare(kernels, pool, x, n_tok, n_in, products, workspace);
    let parts: Vec<Part<'_>> = products
        .iter_mut()
        .map(|product| {
            let w = product.w;
            let panels = || Tasks::new(w.n_panels(), panels_per_task(kernels, w, n_tok));
            let (x, tasks) = match (Form::of(kernels, w, n_tok), &kernels.tiled) {
                (Form::Tiles, Some(tiled)) => {
                    let cut = Cut::new(tiled, n_tok, w.n_panels(), pool.threads());
                    let tasks = Tasks::new(cut.count(), 1);
                    (Input::Tiles(tiled, &workspace.tiles, cut), tasks)
                }
                (Form::Quantized(ScaleGroup::Block32), _) => {
                    (Input::Quantized(&workspace.block32), panels())
                }
                (Form::Quantized(ScaleGroup::Block256), _) => {
                    (Input::Quantized(&workspace.block256), panels())
                }
                _ => (Input::Float(&workspace.columns), panels()),
            };
            let y = Disjoint::new(product.y);
            Part { w, y, x, tasks }
        })
        .collect();
    let work = |_| {
        for part in &parts {
            while let Some(tasks) = part.tasks.next() {
                part.compute(kernels, n_tok, tasks);
            }
        }
    };
    // A small product is over before another thread has woken up.
    let weight_bytes: usize = parts.iter().map(|part| part.w.bytes()).sum();
    if weight_bytes * n_tok.min(8) < SMALL_BYTES {
        work(0)
    } else {
        pool.run(work)
    }
}

/// Brings `x` into every form that a product wants.
fn prepare(
    kernels: &Kernels,
    pool: &Pool,
    x: &[f32],
    n_tok: usize,
    n_in: usize,
    products: &[Product<'_>],
    workspace: &mut Workspace,
) {
    let is_used = |form| {
        products
            .iter()
            .any(|product| Form::of(kernels, product.w, n_tok) == form)
    };
    for (group, quantized) in [
        (ScaleGroup::Block32, &mut workspace.block32),
        (ScaleGroup::Block256, &mut workspace.block256),
    ] {
        if is_used(Form::Quantized(group)) {
            quantize(kernels, pool, x, n_tok, n_in, group, quantized);
        }
    }
    if is_used(Form::Float) {
        tile_columns(pool, x, n_tok, n_in, &mut workspace.columns);
    }
    if let Some(tiled) = &kernels.tiled
        && is_used(Form::Tiles)
    {
        workspace.tiles.fill(tiled, pool, x, n_tok, n_in);
    }
}

/// Weights times tokens below which a product stays on the calling thread: about 5 µs of work.
const SMALL_BYTES: usize = 64 << 10;

/// Tokens up to which panels are not taken apart in memory first, where the kernel set has a choice.
const PACKED_TOKENS: usize = 2 * TILE_TOKENS;

/// Whether a product of quantized weights reads the panels as they are.
fn reads_packed(kernels: &Kernels, n_tok: usize) -> bool {
    n_tok == 1 || (kernels.has_gemm_packed() && n_tok <= PACKED_TOKENS)
}

fn panels_per_task(kernels: &Kernels, w: &PackedMatrix, n_tok: usize) -> usize {
    let (bytes, target) = if reads_packed(kernels, n_tok) {
        (w.panel_bytes(), GEMV_TASK_BYTES)
    } else {
        (
            w.n_in() * PANEL_ROWS * kernels.unpacked_weight_bytes,
            GEMM_GROUP_BYTES,
        )
    };
    (target / bytes)
        .next_multiple_of(GEMM_PANELS)
        .max(GEMM_PANELS)
}

/// Fills `out` with `x` tile by tile, each transposed: `[tile][n_in][token]`.
fn tile_columns(pool: &Pool, x: &[f32], n_tok: usize, n_in: usize, out: &mut Vec<f32>) {
    out.resize(x.len(), 0.0);
    let out = Disjoint::new(out);
    let tiles: Vec<_> = tiles(n_tok).collect();
    pool.for_each(tiles.len(), 1, |index| {
        let tile = tiles[index];
        // SAFETY: tiles do not overlap.
        let columns = unsafe { out.part(tile.start * n_in, tile.len * n_in) };
        let rows = x[tile.start * n_in..].chunks_exact(n_in);
        for (token, row) in rows.take(tile.len).enumerate() {
            for (value, column) in row.iter().zip(columns.chunks_exact_mut(tile.len)) {
                column[token] = *value;
            }
        }
    });
}

/// Fills `out` with `x` in 8 bits.
fn quantize(
    kernels: &Kernels,
    pool: &Pool,
    x: &[f32],
    n_tok: usize,
    n_in: usize,
    group: ScaleGroup,
    out: &mut QuantizedActivations,
) {
    out.resize(n_tok, n_in);
    let (q, scale) = (Disjoint::new(&mut out.q), Disjoint::new(&mut out.scale));
    let (neg_sum, scaled_sum) = (
        Disjoint::new(&mut out.neg_sum),
        Disjoint::new(&mut out.scaled_sum),
    );
    let tiles: Vec<_> = tiles(n_tok).collect();
    let quantize_token = |token: usize| {
        let tile = tiles
            .iter()
            .rfind(|tile| tile.start <= token)
            .expect("tiles cover all tokens");
        let (first, stride) = QuantizedActivations::token_blocks(n_in, *tile, token - tile.start);
        ROW.with_borrow_mut(|(row, scales)| {
            row.resize(n_in, 0);
            scales.resize(n_in / group.values(), 0.0);
            kernels.quantize(&x[token * n_in..][..n_in], group.values(), row, scales);
            for (block, values) in row.as_chunks::<BLOCK>().0.iter().enumerate() {
                let at = first + block * stride;
                let block_scale = scales[block * BLOCK / group.values()];
                let (low, high) = (sum_of_half(&values[..16]), sum_of_half(&values[16..]));
                // SAFETY: each block of each token has its own index.
                unsafe {
                    q.part(at * BLOCK, BLOCK).copy_from_slice(values);
                    scale.part(at, 1)[0] = block_scale;
                    neg_sum.part(at, 1)[0] = [-low, -high];
                    scaled_sum.part(at, 1)[0] = block_scale * (low + high) as f32;
                }
            }
        });
    };
    pool.for_each(n_tok, 4, quantize_token);
}

/// The sum of 16 values, eight bytes at a time: one by one, they would take as long as a tenth of the products.
fn sum_of_half(values: &[i8]) -> i32 {
    const EVERY_OTHER: u64 = 0x00ff_00ff_00ff_00ff;
    // Bytes that are 128 larger have no sign, and no carry crosses from one sum of 16 bits to the next.
    let eight = |bytes: &[i8]| {
        let unsigned = u64::from_le_bytes(std::array::from_fn(|i| bytes[i] as u8 ^ 0x80));
        (unsigned & EVERY_OTHER) + ((unsigned >> 8) & EVERY_OTHER)
    };
    let pairs = eight(&values[..8]) + eight(&values[8..16]);
    let sum = pairs.wrapping_mul(0x0001_0001_0001_0001) >> 48;
    sum as i32 - 16 * 128
}

thread_local! {
    static ROW: RefCell<(Vec<i8>, Vec<f32>)> = const { RefCell::new((Vec::new(), Vec::new())) };
    static SCRATCH: RefCell<Scratch> = const { RefCell::new(Scratch { unpacked: Vec::new(), out: Vec::new(), n_in: 0, weight_bytes: 0, tiled: tiled::Scratch::EMPTY }) };
}

/// A thread's own buffers.
struct Scratch {
    unpacked: Vec<Unpacked>,
    out: Vec<f32>,
    n_in: usize,
    weight_bytes: usize,
    tiled: tiled::Scratch,
}

impl Scratch {
    /// Room for `count` panels of `n_in` columns.
    fn prepare(&mut self, count: usize, n_in: usize, weight_bytes: usize) {
        if self.n_in < n_in || self.weight_bytes != weight_bytes {
            self.unpacked.clear();
            (self.n_in, self.weight_bytes) = (n_in, weight_bytes);
        }
        while self.unpacked.len() < count {
            self.unpacked.push(Unpacked::new(self.n_in, weight_bytes));
        }
    }
}

/// The activations, with what is particular to their form.
enum Input<'a> {
    Float(&'a [f32]),
    Quantized(&'a QuantizedActivations),
    Tiles(&'a Tiled, &'a tiled::Activations, Cut),
}

/// A product as the threads share it.
struct Part<'a> {
    w: &'a PackedMatrix,
    y: Disjoint<'a, f32>,
    x: Input<'a>,
    /// Of panels, or of jobs of the cut.
    tasks: Tasks,
}

impl Part<'_> {
    /// Computes the outputs of some panels for all tokens, or those of some jobs.
    fn compute(&self, kernels: &Kernels, n_tok: usize, tasks: Range<usize>) {
        SCRATCH.with_borrow_mut(|scratch| match &self.x {
            Input::Quantized(x) if n_tok == 1 => self.gemv(kernels, x, tasks, scratch),
            Input::Quantized(x) if reads_packed(kernels, n_tok) => {
                self.gemm_packed(kernels, x, n_tok, tasks, scratch);
            }
            Input::Quantized(x) => self.gemm(kernels, x, n_tok, tasks, scratch),
            Input::Float(x) => self.product(kernels, x, n_tok, tasks, scratch),
            Input::Tiles(tiled, x, cut) => {
                for job in tasks {
                    self.tiled(tiled, x, cut.job(job), &mut scratch.tiled);
                }
            }
        });
    }

    /// Computes some panels for some tokens.
    fn tiled(
        &self,
        tiled: &Tiled,
        x: &tiled::Activations,
        (tokens, panels): (Range<usize>, Range<usize>),
        scratch: &mut tiled::Scratch,
    ) {
        let job = tiled::Job {
            dtype: self.w.dtype(),
            n_in: self.w.n_in(),
            panels: self.w.panels(panels.start, panels.len()),
            count: panels.len(),
            x: x.chunk(&tokens),
            n_tok: tokens.len(),
        };
        tiled.product(&job, scratch, |token, panel, sums| {
            self.write(tokens.start + token, panels.start + panel, sums);
        });
    }

    fn gemv(
        &self,
        kernels: &Kernels,
        x: &QuantizedActivations,
        panels: Range<usize>,
        scratch: &mut Scratch,
    ) {
        let count = panels.len();
        scratch.out.resize(count * PANEL_ROWS, 0.0);
        let tile = tiles(1).next().expect("one token is one tile");
        let weights = self.w.panels(panels.start, count);
        kernels.gemv(
            self.w.dtype(),
            weights,
            count,
            self.w.n_in(),
            x.tile(tile),
            &mut scratch.out,
        );
        for (panel, out) in panels.zip(scratch.out.chunks_exact(PANEL_ROWS)) {
            self.write(0, panel, out);
        }
    }

    /// Two panels at a time, so that they are in the cache for every tile of tokens.
    fn gemm_packed(
        &self,
        kernels: &Kernels,
        x: &QuantizedActivations,
        n_tok: usize,
        panels: Range<usize>,
        scratch: &mut Scratch,
    ) {
        for first in panels.clone().step_by(GEMM_PANELS) {
            let count = GEMM_PANELS.min(panels.end - first);
            let weights = self.w.panels(first, count);
            for tile in tiles(n_tok) {
                let per_panel = tile.len * PANEL_ROWS;
                scratch.out.resize(count * per_panel, 0.0);
                kernels.gemm_packed(
                    self.w.dtype(),
                    weights,
                    count,
                    self.w.n_in(),
                    x.tile(tile),
                    &mut scratch.out,
                );
                for (panel, out) in (first..).zip(scratch.out.chunks_exact(per_panel)) {
                    for (token, out) in out.chunks_exact(PANEL_ROWS).enumerate() {
                        self.write(tile.start + token, panel, out);
                    }
                }
            }
        }
    }

    fn gemm(
        &self,
        kernels: &Kernels,
        x: &QuantizedActivations,
        n_tok: usize,
        panels: Range<usize>,
        scratch: &mut Scratch,
    ) {
        let (dtype, n_in) = (self.w.dtype(), self.w.n_in());
        scratch.prepare(panels.len(), n_in, kernels.unpacked_weight_bytes);
        for (panel, unpacked) in panels.clone().zip(&mut scratch.unpacked) {
            kernels.unpack(dtype, self.w.panels(panel, 1), n_in, unpacked);
        }
        for tile in tiles(n_tok) {
            let tokens = x.tile(tile);
            let per_panel = tile.len * PANEL_ROWS;
            let unpacked = scratch.unpacked[..panels.len()].chunks(GEMM_PANELS);
            for (first, unpacked) in panels.clone().step_by(GEMM_PANELS).zip(unpacked) {
                let mut out = [0.0; GEMM_PANELS * TILE_TOKENS * PANEL_ROWS];
                let out = &mut out[..unpacked.len() * per_panel];
                kernels.gemm(dtype, unpacked, n_in, tokens, out);
                for (panel, out) in (first..).zip(out.chunks_exact(per_panel)) {
                    for (token, out) in out.chunks_exact(PANEL_ROWS).enumerate() {
                        self.write(tile.start + token, panel, out);
                    }
                }
            }
        }
    }

    fn product(
        &self,
        kernels: &Kernels,
        x: &[f32],
        n_tok: usize,
        panels: Range<usize>,
        scratch: &mut Scratch,
    ) {
        let n_in = self.w.n_in();
        let weights = self.w.panels(panels.start, panels.len());
        for tile in tiles(n_tok) {
            let per_panel = tile.len * PANEL_ROWS;
            scratch.out.resize(panels.len() * per_panel, 0.0);
            let x = &x[tile.start * n_in..][..tile.len * n_in];
            kernels.product(
                self.w.dtype(),
                weights,
                panels.len(),
                n_in,
                x,
                tile.len,
                &mut scratch.out,
            );
            for (panel, out) in panels.clone().zip(scratch.out.chunks_exact(per_panel)) {
                for (token, out) in out.chunks_exact(PANEL_ROWS).enumerate() {
                    self.write(tile.start + token, panel, out);
                }
            }
        }
    }

    /// Writes a panel's 16 outputs for a token, leaving out rows that only fill the panel up.
    fn write(&self, token: usize, panel: usize, out: &[f32]) {
        let first = panel * PANEL_ROWS;
        let rows = PANEL_ROWS.min(self.w.n_out() - first);
        // SAFETY: each panel of each token is computed once.
        let y = unsafe { self.y.part(token * self.w.n_out() + first, rows) };
        match (
            <&mut [f32; PANEL_ROWS]>::try_from(&mut *y),
            out.first_chunk(),
        ) {
            // A length that the compiler knows is a move of one register, not a call.
            (Ok(y), Some(out)) => *y = *out,
            _ => y.copy_from_slice(&out[..rows]),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn eight_bytes_at_a_time_make_the_same_sum(values: [i8; 16]) {
            let sum: i32 = values.iter().map(|&value| i32::from(value)).sum();
            prop_assert_eq!(sum_of_half(&values), sum);
        }
    }
}
