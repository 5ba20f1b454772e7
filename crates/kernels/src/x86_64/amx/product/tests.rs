//! Products in tiles against products in f64, and against themselves cut in other ways.

use half::bf16;
use troika_base::DType;

use super::*;
use crate::dispatch::Kernels;
use crate::matmul::{Product, Rows, Workspace, matmul};
use crate::packed::PackedMatrix;
use crate::pool::Pool;
use crate::quant::dequantize_row;
use crate::quant::tests::{integer_formats, put_scales};
use crate::tiled::{Activations, Cut, MIN_TOKENS, Tiled};

/// Every format but F32, which is never rounded.
fn formats() -> Vec<DType> {
    [&[DType::F16, DType::BF16], &integer_formats()[..]].concat()
}

/// The AMX set, on the CPU's unit or emulated.
fn amx() -> Option<Kernels> {
    let kernels = Kernels::amx_on_any_unit();
    if kernels.is_none() {
        println!("skipped: no AMX here, nor AVX-512 to emulate it beside");
    }
    kernels
}

fn unit(kernels: &Kernels) -> &Tiled {
    kernels.tiled.as_ref().expect("the AMX set has tiles")
}

/// The same numbers for the same seed, without pattern.
struct Noise(u64);

impl Noise {
    fn bits(&mut self) -> u32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 32) as u32
    }

    /// In -1..1.
    fn unit(&mut self) -> f32 {
        self.bits() as i32 as f32 / 2f32.powi(31)
    }

    fn units(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.unit()).collect()
    }
}

/// What the scales of some blocks are.
#[derive(Clone, Copy, PartialEq)]
enum Scales {
    Usual,
    /// Zero, subnormal, the largest of either sign, and usual ones in turn.
    Extreme,
}

/// Rows of any quants, which a quantizer might never write: -128 in Q8_0, every code of a scale.
fn rows(dtype: DType, n_out: usize, n_in: usize, scales: Scales, noise: &mut Noise) -> Vec<u8> {
    let mut rows = vec![0; n_out * dtype.row_bytes(n_in).unwrap()];
    for (index, block) in rows.chunks_exact_mut(dtype.block_bytes()).enumerate() {
        block.fill_with(|| noise.bits() as u8);
        let scale = || {
            let usual = half::f16::from_f32(noise.unit() / 16.0).to_bits();
            match index % 5 {
                _ if scales == Scales::Usual => usual,
                0 => 0,
                1 => 0x8001,
                2 => 0x7bff,
                3 => 0xfbff,
                _ => usual,
            }
        };
        match dtype {
            DType::BF16 => block.copy_from_slice(&bf16::from_f32(noise.unit()).to_le_bytes()),
            _ => put_scales(dtype, block, scale),
        }
    }
    rows
}

/// As the unit takes numbers: bf16, without subnormal ones.
fn rounded(x: f32) -> f64 {
    let x = bf16::from_f32(x).to_f32();
    if x.is_subnormal() { 0.0 } else { x.into() }
}

/// Rows times tokens in f64 by `read`, and the sums of magnitudes.
fn plain(
    dtype: DType,
    rows: &[u8],
    n_in: usize,
    x: &[f32],
    read: impl Fn(f32) -> f64,
) -> Vec<(f64, f64)> {
    let mut row = vec![0.0; n_in];
    let weights: Vec<f64> = rows
        .chunks_exact(dtype.row_bytes(n_in).unwrap())
        .flat_map(|bytes| {
            dequantize_row(dtype, bytes, &mut row).unwrap();
            row.iter().map(|x| read(*x)).collect::<Vec<_>>()
        })
        .collect();
    let x: Vec<f64> = x.iter().map(|x| read(*x)).collect();
    let mut out = Vec::new();
    for x in x.chunks_exact(n_in) {
        for w in weights.chunks_exact(n_in) {
            let products = w.iter().zip(x).map(|(w, x)| w * x);
            out.push(products.fold((0.0, 0.0), |(sum, size), product| {
                (sum + product, size + product.abs())
            }));
        }
    }
    out
}

/// The product in tiles, for any number of tokens.
fn tiled(kernels: &Kernels, w: &PackedMatrix, x: &[f32], threads: usize) -> Vec<f32> {
    let (n_in, n_out) = (w.n_in(), w.n_out());
    let n_tok = x.len() / n_in;
    let mut tiles = Activations::default();
    let rows: Vec<usize> = (0..n_tok).collect();
    let input = Rows {
        x,
        n_in,
        rows: &rows,
    };
    tiles.fill(unit(kernels), &Pool::new(1), input);
    let cut = Cut::new(unit(kernels), n_tok, w.n_panels(), threads);
    let mut scratch = Scratch::EMPTY;
    let mut y = vec![f32::NAN; n_tok * n_out];
    for index in 0..cut.count() {
        let (tokens, panels) = cut.job(index);
        let job = Job {
            dtype: w.dtype(),
            n_in,
            panels: w.panels(panels.start, panels.len()),
            count: panels.len(),
            x: tiles.chunk(&tokens),
            n_tok: tokens.len(),
        };
        unit(kernels).product(&job, &mut scratch, |token, panel, sums| {
            let first = (panels.start + panel) * 16;
            let count = 16.min(n_out - first);
            y[(tokens.start + token) * n_out + first..][..count].copy_from_slice(&sums[..count]);
        });
    }
    y
}

#[track_caller]
fn check(kernels: &Kernels, dtype: DType, shape: (usize, usize, usize), scales: Scales) {
    let (n_tok, n_out, n_in) = shape;
    let mut noise = Noise((n_tok * 1000 + n_out) as u64);
    let rows = rows(dtype, n_out, n_in, scales, &mut noise);
    let x = noise.units(n_tok * n_in);
    let w = PackedMatrix::from_rows(&Pool::new(1), dtype, n_out, n_in, &rows);
    let have = tiled(kernels, &w, &x, 1);
    let exact = plain(dtype, &rows, n_in, &x, f64::from);
    let of_rounded = plain(dtype, &rows, n_in, &x, rounded);
    let mut error_squares = (0.0, 0.0);
    for (at, have) in have.iter().enumerate() {
        let have = f64::from(*have);
        let context = || format!("{dtype} {shape:?}: output {at} is {have:e}");
        // A step adds with 18 roundings at most, one of which is of the whole sum.
        let (want, size) = of_rounded[at];
        let bound = (20 + n_in / STEP) as f64 * 2f64.powi(-24) * size + 1e-30;
        assert!((have - want).abs() <= bound, "{}, not {want:e}", context());
        // Each factor is rounded to 8 bits.
        let (want, size) = exact[at];
        assert!(
            (have - want).abs() <= 2f64.powi(-7) * size,
            "{}, not {want:e}",
            context()
        );
        error_squares.0 += (have - want).powi(2);
        error_squares.1 += size.powi(2);
    }
    // Roundings have no common direction, so errors of the usual size are far below the bound.
    if scales == Scales::Usual && n_tok * n_out >= 64 {
        let rms = (error_squares.0 / error_squares.1).sqrt();
        assert!(rms < 2f64.powi(-10), "{dtype} {shape:?}: error {rms:e}");
    }
}

#[test]
fn products_are_close_to_those_in_f64() {
    let Some(kernels) = amx() else { return };
    for dtype in formats() {
        for n_tok in [1, 2, 15, 16, 17, 31, 32, 33] {
            check(&kernels, dtype, (n_tok, 40, 256), Scales::Usual);
        }
        check(&kernels, dtype, (70, 100, 512), Scales::Usual);
        check(&kernels, dtype, (8, 1, 2304), Scales::Usual);
        check(&kernels, dtype, (33, 17, 768), Scales::Extreme);
    }
    for dtype in [DType::Q4_0, DType::Q8_0, DType::F16, DType::BF16] {
        for n_in in [32, 96, 288] {
            check(&kernels, dtype, (19, 33, n_in), Scales::Usual);
        }
    }
}

/// More than one job, in both directions.
#[test]
fn large_products_are_close_to_those_in_f64() {
    let Some(kernels) = amx() else { return };
    check(&kernels, DType::Q8_0, (290, 20 * 16 + 3, 64), Scales::Usual);
}

/// What one token gives, alone or in any batch.
#[test]
fn a_tokens_bits_do_not_depend_on_the_batch() {
    let Some(kernels) = amx() else { return };
    for dtype in [DType::Q4_K, DType::BF16] {
        let (n_out, n_in) = (50, 512);
        let mut noise = Noise(7);
        let rows = rows(dtype, n_out, n_in, Scales::Usual, &mut noise);
        let w = PackedMatrix::from_rows(&Pool::new(1), dtype, n_out, n_in, &rows);
        let x = noise.units(70 * n_in);
        let all = tiled(&kernels, &w, &x, 1);
        for n_tok in [1, 15, 16, 33, 64] {
            let some = tiled(&kernels, &w, &x[..n_tok * n_in], 1);
            assert_eq!(some, all[..n_tok * n_out], "{dtype}: {n_tok} of 70");
        }
        // Elsewhere in the batch, and as a partner of others.
        let some = tiled(&kernels, &w, &x[21 * n_in..], 1);
        assert_eq!(some, all[21 * n_out..], "{dtype}: from token 21 on");
    }
}

#[test]
fn bits_do_not_depend_on_slabs_and_jobs() {
    let Some(kernels) = amx() else { return };
    let (dtype, n_tok, n_out, n_in) = (DType::Q6_K, 40, 16 * 5, 768);
    let mut noise = Noise(3);
    let rows = rows(dtype, n_out, n_in, Scales::Usual, &mut noise);
    let w = PackedMatrix::from_rows(&Pool::new(1), dtype, n_out, n_in, &rows);
    let x = noise.units(n_tok * n_in);
    let want = tiled(&kernels, &w, &x, 1);
    for threads in [2, 3, 100] {
        assert_eq!(tiled(&kernels, &w, &x, threads), want, "{threads} threads");
    }
    let mut tiles = Activations::default();
    let tokens: Vec<usize> = (0..n_tok).collect();
    let input = Rows {
        x: &x,
        n_in,
        rows: &tokens,
    };
    tiles.fill(unit(&kernels), &Pool::new(1), input);
    let job = Job {
        dtype,
        n_in,
        panels: w.panels(0, 5),
        count: 5,
        x: tiles.chunk(&(0..n_tok)),
        n_tok,
    };
    // One scratch, so that what a slab leaves behind is seen.
    let mut scratch = Scratch::EMPTY;
    for slab_steps in [1, 3, 8, 23, 24, 100] {
        let mut seen = 0;
        let mut compare = |group: usize, panel: usize, sums: &F32Tile| {
            seen += 1;
            for (token, sums) in (group * 16..n_tok).zip(&sums.0) {
                let want = &want[token * n_out + panel * 16..][..16];
                assert_eq!(sums, want, "slabs of {slab_steps}");
            }
        };
        // SAFETY: `amx` found a unit; the job is consistent.
        unsafe { multiply(&job, slab_steps, &mut scratch, &mut compare) };
        assert_eq!(seen, 3 * 5);
    }
}

/// Through the front door: several matrices at once, on any number of threads, some of them not for tiles.
#[test]
fn matrix_products_take_tiles_where_they_fit() {
    let Some(kernels) = amx() else { return };
    // Two chunks of tokens, three runs of panels.
    let (n_tok, n_out, n_in) = (290, 70, 256);
    let mut noise = Noise(11);
    let x = noise.units(n_tok * n_in);
    let all: Vec<PackedMatrix> = formats()
        .into_iter()
        .chain([DType::F32])
        .map(|dtype| {
            let rows = match dtype {
                DType::F32 => {
                    let values = noise.units(n_out * n_in);
                    values.iter().flat_map(|x| x.to_le_bytes()).collect()
                }
                _ => rows(dtype, n_out, n_in, Scales::Usual, &mut noise),
            };
            PackedMatrix::from_rows(&Pool::new(1), dtype, n_out, n_in, &rows)
        })
        .collect();
    let together = |kernels: &Kernels, threads: usize, x: &[f32]| {
        let mut y = vec![vec![f32::NAN; x.len() / n_in * n_out]; all.len()];
        let mut products: Vec<_> = all
            .iter()
            .zip(&mut y)
            .map(|(w, y)| Product { w, y })
            .collect();
        let pool = Pool::new(threads);
        let mut workspace = Workspace::default();
        matmul(
            kernels,
            &pool,
            x,
            x.len() / n_in,
            &mut products,
            &mut workspace,
        );
        y
    };
    let y = together(&kernels, 1, &x);
    for (w, y) in all.iter().zip(&y) {
        if w.dtype() != DType::F32 {
            assert_eq!(*y, tiled(&kernels, w, &x, 1), "{}", w.dtype());
        }
    }
    for threads in [2, 3] {
        assert_eq!(together(&kernels, threads, &x), y, "{threads} threads");
    }
    let sets = Kernels::all();
    let vectors = sets
        .iter()
        .find(|set| set.name == "avx512vnni")
        .expect("the AMX set builds on it");
    let f32_only = |mut y: Vec<Vec<f32>>| y.pop();
    assert_eq!(
        f32_only(together(vectors, 1, &x)),
        f32_only(y),
        "F32 stays F32"
    );
    let few = &x[..(MIN_TOKENS - 1) * n_in];
    assert_eq!(
        together(&kernels, 2, few),
        together(vectors, 2, few),
        "few tokens go without tiles"
    );
}
