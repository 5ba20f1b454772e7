//! Tests that all formats share: golden vectors, error bounds, extreme blocks.
//!
//! The golden vectors come from another implementation, the Python package `gguf`; `golden/generate.py` writes them.

use bytemuck::Zeroable;
use proptest::prelude::*;

use super::*;

/// Formats of floats.
const FLOAT: [DType; 3] = [DType::F32, DType::F16, DType::BF16];

/// Formats whose codes are points of a grid: by their error, they are for few bits; and what makes them is slow.
const GRID: [DType; 7] = [
    DType::IQ1_S,
    DType::IQ1_M,
    DType::IQ2_XXS,
    DType::IQ2_XS,
    DType::IQ2_S,
    DType::IQ3_XXS,
    DType::IQ3_S,
];

/// Formats of integers that weights can be quantized to.
const QUANTIZED: [DType; 16] = [
    DType::Q4_0,
    DType::Q4_1,
    DType::Q5_0,
    DType::Q5_1,
    DType::Q8_0,
    DType::Q2_K,
    DType::Q3_K,
    DType::Q4_K,
    DType::Q5_K,
    DType::Q6_K,
    DType::IQ4_NL,
    DType::IQ4_XS,
    DType::MXFP4,
    DType::NVFP4,
    DType::TQ1_0,
    DType::TQ2_0,
];

/// Every format with integer kernels.
pub(crate) fn integer_formats() -> Vec<DType> {
    [&QUANTIZED[..], &GRID].concat()
}

fn written() -> Vec<DType> {
    [&FLOAT[..], &QUANTIZED].concat()
}

/// Gives a block the scales that `bits`, as f16, say; formats without f16 scales get some of that size, or what comes near.
pub(crate) fn put_scales(dtype: DType, block: &mut [u8], mut bits: impl FnMut() -> u16) {
    let at: &[usize] = match dtype {
        DType::Q4_1 | DType::Q5_1 | DType::Q4_K | DType::Q5_K => &[0, 2],
        DType::Q2_K => &[80, 82],
        DType::Q3_K => &[108],
        DType::Q6_K => &[208],
        DType::TQ1_0 => &[52],
        DType::TQ2_0 => &[64],
        DType::IQ1_M => {
            let bits = bits();
            for i in 0..4 {
                let nibble = (bits >> (4 * i) & 0xf) as u8;
                block[49 + 2 * i] = block[49 + 2 * i] & 0xf | nibble << 4;
            }
            &[]
        }
        DType::MXFP4 => {
            block[0] = 112 + (bits() >> 10 & 31) as u8;
            &[]
        }
        DType::NVFP4 => {
            block[..4].fill_with(|| (bits() >> 7) as u8);
            &[]
        }
        _ => &[0],
    };
    for &at in at {
        block[at..at + 2].copy_from_slice(&bits().to_le_bytes());
    }
}

fn dequantized(dtype: DType, bytes: &[u8]) -> Vec<f32> {
    let mut out = vec![f32::NAN; bytes.len() / dtype.block_bytes() * dtype.block_len()];
    dequantize_row(dtype, bytes, &mut out).expect("the format is computed");
    out
}

fn quantized(dtype: DType, x: &[f32]) -> Vec<u8> {
    let mut out = vec![0xa5; dtype.row_bytes(x.len()).expect("whole blocks")];
    quantize_row(dtype, x, &mut out).expect("the format is computed");
    out
}

fn f32s(bytes: &[u8]) -> Vec<f32> {
    dequantized(DType::F32, bytes)
}

fn bits(x: &[f32]) -> Vec<u32> {
    // One NaN is as good as another.
    x.iter()
        .map(|x| {
            if x.is_nan() {
                f32::NAN.to_bits()
            } else {
                x.to_bits()
            }
        })
        .collect()
}

#[test]
fn blocks_read_as_in_the_independent_implementation() {
    macro_rules! check {
        ($($dtype:ident $file:literal)*) => {$(
            let blocks = include_bytes!(concat!("golden/", $file, ".blocks"));
            let want = f32s(include_bytes!(concat!("golden/", $file, ".f32")));
            assert_eq!(bits(&dequantized(DType::$dtype, blocks)), bits(&want), $file);
            // At an odd address too.
            let shifted = [&[0], &blocks[..]].concat();
            assert_eq!(bits(&dequantized(DType::$dtype, &shifted[1..])), bits(&want), $file);
        )*};
    }
    check!(F16 "f16" BF16 "bf16" Q4_0 "q4_0" Q8_0 "q8_0" Q4_K "q4_k" Q6_K "q6_k" Q4_1 "q4_1" Q5_0 "q5_0" Q5_1 "q5_1");
    check!(Q2_K "q2_k" Q3_K "q3_k" Q5_K "q5_k" IQ4_NL "iq4_nl" IQ4_XS "iq4_xs" MXFP4 "mxfp4" NVFP4 "nvfp4");
    check!(TQ1_0 "tq1_0" TQ2_0 "tq2_0" IQ1_S "iq1_s" IQ1_M "iq1_m" IQ2_XXS "iq2_xxs" IQ2_XS "iq2_xs" IQ2_S "iq2_s");
    check!(IQ3_XXS "iq3_xxs" IQ3_S "iq3_s");
}

#[test]
fn simple_formats_quantize_as_in_the_independent_implementation() {
    macro_rules! check {
        ($($dtype:ident $file:literal)*) => {$(
            let x = f32s(include_bytes!(concat!("golden/", $file, ".input.f32")));
            let want = include_bytes!(concat!("golden/", $file, ".quantized"));
            let have = quantized(DType::$dtype, &x);
            for (i, (have, want)) in have
                .chunks(DType::$dtype.block_bytes())
                .zip(want.chunks(DType::$dtype.block_bytes()))
                .enumerate()
            {
                assert_eq!(have, want, concat!($file, ", block {}"), i);
            }
        )*};
    }
    check!(BF16 "bf16" Q4_0 "q4_0" Q8_0 "q8_0" Q4_1 "q4_1" Q5_0 "q5_0" Q5_1 "q5_1" TQ1_0 "tq1_0" TQ2_0 "tq2_0");
}

/// Rows with outliers, offsets and silent stretches, as weights have them.
fn rows() -> impl Strategy<Value = Vec<f32>> {
    let shape = (
        -20f32..10.0,
        -1f32..1.0,
        prop::collection::vec((-1f32..1.0, 0u8..20), 512),
    );
    shape.prop_map(|(exponent, offset, xs)| {
        let scale = exponent.exp2();
        let weight = |(x, kind)| match kind {
            0 => 0.0,
            1 => 6.0 * x,
            _ => x * x * x + offset,
        };
        xs.into_iter().map(|x| scale * weight(x)).collect()
    })
}

/// Half a step of the widest range that a block of `x` has, as a part of the largest magnitude.
fn bound(dtype: DType) -> f32 {
    match dtype {
        DType::F32 => 0.0,
        DType::F16 => 1.0 / 2048.0,
        DType::BF16 => 1.0 / 256.0,
        // The scale's own rounding adds a little to half a step of 1/127; of 1/8 the far side is a whole step short.
        DType::Q4_0 => 1.01 / 8.0,
        DType::Q8_0 => 0.57 / 127.0,
        // The search trades the largest error for the mean; half a step is 1/15 for a two-sided range, 1/64.
        DType::Q4_K => 2.2 / 15.0,
        DType::Q6_K => 2.2 / 64.0,
        // A range may be twice the largest magnitude.
        DType::Q4_1 => 1.1 / 15.0,
        DType::Q5_0 => 1.01 / 16.0,
        DType::Q5_1 => 1.1 / 31.0,
        DType::Q5_K => 2.2 / 31.0,
        // Few codes, and the search for the least error lets the largest weights go.
        DType::Q2_K => 0.7,
        DType::Q3_K => 0.5,
        // From 89 to 113, and what the search adds.
        DType::IQ4_NL | DType::IQ4_XS => 0.3,
        // From 4 to 6, or above.
        DType::MXFP4 | DType::NVFP4 => 0.34,
        DType::TQ1_0 | DType::TQ2_0 => 0.501,
        _ => unreachable!("not written"),
    }
}

proptest! {
    #[test]
    fn rows_come_back_within_the_formats_step(x in rows()) {
        for dtype in written() {
            let back = dequantized(dtype, &quantized(dtype, &x));
            for (i, (x, back)) in x.chunks(dtype.block_len()).zip(back.chunks(dtype.block_len())).enumerate() {
                let largest = x.iter().fold(0.0f32, |max, x| max.max(x.abs()));
                // 2^-24 is f16's smallest step, which IQ4_XS multiplies by up to 32 times 127.
                let smallest = match dtype {
                    DType::NVFP4 if largest > 2688.0 => continue,
                    DType::NVFP4 => 2f32.powi(-10),
                    DType::IQ4_XS => 2f32.powi(-24) * 32.0 * 127.0,
                    _ => 2f32.powi(-24) * 64.0,
                };
                let bound = bound(dtype) * largest + smallest;
                for (x, back) in x.iter().zip(back) {
                    prop_assert!((x - back).abs() <= bound, "{dtype} block {i}: {x} became {back}, more than {bound}");
                }
            }
        }
    }

    #[test]
    fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 2048)) {
        for dtype in [&FLOAT[..], &integer_formats()].concat() {
            let whole = bytes.len() / dtype.block_bytes() * dtype.block_bytes();
            dequantized(dtype, &bytes[..whole]);
        }
    }

    #[test]
    fn any_floats_are_quantized_without_panic(bits in prop::collection::vec(any::<u32>(), 256)) {
        let x: Vec<f32> = bits.into_iter().map(f32::from_bits).collect();
        for dtype in written() {
            dequantized(dtype, &quantized(dtype, &x));
        }
    }

    /// What was quantized once is not changed by reading and writing it again; so a copy of a copy is as good.
    #[test]
    fn simple_formats_keep_what_they_wrote(x in rows()) {
        for dtype in [DType::F16, DType::BF16, DType::Q4_0, DType::Q8_0] {
            let once = quantized(dtype, &x);
            prop_assert_eq!(&quantized(dtype, &dequantized(dtype, &once)), &once, "{}", dtype);
        }
    }
}

fn squared_error(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum()
}

fn weighted_error(a: &[f32], b: &[f32], weights: &[f32]) -> f64 {
    let error = |((a, b), w): ((&f32, &f32), &f32)| f64::from(*w) * f64::from(a - b).powi(2);
    a.iter().zip(b).zip(weights).map(error).sum()
}

/// 64 rows of 256: sums of uniforms, which are close to normal, as weights are.
fn normal() -> Vec<f32> {
    let mut state = 1u64;
    let mut uniform = || {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    (0..256 * 64)
        .map(|_| (0..8).map(|_| uniform()).sum::<f32>() * 0.02)
        .collect()
}

/// The importance of the columns of such a row, from 1/16 to 4.
fn importance() -> Vec<f32> {
    let column = |i: u16| (f32::from(i * 37 % 97) / 97.0 * 6.0 - 4.0).exp2();
    (0..256).map(column).collect()
}

/// What llama.cpp's quantizer (ggml 0.25.3, `ggml_quantize_chunk`) makes of the same rows: the squared error, and with
/// importance the squared error weighted by it.
#[test]
fn errors_are_no_larger_than_those_of_the_independent_implementation() {
    let (x, importance) = (normal(), importance().repeat(64));
    for (dtype, plain, weighted) in [
        (DType::Q4_1, 2.5993e-2, 1.6124e-2),
        (DType::Q5_0, 7.6337e-3, 5.6005e-3),
        (DType::Q5_1, 6.1702e-3, 3.7447e-3),
        (DType::Q2_K, 3.7959e-1, 2.1901e-1),
        (DType::Q3_K, 9.7636e-2, 7.0373e-2),
        (DType::Q5_K, 5.5520e-3, 4.2773e-3),
        (DType::IQ4_NL, 2.4918e-2, 1.9600e-2),
        (DType::IQ4_XS, 2.5331e-2, 2.0081e-2),
        (DType::MXFP4, 5.7459e-2, 5.4060e-2),
        (DType::NVFP4, 5.1386e-2, 4.7970e-2),
        (DType::TQ1_0, 2.8011, 2.5811),
        (DType::TQ2_0, 2.8011, 2.5811),
    ] {
        let error = squared_error(&x, &dequantized(dtype, &quantized(dtype, &x)));
        let mut bytes = vec![0; dtype.row_bytes(x.len()).expect("whole blocks")];
        quantize_row_weighted(dtype, &x, Some(&importance), &mut bytes).expect("is written");
        let back = dequantized(dtype, &bytes);
        let with_importance = weighted_error(&x, &back, &importance);
        println!(
            "{dtype}: {error:.4e} against {plain:.4e}; {with_importance:.4e} against {weighted:.4e}"
        );
        // The last digit that was written down.
        assert!(error <= plain * 1.0001, "{dtype}");
        assert!(
            with_importance <= weighted * 1.0001,
            "{dtype} with importance"
        );
    }
}

/// Formats of grids, and the weighted squared error that llama.cpp's quantizer has on two rows.
const GRID_ERRORS: [(DType, f64); 7] = [
    (DType::IQ1_S, 2.3768e-2),
    (DType::IQ1_M, 1.7943e-2),
    (DType::IQ2_XXS, 9.7274e-3),
    (DType::IQ2_XS, 6.9028e-3),
    (DType::IQ2_S, 5.2802e-3),
    (DType::IQ3_XXS, 2.5645e-3),
    (DType::IQ3_S, 1.6386e-3),
];

/// As [`errors_are_no_larger_than_those_of_the_independent_implementation`], of two rows: trying all points takes long.
#[test]
fn errors_of_grids_are_no_larger_than_those_of_the_independent_implementation() {
    let (x, importance) = (&normal()[..512], importance().repeat(2));
    for (dtype, weighted) in GRID_ERRORS {
        let mut bytes = vec![0; dtype.row_bytes(x.len()).expect("whole blocks")];
        quantize_row_weighted(dtype, x, Some(&importance), &mut bytes).expect("is written");
        let error = weighted_error(x, &dequantized(dtype, &bytes), &importance);
        println!("{dtype}: {error:.4e} against {weighted:.4e}");
        assert!(error <= weighted * 1.0001, "{dtype}");
    }
}

#[test]
fn grids_show_damage_and_keep_zeros() {
    for dtype in GRID {
        assert_eq!(
            dequantized(dtype, &quantized(dtype, &[0.0; 256])),
            [0.0; 256],
            "{dtype}"
        );
        let mut x = [1.0; 256];
        x[100] = f32::NAN;
        let back = dequantized(dtype, &quantized(dtype, &x));
        assert!(back.iter().all(|x| x.is_nan()), "{dtype}");
    }
}

/// The search has to earn its time: less error than taking the scales from the extremes of each sub-block.
#[test]
fn the_search_beats_plain_rounding() {
    let x = normal();
    let plain_q4_k: f64 = x
        .chunks(32)
        .map(|x| {
            let low = x.iter().copied().fold(0.0, f32::min);
            let step = (x.iter().copied().fold(0.0, f32::max) - low) / 15.0;
            let back: Vec<f32> = x
                .iter()
                .map(|x| ((x - low) / step).round() * step + low)
                .collect();
            squared_error(x, &back)
        })
        .sum();
    let plain_q6_k: f64 = x
        .chunks(16)
        .map(|x| {
            let step = x.iter().fold(0.0f32, |max, x| max.max(x.abs())) / 31.0;
            let back: Vec<f32> = x.iter().map(|x| (x / step).round() * step).collect();
            squared_error(x, &back)
        })
        .sum();
    // The plain ones even keep their scales in f32.
    for (dtype, plain, gain) in [
        (DType::Q4_K, plain_q4_k, 0.83),
        (DType::Q6_K, plain_q6_k, 0.83),
    ] {
        let searched = squared_error(&x, &dequantized(dtype, &quantized(dtype, &x)));
        println!("{dtype}: squared error {searched:.3e} against {plain:.3e} of plain rounding");
        assert!(
            searched < gain * plain,
            "{dtype}: {searched} against {plain}"
        );
    }
}

#[test]
fn zeros_stay_zero() {
    for dtype in written() {
        for zero in [0.0, -0.0, 1e-45, -1e-42, 1e-30] {
            let back = dequantized(dtype, &quantized(dtype, &[zero; 256]));
            // The others hold such numbers.
            if ![DType::F32, DType::BF16, DType::MXFP4].contains(&dtype) {
                assert_eq!(back, [0.0; 256], "{dtype} of {zero}");
            }
        }
    }
}

/// A row of one value, and a row with one value, come back at every magnitude to half a step of a scale of 6 bits.
#[test]
fn constants_and_spikes_survive() {
    // Floats of 4 bits have no value next to every other, and scales of few bits no code for both.
    let coarse = [DType::MXFP4, DType::NVFP4, DType::Q2_K];
    for dtype in written() {
        if coarse.contains(&dtype) {
            continue;
        }
        for value in [1.0f32, -1.0, 0.02, -300.0, 6e4, 2e-3] {
            // Its scales would be subnormal.
            if dtype == DType::IQ4_XS && value.abs() < 0.1 {
                continue;
            }
            let mut spike = [0.0; 256];
            spike[77] = value;
            for x in [[value; 256], spike] {
                let back = dequantized(dtype, &quantized(dtype, &x));
                for (x, back) in x.iter().zip(back) {
                    assert!(
                        (x - back).abs() <= 9e-3 * value.abs(),
                        "{dtype}: {x} became {back}"
                    );
                }
            }
        }
    }
}

#[test]
fn damage_shows() {
    for dtype in written() {
        for bad in [
            f32::NAN,
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::MAX,
            f32::MIN,
        ] {
            let mut x = [1.0; 256];
            x[100] = bad;
            let back = dequantized(dtype, &quantized(dtype, &x));
            match dtype {
                DType::F32 => assert_eq!(back[100].to_bits(), bad.to_bits()),
                DType::F16 | DType::BF16 => {
                    assert!(!back[100].is_finite(), "{dtype} of {bad}: {}", back[100])
                }
                // There is no such number: the largest ones of all.
                DType::MXFP4 => assert_eq!(back[96..128], [f32::INFINITY; 32]),
                DType::NVFP4 => assert_eq!(back[96..112], [2688.0; 16]),
                _ => {
                    assert!(back[100].is_nan(), "{dtype} of {bad}: {}", back[100]);
                    let other = 100 / dtype.block_len() * dtype.block_len();
                    assert!(back[other].is_nan(), "the whole block shows it");
                }
            }
        }
    }
}

/// Kernels for AVX2 rely on it where activations are Q8_0: the sign trick flips -128.
#[test]
fn q8_0_never_writes_minus_128() {
    for exponent in -149..=30 {
        for mantissa in [1.0f32, 1.3, 1.999_999_9] {
            let largest = mantissa * 2f32.powi(exponent);
            let mut x = [0.0; 32];
            x[0] = -largest;
            x[1] = largest;
            let block = BlockQ8_0::quantize(&x);
            assert!(!block.qs.contains(&-128), "{largest:e}: {block:?}");
        }
    }
}

#[test]
fn extreme_blocks_are_read() {
    let mut out = [0.0; 32];
    BlockQ8_0 {
        d: F16Le::from_f32(65504.0),
        qs: [-128; 32],
    }
    .dequantize(&mut out);
    assert_eq!(out, [-128.0 * 65504.0; 32]);
    BlockQ8_0 {
        d: F16Le::NAN,
        qs: [0; 32],
    }
    .dequantize(&mut out);
    assert!(out.iter().all(|x| x.is_nan()));

    let mut out = [0.0; 256];
    BlockQ6_K {
        scales: [-128; 16],
        d: F16Le::from_f32(2f32.powi(-24)),
        ..BlockQ6_K::zeroed()
    }
    .dequantize(&mut out);
    assert_eq!(out, [-32.0 * -128.0 * 2f32.powi(-24); 256]);
    BlockQ4_K {
        dmin: F16Le::from_f32(f32::INFINITY),
        ..BlockQ4_K::zeroed()
    }
    .dequantize(&mut out);
    assert!(out.iter().all(|x| x.is_nan()), "0 · Inf");
}

#[test]
fn formats_that_are_not_computed_are_refused_by_name() {
    for &dtype in DType::ALL {
        let (mut bytes, mut out) = (vec![0; dtype.block_bytes()], vec![0.0; dtype.block_len()]);
        let refused_unless = |may: bool| {
            if may {
                Ok(())
            } else {
                Err(Unsupported { dtype })
            }
        };
        let is_known = written().contains(&dtype) || GRID.contains(&dtype);
        assert_eq!(is_computed(dtype), is_known, "{dtype}");
        let read = dequantize_row(dtype, &bytes, &mut out);
        assert_eq!(read, refused_unless(is_known), "{dtype}");
        let written = quantize_row(dtype, &out, &mut bytes);
        assert_eq!(written, refused_unless(is_known), "{dtype}");
    }
    let message = Unsupported { dtype: DType::Q8_K }.to_string();
    assert!(
        message.starts_with("number format Q8_K is not computed; use one of F32, F16, Q4_0, Q4_1,"),
        "{message}"
    );
}

#[test]
#[should_panic(expected = "32 weights of Q4_0 do not take 17 bytes")]
fn lengths_have_to_agree() {
    let _ = dequantize_row(DType::Q4_0, &[0; 17], &mut [0.0; 32]);
}

#[test]
fn block_types_and_names_agree() {
    fn check<B: Block<N>, const N: usize>() {
        assert_eq!(
            (B::DTYPE.block_len(), B::DTYPE.block_bytes()),
            (N, size_of::<B>()),
            "{}",
            B::DTYPE
        );
    }
    check::<F16Le, 1>();
    check::<Bf16Le, 1>();
    check::<BlockQ4_0, 32>();
    check::<BlockQ8_0, 32>();
    check::<BlockQ4_K, 256>();
    check::<BlockQ6_K, 256>();
    check::<BlockQ4_1, 32>();
    check::<BlockQ5_0, 32>();
    check::<BlockQ5_1, 32>();
    check::<BlockQ2_K, 256>();
    check::<BlockQ3_K, 256>();
    check::<BlockQ5_K, 256>();
    check::<BlockIQ4_NL, 32>();
    check::<BlockIQ4_XS, 256>();
    check::<BlockMXFP4, 32>();
    check::<BlockNVFP4, 64>();
    check::<BlockTQ1_0, 256>();
    check::<BlockTQ2_0, 256>();
    check::<BlockIQ1_S, 256>();
    check::<BlockIQ1_M, 256>();
    check::<BlockIQ2_XXS, 256>();
    check::<BlockIQ2_XS, 256>();
    check::<BlockIQ2_S, 256>();
    check::<BlockIQ3_XXS, 256>();
    check::<BlockIQ3_S, 256>();
}
