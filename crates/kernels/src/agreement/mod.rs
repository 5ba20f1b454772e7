//! Every kernel set against the scalar reference, to the bit, on ordinary and on extreme input; the reference against
//! plain arithmetic in f64; and products against themselves on other numbers of threads.
//!
//! AMX is not here: it computes in bf16, and its own tests say how closely.

mod inputs;

use half::f16;
use proptest::prelude::*;
use troika_base::{DType, KvType};

use crate::activations::BLOCK;
use crate::dispatch::Kernels;
use crate::float::attention::{Attend, State, padded};
use crate::float::elementwise::Gating;
use crate::kv::{HeadLayout, PAGE_TOKENS};
use crate::matmul::{GEMM_PANELS, Product, Workspace, matmul};
use crate::packed::{PANEL_ROWS, PackedMatrix};
use crate::pool::Pool;
use crate::quant::tests::integer_formats;
use crate::quant::{dequantize_row, is_computed, is_of_grid};
use crate::unpacked::{Correction, Unpacked, correction};

use inputs::{Bytes, FLOAT, Floats, Noise, Scales, Tokens, float_rows, pages, rows};

/// The reference, and the sets that must agree with it.
fn sets() -> (Kernels, Vec<Kernels>) {
    let mut sets = Kernels::all();
    sets.retain(|set| set.name != "amx");
    let reference = sets.remove(0);
    assert_eq!(reference.name, "scalar");
    (reference, sets)
}

/// `.ci/run arm` asks for what an emulated processor has to have.
#[test]
fn the_set_that_is_asked_for_is_there() {
    assert!(Kernels::from_env().is_ok());
}

/// Bits, with one NaN as good as another.
fn bits(x: &[f32]) -> Vec<u32> {
    let canonical = |x: &f32| if x.is_nan() { f32::NAN } else { *x };
    x.iter().map(canonical).map(f32::to_bits).collect()
}

fn pack(dtype: DType, n_out: usize, n_in: usize, rows: &[u8]) -> PackedMatrix {
    PackedMatrix::from_rows(&Pool::new(1), dtype, n_out, n_in, rows)
}

/// Panels times a tile, by way of unpacking.
fn gemm(set: &Kernels, w: &PackedMatrix, x: &Tokens) -> Vec<f32> {
    let mut unpacked: Vec<Unpacked> = (0..w.n_panels())
        .map(|_| Unpacked::new(w.n_in(), set.unpacked_weight_bytes))
        .collect();
    for (panel, unpacked) in unpacked.iter_mut().enumerate() {
        set.unpack(w.dtype(), w.panels(panel, 1), w.n_in(), unpacked);
    }
    let mut out = vec![f32::NAN; w.n_panels() * x.len * PANEL_ROWS];
    for (w_part, out) in unpacked
        .chunks(GEMM_PANELS)
        .zip(out.chunks_mut(GEMM_PANELS * x.len * PANEL_ROWS))
    {
        set.gemm(w.dtype(), w_part, w.n_in(), x.tile(), out);
    }
    out
}

fn gemv(set: &Kernels, w: &PackedMatrix, x: &Tokens) -> Vec<f32> {
    let count = w.n_panels();
    let mut out = vec![f32::NAN; count * PANEL_ROWS];
    set.gemv(
        w.dtype(),
        w.panels(0, count),
        count,
        w.n_in(),
        x.tile(),
        &mut out,
    );
    out
}

/// A tile of tokens times a matrix, in every set; one token also by the product made for it.
#[track_caller]
fn check_integer_product(w: &PackedMatrix, x: &Tokens, what: &dyn std::fmt::Debug) {
    let (reference, sets) = sets();
    let want = bits(&gemm(&reference, w, x));
    for set in &sets {
        assert_eq!(bits(&gemm(set, w, x)), want, "{} gemm {what:?}", set.name);
        if x.len == 1 {
            assert_eq!(bits(&gemv(set, w, x)), want, "{} gemv {what:?}", set.name);
        }
    }
}

fn tile_len() -> impl Strategy<Value = usize> {
    prop::sample::select(vec![1, 1, 2, 4, 8, 16])
}

fn floats() -> impl Strategy<Value = Floats> {
    prop::sample::select(Floats::ALL.to_vec())
}

/// So many random cases, or as many as `PROPTEST_CASES` says: on an emulator, fewer.
fn cases(cases: u32) -> ProptestConfig {
    let config = ProptestConfig::default();
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => config,
        None => ProptestConfig { cases, ..config },
    }
}

/// Every way to gate.
const GATINGS: [Gating; 3] = [
    Gating::Silu,
    Gating::Gelu,
    Gating::ClampedSilu {
        alpha: 1.702,
        limit: 7.0,
    },
];

proptest! {
    #![proptest_config(cases(500))]

    #[test]
    fn integer_products_agree(
        dtype in prop::sample::select(integer_formats()),
        n_out in 1usize..81,
        blocks in 1usize..4,
        len in tile_len(),
        scales in prop::sample::select(vec![Scales::Usual, Scales::Extreme, Scales::Any]),
        scales_x in floats(),
        seed: u64,
    ) {
        let noise = &mut Noise::new(seed);
        let n_in = blocks * dtype.block_len();
        let w = pack(dtype, n_out, n_in, &rows(dtype, n_out, n_in, (Bytes::Random, scales), noise));
        let x = Tokens::new(len, n_in, Bytes::Random, scales_x, noise);
        check_integer_product(&w, &x, &(dtype, n_out, n_in, len, scales, scales_x));
    }

    #[test]
    fn float_products_agree(
        dtype in prop::sample::select(FLOAT.to_vec()),
        n_out in 1usize..49,
        n_in in 1usize..100,
        n_tok in tile_len(),
        (of_w, of_x) in (floats(), floats()),
        seed: u64,
    ) {
        let noise = &mut Noise::new(seed);
        let w = pack(dtype, n_out, n_in, &float_rows(dtype, n_out, n_in, of_w, noise));
        let x = of_x.many(n_tok * n_in, noise);
        let product = |set: &Kernels| {
            let count = w.n_panels();
            let mut out = vec![f32::NAN; count * n_tok * PANEL_ROWS];
            set.product(dtype, w.panels(0, count), count, n_in, &x, n_tok, &mut out);
            bits(&out)
        };
        let (reference, sets) = sets();
        for set in &sets {
            prop_assert_eq!(product(set), product(&reference), "{}", set.name);
        }
    }

    #[test]
    fn quantizing_agrees_and_never_writes_the_lowest_byte(
        group in prop::sample::select(vec![32usize, 256]),
        groups in 1usize..5,
        floats in floats(),
        seed: u64,
    ) {
        let x = floats.many(group * groups, &mut Noise::new(seed));
        let quantize = |set: &Kernels| {
            let (mut q, mut scale) = (vec![-128; x.len()], vec![f32::NAN; groups]);
            set.quantize(&x, group, &mut q, &mut scale);
            (q, bits(&scale))
        };
        let (reference, sets) = sets();
        let want = quantize(&reference);
        prop_assert!(!want.0.contains(&-128));
        for set in &sets {
            prop_assert_eq!(&quantize(set), &want, "{}", set.name);
        }
    }

    #[test]
    fn weights_are_quantized_alike(floats in floats(), is_measured: bool, seed: u64) {
        let noise = &mut Noise::new(seed);
        let x = floats.many(512, noise);
        let measured: Vec<f32> = floats.many(512, noise).iter().map(|x| x.abs()).collect();
        let measured = is_measured.then_some(measured.as_slice());
        let quick = |dtype: &DType| is_computed(*dtype) && !is_of_grid(*dtype);
        for dtype in DType::ALL.iter().copied().filter(quick) {
            let quantize = |set: &Kernels| {
                let mut out = vec![0; dtype.row_bytes(x.len()).expect("whole blocks")];
                set.quantize_row(dtype, &x, measured, &mut out).expect("is computed");
                out
            };
            let (reference, sets) = sets();
            let want = quantize(&reference);
            for set in &sets {
                prop_assert_eq!(&quantize(set), &want, "{} in {}", dtype, set.name);
            }
        }
    }

    #[test]
    fn rows_are_normed_and_gated_alike(
        len in 0usize..150,
        gating in prop::sample::select(GATINGS.to_vec()),
        floats in floats(),
        seed: u64,
    ) {
        let noise = &mut Noise::new(seed);
        let (x, weight) = (floats.many(len, noise), floats.many(len, noise));
        let all = |set: &Kernels| {
            let (mut normed, mut gated, mut bent) = (vec![f32::NAN; len], x.clone(), x.clone());
            set.rms_norm(&x, &weight, 1e-5, &mut normed);
            set.gate(gating, &mut gated, &weight);
            set.gelu(&mut bent);
            (bits(&normed), bits(&gated), bits(&bent))
        };
        let (reference, sets) = sets();
        for set in &sets {
            prop_assert_eq!(all(set), all(&reference), "{}", set.name);
        }
    }

    #[test]
    fn attention_agrees(
        kv_type in prop::sample::select(vec![KvType::F16, KvType::Q8_0, KvType::Q4_0]),
        head_dim in 1usize..70,
        n_query in 1usize..20,
        n_page in 1usize..4,
        start in prop::sample::select(vec![0usize, 64]),
        windowed: bool,
        soft_cap in prop::option::of(0.5f32..60.0),
        floats in floats(),
        seed: u64,
    ) {
        let noise = &mut Noise::new(seed);
        let width = padded(head_dim);
        let layout = HeadLayout { kv_type, head_dim };
        let stored = pages(n_page, layout, floats, noise);
        let pages: Vec<&[u8]> = stored.iter().map(|page| &page[..]).collect();
        let end = start + n_page * PAGE_TOKENS;
        let visible: Vec<(usize, usize)> = (0..n_query)
            .map(|_| {
                let end = noise.bits() as usize % (end + 2);
                let from = if windowed { noise.bits() as usize % (end + 1) } else { 0 };
                (from, end)
            })
            .collect();
        let job = Attend {
            q: &floats.many(n_query * head_dim, noise),
            visible: &visible,
            soft_cap,
            layout,
            pages: &pages,
            start,
        };
        let attend = |set: &Kernels| {
            let (mut max, mut sum) = (vec![f32::NEG_INFINITY; n_query], vec![0.0; n_query]);
            let mut out = vec![0.0; n_query * width];
            // Twice: the second time with a state that has seen something.
            for _ in 0..2 {
                set.attend(&job, State { max: &mut max, sum: &mut sum, out: &mut out });
            }
            // Hidden tokens add zeros, more or fewer of them as queries are grouped: -0 becomes 0.
            out.iter_mut().for_each(|x| *x += 0.0);
            (bits(&max), bits(&sum), bits(&out))
        };
        let (reference, sets) = sets();
        for set in &sets {
            prop_assert_eq!(attend(set), attend(&reference), "{}", set.name);
        }
    }

    /// The reference itself, against f16 that lies where it is read.
    #[test]
    fn attention_reads_what_a_cache_gives_away(
        kv_type in prop::sample::select(vec![KvType::Q8_0, KvType::Q4_0]),
        head_dim in 1usize..140,
        n_token in 1..=PAGE_TOKENS,
        seed: u64,
    ) {
        let noise = &mut Noise::new(seed);
        let quantized = HeadLayout { kv_type, head_dim };
        let plain = HeadLayout { kv_type: KvType::F16, head_dim };
        let kept = pages(1, quantized, Floats::Usual, noise);
        let mut given = vec![0; plain.bytes()];
        for index in 0..n_token {
            let (mut k, mut v) = (vec![f16::ZERO; head_dim], vec![f16::ZERO; head_dim]);
            quantized.get(&kept[0], index, &mut k, &mut v);
            plain.put(&mut given, index, &k, &v);
        }
        let q = Floats::Usual.many(head_dim, noise);
        let attend = |layout: HeadLayout, page: &[u8]| {
            let (mut max, mut sum, mut out) = ([f32::NEG_INFINITY], [0.0], vec![0.0; padded(head_dim)]);
            let job = Attend { q: &q, visible: &[(0, n_token)], soft_cap: None, layout, pages: &[page], start: 0 };
            sets().0.attend(&job, State { max: &mut max, sum: &mut sum, out: &mut out });
            out.iter().map(|out| out / sum[0]).take(head_dim).collect::<Vec<f32>>()
        };
        let (have, want) = (attend(quantized, &kept[0]), attend(plain, &given));
        let largest = want.iter().fold(0.0f32, |a, v| a.max(v.abs()));
        for (have, want) in have.iter().zip(&want) {
            prop_assert!((have - want).abs() <= 0.01 * largest, "{have} for {want} among {largest}");
        }
    }

    /// The reference itself, against weights from [`dequantize_row`] and sums in f64. Its own error is that of a few
    /// roundings to f32 for each block.
    #[test]
    fn the_reference_multiplies_dequantized_weights(
        dtype in prop::sample::select(integer_formats()),
        blocks in 1usize..4,
        len in tile_len(),
        seed: u64,
    ) {
        let noise = &mut Noise::new(seed);
        let n_in = blocks * dtype.block_len();
        let rows = rows(dtype, PANEL_ROWS, n_in, (Bytes::Random, Scales::Usual), noise);
        let w = pack(dtype, PANEL_ROWS, n_in, &rows);
        let x = Tokens::new(len, n_in, Bytes::Random, Floats::Usual, noise);
        let out = gemm(&sets().0, &w, &x);
        let mut weights = vec![0.0; n_in];
        for (r, row) in rows.chunks_exact(rows.len() / PANEL_ROWS).enumerate() {
            dequantize_row(dtype, row, &mut weights).expect("the format is computed");
            for t in 0..len {
                let (mut want, mut size) = (0.0, 0.0);
                for (k, w) in weights.iter().enumerate() {
                    let at = k / BLOCK * len + t;
                    let q = f64::from(x.q[at * BLOCK + k % BLOCK]);
                    let product = f64::from(*w) * q * f64::from(x.scale[at]);
                    want += product;
                    size += product.abs();
                }
                let have = f64::from(out[t * PANEL_ROWS + r]);
                // Where a minimum is taken off, larger numbers than the weights cancel.
                let has_minimum = matches!(correction(dtype), Correction::Minimum | Correction::MinimumHalf);
                let bound = size * if has_minimum { 1e-4 } else { 4e-6 };
                prop_assert!((have - want).abs() <= bound, "{dtype} {have} {want} {bound}");
            }
        }
    }
}

/// The reference itself, against Simpson's rule in f64.
#[test]
fn gelu_is_what_the_normal_distribution_says() {
    const STEPS: usize = 4000;
    // From 0 to x, of the density.
    let area = |x: f64| {
        let step = x / STEPS as f64;
        let weight = |i: usize| match i {
            0 | STEPS => 1.0,
            _ if i % 2 == 1 => 4.0,
            _ => 2.0,
        };
        let density = |i: usize| (-(step * i as f64).powi(2) / 2.0).exp();
        let sum: f64 = (0..=STEPS).map(|i| weight(i) * density(i)).sum();
        sum * step / 3.0 / (2.0 * std::f64::consts::PI).sqrt()
    };
    let x: Vec<f32> = (-700..=700).map(|i| i as f32 / 100.0).collect();
    let mut have = x.clone();
    sets().0.gelu(&mut have);
    for (x, have) in x.into_iter().zip(have) {
        let want = f64::from(x) * (0.5 + area(f64::from(x)));
        let bound = 3e-7 * want.abs().max(1.0);
        assert!((f64::from(have) - want).abs() < bound, "{x}: {have} {want}");
    }
    let mut ends = [
        f32::INFINITY,
        f32::MAX,
        f32::NEG_INFINITY,
        f32::MIN,
        f32::NAN,
    ];
    sets().0.gelu(&mut ends);
    assert_eq!(ends[..2], [f32::INFINITY, f32::MAX]);
    assert!(ends[2..4].iter().all(|x| x.abs() < 1e-30) && ends[4].is_nan());
}

/// The ends of every range, in every combination: what saturates, if anything does.
#[test]
fn integer_products_agree_on_extreme_bytes() {
    const ACTIVATIONS: [Bytes; 5] = [
        Bytes::All(0x80),
        Bytes::All(0x7f),
        Bytes::All(0x81),
        Bytes::All(0),
        Bytes::Ends,
    ];
    const WEIGHTS: [Bytes; 5] = [
        Bytes::All(0),
        Bytes::All(0xff),
        Bytes::All(0x80),
        Bytes::All(0x7f),
        Bytes::Ends,
    ];
    let noise = &mut Noise::new(1);
    for dtype in integer_formats() {
        let n_in = 2 * dtype.block_len();
        for quants in WEIGHTS {
            for scales in [Scales::Usual, Scales::Extreme] {
                let rows = rows(dtype, 33, n_in, (quants, scales), noise);
                let w = pack(dtype, 33, n_in, &rows);
                for quants_x in ACTIVATIONS {
                    for len in [1, 2, 4, 8, 16] {
                        let x = Tokens::new(len, n_in, quants_x, Floats::Rough, noise);
                        check_integer_product(&w, &x, &(dtype, quants, quants_x, scales, len));
                    }
                }
            }
        }
    }
}

/// Several products of one input, as a layer has them: some matrices, and what comes out of each.
fn layer(
    set: &Kernels,
    threads: usize,
    x: &[f32],
    n_tok: usize,
    matrices: &[PackedMatrix],
) -> Vec<Vec<u32>> {
    let mut outputs: Vec<Vec<f32>> = matrices
        .iter()
        .map(|w| vec![f32::NAN; n_tok * w.n_out()])
        .collect();
    let mut products: Vec<Product<'_>> = matrices
        .iter()
        .zip(&mut outputs)
        .map(|(w, y)| Product { w, y })
        .collect();
    let mut workspace = Workspace::default();
    matmul(
        set,
        &Pool::new(threads),
        x,
        n_tok,
        &mut products,
        &mut workspace,
    );
    outputs.iter().map(|y| bits(y)).collect()
}

#[test]
fn layers_agree_for_every_set_and_number_of_threads() {
    let noise = &mut Noise::new(2);
    let n_in = 512;
    let mut matrices = Vec::new();
    for (dtype, n_out) in integer_formats()
        .into_iter()
        .zip([1, 37, 80].into_iter().cycle())
    {
        let rows = rows(dtype, n_out, n_in, (Bytes::Random, Scales::Usual), noise);
        matrices.push(pack(dtype, n_out, n_in, &rows));
    }
    for (dtype, n_out) in FLOAT.into_iter().zip([16, 5, 130]) {
        let rows = float_rows(dtype, n_out, n_in, Floats::Usual, noise);
        matrices.push(pack(dtype, n_out, n_in, &rows));
    }
    let (reference, sets) = sets();
    for n_tok in [1, 3, 16, 29] {
        for floats in [Floats::Usual, Floats::Rough] {
            let x = floats.many(n_tok * n_in, noise);
            let want = layer(&reference, 1, &x, n_tok, &matrices);
            for set in std::iter::once(&reference).chain(&sets) {
                for threads in [1, 2, 3, 5] {
                    let have = layer(set, threads, &x, n_tok, &matrices);
                    for ((have, want), w) in have.iter().zip(&want).zip(&matrices) {
                        let what = (set.name, w.dtype(), n_tok, threads, floats);
                        assert_eq!(have, want, "{what:?}");
                    }
                }
            }
        }
    }
}

/// From unquantized activations to outputs: as far from the exact product as 8 bits for each activation explain.
#[test]
fn products_stay_within_the_error_of_quantized_activations() {
    let noise = &mut Noise::new(3);
    let (n_out, n_in, n_tok) = (20, 512, 5);
    let x = Floats::Usual.many(n_tok * n_in, noise);
    for dtype in integer_formats() {
        let rows = rows(dtype, n_out, n_in, (Bytes::Random, Scales::Usual), noise);
        let w = pack(dtype, n_out, n_in, &rows);
        let y = layer(&sets().0, 1, &x, n_tok, std::slice::from_ref(&w));
        let mut weights = vec![0.0; n_in];
        for r in 0..n_out {
            w.row(r, &mut weights);
            let size: f64 = weights.iter().map(|w| f64::from(w.abs())).sum();
            for (t, x) in x.chunks_exact(n_in).enumerate() {
                let exact: f64 = weights
                    .iter()
                    .zip(x)
                    .map(|(w, x)| f64::from(*w) * f64::from(*x))
                    .sum();
                let have = f64::from(f32::from_bits(y[0][t * n_out + r]));
                // Activations are below 1, so half a step is at most 1/254.
                let bound = size * (0.5 / 127.0 + 1e-4);
                assert!((have - exact).abs() <= bound, "{dtype} {have} {exact}");
            }
        }
    }
}
