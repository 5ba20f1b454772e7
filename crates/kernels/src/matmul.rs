//! Matrix products on all threads: `y = x · Wᵀ` for one or several matrices that share `x`.

mod part;

use std::cell::RefCell;

use troika_base::DType;

use crate::activations::{BLOCK, QuantizedActivations, ScaleGroup, TILE_TOKENS, tiles};
use crate::dispatch::Kernels;
use crate::packed::{PANEL_ROWS, PackedMatrix};
use crate::pool::{Disjoint, Pool};
use crate::tiled;

use part::Part;

/// One product of a shared input: the weights `[n_out, n_in]` and where `y` `[n_tok, n_out]` goes (overwritten).
#[derive(Debug)]
pub struct Product<'a> {
    /// The weights.
    pub w: &'a PackedMatrix,
    /// The output, row-major.
    pub y: &'a mut [f32],
}

/// Some tokens, and the products that take them. All share `n_in`.
#[derive(Debug)]
pub struct Group<'g, 'a> {
    /// The rows of `x` that these tokens are.
    pub rows: &'g [usize],
    /// What they are multiplied with.
    pub products: &'g mut [Product<'a>],
}

/// Quantized and tiled forms of inputs, kept between products so that their memory is.
#[derive(Debug, Default)]
pub struct Workspace(Vec<Forms>);

/// Those of one input.
#[derive(Debug, Default)]
struct Forms {
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
    let rows: Vec<usize> = (0..n_tok).collect();
    let rows = &rows;
    matmul_groups(kernels, pool, x, &mut [Group { rows, products }], workspace);
}

/// Multiplies some rows of `x` `[rows, n_in]` by some weights and others by others, each group as [`matmul`] would, and
/// all of them in one go: no thread waits at a group's end. A product's `y` is `[group's tokens, n_out]`.
///
/// # Panics
/// If a shape disagrees, or a row is not there.
pub fn matmul_groups(
    kernels: &Kernels,
    pool: &Pool,
    x: &[f32],
    groups: &mut [Group<'_, '_>],
    workspace: &mut Workspace,
) {
    let products = || groups.iter().flat_map(|group| &*group.products);
    let Some(n_in) = products().next().map(|product| product.w.n_in()) else {
        return;
    };
    assert!(
        products().all(|product| product.w.n_in() == n_in),
        "products share n_in"
    );
    let forms = &mut workspace.0;
    if forms.len() < groups.len() {
        forms.resize_with(groups.len(), Forms::default);
    }
    let inputs: Vec<Rows<'_>> = groups
        .iter()
        .map(|group| Rows {
            x,
            n_in,
            rows: group.rows,
        })
        .collect();
    match &*groups {
        [group] => forms[0].prepare(kernels, pool, inputs[0], group.products),
        groups => {
            // Each group is one thread's, which has no others to share it with.
            let alone = Pool::new(1);
            pool.for_each_chunk(&mut forms[..groups.len()], 1, |index, forms| {
                let products = &*groups[index].products;
                forms[0].prepare(kernels, &alone, inputs[index], products);
            });
        }
    }
    // Where there are many parts, they need not be cut small for all threads to have some.
    let threads = match groups.len() {
        1 => pool.threads(),
        _ => 1,
    };
    let parts: Vec<Part<'_>> = groups
        .iter_mut()
        .zip(&*forms)
        .flat_map(|(group, forms)| {
            let n_tok = group.rows.len();
            let part = move |product| Part::new(kernels, product, n_tok, forms, threads);
            group.products.iter_mut().map(part)
        })
        .collect();
    let work = |_| {
        for part in &parts {
            while let Some(tasks) = part.tasks.next() {
                part.compute(kernels, tasks);
            }
        }
    };
    // A small product is over before another thread has woken up.
    let work_bytes = |part: &Part<'_>| part.w.bytes() * part.n_tok.min(8);
    if parts.iter().map(work_bytes).sum::<usize>() < SMALL_BYTES {
        work(0)
    } else {
        pool.run(work)
    }
    drop(parts);
    for Product { w, y } in groups.iter_mut().flat_map(|group| &mut *group.products) {
        if w.scale() != 1.0 {
            y.iter_mut().for_each(|y| *y *= w.scale());
        }
    }
}

/// Some rows of `x` `[_, n_in]`: the tokens of a group.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub(crate) x: &'a [f32],
    pub(crate) n_in: usize,
    pub(crate) rows: &'a [usize],
}

impl<'a> Rows<'a> {
    pub(crate) fn len(self) -> usize {
        self.rows.len()
    }

    /// A token's values.
    pub(crate) fn row(self, token: usize) -> &'a [f32] {
        &self.x[self.rows[token] * self.n_in..][..self.n_in]
    }
}

impl Forms {
    /// Brings `x` into every form that a product wants.
    fn prepare(&mut self, kernels: &Kernels, pool: &Pool, x: Rows<'_>, products: &[Product<'_>]) {
        let is_used = |form| {
            products
                .iter()
                .any(|product| Form::of(kernels, product.w, x.len()) == form)
        };
        for (group, quantized) in [
            (ScaleGroup::Block32, &mut self.block32),
            (ScaleGroup::Block256, &mut self.block256),
        ] {
            if is_used(Form::Quantized(group)) {
                quantize(kernels, pool, x, group, quantized);
            }
        }
        if is_used(Form::Float) {
            tile_columns(pool, x, &mut self.columns);
        }
        if let Some(tiled) = &kernels.tiled
            && is_used(Form::Tiles)
        {
            self.tiles.fill(tiled, pool, x);
        }
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
fn tile_columns(pool: &Pool, x: Rows<'_>, out: &mut Vec<f32>) {
    let (n_tok, n_in) = (x.len(), x.n_in);
    out.resize(n_tok * n_in, 0.0);
    let out = Disjoint::new(out);
    let tiles: Vec<_> = tiles(n_tok).collect();
    pool.for_each(tiles.len(), 1, |index| {
        let tile = tiles[index];
        // SAFETY: tiles do not overlap.
        let columns = unsafe { out.part(tile.start * n_in, tile.len * n_in) };
        for token in 0..tile.len {
            let row = x.row(tile.start + token);
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
    x: Rows<'_>,
    group: ScaleGroup,
    out: &mut QuantizedActivations,
) {
    let (n_tok, n_in) = (x.len(), x.n_in);
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
            kernels.quantize(x.row(token), group.values(), row, scales);
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
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Groups of all sizes, which take rows as they like, against products one by one.
    #[test]
    fn groups_are_products_side_by_side() {
        const N_IN: usize = 512;
        let value = |i: usize| ((i * 7919) % 2003) as f32 / 1001.0 - 1.0;
        let x: Vec<f32> = (0..48 * N_IN).map(value).collect();
        let pool = Pool::new(2);
        let mut matrices = Vec::new();
        for (n_out, dtype) in [(40, DType::Q4_K), (16, DType::Q6_K), (7, DType::F32)] {
            let weights: Vec<f32> = (0..n_out * N_IN).map(|i| value(i + n_out)).collect();
            let mut rows = vec![0; n_out * dtype.row_bytes(N_IN).expect("whole blocks")];
            crate::quant::quantize_row(dtype, &weights, &mut rows).expect("is quantized");
            matrices.push(PackedMatrix::from_rows(&pool, dtype, n_out, N_IN, &rows));
        }
        let rows: Vec<Vec<usize>> = [1, 5, 16, 33, 3]
            .iter()
            .map(|&n_tok| (0..n_tok).map(|i| (i * 11 + n_tok) % 48).collect())
            .collect();
        for kernels in Kernels::all() {
            let mut workspace = Workspace::default();
            let blank = |rows: &Vec<usize>| {
                let of = |w: &PackedMatrix| vec![f32::NAN; rows.len() * w.n_out()];
                matrices.iter().map(of).collect::<Vec<_>>()
            };
            let mut have: Vec<Vec<Vec<f32>>> = rows.iter().map(blank).collect();
            let mut want = have.clone();
            let mut products: Vec<Vec<Product<'_>>> = have
                .iter_mut()
                .map(|y| {
                    let pairs = matrices.iter().zip(y);
                    pairs.map(|(w, y)| Product { w, y }).collect()
                })
                .collect();
            let mut groups: Vec<_> = rows
                .iter()
                .zip(&mut products)
                .map(|(rows, products)| Group { rows, products })
                .collect();
            matmul_groups(&kernels, &pool, &x, &mut groups, &mut workspace);
            for (rows, y) in rows.iter().zip(&mut want) {
                let x: Vec<f32> = rows
                    .iter()
                    .flat_map(|row| &x[row * N_IN..][..N_IN])
                    .copied()
                    .collect();
                let mut products: Vec<_> = matrices
                    .iter()
                    .zip(y)
                    .map(|(w, y)| Product { w, y })
                    .collect();
                matmul(
                    &kernels,
                    &pool,
                    &x,
                    rows.len(),
                    &mut products,
                    &mut workspace,
                );
            }
            assert_eq!(have, want, "{}", kernels.name);
        }
    }

    proptest! {
        #[test]
        fn eight_bytes_at_a_time_make_the_same_sum(values: [i8; 16]) {
            let sum: i32 = values.iter().map(|&value| i32::from(value)).sum();
            prop_assert_eq!(sum_of_half(&values), sum);
        }
    }
}
